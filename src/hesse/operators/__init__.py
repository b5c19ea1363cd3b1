"""Matrix-free products with the Hessian."""

from hesse.operators.operator import HessianOperator, operator

__all__ = ["HessianOperator", "operator"]
