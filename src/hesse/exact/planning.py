"""Making a plan: which strategy serves each block, by what a sweep of one sample shows."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from hesse.capture import Captured, NotCaptured, capture, data_leaves
from hesse.certificates.soundness import require_twice_differentiable
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.data.batch import Batch
from hesse.errors import (
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
    in_a_line,
    readable_bytes,
    require_flags,
)
from hesse.exact.backward_pass import BackwardPass
from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.pair import Sizes
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.fallback import Strategy, failures
from hesse.exact.plan import BlockPlan, NamePair, Plan, PlannedContraction, PlanPart
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.sweep import Sweep, active_values
from hesse.exact.rule_check import wrong_rule
from hesse.graph.sites import Site, joined
from hesse.process.circumstances import is_out_of_memory
from hesse.process.memory import available_bytes
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed

# Intermediates get as much as the result, but not less than 100 MB, which is little anywhere, and
# never more than a half of what is free: other processes take from that too.
_LEAST_WORKING = 100 * 10**6
_SHARE = 0.5
# How often the S of a site is passed over and held at once, and how often a Hessian-vector product
# passes over the activations, each as measured: they decide where a site is worth its S.
_PASSES_OVER_S = 6
_COPIES_OF_S = 4
_PASSES_OF_A_PRODUCT = 20
# While a node is taken, what it held and what that is pulled back to are alive at once; the dry run
# counts what stands between two nodes.
_COPIES_IN_A_SWEEP = 2
# Every shape of a batch takes a graph of its own, and an export of its own; beyond so many shapes
# batches go by columns.
_MOST_SHAPES = 16
# Where a capture keeps what the check of its rules gave, and on how many samples they are tried:
# more than one, for rules fail where samples are side by side.
_RULE_CHECK, _SAMPLES_TRIED = "trial", 3


@undisturbed()
@quiet()
def plan(
    cost: Cost,
    *,
    pairs: Iterable[NamePair] | None = None,
    block_diagonal: bool = False,
    curvature: str | Curvature = "hessian",
    memory: int | None = None,
) -> Plan:
    """What `hessian(cost)` with the same arguments would do: strategy and order per block,
    operations, memory, fallbacks.

    The structure is found by carrying one sample down the graph; nothing else is computed.

    Args:
        cost: the cost.
        pairs: blocks by name; by default all.
        block_diagonal: only the blocks of each parameter with itself.
        curvature: what of the second derivatives: ``"hessian"``, all of them, or another
            `Curvature`.
        memory: bytes that the work may use beyond the result.

    Raises:
        HesseError: unknown names, both ``pairs`` and ``block_diagonal``, a result that does not
            fit, or a cost that PyTorch cannot differentiate twice.

    Example:
        >>> import torch, hesse
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(),
        ...     torch.nn.Linear(3, 1))
        >>> cost = hesse.Cost(model, "half_sse", (torch.ones(4, 2), torch.zeros(4, 1)))
        >>> hesse.plan(cost).strategy("0.weight", "2.weight")
        'contraction'
    """
    cost = cost_with_curvature(cost, curvature)
    wanted = wanted_blocks(cost, pairs, block_diagonal)
    itemsize = cost.dtype.itemsize
    whole = len(wanted) == len(cost.layout.names) * (len(cost.layout.names) + 1) // 2
    sizes = cost.layout.sizes
    result = itemsize * (
        cost.layout.size**2 if whole else sum(sizes[a] * sizes[b] for a, b in wanted)
    )
    free = available_bytes(cost.device)
    if result > free:
        raise HesseMemoryError(
            f"the result has P = {cost.layout.size} and takes {readable_bytes(result)}, and"
            f" {readable_bytes(free)} are free; use hesse.operator(cost) for products without"
            " building it, block_diagonal=True, or pairs= for chosen blocks"
        )
    default = min(max(_LEAST_WORKING, result), _SHARE * max(free - result, 0) + 1)
    return make_plan(cost, wanted, _check_memory(default if memory is None else memory), result)


def diagonal_plan(cost: Cost, memory: int | None) -> Plan:
    """The plan for `diagonal`: the pairs of uses of the block diagonal, nothing held for a
    result."""
    default = _SHARE * min(available_bytes(cost.device), 2 * 10**9) + 1
    budget = _check_memory(default if memory is None else memory)
    return make_plan(cost, wanted_blocks(cost, None, True), budget, 0, only_diagonal=True)


def _check_memory(memory: Any) -> int:
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
        a, b = sorted(pair, key=cost.layout.index)
        chosen[a, b] = None
    if not chosen:
        raise HesseValueError("pairs: no pair was given")
    return tuple(chosen)


@dataclass(frozen=True)
class _DryRun:
    """What the way of one sample down the graph shows.

    Attributes:
        sizes: of every pair, with the forms of its S and D.
        entries: how many numbers are alive at once.
        operations: of the sweep.
    """

    sizes: dict[PairKey, Sizes]
    entries: int
    operations: float


@dataclass(frozen=True)
class _CannotSweep:
    """Why nothing can be carried down a graph; kept with the capture, so that it is tried once."""

    reason: str


def make_plan(
    cost: Cost, wanted: tuple[NamePair, ...], budget: int, result: int, only_diagonal: bool = False
) -> Plan:
    """The plan for blocks already checked and a budget already set."""
    verdict = require_twice_differentiable(cost)
    notes = [*cost.notes, *verdict.notes, *([verdict.objection] if verdict.objection else [])]
    parts, blocks, most, sweep_operations = [], [], 0.0, 0.0
    for place, (signature, samples) in enumerate((cost.signatures or {None: 1}).items()):
        planned = _PartPlanner(
            cost, wanted, budget, signature, samples, only_diagonal, place >= _MOST_SHAPES
        )
        notes += planned.notes
        parts.append(planned.part)
        blocks.append([planned.block(names) for names in wanted])
        # The parts are worked on one after another: their bytes are not held at once.
        most, sweep_operations = max(most, planned.bytes), sweep_operations + planned.operations
    merged = tuple(_merged(same) for same in zip(*blocks, strict=True))
    return Plan(
        title=repr(cost),
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
    )


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


class _PartPlanner:
    """Plans what is done with the samples of one signature."""

    def __init__(
        self,
        cost: Cost,
        wanted: tuple[NamePair, ...],
        budget: int,
        signature: Hashable,
        samples: int,
        only_diagonal: bool,
        too_many_shapes: bool,
    ) -> None:
        self._cost, names = cost, cost.layout.names
        self.notes: list[str] = []
        failed = failures(cost)
        captured, fallbacks = None, dict.fromkeys(names, "no graph")
        backward_pass, keys, dry_run = None, {}, _DryRun({}, 0, 0.0)
        try:
            if too_many_shapes:
                raise NotCaptured(
                    f"batches of {_MOST_SHAPES} other shapes were traced, and every shape takes a"
                    " trace of its own"
                )
            captured = capture(cost, signature)
            fallbacks = {name: failed[name].text for name in names if name in failed}
            fallbacks = {
                **captured.fallbacks,
                **_too_many_outputs(cost, captured, budget),
                **fallbacks,
            }
            sites, partners, keys = _sites_for(captured, wanted, fallbacks, not only_diagonal)
            request = (wanted, tuple(fallbacks), cost.curvature, only_diagonal)
            backward_pass, dry_run = _sweep_and_dry_run(
                cost, captured, signature, request, sites, partners, set(keys), only_diagonal
            )
            self.notes += [
                f"{name} goes by columns: {reason}" for name, reason in fallbacks.items()
            ]
        except NotCaptured as reason:
            captured, fallbacks = None, dict.fromkeys(names, "no graph")
            self.notes.append(f"no graph: {reason}; everything goes by columns")
            self.notes += [f"{name}: {failed[name].text}" for name in names if name in failed]
        self._fallbacks = fallbacks
        contractions = {
            key: PlannedContraction(keys[key], *choose(sizes, samples), sizes)
            for key, sizes in dry_run.sizes.items()
        }
        itemsize = cost.dtype.itemsize
        held = max([c.estimate.held for c in contractions.values()], default=0.0)
        fixed = itemsize * max([c.estimate.fixed for c in contractions.values()], default=0.0)
        per_sample = itemsize * (_COPIES_IN_A_SWEEP * dry_run.entries + held)
        most = max(1, min(samples, int((budget - fixed) / per_sample))) if per_sample else samples
        # As many chunks as it takes, of like size.
        chunk = -(-samples // -(-samples // most))
        by_columns = tuple(
            name for name in names if name in fallbacks and any(name in pair for pair in wanted)
        )
        self.part = PlanPart(
            signature,
            samples,
            chunk,
            captured,
            backward_pass,
            contractions,
            by_columns,
            frozenset(
                name
                for name in by_columns
                if name in failed and failed[name].strategy == Strategy.COLUMNS
            ),
        )
        self.operations = dry_run.operations * samples
        self.bytes = budget if by_columns else fixed + chunk * per_sample

    def block(self, names: NamePair) -> BlockPlan:
        """What this part's samples add to a block."""
        sizes, contractions = self._cost.layout.sizes, self.part.contractions
        shape = (sizes[names[0]], sizes[names[1]])
        if self._fallbacks.keys() & set(names):
            fewest = min(sizes[name] for name in names if name in self._fallbacks)
            singly = " one by one" if self.part.singly.intersection(names) else ""
            return BlockPlan(names, shape, "columns", f"{fewest} products{singly}", 0.0, 0.0)
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
            max(c.estimate.fixed + c.estimate.held * self.part.chunk for c in bringing)
            * self._cost.dtype.itemsize
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


