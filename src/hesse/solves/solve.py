"""`solve`: (A + damping I) x = b, by the method that fits."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.errors import (
    HesseValueError,
    require_integer,
    require_number,
    require_positive,
    require_progress,
    require_word,
)
from hesse.exact.hessian import hessian
from hesse.linear_operators.conversion import as_operator
from hesse.linear_operators.given import BlocksOperator, MatrixOperator
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.linear_operators.low_rank import ClosedFormOperator
from hesse.linear_operators.vectors import (
    DtypeOf,
    alike,
    flat_vector,
    require_columns,
    require_vector,
)
from hesse.process.memory import enough_memory
from hesse.process.undisturbed import undisturbed
from hesse.products.hessian_operator import HessianOperator
from hesse.solves.direct import CholeskyFactor, ClosedForm, Eigenvectors, NotDefinite
from hesse.solves.preconditioners import Asked, preconditioner_of
from hesse.solves.solution import Solution, Vector
from hesse.solves.solver import ITERATIONS, Solver
from hesse.solves.system import System
from hesse.words import CurvatureName, PreconditionerName, SolveMethod

METHODS = ("cholesky", "eigh", *ITERATIONS)
# Which take a preconditioner, and which a matrix that is symmetric.
_PRECONDITIONED = ("cg", "minres")
_DIRECT = ("cholesky", "eigh")
_SYMMETRIC = (*_DIRECT, "cg", "minres", "neumann")
# Up to so many parameters a cost's Hessian is there sooner than the products of an iteration.
_DENSE = 4096
# Iterations for each entry of a solution, by default, and how many at the least and the most.
_ITERATIONS, _FEWEST_ITERATIONS, _MOST_ITERATIONS = 10, 1000, 10_000


@enough_memory("give fewer columns at once, or use an iterative method=")
@undisturbed()
def solve(
    what: Any,
    b: Vector,
    *,
    damping: float = 0.0,
    curvature: CurvatureName | str | Curvature | None = None,
    method: SolveMethod | str | None = None,
    preconditioner: PreconditionerName | str | LinearOperator | None = None,
    tolerance: float = 1e-8,
    maxiter: int | None = None,
    progress: bool | None = None,
) -> Solution[Vector]:
    """The solution x of (A + damping I) x = b, for one right-hand side or many at once.

    Args:
        what: A: a cost, whose Hessian it is, or anything that `as_operator` takes.
        b: a flat vector (P,), a matrix (P, K) of right-hand sides as columns, a dictionary {name:
            Tensor}, or a list of tensors in the layout's order.
        damping: what is added to the diagonal, >= 0.
        curvature: of a cost, what of its second derivatives; all of them by default.
        method: ``"cholesky"`` forms the matrix, which has to be positive definite, ``"eigh"`` forms
            one that need not be; ``"cg"`` iterates, with products alone, needs a positive definite
            matrix and stops where it sees that it is not; ``"minres"`` takes any symmetric one,
            ``"lsmr"`` any matrix, of any shape; ``"neumann"`` sums the series of the inverse, and
            is there to compare with. By default the closed form of an operator that has one;
            Cholesky's factor of a symmetric matrix that is there, or of a cost of at most 4096
            parameters, and its eigenvectors where that is not definite; ``"minres"`` of another
            symmetric operator; ``"lsmr"`` otherwise. `Solution.method` says which it was.
        preconditioner: for ``"cg"`` and ``"minres"``, an operator near the inverse of A + damping
            I, symmetric and positive definite, as `kfac(cost).inverse(damping)` is; or
            ``"diagonal"``, ``"block_diagonal"``, ``"kfac"``, which are made of A. Absolute
            (eigen)values stand for negative ones.
        tolerance: the wanted residual ‖b − (A + damping I) x‖ / ‖b‖.
        maxiter: the most iterations; by default ten for each entry, at least 1,000 and at most
            10,000.
        progress: show how far it is; by default where it takes more than two seconds and a terminal
            is watching.

    Returns:
        x, of the kind that b is, with its residual, and how it ended. Where A is singular and b not
        in its range, ``"eigh"``, ``"lsmr"`` and, to fewer digits, ``"minres"`` without a
        preconditioner give the shortest of the least-squares solutions, and say so.

    Raises:
        HesseTypeError, HesseValueError: an argument that cannot be used, a matrix that the method
            is not for, or products that are not finite.
        HesseMemoryError: the dense matrix does not fit.

    Source: one for each method, in ``hesse.solves``.

    Examples:
        >>> import torch, hesse
        >>> A = torch.tensor([[2.0, 1.0], [1.0, -3.0]]).double()
        >>> solution = hesse.solve(A, torch.tensor([3.0, -2.0]).double(), method="minres")
        >>> solution.vector.round(decimals=6), solution.reason
        (tensor([1., 1.], dtype=torch.float64), 'converged, the residual is within the tolerance')
    """
    solver = solver_of(
        what,
        damping=damping,
        curvature=curvature,
        method=method,
        preconditioner=preconditioner,
        tolerance=tolerance,
        maxiter=maxiter,
        progress=progress,
    )
    operator, dtype_of = solver.system.operator, _dtype_of(what, solver.system.operator)
    flat = flat_right_hand_side(b, operator, dtype_of)
    solved = solver.solve(flat.unsqueeze(1) if flat.ndim == 1 else flat)
    found: Any = solved.vectors.squeeze(1) if flat.ndim == 1 else solved.vectors
    if isinstance(b, Mapping | list | tuple):
        found = alike(found, b, operator.columns, dtype_of)
    residuals = solved.residuals
    return Solution(
        vector=found,
        residual=float(residuals.max()) if len(residuals) else 0.0,
        residuals=residuals,
        converged=solved.endings.are_solutions,
        reason=solver.note + solved.endings.reason,
        products=solver.system.products,
        method=solver.method,
    )


def flat_right_hand_side(b: Any, operator: LinearOperator, dtype_of: DtypeOf) -> Tensor:
    """b as (M,) or (M, K), checked."""
    if isinstance(b, Mapping | list | tuple):
        return flat_vector(b, operator.rows, dtype_of, operator.device, "b").detach()
    b = require_columns(b, operator.rows, "b")
    require_vector(b, "b", operator.dtype, operator.device)
    return b.detach()


def solver_of(
    what: Any,
    *,
    damping: float,
    curvature: CurvatureName | str | Curvature | None,
    method: SolveMethod | str | None,
    preconditioner: PreconditionerName | str | LinearOperator | None,
    tolerance: float,
    maxiter: int | None,
    progress: bool | None = None,
) -> Solver:
    """The solver that the arguments of `solve` ask for, checked."""
    damping = require_damping(damping)
    tolerance = require_positive(tolerance, "tolerance")
    require_progress(progress)
    require_word(method, "method", (None, *METHODS))
    if maxiter is not None:
        maxiter = require_integer(maxiter, "maxiter", 1)
    if preconditioner is not None and method not in (None, *_PRECONDITIONED):
        raise HesseValueError(f"preconditioner: {method!r} takes none; 'cg' and 'minres' do")
    is_dense = method in _DIRECT or (
        method is None
        and preconditioner is None
        and isinstance(what, Cost)
        and what.layout.size <= _DENSE
    )
    operator = dense_operator(what, curvature) if is_dense else _operator_of(what, curvature)
    M, N = operator.shape
    plain = System(operator, damping)
    if damping and M != N:
        raise HesseValueError(f"damping: A + damping I needs a square A, got {M} x {N}; give 0")
    if method in _SYMMETRIC and not plain.is_symmetric():
        raise HesseValueError(
            f"method: {method!r} needs a symmetric matrix, and this one, {M} x {N}, is not;"
            " method='lsmr' takes any"
        )
    direct: CholeskyFactor | Eigenvectors | ClosedForm | None = None
    note = ""
    if method is None and preconditioner is None and isinstance(operator, ClosedFormOperator):
        method, direct = "closed form", ClosedForm(operator, damping)
    elif method is None:
        method = "minres" if plain.is_symmetric() else "lsmr"
        if method == "minres" and isinstance(operator, MatrixOperator) and preconditioner is None:
            try:
                direct, method = CholeskyFactor(operator.matrix, damping), "cholesky"
            except NotDefinite:
                direct, method = Eigenvectors(operator.matrix, damping), "eigh"
                note = "the matrix is not positive definite; by its eigenvectors: "
    elif method == "eigh":
        direct = Eigenvectors(operator.dense(), damping)
    elif method == "cholesky":
        try:
            direct = CholeskyFactor(operator.dense(), damping)
        except NotDefinite as error:
            why, advice = error.explained()
            raise HesseValueError(
                f"method: 'cholesky': {why}; give {advice}, or use method='minres', which does not"
                " need it"
            ) from None
    if preconditioner is not None and method not in _PRECONDITIONED:
        raise HesseValueError(f"preconditioner: {method!r} takes none; 'cg' and 'minres' do")
    asked = Asked(operator, damping, _cost_of(what, curvature))
    system = System(operator, damping, preconditioner_of(preconditioner, asked))
    if direct is not None and isinstance(operator, MatrixOperator):
        # No iteration will see it.
        system.norm = float(torch.linalg.matrix_norm(operator.matrix)) + damping
    return Solver(
        system,
        method,
        direct,
        tolerance,
        maxiter or min(max(_FEWEST_ITERATIONS, _ITERATIONS * N), _MOST_ITERATIONS),
        progress,
        note,
    )


def require_damping(damping: Any) -> float:
    """A finite number that is not negative."""
    number = require_number(damping, "damping")
    if number < 0:
        raise HesseValueError(f"damping: expected a finite number >= 0, got {number:g}")
    return number


def dense_operator(what: Any, curvature: CurvatureName | str | Curvature | None) -> LinearOperator:
    """The operator with its matrix; that of a cost without products."""
    cost = _cost_of(what, curvature)
    if cost is not None:
        return as_operator(hessian(cost, curvature=cost.curvature))
    operator = _operator_of(what, curvature)
    if isinstance(operator, MatrixOperator):
        return operator
    if isinstance(operator, BlocksOperator) and operator.hessian.is_complete:
        return MatrixOperator(operator.hessian.dense(), operator.rows)
    return MatrixOperator(operator.dense(), operator.rows, operator.columns)


def _operator_of(what: Any, curvature: CurvatureName | str | Curvature | None) -> LinearOperator:
    """An operator that can be solved with."""
    operator = as_operator(what, curvature=curvature)
    if operator.dtype not in (torch.float32, torch.float64):
        raise HesseValueError(
            f"what: expected float32 or float64, got {operator.dtype}, which rounds too much;"
            " convert it"
        )
    return operator


def _cost_of(what: Any, curvature: CurvatureName | str | Curvature | None) -> Cost | None:
    """The cost that A is of, with the curvature that is asked for."""
    if isinstance(what, Cost):
        return cost_with_curvature(what, "hessian" if curvature is None else curvature)
    return what.cost if isinstance(what, HessianOperator) and curvature is None else None


def _dtype_of(what: Any, operator: LinearOperator) -> DtypeOf:
    """The dtype of a part in a dictionary: of a cost's, that of its parameter."""
    if isinstance(what, Cost):
        return lambda name: what.parameters[name].dtype
    return operator._dtype_of
