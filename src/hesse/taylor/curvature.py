"""What may stand for H in a quadratic model."""

from typing import Any

from hesse.errors import HesseValueError, nearest

CURVATURES = ("hessian",)


def curvature_named(name: Any) -> str:
    """The curvature of a name.

    Raises:
        HesseValueError: no such curvature.
    """
    if name not in CURVATURES:
        raise HesseValueError(f"curvature: expected one of {nearest(str(name), list(CURVATURES))}, got {name!r}")
    return name
