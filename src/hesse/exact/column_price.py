"""What columns take: products with the Hessian of a batch, rehearsed on a few of its samples."""

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from hesse.capture.recording import Unsuitable
from hesse.certificates.reference import kept_by_gradient
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.derivatives import KeptGradient
from hesse.exact.columns import WIDEST, Rows, one_by_one, side_by_side, source_of
from hesse.process.circumstances import is_passing
from hesse.process.price import Price
from hesse.process.rehearsal import Rehearsal
from hesse.products.slabs import CACHES, slab_bytes
from hesse.products.terms import Term, batch_term

# How many products side by side are rehearsed; one alone is another computation.
_WIDTHS = (2, 4)
# How many samples are worked on: two numbers of them, for what each adds; of fewer, parameters are
# larger than activations. Not on shapes alone: the user's function may look at values, and close
# over tensors that have them.
_FEW, _MORE = 16, 32
# What starting an operation costs, in units of one that is differentiated on its own on the way.
_CALL = 0.25
# A batch is not cut to fewer samples: every piece starts all operations anew.
_LEAST_PIECE = 16
# So many products go side by side though a slab does not hold them.
_LEAST_WIDTH = 16
# Where products cannot be rehearsed: what a gradient keeps, in units of what a product passes back.
_KEPT = 2.0


