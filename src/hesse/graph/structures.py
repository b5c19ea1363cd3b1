"""What columns and curvatures can look like: dense, or with a structure that is worth keeping.

Index letters: n sample, k column, then the axes of the value.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diagonal:
    """Columns that form a diagonal: column k is ``values[n].flatten()[k]`` at entry k, zero
    elsewhere. Shape (n, *value).

    ``unit`` says that they are all 1.
    """

    values: Tensor
    unit: bool = False

    def dense(self) -> Tensor:
        """(n, k, *value)."""
        n, shape = len(self.values), self.values.shape[1:]
        return self.values.reshape(n, -1).diag_embed().reshape(n, -1, *shape)


@dataclass(frozen=True)
class RankOne:
    """diag(d) − u uᵀ per sample, the second derivative of softmax cross entropy in the logits. Both
    (n, *value)."""

    diagonal: Tensor
    factor: Tensor

    def dense(self) -> Tensor:
        """(n, k, *value)."""
        n, shape = len(self.factor), self.factor.shape[1:]
        rows = self.factor.reshape(n, -1)
        full = -(rows.unsqueeze(2) * rows.unsqueeze(1))
        full.diagonal(dim1=1, dim2=2).add_(self.diagonal.reshape(n, -1))
        return full.reshape(n, -1, *shape)


@dataclass(frozen=True)
class LowRank:
    """Cᵀ K C + diag(r): a curvature K of fewer entries seen from further down, and what the way
    down adds entry by entry.

    Attributes:
        columns: C, (n, k, *value).
        core: K, (n, k, k) or (n, k, *core value), or its structure.
        rest: r, (n, *value); ``None`` where zero.
    """

    columns: Tensor
    core: "Tensor | Diagonal | RankOne"
    rest: Tensor | None = None

    def core_matrix(self) -> Tensor:
        """K, (n, k, k)."""
        return flat(as_tensor(self.core))

    def dense(self) -> Tensor:
        """(n, k, *value)."""
        n, shape = len(self.columns), self.columns.shape[2:]
        rows = flat(self.columns)
        full = torch.bmm(rows.mT, torch.bmm(self.core_matrix(), rows))
        if self.rest is not None:
            full.diagonal(dim1=1, dim2=2).add_(self.rest.reshape(n, -1))
        return full.reshape(n, -1, *shape)

    def scaled(self, slope: Tensor) -> "LowRank":
        """diag(slope) (·) diag(slope)."""
        rest = None if self.rest is None else self.rest * slope.square()
        return LowRank(self.columns * slope.unsqueeze(1), self.core, rest)


Columns = Tensor | Diagonal
Curvature = Tensor | Diagonal | RankOne | LowRank


def flat(columns: Tensor) -> Tensor:
    """(n, k, *v) -> (n, k, |v|); of a value without axes too."""
    return columns.reshape(*columns.shape[:2], math.prod(columns.shape[2:]))


def unflat(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, |u|, ...) -> (n, *u, ...), where ``shape`` is u's."""
    return columns.reshape(len(columns), *shape, *columns.shape[2:])


def transposed(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, |u|, *v) -> (n, |v|, *u), where ``shape`` is u's."""
    n, k = columns.shape[:2]
    return columns.reshape(n, k, -1).mT.reshape(n, -1, *shape)


def identity(value: Tensor) -> Diagonal:
    """A value's own entries as columns."""
    return Diagonal(torch.ones_like(value), unit=True)


def reshaped(own: Curvature, shape: torch.Size) -> Curvature:
    """The curvature of a value under another shape of the same entries."""
    if isinstance(own, Diagonal):
        return Diagonal(own.values.reshape(shape))
    if isinstance(own, RankOne):
        return RankOne(own.diagonal.reshape(shape), own.factor.reshape(shape))
    if isinstance(own, LowRank):
        rest = None if own.rest is None else own.rest.reshape(shape)
        return LowRank(own.columns.reshape(*own.columns.shape[:2], *shape[1:]), own.core, rest)
    return own.reshape(*own.shape[:2], *shape[1:])


def as_tensor(columns: Curvature) -> Tensor:
    """The columns written out."""
    return columns if isinstance(columns, Tensor) else columns.dense()


def numel(part: Curvature) -> int:
    """How many numbers are held."""
    if isinstance(part, Tensor):
        return part.numel()
    if isinstance(part, LowRank):
        return (
            part.columns.numel()
            + numel(part.core)
            + (0 if part.rest is None else part.rest.numel())
        )
    return part.values.numel() if isinstance(part, Diagonal) else 2 * part.factor.numel()


def added(first: Columns, second: Columns) -> Columns:
    """The sum of two column sets; of two diagonals a diagonal."""
    if isinstance(first, Diagonal) and isinstance(second, Diagonal):
        return Diagonal(first.values + second.values)
    return as_tensor(first) + as_tensor(second)
