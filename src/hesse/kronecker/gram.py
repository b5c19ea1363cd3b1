"""Σ x xᵀ of vectors that come some at a time."""

from typing import final

import torch
from torch import Tensor


@final
class Gram:
    """Σ x xᵀ, (g, d, d), for each group g.

    Fewer vectors than they have entries wait for more: to read and write a large matrix for a few
    of them takes longer than their products.

    Examples:
        >>> import torch
        >>> gram = Gram()
        >>> for _ in range(3):
        ...     gram.add(torch.ones(1, 1, 1, 2))
        >>> gram.total()
        tensor([[[3., 3.],
                 [3., 3.]]])
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._diagonal: Tensor | None = None
        self._waiting: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """More vectors, (g, m, t, d)."""
        if rows.stride(3) != 1 and rows.shape[2] >= rows.shape[3]:
            # Positions lie side by side, as in an image: to lay them out otherwise would be a copy.
            more = (rows.mT @ rows).sum(1)
            self._sum = more if self._sum is None else self._sum.add_(more)
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
        if self._sum is None:
            self._sum = rows.mT @ rows
        else:
            self._sum.baddbmm_(rows.mT, rows)

    def total(self) -> Tensor | None:
        """The sum, or its diagonal (g, d) where that is all there is; ``None`` for no vectors."""
        self._take()
        if self._sum is None or self._diagonal is None:
            return self._diagonal if self._sum is None else self._sum
        return self._sum + self._diagonal.diag_embed()
