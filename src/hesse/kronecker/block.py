"""A block of the approximation: what some parameter entries have with each other, as a Kronecker
product or by its eigenvectors.

The entries of a block are arranged as the site has them, (g, o, i): groups that do not mix,
outputs, inputs. In that order the block is, for each group g,

    B_g ⊗ A_g          with B_g (o, o) and A_g (i, i), or
    Q diag(λ_g) Qᵀ     with Q = Q_B ⊗ Q_A

and zero between groups. A block that is known exactly is a B with an A of one entry, 1.
"""

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from hesse.errors import HesseValueError, require_number


@final
@dataclass(frozen=True)
class Factor:
    """One factor of a Kronecker product: a symmetric matrix for each group, or its diagonal.

    Attributes:
        entries: (g, d, d), or (g, d) where all of it is on the diagonal.
    """

    entries: Tensor

    @property
    def is_diagonal(self) -> bool:
        """Whether only the diagonal is held."""
        return self.entries.ndim == 2

    @property
    def diagonal(self) -> Tensor:
        """(g, d)."""
        return self.entries if self.is_diagonal else self.entries.diagonal(dim1=1, dim2=2)

    @property
    def matrix(self) -> Tensor:
        """(g, d, d)."""
        return self.entries.diag_embed() if self.is_diagonal else self.entries

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor | None]:
        if self.is_diagonal:
            return self.entries, None
        values, vectors = torch.linalg.eigh(self.entries)
        # A sum of outer products has none below zero.
        return values.clamp(min=0), vectors

    @property
    def eigenvalues(self) -> Tensor:
        """(g, d)."""
        return self._eigen[0]

    @property
    def basis(self) -> Tensor | None:
        """The eigenvectors as columns, (g, d, d); ``None`` for the unit vectors."""
        return self._eigen[1]

    def damped_inverse(self, damping: Tensor) -> "Factor":
        """(F + damping I)⁻¹, the damping (g,) one for each group."""
        values = (self.eigenvalues + damping.unsqueeze(1)).reciprocal()
        if self.basis is None:
            return Factor(values)
        return Factor((self.basis * values.unsqueeze(1)) @ self.basis.mT)


@dataclass(frozen=True)
class Block(abc.ABC):
    """A symmetric matrix over some entries of the parameters.

    Attributes:
        names: the parameters that the entries are of.
        index: where they lie in the flat vector of all parameters, in the order (g, o, i).
        shape: (g, o, i).
    """

    names: tuple[str, ...]
    index: Tensor
    shape: tuple[int, int, int]

    @property
    @abc.abstractmethod
    def eigenvalues(self) -> Tensor:
        """(g, o, i), in no order."""

    @property
    @abc.abstractmethod
    def bases(self) -> tuple[Tensor | None, Tensor | None]:
        """Q_B and Q_A."""

    @abc.abstractmethod
    def _times(self, v: Tensor) -> Tensor:
        """(g, o, i, K) -> (g, o, i, K)."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by name."""

    @abc.abstractmethod
    def to(self, device: torch.device) -> "Block":
        """The same block on a device."""

    def times(self, v: Tensor) -> Tensor:
        """The product with the entries of some vectors, (entries, K)."""
        count = len(self.index)
        if not isinstance(v, Tensor) or v.shape[:1] != (count,):
            got = tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
            raise HesseValueError(
                f"v: expected a tensor of the {count} entries of this block, ({count}, K), got"
                f" {got}"
            )
        return self._times(v.reshape(*self.shape, -1)).reshape(v.shape)

    def dense(self) -> Tensor:
        """(entries, entries), in the order (g, o, i)."""
        return self.times(torch.eye(len(self.index), dtype=self.dtype, device=self.index.device))

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return next(iter(self.tensors().values())).dtype

    def damped_inverse(self, damping: float) -> "SpectralBlock":
        """(M + damping I)⁻¹."""
        values = (self.eigenvalues + require_number(damping, "damping")).reciprocal()
        return SpectralBlock(self.names, self.index, self.shape, *self.bases, values)


@final
@dataclass(frozen=True)
class KroneckerBlock(Block):
    """B ⊗ A.

    Attributes:
        left: B.
        right: A.
    """

    left: Factor
    right: Factor

    @property
    def is_single(self) -> bool:
        """Whether A is the number 1, and B all there is."""
        return self.shape[2] == 1 and bool((self.right.entries == 1).all())

    @property
    def eigenvalues(self) -> Tensor:
        return self.left.eigenvalues.unsqueeze(2) * self.right.eigenvalues.unsqueeze(1)

    @property
    def bases(self) -> tuple[Tensor | None, Tensor | None]:
        return self.left.basis, self.right.basis

    def _times(self, v: Tensor) -> Tensor:
        return _both(v, self.left.entries, self.right.entries)

    def tensors(self) -> dict[str, Tensor]:
        return {"left": self.left.entries, "right": self.right.entries}

    def to(self, device: torch.device) -> "KroneckerBlock":
        factors = (Factor(factor.entries.to(device)) for factor in (self.left, self.right))
        return KroneckerBlock(self.names, self.index.to(device), self.shape, *factors)

    def inverse_of_damped_factors(self, left: Tensor, right: Tensor) -> "KroneckerBlock":
        """(B + left I)⁻¹ ⊗ (A + right I)⁻¹; one number for each group, (g,)."""
        factors = self.left.damped_inverse(left), self.right.damped_inverse(right)
        return KroneckerBlock(self.names, self.index, self.shape, *factors)


@final
@dataclass(frozen=True)
class SpectralBlock(Block):
    """Q diag(λ) Qᵀ, Q = Q_B ⊗ Q_A.

    Attributes:
        left: Q_B, (g, o, o); ``None`` for the unit vectors.
        right: Q_A, (g, i, i); likewise.
        values: λ, (g, o, i).
    """

    left: Tensor | None
    right: Tensor | None
    values: Tensor

    @property
    def eigenvalues(self) -> Tensor:
        return self.values

    @property
    def bases(self) -> tuple[Tensor | None, Tensor | None]:
        return self.left, self.right

    def _times(self, v: Tensor) -> Tensor:
        along = _both(v, *(None if q is None else q.mT for q in self.bases))
        return _both(along * self.values.unsqueeze(3), *self.bases)

    def tensors(self) -> dict[str, Tensor]:
        held = {"left": self.left, "right": self.right, "values": self.values}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def to(self, device: torch.device) -> "SpectralBlock":
        left, right = (None if q is None else q.to(device) for q in self.bases)
        moved = self.index.to(device), self.shape, left, right, self.values.to(device)
        return SpectralBlock(self.names, *moved)


def _both(v: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """left v rightᵀ of (g, o, i, K), each a matrix or a diagonal for each group."""
    if left is not None:
        v = v * left[:, :, None, None] if left.ndim == 2 else (left @ v.flatten(2)).reshape(v.shape)
    if right is not None:
        v = v * right[:, None, :, None] if right.ndim == 2 else right.unsqueeze(1) @ v
    return v
