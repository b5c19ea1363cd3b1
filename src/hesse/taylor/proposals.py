"""The methods of `hesse.minimize` that bound their steps: for each name, how a step is proposed at
a point and a radius."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from hesse.matrix.eigensolver import eigh
from hesse.taylor.points import Point
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.cholesky import (
    Ball,
    Bound,
    BoundedStep,
    Cubic,
    Guess,
    ShiftedCholesky,
    step,
)
from hesse.taylor.subproblem.krylov import KrylovSpace
from hesse.taylor.subproblem.space import FullSpace, ReducedModel

# The most products with H for one cubic step where H is not built: as `hesse.quadratic` has by
# default.
_PRODUCTS = 100
# Relative: SciPy does not say whether its step is on the boundary; one of the radius's length to
# this is.
_ON_BOUNDARY = 1e-6
# What the first step of a run starts from.
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


class HessianNotDefinite(Exception):
    """The method needs a positive definite H."""


class Method(abc.ABC):
    """Proposes steps."""

    @abc.abstractmethod
    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        """A step at a point within a radius; the guess of the one before shortens the search for
        it."""

    def is_minimum(self, point: Point, tolerance: float) -> bool | None:
        """Whether H has no eigenvalue below −tolerance; a method that says ``False`` must be able
        to step off such a saddle. ``None``: it cannot tell, and a small gradient is reason to
        stop."""
        return None


@final
class CholeskyMethod(Method):
    """Steps by Cholesky factors of H + λ I, in memory that all steps share; by eigenvectors where
    rounding fails those.

    Args:
        bound: radius -> what keeps the step short.
        exact: (eigenvalues, coefficients of g, radius) -> the same step in the basis of
            eigenvectors.
    """

    def __init__(
        self,
        bound: Callable[[float], Bound],
        exact: Callable[[ReducedModel, float], spectral.Solution],
    ) -> None:
        self._bound, self._exact = bound, exact
        self._point: Point | None = None
        self._shifted: ShiftedCholesky | None = None

    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        bound = self._bound(radius)
        short = step(self._shifted_at(point), point.gradient, bound, guess)
        if short is None:  # rounding fails Cholesky's search: all eigenvectors, once
            values, vectors = eigh(point.matrix)
            exact = FullSpace(values, vectors, point.gradient).solve(
                lambda reduced: self._exact(reduced, radius)
            )
            short = BoundedStep(
                exact.vector, exact.multiplier, Guess(exact.multiplier, vectors[:, 0].clone())
            )
        length = float(torch.linalg.vector_norm(short.vector))
        predicted = _decrease(point, short.vector, point.matrix @ short.vector) - bound.penalty(
            length
        )
        return Proposal(short.vector, predicted, short.multiplier > 0, short.guess)

    def is_minimum(self, point: Point, tolerance: float) -> bool:
        return self._shifted_at(point).factorise(tolerance)

    def _shifted_at(self, point: Point) -> ShiftedCholesky:
        if self._point is not point or self._shifted is None:
            self._point, self._shifted = point, ShiftedCholesky(point.matrix, self._shifted)
        return self._shifted


@final
class KrylovCubicMethod(Method):
    """The cubic step in a Krylov space, which serves every radius at its point."""

    def __init__(self) -> None:
        self._point: Point | None = None
        self._space: KrylovSpace | None = None

    def propose(self, point: Point, radius: float, guess: Guess) -> Proposal:
        if self._point is not point or self._space is None:
            self._point, self._space = (
                point,
                KrylovSpace(point.product, point.gradient, _PRODUCTS, progress=False),
            )
        short = self._space.solve(lambda reduced: _cubic(reduced, radius))
        length = float(torch.linalg.vector_norm(short.vector))
        predicted = _decrease(point, short.vector, point.product(short.vector)) - Cubic(
            1 / radius
        ).penalty(length)
        # The cubic term shortens every step, so that a larger radius always changes it.
        return Proposal(short.vector, predicted, True)


@final
class SciPyMethod(Method):
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
        # SciPy asks for the product with the step three times.
        last: list[Any] = [None, None]

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
            result = minimize(
                lambda s: float(g @ s + s @ product(s) / 2),
                np.zeros_like(g),
                jac=lambda s: g + product(s),
                method=self._name,
                # One iteration on the model itself, of which SciPy's ratio of actual to predicted
                # is 1: its step is taken, with the radius given here.
                options={
                    "maxiter": 1,
                    "gtol": 0.0,
                    "initial_trust_radius": radius,
                    "max_trust_radius": 2 * radius,
                },
                **derivatives,
            )
        if result.status == 3:  # a factorisation failed
            raise HessianNotDefinite
        vector = torch.from_numpy(result.x).to(point.gradient)
        return Proposal(
            vector,
            -float(result.fun),
            float(np.linalg.norm(result.x)) >= (1 - _ON_BOUNDARY) * radius,
        )


def _decrease(point: Point, s: Tensor, Hs: Tensor) -> float:
    """−(gᵀs + ½ sᵀHs)."""
    return -float(point.gradient @ s + s @ Hs / 2)


def _ball(reduced: ReducedModel, radius: float) -> spectral.Solution:
    return spectral.trust_region(reduced.values, reduced.coefficients, radius)


def _cubic(reduced: ReducedModel, radius: float) -> spectral.Solution:
    return spectral.cubic(reduced.values, reduced.coefficients, 1 / radius)


class HessianForm(Enum):
    """What a method takes of H unless the user decides.

    Attributes:
        BUILT: the matrix; the method cannot do without.
        BUILT_WHERE_IT_FITS: the matrix, or products with it where memory does not hold it.
        PRODUCTS: products; the matrix on request only.
    """

    BUILT = auto()
    BUILT_WHERE_IT_FITS = auto()
    PRODUCTS = auto()


@dataclass(frozen=True)
class MethodRecord:
    """How a method is run.

    Attributes:
        make: makes it, told whether H is built; ``None`` for what is not a `Method`: the line
            searches of Newton-CG.
        form: what it takes of H.
    """

    make: Callable[[bool], Method] | None
    form: HessianForm


METHODS: dict[str, MethodRecord] = {
    "trust-exact": MethodRecord(lambda dense: CholeskyMethod(Ball, _ball), HessianForm.BUILT),
    "cubic": MethodRecord(
        lambda dense: (
            CholeskyMethod(lambda radius: Cubic(1 / radius), _cubic)
            if dense
            else KrylovCubicMethod()
        ),
        HessianForm.BUILT_WHERE_IT_FITS,
    ),
    "trust-krylov": MethodRecord(
        lambda dense: SciPyMethod("trust-krylov", matrix=False), HessianForm.PRODUCTS
    ),
    "trust-ncg": MethodRecord(
        lambda dense: SciPyMethod("trust-ncg", matrix=False), HessianForm.PRODUCTS
    ),
    "dogleg": MethodRecord(lambda dense: SciPyMethod("dogleg", matrix=True), HessianForm.BUILT),
    "Newton-CG": MethodRecord(None, HessianForm.PRODUCTS),
}
