"""Making a plan: what is asked for, and the plans of the samples of each signature as one."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from os import PathLike
from typing import Any, final

from hesse.certificates.soundness import require_twice_differentiable
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.distributed.spread import ALONE, Spread
from hesse.errors import HesseTypeError, HesseValueError, readable_bytes, require_flags
from hesse.exact.contraction.diagonal_entries import add_entries
from hesse.exact.contraction.pair import Pair
from hesse.exact.panel import Panel, bringing_order, panels_of
from hesse.exact.part_plan import planned_part
from hesse.exact.plan import BlockPlan, NamePair, OnDisk, Plan
from hesse.process.files import free_bytes
from hesse.process.memory import available_bytes, enough_memory
from hesse.process.price import Price
from hesse.process.quiet import quiet
from hesse.process.rates import writing_rate
from hesse.process.undisturbed import undisturbed
from hesse.products.slabs import slab_bytes
from hesse.store.place import require_store_place
from hesse.store.tiling import Tiling
from hesse.words import CurvatureName

# Intermediates get as much as the result, but not less than 250 MB, which is little anywhere, nor
# than some slabs, for a GPU that is given less at once waits; and never more than a half of what is
# free: other processes take from that too.
_LEAST_WORKING, _SLABS = 250 * 10**6, 4
_SHARE = 0.5
# A result that takes more than this of what is free is said to. One of so few bytes is not worth
# asking what is free, which takes longer than a small Hessian's planning.
_MUCH, _LITTLE = 0.5, 4 * 10**6
# How often the result is passed over besides, to be cleared and mirrored; and what is started
# around the work.
_PASSES_OVER_RESULT, _CALLS_AROUND = 4, 40
# For tiles: enough to be fast. A quarter is for the panel that is summed, as much for the one that
# is written meanwhile, for the way down, and for its signals, which are kept where they fit.
_ENOUGH_FOR_TILES, _SHARE_OF_A_PANEL = 3 * 10**9, 0.25
# A panel has so many tiles at least, so that they can be asked for one by one.
_TILES_OF_A_PANEL = 4
# And each of several processes computes so many of them.
_TURNS = 8
# So far beyond a budget is within it.
_NEARLY = 1.1
# Every shape of a batch takes a graph of its own, and an export of its own; beyond so many shapes
# batches go by columns.
MOST_SHAPES = 16
TOO_MANY_SHAPES = (
    f"batches of {MOST_SHAPES} other shapes were traced, and every shape takes a trace of its own"
)


@enough_memory()
@undisturbed()
@quiet()
def plan(
    cost: Cost,
    *,
    pairs: Iterable[NamePair] | None = None,
    block_diagonal: bool = False,
    diagonal: bool = False,
    curvature: CurvatureName | str | Curvature = "hessian",
    memory: int | None = None,
    out: str | PathLike[str] | None = None,
    processes: int = 1,
    nodes: int = 1,
) -> Plan:
    """What `hessian(cost)` with the same arguments would do, or `diagonal(cost)`: strategy and
    order per block, operations, time, memory, fallbacks.

    The structure is found by carrying a few samples' shapes down the graph, which computes nothing
    and takes no memory. The first plan for a model also traces it, holds the trace and the
    derivatives of each operation against the function as given on a few samples, and asks
    differences of gradients, on up to 32, whether PyTorch can differentiate it twice. A result that
    does not fit is planned as well, and the plan says so (`Plan.too_large`).

    Args:
        cost: the cost.
        pairs: blocks by name; by default all.
        block_diagonal: only the blocks of each parameter with itself.
        diagonal: what `hesse.diagonal` would do.
        curvature: what of the second derivatives: ``"hessian"``, all of them; ``"gauss_newton"``;
            ``"functional"``, what the first has beside the second; or another `Curvature`.
        memory: bytes that the work may use beyond the result.
        out: where `hessian` would compute into a store: what that takes on the disk, which is tried
            out once.
        processes: on each machine, as of ``torchrun --nproc-per-node``: the processes of a machine
            share its cores and its memory, or have a GPU like this one each.
        nodes: machines like this one.

    Raises:
        HesseError: unknown names, more than one of ``pairs``, ``block_diagonal`` and ``diagonal``,
            or a cost that PyTorch cannot differentiate twice.

    Examples:
        >>> import torch, hesse
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 300), torch.nn.Tanh(),
        ...     torch.nn.Linear(300, 1))
        >>> cost = hesse.Cost(model, "half_sse", (torch.ones(4, 2), torch.zeros(4, 1)))
        >>> hesse.plan(cost).strategy("0.weight", "2.weight")
        'contraction'
    """
    cost = cost_with_curvature(cost, curvature).curved
    require_flags(diagonal=diagonal)
    spread = Spread.of(processes, nodes)
    if diagonal and out is not None:
        raise HesseValueError("diagonal and out: the diagonal alone is not computed into a store")
    if diagonal and (block_diagonal or pairs is not None):
        raise HesseValueError(
            "diagonal, pairs and block_diagonal: give one of them; diagonal=True is the diagonal"
            " alone, without any block"
        )
    if diagonal:
        return _spread(cost, diagonal_plan(cost, memory), spread)
    if out is not None:
        wanted = wanted_blocks(cost, pairs, block_diagonal)
        return _spread(cost, TiledWork(cost, wanted, memory, spread=spread).plan_at(out), spread)
    return _spread(cost, plan_of(cost, pairs, block_diagonal, memory), spread)


def _spread(cost: Cost, planned: Plan, spread: Spread) -> Plan:
    """A plan for many processes."""
    stored = 0 if planned.on_disk is None else planned.on_disk.bytes
    network = spread.network(cost.layout.size, cost.dtype.itemsize, planned.result_bytes, stored)
    return replace(planned, spread=spread, network=network)


def plan_of(
    cost: Cost, pairs: Iterable[NamePair] | None, block_diagonal: bool, memory: int | None
) -> Plan:
    """The same within `hessian`."""
    wanted = wanted_blocks(cost, pairs, block_diagonal)
    whole = len(wanted) == len(cost.layout.names) * (len(cost.layout.names) + 1) // 2
    result = cost.dtype.itemsize * cost.layout.size**2 if whole else _bytes(cost, wanted)
    least = max(_LEAST_WORKING, _SLABS * slab_bytes(cost.device))
    little = result <= _LITTLE and least == _LEAST_WORKING
    free = math.inf if little else available_bytes(cost.device)
    default = min(max(least, result), _SHARE * max(free - result, 2 * _LEAST_WORKING))
    budget = check_memory(_in_steps(default) if memory is None else memory)
    planned = make_plan(cost, wanted, budget, result, memory is None)
    if result <= _MUCH * free:
        return planned
    fewer = "fewer pairs" if pairs is not None else "pairs= for chosen blocks"
    if pairs is None and not block_diagonal:
        fewer = f"block_diagonal=True, or {fewer}"
    sizes = (
        f"the result has P = {cost.layout.size} and takes {readable_bytes(result)}, and"
        f" {readable_bytes(free)} are free"
    )
    advice = f"use hesse.operator(cost) for products without building it, {fewer}"
    if result > free:
        return replace(planned, too_large=f"{sizes}; {advice}")
    return replace(
        planned, notes=(*planned.notes, f"{sizes}: more than half of them; else {advice}")
    )


def diagonal_plan(cost: Cost, memory: int | None) -> Plan:
    """The plan for `diagonal`: the pairs of uses of the block diagonal, nothing held for a
    result."""
    wanted = wanted_blocks(cost, None, True)
    free, result = available_bytes(cost.device), _bytes(cost, wanted)
    # As much as `hessian` of the same blocks takes, where they fit: it must not have better ways.
    most = max(2 * 10**9, 2 * result if result <= _MUCH * free else 0)
    default = _SHARE * min(free, most) + 1
    budget = check_memory(_in_steps(default) if memory is None else memory)
    return make_plan(cost, wanted, budget, 0, memory is None, only_diagonal=True)


def _in_steps(budget: float) -> int:
    """A budget that nobody asked for, rounded down to four binary digits: its plan is found again
    though a little more or less is free."""
    count = int(budget)
    step = 2 ** max(0, count.bit_length() - 4)
    return count // step * step


def _bytes(cost: Cost, wanted: Iterable[NamePair]) -> int:
    """What some blocks take."""
    sizes = cost.layout.sizes
    return cost.dtype.itemsize * sum(sizes[a] * sizes[b] for a, b in wanted)


def check_memory(memory: Any) -> int:
    if not isinstance(memory, int | float) or isinstance(memory, bool):
        raise HesseTypeError(f"memory: expected a number of bytes, got {type(memory).__name__}")
    if not 1 <= memory < math.inf:
        raise HesseValueError(f"memory: expected a number of bytes > 0, got {memory!r}")
    return int(memory)


def wanted_blocks(
    cost: Cost, pairs: Iterable[NamePair] | None, block_diagonal: bool
) -> tuple[NamePair, ...]:
    """The blocks asked for, each pair in layout order, without repeats."""
    names = cost.layout.names
    require_flags(block_diagonal=block_diagonal)
    if block_diagonal:
        if pairs is not None:
            raise HesseValueError(
                "pairs and block_diagonal: give one of the two; block_diagonal=True is every"
                " parameter with itself"
            )
        return tuple((name, name) for name in names)
    if pairs is None:
        return tuple((a, b) for place, a in enumerate(names) for b in names[place:])
    chosen: dict[NamePair, None] = {}
    if not isinstance(pairs, Iterable):
        raise HesseTypeError(
            "pairs: expected pairs of parameter names such as ('0.weight', '2.weight'), got"
            f" {type(pairs).__name__}"
        )
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise HesseTypeError(
                "pairs: expected pairs of parameter names such as ('0.weight', '2.weight'), got"
                f" {pair!r}"
            )
        first, second = (cost.layout.matching(name, "pairs").names for name in pair)
        for a, b in product(first, second):
            chosen[min(a, b, key=names.index), max(a, b, key=names.index)] = None
    if not chosen:
        raise HesseValueError("pairs: no pair was given")
    return tuple(chosen)


def make_plan(
    cost: Cost,
    wanted: tuple[NamePair, ...],
    budget: int,
    result: int,
    roomy: bool,
    only_diagonal: bool = False,
    tiled: bool = False,
) -> Plan:
    """The plan for blocks already checked and a budget already set; one that nobody asked for is
    roomy; tiled, some rows of the blocks are made at a time."""
    verdict = require_twice_differentiable(cost)
    notes = [*cost.notes, *verdict.notes, *([verdict.objection] if verdict.objection else [])]
    use = partial(_add_to_zeros, cost) if only_diagonal else None
    kinds: dict[str, dict[str, None]] = {}
    parts, blocks, most, sweep_operations, price = [], [], 0.0, 0.0, Price()
    way, kept = Price(), 0.0
    for place, (signature, samples) in enumerate((cost.signatures or {None: 1}).items()):
        not_traced = TOO_MANY_SHAPES if place >= MOST_SHAPES else ""
        planned = planned_part(
            cost, wanted, budget, signature, samples, use, not_traced, roomy, tiled
        )
        notes += planned.notes
        parts.append(planned.part)
        blocks.append(planned.blocks)
        for name, found in planned.kinds.items():
            kinds.setdefault(name, {}).update(dict.fromkeys(found))
        # The parts are worked on one after another: their bytes are not held at once.
        price, way, kept = price + planned.price, way + planned.way_price, kept + planned.kept
        most, sweep_operations = max(most, planned.bytes), sweep_operations + planned.operations
    if most > budget * _NEARLY:
        notes.append(
            f"the work takes {readable_bytes(most)} beyond the result, of {readable_bytes(budget)}"
            " to work in: it is not cut into smaller pieces than one sample, or a whole batch by"
            " columns where samples are not known to be independent"
        )
    several = len(parts) > 1
    merged = tuple(map(_merged, zip(*blocks, strict=True))) if several else blocks[0]
    return Plan(
        title=str(cost),
        captured=all(part.capture is not None for part in parts),
        blocks=merged,
        operations=sum(block.operations for block in merged) + sweep_operations,
        samples=cost.samples,
        chunk=max(part.chunk for part in parts),
        result_bytes=result,
        peak_bytes=result + most,
        notes=tuple(dict.fromkeys(notes)),
        sweep_operations=sweep_operations,
        column_budget=budget,
        parts=tuple(parts),
        kinds={name: tuple(found) for name, found in kinds.items()},
        price=price + Price(moved=_PASSES_OVER_RESULT * result, calls=_CALLS_AROUND),
        form=(cost.dtype, cost.device),
        way=way,
        kept=kept,
    )


@final
class TiledWork:
    """How a Hessian is computed in tiles, of which no more than some panels are in memory.

    Args:
        cost: the cost.
        wanted: its blocks.
        memory: bytes to work in.
        tiling: the tiles, where they are known already.
        spread: over how many processes, where others than are here.

    Attributes:
        memory: bytes to work in.
        share: bytes of a panel, and for the signals to be kept in.
        tiling: the tiles.
    """

    def __init__(
        self,
        cost: Cost,
        wanted: tuple[NamePair, ...],
        memory: int | None,
        tiling: Tiling | None = None,
        spread: Spread = ALONE,
    ) -> None:
        self._cost, self._wanted, self._spread = cost, wanted, spread
        free = available_bytes(cost.device) / (
            1 if cost.device.type == "cuda" else spread.processes
        )
        default = max(1.0, min(_ENOUGH_FOR_TILES, _SHARE * free))
        self.memory = check_memory(default if memory is None else memory)
        self.share = max(1, int(_SHARE_OF_A_PANEL * self.memory))
        self._most = self.share // cost.dtype.itemsize
        most = max(1, self._most // _TILES_OF_A_PANEL)
        self.tiling = tiling or Tiling.of(cost.layout, wanted, most)

    @property
    def bytes(self) -> int:
        """What all tiles take."""
        return self.tiling.entries * self._cost.dtype.itemsize

    @property
    def plan(self) -> Plan:
        """The plan; anew each time, as strategies may have failed meanwhile."""
        return make_plan(self._cost, self._wanted, self.share, 0, False, tiled=True)

    def panels(self, planned: Plan, processes: int = 1) -> list[Panel]:
        """What is computed together, in order; by several processes in so many panels that they
        have about as much to do, unless every panel carries signals down again."""
        most = self._most
        if processes > 1 and planned.kept <= self.share:
            most = min(most, max(1, self.tiling.entries // (_TURNS * processes)))
        return panels_of(self.tiling, bringing_order(self._cost, planned), most)

    def plan_at(self, path: Any) -> Plan:
        """The plan with what it takes at a place on a disk.

        Raises:
            HesseFileError: there is no such folder, or no store can be begun there.
        """
        folder = require_store_place(path, "out").absolute().parent
        free, planned = free_bytes(folder, "out"), self.plan
        panels, size = len(self.panels(planned, self._spread.size)), self.bytes
        # Signals that are not kept are carried down for every panel.
        again = planned.way * (panels - 1) if planned.kept > self.share else Price()
        panel = min(size, self.share)
        too_large = (
            f"it takes {readable_bytes(size)}, and {readable_bytes(free)} are free on the disk"
            if size > free
            else ""
        )
        return replace(
            planned,
            price=planned.price + again,
            peak_bytes=planned.peak_bytes + 2 * panel + min(planned.kept, self.share),
            too_large=too_large,
            on_disk=OnDisk(size, self.tiling.count, panels, free, writing_rate(folder)),
        )


def _add_to_zeros(cost: Cost, pair: Pair) -> None:
    """What `diagonal` does with a pair of uses."""
    add_entries(pair, pair.delta.new_zeros(cost.layout.sizes[pair.left.parameter]))


def _merged(same: tuple[BlockPlan, ...]) -> BlockPlan:
    """One block's plan out of those of all parts."""
    strategy = next(
        name
        for name in ("columns", "contraction", "zero")
        if any(block.strategy == name for block in same)
    )
    order = ", ".join(dict.fromkeys(block.order for block in same if block.strategy == strategy))
    operations, most = (
        sum(block.operations for block in same),
        max(block.intermediate for block in same),
    )
    return BlockPlan(same[0].names, same[0].shape, strategy, order, operations, most)
