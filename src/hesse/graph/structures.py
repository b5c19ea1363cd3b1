"""What is carried down a graph can look like: dense, or with a structure that is worth keeping.

Two things are carried to a value v, for every sample n. *Cotangents*, (n, k, *v): k rows, each the
derivative in v of something, as `torch.func.vjp` takes them. And the *Hessian* of the loss in v,
(n, |v|, *v): cotangents too, one row for each entry of v, and symmetric.

Index letters: n sample, k row, then the axes of the value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers that are worked on at once where they are squared and summed: what the caches hold.
_CACHED = 2**17


def in_pieces(samples: int, each: int, least: int = 1) -> int:
    """How many of some samples, of so many numbers each, are worked on at once; no fewer than the
    least, in pieces of like size."""
    most = max(least, _CACHED // max(1, each))
    return max(1, -(-samples // max(1, -(-samples // most))))


@dataclass(frozen=True)
class Diagonal:
    """Cotangents that form a diagonal: row k is ``values[n].flatten()[k]`` at entry k, zero
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
        # The diagonal is added in place: one tensor of this size is made, not two.
        full = -(rows.unsqueeze(2) * rows.unsqueeze(1))
        full.diagonal(dim1=1, dim2=2).add_(self.diagonal.reshape(n, -1))
        return full.reshape(n, -1, *shape)


@dataclass(frozen=True)
class LowRank:
    """Cᵀ K C + diag(r): the Hessian K of a value of fewer entries seen from further down, and what
    the way down adds entry by entry.

    Attributes:
        jacobian: C, of that value in this one, (n, k, *value).
        core: K, (n, k, k) or (n, k, *core value), or its structure.
        rest: r, (n, *value); ``None`` where zero.
    """

    jacobian: Tensor
    core: "Tensor | Diagonal | RankOne"
    rest: Tensor | None = None

    def core_matrix(self) -> Tensor:
        """K, (n, k, k)."""
        return flat(as_tensor(self.core))

    def dense(self) -> Tensor:
        """(n, k, *value)."""
        n, shape = len(self.jacobian), self.jacobian.shape[2:]
        rows = flat(self.jacobian)
        full = torch.bmm(rows.mT, torch.bmm(self.core_matrix(), rows))
        if self.rest is not None:
            full.diagonal(dim1=1, dim2=2).add_(self.rest.reshape(n, -1))
        return full.reshape(n, -1, *shape)

    def diagonal(self, matrix: Tensor | None = None) -> Diagonal:
        """What stands on the diagonal of Bᵀ (·) B alone, without the rest of it.

        Args:
            matrix: B, flat, the same for all samples; the identity by default.
        """
        rows = flat(self.jacobian)
        n, k, size = rows.shape
        step = in_pieces(n, k * (size if matrix is None else matrix.shape[1]))
        if step < n:
            # What is made of some samples stays in the caches.
            pieces = [piece.diagonal(matrix).values for piece in self._pieces(step)]
            return Diagonal(torch.cat(pieces))
        if matrix is not None:
            rows = rows @ matrix
        if isinstance(self.core, Tensor):
            values = torch.bmm(flat(self.core), rows).mul_(rows).sum(1)
        else:
            # One row for each sample, times many: the sums over k are matrix products.
            weights, factor = _parts(self.core)
            along = None if factor is None else torch.bmm(factor.reshape(n, 1, k), rows)
            squares = rows.square() if matrix is None else rows.mul_(rows)
            values = torch.bmm(weights.reshape(n, 1, k), squares).squeeze(1)
            if along is not None:
                values -= along.squeeze(1).square()
        if self.rest is not None:
            rest = self.rest.reshape(n, -1)
            values = values + (rest if matrix is None else rest @ matrix.square())
        return Diagonal(values.reshape(n, *self.jacobian.shape[2:]) if matrix is None else values)

    def _pieces(self, step: int) -> "Iterator[LowRank]":
        """The same of some samples at a time."""
        for start in range(0, len(self.jacobian), step):
            some, core = slice(start, start + step), self.core
            if isinstance(core, Tensor):
                core = core[some]
            elif isinstance(core, Diagonal):
                core = Diagonal(core.values[some])
            else:
                core = RankOne(core.diagonal[some], core.factor[some])
            rest = None if self.rest is None else self.rest[some]
            yield LowRank(self.jacobian[some], core, rest)

    def scaled(self, slope: Tensor) -> "LowRank":
        """diag(slope) (·) diag(slope), what an elementwise operation does to it."""
        rest = None if self.rest is None else self.rest * slope.square()
        return LowRank(self.jacobian * slope.unsqueeze(1), self.core, rest)


def _parts(core: "Diagonal | RankOne") -> tuple[Tensor, Tensor | None]:
    """What stands on the diagonal, and u where u uᵀ is taken off."""
    if isinstance(core, Diagonal):
        return core.values, None
    return core.diagonal, core.factor


# As tensors both are (n, k, *value); only what is symmetric can have a symmetric structure.
Cotangents = Tensor | Diagonal
ValueHessian = Tensor | Diagonal | RankOne | LowRank


def flat(cotangents: Tensor) -> Tensor:
    """(n, k, *v) -> (n, k, |v|); of a value without axes too."""
    return cotangents.reshape(*cotangents.shape[:2], math.prod(cotangents.shape[2:]))


def unflat(cotangents: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, |u|, ...) -> (n, *u, ...), where ``shape`` is u's."""
    return cotangents.reshape(len(cotangents), *shape, *cotangents.shape[2:])


def transposed(cotangents: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, |u|, *v) -> (n, |v|, *u), where ``shape`` is u's."""
    n, k = cotangents.shape[:2]
    return cotangents.reshape(n, k, -1).mT.reshape(n, -1, *shape)


def identity(value: Tensor) -> Diagonal:
    """A value's own entries as cotangents."""
    return Diagonal(torch.ones_like(value), unit=True)


def reshaped(hessian: ValueHessian, shape: torch.Size) -> ValueHessian:
    """The Hessian of a value under another shape of the same entries."""
    if isinstance(hessian, Diagonal):
        return Diagonal(hessian.values.reshape(shape))
    if isinstance(hessian, RankOne):
        return RankOne(hessian.diagonal.reshape(shape), hessian.factor.reshape(shape))
    if isinstance(hessian, LowRank):
        rest = None if hessian.rest is None else hessian.rest.reshape(shape)
        return LowRank(
            hessian.jacobian.reshape(*hessian.jacobian.shape[:2], *shape[1:]), hessian.core, rest
        )
    return hessian.reshape(*hessian.shape[:2], *shape[1:])


def as_tensor(cotangents: ValueHessian) -> Tensor:
    """The cotangents written out."""
    return cotangents if isinstance(cotangents, Tensor) else cotangents.dense()


def numel(part: ValueHessian) -> int:
    """How many numbers are held."""
    if isinstance(part, Tensor):
        return part.numel()
    if isinstance(part, LowRank):
        return (
            part.jacobian.numel()
            + numel(part.core)
            + (0 if part.rest is None else part.rest.numel())
        )
    return part.values.numel() if isinstance(part, Diagonal) else 2 * part.factor.numel()


def added(first: Cotangents, second: Cotangents) -> Cotangents:
    """The sum of two sets of cotangents; of two diagonals a diagonal."""
    # `unit` is lost: the sum of two identities is none.
    if isinstance(first, Diagonal) and isinstance(second, Diagonal):
        return Diagonal(first.values + second.values)
    return as_tensor(first) + as_tensor(second)
