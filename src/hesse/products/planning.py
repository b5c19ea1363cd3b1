"""What an operator takes and which batches it holds, by the shapes of their traced products, before
anything is computed."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from hesse.certificates.reference import double_backward_bytes
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.errors import HesseMemoryError, readable_bytes
from hesse.process.memory import HOLES, available_bytes
from hesse.products.linearize import traced_product
from hesse.products.terms import Term, batch_term

# Less than this is nothing to speak of: any process takes it here and there.
_LITTLE = 20 * 10**6
# Vectors of length P that are there at once: v, H v, what it is held against.
_VECTORS = 8
# So far beyond a budget is within it.
_NEARLY = 1.1


@dataclass(frozen=True)
class PassPrice:
    """What one batch takes.

    Attributes:
        kept: bytes of what serves every product.
        most: bytes that are alive at once while it is linearised, tried and multiplied with.
    """

    kept: float
    most: float


def _price(cost: Cost, term: Term, batch: Batch | None) -> PassPrice:
    """What a traced product takes, and the double backward that it is held against."""
    program = traced_product(term)
    if program is None:
        most = double_backward_bytes(cost, batch) or 0.0
        return PassPrice(most, most)
    most = max(program.preparing, program.kept + program.room, program.plain)
    return PassPrice(program.kept, most)


@final
class OperatorPlan:
    """The batches that an operator holds: from the first on, as many as leave half of the memory to
    the columns of a matrix, and room for a pass over any batch.

    Args:
        cost: the cost.
        memory: bytes to use.

    Attributes:
        holds: for each batch whether it is held.
        peak_bytes: what making the operator, its certificate and a product with one v take at the
            most, beyond what was there.
    """

    def __init__(self, cost: Cost, memory: int) -> None:
        self._cost, self._memory = cost, memory
        self._prices: dict[Hashable, PassPrice] = {}
        self._kept: list[float] = []
        self.holds: list[bool] = []
        self.peak_bytes = 0.0

    def add(self, term: Term, batch: Batch | None) -> None:
        """One more batch.

        Raises:
            HesseMemoryError: a pass over it takes more than is free.
        """
        if term.form not in self._prices:
            price = self._prices[term.form] = _price(self._cost, term, batch)
            if price.most > _LITTLE and price.most > (free := available_bytes(self._cost.device)):
                raise HesseMemoryError(
                    f"memory ran out: a product with a batch takes {readable_bytes(price.most)},"
                    f" {readable_bytes(free)} being free; give the data in smaller batches"
                )
        self._kept.append(self._prices[term.form].kept)
        self.holds.append(all(self.holds))
        while any(self.holds) and not self._fits:
            self.holds[sum(self.holds) - 1] = False
        self.peak_bytes = max(self.peak_bytes, self._taken)

    @property
    def _held(self) -> float:
        return sum(kept for kept, held in zip(self._kept, self.holds, strict=True) if held)

    @property
    def _taken(self) -> float:
        most = max(price.most for price in self._prices.values())
        vectors = _VECTORS * self._cost.layout.size * self._cost.dtype.itemsize
        return HOLES * (self._held + most) + vectors

    @property
    def _fits(self) -> bool:
        return self._held <= self._memory // 2 and self._taken <= self._memory + _LITTLE

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not fit."""
        notes, again = [], self.holds.count(False)
        allowed = readable_bytes(self._memory)
        if again:
            notes.append(
                f"{again} of {len(self.holds)} batches do not fit into {allowed} beside the work"
                " with one of them, and are computed again in every product"
            )
        if self.peak_bytes > _NEARLY * self._memory + _LITTLE:
            notes.append(
                f"a product takes {readable_bytes(self.peak_bytes)}, of {allowed} to work in: a"
                " batch is differentiated as a whole; give the data in smaller batches"
            )
        return tuple(notes)


def operator_plan(cost: Cost, memory: int) -> OperatorPlan:
    """The plan for `operator`."""
    planned = OperatorPlan(cost, memory)
    for batch in cost.batches():
        planned.add(batch_term(cost, batch), batch)
    return planned
