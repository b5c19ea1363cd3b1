"""What an array may be known to be besides its shape: symmetric, orthogonal, positive."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Structure:
    """A property of an array that is declared.

    Attributes:
        fact: the property as an equation of A.
        drawn: an array that has it, made of any: a check is at arrays that are what they are said
            to be.
        symmetric: whether A[i,j] = A[j,i].
        orthogonal: whether Σ_k A[k,i] A[k,j] and Σ_k A[i,k] A[j,k] are [i = j].
        positive: whether every entry is.
    """

    fact: str
    drawn: Callable[[Tensor], Tensor] = field(compare=False)
    symmetric: bool = False
    orthogonal: bool = False
    positive: bool = False


def _definite(array: Tensor) -> Tensor:
    return array @ array.mT + torch.eye(len(array), dtype=array.dtype)


SYMMETRIC = Structure("A = Aᵀ", lambda array: (array + array.mT) / 2, symmetric=True)
DEFINITE = Structure("A = Aᵀ, positive definite", _definite, symmetric=True)
DIAGONAL = Structure("A = diag(diag(A))", lambda array: array.diagonal().diag(), symmetric=True)
ORTHOGONAL = Structure("AᵀA = I", lambda array: torch.linalg.qr(array)[0], orthogonal=True)
POSITIVE = Structure("A > 0", torch.abs, positive=True)
