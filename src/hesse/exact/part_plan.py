"""The plan of the samples of one signature, kept with their graph: the next Hessian of the same
model, at other parameters or of other data of the same shapes, is not planned anew."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial

from hesse.capture import Captured, NotCaptured, capture, known_capture
from hesse.cost import Cost
from hesse.exact.backward_pass import BackwardPass
from hesse.exact.column_price import largest_batch
from hesse.exact.fallback import failures
from hesse.exact.part_planning import PartPlanner
from hesse.exact.plan import BlockPlan, NamePair, PlanPart
from hesse.exact.way_down import Use
from hesse.process.collecting import uncollected
from hesse.process.price import Price
from hesse.process.rates import Rates, rates


@dataclass(frozen=True)
class PlannedPart:
    """What is planned for the samples of one signature, of whatever cost.

    Attributes:
        part: what is done, without its way down, which holds a cost's parameters.
        way: the way down, for a cost.
        blocks: what it adds to each block.
        kinds: how each parameter enters, wherever it is used.
        notes: what falls back, and why.
        bytes: the most that are alive at once beyond the result.
        price: what it costs.
        operations: the floating point operations of the way down.
        way_price, kept: what the way down alone costs, and the bytes of what it brings.
        largest: samples of the largest batch, where it matters and they are not all of them.
        rates: how fast the machine was, where that matters.
    """

    part: PlanPart
    way: Callable[[Cost], BackwardPass] | None
    blocks: tuple[BlockPlan, ...]
    kinds: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    bytes: float
    price: Price
    operations: float
    way_price: Price
    kept: float
    largest: int | None
    rates: Rates | None

    def of(self, cost: Cost) -> "PlannedPart":
        """For a cost."""
        if self.way is None:
            return self
        return replace(self, part=replace(self.part, backward_pass=self.way(cost)))

    def fits(self, cost: Cost) -> bool:
        """Whether it may be run for a cost of the same model and shapes: where it takes the graph,
        that must still be the model's, and the machine's rates, which may be measured again, those
        that it was made by."""
        part = self.part
        if self.rates not in (None, rates(cost.dtype, cost.device)):
            return False
        if self.largest is not None and self.largest != _largest(cost, part.signature):
            return False
        if self.way is None:
            return True
        try:
            return capture(cost, part.signature) is part.capture
        except NotCaptured:
            return False


def planned_part(
    cost: Cost,
    wanted: tuple[NamePair, ...],
    budget: int,
    signature: Hashable,
    samples: int,
    use: Use | None,
    not_traced: str,
    roomy: bool,
    tiled: bool = False,
) -> PlannedPart:
    """The plan for the samples of a signature, made or found again; the arguments are those of
    `PartPlanner`."""

    single = cost.data is not None and cost.data.is_single
    # What a plan depends on, beside what the graph does.
    key = (cost.curvature, wanted, budget, samples, single, len(cost.signatures), use is None,
           roomy, tiled, tuple(failures(cost).items()))  # fmt: skip
    known = None if not_traced else known_capture(cost, signature)
    found = None if known is None else known.plans.get(key)
    if found is not None and found.fits(cost):
        return found.of(cost)
    with uncollected():
        planner = PartPlanner(
            cost, wanted, budget, signature, samples, use, not_traced, roomy, tiled
        )
        planned = _planned(planner, cost, wanted, single)
    if planned.part.capture is not None:
        planned.part.capture.plans.put(key, planned)
    return planned.of(cost)


def _planned(
    planner: PartPlanner, cost: Cost, wanted: tuple[NamePair, ...], single: bool
) -> PlannedPart:
    part, down = planner.part, planner.down
    way = None
    if part.capture is not None and down is not None:
        way = partial(
            BackwardPass, down.backward_pass.sweep, part.capture.graph, down.sites, set(down.keys)
        )
    return PlannedPart(
        replace(part, backward_pass=None),
        way,
        tuple(map(planner.block, wanted)),
        {} if part.capture is None else _kinds(part.capture),
        tuple(planner.notes),
        planner.bytes,
        planner.price,
        planner.operations,
        planner.way,
        planner.kept,
        _largest(cost, part.signature) if part.asked and not single else None,
        planner.rates,
    )


def _kinds(captured: Captured) -> dict[str, tuple[str, ...]]:
    used: dict[str, dict[str, None]] = {}
    for site in captured.sites:
        for use in site.uses:
            used.setdefault(use.parameter, {})[use.kind] = None
    return {name: tuple(kinds) for name, kinds in used.items()}


def _largest(cost: Cost, signature: Hashable) -> int:
    batch, _ = largest_batch(cost, signature)
    return 1 if batch is None else batch.size
