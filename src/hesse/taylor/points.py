"""The cost at one θ after another: J and ∇J from one pass over the data, H when it is asked for,
each computed once; and the `Iterate` that a callback is given."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from hesse.certificates import Certificate
from hesse.cost import Cost
from hesse.display import Display, Displayed, facts
from hesse.errors import HesseError, HesseValueError
from hesse.evaluation import value_and_gradient
from hesse.exact.hessian import hessian
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.eigensolver import eigvalsh
from hesse.products.hessian_operator import HessianOperator, operator
from hesse.taylor.subproblem.krylov import KrylovSpace
from hesse.taylor.subproblem.space import lowest
from hesse.words.shapes import Float

# Products with H for an estimate of its smallest eigenvalue where it is not built: an upper bound,
# which `Iterate.lowest` says.
_PRODUCTS = 40


class HessianNotFinite(HesseValueError):
    """H is not finite where the cost and its gradient are: it, or the squares of its entries, which
    every step needs."""

    def __init__(self) -> None:
        super().__init__(
            "H is not finite here, or too large to calculate with: the cost has a kink or a pole"
        )


def _is_finite(tensor: Tensor) -> bool:
    """Whether a tensor and its norm are finite: any nan or inf shows there, and so do squares that
    overflow."""
    return bool(torch.linalg.vector_norm(tensor).isfinite())


@final
class Evaluator:
    """Evaluates a cost at one θ after another, and counts.

    Args:
        cost: the cost, anywhere.
        dense: whether H is built, or known by its products.
        memory: bytes for H, as for `hesse.hessian` and `hesse.operator`.
        progress: as for `hesse.hessian`.

    Attributes:
        evaluations: how often J and ∇J were computed: together, in one pass.
        hessians: how often H was built, or multiplied with.
        shortened: how many θ had a cost or a gradient that is not finite.
    """

    def __init__(
        self, cost: Cost, dense: bool, memory: int | None, progress: bool | None = False
    ) -> None:
        self.cost, self.dense, self.memory, self.progress = cost, dense, memory, progress
        self.evaluations = self.hessians = self.shortened = 0

    def start(self) -> "Point":
        """The cost at the θ that it was given with, finite or not."""
        return self._evaluated(self.cost)

    def at(self, theta: Float[Tensor, " P"]) -> "Point | None":
        """The cost at θ, or ``None`` where it or its gradient is not finite."""
        if _is_finite(theta):
            point = self._evaluated(self.cost.at(theta))
            if math.isfinite(point.value) and _is_finite(point.gradient):
                return point
        self.shortened += 1
        return None

    def _evaluated(self, cost: Cost) -> "Point":
        value, slopes = value_and_gradient(cost)
        self.evaluations += 1
        return Point(self, cost, value, cost.layout.flatten(slopes).to(cost.dtype))


@final
class Point:
    """One θ: J and ∇J, and H when it is asked for.

    Attributes:
        cost: the cost at θ.
        value: J.
        gradient: ∇J, flat.
    """

    def __init__(self, evaluator: Evaluator, cost: Cost, value: float, gradient: Tensor) -> None:
        self._evaluator, self.cost, self.value, self.gradient = evaluator, cost, value, gradient
        self._hessian: BlockHessian | HessianOperator | None = None

    @cached_property
    def theta(self) -> Float[Tensor, " P"]:
        """θ, flat."""
        return self.cost.theta.to(self.cost.dtype)

    @cached_property
    def norm(self) -> float:
        """‖g‖∞."""
        return float(self.gradient.abs().max()) if len(self.gradient) else 0.0

    @property
    def dense(self) -> bool:
        """Whether H is built."""
        return self._evaluator.dense

    @cached_property
    def matrix(self) -> Float[Tensor, "P P"]:
        """H.

        Raises:
            HessianNotFinite: it has entries that are not.
        """
        self._evaluator.hessians += 1
        H = self.hessian(certify=False)
        assert isinstance(H, BlockHessian)
        if not _is_finite(H.dense()):
            raise HessianNotFinite
        return H.dense()

    def hessian(self, certify: bool) -> BlockHessian | HessianOperator:
        """H, built or known by its products; made once, and once more where it is to be certified
        and was not."""
        if self._hessian is None or (certify and self._hessian.certificate is None):
            settings = self._evaluator
            if self.dense:
                self._hessian = hessian(
                    self.cost,
                    curvature=self.cost.curvature,
                    memory=settings.memory,
                    certify=certify,
                    progress=settings.progress,
                )
            else:
                self._hessian = operator(
                    self.cost,
                    curvature=self.cost.curvature,
                    memory=settings.memory,
                    certify=certify,
                )
        return self._hessian

    def certify(self) -> Certificate | None:
        """Make H here and certify it; ``None`` where it is not finite.

        Raises:
            HesseValueError: no way of computing it agrees with double backward.
        """
        try:
            return self.hessian(certify=True).certificate
        except HesseValueError:
            if self._is_finite_here():
                raise
            return None

    def _is_finite_here(self) -> bool:
        """Whether H, or a product with it, has only numbers, believed or not."""
        try:
            return _is_finite(
                self.matrix if self.dense else self.hessian(certify=False) @ self.gradient
            )
        except HessianNotFinite:
            return False

    def product(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """H v.

        Raises:
            HessianNotFinite: it has entries that are not.
        """
        if not _is_finite(v):
            raise HessianNotFinite
        if self.dense:
            return self.matrix @ v
        self._evaluator.hessians += 1
        product = self.hessian(certify=False) @ v
        if not _is_finite(product):
            raise HessianNotFinite
        return product

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of H; where H is not built, the smallest Ritz value of some 40
        products: no less than it."""
        if self.dense:
            return float(eigvalsh(self.matrix)[0])
        space = KrylovSpace(self.product, self.gradient, _PRODUCTS, progress=False)
        return float(space.solve(lowest).reduced.values.min())


