"""What a quadratic model refuses, and the texts that say why and what to do."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from hesse.errors import HesseTypeError, HesseValueError
from hesse.taylor.subproblem.space import Reduced

# Of the last digit shown: a number that exceeds a two-digit one by less is that number, one
# operation's rounding away.
_ROUNDING = 1e-6


def positive(number: Any, name: str, zero: bool = False) -> float:
    """A finite number > 0 (>= 0 where zero is allowed)."""
    if not isinstance(number, int | float | np.number) or isinstance(number, bool):
        raise HesseTypeError(f"{name}: expected a number, got {type(number).__name__}")
    if not (0 < number < math.inf or (zero and number == 0)):
        raise HesseValueError(
            f"{name}: expected a finite number {'>=' if zero else '>'} 0, got {number}"
        )
    return float(number)


def other(given: Any, kind: type, name: str, how: str) -> None:
    """What is of another type; how one has one that is not."""
    if not isinstance(given, kind):
        raise HesseTypeError(
            f"{name}: expected a hesse.{kind.__name__}, got {type(given).__name__}: {how}"
        )


def whole(number: Any, name: str, least: int) -> int:
    """A whole number that is at least so large."""
    if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
        raise HesseValueError(f"{name}: expected a whole number >= {least}, got {number!r}")
    return int(number)


def dense(asked: Any, by: str) -> None:
    """What is neither a request to build H, nor never to, nor to decide by something."""
    if not (asked is None or isinstance(asked, bool)):
        raise HesseTypeError(f"dense: expected True, False or None (as {by}), got {asked!r}")


def gradient(parts: Mapping[str, Tensor]) -> None:
    """A gradient that is not finite."""
    for name, part in parts.items():
        if not bool(part.isfinite().all()):
            bad = int((~part.isfinite()).sum())
            raise HesseValueError(
                f"cost: {bad} of the {part.numel()} entries of its gradient in {name!r} are not"
                " finite; the cost has a kink or a pole at these parameters (a square root or a"
                " logarithm at zero?): move them with cost.at(...), or smooth it"
            )


def curvature(H: Tensor, what: str) -> None:
    """A Hessian, or products with it, that are not finite."""
    if not bool(H.isfinite().all()):
        bad = int((~H.isfinite()).sum())
        raise HesseValueError(
            f"{what} has entries that are not finite ({bad} of {H.numel()}): the cost has a kink or"
            " a pole at these parameters, without a second derivative there; move them with"
            " cost.at(...), or smooth it"
        )


def steps(s: Any, like: Float[Tensor, " P"], what: str) -> Float[Tensor, "P *K"]:
    """A step or a matrix of steps that does not fit the model."""
    size = len(like)
    if not isinstance(s, Tensor):
        raise HesseTypeError(
            f"{what}: expected a flat tensor of P = {size} entries, a (P, K) matrix of steps as"
            f" columns, a dictionary {{name: Tensor}} or a Step, got {type(s).__name__}"
        )
    if s.ndim not in (1, 2) or s.shape[0] != size:
        raise HesseValueError(
            f"{what}: expected shape ({size},), or ({size}, K) with steps as columns, got"
            f" {tuple(s.shape)}"
            + ("; pass its transpose" if s.ndim == 2 and s.shape[1] == size else "")
        )
    if s.dtype != like.dtype:
        raise HesseTypeError(
            f"{what}: expected {like.dtype} like the parameters, got {s.dtype}; convert it with"
            f" .to({like.dtype})"
        )
    if s.device != like.device:
        raise HesseValueError(
            f"{what}: expected a tensor on {like.device}, where the parameters are, got {s.device}"
        )
    if not bool(s.isfinite().all()):
        raise HesseValueError(
            f"{what}: {int((~s.isfinite()).sum())} of its {s.numel()} entries are not finite (nan"
            " or inf)"
        )
    return s.detach()


def indefinite(reduced: Reduced, damping: float, method: str, matrix: str) -> None:
    """A matrix with values + damping not all positive, for a step that solves with it."""
    lowest, largest = (
        float(reduced.values.min(initial=math.inf)),
        float(np.abs(reduced.values).max(initial=0.0)),
    )
    if lowest + damping > reduced.tolerance:
        return
    smallest = lowest + damping if abs(lowest + damping) > reduced.tolerance else 0.0
    enough = rounded_up(max(-1.1 * lowest, -lowest + 1e-4 * largest) or 1.0)
    damped = Reduced(
        reduced.values + damping, reduced.coefficients, reduced.tolerance, reduced.whole
    )
    raise HesseValueError(
        f"{method}: {matrix} is"
        f" {'indefinite' if lowest + damping < -reduced.tolerance else 'singular'}:"
        f" {inertia(damped)}, the smallest {smallest:.3g}; {method}(damping={enough:g}) makes it"
        f" definite{'' if reduced.whole else ' as far as they show'}; or use trust_region(radius),"
        " cubic(M)" + ("" if method == "saddle_free" else ", saddle_free(damping)")
    )


def no_minimum(reduced: Reduced) -> None:
    """A model without a minimum, for the step to it."""
    negative = reduced.counts[0]
    if negative or reduced.falls_where_flat:
        why = (
            "it curves down"
            if negative
            else "it falls without end along directions in which H is zero"
        )
        raise HesseValueError(
            f"minimizer: the model has no minimum, {why}: H has {inertia(reduced)}; use"
            " trust_region(radius), cubic(M) or newton(damping)"
        )


def no_negative_curvature(reduced: Reduced) -> None:
    """A model that curves down nowhere, for a step along negative curvature."""
    if not reduced.counts[0]:
        raise HesseValueError(
            f"negative_curvature: H has {inertia(reduced)}, the smallest"
            f" {float(reduced.values.min()):.3g}; there is no direction in which it curves down;"
            " use newton() or trust_region(radius)"
        )


def inertia(reduced: Reduced) -> str:
    """The inertia in words."""
    negative, zero, positive = reduced.counts
    kind = (
        "eigenvalues"
        if reduced.whole
        else f"of {len(reduced.values)} Ritz values in a Krylov space"
    )
    return f"{negative} negative, {zero} zero and {positive} positive {kind}"


def rounded_up(number: float) -> float:
    """The next number with two digits; what is one to rounding stays.

    Example:
        >>> rounded_up(0.01234), rounded_up(1.1000000000000003)
        (0.013, 1.1)
    """
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / unit - _ROUNDING) * unit:.2g}")
