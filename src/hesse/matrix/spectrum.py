"""What the eigenvalues of a symmetric matrix say of it: its inertia and its condition."""

from typing import NamedTuple

import torch
from torch import Tensor

from hesse.words.shapes import Float


class Eigen(NamedTuple):
    """H = V diag(λ) Vᵀ: the values in ascending order, the vectors as columns."""

    values: Float[Tensor, " P"]
    vectors: Float[Tensor, "P P"]


class Inertia(NamedTuple):
    """How many eigenvalues are negative, how many positive, and of how many rounding decides.

    Those are the ones up to P · eps · max|λ|, eps = 1.2e-7 in float32 and 2.2e-16 in float64: they
    may be zero, or of either sign. The rank is what is left of them; where there are any, the
    condition number is infinite; and a cost in float64 decides more of them.

    Examples:
        >>> print(Inertia(negative=1, undecided=2, positive=3))
        1 negative, 2 undecided, 3 positive
    """

    negative: int
    undecided: int
    positive: int

    def __str__(self) -> str:
        return (
            f"{self.negative:,} negative, {self.undecided:,} undecided, {self.positive:,} positive"
        )


def zero_tolerance(values: Float[Tensor, " P"]) -> float:
    """P · eps · max|λ|: of an eigenvalue no larger than this the rounding of the eigenvalue solver
    decides."""
    if not len(values):  # P = 0
        return 0.0
    return len(values) * torch.finfo(values.dtype).eps * float(values.abs().max())


def inertia(values: Float[Tensor, " P"]) -> Inertia:
    """How many values are negative, undecided and positive."""
    tolerance = zero_tolerance(values)
    negative, positive = int((values < -tolerance).sum()), int((values > tolerance).sum())
    return Inertia(negative, len(values) - negative - positive, positive)


def condition_number(values: Float[Tensor, " P"]) -> float:
    """max|λ| / min|λ|; infinite where rounding decides of the smallest."""
    sizes = values.abs()
    if not len(sizes) or float(sizes.min()) <= zero_tolerance(values):
        return float("inf")
    return float(sizes.max() / sizes.min())
