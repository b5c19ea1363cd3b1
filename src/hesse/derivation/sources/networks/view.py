"""A tensor of the graph as an expression: which of its indices run along which axis."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from hesse.derivation.calculus.algebra import multiply, scale
from hesse.derivation.calculus.expression import (
    ONE,
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Power,
    as_factor,
    constant,
    grouped,
    kept,
    of,
)

# The indices that run along one axis, the last fastest; none along an axis of size 1 that nothing
# is known of.
Axis = tuple[Index, ...]


@dataclass(frozen=True)
class View:
    """The entry of a tensor at any place.

    A permuted tensor has its axes in another order, a flattened one several indices on one axis;
    the expression stays as it is.

    Attributes:
        expression: an entry; its free indices are among those of the axes.
        axes: one for each axis of the tensor; no index stands twice.
        pieces: the views that were put one after the other to make this one, where it was made so.
        seam: the axis along which they lie.
    """

    expression: Expression
    axes: tuple[Axis, ...] = ()
    pieces: tuple["View", ...] = ()
    seam: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(map(length, self.axes))

    @property
    def indices(self) -> tuple[Index, ...]:
        """All indices, along the axes."""
        return tuple(index for axis in self.axes for index in axis)

    @property
    def entry(self) -> Entry | None:
        """The entry that the view is and nothing else, in whatever order of its indices."""
        single = as_factor(self.expression)
        if single is None or single[0] != 1 or not isinstance(single[1], Entry):
            return None
        indices = single[1].indices
        return (
            single[1]
            if set(indices) == set(self.indices) and len(set(indices)) == len(indices)
            else None
        )

    def over(self, axes: Iterable[Axis]) -> "View":
        """The same expression on other axes."""
        return View(self.expression, tuple(axes))


def length(axis: Axis) -> int:
    """How far an axis runs."""
    return math.prod(int(index.size) for index in axis)


def times(left: Expression, right: Expression) -> Expression:
    """The product; sums stay in their parentheses."""
    for first, other in ((left, right), (right, left)):
        if first.number is not None:
            return scale(other, first.number)
    return multiply(kept(left), kept(right))


def number(value: float) -> Expression:
    """A number as a person writes it: a fraction, a root of one, or its decimals.

    Examples:
        >>> number(0.5) == constant(Fraction(1, 2)), number(2**-0.5).terms[0].factors
        (True, (Power(base=Group(body=Expression(terms=(Term(coefficient=Fraction(2, 1), factors=(),
        bound=(), kind=None),))), \
exponent=Expression(terms=(Term(coefficient=Fraction(-1, 2), factors=(), bound=(), kind=None),))),))
    """
    for candidate in (Fraction(value).limit_denominator(10_000), Fraction(repr(float(value)))):
        if float(candidate) == float(value):
            # A root that float64 has rounded is recognised by its square.
            near, square = candidate, Fraction(value * value).limit_denominator(10_000)
            if (
                near.denominator > 10_000
                and square
                and math.isclose(float(square), value * value, rel_tol=4e-16)
            ):
                root = Fraction(1, 2) if square >= 1 else Fraction(-1, 2)
                power = of(
                    Power(Group(constant(square if square >= 1 else 1 / square)), constant(root))
                )
                return power if value > 0 else scale(power, -1)
            return constant(near)
    raise AssertionError(f"not a finite number: {value}")


def power(base: Expression, exponent: Expression) -> Expression:
    """base ** exponent, a sum in its parentheses."""
    if exponent == ONE:
        return base
    known = exponent.number
    single = as_factor(base)
    # Powers of powers are one power, so that roots cancel.
    if known is not None and single is not None and single[0] == 1 and isinstance(single[1], Power):
        inner = single[1].exponent.number
        # (x^½)⁻¹ = x^−½; not (x²)^½, which is |x|.
        if inner is not None and (inner.denominator != 1 or known.denominator == 1):
            return of(Power(single[1].base, constant(inner * known)))
    if (
        base.number is not None
        and known is not None
        and known.denominator == 1
        and (base.number or known > 0)
    ):
        return constant(base.number ** int(known))
    return of(Power(_whole_factor(base), exponent))


def _whole_factor(expression: Expression) -> Factor:
    """An expression as the base of a power: one factor, or in parentheses."""
    factor = grouped(expression)
    return factor if isinstance(factor, Entry | Apply | Group | Delta) else Group(expression)
