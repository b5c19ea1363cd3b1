"""Steps in the basis that makes H diagonal: H = diag(values), g = coefficients.

The trust-region and the cubic step solve one equation. With shift = max(0, −λ_min), gaps = λ +
shift >= 0 and ν >= 0,

    s(ν) = −g / (gaps + ν),     1 / ‖s(ν)‖ = h(ν),     multiplier = shift + ν

where h = 1 / radius, or h = M / (2 (shift + ν)). Measured from the lowest eigenvalue, ν keeps its
digits however close the multiplier comes to −λ_min. 1/‖s‖ − h is concave and increasing, so that
Newton's iteration from the left never overshoots. Where it is positive at ν = 0 already, g has no
part along the lowest eigenvectors that would bring s to its length: the hard case, and the rest of
the length is taken along one of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hesse.words.shapes import Float

Vector = Float[np.ndarray, " K"]


class Solution(NamedTuple):
    """A step by its coefficients; λ of (H + λ I) s = −g; how it came about."""

    coefficients: Vector
    multiplier: float
    reason: str


# The reasons of steps, as `Step.reason` gives them.
INSIDE = "inside the region, where the model has its minimum"
VALLEY = "inside the region, the nearest point of a flat valley"
BOUNDARY = "on the boundary of the region"
HARD = "hard case: g has no part along the lowest eigenvector, which the step follows to its length"
CUBIC = "where the cubic term balances the model"
AT_REST = "no step: g is zero and no direction curves down"


def trust_region(values: Vector, coefficients: Vector, radius: float) -> Solution:
    """The minimiser of gᵀs + ½ sᵀHs over ‖s‖ <= radius.

        (H + λ I) s = −g,   λ >= 0,   λ (radius − ‖s‖) = 0,   H + λ I positive semidefinite

    Source:
        J. J. Moré and D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4
        (1983), 553.

    Examples:
        >>> import numpy as np
        >>> step = trust_region(np.array([-1.0, 1.0]), np.array([0.0, 1.0]), 2.0)
        >>> bool(abs(np.linalg.norm(step.coefficients) - 2) < 1e-12), step.multiplier
        (True, 1.0)
    """
    shift, gaps = _shifted(values)
    sizes = np.abs(coefficients)
    free = _step(coefficients, gaps, 0.0)
    if np.linalg.norm(free) <= radius:
        if shift > 0:
            return _hard(free, values, radius)
        return Solution(
            free,
            0.0,
            (INSIDE if values.min(initial=1.0) > 0 else VALLEY) if sizes.any() else AT_REST,
        )
    start = max(0.0, float((sizes / radius - gaps).max()))
    nu = _root(coefficients, gaps, start, lambda nu: (1 / radius, 0.0))
    return Solution(
        _step(coefficients, gaps, nu),
        shift + nu,
        HARD if _negligible(nu, shift, values) else BOUNDARY,
    )


def cubic(values: Vector, coefficients: Vector, M: float) -> Solution:
    """The minimiser of gᵀs + ½ sᵀHs + M/6 ‖s‖³.

        (H + λ I) s = −g,   λ = M ‖s‖ / 2,   H + λ I positive semidefinite

    Source:
        Yu. Nesterov and B. T. Polyak, Cubic regularization of Newton method and its global
        performance, Math. Program. 108 (2006), 177, section 5.

    Examples:
        >>> import numpy as np
        >>> step = cubic(np.array([-1.0, 1.0]), np.zeros(2), 1.0)
        >>> step.coefficients  # 2 |λ| / M along the negative direction
        array([2., 0.])
    """
    shift, gaps = _shifted(values)
    sizes = np.abs(coefficients)
    if shift == 0 and not sizes.any():
        return Solution(np.zeros_like(coefficients), 0.0, AT_REST)
    free = _step(coefficients, gaps, 0.0)
    if np.linalg.norm(free) <= 2 * shift / M:
        return _hard(free, values, 2 * shift / M)
    # Each part of g alone gives a lower bound: (gap + ν)(shift + ν) = M |g| / 2.
    half, rest = gaps + shift, np.maximum(M * sizes / 2 - gaps * shift, 0.0)
    start = float(
        (
            2 * rest / np.maximum(half + np.hypot(half, 2 * np.sqrt(rest)), np.finfo(float).tiny)
        ).max()
    )
    nu = _root(
        coefficients,
        gaps,
        start,
        lambda nu: (M / (shift + nu) / 2, -M / (shift + nu) / (shift + nu) / 2),
    )
    return Solution(
        _step(coefficients, gaps, nu), shift + nu, HARD if _negligible(nu, shift, values) else CUBIC
    )


def damped(values: Vector, coefficients: Vector, damping: float) -> Vector:
    """−(H + damping I)⁻¹ g; nothing along the directions in which both H and g are zero."""
    return _step(coefficients, values + damping, 0.0)


def _shifted(values: Vector) -> tuple[float, Vector]:
    shift = max(0.0, -float(values.min(initial=0.0)))
    return shift, values + shift


def _step(coefficients: Vector, gaps: Vector, nu: float) -> Vector:
    """−g / (gaps + ν): zero where g is, infinite where only the divisor is."""
    with np.errstate(divide="ignore"):
        return np.divide(
            -coefficients, gaps + nu, out=np.zeros_like(coefficients), where=coefficients != 0
        )


def _negligible(nu: float, shift: float, values: Vector) -> bool:
    """Whether the multiplier is −λ_min to rounding: the hard case, with what rounding left of g
    along the lowest eigenvector."""
    return shift > 0 and nu <= len(values) * float(np.finfo(float).eps * np.abs(values).max())


def _hard(free: Vector, values: Vector, length: float) -> Solution:
    # Any sign will do: g has no part along the lowest eigenvector.
    step = free.copy()
    lowest = int(values.argmin())
    step[lowest] = np.sqrt(max(0.0, length**2 - float(free @ free)))
    return Solution(step, -float(values[lowest]), HARD)


def _root(
    coefficients: Vector, gaps: Vector, start: float, h: Callable[[float], tuple[float, float]]
) -> float:
    """ν where 1/‖s(ν)‖ = h(ν), from a start to its left; h returns its value and its slope."""
    # Where g has no part the step has none, for any ν.
    active = coefficients != 0
    coefficients, gaps, nu = coefficients[active], gaps[active], start
    # From the left it never overshoots (see above): the limit only guards against rounding.
    for _ in range(200):
        step = coefficients / (gaps + nu)
        norm = float(np.linalg.norm(step))
        slope = float(((step / norm) ** 2 / (gaps + nu)).sum()) / norm
        target, target_slope = h(nu)
        change = (target - 1 / norm) / (slope - target_slope)
        if not change > 2 * np.finfo(float).eps * nu:
            break
        nu += change
    return float(nu)
