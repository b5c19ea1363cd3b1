"""`hessian`: run the plan and put the blocks together."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hesse.capture.sites import Slot
from hesse.cost import Cost
from hesse.exact.block_hessian import BlockHessian
from hesse.exact.columns import column_width, penalty_rows
from hesse.exact.contract import choose
from hesse.exact.execution import pairs_by_chunk, rows_by_batch, steps
from hesse.exact.pair import Pair
from hesse.exact.plan import Contraction, NamePair, Plan, plan
from hesse.exact.signals import PairKey
from hesse.progress import Progress


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
    storage = _Storage(cost, [block.names for block in made.blocks])
    with torch.no_grad(), Progress("hessian", steps(cost, made), progress) as bar:
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


class _Storage:
    """The result while it is made: one matrix when every block is wanted, else one tensor for each.

    Of a symmetric block only the upper triangle counts.
    """

    def __init__(self, cost: Cost, wanted: list[NamePair]) -> None:
        self._layout, self._wanted = cost.layout, wanted
        self._options: dict[str, Any] = {"dtype": cost.dtype, "device": cost.device}
        count, P = len(cost.layout.names), cost.layout.size
        self._matrix = torch.zeros(P, P, **self._options) if len(wanted) == count * (count + 1) // 2 else None
        sizes = cost.layout.sizes
        self._blocks = (
            {} if self._matrix is not None else {(a, b): torch.zeros(sizes[a], sizes[b], **self._options) for a, b in wanted}
        )

    def block(self, first: str, second: str) -> Tensor:
        """A block as a matrix, to be added to; in either order."""
        if self._layout.index(first) > self._layout.index(second):
            return self.block(second, first).mT
        if self._matrix is None:
            return self._blocks[first, second]
        return self._matrix[self._layout.slice(first), self._layout.slice(second)]

    def has(self, first: str, second: str) -> bool:
        return self._matrix is not None or (first, second) in self._blocks or (second, first) in self._blocks

    def finished(self) -> tuple[Tensor | None, dict[NamePair, Tensor] | None]:
        """The matrix or the blocks, the lower halves of what is symmetric filled in from the upper."""
        if self._matrix is not None:
            mirror(self._matrix)
            return self._matrix, None
        for (a, b), block in self._blocks.items():
            if a == b:
                mirror(block)
        return None, self._blocks


def mirror(matrix: Tensor, step: int = 512) -> None:
    """Copy the upper triangle onto the lower, so that the matrix is exactly symmetric."""
    size = len(matrix)
    for low in range(0, size, step):
        high = min(low + step, size)
        corner = matrix[low:high, low:high]
        corner.copy_(corner.triu() + corner.triu(1).mT)
        matrix[high:, low:high].copy_(matrix[low:high, high:].mT)


class _Target:
    """Where a pair of slots is contracted to: the block itself where it can be, else a matrix laid into its blocks at the end."""

    def __init__(self, storage: _Storage, pair: Pair, contraction: Contraction, alone: bool) -> None:
        self._pair, self._contraction, self._storage = (pair.left, pair.right, pair.same), contraction, storage
        self.sizes = pair.sizes
        shape = (pair.left.size, pair.right.size)
        first, second = contraction.blocks[0]
        single = alone and not pair.left.parts and not pair.right.parts and (pair.same or first != second)
        block = storage.block(first, second)
        self._direct = single and pair.left.index is None and pair.right.index is None and tuple(block.shape) == shape
        self.matrix = block if self._direct else block.new_zeros(shape)

    def add(self, pair: Pair) -> None:
        sizes = pair.sizes
        # The structure of one sample, from which the plan was made, may differ from a chunk's.
        order = self._contraction.order if self._contraction.order.applies(sizes) else choose(sizes, len(pair.a))[0]
        order.run(pair, self.matrix)

    def finish(self) -> None:
        self._contraction.order.finish(self.sizes, self.matrix)
        if self._direct:
            return
        left, right, same = self._pair
        if same:
            mirror(self.matrix)
        matrix = self.matrix.view(*left.shape, *right.shape)
        for x, (first, rows) in enumerate(_parts(left)):
            for y, (second, columns) in enumerate(_parts(right)):
                names = (first.parameter, second.parameter)
                if names not in self._contraction.blocks or (same and y < x):
                    continue
                part = matrix[:, :, rows, :, :, columns].reshape(first.size, second.size)
                _add_at(self._storage.block(*names), part, first.index, second.index)
                if names[0] == names[1] and not same:  # two uses of one parameter meet in both orders
                    _add_at(self._storage.block(*names), part.mT, second.index, first.index)


def _parts(slot: Slot) -> list[tuple[Slot, slice]]:
    """The slots that one is made of, and which of its inputs each has."""
    edges = list(itertools.accumulate((part.shape[2] for part in slot.own), initial=0))
    return [(part, slice(low, high)) for part, low, high in zip(slot.own, edges, edges[1:], strict=False)]


def _add_at(block: Tensor, matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> None:
    if rows is None and columns is None and block.shape == matrix.shape:
        block.add_(matrix)
        return
    device = block.device
    rows = torch.arange(len(matrix), device=device) if rows is None else rows.to(device)
    columns = torch.arange(matrix.shape[1], device=device) if columns is None else columns.to(device)
    block.index_put_((rows.unsqueeze(1), columns), matrix, accumulate=True)


def _contract(cost: Cost, made: Plan, storage: _Storage, bar: Progress) -> None:
    uses = Counter(frozenset(names) for contraction in made.contractions.values() for names in contraction.blocks)
    targets: dict[PairKey, _Target] = {}
    for key, pair in pairs_by_chunk(cost, made, bar):
        contraction = made.contractions[key]
        if key not in targets:
            targets[key] = _Target(storage, pair, contraction, uses[frozenset(contraction.blocks[0])] == 1)
        targets[key].add(pair)
    for target in targets.values():
        target.finish()


def _columns(cost: Cost, made: Plan, storage: _Storage, bar: Progress) -> None:
    """Rows of the parameters without slots; where two such meet, the earlier in the layout brings the block."""
    width = column_width(cost, made.column_budget)
    for place, name in enumerate(made.by_columns):
        done = made.by_columns[:place]
        others = [other for other in cost.layout.names if other not in done and storage.has(name, other)]
        for at, products in rows_by_batch(cost, name, width, bar):
            _add_rows(storage, name, others, at, products)


def _add_rows(storage: _Storage, name: str, others: list[str], at: slice, products: dict[str, Tensor]) -> None:
    for other in others:
        block = storage.block(name, other)
        block[at].add_(products[other].reshape(at.stop - at.start, -1))


def _penalty(cost: Cost, storage: _Storage) -> None:
    if cost.penalty is None:
        return
    if isinstance(cost.penalty, float):
        for name in cost.layout.names:
            if storage.has(name, name):
                storage.block(name, name).diagonal().add_(cost.penalty)
        return
    for place, name in enumerate(cost.layout.names):
        others = [other for other in cost.layout.names[place:] if storage.has(name, other)]
        if others:
            for at, products in penalty_rows(cost, name):
                _add_rows(storage, name, others, at, products)
