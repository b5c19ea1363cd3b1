"""Inverses as operators, and covariances as matrices."""

from typing import Any, final

import torch
from torch import Tensor

from hesse.curvatures.curvature import Curvature
from hesse.display import Fact
from hesse.errors import HesseValueError
from hesse.linear_operators.linear_operator import LinearOperator, SymmetricOperator
from hesse.matrix.block_hessian import BlockHessian
from hesse.process.memory import enough_memory
from hesse.process.undisturbed import undisturbed
from hesse.solves.direct import CholeskyFactor, NotDefinite
from hesse.solves.solve import dense_operator, require_damping, solver_of
from hesse.solves.solver import Solver
from hesse.words import CurvatureName, PreconditionerName, SolveMethod


@enough_memory()
@undisturbed()
def inverse(
    what: Any,
    *,
    damping: float = 0.0,
    curvature: CurvatureName | str | Curvature | None = None,
    method: SolveMethod | str | None = None,
    preconditioner: PreconditionerName | str | LinearOperator | None = None,
    tolerance: float = 1e-8,
    maxiter: int | None = None,
) -> SymmetricOperator:
    """(A + damping I)⁻¹ of a symmetric A, as an operator whose product is a solve.

    ``inverse(cost)["0.weight", "0.weight"].dense()`` is a block of the inverse, by as many solves
    as it has columns.

    Args:
        what, damping, curvature, method, preconditioner, tolerance, maxiter: as for `solve`. A
            factorisation is made once.

    Raises:
        HesseError: as for `solve`; A is not symmetric; and, of a product, a solve that does not
            come to an end within the tolerance or, where rounding ends it, the root of it.

    Examples:
        >>> import torch, hesse
        >>> hesse.inverse(torch.tensor([[2.0, 0.0], [0.0, 4.0]])) @ torch.ones(2)
        tensor([0.5000, 0.2500])
    """
    solver = solver_of(
        what,
        damping=damping,
        curvature=curvature,
        method=method,
        preconditioner=preconditioner,
        tolerance=tolerance,
        maxiter=maxiter,
    )
    if not solver.system.is_symmetric():
        raise HesseValueError("what: expected a symmetric matrix; hesse.solve takes any")
    return InverseOperator(solver)


@final
class InverseOperator(SymmetricOperator):
    """A⁻¹, a solve for each product."""

    def __init__(self, solver: Solver) -> None:
        A = solver.system.operator
        super().__init__(A.rows, A.dtype, A.device)
        self._solver = solver

    def _parts_of_it(self) -> tuple[Fact, ...]:
        return (Fact("is", f"the inverse of {self._solver.system.operator}"),)

    def _calls(self) -> tuple[str, ...]:
        return ("A @ b", "A[name].dense()", "hesse.covariance(cost)")

    def _dtype_of(self, name: str) -> torch.dtype:
        return self._solver.system.operator._dtype_of(name)

    def _product(self, v: Tensor) -> Tensor:
        solved = self._solver.solve(v.unsqueeze(1) if v.ndim == 1 else v)
        worst = float(solved.residuals.max())
        if worst > max(self._solver.tolerance, self._solver.system.eps**0.5):
            raise HesseValueError(
                f"inverse: its product leaves a relative residual of {worst:.2g}:"
                f" {self._solver.note}{solved.endings.reason}"
            )
        return solved.vectors.reshape(v.shape)


@enough_memory("hesse.inverse(...)['name'].dense() gives a block of it, without the matrix")
@undisturbed()
def covariance(
    what: Any, *, damping: float = 0.0, curvature: CurvatureName | str | Curvature | None = None
) -> BlockHessian:
    """Σ = (A + damping I)⁻¹, dense, of a positive definite A: of a cost that is −log p(θ | data),
    the covariance of Laplace's approximation at its minimum.

    Blocks by name are ``covariance(cost)["0.weight", "2.bias"]``, the variance of each parameter is
    ``.diagonal()``. A cost that is the mean over N samples has N Σ: give the sum, or divide.

    Args:
        what: a cost, or anything that `as_operator` takes, small enough to be dense.
        damping: what is added to the diagonal, as a prior's precision is.
        curvature: of a cost, what of its second derivatives; all of them by default.

    Returns:
        The matrix, in the form that `hessian` has.

    Raises:
        HesseValueError: the matrix is not positive definite: a covariance is.
        HesseMemoryError: it does not fit.

    Source: D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4 (1992), 448.

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> hesse.covariance(cost).diagonal()
        {'weight': tensor([[1.0000, 0.2500]])}
    """
    damping = require_damping(damping)
    operator = dense_operator(what, curvature)
    if not operator.is_symmetric:
        raise HesseValueError(
            "what: expected a symmetric matrix, as the inverse of a covariance is"
        )
    try:
        factor = CholeskyFactor(operator.dense(), damping)
    except NotDefinite as error:
        why, advice = error.explained()
        raise HesseValueError(
            f"what: no covariance, for {why}; give {advice}, or a curvature that is"
            " positive semidefinite, as curvature='gauss_newton' is of a convex loss"
        ) from None
    return BlockHessian(
        operator.rows,
        matrix=factor.inverse(),
        provenance={"what": f"the inverse of {what!r} + {damping:g} I"},
    )
