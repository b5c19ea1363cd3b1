"""Where a step is sought: the whole space by the eigenvectors of H, or the Krylov space that
products with H span."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from hesse.taylor.subproblem.spectral import Solution
from hesse.words.shapes import Float


@dataclass(frozen=True)
class ReducedModel:
    """The quadratic model in a basis in which H is diagonal: all that a `Solver` sees of it.

    Attributes:
        values: the diagonal of H: eigenvalues, or Ritz values of a subspace.
        coefficients: g in that basis.
        tolerance: a value no larger than this is zero to rounding.
        is_full_space: whether the basis spans all of the space, so that no eigenvalue is unseen.
    """

    values: np.ndarray
    coefficients: np.ndarray
    tolerance: float
    is_full_space: bool

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many values are negative, zero and positive."""
        negative, positive = (
            int((self.values < -self.tolerance).sum()),
            int((self.values > self.tolerance).sum()),
        )
        return negative, len(self.values) - negative - positive, positive

    @property
    def falls_where_flat(self) -> bool:
        """Whether g has a part along which H is zero, beyond rounding: then the model has no
        stationary point."""
        return bool(self.coefficients[np.abs(self.values) <= self.tolerance].any())


# A rule for a step (Newton's, the trust region's, ...), blind to where the basis comes from: the
# same rules serve eigenvectors and Krylov spaces.
Solver = Callable[[ReducedModel], Solution]


def random_unit(like: Float[Tensor, " P"], seed: int = 0) -> Float[Tensor, " P"]:
    """A unit vector drawn uniformly from the sphere, the same for each seed on every device."""
    # On the CPU and in float64, so that a device or a dtype does not change which one it is.
    drawn = torch.randn(
        len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu"
    )
    return (drawn / torch.linalg.vector_norm(drawn)).to(like)


def lowest(reduced: ReducedModel) -> Solution:
    """The `Solver` of the lowest (Ritz) vector: its residual decides how far a Krylov space
    grows."""
    coefficients = np.zeros_like(reduced.coefficients)
    place = int(reduced.values.argmin())
    coefficients[place] = 1.0
    return Solution(coefficients, -float(reduced.values[place]), "")


@dataclass(frozen=True)
class StepInSpace:
    """A step that a `Solver` proposes, as a vector of the parameters' space.

    Attributes:
        vector: s.
        slope, bend: gᵀs and sᵀHs, summed over the basis in float64.
        multiplier, reason: as of its `Solution`.
        reduced: the model that the solver saw.
    """

    vector: Tensor
    slope: float
    bend: float
    multiplier: float
    reason: str
    reduced: ReducedModel

    @staticmethod
    def of(vector: Tensor, solution: Solution, reduced: ReducedModel, reason: str) -> "StepInSpace":
        """A solution in a basis, and the vector that it is."""
        step = solution.coefficients
        slope, bend = float(reduced.coefficients @ step), float(reduced.values @ step**2)
        return StepInSpace(vector, slope, bend, float(solution.multiplier), reason, reduced)


class SearchSpace(abc.ABC):
    """The model's restriction to a space, and the steps in it."""

    @abc.abstractmethod
    def solve(self, solver: Solver) -> StepInSpace:
        """The step that the solver makes of the model in this space."""


@final
class FullSpace(SearchSpace):
    """All of the space, in the basis of eigenvectors.

    Args:
        values: eigenvalues.
        vectors: eigenvectors as columns.
        gradient: g.
        reach: ‖θ‖. Rounding of θ leaves up to eps · max|λ| · ‖θ‖ of a gradient that is zero.
    """

    def __init__(
        self,
        values: Float[Tensor, " P"],
        vectors: Float[Tensor, "P P"],
        gradient: Float[Tensor, " P"],
        reach: float = 0.0,
    ) -> None:
        self._vectors = vectors
        rounding = len(values) * torch.finfo(values.dtype).eps
        self.reduced = reduced_model(
            _numpy(values), _numpy(vectors.T @ gradient), rounding, reach, is_full_space=True
        )

    def solve(self, solver: Solver) -> StepInSpace:
        solution = solver(self.reduced)
        vector = self._vectors @ torch.from_numpy(solution.coefficients).to(self._vectors)
        return StepInSpace.of(vector, solution, self.reduced, solution.reason)


def reduced_model(
    values: np.ndarray, coefficients: np.ndarray, rounding: float, reach: float, is_full_space: bool
) -> ReducedModel:
    """The model in a basis, cleaned of directions in which both H and g are rounding: there the
    quotient means nothing.

    Args:
        values: the diagonal of H.
        coefficients: g.
        rounding: the relative error of both.
        reach: as for `FullSpace`.
        is_full_space: as for `ReducedModel`.
    """
    largest = float(np.abs(values).max(initial=0.0))
    tolerance, noise = (
        rounding * largest,
        rounding * (float(np.linalg.norm(coefficients)) + largest * reach),
    )
    flat = (np.abs(values) <= tolerance) & (np.abs(coefficients) <= noise)
    return ReducedModel(
        np.where(flat, 0.0, values), np.where(flat, 0.0, coefficients), tolerance, is_full_space
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
