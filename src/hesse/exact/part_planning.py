"""What is done with the samples of one signature: which parameters go down the graph, in chunks of
how many samples, and what that takes, as a rehearsal on shapes shows it."""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import final

from hesse.capture import Captured, NotCaptured, capture
from hesse.cost import Cost
from hesse.exact.column_price import ColumnPrice, column_price
from hesse.exact.columns import rows_asked
from hesse.exact.contracted import Contracted, names_of
from hesse.exact.fallback import Failure, Strategy, failures
from hesse.exact.one_sided import OneSidedPrice, one_sided_price
from hesse.exact.plan import BlockPlan, NamePair, PlannedContraction, PlanPart
from hesse.exact.propagation.sweep import Sweep
from hesse.exact.way_down import Use, WayDown, sweep_to, way_down
from hesse.process.memory import HOLES
from hesse.process.price import Price, duration
from hesse.process.rates import Rates, rates

# How often the S of a site is passed over and held at once, and how often a Hessian-vector product
# passes over the activations, each as measured: they decide where a site is worth its S.
_PASSES_OVER_S = 6
_COPIES_OF_S = 4
_PASSES_OF_A_PRODUCT = 20
# So many operations of a matrix product take as long as one pass over a number.
_OPERATIONS_OF_A_PASS = 150
# What a trace takes about, in seconds on the slowest machine that is thought of, and in products.
_SECONDS_OF_A_TRACE, _PRODUCTS_OF_A_TRACE = 0.3, 100
_SLOW = Rates(5e9, 1e9, 1e4, 1e9, 2e9, 1e9)
# So few products may go side by side for all parameters, on a usual machine, whose caches hold
# them: what starts fewer operations hardly depends on the machine, and to measure it takes longer.
_FEW_PRODUCTS, _USUAL = 512, Rates(5e10, 1.6e10, 2.5e4, 3e10, 4e9, 1.5e10)
# Prices are right to a factor: what is said to cost a little less is not taken for it.
_WORTH = 0.9


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
        tiled: whether some rows of the blocks are made at a time.

    Attributes:
        part: what is done.
        notes: what falls back, and why.
        bytes: the most that are alive at once beyond the result.
        price: what the way down and the columns cost.
        operations: the floating point operations of the way down.
        down: the way down itself, where something is contracted.
        way, kept: what the way down alone costs, and the bytes of what it brings.
        by_rates: whether it was asked how fast this machine is.
    """

    by_rates = False

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
        tiled: bool = False,
    ) -> None:
        self._cost, self._signature, names = cost, signature, cost.layout.names
        self._entries_alone = use is not None
        # Of what is asked for so much is for tensors.
        budget = int(budget / HOLES)
        self.notes: list[str] = []
        failed = failures(cost)
        captured, down = None, None
        try:
            if not_traced:
                raise NotCaptured(not_traced)
            captured = capture(cost, signature)
            fallbacks = {
                **captured.fallbacks,
                **{name: failed[name].text for name in names if name in failed},
            }
            sweep = partial(sweep_to, cost, captured, wanted, fallbacks, use)
            fallbacks = {**_too_many_outputs(cost, captured, budget, sweep), **fallbacks}
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
        contracted = None
        if captured is not None and down is not None:
            contract = partial(
                Contracted,
                cost,
                captured.graph,
                samples=samples,
                budget=budget,
                blocks=use is None,
                roomy=roomy,
                tiled=tiled,
            )
            contracted = contract(down=down)
            if self._cost_less_together(contracted, wanted):
                contracted, down, fallbacks = None, None, dict.fromkeys(names, "few products")
                self.notes = [
                    "so small that products with all unit vectors at once cost less than"
                    " contractions, which start more operations"
                ]
            elif cheaper := self._cheaper(contracted, wanted, fallbacks):
                fallbacks |= dict.fromkeys(cheaper, "costs less by one-sided products")
                down = way_down(cost, captured, signature, wanted, fallbacks, use)
                contracted = contract(down=down)
        self._fallbacks, self.down = fallbacks, down
        self.part = PlanPart(
            signature,
            samples,
            samples if contracted is None else contracted.chunk,
            captured,
            None if down is None else down.backward_pass,
            {} if contracted is None else contracted.contractions,
        )
        self.operations = 0.0 if contracted is None else contracted.operations
        self.bytes = 0.0 if contracted is None else contracted.bytes
        self.price = Price() if contracted is None else contracted.price()
        self.way = Price() if contracted is None else contracted.way
        self.kept = 0.0 if contracted is None else contracted.kept
        by_columns = [
            name for name in names if name in fallbacks and any(name in pair for pair in wanted)
        ]
        if by_columns:
            left = budget if contracted is None else contracted.budget
            self._plan_columns(by_columns, wanted, left, failed, captured is not None)
        self.bytes *= HOLES

    @cached_property
    def _one_sided(self) -> OneSidedPrice | None:
        return one_sided_price(self._cost, self._signature)

    def _cost_less_together(self, contracted: Contracted, wanted: Sequence[NamePair]) -> bool:
        """Whether products for all parameters, side by side, cost less than contractions: where
        starting operations is most of the work."""
        price, names = contracted.price(), self._cost.layout.names
        seconds = _USUAL.seconds(price)
        if not contracted.blocks or price.calls < _USUAL.calls * seconds / 2:
            return False
        together = self._together(names, wanted, contracted.budget, failures(self._cost))
        if together is None:
            return False
        asked = rows_asked(names, wanted)
        piece = together.piece(contracted.budget, asked, True)
        return _USUAL.seconds(together.of(asked, contracted.budget, piece)) < _WORTH * seconds

    def _together(
        self,
        names: Sequence[str],
        wanted: Sequence[NamePair],
        budget: int,
        failed: Collection[str],
    ) -> ColumnPrice | None:
        """What products for all of some parameters take, side by side; ``None`` where there are
        many, or each is to have its own."""
        asked = rows_asked(names, wanted)
        count = sum(self._cost.layout.sizes[name] for name in asked)
        if count > _FEW_PRODUCTS or not asked.keys().isdisjoint(failed):
            return None
        price = column_price(self._cost, tuple(asked), self._signature, together=True)
        piece = price.piece(budget, asked, True)
        short = _USUAL.seconds(price.of(asked, budget, piece)) < _SECONDS_OF_A_TRACE
        return price if short and price.width(budget, piece, asked) >= count else None

    def _cheaper(
        self,
        contracted: Contracted,
        wanted: Sequence[NamePair],
        fallbacks: Collection[str],
    ) -> tuple[str, ...]:
        """The parameters that cost less by one-sided products than contracted."""
        price, cost = contracted.price(), self._cost
        if _SLOW.seconds(price) < _SECONDS_OF_A_TRACE:
            return ()
        self.by_rates, speed = True, rates(cost.dtype, cost.device)
        seconds = speed.seconds(price)
        least = speed.seconds(contracted.least_of_products())
        # A second Hessian of the same model finds it traced.
        if seconds < max(_SECONDS_OF_A_TRACE / 2, least) or self._one_sided is None:
            return ()
        named = {name for pair in wanted for name in pair if name not in fallbacks}
        order = [name for name in self._one_sided.order if name in named]
        lowest, fewer = self._one_sided.cheapest(order, wanted, contracted, speed)
        if fewer > _WORTH * seconds:
            return ()
        self.notes.append(
            f"by one-sided products, which with the rest take about {duration(fewer)} and not"
            f" {duration(seconds)}: {', '.join(lowest)}"
        )
        return lowest

    def _plan_columns(
        self,
        names: Sequence[str],
        wanted: Sequence[NamePair],
        budget: int,
        failed: Mapping[str, Failure],
        may_cut: bool,
    ) -> None:
        """Add what goes by columns; batches are cut only where samples are known to be
        independent."""
        cost, part = self._cost, self.part
        singly = frozenset(
            name for name in names if name in failed and failed[name].strategy == Strategy.COLUMNS
        )
        products = sum(cost.layout.sizes[name] for name in names if name not in singly)
        price: OneSidedPrice | ColumnPrice | None = self._together(names, wanted, budget, singly)
        together = price is not None
        if price is None and ("_one_sided" in vars(self) or products >= _PRODUCTS_OF_A_TRACE):
            price = self._one_sided
        traced = price is not None and not together
        if price is None:
            price = column_price(cost, names, part.signature)
        asked = rows_asked(sorted(names, key=price.order.index), wanted)
        piece = price.piece(budget, asked, may_cut)
        width = price.width(budget, piece, asked)
        self.part = replace(
            part,
            asked=asked,
            singly=singly,
            traced=traced,
            together=together,
            piece=piece,
            width=width,
        )
        self.bytes = max(self.bytes, price.bytes(budget, piece, asked))
        self.price += price.of(asked, budget, piece)
        self._columns, self._budget = price, budget

    def block(self, names: NamePair) -> BlockPlan:
        """What this part's samples add to a block."""
        sizes, contractions = self._cost.layout.sizes, self.part.contractions
        shape = (sizes[names[0]], sizes[names[1]])
        if self._fallbacks.keys() & set(names):
            assert self._columns is not None
            asked = self.part.asked
            bringing, others = next(
                (name, others)
                for name, others in asked.items()
                if name in names and (names[0] if name == names[1] else names[1]) in others
            )
            kind = "one-sided products" if self.part.traced else "products"
            singly = " one by one" if bringing in self.part.singly else ""
            singly = " at once" if self.part.together else singly
            # Shared among the blocks of the parameter's rows, by size.
            of_rows = self._columns.of({bringing: others}, self._budget, self.part.piece)
            whole = sizes[bringing] * sum(sizes[name] for name in others)
            share = shape[0] * shape[1] / max(1, whole)
            order = f"{sizes[bringing]} {kind}{singly}"
            return BlockPlan(names, shape, "columns", order, of_rows.operations * share, 0.0)
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
        if self._entries_alone:
            text = "entries alone"
        operations = (
            sum(c.estimate.operations * _share(self._cost, names, c) for c in bringing)
            * self.part.samples
        )
        held = (
            max(c.estimate.room.of(self.part.chunk) for c in bringing) * self._cost.dtype.itemsize
        )
        return BlockPlan(names, shape, "contraction", text, operations, held)


