"""What columns take: products with the Hessian of a batch, rehearsed on shapes."""

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.columns import WIDEST, one_by_one, side_by_side
from hesse.process.circumstances import is_out_of_memory
from hesse.process.price import Price
from hesse.process.rehearsal import Rehearsal, as_shape
from hesse.products.terms import Term, batch_term

# How many products side by side are rehearsed; one alone is another computation.
_WIDTHS = (2, 4)
# Samples that are worked on where a product cannot be rehearsed on shapes.
_SOME = 4
# A batch is not cut to fewer samples: every piece starts all operations anew.
_LEAST_PIECE = 16


@dataclass(frozen=True)
class ColumnPrice:
    """What products with the Hessian of a batch take; all in proportion to its samples.

    Attributes:
        samples: of the batch.
        all_samples: of all the data that are alike.
        fixed: bytes that are alive in any case.
        each: and with every product side by side.
        check: and while the first of them are held against one taken alone.
        start: what evaluating the gradient costs, once for as many as go side by side.
        product: what a product costs.
    """

    samples: int
    all_samples: int
    fixed: float
    each: float
    check: float
    start: Price
    product: Price

    def piece(self, budget: float, most: int, may_cut: bool) -> int:
        """How many samples are worked on at once, for up to so many products."""
        needed = self.fixed + self.check + self.each * min(most, WIDEST)
        if not may_cut or needed <= budget:
            return self.samples
        return min(self.samples, max(_LEAST_PIECE, int(self.samples * budget / needed)))

    def width(self, budget: float, piece: int) -> int:
        """How many products go side by side in so many bytes."""
        share = piece / self.samples
        free = budget - share * (self.fixed + self.check)
        return int(max(1, min(WIDEST, free / (share * self.each) if self.each else WIDEST)))

    def bytes(self, budget: float, piece: int, most: int) -> float:
        """What is alive at once."""
        width = min(most, self.width(budget, piece))
        return piece / self.samples * (self.fixed + self.check + self.each * width)

    def of(self, sizes: list[int], budget: float, piece: int) -> Price:
        """The price of so many products each for several parameters, over all the data."""
        slabs = sum(-(-size // self.width(budget, piece)) for size in sizes)
        total = self.product * sum(sizes) + self.start * slabs
        times = self.all_samples / self.samples
        # The products of a slab are one call of each operation, however many.
        calls = slabs * (self.start.calls + self.product.calls)
        return Price(
            total.operations * times,
            total.moved * times,
            calls * -(-self.all_samples // piece),
        )


def column_price(cost: Cost, name: str, signature: Hashable = None) -> ColumnPrice:
    """What a product with a tangent in a parameter takes; rehearsed once for a model, a loss and
    the shapes of the data."""
    batches = [
        batch for batch in cost.batches() if batch is None or signature in (None, batch.signature)
    ]
    largest = max(batches, key=lambda batch: 1 if batch is None else batch.size)
    size = 1 if largest is None else largest.size
    key = (cost.curvature, cost.layout, cost.dtype, signature, size, name)
    known = cost.captures.setdefault("column prices", {})
    if key not in known:
        known[key] = _rehearsed(cost, name, largest)
    count = sum(1 if batch is None else batch.size for batch in batches)
    return dataclasses.replace(known[key], samples=size, all_samples=count)


def _rehearsed(cost: Cost, name: str, batch: Batch | None) -> ColumnPrice:
    place = cost.layout.index(name)
    some = None if batch is None else batch.take(slice(0, _SOME))
    scale = 1.0 if batch is None or some is None else batch.size / some.size
    # The second for the user's code that looks at values or at where tensors lie.
    for samples, times, shapes_only in ((batch, 1.0, True), (some, scale, False)):
        try:
            return _line(cost, samples, place, shapes_only, times)
        # Of any operation; what does not go side by side at all has no price that is known.
        except Exception as error:
            if is_out_of_memory(error):
                raise
    kept = 8.0 * cost.layout.size * cost.dtype.itemsize
    return ColumnPrice(1, 1, kept, kept, kept, Price(), Price())


def _line(
    cost: Cost, batch: Batch | None, place: int, shapes_only: bool, times: float
) -> ColumnPrice:
    """What any number of products take, from what two numbers of them take."""
    term = batch_term(cost, batch)
    if shapes_only:
        term = dataclasses.replace(
            term, theta=[as_shape(t) for t in term.theta], inputs=[as_shape(t) for t in term.inputs]
        )
    low, high = _WIDTHS
    few, more = (_counts(term, place, width, shapes_only) for width in _WIDTHS)
    with Rehearsal(shapes_only) as alone:
        one_by_one(term, place)(_basis(term.theta[place], 1))
    each = max(0.0, (more.peak - few.peak) / (high - low))
    product = (more.price + few.price * -1) * (1 / (high - low))
    start = few.price + product * -low
    return ColumnPrice(
        1,
        1,
        max(0.0, few.peak - low * each) * times,
        each * times,
        alone.peak * times,
        # However many samples: as many calls.
        Price(max(0.0, start.operations) * times, max(0.0, start.moved) * times, start.calls),
        Price(product.operations * times, product.moved * times, product.calls),
    )


def _counts(term: Term, place: int, width: int, shapes_only: bool) -> Rehearsal:
    with Rehearsal(shapes_only) as counts:
        side_by_side(term, place)(_basis(term.theta[place], width))
    return counts


def _basis(parameter: Tensor, width: int) -> Tensor:
    return parameter.new_ones(width, *parameter.shape)
