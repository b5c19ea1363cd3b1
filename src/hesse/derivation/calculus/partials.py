"""Derivatives that stand in an expression and are not carried out: found, and replaced by what they
come to."""

from dataclasses import replace

from hesse.derivation.calculus.algebra import multiply
from hesse.derivation.calculus.expression import Expression, Factor, Group, Partial, Term, of


def put_in(expression: Expression, closed: dict[Partial, Expression]) -> Expression:
    """The expression with each derivative replaced by what it came to."""
    parts = []
    for term in expression.terms:
        done = Expression((Term(term.coefficient, (), (), term.kind),))
        for factor in term.factors:
            done = multiply(
                done, closed[factor] if isinstance(factor, Partial) else of(_inside(factor, closed))
            )
        parts.extend(
            replace(part, bound=(*part.bound, *term.bound), kind=term.kind or part.kind)
            for part in done.terms
        )
    return Expression(tuple(parts))


def _inside(factor: Factor, closed: dict[Partial, Expression]) -> Factor:
    return Group(put_in(factor.body, closed)) if isinstance(factor, Group) else factor


def partials_in(expression: Expression) -> list[Partial]:
    """The derivatives not carried out, each once, in order."""
    found: dict[Partial, None] = {}
    for term in expression.terms:
        for factor in term.factors:
            if isinstance(factor, Partial):
                found[factor] = None
    return list(found)
