"""The quadratic model of a cost: J(θ + s) ≈ J + gᵀs + ½ sᵀHs, as a thing to call, to judge and to
step with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.display import Display, Displayed, facts
from hesse.errors import HesseValueError, require_positive
from hesse.evaluation import value
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.spectrum import Eigen
from hesse.process.undisturbed import undisturbed
from hesse.products.hessian_operator import HessianOperator
from hesse.taylor import checks, solvers
from hesse.taylor.points import Point
from hesse.taylor.spaces import Spaces
from hesse.taylor.stationary import StationaryPoint, stationary_point
from hesse.taylor.step import Step, make_step
from hesse.taylor.subproblem.space import Solver
from hesse.taylor.trust import Trust, make_trust
from hesse.words.shapes import Float


@final
@dataclass(frozen=True, eq=False, repr=False)
class QuadraticModel(Displayed):
    """J(θ + s) ≈ J + gᵀs + ½ sᵀHs; made by `hesse.quadratic`.

    ``q(s)`` takes a flat vector (P,), a matrix (P, K) of steps as its columns, a dictionary {name:
    Tensor} or a `Step`.

    Attributes:
        cost: the cost, at θ.
        value: J(θ).
        gradient: g, flat, in layout order.
        curvature: what H is.
        dense: whether H is built; if not, it is known by its products.
        plan: which of the two, and why.
    """

    cost: Cost
    value: float
    gradient: Float[Tensor, " P"]
    curvature: str
    dense: bool
    plan: str
    _point: Point
    _products: int
    _progress: bool | None

    # Krylov spaces do not travel: a copy seeks its steps anew.
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "spaces"}

    def _display(self) -> Display:
        slope = float(torch.linalg.vector_norm(self.gradient))
        return Display(
            "QuadraticModel",
            f"J + gᵀs + ½ sᵀHs of {self.cost}",
            facts(
                J=f"{self.value:.6g}",
                **{"‖g‖": f"{slope:.4g}"},
                H=f"{self.curvature}; {self.plan}",
            ),
            next=(
                "q.newton()",
                "q.trust_region(radius)",
                "q.stationary_point()",
                "q.trust()",
                "q(s)",
            ),
        )

    @property
    def layout(self) -> Layout:
        """The order of the parameters in flat vectors."""
        return self.cost.layout

    @cached_property
    def hessian(self) -> BlockHessian | HessianOperator:
        """H: a `BlockHessian`, or an operator where it is not built. Both take ``H @ s``.

        Raises:
            HesseValueError: it is built and has entries that are not finite: θ is at a kink or a
                pole.
        """
        H = self._point.hessian(certify=True)
        if isinstance(H, BlockHessian):
            checks.require_finite_hessian(H.dense(), "H")
        return H

    def product(self, V: Float[Tensor, "P *K"]) -> Float[Tensor, "P *K"]:
        """H V, refused where it is not finite."""
        product = self.hessian @ checks.require_steps(V, self.gradient, "V")
        checks.require_finite_hessian(product, "H s")
        return product

    def eigh(self) -> Eigen:
        """Eigenvalues of H in ascending order and eigenvectors as columns, computed once.

        Raises:
            HesseValueError: H is not built.
        """
        if not isinstance(self.hessian, BlockHessian):
            raise HesseValueError(
                "eigh(): H is not built here, it is known by its products; hesse.quadratic(cost,"
                " dense=True)"
            )
        return self.hessian.eigh()

    @undisturbed()
    def __call__(self, s: Any) -> Float[Tensor, "*K"]:
        """J + gᵀs + ½ sᵀHs, for each step: one number, or (K,) of them.

        Raises:
            HesseError: steps of another size, type or names, or that are not finite.
        """
        return (self.value + self._changes(self.steps(s))).to(self.gradient.dtype)

    @undisturbed()
    def error(self, s: Any) -> Float[Tensor, "*K"]:
        """J(θ + s) less the model there, in the same shapes; infinite where the cost is not a
        number.

        The model is taken at the step that θ + s rounds to, so that rounding of θ is not seen as an
        error.
        """
        steps = self.steps(s)
        columns = [self.compare(step) for step in (steps.unbind(1) if steps.ndim == 2 else [steps])]
        errors = torch.tensor(
            [true - model for true, model in columns],
            dtype=self.gradient.dtype,
            device=self.gradient.device,
        )
        return errors if steps.ndim == 2 else errors[0]

    @undisturbed()
    def compare(self, s: Float[Tensor, " P"]) -> tuple[float, float]:
        """The change of the true cost and that of the model, at the step that θ + s rounds to.

        Raises:
            HesseError: as for a call, or several steps.
        """
        s, theta = self._step_of(s), self.cost.theta
        moved = self.layout.unflatten(theta + s)
        rounded = self.layout.flatten(
            {name: moved[name].to(p.dtype) for name, p in self.cost.parameters.items()}
        )
        return self.true(s) - self.value, self.change((rounded - theta).to(s.dtype))

    def change(self, s: Float[Tensor, " P"]) -> float:
        """gᵀs + ½ sᵀHs.

        Raises:
            HesseError: as for a call, or several steps.
        """
        return float(self._changes(self._step_of(s)))

    def true(self, s: Float[Tensor, " P"]) -> float:
        """J(θ + s); infinite where it is not a number.

        Raises:
            HesseError: as for a call, or several steps.
        """
        moved = self.cost.theta + self._step_of(s)
        if not bool(moved.isfinite().all()):
            return math.inf
        J = value(self.cost.at(moved))
        return math.inf if math.isnan(J) else J

    def _changes(self, steps: Float[Tensor, "P *K"]) -> Float[Tensor, "*K"]:
        """gᵀs + ½ sᵀHs of each column, summed in float64."""
        wide = steps.double()
        return self.gradient.double() @ wide + (wide * self.product(steps).double()).sum(0) / 2

    def _step_of(self, s: Any) -> Float[Tensor, " P"]:
        """One step, checked."""
        step = self.steps(s)
        if step.ndim != 1:
            raise HesseValueError(
                f"s: expected one step of P = {len(step)} entries, got {step.shape[1]} as columns"
            )
        return step

    def steps(self, s: Any, what: str = "s") -> Float[Tensor, "P *K"]:
        """Steps in any of the forms that are taken, as a flat vector or as columns; checked."""
        return checks.require_steps(
            self.layout.flatten(s, what) if isinstance(s, Mapping) else getattr(s, "vector", s),
            self.gradient,
            what,
        )

    @undisturbed()
    def trust(self, direction: Any = None, tolerance: float = 0.1) -> Trust:
        """How far the model can be trusted along a line: a table of true cost and model, the order
        of the error, the radius.

        See `Trust` for what is computed.

        Args:
            direction: a step whose length does not matter; by default downhill, −g (a random one
                where g is zero).
            tolerance: of the relative error within the radius, |error| / (|gᵀs| + ½ |sᵀHs|).

        Raises:
            HesseError: a direction that is no step, or zero; a tolerance that is not positive.

        Examples:
            >>> import torch, hesse
            >>> cost = hesse.Cost.from_function(
            ...     lambda p: torch.exp(p["x"]).sum(), {"x": torch.zeros(1).double()}
            ... )
            >>> trust = hesse.quadratic(cost).trust()
            >>> round(trust.order, 1)
            3.0
        """
        return make_trust(self, direction, require_positive(tolerance, "tolerance"), self._progress)

    @undisturbed()
    def stationary_point(self) -> StationaryPoint:
        """Where the model's gradient is zero, named for what it is: minimum, maximum, saddle, flat
        valley, or none.

        Examples:
            >>> import torch, hesse
            >>> cost = hesse.Cost.from_function(
            ...     lambda p: p["x"].prod(), {"x": torch.tensor([1.0, 2.0])}
            ... )
            >>> print(hesse.quadratic(cost).stationary_point())
            saddle: 1 negative and 1 positive direction, unbounded below; ...
        """
        return stationary_point(self)

    def minimizer(self) -> Step:
        """The step to the model's minimum; in a flat valley, to its nearest point.

        Raises:
            HesseValueError: the model has no minimum; says the inertia of H, or that it falls
                without end where H is flat.
        """

        return self._step("minimizer", solvers.minimizer)

    def newton(self, damping: float = 0.0) -> Step:
        """(H + damping I) s = −g, where the matrix is positive definite.

        Raises:
            HesseValueError: it is not: says its inertia, the damping that makes it definite, and
                what else there is.
        """
        damping = require_positive(damping, "damping", zero=True)

        matrix = f"H + {damping:g} I" if damping else "H"
        reason = "the minimum of the damped model" if damping else "the minimum of the model"
        return self._step("newton", solvers.damped(damping, "newton", matrix, reason))

    def levenberg_marquardt(self, damping: float) -> Step:
        """(H + damping D) s = −g, D = |diag H|: Newton's step damped in each parameter's own units.

        Rescaling single parameters changes nothing, where `newton(damping)` is what rotations do
        not change. Where the diagonal is zero, D is its largest entry.

        Raises:
            HesseValueError: H + damping D is not positive definite; says which damping makes it so.

        Source:
            D. W. Marquardt, An algorithm for least-squares estimation of nonlinear parameters, J.
            SIAM 11 (1963), 431.
        """
        damping = require_positive(damping, "damping")

        # In s' = √D s the matrix is D^-½ H D^-½ + damping I: the damped rule serves, in other
        # units.
        solver = solvers.damped(
            damping,
            "levenberg_marquardt",
            f"H + {damping:g} |diag H|",
            "the minimum of the model damped by |diag H|",
        )
        space, scale = self.spaces.scaled_by_diagonal
        proposed = space.solve(solver)
        return make_step(
            self, "levenberg_marquardt", replace(proposed, vector=proposed.vector / scale)
        )

    def trust_region(self, radius: float) -> Step:
        """The model's minimiser over ‖s‖ <= radius: exact where H is built, else in the Krylov
        space.

            (H + λ I) s = −g,   λ >= 0,   λ (radius − ‖s‖) = 0,   H + λ I positive semidefinite

        Source:
            Moré and Sorensen (1983); Gould, Lucidi, Roma and Toint (1999) for the Krylov space.
        """
        radius = checks.require_size(radius, "radius")
        return self._step("trust_region", solvers.trust_region(radius))

    def cubic(self, M: float) -> Step:
        """The minimiser of gᵀs + ½ sᵀHs + M/6 ‖s‖³, an upper bound of the cost where M bounds the
        change of H.

            (H + λ I) s = −g,   λ = M ‖s‖ / 2,   H + λ I positive semidefinite

        Source:
            Nesterov and Polyak (2006).
        """
        M = checks.require_size(M, "M")
        return self._step("cubic", solvers.cubic(M))

    def saddle_free(self, damping: float = 0.0) -> Step:
        """(|H| + damping I) s = −g, |H| with the absolute eigenvalues: away from saddles, where
        Newton's step runs to them.

        Raises:
            HesseValueError: |H| + damping I is singular.

        Source:
            Y. Dauphin et al., Identifying and attacking the saddle point problem in
            high-dimensional non-convex optimization, NeurIPS (2014).
        """
        damping = require_positive(damping, "damping", zero=True)

        return self._step("saddle_free", solvers.saddle_free(damping))

    def negative_curvature(self, length: float = 1.0) -> Step:
        """A step of this length along the eigenvector of the lowest eigenvalue, to the side where
        gᵀs <= 0.

        Raises:
            HesseValueError: no eigenvalue is negative (none was met, where H is not built).
        """
        length = checks.require_size(length, "length")

        proposed = self.spaces.of_random_vector.solve(solvers.along_lowest(length))
        checks.require_negative_curvature(proposed.reduced)
        return make_step(self, "negative_curvature", proposed)

    @undisturbed()
    def _step(self, method: str, solver: Solver) -> Step:
        return make_step(self, method, self.spaces.of_gradient.solve(solver))

    @cached_property
    def spaces(self) -> Spaces:
        """Where steps and extreme eigenvectors are sought."""
        return Spaces(self, self._products, self._progress)