def _sweep_and_dry_run(
    cost: Cost,
    captured: Captured,
    signature: Hashable,
    request: Hashable,
    sites: tuple[Site, ...],
    partners: dict[str, set[str]],
    wanted: set[PairKey],
    only_diagonal: bool,
) -> tuple[BackwardPass, _DryRun]:
    """The backward pass, and what one sample shows of it; the sweep is made and tried once for each
    request.

    Raises:
        NotCaptured: an operation cannot be carried down.
    """
    known: tuple[Sweep, _DryRun] | _CannotSweep | None = captured.dry_runs.get(request)
    if known is None:
        batch = next(
            batch for batch in cost.batches() if batch is not None and batch.signature == signature
        )
        try:
            known = _failed_rule_check(cost, captured, batch)
            if known is None:
                sweep = Sweep(
                    captured.graph,
                    sites,
                    partners,
                    cost.curvature.straight(captured.graph),
                    only_diagonal,
                )
                known = (
                    sweep,
                    _dry_run_of(BackwardPass(sweep, captured.graph, sites, wanted, cost), batch),
                )
        # Of an operation on values that it cannot be differentiated at, or of a kind of its own.
        # Too little memory is no property of the graph: the user hears of it.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            known = _CannotSweep(
                f"its signals cannot be carried down the graph: {in_a_line(error)}"
            )
        captured.dry_runs[request] = known
    if isinstance(known, _CannotSweep):
        raise NotCaptured(known.reason)
    sweep, dry_run = known
    return BackwardPass(sweep, captured.graph, sites, wanted, cost), dry_run


