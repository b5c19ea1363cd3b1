"""What the eigenvalues of a symmetric matrix say of it: its inertia and its condition."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Eigen(NamedTuple):
    """H = V diag(λ) Vᵀ: the values in ascending order, the vectors as columns."""

    values: Float[Tensor, " P"]
    vectors: Float[Tensor, "P P"]


class Inertia(NamedTuple):
    """How many eigenvalues are negative, zero to rounding, and positive.

    Those that are zero to rounding are undecided: of P rows in float32 all of size up to P · 6e-8
    of the largest. The rank is what is left of them; where there are any, the condition number is
    infinite; and a cost in float64 decides more of them.
    """

    negative: int
    zero: int
    positive: int

    @property
    def undecided(self) -> int:
        """How many eigenvalues rounding decides: those that count as zero.

        Example:
            >>> Inertia(negative=1, zero=2, positive=3).undecided
            2
        """
        return self.zero


def zero_tolerance(values: Float[Tensor, " P"]) -> float:
    """P · eps · max|λ|: an eigenvalue no larger than this is zero to the rounding of the eigenvalue
    solver."""
    if not len(values):  # P = 0
        return 0.0
    return len(values) * torch.finfo(values.dtype).eps * float(values.abs().max())


def inertia(values: Float[Tensor, " P"]) -> Inertia:
    """How many values are negative, zero and positive."""
    tolerance = zero_tolerance(values)
    negative, positive = int((values < -tolerance).sum()), int((values > tolerance).sum())
    return Inertia(negative, len(values) - negative - positive, positive)


def condition_number(values: Float[Tensor, " P"]) -> float:
    """max|λ| / min|λ|; infinite where the smallest is zero to rounding."""
    sizes = values.abs()
    if not len(sizes) or float(sizes.min()) <= zero_tolerance(values):
        return float("inf")
    return float(sizes.max() / sizes.min())
