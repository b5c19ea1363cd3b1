"""The three readings of a formula: one weight per layer, in indices, and as matrices."""

from dataclasses import replace
from fractions import Fraction
from typing import Literal, get_args

from hesse.derivation.calculus.algebra import collect
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
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Definition, Program
from hesse.errors import HesseValueError, nearest

Reading = Literal["scalar", "indices", "matrix"]
READINGS: tuple[Reading, ...] = get_args(Reading)
TITLES: dict[Reading, str] = {
    "scalar": "one weight per layer",
    "indices": "in indices",
    "matrix": "as matrices",
}


def known_reading(reading: str) -> Reading:
    """The reading, if it is one.

    Raises:
        HesseValueError: it is not; the text names the three.
    """
    if reading not in READINGS:
        raise HesseValueError(
            f"reading must be one of {', '.join(map(repr, READINGS))}, got {reading!r}; "
            f"nearest: {nearest(reading, list(READINGS))}"
        )
    return reading  # pyright: ignore[reportReturnType]


def scalar(expression: Expression, program: Program) -> Expression:
    """The expression where every axis has length one: indices, sums and deltas are gone, like terms
    are one.

    Example:
        >>> from hesse.derivation.calculus.expression import Index
        >>> i, j = Index("i", "n"), Index("j", "n")
        >>> twice = Expression((Term(Fraction(1), (Entry("A", (i, j)),)), Term(Fraction(1),
        ...     (Entry("A", (j, i)),))))
        >>> scalar(twice, Program({}, ())).terms
        (Term(coefficient=Fraction(2, 1), factors=(Entry(name='A', indices=()),), bound=(),
        kind=None),)
    """
    return collect(_bare(expression, program))


def scalar_definition(definition: Definition, program: Program) -> Definition:
    """The right-hand side of a quantity where every axis has length one."""
    match definition:
        case Expression():
            return scalar(definition, program)
        case ArrayCall(operation, argument):
            return ArrayCall(operation, Entry(argument.name))
        case BlackBox():
            return definition


def _bare(expression: Expression, program: Program) -> Expression:
    terms = []
    for term in expression.terms:
        factors = tuple(
            kept for factor in term.factors if (kept := _bare_factor(factor, program)) is not None
        )
        terms.append(replace(term, factors=factors, bound=()))
    return Expression(tuple(terms))


def _bare_factor(factor: Factor, program: Program) -> Factor | None:
    """The factor without indices; None where it is one."""
    match factor:
        case Entry(name, _):
            leaf = program.leaves.get(name)
            return None if leaf is not None and leaf.shown is not None else Entry(name)
        case Delta() | Count():
            return None
        case Apply(function, order, argument):
            return Apply(function, order, _bare_factor(argument, program) or _one())
        case Power(base, exponent):
            inner = _bare_factor(base, program)
            return None if inner is None else Power(inner, _bare(exponent, program))
        case Group(body):
            return Group(_bare(body, program))
        case Partial(inner, by):
            return Partial(
                _bare_factor(inner, program) or _one(), tuple(Entry(entry.name) for entry in by)
            )


def _one() -> Factor:
    return Group(Expression((Term(Fraction(1)),)))
