"""Kronecker deltas: out of their parentheses, and into equalities of free indices."""

from dataclasses import replace

from hesse.derivation.calculus.algebra import multiply
from hesse.derivation.calculus.expression import (
    Delta,
    Expression,
    Factor,
    Group,
    Index,
    Power,
    Term,
    all_names,
    constant,
    freshened,
    rename_factor,
)


def expanded_around_deltas(term: Term) -> list[Term]:
    """The term with parentheses that hold a delta multiplied out, so that the delta is contracted
    or stands by itself."""
    for position, factor in enumerate(term.factors):
        if (
            isinstance(factor, Power)
            and isinstance(factor.base, Group)
            and factor.exponent == constant(2)
        ):
            # A square is its base twice: one is opened, the other stays.
            factor = factor.base
            rest: tuple[Factor, ...] = (
                *term.factors[:position],
                factor,
                *term.factors[position + 1 :],
            )
        else:
            rest = (*term.factors[:position], *term.factors[position + 1 :])
        if isinstance(factor, Group) and any(
            isinstance(inner, Delta) for part in factor.body.terms for inner in part.factors
        ):
            # What the parentheses sum over must not be caught by the sums around them.
            body = freshened(factor.body, all_names(term))
            parts = multiply(Expression((Term(term.coefficient, rest),)), body).terms
            return [
                done
                for part in parts
                for done in expanded_around_deltas(replace(part, bound=(*part.bound, *term.bound)))
            ]
    return [term]


def merged(
    factors: tuple[Factor, ...], free: tuple[Index, ...]
) -> tuple[list[Factor], tuple[tuple[Index, Index], ...]]:
    """The factors without their deltas, equal free indices under one name; and which are equal."""
    first = {index: index for index in free}
    for factor in factors:
        if isinstance(factor, Delta):
            # Of two equal indices the one that comes first among the free ones stays; all that
            # were equal to the other follow it.
            a, b = sorted((first[factor.left], first[factor.right]), key=free.index)
            first = {index: a if to == b else to for index, to in first.items()}
    to = {index: stands for index, stands in first.items() if stands != index}
    equal = tuple((stands, index) for index, stands in to.items())
    return [rename_factor(factor, to) for factor in factors if not isinstance(factor, Delta)], equal
