"""The numbers that a matrix formula stands for."""

from collections.abc import Mapping
from fractions import Fraction
from functools import reduce
from math import prod

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Index, Partial
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
_JOINED = {Product: torch.matmul, Sum: torch.add, Hadamard: torch.mul, Kron: torch.kron}


def evaluate(node: Matrix, valuation: Valuation) -> Tensor:
    """The matrix as a float64 tensor with two axes, each counted row by row; a vector is one
    column."""
    return _Evaluation(valuation).value(node, {})


class _Evaluation:
    """One evaluation: arrays come from the valuation, ``indices`` says where the indices of sums
    stand."""

    def __init__(self, valuation: Valuation) -> None:
        self.valuation = valuation

    def _count(self, sizes: Sizes) -> int:
        return prod(self.valuation.size(size) for size in sizes)

    def value(self, node: Matrix, indices: Mapping[str, int]) -> Tensor:
        match node:
            case Symbol(named, rows, columns, fixed):
                array = self._array(named)
                # The last axis first: each that goes leaves those before it in their places.
                for axis, index in sorted(fixed, reverse=True):
                    array = array.select(axis, indices[index])
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
                # The rows of I, in the order of the entries of Vᵀ.
                return (
                    torch.eye(n * k, dtype=_FLOAT)
                    .reshape(n, k, n * k)
                    .transpose(0, 1)
                    .reshape(n * k, n * k)
                )
            case Scaled(number, scalars, body):
                return (
                    float(number)
                    * prod(self.value(scalar, indices).item() for scalar in scalars)
                    * self.value(body, indices)
                )
            case Transpose(body):
                return self.value(body, indices).T
            case Inverse(body):
                return torch.linalg.inv(self.value(body, indices))
            case Product(parts) | Sum(parts) | Hadamard(parts) | Kron(parts):
                values = (self.value(part, indices).contiguous() for part in parts)
                return reduce(_JOINED[type(node)], values)
            case Elementwise(function, order, body):
                known = self.valuation.functions.get(function) or FUNCTIONS[function].value
                return nth_derivative(known, order, self.value(body, indices).contiguous())
            case EntryPower(body, exponent):
                base = self.value(body, indices)
                if isinstance(exponent, Fraction):
                    return base ** (int(exponent) if exponent.denominator == 1 else float(exponent))
                return base ** self.value(exponent, indices)
            case Diag(body):
                return torch.diag(self.value(body, indices).squeeze(1))
            case Vec(body):
                return self.value(body, indices).reshape(-1, 1)
            case Trace(body):
                return torch.trace(self.value(body, indices)).reshape(1, 1)
            case BlockDiag(index, size, body) | SumOver(index, size, body):
                count = self.valuation.size(size)
                each = [self.value(body, {**indices, index: k}) for k in range(count)]
                summed = isinstance(node, SumOver)
                return reduce(torch.add, each) if summed else torch.block_diag(*each)

    def _array(self, named: Array) -> Tensor:
        if not named.by:
            return self.valuation.value(named.name)
        program = self.valuation.program

        def entry(name: str, letter: str) -> Entry:
            sizes = program.shape(name)
            return Entry(name, tuple(Index(f"{letter}{k}", size) for k, size in enumerate(sizes)))

        by = tuple(entry(name, f"by{k}-") for k, name in enumerate(named.by))
        return self.valuation.derivative(Partial(entry(named.name, "of"), by))
