"""Between which numbers the entries of an expression lie, whatever the arrays are."""

from collections import Counter
from fractions import Fraction
from math import inf

import torch

from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Partial,
    Power,
    Term,
)
from hesse.derivation.calculus.program import ArrayCall, Program
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

Range = tuple[float, float]
ANY: Range = (-inf, inf)


class Ranges:
    """The ranges of the quantities of one program.

    Interval arithmetic (Moore, 1966): p (1 − p) is at least 0 where p lies between 0 and 1.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[str, Range] = {}

    def of(self, value: Expression | Term | Factor) -> Range:
        """The least and the largest value that an entry can have."""
        match value:
            case Expression(terms):
                lows, highs = zip(*map(self.of, terms), strict=True) if terms else ((0.0,), (0.0,))
                return sum(lows), sum(highs)
            case Term(coefficient, factors, bound):
                low, high = float(coefficient), float(coefficient)
                for factor, times in Counter(factors).items():
                    power = _power(self.of(factor), Fraction(times))
                    low, high = _product((low, high), power)
                # Of a sum over any number of entries only the sign is known.
                return (_sign(low), _sign(high)) if bound else (low, high)
            case Entry(name):
                if name not in self._known:
                    self._known[name] = self._of_name(name)
                return self._known[name]
            case Delta():
                return 0.0, 1.0
            case Count():
                return 1.0, inf
            case Group(body):
                return self.of(body)
            case Apply(function, 0) if function in FUNCTIONS:
                return FUNCTIONS[function].range
            case Power(base, exponent):
                return _power(self.of(base), exponent.number)
            case Apply() | Partial():
                return ANY

    def _of_name(self, name: str) -> Range:
        if name in self.program.leaves:
            leaf = self.program.leaves[name]
            value, structure = leaf.value, leaf.structure
            if value is None:
                return (0.0, inf) if structure is not None and structure.positive else ANY
            array = torch.as_tensor(value, dtype=torch.float64)
            return (float(array.min()), float(array.max())) if array.numel() else ANY
        match self.program.by_name[name].definition:
            case ArrayCall(operation):
                return ARRAY_FUNCTIONS[operation].range
            case Expression() as definition:
                return self.of(definition)
        return ANY


def _sign(bound: float) -> float:
    return 0.0 if bound == 0 else inf if bound > 0 else -inf


def _product(a: Range, b: Range) -> Range:
    # 0 · ∞ is 0: the entries themselves are finite.
    products = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(products), max(products)


def _power(base: Range, exponent: Fraction | None) -> Range:
    low, high = base
    if exponent is None or exponent.denominator != 1:
        return (0.0, inf) if low >= 0 else ANY
    power, even = int(exponent), exponent.numerator % 2 == 0
    if power < 0:
        return (0.0, inf) if even or low >= 0 else ANY
    ends = _raised(low, power), _raised(high, power)
    return (0.0 if even and low <= 0 <= high else min(ends)), max(ends)


def _raised(number: float, power: int) -> float:
    try:
        return number**power
    except OverflowError:
        return inf if number > 0 or power % 2 == 0 else -inf
