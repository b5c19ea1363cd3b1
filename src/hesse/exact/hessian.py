"""`hessian`: run the plan and put the blocks together."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.exact.assemble import Storage, Target
from hesse.exact.block_hessian import BlockHessian
from hesse.exact.columns import column_width, penalty_rows
from hesse.exact.execution import pairs_by_chunk, rows_by_batch, steps
from hesse.exact.plan import NamePair, Plan, plan
from hesse.exact.signals import PairKey
from hesse.progress import Progress
from hesse.undisturbed import undisturbed


@undisturbed()
def hessian(
    cost: Cost,
    *,
    pairs: Iterable[NamePair] | None = None,
    block_diagonal: bool = False,
    memory: int | None = None,
    progress: bool | None = None,
) -> BlockHessian:
    """The exact Hessian ∂²J/∂θ², by blocks H[a, b] = ∂²J/∂a∂b.

    Args:
        cost: the cost.
        pairs: the blocks to compute, as pairs of parameter names; by default all.
        block_diagonal: only the blocks of each parameter with itself.
        memory: bytes that the work may use beyond the result; by default as much as the result takes, within what is free.
            Samples are worked on in chunks that fit.
        progress: show a progress bar; by default where the work takes more than two seconds and a terminal is watching.

    Returns:
        The blocks, exactly symmetric, in the dtype of the parameters (float32 for narrower ones) and on their device.

    Raises:
        HesseError: names that are not parameters, or a result that does not fit into memory (use `hesse.operator`).

    Source: for dense layers the recursion of Bishop (1992), "Exact calculation of the Hessian matrix for the multilayer
    perceptron"; here for any graph of known operations, and contracted by matrix products.

    Example:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> hesse.hessian(cost).dense()  # XᵀX
        tensor([[10., 14.],
                [14., 20.]])
    """
    made = plan(cost, pairs=pairs, block_diagonal=block_diagonal, memory=memory)
    start = time.perf_counter()
    storage = Storage(cost, [block.names for block in made.blocks])
    with Progress("hessian", steps(cost, made), progress) as bar:
        _contract(cost, made, storage, bar)
        if made.by_columns:
            _columns(cost, made, storage, bar)
    _penalty(cost, storage)
    matrix, blocks = storage.finished()
    seconds = time.perf_counter() - start
    return BlockHessian(cost.layout, matrix=matrix, blocks=blocks, provenance=_provenance(cost, made, seconds))


def _provenance(cost: Cost, made: Plan, seconds: float) -> dict[str, str]:
    from hesse import __version__

    return {
        "cost": repr(cost),
        "hesse": __version__,
        "torch": torch.__version__,
        "seconds": f"{seconds:.6g}",
        "notes": "; ".join(made.notes),
    }


def _contract(cost: Cost, made: Plan, storage: Storage, bar: Progress) -> None:
    brought = {key: {frozenset(names) for names in contraction.blocks} for key, contraction in made.contractions.items()}
    uses = Counter(itertools.chain.from_iterable(brought.values()))
    targets: dict[PairKey, Target] = {}
    for key, pair in pairs_by_chunk(cost, made, bar):
        if key not in targets:
            alone = all(uses[names] == 1 for names in brought[key])
            targets[key] = Target(storage, pair, made.contractions[key], alone)
        targets[key].add(pair)
    for target in targets.values():
        target.finish()


def _columns(cost: Cost, made: Plan, storage: Storage, bar: Progress) -> None:
    """Rows of the parameters without slots; where two such meet, the earlier in the layout brings the block."""
    width = column_width(cost, made.column_budget)
    for place, name in enumerate(made.by_columns):
        done = made.by_columns[:place]
        others = [other for other in cost.layout.names if other not in done and storage.has(name, other)]
        for at, products in rows_by_batch(cost, name, width, bar):
            _add_rows(storage, name, others, at, products)


def _add_rows(storage: Storage, name: str, others: list[str], at: slice, products: dict[str, Tensor]) -> None:
    for other in others:
        block = storage.block(name, other)
        block[at].add_(products[other].reshape(at.stop - at.start, -1))


def _penalty(cost: Cost, storage: Storage) -> None:
    if cost.penalty is None:
        return
    if isinstance(cost.penalty, float):
        for name in cost.layout.names:
            if storage.has(name, name):
                storage.block(name, name).diagonal().add_(cost.penalty)
        return
    storage.complete.clear()  # the two halves of what is added are equal to rounding only
    for place, name in enumerate(cost.layout.names):
        others = [other for other in cost.layout.names[place:] if storage.has(name, other)]
        if others:
            for at, products in penalty_rows(cost, name):
                _add_rows(storage, name, others, at, products)
