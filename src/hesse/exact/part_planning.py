"""What is done with the samples of one signature: which parameters go down the graph, in chunks of
how many samples, and what that takes, as a rehearsal on shapes shows it."""

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import final

from hesse.capture import Captured, NotCaptured, capture
from hesse.cost import Cost
from hesse.exact.assemble import entries_apart
from hesse.exact.column_price import column_price
from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.fallback import Strategy, failures
from hesse.exact.plan import BlockPlan, NamePair, PlannedContraction, PlanPart
from hesse.exact.way_down import Use, WayDown, way_down
from hesse.graph.sites import Site
from hesse.process.price import Price, Room

# How often the S of a site is passed over and held at once, and how often a Hessian-vector product
# passes over the activations, each as measured: they decide where a site is worth its S.
_PASSES_OVER_S = 6
_COPIES_OF_S = 4
_PASSES_OF_A_PRODUCT = 20
# So many operations of a matrix product take as long as one pass over a number.
_OPERATIONS_OF_A_PASS = 150
# The system's allocator keeps holes between tensors for later ones; as measured (bench.memory).
_HOLES = 1.7


@final
class PartPlanner:
    """Plans what is done with the samples of one signature.

    Args:
        cost: the cost.
        wanted: the blocks asked for.
        budget: bytes to work in.
        signature: of the batches.
        samples: how many there are.
        use: what is done with a pair of the diagonal; ``None`` where blocks are wanted.
        not_traced: why no graph is to be made of them; empty where one is.
        roomy: whether the work may take more than the budget where that saves much time: nobody
            asked for it.

    Attributes:
        part: what is done.
        notes: what falls back, and why.
        bytes: the most that are alive at once beyond the result.
        price: what the way down and the columns cost.
        operations: the floating point operations of the way down.
    """

    def __init__(
        self,
        cost: Cost,
        wanted: tuple[NamePair, ...],
        budget: int,
        signature: Hashable,
        samples: int,
        use: Use | None,
        not_traced: str,
        roomy: bool,
    ) -> None:
        self._cost, names = cost, cost.layout.names
        # Of what is asked for so much is for tensors.
        budget = int(budget / _HOLES)
        self.notes: list[str] = []
        failed = failures(cost)
        captured, down = None, None
        try:
            if not_traced:
                raise NotCaptured(not_traced)
            captured = capture(cost, signature)
            fallbacks = {
                **captured.fallbacks,
                **_too_many_outputs(cost, captured, budget),
                **{name: failed[name].text for name in names if name in failed},
            }
            down = way_down(cost, captured, signature, wanted, fallbacks, use)
            while more := _too_dear(cost, captured, down, budget):
                fallbacks |= more
                down = way_down(cost, captured, signature, wanted, fallbacks, use)
            self.notes += [
                f"{name} goes by columns: {reason}" for name, reason in fallbacks.items()
            ]
        except NotCaptured as reason:
            captured, down, fallbacks = None, None, dict.fromkeys(names, "no graph")
            self.notes.append(f"no graph: {reason}; everything goes by columns")
            self.notes += [f"{name}: {failed[name].text}" for name in names if name in failed]
        self._fallbacks, self._columns = fallbacks, None
        contractions: dict[PairKey, PlannedContraction] = {}
        if down is not None:
            for key, sizes in down.dry_run.few.sizes.items():
                order, estimate = choose(sizes, samples, budget / cost.dtype.itemsize)
                contractions[key] = PlannedContraction(down.keys[key], order, estimate, sizes)
        needs = [] if down is None else self._needs(down, contractions, use is None)
        self._budget = budget
        # What is laid out apart is there however few the samples: smaller chunks save none of it.
        apart = (
            cost.dtype.itemsize * entries_apart(cost, contractions, down.sites)
            if down is not None and use is None
            else 0
        )
        budget = max(budget - apart, budget // 2 if roomy else 0)
        # As many chunks as it takes, of like size.
        most = max(1, int(min([samples, *(need.fitting(budget) for need in needs)])))
        chunk = -(-samples // -(-samples // most))
        by_columns = tuple(
            name for name in names if name in fallbacks and any(name in pair for pair in wanted)
        )
        self.part = PlanPart(
            signature,
            samples,
            chunk,
            captured,
            None if down is None else down.backward_pass,
            contractions,
            by_columns,
            frozenset(
                name
                for name in by_columns
                if name in failed and failed[name].strategy == Strategy.COLUMNS
            ),
        )
        self.operations = 0.0
        self.bytes = apart + max([need.of(chunk) for need in needs], default=0.0)
        self.price = Price()
        if down is not None:
            run = down.dry_run
            each = sum((run.price(k) for k in range(len(run.few.values))), Price())
            self.operations = each.operations * samples
            chunks = -(-samples // chunk)
            self.price = Price(self.operations, each.moved * samples, run.calls * chunks)
            for contraction in contractions.values():
                self.price += contraction.estimate.price(samples, chunks, cost.dtype.itemsize)
        if by_columns:
            largest = max(by_columns, key=lambda name: cost.layout.sizes[name])
            columns = column_price(cost, largest, signature)
            sizes = [cost.layout.sizes[name] for name in by_columns]
            # Batches are cut only where samples are known to be independent.
            piece = columns.piece(budget, max(sizes), captured is not None)
            width = columns.width(budget, piece)
            self.part = replace(self.part, piece=piece, width=width)
            self.bytes = max(self.bytes, columns.bytes(budget, piece, max(sizes)))
            self.price += columns.of(sizes, budget, piece)
            self._columns = columns
        self.bytes *= _HOLES

    def _needs(
        self, down: WayDown, contractions: dict[PairKey, PlannedContraction], blocks: bool
    ) -> list[Room]:
        """What is alive at once, everywhere on the way."""
        run, itemsize = down.dry_run, self._cost.dtype.itemsize
        needs = [run.peak(place) for place in range(len(run.few.values))]
        if not blocks:
            return needs
        needs += [
            run.held(key) + contraction.estimate.room * itemsize
            for key, contraction in contractions.items()
        ]
        return needs

    def block(self, names: NamePair) -> BlockPlan:
        """What this part's samples add to a block."""
        sizes, contractions = self._cost.layout.sizes, self.part.contractions
        shape = (sizes[names[0]], sizes[names[1]])
        if self._fallbacks.keys() & set(names):
            assert self._columns is not None
            fewest = min(sizes[name] for name in names if name in self._fallbacks)
            singly = " one by one" if self.part.singly.intersection(names) else ""
            # Shared among the blocks of the parameter's rows, by size.
            rows = [name for name in names if name in self._fallbacks]
            count = min(sizes[name] for name in rows)
            of_row = self._columns.of([count], self._budget, self.part.piece).operations
            operations = of_row * shape[0] * shape[1] / (count * self._cost.layout.size)
            return BlockPlan(names, shape, "columns", f"{fewest} products{singly}", operations, 0.0)
        bringing = [
            c for c in contractions.values() if names in c.blocks or names[::-1] in c.blocks
        ]
        if not bringing:
            return BlockPlan(names, shape, "zero", "no path", 0.0, 0.0)
        orders = {}
        for contraction in bringing:
            orders[contraction.order.name] = orders.get(contraction.order.name, 0) + 1
        text = ", ".join(
            name if count == 1 else f"{count} × {name}" for name, count in orders.items()
        )
        operations = (
            sum(c.estimate.operations * _share(self._cost, names, c) for c in bringing)
            * self.part.samples
        )
        held = (
            max(c.estimate.room.of(self.part.chunk) for c in bringing) * self._cost.dtype.itemsize
        )
        return BlockPlan(names, shape, "contraction", text, operations, held)


def _too_many_outputs(cost: Cost, captured: Captured, budget: int) -> dict[str, str]:
    """Parameters whose sites have so many positions × outputs that their own S would cost more than
    columns, with the reason."""
    activations = sum(node.size for node in captured.graph.nodes)
    fallbacks = {}
    for site in captured.sites:
        names = {use.parameter for use in site.uses}
        entries, size = site.size**2, sum(cost.layout.sizes[name] for name in names)
        if _COPIES_OF_S * entries * cost.dtype.itemsize > budget:
            reason = (
                f"its S has {site.size} × {site.size} entries for each sample, more than the"
                " memory allows"
            )
        elif _PASSES_OVER_S * entries > _PASSES_OF_A_PRODUCT * size * activations:
            reason = (
                f"its {site.size} tangents (positions × outputs) would cost more than {size}"
                " products"
            )
        else:
            continue
        fallbacks |= dict.fromkeys(names, reason)
    return fallbacks


def _too_dear(cost: Cost, captured: Captured, down: WayDown, budget: int) -> dict[str, str]:
    """Parameters that lie so far down that carrying S to them takes more than there is, or costs
    more than their columns, with the reason."""
    graph, run = captured.graph, down.dry_run
    lowest_first = sorted(down.sites, key=lambda site: graph.place[site.value])
    passed = list(enumerate(run.few.values))[1:]  # behind the evaluation, which all ways have
    for place, value in passed:
        if lowest_first and run.peak(place).of(1) > budget:
            below = [s for s in lowest_first if graph.place[s.value] < graph.place[value]]
            return dict.fromkeys(
                {name for site in below or lowest_first[:1] for name in _names(site)},
                f"the way down to it takes {run.peak(place).of(1) / 1e6:.3g} MB for each sample at"
                f" {value!r}, more than the memory allows",
            )
    activations = sum(node.size for node in graph.nodes)
    spent, saved, names, dear = 0.0, 0.0, list[str](), dict[str, str]()
    for site, above in zip(lowest_first, [*lowest_first, None][1:], strict=True):
        low = graph.place[site.value]
        high = math.inf if above is None else graph.place[above.value]
        names += _names(site)
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


def _names(site: Site) -> list[str]:
    return [part.parameter for use in site.uses for part in use.members]


def _passes(price: Price, cost: Cost) -> float:
    """In passes over a number, each a reading and a writing."""
    return price.moved / (2 * cost.dtype.itemsize) + price.operations / _OPERATIONS_OF_A_PASS


def _share(cost: Cost, names: NamePair, contraction: PlannedContraction) -> float:
    """A block's part of a contraction that brings several, by size."""
    sizes = [cost.layout.sizes[a] * cost.layout.sizes[b] for a, b in contraction.blocks]
    return (
        cost.layout.sizes[names[0]] * cost.layout.sizes[names[1]] / sum(sizes)
        if len(sizes) > 1
        else 1.0
    )
