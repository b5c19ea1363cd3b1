"""The methods of `hesse.minimize` that bound their steps: for each name, how a step is proposed at
a point and a radius."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from hesse.taylor.points import Point
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.cholesky import Ball, Bound, Cubic, Found, Guess, Shifted, step
from hesse.taylor.subproblem.krylov import Krylov
from hesse.taylor.subproblem.space import Reduced, Whole

# The most products with H for one cubic step where H is not built.
_PRODUCTS = 100
# A step that has the radius's length to this is on the boundary.
_ON_BOUNDARY = 1e-6
_NO_GUESS = Guess()


@dataclass(frozen=True)
class Proposal:
    """A step.

    Attributes:
        vector: s.
        predicted: how much the model falls.
        bounded: whether the radius kept the step short, so that a larger one would change it.
        guess: for the next step, of a method that can use it.
    """

    vector: Tensor
    predicted: float
    bounded: bool
    guess: Guess = _NO_GUESS


class NotDefinite(Exception):
    """The method needs a positive definite H."""


class Method(abc.ABC):
    """Proposes steps."""

    @abc.abstractmethod
    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        """A step at a point within a radius; the guess of the one before shortens the search for
        it."""

    def is_minimum(self, point: Point, tolerance: float) -> bool | None:
        """Whether H has no eigenvalue below −tolerance, where the method can tell and go on: a
        saddle is no place to stop."""
        return None


@final
class Factored(Method):
    """Steps by Cholesky factors of H + λ I, in memory that all steps share; by eigenvectors where
    rounding fails those.

    Args:
        bound: radius -> what keeps the step short.
        exact: (eigenvalues, coefficients of g, radius) -> the same step in the basis of
            eigenvectors.
    """

    def __init__(
        self, bound: Callable[[float], Bound], exact: Callable[[Reduced, float], spectral.Solution]
    ) -> None:
        self._bound, self._exact = bound, exact
        self._point: Point | None = None
        self._shifted: Shifted | None = None

    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        bound = self._bound(radius)
        found = step(self._at(point), point.gradient, bound, guess)
        if found is None:
            values, vectors = torch.linalg.eigh(point.matrix)
            whole = Whole(values, vectors, point.gradient).solve(
                lambda reduced: self._exact(reduced, radius)
            )
            found = Found(
                whole.vector, whole.multiplier, Guess(whole.multiplier, vectors[:, 0].clone())
            )
        length = float(torch.linalg.vector_norm(found.vector))
        predicted = _decrease(point, found.vector, point.matrix @ found.vector) - bound.penalty(
            length
        )
        return Proposal(found.vector, predicted, found.multiplier > 0, found.guess)

    def is_minimum(self, point: Point, tolerance: float) -> bool:
        return self._at(point).factorise(tolerance)

    def _at(self, point: Point) -> Shifted:
        if self._point is not point or self._shifted is None:
            self._point, self._shifted = point, Shifted(point.matrix, self._shifted)
        return self._shifted


@final
class KrylovCubic(Method):
    """The cubic step in a Krylov space, which serves every radius at its point."""

    def __init__(self) -> None:
        self._point: Point | None = None
        self._space: Krylov | None = None

    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        if self._point is not point or self._space is None:
            self._point, self._space = (
                point,
                Krylov(point.product, point.gradient, _PRODUCTS, progress=False),
            )
        found = self._space.solve(lambda reduced: _cubic(reduced, radius))
        length = float(torch.linalg.vector_norm(found.vector))
        predicted = _decrease(point, found.vector, point.product(found.vector)) - Cubic(
            1 / radius
        ).penalty(length)
        return Proposal(found.vector, predicted, True)


@final
class FromSciPy(Method):
    """The step of one of SciPy's methods: what it makes of the quadratic model itself in its first
    iteration.

    Args:
        name: SciPy's name of the method.
        matrix: whether it wants H; otherwise it is given products.
    """

    def __init__(self, name: str, matrix: bool) -> None:
        self._name, self._matrix = name, matrix

    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        from scipy.optimize import minimize

        g = point.gradient.double().cpu().numpy()
        last: list[Any] = [None, None]  # SciPy asks for the product with the step three times

        def product(v: np.ndarray) -> np.ndarray:
            if last[0] is None or not np.array_equal(last[0], v):
                tensor = torch.from_numpy(v).to(point.gradient)
                last[:] = v.copy(), point.product(tensor).double().cpu().numpy()
            return last[1]

        derivatives: dict[str, Any] = {"hessp": lambda s, v: product(v)}
        if self._matrix:
            H = point.matrix.double().cpu().numpy()
            derivatives = {"hess": lambda s: H}
        with np.errstate(all="ignore"):
            found = minimize(
                lambda s: float(g @ s + s @ product(s) / 2),
                np.zeros_like(g),
                jac=lambda s: g + product(s),
                method=self._name,
                options={
                    "maxiter": 1,
                    "gtol": 0.0,
                    "initial_trust_radius": radius,
                    "max_trust_radius": 2 * radius,
                },
                **derivatives,
            )
        if found.status == 3:  # a factorisation failed
            raise NotDefinite
        vector = torch.from_numpy(found.x).to(point.gradient)
        return Proposal(
            vector, -float(found.fun), float(np.linalg.norm(found.x)) >= (1 - _ON_BOUNDARY) * radius
        )


def _decrease(point: Point, s: Tensor, Hs: Tensor) -> float:
    """−(gᵀs + ½ sᵀHs)."""
    return -float(point.gradient @ s + s @ Hs / 2)


def _ball(reduced: Reduced, radius: float) -> spectral.Solution:
    return spectral.trust_region(reduced.values, reduced.coefficients, radius)


def _cubic(reduced: Reduced, radius: float) -> spectral.Solution:
    return spectral.cubic(reduced.values, reduced.coefficients, 1 / radius)


@dataclass(frozen=True)
class Choice:
    """How a method is run.

    Attributes:
        make: makes it, told whether H is built; ``None`` for what is not a `Method`: the line
            searches of Newton-CG.
        builds: whether H is built: ``True``, it must be; ``None``, where it fits; ``False``, only
            on request.
    """

    make: Callable[[bool], Method] | None
    builds: bool | None


METHODS: dict[str, Choice] = {
    "trust-exact": Choice(lambda dense: Factored(Ball, _ball), True),
    "cubic": Choice(
        lambda dense: (
            Factored(lambda radius: Cubic(1 / radius), _cubic) if dense else KrylovCubic()
        ),
        None,
    ),
    "trust-krylov": Choice(lambda dense: FromSciPy("trust-krylov", matrix=False), False),
    "trust-ncg": Choice(lambda dense: FromSciPy("trust-ncg", matrix=False), False),
    "dogleg": Choice(lambda dense: FromSciPy("dogleg", matrix=True), True),
    "Newton-CG": Choice(None, False),
}
