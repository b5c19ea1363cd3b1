"""The trace of a symmetric matrix, and its squared norm."""

from typing import Any, Unpack, overload

from hesse.curvatures.curvature import Curvature
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import Accuracy
from hesse.spectra.deflation import SQUARED_NORM, TRACE, estimated
from hesse.spectra.estimate import Estimate
from hesse.spectra.subject import (
    EstimateOptions,
    Subject,
    answered,
    chosen_matrix,
    require_method,
)
from hesse.words import CurvatureName, Part, SpectralMethod


@overload
def trace(what: Any, *, by: None = None, **options: Unpack[EstimateOptions]) -> Estimate: ...
@overload
def trace(
    what: Any, *, by: Part | str, **options: Unpack[EstimateOptions]
) -> dict[str, Estimate]: ...
@undisturbed()
def trace(
    what: Any,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    products: int = 1000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Estimate | dict[str, Estimate]:
    """tr A = Σ A_ii = Σ λ_i.

    Exact through the matrix or its diagonal where that takes no more than an estimate, which the
    result says (``.exact``, ``.how``). Else by random vectors, beside a space that holds the large
    eigenvalues (`hesse.spectra.deflation`).

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        error: the standard error to stop at; never before ten probes.
        relative_error: the same as a part of the trace; 0.01 where neither is given.
        method: ``"auto"``, or one of ``"exact"`` and ``"estimate"`` whatever it costs.
        curvature: of a cost: ``"hessian"``, ``"gauss_newton"``, or another `Curvature`.
        by: ``"parameter"`` or ``"layer"`` for that of each one's own block, by its name.
        products: how many to take at the most.
        seed: of the random vectors; the same seed gives the same number.
        memory: bytes to keep vectors in; by default half of what is free.
        progress: show a line; by default where it takes long and a terminal is watching.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: the matrix is not symmetric, or a name or a number that cannot be used.

    Examples:
        >>> import torch, hesse
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> print(hesse.trace(hesse.Cost(model, "half_sse", (X, torch.zeros(2, 1)))))
        30 (exact, of the diagonal)
    """
    accuracy = Accuracy.of(error, relative_error, products, seed, memory, progress)
    require_method(method)

    def answer(subject: Subject) -> Estimate:
        return trace_of(subject, method, accuracy)

    return answered(what, curvature, by, memory, answer)


def trace_of(subject: Subject, method: SpectralMethod, accuracy: Accuracy) -> Estimate:
    """That of what is asked about, of arguments that are checked."""
    if method != "estimate":
        diagonal = subject.diagonal(method == "exact")
        if diagonal is not None:
            value = sum(float(part.double().sum()) for part in diagonal.values())
            return Estimate(value, how="of the diagonal", exact=True)
    return estimated(TRACE, subject.products(accuracy.products), subject.size, accuracy)


@overload
def squared_norm(what: Any, *, by: None = None, **options: Unpack[EstimateOptions]) -> Estimate: ...
@overload
def squared_norm(
    what: Any, *, by: Part | str, **options: Unpack[EstimateOptions]
) -> dict[str, Estimate]: ...
@undisturbed()
def squared_norm(
    what: Any,
    *,
    error: float | None = None,
    relative_error: float | None = None,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    products: int = 1000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Estimate | dict[str, Estimate]:
    """‖A‖_F² = Σ A_ij² = Σ λ_i², the squared Frobenius norm.

    Exact where the matrix is there or costs no more than an estimate; else as `hesse.trace`, of A².

    Args:
        what, error, relative_error, method, curvature, by, products, seed, memory, progress: as for
            `hesse.trace`.

    Raises:
        HesseError: as for `hesse.trace`.

    Examples:
        >>> import torch, hesse
        >>> print(hesse.squared_norm(torch.tensor([[1.0, 2.0], [2.0, 0.0]])))
        9 (exact, of the matrix given)
    """
    accuracy = Accuracy.of(error, relative_error, products, seed, memory, progress)
    require_method(method)

    def answer(subject: Subject) -> Estimate:
        matrix = chosen_matrix(subject, method)
        if matrix is not None:
            value = float(matrix.entries.double().square().sum())
            return Estimate(value, products=matrix.products, how=matrix.how, exact=True)
        return estimated(SQUARED_NORM, subject.products(products), subject.size, accuracy)

    return answered(what, curvature, by, memory, answer)
