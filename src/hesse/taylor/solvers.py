"""The rules for steps, one function each: what each makes of a quadratic model whose H is diagonal.

A rule is a `Solver`, blind to where the basis comes from; `QuadraticModel` runs it on eigenvectors
or in a Krylov space.
"""

import numpy as np

from hesse.taylor import checks
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.space import ReducedModel, Solver
from hesse.taylor.subproblem.spectral import Solution


def minimizer(reduced: ReducedModel) -> Solution:
    """s = −H⁻¹ g, the shortest of them where H is flat.

    Raises:
        HesseValueError: the model has no minimum.
    """
    checks.require_minimum(reduced)
    flat = reduced.counts[1]
    reason = (
        f"the nearest point of a flat valley of dimension {flat}"
        if flat
        else "the minimum of the model"
    )
    return Solution(spectral.damped(reduced.values, reduced.coefficients, 0.0), 0.0, reason)


def damped(damping: float, method: str, matrix: str, reason: str) -> Solver:
    """s = −(H + damping I)⁻¹ g, where that matrix is positive definite.

    Args:
        damping: what is added to every eigenvalue.
        method: the step's name, for the error where it is not definite.
        matrix: what is solved with, in the units of the parameters, likewise.
        reason: half a sentence for the step.
    """

    def solver(reduced: ReducedModel) -> Solution:
        checks.require_definite(reduced, damping, method, matrix)
        return Solution(
            spectral.damped(reduced.values, reduced.coefficients, damping), damping, reason
        )

    return solver


def trust_region(radius: float) -> Solver:
    """The minimiser over ‖s‖ <= radius."""
    return lambda r: spectral.trust_region(r.values, r.coefficients, radius)


def cubic(M: float) -> Solver:
    """The minimiser with M/6 ‖s‖³ added."""
    return lambda r: spectral.cubic(r.values, r.coefficients, M)


def saddle_free(damping: float) -> Solver:
    """s = −(|H| + damping I)⁻¹ g, |H| with the absolute eigenvalues."""

    def solver(reduced: ReducedModel) -> Solution:
        sizes = ReducedModel(
            np.abs(reduced.values), reduced.coefficients, reduced.tolerance, reduced.is_full_space
        )
        checks.require_definite(
            sizes, damping, "saddle_free", f"|H| + {damping:g} I" if damping else "|H|"
        )
        negative = reduced.counts[0]
        reason = f"{negative} negative direction{'s' * (negative != 1)} turned round"
        return Solution(spectral.damped(sizes.values, sizes.coefficients, damping), damping, reason)

    return solver


def along_lowest(length: float) -> Solver:
    """A step of this length along the eigenvector of the lowest eigenvalue, downhill."""

    def solver(reduced: ReducedModel) -> Solution:
        lowest = int(reduced.values.argmin())
        step = np.zeros_like(reduced.values)
        step[lowest] = -length if reduced.coefficients[lowest] > 0 else length
        reason = f"along the lowest eigenvalue, {reduced.values[lowest]:.4g}"
        return Solution(step, -float(reduced.values[lowest]), reason)

    return solver