def _too_many_outputs(
    cost: Cost, captured: Captured, budget: int, sweep: Callable[[], Sweep]
) -> dict[str, str]:
    """Parameters whose sites have so many positions × outputs that their own S would cost more than
    columns, with the reason."""
    activations = sum(node.size for node in captured.graph.nodes)
    fallbacks, down = {}, None
    for site in captured.sites:
        names = {use.parameter for use in site.uses}
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
                {name for site in below or lowest_first[:1] for name in names_of(site)},
                f"the way down to it takes {run.peak(place).of(1) / 1e6:.3g} MB for each sample at"
                f" {value!r}, more than the memory allows",
            )
    activations = sum(node.size for node in graph.nodes)
    spent, saved, names, dear = 0.0, 0.0, list[str](), dict[str, str]()
    for site, above in zip(lowest_first, [*lowest_first, None][1:], strict=True):
        low = graph.place[site.value]
        high = math.inf if above is None else graph.place[above.value]
        names += names_of(site)
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


def _share(cost: Cost, names: NamePair, contraction: PlannedContraction) -> float:
    """A block's part of a contraction that brings several, by size."""
    sizes = [cost.layout.sizes[a] * cost.layout.sizes[b] for a, b in contraction.blocks]
    return (
        cost.layout.sizes[names[0]] * cost.layout.sizes[names[1]] / sum(sizes)
        if len(sizes) > 1
        else 1.0
    )
