"""hesse: the second derivatives of a neural network's cost function.

Everything is a function of an immutable `Cost`:

    cost = hesse.Cost(model, loss, data)
    H = hesse.hessian(cost)
    H["0.weight", "2.weight"]
"""

from hesse.cost import Cost, gradient, value
from hesse.errors import HesseError
from hesse.exact.block_hessian import BlockHessian
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.exact.plan import Plan, plan
from hesse.exact.storage import load
from hesse.layout import Layout
from hesse.operators.operator import HessianOperator, operator

__version__ = "0.1.0"
__all__ = [
    "BlockHessian",
    "Cost",
    "HesseError",
    "HessianOperator",
    "Layout",
    "Plan",
    "diagonal",
    "gradient",
    "hessian",
    "load",
    "operator",
    "plan",
    "value",
]
