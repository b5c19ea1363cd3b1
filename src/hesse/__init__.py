"""hesse: the second derivatives of a neural network's cost function.

Everything is a function of an immutable `Cost`:

    cost = hesse.Cost(model, loss, data)
    H = hesse.hessian(cost)
    H["0.weight", "2.weight"]
"""

from typing import TYPE_CHECKING, Any

from hesse.certify import Certificate
from hesse.cost import Cost, gradient, value
from hesse.derive import Derivation, Formula, Network, derive
from hesse.errors import HesseError
from hesse.exact.block_hessian import BlockHessian
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.exact.plan import Plan
from hesse.exact.planning import plan
from hesse.exact.storage import load
from hesse.layout import Layout
from hesse.operators.operator import HessianOperator, operator
from hesse.quadratic import QuadraticModel, StationaryPoint, Step, Trust, minimize, quadratic

if TYPE_CHECKING:
    from hesse.plot import ErrorCurve, HeatMap, Plane, Slice, Spectrum

__version__ = "0.1.0"
__all__ = [
    "BlockHessian",
    "Certificate",
    "Cost",
    "Derivation",
    "ErrorCurve",
    "Formula",
    "HeatMap",
    "HesseError",
    "HessianOperator",
    "Layout",
    "Network",
    "Plan",
    "Plane",
    "QuadraticModel",
    "Slice",
    "Spectrum",
    "StationaryPoint",
    "Step",
    "Trust",
    "derive",
    "diagonal",
    "gradient",
    "hessian",
    "load",
    "minimize",
    "operator",
    "plan",
    "quadratic",
    "value",
]


def __getattr__(name: str) -> Any:
    """The pictures, fetched when they are first asked for: what draws nothing should not wait for them."""
    if name not in ("ErrorCurve", "HeatMap", "Plane", "Slice", "Spectrum"):
        raise AttributeError(f"module 'hesse' has no attribute {name!r}")
    from hesse import plot

    return getattr(plot, name)
