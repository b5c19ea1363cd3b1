"""The way down a graph to the sites that blocks need, and what it takes: rehearsed once for each
request, for every cost of a model and a loss."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from hesse.capture import Captured, NotCaptured, data_leaves
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.errors import in_a_line
from hesse.exact.backward_pass import BackwardPass, Passage
from hesse.exact.contraction.pair import Pair
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.plan import NamePair
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.sweep import Sweep, active_values
from hesse.exact.rule_check import wrong_rule
from hesse.graph.sites import Site, joined
from hesse.process.circumstances import is_passing
from hesse.process.price import Price, Room

# Where a capture keeps what the check of its rules gave, and on how many samples they are tried:
# more than one, for rules fail where samples are side by side.
_RULE_CHECK, _SAMPLES_TRIED = "trial", 3
# How many samples are rehearsed: two numbers of them, for what each adds and what is held in any
# case. One may look different: axes of length 1 broadcast.
_FEW, _MORE = 2, 4
# A way of so many operations is rehearsed once, what is held in any case being little of its whole;
# and one that takes so few bytes, of which all samples that matter have room.
_LONG, _SMALL = 1500, 10**6
# What is done with a pair of parameter uses, where the rehearsal is to see it.
Use = Callable[[Pair], None]


@dataclass(frozen=True)
class DryRun:
    """What the way down the graph takes.

    Attributes:
        few: what a few samples take.
        more: what some more take; ``None`` where the few stand for all.
    """

    few: Passage
    more: Passage | None

    def peak(self, place: int) -> Room:
        """On the way to one of the values."""
        return self._line(lambda passage: passage.peaks[place])

    def held(self, key: PairKey) -> Room:
        """When a pair of uses is contracted."""
        return self._line(lambda passage: passage.held[key])

    def _line(self, of: Callable[[Passage], int]) -> Room:
        low = of(self.few)
        if self.more is None:
            return Room(0.0, low / _FEW)
        each = max(0.0, (of(self.more) - low) / (_MORE - _FEW))
        return Room(max(0.0, low - _FEW * each), each)

    def price(self, place: int) -> Price:
        """What the way to one of the values costs for each sample."""
        if self.more is None:
            return self.few.prices[place] * (1 / _FEW)
        more = self.more.prices[place] + self.few.prices[place] * -1
        return more * (1 / (_MORE - _FEW))

    @property
    def calls(self) -> float:
        """How many operations are started, however many samples there are."""
        return sum(price.calls for price in self.few.prices)


@dataclass(frozen=True)
class _CannotSweep:
    """Why nothing can be carried down a graph; kept with the capture, so that it is tried once."""

    reason: str


@dataclass(frozen=True)
class WayDown:
    """The way down a graph to some sites.

    Attributes:
        backward_pass: the way itself.
        dry_run: what it takes.
        keys: the pairs of uses to contract, with their blocks.
        sites: where it stops.
    """

    backward_pass: BackwardPass
    dry_run: DryRun
    keys: dict[PairKey, tuple[NamePair, ...]]
    sites: tuple[Site, ...]


def _sites_for(
    captured: Captured, wanted: tuple[NamePair, ...], fallbacks: dict[str, str], join: bool
) -> tuple[tuple[Site, ...], dict[str, set[str]], dict[PairKey, tuple[NamePair, ...]]]:
    """The sites that the wanted blocks need, whose S and D each needs, and the pairs of uses to
    contract with their blocks."""
    asked = {(a, b) for a, b in wanted if not fallbacks.keys() & {a, b}}
    asked |= {(b, a) for a, b in asked}
    place = captured.graph.place
    named = {name for pair in asked for name in pair}
    sites = tuple(
        site for site in captured.sites if any(use.parameter in named for use in site.uses)
    )
    sites = tuple(joined(site) for site in sites) if join else sites
    keys: dict[PairKey, tuple[NamePair, ...]] = {}
    partners: dict[str, set[str]] = {site.value: set() for site in sites}
    for left in sites:
        for right in (site for site in sites if place[left.value] <= place[site.value]):
            for x, first in enumerate(left.uses):
                for y, second in enumerate(right.uses):
                    blocks = tuple(
                        (a.parameter, b.parameter)
                        for a in first.members
                        for b in second.members
                        if (a.parameter, b.parameter) in asked
                    )
                    if not blocks or (left is right and y < x):
                        continue
                    keys[(left.value, x), (right.value, y)] = blocks
                    if left is not right:
                        partners[left.value].add(right.value)
    return sites, partners, keys


def sweep_to(
    cost: Cost,
    captured: Captured,
    wanted: tuple[NamePair, ...],
    fallbacks: dict[str, str],
    use: Use | None,
) -> Sweep:
    """The sweep to the sites of what does not fall back, not rehearsed."""
    sites, partners, _ = _sites_for(captured, wanted, fallbacks, use is None)
    return _sweep(cost, captured, sites, partners, use, False)


def _sweep(
    cost: Cost,
    captured: Captured,
    sites: tuple[Site, ...],
    partners: dict[str, set[str]],
    use: Use | None,
    by_sample: bool,
) -> Sweep:
    straight = cost.curvature.straight(captured.graph)
    split = not by_sample
    return Sweep(captured.graph, sites, partners, straight, use is not None, split)


def way_down(
    cost: Cost,
    captured: Captured,
    signature: Hashable,
    wanted: tuple[NamePair, ...],
    fallbacks: dict[str, str],
    use: Use | None,
    by_sample: bool = False,
) -> WayDown:
    """The way down to the sites of what does not fall back; the sweep is made and rehearsed once
    for each request.

    Args:
        cost: the cost.
        captured: its graph.
        signature: of the samples.
        wanted: the blocks asked for.
        fallbacks: the parameters that are made otherwise.
        use: what is done with a pair of the diagonal; ``None`` where blocks are wanted.
        by_sample: whether what each sample brings is wanted: no position stands as a sample of its
            own, and no two uses are joined.

    Raises:
        NotCaptured: an operation cannot be carried down.
    """
    join = use is None and not by_sample
    sites, partners, keys = _sites_for(captured, wanted, fallbacks, join)
    request = (wanted, tuple(fallbacks), cost.curvature, use is None, by_sample)
    known: tuple[Sweep, DryRun] | _CannotSweep = captured.dry_runs.kept(
        request,
        lambda: _tried(cost, captured, signature, sites, partners, set(keys), use, by_sample),
    )
    if isinstance(known, _CannotSweep):
        raise NotCaptured(known.reason)
    sweep, dry_run = known
    return WayDown(
        BackwardPass(sweep, captured.graph, sites, set(keys), cost), dry_run, keys, sites
    )


def _tried(
    cost: Cost,
    captured: Captured,
    signature: Hashable,
    sites: tuple[Site, ...],
    partners: dict[str, set[str]],
    keys: set[PairKey],
    use: Use | None,
    by_sample: bool,
) -> tuple[Sweep, DryRun] | _CannotSweep:
    """The sweep, rehearsed, or why there is none."""
    batch = next(
        batch for batch in cost.batches() if batch is not None and batch.signature == signature
    )
    try:
        failed = captured.dry_runs.kept(
            _RULE_CHECK, lambda: _failed_rule_check(cost, captured, batch)
        )
        if failed is not None:
            return failed
        sweep = _sweep(cost, captured, sites, partners, use, by_sample)
        backward_pass = BackwardPass(sweep, captured.graph, sites, keys, cost)
        return sweep, _dry_run(backward_pass, batch.take(slice(0, 1)), use)
    # Of an operation on values that it cannot be differentiated at, or of a kind of its own.
    except Exception as error:
        # Too little memory is no property of the graph: the user hears of it.
        if is_passing(error):
            raise
        return _CannotSweep(f"its signals cannot be carried down the graph: {in_a_line(error)}")


def _dry_run(backward_pass: BackwardPass, sample: Batch, use: Use | None) -> DryRun:
    few = backward_pass.rehearse(sample, _FEW, use)
    long = sum(price.calls for price in few.prices) > _LONG
    once = long or max(few.peaks, default=0) <= _SMALL
    return DryRun(few, None if once else backward_pass.rehearse(sample, _MORE, use))


def _failed_rule_check(cost: Cost, captured: Captured, batch: Batch) -> _CannotSweep | None:
    """Why nothing is to be carried down the graph: a rule that is wrong; ``None`` where all are
    right."""
    evaluation = ChunkEvaluation(captured.graph, captured.sites, cost.fixed, cost.parameters)
    leaves = data_leaves(batch.take(slice(0, _SAMPLES_TRIED)))
    wrong = wrong_rule(evaluation, leaves, active_values(captured.graph, captured.sites))
    return _CannotSweep(f"{wrong} for several samples side by side are wrong") if wrong else None
