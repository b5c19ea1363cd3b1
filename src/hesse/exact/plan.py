"""The plan: what `hessian` would do, block by block, before anything is computed."""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hesse.capture import Captured, NotCaptured, capture, data_leaves
from hesse.capture.sites import Site, joined
from hesse.cost import Cost
from hesse.errors import HesseMemoryError, HesseTypeError, HesseValueError, readable_bytes
from hesse.exact.contract import choose
from hesse.exact.evaluation import Evaluation
from hesse.exact.pair import Estimate, Order, Sizes
from hesse.exact.signals import PairKey, Passed, pairs_at, passed
from hesse.exact.sweep import Sweep
from hesse.memory import available_bytes
from hesse.undisturbed import undisturbed

NamePair = tuple[str, str]
# Intermediates get as much as the result, but not less than this, and never more than a share of what is free.
_LEAST_WORKING = 100 * 10**6
_SHARE = 0.5
# How often the S of a site is passed over and held at once, and a product passes over the activations, each as measured.
_PASSES_OVER_S = 6
_COPIES_OF_S = 4
_PASSES_OF_A_PRODUCT = 20


@dataclass(frozen=True)
class Contraction:
    """How a pair of slots is contracted, and the blocks that it brings: more than one where a slot is joined."""

    blocks: tuple[NamePair, ...]
    order: Order
    estimate: Estimate
    sizes: Sizes


@dataclass(frozen=True)
class BlockPlan:
    """What is planned for one block of the Hessian.

    Attributes:
        names: the two parameters, in layout order.
        shape: (rows, columns).
        strategy: "contraction", "columns" or "zero".
        order: the contraction orders of its pairs of slots, or why there are none.
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
class Plan:
    """What `hesse.hessian` would do. ``print(plan)`` shows it.

    Attributes:
        title: the cost, in a line.
        captured: whether there is a graph with slots.
        blocks: one entry for each block.
        operations: floating point operations of all contractions and the sweep.
        samples: how many samples there are.
        chunk: how many are worked on at once.
        result_bytes: size of the result.
        peak_bytes: the result and the intermediates alive at once, an estimate.
        notes: what fell back and why, and anything else worth knowing.
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
    by_columns: tuple[str, ...]
    column_budget: int = field(repr=False)
    capture: Captured | None = field(repr=False)
    sites: tuple[Site, ...] = field(repr=False)
    partners: dict[str, set[str]] = field(repr=False)
    contractions: dict[PairKey, Contraction] = field(repr=False)

    def strategy(self, first: str, second: str) -> str:
        """ "contraction", "columns" or "zero", for the block of two parameters in either order.

        Raises:
            HesseValueError: the block is not part of this plan.
        """
        for block in self.blocks:
            if set(block.names) == {first, second} and len(block.names) == 2:
                return block.strategy
        raise HesseValueError(f"the block ({first!r}, {second!r}) is not part of this plan")

    def __str__(self) -> str:
        rows = [
            (
                f"{b.names[0]} × {b.names[1]}",
                f"{b.shape[0]} × {b.shape[1]}",
                b.strategy,
                b.order,
                _count(b.operations),
                readable_bytes(b.intermediate),
            )
            for b in self._shown()
        ]
        head = ("block", "size", "strategy", "order", "operations", "intermediates")
        widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
        lines = [self.title, ""]
        for row in [head, *rows]:
            left = [cell.ljust(width) for cell, width in zip(row[:4], widths[:4], strict=True)]
            lines.append(
                "  ".join([*left, *(cell.rjust(width) for cell, width in zip(row[4:], widths[4:], strict=True))]).rstrip()
            )
        hidden = len(self.blocks) - len(rows)
        if hidden:
            lines.append(f"... and {hidden} smaller blocks")
        lines += [
            "",
            f"operations   {_count(self.operations)}, {_count(self.sweep_operations)} of them to carry signals down the graph",
        ]
        if self.captured:
            lines.append(f"samples      {self.samples} in chunks of {self.chunk}")
        lines.append(
            f"memory       {readable_bytes(self.peak_bytes)} at the peak, {readable_bytes(self.result_bytes)} of it the result"
        )
        for note in self.notes:
            lines += textwrap.wrap(note, 96, initial_indent="note         ", subsequent_indent=" " * 13, break_on_hyphens=False)
        return "\n".join(lines)

    def _shown(self) -> list[BlockPlan]:
        if len(self.blocks) <= 40:
            return list(self.blocks)
        largest = sorted(self.blocks, key=lambda b: -b.operations - math.prod(b.shape))[:40]
        return [block for block in self.blocks if block in largest]


