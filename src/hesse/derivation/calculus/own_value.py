"""Derivatives of a quotient and of a root, written in the value that they have themselves.

(u/v)' = (u' − (u/v) v')/v and (√u)' = u'/(2 √u): where the value has a name, as the λ of a Rayleigh
quotient or a norm has, this is how a person goes on, and the second derivative stays as short as
the first.
"""

from fractions import Fraction

from hesse.derivation.calculus.algebra import add, multiply, product, scale
from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Factor,
    Power,
    Term,
    constant,
)
from hesse.derivation.calculus.rules import POWER, Derivative, Rule, by_rule

QUOTIENT = Rule("quotient rule", "what is below takes the quotient itself with it")
ROOT = Rule(POWER.name, "a root moves by what is under it, over twice itself")

HALF = constant(Fraction(1, 2))


def under_root(definition: Expression) -> Factor | None:
    """What a definition is the root of; None where it is none."""
    match definition:
        case Expression((Term(1, (Power(base, exponent),), ()),)) if exponent == HALF:
            return base
    return None


def root_rule(value: Entry, moved: Derivative) -> Derivative:
    """∂√u from ∂u."""
    slope = product((Power(value, constant(-1)),))
    return by_rule(ROOT, scale(multiply(slope, moved.expression), Fraction(1, 2)))


def above_and_below(definition: Expression) -> tuple[tuple[Entry, ...], tuple[Entry, ...]] | None:
    """The factors of a quotient of named quantities; None where a definition is none."""
    match definition:
        case Expression((Term(1, factors, ()),)):
            above = tuple(factor for factor in factors if isinstance(factor, Entry))
            below = tuple(
                factor.base
                for factor in factors
                if isinstance(factor, Power)
                and isinstance(factor.base, Entry)
                and factor.exponent == constant(-1)
            )
            if len(above) + len(below) == len(factors) and above and below:
                return above, below
    return None


def quotient_rule(
    value: Entry, above: tuple[Entry, ...], below: tuple[Entry, ...], moved: dict[Entry, Expression]
) -> Derivative:
    """∂(u/v) from those of its factors: those below take the value with them."""
    parts = []
    for factor in above:
        rest = product(
            (
                *(other for other in above if other != factor),
                *(Power(other, constant(-1)) for other in below),
            )
        )
        parts.append(multiply(moved[factor], rest))
    for factor in below:
        share = product((value, Power(factor, constant(-1))))
        parts.append(scale(multiply(share, moved[factor]), -1))
    return by_rule(QUOTIENT, add(*parts))
