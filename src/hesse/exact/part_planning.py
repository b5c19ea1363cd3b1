"""What is done with the samples of one signature: which parameters go down the graph, in chunks of
how many samples, and what that takes, as a rehearsal on shapes shows it."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import final

from hesse.capture import NotCaptured, capture
from hesse.cost import Cost
from hesse.exact.column_price import ColumnPrice, column_price
from hesse.exact.columns import rows_asked
from hesse.exact.contracted import Contracted
from hesse.exact.fallback import Failure, Strategy, failures
from hesse.exact.one_sided import OneSidedPrice, one_sided_price
from hesse.exact.plan import BlockPlan, NamePair, PlannedContraction, PlanPart
from hesse.exact.way_down import (
    Use,
    WayDown,
    sweep_to,
    too_dear,
    too_many_outputs,
    way_down,
)
from hesse.graph.sites import Site
from hesse.process.memory import HOLES
from hesse.process.price import Price, duration
from hesse.process.rates import Rates, rates

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
        rates: how fast this machine is, where that was asked.
    """

    rates: Rates | None = None

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
        self._wanted, self._entries_alone = wanted, use is not None
        # Of what is asked for so much is for tensors.
        budget = int(budget / HOLES)
        self.notes: list[str] = []
        failed = failures(cost)
        captured, down, contracted = None, None, None

        def contract(down: WayDown) -> Contracted:
            return Contracted(cost, down, samples, budget, use is None, roomy, tiled)

        def is_lost(down: WayDown) -> bool:
            return self._is_lost(contract(down), fallbacks)

        try:
            if not_traced:
                raise NotCaptured(not_traced)
            captured = capture(cost, signature)
            fallbacks = {
                **captured.fallbacks,
                **{name: failed[name].text for name in names if name in failed},
            }
            sweep = partial(sweep_to, cost, captured, wanted, fallbacks, use)
            fallbacks = {**too_many_outputs(cost, captured, budget, sweep), **fallbacks}
            request = cost, captured, signature, wanted
            down = way_down(*request, fallbacks, use, enough=is_lost)
            while more := too_dear(cost, captured, down, budget):
                fallbacks |= more
                down = way_down(*request, fallbacks, use, enough=is_lost)
            self.notes += [
                f"{name} goes by columns: {reason}" for name, reason in fallbacks.items()
            ]
        except NotCaptured as reason:
            captured, down, fallbacks = None, None, dict.fromkeys(names, "no graph")
            self.notes.append(f"no graph: {reason}; everything goes by columns")
            self.notes += [f"{name}: {failed[name].text}" for name in names if name in failed]
        if captured is not None and down is not None:
            contracted = contract(down)
            if self._cost_less_together(contracted):
                contracted, down, fallbacks = None, None, dict.fromkeys(names, "few products")
                self.notes = [
                    "so small that products with all unit vectors at once cost less than"
                    " contractions, which start more operations"
                ]
            elif cheaper := self._cheaper(contracted, fallbacks, down.unreached):
                fallbacks |= dict.fromkeys(cheaper, "costs less by one-sided products")
                down = way_down(cost, captured, signature, wanted, fallbacks, use)
                contracted = contract(down)
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
            self._plan_columns(by_columns, left, failed, captured is not None)
        self.bytes *= HOLES

    @cached_property
    def _one_sided(self) -> OneSidedPrice | None:
        return one_sided_price(self._cost, self._signature)

    @cached_property
    def _speed(self) -> Rates:
        self.rates = rates(self._cost.dtype, self._cost.device)
        return self.rates

    def _cost_less_together(self, contracted: Contracted) -> bool:
        """Whether products for all parameters, side by side, cost less than contractions: where
        starting operations is most of the work."""
        price, names = contracted.price(), self._cost.layout.names
        seconds = _USUAL.seconds(price)
        if not contracted.blocks or price.calls < _USUAL.calls * seconds / 2:
            return False
        together = self._together(names, contracted.budget, failures(self._cost))
        if together is None:
            return False
        asked = rows_asked(names, self._wanted)
        piece = together.piece(contracted.budget, asked, True)
        return _USUAL.seconds(together.of(asked, contracted.budget, piece)) < _WORTH * seconds

    def _together(
        self, names: Sequence[str], budget: int, failed: Collection[str]
    ) -> ColumnPrice | None:
        """What products for all of some parameters take, side by side; ``None`` where there are
        many, or each is to have its own."""
        asked = rows_asked(names, self._wanted)
        count = self._products(asked)
        if count > _FEW_PRODUCTS or not asked.keys().isdisjoint(failed):
            return None
        price = column_price(self._cost, tuple(asked), self._signature, together=True)
        piece = price.piece(budget, asked, True)
        short = _USUAL.seconds(price.of(asked, budget, piece)) < _SECONDS_OF_A_TRACE
        return price if short and price.width(budget, piece, asked) >= count else None

    def _products(self, names: Iterable[str]) -> int:
        """How many there are for all entries of some parameters."""
        return sum(map(self._cost.layout.sizes.__getitem__, names))

    def _seconds(self, contracted: Contracted) -> float | None:
        """How long contractions take; ``None`` where that is too short for a trace."""
        price = contracted.foreseen
        if _SLOW.seconds(price) < _SECONDS_OF_A_TRACE:
            return None
        seconds = self._speed.seconds(price)
        least = self._speed.seconds(contracted.least_of_products())
        # A second Hessian of the same model finds it traced.
        long = seconds >= max(_SECONDS_OF_A_TRACE / 2, least)
        return seconds if long and self._one_sided is not None else None

    def _order(self, fallbacks: Collection[str]) -> list[str]:
        """The parameters that would be contracted, in the order of use."""
        assert self._one_sided is not None
        named = {name for pair in self._wanted for name in pair if name not in fallbacks}
        return [name for name in self._one_sided.order if name in named]

    def _is_lost(self, seen: Contracted, fallbacks: Collection[str]) -> bool:
        """Whether the contractions, by what was seen of them, cost more than one-sided products for
        all parameters."""
        if self._products(rows_asked(self._cost.layout.names, self._wanted)) <= _FEW_PRODUCTS:
            return False
        if (seconds := self._seconds(seen)) is None or self._one_sided is None:
            return False
        order = self._order(fallbacks)
        _, fewer = self._one_sided.cheapest(order, self._wanted, seen, self._speed, len(order))
        return fewer <= _WORTH * seconds

    def _cheaper(
        self, contracted: Contracted, fallbacks: Collection[str], unreached: Sequence[Site]
    ) -> tuple[str, ...]:
        """The parameters that cost less by one-sided products than contracted; with those whose
        sites were not reached when that was clear."""
        if (seconds := self._seconds(contracted)) is None or self._one_sided is None:
            return ()
        order = self._order(fallbacks)
        lost = {name for site in unreached for name in site.parameters}
        count = max((place for place, name in enumerate(order, 1) if name in lost), default=0)
        lowest, fewer = self._one_sided.cheapest(
            order, self._wanted, contracted, self._speed, count
        )
        if fewer > _WORTH * seconds:
            return ()
        self.notes.append(
            f"by one-sided products, which with the rest take about {duration(fewer)}; contracted,"
            f" {'over' if lost else 'about'} {duration(seconds)}: {', '.join(lowest)}"
        )
        return lowest

    def _plan_columns(
        self,
        names: Sequence[str],
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
        products = self._products(name for name in names if name not in singly)
        price: OneSidedPrice | ColumnPrice | None = self._together(names, budget, singly)
        together = price is not None
        if price is None and ("_one_sided" in vars(self) or products >= _PRODUCTS_OF_A_TRACE):
            price = self._one_sided
        traced = price is not None and not together
        if price is None:
            price = column_price(cost, names, part.signature)
        asked = rows_asked(sorted(names, key=price.order.index), self._wanted)
        piece = price.piece(budget, asked, may_cut)
        widths = {
            name: price.width(budget, piece, {name: others}) for name, others in asked.items()
        }
        self.part = replace(
            part,
            asked=asked,
            singly=singly,
            traced=traced,
            together=together,
            piece=piece,
            widths=widths,
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


def _share(cost: Cost, names: NamePair, contraction: PlannedContraction) -> float:
    """A block's part of a contraction that brings several, by size."""
    sizes = [cost.layout.sizes[a] * cost.layout.sizes[b] for a, b in contraction.blocks]
    return (
        cost.layout.sizes[names[0]] * cost.layout.sizes[names[1]] / sum(sizes)
        if len(sizes) > 1
        else 1.0
    )
