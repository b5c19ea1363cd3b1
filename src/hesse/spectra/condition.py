"""The condition number."""

from typing import Any, Unpack, overload

import torch

from hesse.curvatures.curvature import Curvature
from hesse.errors import HesseValueError, require_integer, require_positive, require_progress
from hesse.matrix import spectrum
from hesse.matrix.eigensolver import eigvalsh
from hesse.process.memory import require_memory
from hesse.process.undisturbed import undisturbed
from hesse.spectra.accuracy import require_seed
from hesse.spectra.eigenpair_search import eigenpairs_of
from hesse.spectra.estimate import Estimate
from hesse.spectra.subject import Options, Subject, answered, chosen_matrix, require_method
from hesse.words import CurvatureName, Part, SpectralMethod

# What its error is.
_MEASURE = "bound by residuals"


class _Options(Options, total=False):
    method: SpectralMethod
    products: int


@overload
def condition_number(
    what: Any, damping: float = 0.0, *, by: None = None, **options: Unpack[_Options]
) -> Estimate: ...
@overload
def condition_number(
    what: Any, damping: float = 0.0, *, by: Part | str, **options: Unpack[_Options]
) -> dict[str, Estimate]: ...
@undisturbed()
def condition_number(
    what: Any,
    damping: float = 0.0,
    *,
    method: SpectralMethod = "auto",
    curvature: CurvatureName | str | Curvature = "hessian",
    by: Part | str | None = None,
    products: int = 5000,
    seed: int = 0,
    memory: int | None = None,
    progress: bool | None = None,
) -> Estimate | dict[str, Estimate]:
    """max|λ| / min|λ| of A + damping I; infinite where the smallest is zero to rounding.

    Exact where the matrix is there or costs no more than a search by products. Else from the two
    ends of the spectrum, of a definite matrix alone: what lies nearest zero in the middle of a
    spectrum products do not show. The error is then by how much the residuals of the two
    eigenpairs allow it to be off.

    Args:
        what: a cost, an operator, a Hessian or a matrix, as for `hesse.as_operator`.
        damping: >= 0.
        method, curvature, by, products, seed, memory, progress: as for `hesse.trace`.

    Raises:
        HesseTypeError: no matrix, or an argument of another type.
        HesseValueError: only products are there, and the matrix has eigenvalues of both signs; it
            is not symmetric; or a name or a number that cannot be used.

    Examples:
        >>> import torch, hesse
        >>> print(hesse.condition_number(torch.diag(torch.tensor([1.0, -4.0]))))
        4 (exact, of the matrix given)
    """
    damping = require_positive(damping, "damping", zero=True)
    products = require_integer(products, "products", 1)
    seed = require_seed(seed)
    memory = None if memory is None else require_memory(memory)
    require_method(method)
    require_progress(progress)

    def answer(subject: Subject) -> Estimate:
        matrix = chosen_matrix(subject, method)
        if matrix is not None:
            value = spectrum.condition_number(eigvalsh(matrix.entries) + damping)
            return Estimate(value, products=matrix.products, how=matrix.how, exact=True)
        found = eigenpairs_of(
            subject,
            min(2, subject.size),
            "both",
            tolerance=1e-8,
            products=products,
            seed=seed,
            memory=memory,
            progress=progress,
        )
        return _from_ends(found.values, found.residuals, damping, found.products, found.notes)

    return answered(what, curvature, by, memory, answer)


def _from_ends(
    values: torch.Tensor,
    residuals: torch.Tensor,
    damping: float,
    products: int,
    notes: tuple[str, ...],
) -> Estimate:
    # Of one row both ends are one.
    high, low = (float(values[place]) + damping for place in (0, -1))
    rounding = 10 * torch.finfo(values.dtype).eps * max(abs(high), abs(low))
    if high > rounding and low < -rounding:
        raise HesseValueError(
            f"what: has eigenvalues of both signs, from {low:.3g} to {high:.3g} with the damping,"
            " and products do not show which is nearest zero; a damping larger than"
            f" {damping - low:.2g} makes it definite, and method='exact' builds the matrix"
        )
    large, small = max(abs(high), abs(low)), min(abs(high), abs(low))
    how = f"of its largest and smallest eigenvalue, {high:.4g} and {low:.4g}"
    if small <= rounding:
        return Estimate(float("inf"), 0.0, products, how, notes=notes, measure=_MEASURE)
    error = large / small * float(residuals.max()) * (1 / large + 1 / small)
    return Estimate(large / small, error, products, how, notes=notes, measure=_MEASURE)
