"""Σ x xᵀ of vectors that come some at a time."""

import math
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

# Of so many vectors with so many entries the products are made in so many blocks of rows, without
# what is above the diagonal; of a number of rows that fits the processor. Of no more numbers than
# the last it is half as many blocks: small products keep few threads busy.
_MANY, _LARGE, _BLOCKS, _STEP, _FEW = 256, 128, 4, 16, 2**18


@final
class Gram:
    """Σ x xᵀ, (g, d, d), for each group g.

    Fewer vectors than they have entries wait for more: to read and write a large matrix for a few
    of them takes longer than their products.

    Args:
        with_one: whether every vector has a 1 behind the entries that it is given by.

    Examples:
        >>> import torch
        >>> gram = Gram()
        >>> for _ in range(3):
        ...     gram.add(torch.ones(1, 1, 1, 2))
        >>> gram.total()
        tensor([[[3., 3.],
                 [3., 3.]]])
    """

    def __init__(self, with_one: bool = False) -> None:
        self._with_one = with_one
        # Its lower blocks, and the most vectors that were added at once.
        self._sum: Tensor | None = None
        self._most = 0
        self._diagonal: Tensor | None = None
        self._waiting: list[Tensor] = []
        # Σ x, and of how many vectors.
        self._first: Tensor | None = None
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """More vectors, (g, m, t, d)."""
        if self._with_one:
            first = rows.sum((1, 2))
            self._first = first if self._first is None else self._first.add_(first)
            self._count += rows.shape[1] * rows.shape[2]
        if rows.stride(3) != 1 and rows.shape[2] >= rows.shape[3]:
            # Positions lie side by side, as in an image: to lay them out otherwise would be a copy.
            total, held = self._total_for(rows)
            for part, end in _lower(rows.shape[1] * rows.shape[2], rows.shape[3]):
                more = (rows[..., part].mT @ rows[..., :end]).sum(1)
                place = total[:, part, :end]
                place.add_(more) if held else place.copy_(more)
            return
        self._waiting.append(rows.flatten(1, 2))
        if sum(part.shape[1] for part in self._waiting) >= rows.shape[3]:
            self._take()

    def add_one_hot(self, counts: Tensor) -> None:
        """Vectors of a single 1: how many have it at each entry, (g, d)."""
        self._diagonal = counts if self._diagonal is None else self._diagonal + counts

    def _take(self) -> None:
        if not self._waiting:
            return
        rows = torch.cat(self._waiting, 1) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting = []
        total, held = self._total_for(rows)
        for part, end in _lower(*rows.shape[1:]):
            total[:, part, :end].baddbmm_(rows[:, :, part].mT, rows[:, :, :end], beta=held)

    def _total_for(self, rows: Tensor) -> tuple[Tensor, int]:
        """Where the products of vectors (g, ..., d) are added, and 1, or 0 where nothing is yet."""
        (g, *_, d), held = rows.shape, self._sum is not None
        if self._sum is None:
            size = d + self._with_one
            self._sum = rows.new_empty(g, size, size)
        self._most = max(self._most, math.prod(rows.shape[1:-1]))
        return self._sum[:, :d, :d], int(held)

    def total(self) -> Tensor | None:
        """The sum, or its diagonal (g, d) where that is all there is; ``None`` for no vectors."""
        self._take()
        if self._sum is None:
            return self._diagonal
        d = self._sum.shape[1] - self._with_one
        for part, _ in _lower(self._most, d):
            if part.start:
                self._sum[:, : part.start, part] = self._sum[:, part, : part.start].mT
        if self._first is not None:
            self._sum[:, d, :d] = self._sum[:, :d, d] = self._first
            self._sum[:, d, d] = self._count
        return self._sum if self._diagonal is None else self._sum + self._diagonal.diag_embed()


def _lower(count: int, size: int) -> Iterator[tuple[slice, int]]:
    """Blocks that have all of a symmetric matrix that is not above its diagonal blocks, where it is
    made of enough vectors: rows, and where their columns end."""
    step = max(_STEP, -(-size // (_BLOCKS * _STEP)) * _STEP)
    # Each made of whole blocks of the next: what was added in larger ones is there in smaller ones.
    if count < _MANY or size < _LARGE:
        step *= _BLOCKS
    elif count * size <= _FEW:
        step *= 2
    for start in range(0, size, step):
        end = min(start + step, size)
        yield slice(start, end), end
