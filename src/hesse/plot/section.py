"""A section of a cost and its quadratic model: both restricted to a line or a plane through θ,
which the pictures are computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from hesse.errors import (
    HesseValueError,
    require_instance,
    require_integer,
)
from hesse.process.progress import Progress
from hesse.taylor import QuadraticModel, quadratic
from hesse.words.shapes import Float

# Along a line, or a side of a plane: more than any picture shows.
_MOST_POINTS = 100_000


@final
@dataclass(frozen=True, eq=False)
class Section:
    """θ + U c, for the columns of U orthonormal: distances in c are distances between parameters.

    Attributes:
        q: the model, at θ.
        basis: U, (P, 1) for a line and (P, 2) for a plane.
    """

    q: QuadraticModel
    basis: Float[Tensor, "P k"]

    @cached_property
    def gradient(self) -> Float[np.ndarray, " k"]:
        """Uᵀ g."""
        return _numpy(self.basis.T @ self.q.gradient)

    @cached_property
    def hessian(self) -> Float[np.ndarray, "k k"]:
        """Uᵀ H U."""
        projected = _numpy(self.basis.T @ self.q.product(self.basis))
        return (projected + projected.T) / 2  # products are symmetric to rounding only

    def parts(self, c: Float[np.ndarray, "k N"]) -> tuple[np.ndarray, np.ndarray]:
        """gᵀs and ½ sᵀHs at s = U c."""
        return self.gradient @ c, 0.5 * (c * (self.hessian @ c)).sum(0)

    def model(self, c: Float[np.ndarray, "k N"]) -> Float[np.ndarray, " N"]:
        """The quadratic at each place."""
        linear, quadratic = self.parts(c)
        return self.q.value + linear + quadratic

    def true(self, c: Float[np.ndarray, "k N"]) -> Float[np.ndarray, " N"]:
        """J at each place; nan where it is not finite."""
        costs = np.empty(c.shape[1])
        with Progress("costs", len(costs)) as bar:
            for k, place in enumerate(c.T):
                costs[k] = self.q.true(self.step(place))
                bar.advance(1)
        return np.where(np.isfinite(costs), costs, np.nan)

    def step(self, c: Float[np.ndarray, " k"]) -> Float[Tensor, " P"]:
        """U c."""
        return self.basis @ torch.from_numpy(np.asarray(c, dtype=np.float64)).to(self.basis)

    def moved(self, c: Float[np.ndarray, " k"]) -> "Section":
        """The same directions through θ + U c, with the model of the cost there, by products alone.

        Raises:
            HesseValueError: the cost or its gradient is not finite there.
        """
        cost = self.q.cost.at(self.q.cost.theta + self.step(c))
        return Section(quadratic(cost, curvature=self.q.curvature, dense=False), self.basis)


def direction(q: QuadraticModel, given: Any, what: str) -> Float[Tensor, " P"]:
    """One direction in any of the forms that a step has.

    Raises:
        HesseError: another size, type or names than the parameters', several at once, or nothing
            but zeros.
    """
    vector = q.steps(given, what)
    if vector.ndim != 1:
        raise HesseValueError(f"{what}: expected one direction, got a matrix of {vector.shape[1]}")
    if not bool(vector.any()):
        raise HesseValueError(f"{what}: is zero, and a direction is not")
    return vector


def require_model_and_points(q: Any, points: Any) -> int:
    """A model, and points enough to draw a line between.

    Raises:
        HesseTypeError: not a `QuadraticModel`.
        HesseValueError: not a whole number of points, or fewer than two.
    """
    require_instance(q, QuadraticModel, "q", "hesse.quadratic(cost)")
    number = require_integer(points, "points", 2)
    if number > _MOST_POINTS:
        raise HesseValueError(f"points: expected at most {_MOST_POINTS}, got {number}")
    return number


def orthonormal(*directions: Float[Tensor, " P"]) -> Float[Tensor, "P k"] | None:
    """The directions made orthonormal in their order (Gram and Schmidt); ``None`` where they are
    dependent to rounding."""
    columns: list[Tensor] = []
    for vector in directions:
        rest = vector / torch.linalg.vector_norm(vector)
        for _ in range(2):  # twice is enough (Kahan)
            for column in columns:
                rest = rest - (column @ rest) * column
        size = torch.linalg.vector_norm(rest)
        if not float(size) > torch.finfo(rest.dtype).eps ** 0.5:
            return None
        columns.append(rest / size)
    return torch.stack(columns, dim=1)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
