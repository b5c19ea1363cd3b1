"""Matrix-free products with the Hessian."""

from hesse.products.hessian_operator import HessianOperator, operator

__all__ = ["HessianOperator", "operator"]
