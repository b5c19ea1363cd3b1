"""`hessian`: run the plan and put the blocks together."""

import time
from collections import Counter
from collections.abc import Iterable
from os import PathLike

from torch import Tensor

from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.distributed.group import processes, summed, together
from hesse.distributed.shares import share_of
from hesse.errors import (
    HesseMemoryError,
    require_flags,
    require_progress,
)
from hesse.exact.acceptance import accepted
from hesse.exact.assemble import Storage, Target
from hesse.exact.columns import penalty_rows, rows_asked
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.execution import pairs_by_chunk, provenance_of, rows_by_batch, steps
from hesse.exact.fallback import error_of, fall_back
from hesse.exact.plan import NamePair, Plan, PlanPart
from hesse.exact.planning import plan_of, wanted_blocks
from hesse.matrix.block_hessian import BlockHessian
from hesse.process.circumstances import is_of_strategy
from hesse.process.memory import enough_memory
from hesse.process.progress import Progress
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed
from hesse.store.on_disk import hessian_on_disk
from hesse.words import CurvatureName


@enough_memory()
@undisturbed()
@quiet()
def hessian(
    cost: Cost,
    *,
    pairs: Iterable[NamePair] | None = None,
    block_diagonal: bool = False,
    curvature: CurvatureName | str | Curvature = "hessian",
    memory: int | None = None,
    certify: bool = True,
    progress: bool | None = None,
    out: str | PathLike[str] | None = None,
) -> BlockHessian:
    """The exact Hessian ∂²J/∂θ², by blocks H[a, b] = ∂²J/∂a∂b.

    Args:
        cost: the cost.
        pairs: the blocks to compute, as pairs of parameter names; by default all.
        block_diagonal: only the blocks of each parameter with itself.
        curvature: what of the second derivatives: ``"hessian"``, all of them; ``"gauss_newton"``;
            ``"functional"``, what the first has beside the second; or another `Curvature`.
        memory: bytes that the work may use beyond the result; by default as much as the result
            takes, within what is free. Samples are worked on in chunks that fit.
        certify: hold the result against double backward of the function as given, on all the data
            (see `H.certificate`), which takes up to 15 % of the time, or some six gradients. What
            is wrong is computed again in a slower way.
        progress: show a progress bar; by default where the work takes more than two seconds and a
            terminal is watching.
        out: a folder, such as ``"h.zarr"``, to compute into: a zarr store, whatever P is, in tiles
            that fit into ``memory``. Where it is there already, the same call goes on where the
            last one stopped. The Hessian then reads from it what is asked for.

    Returns:
        The blocks, exactly symmetric, in the dtype of the parameters (float32 for narrower ones)
        and on their device.

    Raises:
        HesseError: names that are not parameters, a result that does not fit into memory (use
            `hesse.operator`), or a cost whose second derivatives no way of computing them agrees
            on, or that PyTorch gets wrong.

    Source: for dense layers the recursion of Bishop (1992), "Exact calculation of the Hessian
    matrix for the multilayer perceptron"; here for any graph of known operations, and contracted by
    matrix products.

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> hesse.hessian(cost).dense()  # XᵀX
        tensor([[10., 14.],
                [14., 20.]])
    """
    cost = cost_with_curvature(cost, curvature).curved
    require_flags(certify=certify)
    require_progress(progress)
    if out is not None:
        wanted = wanted_blocks(cost, pairs, block_diagonal)
        return hessian_on_disk(cost, wanted, out, memory, certify, progress)
    while True:
        planned = together("a plan", lambda: _planned(cost, pairs, block_diagonal, memory))
        start = time.perf_counter()
        try:
            matrix, blocks = _computed(share_of(cost), planned, progress)
        except Exception as error:
            if not is_of_strategy(error):
                raise
            fall_back(cost, error_of(cost, error), planned.by_columns, "Hessian")
            continue
        seconds = time.perf_counter() - start
        H = BlockHessian(
            cost.layout,
            matrix=matrix,
            blocks=blocks,
            provenance=provenance_of(cost, planned, seconds),
        )
        H, wrong = accepted(cost, planned, H, seconds, certify)
        if not wrong:
            return H


def _planned(
    cost: Cost, pairs: Iterable[NamePair] | None, block_diagonal: bool, memory: int | None
) -> Plan:
    planned = plan_of(cost, pairs, block_diagonal, memory)
    if planned.too_large:
        raise HesseMemoryError(planned.too_large)
    return planned


def _computed(
    cost: Cost, planned: Plan, progress: bool | None
) -> tuple[Tensor | None, dict[NamePair, Tensor] | None]:
    """The matrix or the blocks, of what this process has of the data and then of all."""
    storage = Storage(cost, [block.names for block in planned.blocks])

    def sums() -> list[Tensor]:
        _sum(cost, planned, storage, progress)
        return storage.sums

    summed("a Hessian", sums)
    if processes() > 1:  # sums over ranks are, in the two halves, equal to rounding only
        storage.rounded.update(cost.layout.names)
    return storage.finished()


def _sum(cost: Cost, planned: Plan, storage: Storage, progress: bool | None) -> None:
    """Add up what the samples bring."""
    with Progress("hessian", steps(cost, planned) / processes(), progress) as bar:
        # A block that one contraction alone brings, in all parts, may be written in place.
        brought = [
            {frozenset(names) for names in c.blocks}
            for part in planned.parts
            for c in part.contractions.values()
        ]
        bringing = Counter(names for each in brought for names in each)
        for target in [
            target
            for part in planned.parts
            for target in _contract(cost, part, storage, bringing, bar)
        ]:
            target.finish()
        for part in planned.parts:
            for name, entries, products in rows_by_batch(cost, part, bar):
                storage.add_rows(name, entries, products)
    _penalty(cost, storage)


def _contract(
    cost: Cost, part: PlanPart, storage: Storage, bringing: Counter[frozenset[str]], bar: Progress
) -> list[Target]:
    """The pairs of uses of a part, each contracted; ``bringing`` counts what brings each block, in
    all parts."""
    targets: dict[PairKey, Target] = {}
    for key, pair in pairs_by_chunk(cost, part, bar):
        if key not in targets:
            alone = all(bringing[frozenset(names)] == 1 for names in part.contractions[key].blocks)
            targets[key] = Target(storage, pair, part.contractions[key], alone)
        targets[key].add(pair)
    return list(targets.values())


def _penalty(cost: Cost, storage: Storage) -> None:
    if cost.curved_penalty is None:
        return
    if isinstance(cost.curved_penalty, float):
        for name in cost.layout.names:
            if storage.has(name, name):
                storage.block(name, name).diagonal().add_(cost.curved_penalty)
        return
    for name, entries, products in penalty_rows(
        cost, rows_asked(cost.layout.names, storage.wanted)
    ):
        storage.add_rows(name, entries, products)
