"""The way down a graph to the sites that blocks need, and what it takes: rehearsed once for each
request, for every cost of a model and a loss."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

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
from hesse.graph.graph import Graph
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
# and one that takes so few bytes, of which all samples that matter have room. Not where entries
# alone are made: what is held in any case is a parameter's size there, and most of what few take.
_LONG, _SMALL = 1500, 10**6
# One that is long, or will be, may end before it is done; whether it does, is asked when it has
# grown so much.
_LONGER = 1.25
# How often the S of a site is passed over and held at once, and how often a Hessian-vector product
# passes over the activations, each as measured: they decide where a site is worth its S.
_PASSES_OVER_S = 6
_COPIES_OF_S = 4
_PASSES_OF_A_PRODUCT = 20
# So many operations of a matrix product take as long as one pass over a number.
_OPERATIONS_OF_A_PASS = 150
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
        graph: what it goes down.
    """

    backward_pass: BackwardPass
    dry_run: DryRun
    keys: dict[PairKey, tuple[NamePair, ...]]
    sites: tuple[Site, ...]
    graph: Graph

    @property
    def unreached(self) -> tuple[Site, ...]:
        """The sites of which not everything was seen when the rehearsal was ended; none where it
        went all the way."""
        if not self.dry_run.few.ended:
            return ()
        place, lowest = self.graph.place, _lowest_seen(self.dry_run.few)
        return tuple(site for site in self.sites if place[site.value] <= place[lowest])

    @property
    def reached(self) -> tuple[Site, ...]:
        """The sites of which the rehearsal has seen anything."""
        place, passage = self.graph.place, self.dry_run.few
        low = place[_lowest_seen(passage)] if passage.sizes else -1
        return tuple(site for site in self.sites if place[site.value] >= low)

    @property
    def ahead(self) -> float:
        """How many times as many sites there are as were reached, the others with parameters of
        theirs: the steps of a recurrence are alike, so that each costs as much at least."""
        reached = self.reached
        alike = {tuple(site.parameters) for site in reached}
        count = sum(tuple(site.parameters) in alike for site in self.sites)
        return count / max(1, len(reached))


