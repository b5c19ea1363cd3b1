"""Sums of functions of the eigenvalues: the logarithm of the determinant, and how many directions
the data decide."""

from collections.abc import Callable
from typing import Any, Unpack, overload

import torch
from torch import Tensor

from hesse.curvatures.curvature import Curvature
from hesse.errors import HesseValueError, require_positive, rounded_up
from hesse.matrix.eigensolver import eigvalsh
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import Accuracy
from hesse.spectra.estimate import Estimate
from hesse.spectra.quadrature import spectral_sum
from hesse.spectra.subject import (
    EstimateOptions,
    Subject,
    answered,
    chosen_matrix,
    require_method,
)
from hesse.words import CurvatureName, Part, SpectralMethod


@overload
def logdet(
    what: Any, damping: float = 0.0, *, by: None = None, **options: Unpack[EstimateOptions]
) -> Estimate: ...
@overload
def logdet(
    what: Any, damping: float = 0.0, *, by: Part | str, **options: Unpack[EstimateOptions]
) -> dict[str, Estimate]: ...
@undisturbed()
def logdet(
    what: Any,
    damping: float = 0.0,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    products: int = 10_000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Estimate | dict[str, Estimate]:
    """log det(A + λ I) = Σ log(λ_i + λ), of a positive definite A + λ I.

    Exact where the matrix is there or costs no more than an estimate; else by quadrature of random
    vectors (`hesse.spectra.quadrature`).

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        damping: λ >= 0.
        error: the standard error to stop at; never before ten probes. It holds what the quadrature
            is still off, too.
        relative_error: the same as a part of the value; 0.01 where neither is given.
        method, curvature, by, products, seed, memory, progress: as for `hesse.trace`.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: A + λ I is not positive definite, which the text says how to mend; the
            matrix is not symmetric; or a name or a number that cannot be used.

    Examples:
        >>> import torch, hesse
        >>> print(hesse.logdet(torch.diag(torch.tensor([1.0, 3.0])), damping=1.0))
        2.07944 (exact, of the matrix given)
    """
    return _summed(
        "logdet",
        torch.log,
        what,
        require_positive(damping, "damping", zero=True),
        Accuracy.of(error, relative_error, products, seed, memory, progress),
        method,
        curvature,
        by,
    )


@overload
def effective_dimension(
    what: Any, damping: float, *, by: None = None, **options: Unpack[EstimateOptions]
) -> Estimate: ...
@overload
def effective_dimension(
    what: Any, damping: float, *, by: Part | str, **options: Unpack[EstimateOptions]
) -> dict[str, Estimate]: ...
@undisturbed()
def effective_dimension(
    what: Any,
    damping: float,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    products: int = 10_000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Estimate | dict[str, Estimate]:
    """tr A (A + λ I)⁻¹ = Σ λ_i / (λ_i + λ): how many directions the data decide rather than a prior
    of precision λ.

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        damping: λ > 0.
        error, relative_error, method, curvature, by, products, seed, memory, progress: as for
            `hesse.logdet`.

    Raises:
        HesseError: as for `hesse.logdet`.

    Source: D. J. C. MacKay, Bayesian interpolation, Neural Computation 4 (1992), 415, equation
    4.9.

    Examples:
        >>> import torch, hesse
        >>> print(hesse.effective_dimension(torch.diag(torch.tensor([1.0, 3.0])), 1.0))
        1.25 (exact, of the matrix given)
    """
    damping = require_positive(damping, "damping")
    return _summed(
        "effective dimension",
        lambda values: 1 - damping / values,
        what,
        damping,
        Accuracy.of(error, relative_error, products, seed, memory, progress),
        method,
        curvature,
        by,
    )


def _summed(
    name: str,
    function: Callable[[Tensor], Tensor],
    what: Any,
    damping: float,
    accuracy: Accuracy,
    method: SpectralMethod,
    curvature: CurvatureName | str | Curvature,
    by: Part | str | None,
) -> Estimate | dict[str, Estimate]:
    """Σ f(λ_i + λ)."""
    require_method(method)

    def of(values: Tensor, rows: int) -> Tensor:
        return function(_definite(values.double(), damping, rows, values.dtype))

    def answer(subject: Subject) -> Estimate:
        size = subject.size
        matrix = chosen_matrix(subject, method)
        if matrix is not None:
            value = float(of(eigvalsh(matrix.entries), size).sum()) if size else 0.0
            return Estimate(value, products=matrix.products, how=matrix.how, exact=True)
        product = subject.products(accuracy.products)
        dtype = subject.form.dtype

        def f(nodes: Tensor) -> Tensor:
            return function(_definite(nodes, damping, 1, dtype))

        return spectral_sum(name, f, product, size, accuracy)

    return answered(what, curvature, by, accuracy.memory, answer)


def _definite(values: Tensor, damping: float, rows: int, dtype: torch.dtype) -> Tensor:
    """Eigenvalues, or Ritz values, with the damping added, which are positive then."""
    lowest, largest = float(values.min()), float(values.abs().max())
    if lowest + damping > rows * torch.finfo(dtype).eps * max(largest, damping):
        return values + damping
    enough = rounded_up(max(-1.1 * lowest, -lowest + 1e-4 * largest) or 1.0)
    raise HesseValueError(
        f"damping: expected one that makes A + damping I positive definite, got {damping:g}: A has"
        f" an eigenvalue of {lowest:.3g} or less, its largest being {largest:.3g} in size;"
        f" {enough:g} does for that one, and curvature='gauss_newton' of a cost has no negative"
        " ones"
    )