@dataclass(frozen=True)
class ColumnPrice:
    """What products with the Hessian of a batch take; all in proportion to its samples.

    Attributes:
        samples: of the batch.
        all_samples: of all the data that are alike.
        fixed: bytes that are alive in any case.
        each: and with every product side by side.
        check: and while the first of them are held against one taken alone.
        start: what making the gradient costs, which serves all products.
        product: what a product costs.
        sizes: of the parameters.
        widest: how many products may go side by side.
        places: of the parameters, in the order in which the function uses them.
        together: whether those of all parameters do.
        slab: bytes that products side by side work in, where that is for so many of them.
    """

    samples: int
    all_samples: int
    fixed: float
    each: float
    check: float
    start: Price
    product: Price
    sizes: Mapping[str, int] = field(default_factory=dict)
    widest: int = WIDEST
    places: Sequence[int] = ()
    together: bool = False
    slab: int = CACHES

    @property
    def order(self) -> tuple[str, ...]:
        """The parameters, in the order in which they bring blocks."""
        names = tuple(self.sizes)
        return tuple(names[place] for place in self.places) or names

    def piece(self, budget: float, asked: Rows, may_cut: bool) -> int:
        """How many samples are worked on at once."""
        needed = self.bytes(math.inf, self.samples, asked)
        if not may_cut or needed <= budget:
            return self.samples
        return min(self.samples, max(_LEAST_PIECE, int(self.samples * budget / needed)))

    def width(self, budget: float, piece: int, asked: Rows) -> int:
        """How many products go side by side in so many bytes."""
        share = piece / self.samples
        free = budget - share * (self.fixed + self.check)
        each = max(1.0, share * self.each)
        slab = max(_LEAST_WIDTH, self.slab / each)
        return int(max(1, min(self.widest, slab, free / each)))

    def towards(self, more: "ColumnPrice", times: float) -> "ColumnPrice":
        """That of more samples, each adding as much as those between the two."""

        def on(low: float, high: float) -> float:
            return max(0.0, low + times * (high - low))

        def price(low: Price, high: Price) -> Price:
            # However many samples: as many calls.
            operations = on(low.operations, high.operations)
            return Price(
                operations,
                on(low.moved, high.moved),
                low.calls,
                convolved=on(low.convolved, high.convolved),
            )

        return ColumnPrice(
            self.samples,
            self.all_samples,
            on(self.fixed, more.fixed),
            on(self.each, more.each),
            on(self.check, more.check),
            price(self.start, more.start),
            price(self.product, more.product),
            widest=self.widest,
            places=self.places,
        )

    def bytes(self, budget: float, piece: int, asked: Rows) -> float:
        """What is alive at once."""
        width = min(max(self._counts(asked)), self.width(budget, piece, asked))
        return piece / self.samples * (self.fixed + self.check + self.each * width)

    def _counts(self, asked: Rows) -> list[int]:
        """How many products there are, of all that go side by side."""
        sizes = [self.sizes[name] for name in asked]
        return [sum(sizes)] if self.together else sizes

    def of(self, asked: Rows, budget: float, piece: int) -> Price:
        """The price of all rows of the parameters that something is asked of, over all the
        data."""
        counts = self._counts(asked)
        slabs = sum(-(-count // self.width(budget, piece, asked)) for count in counts)
        total = (self.product * sum(counts) + self.start) * (self.all_samples / self.samples)
        # The products of a slab are one call of each operation, however many.
        calls = self.start.calls + slabs * self.product.calls
        return dataclasses.replace(total, calls=calls * -(-self.all_samples // piece))


def largest_batch(cost: Cost, signature: Hashable) -> tuple[Batch | None, int]:
    """The largest batch of a signature, one being held at a time, and how many samples there are of
    it."""
    batches = (
        batch for batch in cost.batches() if batch is None or signature in (None, batch.signature)
    )
    count = cost.signatures.get(signature, cost.samples) if cost.signatures else 1
    return max(batches, key=lambda batch: 1 if batch is None else batch.size), count


def column_price(
    cost: Cost, names: Sequence[str], signature: Hashable = None, together: bool = False
) -> ColumnPrice:
    """What a product with a tangent in some parameters takes; rehearsed once for a model, a loss
    and the shapes of the data.

    Args:
        cost: the cost.
        names: the parameters that products are taken for.
        signature: of the batches.
        together: whether all products go side by side; else those of the largest parameter are
            looked at.
    """
    largest, count = largest_batch(cost, signature)
    size = 1 if largest is None else largest.size
    sizes = cost.layout.sizes
    moving = tuple(names) if together else (max(names, key=sizes.__getitem__),)
    key = (cost.curvature, cost.layout, cost.dtype, signature, size, moving)
    known = cost.captures.setdefault("column prices", {})
    if key not in known:
        known[key] = _rehearsed(cost, moving, largest)
    price = known[key]
    widest = sum(map(sizes.__getitem__, moving)) if together and price.widest > 1 else price.widest
    return dataclasses.replace(
        price,
        samples=size,
        all_samples=count,
        sizes=sizes,
        widest=widest,
        together=together,
        slab=slab_bytes(cost.device),
    )


def _rehearsed(cost: Cost, names: Sequence[str], batch: Batch | None) -> ColumnPrice:
    places = list(map(cost.layout.index, names))
    kept = 8.0 * cost.layout.size * cost.dtype.itemsize
    unknown = ColumnPrice(1, 1, kept, kept, kept, Price(), Price(), widest=1)
    try:
        # PyTorch ends the process where transforms that the user's function nests are watched
        # operation by operation.
        some = None if batch is None else batch.take(slice(0, _FEW))
        line = _guessed if kept_by_gradient(cost, some) is None else _line
        if batch is None or batch.size <= _MORE:
            return line(batch_term(cost, batch), places)
        few, more = (
            line(batch_term(cost, batch.take(slice(0, count))), places) for count in (_FEW, _MORE)
        )
        return few.towards(more, (batch.size - _FEW) / (_MORE - _FEW))
    # Of any operation; what does not go side by side at all has no price that is known.
    except Exception as error:
        if is_passing(error):
            raise
    return unknown


def _line(term: Term, places: Sequence[int]) -> ColumnPrice:
    """What any number of products take, from what two numbers of them take."""
    low, high = _WIDTHS
    with Rehearsal(shapes_only=False) as start:
        source = source_of(term)
    few, more = (_counts(source, term, places, width) for width in _WIDTHS)
    with Rehearsal(shapes_only=False) as alone:
        one_by_one(source, places, range(len(term.theta)))(_basis(term, places, 1))
    each = max(0.0, (more.peak - few.peak) / (high - low))
    product = (more.price + few.price * -1) * (1 / (high - low))
    again = few.price + product * -low
    product = dataclasses.replace(product, calls=_CALL * again.calls)
    fixed = max(start.peak, start.alive + few.peak - low * each)
    return ColumnPrice(
        1,
        1,
        fixed,
        each,
        alone.peak,
        start.price + dataclasses.replace(again, calls=0.0),
        product,
        places=source.order if isinstance(source, KeptGradient) else (),
    )


def _guessed(term: Term, _: Sequence[int]) -> ColumnPrice:
    """What is known of products that have not been made."""
    source = source_of(term)
    if not isinstance(source, KeptGradient):
        raise Unsuitable("products with another curvature are known when they have been made")
    passed = float(source.passed)
    start, product = Price(moved=_KEPT * passed), Price(moved=2 * passed)
    return ColumnPrice(1, 1, _KEPT * passed, passed, passed, start, product, places=source.order)


def _counts(
    source: KeptGradient | Term, term: Term, places: Sequence[int], width: int
) -> Rehearsal:
    with Rehearsal(shapes_only=False) as counts:
        side_by_side(source, places, range(len(term.theta)))(_basis(term, places, width))
    return counts


def _basis(term: Term, places: Sequence[int], width: int) -> list[Tensor]:
    moved = [term.theta[place] for place in places]
    return [parameter.new_ones(width, *parameter.shape) for parameter in moved]