def _lowest_seen(passage: Passage) -> str:
    """The value of the site that was reached last."""
    (value, _), _ = next(reversed(passage.sizes))
    return value


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
    enough: Callable[[WayDown], bool] = lambda way: False,
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
        enough: whether the rehearsal may end there, given what it has seen so far.

    Raises:
        NotCaptured: an operation cannot be carried down.
    """
    join = use is None and not by_sample
    sites, partners, keys = _sites_for(captured, wanted, fallbacks, join)
    request = (wanted, tuple(fallbacks), cost.curvature, use is None, by_sample)

    def way(sweep: Sweep, dry_run: DryRun) -> WayDown:
        backward_pass = BackwardPass(sweep, captured.graph, sites, set(keys), cost)
        return WayDown(backward_pass, dry_run, keys, sites, captured.graph)

    known: tuple[Sweep, DryRun] | _CannotSweep | None = captured.dry_runs.get(request)
    # One that was ended is enough for whom the same is enough.
    if isinstance(known, tuple) and known[1].few.ended and not enough(way(*known)):
        known = None
    if known is None:
        known = _tried(
            cost, captured, signature, sites, partners, set(keys), use, by_sample,
            lambda sweep, passage: way(sweep, DryRun(passage, None)), enough,
        )  # fmt: skip
        captured.dry_runs.put(request, known)
    if isinstance(known, _CannotSweep):
        raise NotCaptured(known.reason)
    return way(*known)


def _tried(
    cost: Cost,
    captured: Captured,
    signature: Hashable,
    sites: tuple[Site, ...],
    partners: dict[str, set[str]],
    keys: set[PairKey],
    use: Use | None,
    by_sample: bool,
    way: Callable[[Sweep, Passage], WayDown],
    enough: Callable[[WayDown], bool],
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
        sample = batch.take(slice(0, 1))
        return sweep, _dry_run(backward_pass, sample, use, partial(way, sweep), enough)
    # Of an operation on values that it cannot be differentiated at, or of a kind of its own.
    except Exception as error:
        # Too little memory is no property of the graph: the user hears of it.
        if is_passing(error):
            raise
        return _CannotSweep(f"its signals cannot be carried down the graph: {in_a_line(error)}")


def _dry_run(
    backward_pass: BackwardPass,
    sample: Batch,
    use: Use | None,
    way: Callable[[Passage], WayDown],
    enough: Callable[[WayDown], bool],
) -> DryRun:
    asked_at = float(_LONG)

    def ends(passage: Passage) -> bool:
        """Asked of what is long, or will be, each time that it has become so much longer."""
        nonlocal asked_at
        down = way(passage)
        calls = down.ahead * down.dry_run.calls
        if calls <= asked_at:
            return False
        asked_at = _LONGER * calls
        return enough(down)

    few = backward_pass.rehearse(sample, _FEW, use, ends)
    long = few.ended or sum(price.calls for price in few.prices) > _LONG
    once = long or (use is None and max(few.peaks, default=0) <= _SMALL)
    return DryRun(few, None if once else backward_pass.rehearse(sample, _MORE, use))


def _failed_rule_check(cost: Cost, captured: Captured, batch: Batch) -> _CannotSweep | None:
    """Why nothing is to be carried down the graph: a rule that is wrong; ``None`` where all are
    right."""
    evaluation = ChunkEvaluation(captured.graph, captured.sites, cost.fixed, cost.parameters)
    leaves = data_leaves(batch.take(slice(0, _SAMPLES_TRIED)))
    wrong = wrong_rule(evaluation, leaves, active_values(captured.graph, captured.sites))
    return _CannotSweep(f"{wrong} for several samples side by side are wrong") if wrong else None


def too_many_outputs(
    cost: Cost, captured: Captured, budget: int, sweep: Callable[[], Sweep]
) -> dict[str, str]:
    """Parameters whose sites have so many positions × outputs that their own S would cost more than
    columns, with the reason."""
    activations = sum(node.size for node in captured.graph.nodes)
    fallbacks, down = {}, None
    for site in captured.sites:
        names = dict.fromkeys(use.parameter for use in site.uses)
        size = sum(cost.layout.sizes[name] for name in names)
        most = min(
            budget / (_COPIES_OF_S * cost.dtype.itemsize),
            _PASSES_OF_A_PRODUCT * size * activations / _PASSES_OVER_S,
        )
        if site.size**2 <= most:
            continue
        # Few sites have that many, and there are ways down on which less is carried to them.
        down = sweep() if down is None else down
        entries = down.entries(site)
        if entries <= most:
            continue
        if _COPIES_OF_S * entries * cost.dtype.itemsize > budget:
            reason = (
                f"its S has {entries // site.size} × {site.size} entries for each sample, more than"
                " the memory allows"
            )
        else:
            reason = (
                f"its {site.size} tangents (positions × outputs) would cost more than {size}"
                " products"
            )
        fallbacks |= dict.fromkeys(names, reason)
    return fallbacks


def too_dear(cost: Cost, captured: Captured, down: WayDown, budget: int) -> dict[str, str]:
    """Parameters that lie so far down that carrying S to them takes more than there is, or costs
    more than their columns, with the reason."""
    graph, run = captured.graph, down.dry_run
    lowest_first = sorted(down.sites, key=lambda site: graph.place[site.value])
    passed = list(enumerate(run.few.values))[1:]  # behind the evaluation, which all ways have
    for place, value in passed:
        if lowest_first and run.peak(place).of(1) > budget:
            below = [s for s in lowest_first if graph.place[s.value] < graph.place[value]]
            return dict.fromkeys(
                [name for site in below or lowest_first[:1] for name in site.parameters],
                f"the way down to it takes {run.peak(place).of(1) / 1e6:.3g} MB for each sample at"
                f" {value!r}, more than the memory allows",
            )
    activations = sum(node.size for node in graph.nodes)
    spent, saved, names, dear = 0.0, 0.0, list[str](), dict[str, str]()
    for site, above in zip(lowest_first, [*lowest_first, None][1:], strict=True):
        low = graph.place[site.value]
        high = math.inf if above is None else graph.place[above.value]
        names += site.parameters
        spent += sum(
            _passes(run.price(place), cost)
            for place, value in passed
            if low <= graph.place[value] < high
        )
        size = sum(cost.layout.sizes[name] for name in dict.fromkeys(names))
        saved = _PASSES_OF_A_PRODUCT * size * activations
        if spent > saved:
            dear = dict.fromkeys(
                names, f"carrying S down to it would cost more than {size} products"
            )
    return dear


def _passes(price: Price, cost: Cost) -> float:
    """In passes over a number, each a reading and a writing."""
    return price.moved / (2 * cost.dtype.itemsize) + price.operations / _OPERATIONS_OF_A_PASS