@final
@dataclass(frozen=True, eq=False, repr=False)
class Iterate(Displayed):
    """Where `hesse.minimize` is after an iteration: what its callback is given. Prints as one line.

    Attributes:
        iteration: how many are done.
        radius: the trust radius of the next step, for ``cubic`` 1/M; ``None`` where the method has
            none.
    """

    iteration: int
    radius: float | None
    _point: Point

    @property
    def value(self) -> float:
        """J."""
        return self._point.value

    @property
    def gradient(self) -> Float[Tensor, " P"]:
        """∇J, flat."""
        return self._point.gradient

    @property
    def gradient_norm(self) -> float:
        """‖∇J‖∞, the largest entry."""
        return self._point.norm

    @property
    def parameters(self) -> dict[str, Tensor]:
        """θ as {name: Tensor}."""
        return dict(self._point.cost.parameters)

    @property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of H, computed when it is asked for; where H is not built, an
        upper bound by 40 products.

        Raises:
            HesseValueError: H is not finite here.
        """
        return self._point.smallest_eigenvalue

    @property
    def lowest(self) -> str:
        """The smallest eigenvalue in words."""
        try:
            return (
                "smallest eigenvalue"
                f" {'' if self._point.dense else '<= '}{self.smallest_eigenvalue:.2e}"
            )
        except HessianNotFinite:
            return "no smallest eigenvalue, for H is not finite"
        except HesseError:
            return "no smallest eigenvalue, for H is refused"

    def _display(self) -> Display:
        return Display(
            "Iterate",
            f"after iteration {self.iteration}",
            facts(
                cost=f"{self.value:.9g}",
                **{"‖g‖∞": f"{self.gradient_norm:.2e}"},
                radius=None if self.radius is None else f"{self.radius:.2e}",
            ),
            next=("it.parameters", "it.gradient", "it.smallest_eigenvalue"),
        )

    def __str__(self) -> str:
        radius = "" if self.radius is None else f"   radius {self.radius:.2e}"
        return (
            f"{self.iteration:4d}   cost {self.value:.9g}   ‖g‖∞ {self.gradient_norm:.2e}{radius}"
        )
