"""One-sided products: what they take, and which parameters they are worth taking for."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch

from hesse.capture.straight_line import TracedProduct
from hesse.cost import Cost
from hesse.exact.column_price import largest_batch
from hesse.exact.columns import Rows, rows_asked
from hesse.exact.contracted import Contracted
from hesse.exact.plan import NamePair
from hesse.process.price import Price
from hesse.process.rates import Rates
from hesse.products.linearize import traced_product
from hesse.products.slabs import HOLES_OF_A_SLAB, in_a_slab, slab_bytes
from hesse.products.terms import batch_term

# So many products at least go side by side, or else fewer samples are worked on at once: what does
# not depend on v is read anew for each slab.
_LEAST_WIDTH = 16


@final
@dataclass(frozen=True)
class OneSidedPrice:
    """What one-sided products with the Hessian of a batch take; all in proportion to its samples.

    Attributes:
        program: the traced product, of the largest batch.
        names: the parameters, in layout order.
        sizes: their sizes.
        samples: of that batch.
        all_samples: of all the data that are alike.
        itemsize: bytes of a number.
        device: where they are made.
    """

    program: TracedProduct
    names: tuple[str, ...]
    sizes: Mapping[str, int]
    samples: int
    all_samples: int
    itemsize: int
    device: torch.device

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The parameters in the order in which the function uses them: what is asked of each is its
        block with those after it."""
        return tuple(self.names[place] for place in self.program.order)

    def piece(self, budget: float, asked: Rows, may_cut: bool) -> int:
        """How many samples are worked on at once."""
        room = HOLES_OF_A_SLAB * self.program.room
        share = min(
            1.0,
            slab_bytes(self.device) / (_LEAST_WIDTH * max(1, self.program.workspace)),
            budget / max(1, 2 * self.program.kept, self.program.kept + _LEAST_WIDTH * room),
        )
        return max(1, int(self.samples * share)) if may_cut else self.samples

    def width(self, budget: float, piece: int, asked: Rows) -> int:
        """How many products are made before they are added to the result; no more than a slab of
        them go side by side."""
        return min(self._width(budget, piece, *each) for each in asked.items())

    def _width(self, budget: float, piece: int, name: str, others: Sequence[str]) -> int:
        slab, each = self._slab(piece, name, others)
        row = self._row(name, others)
        free = budget - piece / self.samples * self.program.kept
        if (few := free / (each + row)) <= slab:
            return max(1, int(few))
        return int((free - slab * each) / row)

    def bytes(self, budget: float, piece: int, asked: Rows) -> float:
        """What is alive at once."""
        kept = piece / self.samples * self.program.kept
        return kept + max(self._bytes(budget, piece, *each) for each in asked.items())

    def _bytes(self, budget: float, piece: int, name: str, others: Sequence[str]) -> float:
        """Those of the rows of a parameter."""
        width = min(self.sizes[name], self._width(budget, piece, name, others))
        slab, each = self._slab(piece, name, others)
        return min(width, slab) * each + width * self._row(name, others)

    def _slab(self, piece: int, name: str, others: Sequence[str]) -> tuple[int, float]:
        """How many products of a parameter go side by side, and bytes for each."""
        share = piece / self.samples
        workspace, room = self.program.space(*self._places(name, others))
        return in_a_slab(share * workspace, self.device), share * HOLES_OF_A_SLAB * room

    def _row(self, name: str, others: Sequence[str]) -> int:
        """Bytes of what is asked of a row of H, and of its tangent."""
        return 2 * self.itemsize * max(self.sizes[name], sum(self.sizes[o] for o in others))

    def of(self, asked: Rows, budget: float, piece: int) -> Price:
        """The price of all rows asked for, over all the data."""
        times, pieces = self.all_samples / self.samples, -(-self.all_samples // piece)
        total = Price()
        for name, others in asked.items():
            each, size = self._product(name, others), self.sizes[name]
            slab = min(self._slab(piece, name, others)[0], self._width(budget, piece, name, others))
            total += replace(each * (size * times), calls=each.calls * -(-size // slab) * pieces)
            # The rows are added to the result.
            total += Price(moved=self._row(name, others) * size * pieces)
        return total

    def cheapest(
        self,
        order: Sequence[str],
        wanted: Sequence[NamePair],
        contracted: Contracted,
        speed: Rates,
        at_least: int = 0,
    ) -> tuple[tuple[str, ...], float]:
        """Which of some parameters, from the lowest up, are to be one-sided, the others being
        contracted: what is far from the loss is dear to contract; and the seconds of both.

        Args:
            order: the parameters, in the order of use.
            wanted: the blocks asked for.
            contracted: the contractions of all of them.
            speed: the rates of the machine.
            at_least: how many are to be.
        """
        asked = rows_asked(order, wanted)
        piece = self.piece(contracted.budget, asked, True)
        best, least, spent = 0, math.inf, 0.0
        for count in range(len(order) + 1):
            seconds = spent + speed.seconds(contracted.price(order[count:]))
            if count >= at_least and seconds < least:
                best, least = count, seconds
            if count < len(order) and order[count] in asked:
                name = order[count]
                spent += speed.seconds(self.of({name: asked[name]}, contracted.budget, piece))
        return tuple(order[:best]), least

    def _product(self, name: str, others: Sequence[str]) -> Price:
        return self.program.price(*self._places(name, others))

    def _places(self, name: str, others: Sequence[str]) -> tuple[int, frozenset[int]]:
        place = self.names.index
        return place(name), frozenset(map(place, others))


def one_sided_price(cost: Cost, signature: Hashable) -> OneSidedPrice | None:
    """What one-sided products with the Hessian of the samples of a signature take; ``None`` where
    the product cannot be traced."""
    largest, count = largest_batch(cost, signature)
    program = traced_product(batch_term(cost, largest))
    if program is None:
        return None
    return OneSidedPrice(
        program,
        tuple(cost.layout.names),
        cost.layout.sizes,
        1 if largest is None else largest.size,
        count,
        cost.dtype.itemsize,
        cost.device,
    )
