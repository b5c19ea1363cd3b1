"""The plan: what `hessian` would do, block by block, before anything is computed."""

import math
import textwrap
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from hesse.capture import Captured
from hesse.display import Display, Displayed, Fact, Table
from hesse.display.text import table_lines
from hesse.distributed.spread import ALONE, Spread
from hesse.errors import HesseValueError, printable, readable_bytes
from hesse.exact.backward_pass import BackwardPass
from hesse.exact.columns import Rows
from hesse.exact.contraction.choice import ORDERS
from hesse.exact.contraction.pair import Estimate, Order, Sizes
from hesse.exact.contraction.pairing import PairKey
from hesse.process.price import Price, duration
from hesse.process.rates import rates

NamePair = tuple[str, str]
# Blocks that a plan prints, the largest: a screenful.
_MOST_SHOWN = 40
# And those at a prompt.
_ON_A_SCREEN = 10


@dataclass(frozen=True)
class PlannedContraction:
    """How a pair of parameter uses is contracted, and the blocks that it brings: more than one
    where a use is joined from several."""

    blocks: tuple[NamePair, ...]
    order: Order
    estimate: Estimate
    sizes: Sizes

    # An order is a record of functions, and is found again by its place among all.
    def __reduce__(self) -> Any:
        place = next(place for place, order in enumerate(ORDERS) if order is self.order)
        return _of_order, (place, self.blocks, self.estimate, self.sizes)


def _of_order(
    place: int, blocks: tuple[NamePair, ...], estimate: Estimate, sizes: Sizes
) -> PlannedContraction:
    return PlannedContraction(blocks, ORDERS[place], estimate, sizes)


@dataclass(frozen=True)
class PlanPart:
    """What is done with the samples of one signature.

    Attributes:
        signature: of their batches (`hesse.data.batch.Batch.signature`).
        samples: how many there are.
        chunk: how many are worked on at once.
        capture: their graph, if there is one.
        backward_pass: down the graph to the sites that the wanted blocks need.
        contractions: the pairs of uses to contract.
        asked: the parameters that go by columns, with those whose blocks with them they bring.
        singly: those of them whose products are taken one by one.
        traced: whether their product is traced, and one-sided.
        together: whether the products of all of them go side by side.
        widths: how many of the products of each go side by side.
        piece: with how many samples at once.
    """

    signature: Hashable
    samples: int
    chunk: int
    capture: Captured | None = field(repr=False)
    backward_pass: BackwardPass | None = field(repr=False)
    contractions: dict[PairKey, PlannedContraction] = field(repr=False)
    asked: Rows = field(default_factory=dict)
    singly: frozenset[str] = frozenset()
    traced: bool = False
    together: bool = False
    widths: Mapping[str, int] = field(default_factory=dict)
    piece: int = 1

    @property
    def by_columns(self) -> tuple[str, ...]:
        """The parameters that go by columns."""
        return tuple(self.asked)

    # The graph does not travel, and what would be run on it: a plan is to be read.
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "capture": None, "backward_pass": None}


@dataclass(frozen=True)
class BlockPlan:
    """What is planned for one block of the Hessian.

    Attributes:
        names: the two parameters, in layout order.
        shape: (rows, columns).
        strategy: "contraction", "columns" or "zero".
        order: the contraction orders of its pairs of uses, or why there are none.
        operations: floating point operations, two for a multiply-add.
        intermediate: bytes of intermediates for one chunk.
    """

    names: NamePair
    shape: tuple[int, int]
    strategy: str
    order: str
    operations: float
    intermediate: float


@dataclass(frozen=True)
class OnDisk:
    """What is planned of a Hessian that is computed into a store.

    Attributes:
        bytes: what it takes on the disk.
        tiles: in how many tiles.
        panels: how many times some of them are computed together.
        free: bytes that are free on the disk.
        written: bytes that it writes in a second.
    """

    bytes: int
    tiles: int
    panels: int
    free: int
    written: float

    @property
    def seconds(self) -> float:
        """How long it takes to be written, which is done while the next panel is computed."""
        return self.bytes / self.written


