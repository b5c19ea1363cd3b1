"""What is carried down a graph can look like: dense, or with a structure that is worth keeping.

Two things are carried to a value v, for every sample n. *Cotangents*, (n, k, *v): k rows, each the
derivative in v of something, as `torch.func.vjp` takes them. And the *Hessian* of the loss in v,
(n, |v|, *v): cotangents too, one row for each entry of v, and symmetric.

Index letters: n sample, k row, then the axes of the value.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def diagonal(self) -> Diagonal:
        """What stands on the diagonal alone, Σ_kl C[k,v] K[k,l] C[l,v] + r[v], without the rest."""
        rows = flat(self.jacobian)
        n, k, _ = rows.shape
        if isinstance(self.core, Tensor):
            values = (torch.bmm(flat(self.core), rows) * rows).sum(1)
        else:
            # One row for each sample, times many: the sums over k are matrix products.
            weights = self.core.values if isinstance(self.core, Diagonal) else self.core.diagonal
            values = torch.bmm(weights.reshape(n, 1, k), rows.square()).squeeze(1)
            if isinstance(self.core, RankOne):
                factor = torch.bmm(self.core.factor.reshape(n, 1, k), rows).squeeze(1)
                values -= factor.square()
        values = values.reshape(n, *self.jacobian.shape[2:])
        return Diagonal(values if self.rest is None else values + self.rest)

    def scaled(self, slope: Tensor) -> "LowRank":
        """diag(slope) (·) diag(slope), what an elementwise operation does to it."""
        rest = None if self.rest is None else self.rest * slope.square()
        return LowRank(self.jacobian * slope.unsqueeze(1), self.core, rest)


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