def _dry_run_of(backward_pass: BackwardPass, batch: Batch) -> _DryRun:
    with FlopCounterMode(display=False) as counter:
        sizes, entries = backward_pass.dry_run(batch.take(slice(0, 1)))
    return _DryRun(sizes, entries, float(counter.get_total_flops()))


def _failed_rule_check(cost: Cost, captured: Captured, batch: Batch) -> _CannotSweep | None:
    """Why nothing is to be carried down the graph: a rule that is wrong; ``None`` where all are
    right. Checked once for a capture."""
    if _RULE_CHECK not in captured.dry_runs:
        evaluation = ChunkEvaluation(captured.graph, captured.sites, cost.fixed, cost.parameters)
        values = evaluation.run(data_leaves(batch.take(slice(0, _SAMPLES_TRIED))))
        wrong = wrong_rule(evaluation, values, active_values(captured.graph, captured.sites))
        captured.dry_runs[_RULE_CHECK] = (
            _CannotSweep(f"{wrong} for several samples side by side are wrong") if wrong else None
        )
    return captured.dry_runs[_RULE_CHECK]


def _share(cost: Cost, names: NamePair, contraction: PlannedContraction) -> float:
    """A block's part of a contraction that brings several, by size."""
    sizes = [cost.layout.sizes[a] * cost.layout.sizes[b] for a, b in contraction.blocks]
    return (
        cost.layout.sizes[names[0]] * cost.layout.sizes[names[1]] / sum(sizes)
        if len(sizes) > 1
        else 1.0
    )