@dataclass(frozen=True, repr=False)
class Plan(Displayed):
    """What `hesse.hessian` would do. ``print(plan)`` shows it.

    Attributes:
        title: the cost, in a line.
        captured: whether there is a graph with sites.
        blocks: one entry for each block.
        operations: floating point operations of all contractions and the sweep.
        samples: how many samples there are.
        chunk: how many are worked on at once.
        result_bytes: size of the result.
        peak_bytes: the result and the intermediates alive at once, an estimate.
        notes: what fell back and why, and anything else worth knowing.
        sweep_operations: those of the sweeps down the graph.
        parts: the samples by the signature of their batches, each with a graph of its own.
        price: what all of it costs in operations, bytes that pass through memory, and calls.
        form: the dtype that the work is done in, and where.
        kinds: how each parameter enters, wherever it is used: "dense", "convolution", "shift" (a
            bias), "scale", "embedding", "leaf" (in no linear way); by columns nothing is asked of
            it.
        too_large: why the result does not fit into memory, or on the disk; empty where it does.
        on_disk: of a result that goes there.
        way: what carrying signals down the graph costs, once.
        kept: bytes of these signals.
        spread: over how many processes; the memory is that of each.
        network: bytes that these send.
    """

    title: str
    captured: bool
    blocks: tuple[BlockPlan, ...]
    operations: float
    samples: int
    chunk: int
    result_bytes: int
    peak_bytes: float
    notes: tuple[str, ...]
    sweep_operations: float
    column_budget: int
    parts: "tuple[PlanPart, ...]"
    price: Price
    form: tuple[torch.dtype, torch.device]
    kinds: dict[str, tuple[str, ...]]
    too_large: str = ""
    on_disk: OnDisk | None = None
    way: Price = field(default=Price())
    kept: float = 0.0
    spread: Spread = ALONE
    network: float = 0.0

    @property
    def by_columns(self) -> tuple[str, ...]:
        """The parameters that go by columns, for some of the samples at least."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.by_columns))

    @property
    def seconds(self) -> float:
        """About how long it takes on this machine, whose rates are measured when they are asked
        for the first time."""
        # In memory the samples are dealt out, and the way down with them.
        way = Price() if self.on_disk is None else self.way
        computing = self.spread.seconds(rates(*self.form), self.price, way, self.form[1])
        return computing if self.on_disk is None else max(computing, self.on_disk.seconds)

    @property
    def contracts(self) -> bool:
        """Whether anything is contracted."""
        return any(part.contractions for part in self.parts)

    def strategy(self, first: str, second: str) -> str:
        """ "contraction", "columns" or "zero", for the block of two parameters in either order.

        Raises:
            HesseValueError: the block is not part of this plan.
        """
        if isinstance(first, str) and isinstance(second, str):
            for block in self.blocks:
                if block.names in ((first, second), (second, first)):
                    return block.strategy
        raise HesseValueError(f"the block ({first!r}, {second!r}) is not part of this plan")

    def __str__(self) -> str:
        shown = self._shown(_MOST_SHOWN)
        lines = [self.title, "", *table_lines(_table(shown))]
        if hidden := len(self.blocks) - len(shown):
            lines.append(f"... and {hidden} smaller blocks")
        lines.append("")
        for fact in self._facts(shown):
            lines += _wrapped(fact)
        return "\n".join(map(printable, lines))

    def _display(self) -> Display:
        shown = self._shown(_ON_A_SCREEN)
        hidden = len(self.blocks) - len(shown)
        return Display(
            "Plan",
            self.title,
            tuple(fact for fact in self._facts(shown) if fact.label != "uses"),
            _table(shown, f"the largest blocks, and {hidden} smaller ones:" if hidden else ""),
            ("print(plan) for all", "plan.seconds", "hesse.hessian(cost)"),
        )

    def _facts(self, shown: "list[BlockPlan]") -> list[Fact]:
        """What it comes to, line by line."""
        sweep = _count(self.sweep_operations)
        said = [
            Fact(
                "operations",
                f"{_count(self.operations)}, {sweep} of them to carry signals down the graph",
            )
        ]
        if self.captured:
            said.append(Fact("samples", f"{self.samples} in chunks of {self.chunk}"))
        if uses := self._uses(shown):
            said.append(Fact("uses", uses))
        time = f"about {duration(self.seconds)} (from rates of this machine)"
        result = f", {readable_bytes(self.result_bytes)} of it the result"
        peak = f"{readable_bytes(self.peak_bytes)} at the peak"
        said += [
            Fact("time", time),
            Fact("memory", peak + (result if self.on_disk is None else "")),
        ]
        if (disk := self.on_disk) is not None:
            said.append(
                Fact(
                    "disk",
                    f"{readable_bytes(disk.bytes)} in {disk.tiles} tiles, of"
                    f" {readable_bytes(disk.free)} free; {duration(disk.seconds)} to write, beside"
                    f" computing in {disk.panels} panels",
                )
            )
        if self.spread.size > 1:
            said.append(
                Fact(
                    "processes",
                    f"{self.spread}, the memory being that of each;"
                    f" {readable_bytes(self.network)} over the network",
                )
            )
        doubts = [f"does not fit: {self.too_large}"] if self.too_large else []
        return [*said, *(Fact("note", note) for note in [*doubts, *self.notes])]

    def _uses(self, blocks: "list[BlockPlan]") -> str:
        """The kinds, each with its parameters."""
        shown = {name for block in blocks for name in block.names}
        of_kind: dict[str, list[str]] = {}
        for name, kinds in self.kinds.items():
            if name in shown:
                of_kind.setdefault(", ".join(kinds), []).append(name)
        return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in of_kind.items())

    def _shown(self, most: int) -> list[BlockPlan]:
        if len(self.blocks) <= most:
            return list(self.blocks)
        # By work, and where there is none (zero blocks, columns) by size.
        by_work = sorted(self.blocks, key=lambda b: -b.operations - math.prod(b.shape))
        largest = by_work[:most]
        return [block for block in self.blocks if block in largest]


def _table(blocks: list[BlockPlan], title: str = "") -> Table:
    rows = (
        (
            f"{b.names[0]} × {b.names[1]}",
            f"{b.shape[0]} × {b.shape[1]}",
            b.strategy,
            b.order,
            _count(b.operations),
            readable_bytes(b.intermediate),
        )
        for b in blocks
    )
    head = ("block", "size", "strategy", "order", "operations", "intermediates")
    return Table(head, tuple(rows), (0, 1, 2, 3), title)


def _wrapped(fact: Fact) -> list[str]:
    return textwrap.wrap(
        fact.value,
        96,
        initial_indent=fact.label.ljust(13),
        subsequent_indent=" " * 13,
        break_on_hyphens=False,
    )


def _count(operations: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if operations >= size:
            return f"{operations / size:.3g} {unit}FLOP"
    return f"{operations:.0f} FLOP"
