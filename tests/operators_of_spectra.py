"""Symmetric matrices of a known spectrum, and operators that show their products alone."""

import torch
from torch import Tensor

import hesse


def turned(values: Tensor, seed: int = 0) -> Tensor:
    """A dense matrix with these eigenvalues."""
    random = torch.Generator().manual_seed(seed)
    size = len(values)
    Q = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64)).Q
    A = (Q * values.double()) @ Q.T
    return ((A + A.T) / 2).to(values.dtype)


def by_products(matrix: Tensor) -> hesse.FunctionOperator:
    """It, of which nothing is known but its products."""
    layout = hesse.Layout(("x",), ((len(matrix),),))

    def product(v: Tensor) -> Tensor:
        return matrix @ v

    return hesse.FunctionOperator(product, layout, transposed=product, dtype=matrix.dtype)


def diagonal(values: Tensor) -> hesse.FunctionOperator:
    """A diagonal matrix, by its products."""
    layout = hesse.Layout(("x",), ((len(values),),))

    def product(v: Tensor) -> Tensor:
        return values.unsqueeze(1) * v

    return hesse.FunctionOperator(product, layout, transposed=product, dtype=values.dtype)
