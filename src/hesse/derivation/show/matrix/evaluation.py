"""The numbers that a matrix formula stands for."""

from collections.abc import Mapping
from fractions import Fraction
from functools import reduce
from math import prod

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Index
from hesse.derivation.calculus.functions import nth_derivative
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.show.matrix.nodes import (
    Array,
    BlockDiag,
    Commutation,
    Diag,
    Dimension,
    Elementwise,
    EntryPower,
    Hadamard,
    Identity,
    Inverse,
    Kron,
    Matrix,
    Ones,
    Product,
    Scaled,
    Sizes,
    Sum,
    SumOver,
    Symbol,
    Trace,
    Transpose,
    Vec,
    Zeros,
)
from hesse.operations.registry import FUNCTIONS

_FLOAT = torch.float64


def evaluate(node: Matrix, valuation: Valuation) -> Tensor:
    """The matrix as a float64 tensor with two axes, each counted row by row; a vector is one
    column."""
    return _Evaluation(valuation).value(node, {})


class _Evaluation:
    """One evaluation: arrays come from the valuation, ``at`` says where the indices of sums
    stand."""

    def __init__(self, valuation: Valuation) -> None:
        self.valuation = valuation

    def _count(self, sizes: Sizes) -> int:
        return prod(self.valuation.size(size) for size in sizes)

    def value(self, node: Matrix, at: Mapping[str, int]) -> Tensor:
        match node:
            case Symbol(named, rows, columns, fixed):
                array = self._array(named)
                for axis, index in sorted(fixed, reverse=True):
                    array = array.select(axis, at[index])
                return array.reshape(self._count(rows), self._count(columns))
            case Dimension(size):
                return torch.full((1, 1), self.valuation.size(size), dtype=_FLOAT)
            case Zeros(rows, columns):
                return torch.zeros(self._count(rows), self._count(columns), dtype=_FLOAT)
            case Ones(rows):
                return torch.ones(self._count(rows), 1, dtype=_FLOAT)
            case Identity(rows):
                return torch.eye(self._count(rows), dtype=_FLOAT)
            case Commutation(rows, columns):
                n, k = self._count(rows), self._count(columns)
                return (
                    torch.eye(n * k, dtype=_FLOAT)
                    .reshape(n, k, n * k)
                    .transpose(0, 1)
                    .reshape(n * k, n * k)
                )
            case Scaled(number, scalars, body):
                return (
                    float(number)
                    * prod(self.value(scalar, at).item() for scalar in scalars)
                    * self.value(body, at)
                )
            case Transpose(body):
                return self.value(body, at).T
            case Inverse(body):
                return torch.linalg.inv(self.value(body, at))
            case Product(factors):
                return reduce(torch.matmul, (self.value(factor, at) for factor in factors))
            case Sum(terms):
                return reduce(torch.add, (self.value(term, at) for term in terms))
            case Hadamard(factors):
                return reduce(torch.mul, (self.value(factor, at) for factor in factors))
            case Kron(factors):
                return reduce(
                    torch.kron, (self.value(factor, at).contiguous() for factor in factors)
                )
            case Elementwise(function, order, body):
                known = self.valuation.functions.get(function)
                return nth_derivative(
                    known or FUNCTIONS[function].value, order, self.value(body, at).contiguous()
                )
            case EntryPower(body, exponent):
                base = self.value(body, at)
                if isinstance(exponent, Fraction):
                    return base ** (int(exponent) if exponent.denominator == 1 else float(exponent))
                return base ** self.value(exponent, at)
            case Diag(body):
                return torch.diag(self.value(body, at).squeeze(1))
            case Vec(body):
                return self.value(body, at).reshape(-1, 1)
            case Trace(body):
                return torch.trace(self.value(body, at)).reshape(1, 1)
            case BlockDiag(index, size, body):
                return torch.block_diag(
                    *(self.value(body, {**at, index: k}) for k in range(self.valuation.size(size)))
                )
            case SumOver(index, size, body):
                return reduce(
                    torch.add,
                    (self.value(body, {**at, index: k}) for k in range(self.valuation.size(size))),
                )

    def _array(self, named: Array) -> Tensor:
        if not named.by:
            return self.valuation.value(named.name)
        own = tuple(
            Index(f"#{axis}", size)
            for axis, size in enumerate(self.valuation.program.shape(named.name))
        )
        return self.valuation.derivative(Entry(named.name, own), own, named.by)