def _count(operations: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if operations >= size:
            return f"{operations / size:.3g} {unit}FLOP"
    return f"{operations:.0f} FLOP"


@undisturbed()
def plan(cost: Cost, *, pairs: Iterable[NamePair] | None = None, block_diagonal: bool = False, memory: int | None = None) -> Plan:
    """What `hessian(cost)` with the same arguments would do: strategy and order per block, operations, memory, fallbacks.

    The structure is found by carrying the signals of one sample down the graph; nothing else is computed.

    Args:
        cost: the cost.
        pairs: blocks by name; by default all.
        block_diagonal: only the blocks of each parameter with itself.
        memory: bytes that the work may use beyond the result.

    Raises:
        HesseError: unknown names, both ``pairs`` and ``block_diagonal``, or a result that does not fit.

    Example:
        >>> import torch, hesse
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        >>> cost = hesse.Cost(model, "half_sse", (torch.ones(4, 2), torch.zeros(4, 1)))
        >>> hesse.plan(cost).strategy("0.weight", "2.weight")
        'contraction'
    """
    _check_cost(cost)
    wanted = wanted_blocks(cost, pairs, block_diagonal)
    itemsize = cost.dtype.itemsize
    whole = len(wanted) == len(cost.layout.names) * (len(cost.layout.names) + 1) // 2
    sizes = cost.layout.sizes
    result = itemsize * (cost.layout.size**2 if whole else sum(sizes[a] * sizes[b] for a, b in wanted))
    free = available_bytes(cost.device)
    if result > free:
        raise HesseMemoryError(
            f"the result has P = {cost.layout.size} and takes {readable_bytes(result)}, and {readable_bytes(free)} are free; "
            "use hesse.operator(cost) for products without building it, block_diagonal=True, or pairs= for chosen blocks"
        )
    default = min(max(_LEAST_WORKING, result), _SHARE * max(free - result, 0) + 1)
    return make_plan(cost, wanted, _check_memory(default if memory is None else memory), result)


def diagonal_plan(cost: Cost, memory: int | None) -> Plan:
    """The plan for `diagonal`: the pairs of slots of the block diagonal, nothing held for a result."""
    _check_cost(cost)
    default = _SHARE * min(available_bytes(cost.device), 2 * 10**9) + 1
    return make_plan(cost, wanted_blocks(cost, None, True), _check_memory(default if memory is None else memory), 0, join=False)


def _check_cost(cost: Any) -> None:
    if not isinstance(cost, Cost):
        raise HesseTypeError(
            f"cost: expected a hesse.Cost, got {type(cost).__name__}; make one with hesse.Cost(model, loss, data)"
        )


def _check_memory(memory: Any) -> int:
    if not isinstance(memory, int | float) or isinstance(memory, bool) or not memory > 0:
        raise HesseValueError(f"memory: expected a number of bytes > 0, got {memory!r}")
    return int(memory)


def wanted_blocks(cost: Cost, pairs: Iterable[NamePair] | None, block_diagonal: bool) -> tuple[NamePair, ...]:
    """The blocks asked for, each pair in layout order, without repeats."""
    names = cost.layout.names
    if block_diagonal:
        if pairs is not None:
            raise HesseValueError(
                "pairs and block_diagonal: give one of the two; block_diagonal=True is every parameter with itself"
            )
        return tuple((name, name) for name in names)
    if pairs is None:
        return tuple((a, b) for place, a in enumerate(names) for b in names[place:])
    chosen: dict[NamePair, None] = {}
    for pair in pairs:
        if isinstance(pair, str) or len(tuple(pair)) != 2:
            raise HesseTypeError(f"pairs: expected pairs of parameter names such as ('0.weight', '2.weight'), got {pair!r}")
        a, b = sorted(pair, key=cost.layout.index)
        chosen[a, b] = None
    if not chosen:
        raise HesseValueError("pairs: no pair was given")
    return tuple(chosen)


@dataclass(frozen=True)
class _Rehearsal:
    """What one sample's sweep shows: the sizes and structure of every pair, and how much is alive at once."""

    sizes: dict[PairKey, Sizes]
    entries: int
    operations: float


def make_plan(cost: Cost, wanted: tuple[NamePair, ...], budget: int, result: int, join: bool = True) -> Plan:
    """The plan for blocks already checked and a budget already set."""
    notes = list(cost.notes)
    captured: Captured | None = None
    refused: dict[str, str] = {}
    try:
        captured = capture(cost)
    except NotCaptured as reason:
        notes.append(f"no graph: {reason}; everything goes by columns")
        refused = dict.fromkeys(cost.layout.names, "no graph")
    sites, partners, keys, rehearsal = (), {}, {}, _Rehearsal({}, 0, 0.0)
    if captured is not None:
        refused = {**captured.refused, **_too_many_signals(cost, captured, budget)}
        notes += [f"{name} goes by columns: {reason}" for name, reason in refused.items()]
        sites, partners, keys = _sites_for(captured, wanted, refused, join)
        request = (wanted, tuple(refused), join)
        if request not in captured.rehearsals:
            captured.rehearsals[request] = _rehearse(cost, captured, sites, partners, keys)
        rehearsal = captured.rehearsals[request]
    contractions = {key: Contraction(keys[key], *choose(found, cost.samples), found) for key, found in rehearsal.sizes.items()}
    itemsize = cost.dtype.itemsize
    held = max([c.estimate.held for c in contractions.values()], default=0.0)
    fixed = itemsize * max([c.estimate.fixed for c in contractions.values()], default=0.0)
    per_sample = itemsize * (2 * rehearsal.entries + held)
    most = max(1, min(cost.samples, int((budget - fixed) / per_sample))) if per_sample else cost.samples
    chunk = -(-cost.samples // -(-cost.samples // most))  # as many chunks as it takes, of like size
    blocks = tuple(_block(cost, names, refused, contractions, chunk) for names in wanted)
    by_columns = tuple(name for name in cost.layout.names if name in refused and any(name in pair for pair in wanted))
    sweep_operations = rehearsal.operations * cost.samples
    return Plan(
        title=repr(cost),
        captured=captured is not None,
        blocks=blocks,
        operations=sum(block.operations for block in blocks) + sweep_operations,
        samples=cost.samples,
        chunk=chunk,
        result_bytes=result,
        peak_bytes=result + (budget if by_columns else fixed + chunk * per_sample),
        notes=tuple(notes),
        sweep_operations=sweep_operations,
        by_columns=by_columns,
        column_budget=budget,
        capture=captured,
        sites=sites,
        partners=partners,
        contractions=contractions,
    )


def _too_many_signals(cost: Cost, captured: Captured, budget: int) -> dict[str, str]:
    """Parameters whose sites have so many positions × outputs that their own S would cost more than columns."""
    activations = sum(node.size for node in captured.graph.nodes)
    refused = {}
    for site in captured.sites:
        names = {slot.parameter for slot in site.slots}
        entries, size = site.signals**2, sum(cost.layout.sizes[name] for name in names)
        if _COPIES_OF_S * entries * cost.dtype.itemsize > budget:
            reason = f"its S has {site.signals} × {site.signals} entries for each sample, more than the memory allows"
        elif _PASSES_OVER_S * entries > _PASSES_OF_A_PRODUCT * size * activations:
            reason = f"its {site.signals} tangents (positions × outputs) would cost more than {size} products"
        else:
            continue
        refused |= dict.fromkeys(names, reason)
    return refused


def _sites_for(
    captured: Captured, wanted: tuple[NamePair, ...], refused: dict[str, str], join: bool
) -> tuple[tuple[Site, ...], dict[str, set[str]], dict[PairKey, tuple[NamePair, ...]]]:
    """The sites that the wanted blocks need, whose S and D each needs, and the pairs of slots to contract with their blocks."""
    asked = {(a, b) for a, b in wanted if not refused.keys() & {a, b}}
    asked |= {(b, a) for a, b in asked}
    place = captured.graph.place
    named = {name for pair in asked for name in pair}
    sites = tuple(site for site in captured.sites if any(slot.parameter in named for slot in site.slots))
    sites = tuple(joined(site) for site in sites) if join else sites
    keys: dict[PairKey, tuple[NamePair, ...]] = {}
    partners: dict[str, set[str]] = {site.value: set() for site in sites}
    for left in sites:
        for right in (site for site in sites if place[left.value] <= place[site.value]):
            for x, first in enumerate(left.slots):
                for y, second in enumerate(right.slots):
                    blocks = tuple(
                        (a.parameter, b.parameter) for a in first.own for b in second.own if (a.parameter, b.parameter) in asked
                    )
                    if not blocks or (left is right and y < x):
                        continue
                    keys[(left.value, x), (right.value, y)] = blocks
                    if left is not right:
                        partners[left.value].add(right.value)
    return sites, partners, keys


def _rehearse(
    cost: Cost,
    captured: Captured,
    sites: tuple[Site, ...],
    partners: dict[str, set[str]],
    keys: dict[PairKey, tuple[NamePair, ...]],
) -> _Rehearsal:
    batch = next(iter(cost.batches()))
    assert batch is not None
    evaluation = Evaluation(captured.graph, sites, cost.fixed, cost.parameters)
    values = evaluation.run(data_leaves(batch.take(slice(0, 1))))
    kept = sum(values[name].numel() for name in evaluation.batched if isinstance(values.get(name), torch.Tensor))
    most, sizes, before = 0, {}, {}

    def observe(entries: int) -> None:
        nonlocal most
        most = max(most, entries)

    with FlopCounterMode(display=False) as counter:
        for arrival in Sweep(captured.graph, sites, partners, observe).arrivals(values, evaluation.batched, cost.scale):
            here: Passed = passed(arrival)
            sizes |= {key: pair.sizes for key, pair in pairs_at(arrival, here, before, set(keys))}
            before[arrival.site.value] = here
            kept += here.delta.numel() + sum(feature.numel() for feature in here.features)
    return _Rehearsal(sizes, most + kept, float(counter.get_total_flops()))


def _block(
    cost: Cost,
    names: NamePair,
    refused: dict[str, str],
    contractions: dict[PairKey, Contraction],
    chunk: int,
) -> BlockPlan:
    shape = (cost.layout.sizes[names[0]], cost.layout.sizes[names[1]])
    if refused.keys() & set(names):
        fewest = min(cost.layout.sizes[name] for name in names if name in refused)
        return BlockPlan(names, shape, "columns", f"{fewest} products", 0.0, 0.0)
    own = [c for c in contractions.values() if names in c.blocks or names[::-1] in c.blocks]
    if not own:
        return BlockPlan(names, shape, "zero", "no path", 0.0, 0.0)
    orders = {}
    for contraction in own:
        orders[contraction.order.name] = orders.get(contraction.order.name, 0) + 1
    text = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in orders.items())
    operations = sum(c.estimate.operations * _share(cost, names, c) for c in own) * cost.samples
    held = max(c.estimate.fixed + c.estimate.held * chunk for c in own) * cost.dtype.itemsize
    return BlockPlan(names, shape, "contraction", text, operations, held)


def _share(cost: Cost, names: NamePair, contraction: Contraction) -> float:
    """A block's part of a contraction that brings several, by size."""
    sizes = [cost.layout.sizes[a] * cost.layout.sizes[b] for a, b in contraction.blocks]
    return cost.layout.sizes[names[0]] * cost.layout.sizes[names[1]] / sum(sizes) if len(sizes) > 1 else 1.0
