"""Checks of a quadratic model's arguments and numbers: `require_…` raises a `HesseError` that says
what is wrong and what to do, and gives the checked argument where there is one."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from hesse.errors import (
    HesseTypeError,
    HesseValueError,
    require_positive,
    require_strided,
    rounded_up,
)
from hesse.taylor.subproblem.space import ReducedModel
from hesse.words.shapes import Float

_LARGEST = 1e150


def require_dense_option(dense: Any, by: str) -> None:
    """``True``, ``False`` or ``None``; ``by`` says what decides for ``None``."""
    if not (dense is None or isinstance(dense, bool)):
        raise HesseTypeError(f"dense: expected True, False or None (as {by}), got {dense!r}")


def require_size(number: Any, name: str) -> float:
    """A positive number that can be squared, and whose inverse can, without leaving the numbers."""
    size = require_positive(number, name)
    if not 1 / _LARGEST <= size <= _LARGEST:
        raise HesseValueError(
            f"{name}: expected a number from {1 / _LARGEST:g} to {_LARGEST:g}, whose square is one"
            f" that float64 has, got {number!r}"
        )
    return size


def require_finite_gradient(parts: Mapping[str, Tensor]) -> None:
    """A gradient, by parameter name, with finite entries only."""
    for name, part in parts.items():
        if not bool(part.isfinite().all()):
            bad = int((~part.isfinite()).sum())
            raise HesseValueError(
                f"cost: {bad} of the {part.numel()} entries of its gradient in {name!r} are not"
                " finite; the cost has a kink or a pole at these parameters (a square root or a"
                " logarithm at zero?): move them with cost.at(...), or smooth it"
            )


def require_finite_hessian(H: Tensor, what: str) -> None:
    """A Hessian, or products with it, with finite entries only."""
    if not bool(H.isfinite().all()):
        bad = int((~H.isfinite()).sum())
        raise HesseValueError(
            f"{what} has entries that are not finite ({bad} of {H.numel()}): the cost has a kink or"
            " a pole at these parameters, without a second derivative there; move them with"
            " cost.at(...), or smooth it"
        )


def require_steps(s: Any, like: Float[Tensor, " P"], what: str) -> Float[Tensor, "P *K"]:
    """A step, or steps as the columns of a matrix, of the size, dtype and device of ``like``."""
    size = len(like)
    if not isinstance(s, Tensor):
        raise HesseTypeError(
            f"{what}: expected a flat tensor of P = {size} entries, a (P, K) matrix of steps as"
            f" columns, a dictionary {{name: Tensor}} or a Step, got {type(s).__name__}"
        )
    require_strided(s, what)
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


def require_definite(reduced: ReducedModel, damping: float, method: str, matrix: str) -> None:
    """Values that are all positive once the damping is added, for a step that solves with it."""
    lowest, largest = (
        float(reduced.values.min(initial=math.inf)),
        float(np.abs(reduced.values).max(initial=0.0)),
    )
    if lowest + damping > reduced.tolerance:
        return
    smallest = lowest + damping if abs(lowest + damping) > reduced.tolerance else 0.0
    # Ten percent above the bound of definiteness, or, where |λ_min| is next to nothing, a small
    # part of the largest |λ|; 1 for H = 0.
    enough = rounded_up(max(-1.1 * lowest, -lowest + 1e-4 * largest) or 1.0)
    damped = ReducedModel(
        reduced.values + damping, reduced.coefficients, reduced.tolerance, reduced.is_full_space
    )
    raise HesseValueError(
        f"{method}: {matrix} is"
        f" {'indefinite' if lowest + damping < -reduced.tolerance else 'singular'}:"
        f" {inertia_in_words(damped)}, the smallest {smallest:.3g};"
        f" {method}(damping={enough:g}) makes it definite"
        f"{'' if reduced.is_full_space else ' as far as they show'}; or use trust_region(radius),"
        " cubic(M)" + ("" if method == "saddle_free" else ", saddle_free(damping)")
    )


def require_minimum(reduced: ReducedModel) -> None:
    """A model that has a minimum, for the step to it."""
    negative = reduced.counts[0]
    if negative or reduced.falls_where_flat:
        why = (
            "it curves down"
            if negative
            else "it falls without end along directions in which H is zero"
        )
        raise HesseValueError(
            f"minimizer: the model has no minimum, {why}: H has {inertia_in_words(reduced)}; use"
            " trust_region(radius), cubic(M) or newton(damping)"
        )


def require_negative_curvature(reduced: ReducedModel) -> None:
    """A model that curves down somewhere, for a step along negative curvature."""
    if not reduced.counts[0]:
        raise HesseValueError(
            f"negative_curvature: H has {inertia_in_words(reduced)}, the smallest"
            f" {float(reduced.values.min()):.3g}; there is no direction in which it curves down;"
            " use newton() or trust_region(radius)"
        )


def inertia_in_words(reduced: ReducedModel) -> str:
    """How many (Ritz) values are negative, undecided and positive, for the text of an error."""
    negative, undecided, positive = reduced.counts
    kind = (
        "eigenvalues"
        if reduced.is_full_space
        else f"of {len(reduced.values)} Ritz values in a Krylov space"
    )
    return f"{negative} negative, {undecided} undecided and {positive} positive {kind}"
