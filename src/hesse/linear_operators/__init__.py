"""Matrices that are known by their products: what they are multiplied with, and their algebra."""

from hesse.linear_operators.linear_operator import LinearOperator

__all__ = ["LinearOperator"]
