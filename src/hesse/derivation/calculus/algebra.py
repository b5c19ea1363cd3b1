"""Sums and products of expressions, and what is put into them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

from hesse.derivation.calculus import sizes
from hesse.derivation.calculus.expression import (
    ZERO,
    Count,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Kind,
    Partial,
    Term,
    all_names,
    constant,
    freshen,
    grouped,
    indices,
    of,
    rebuilt,
    rename,
)


def add(*parts: Expression) -> Expression:
    """The sum, like terms not yet collected."""
    return Expression(tuple(term for part in parts for term in part.terms))


def scale(expression: Expression, by: Fraction | int) -> Expression:
    """A number times the expression."""
    if by == 0:
        return ZERO
    return rebuilt(expression, lambda term: replace(term, coefficient=term.coefficient * by))


def multiply(
    left: Expression, right: Expression, around: frozenset[str] = frozenset()
) -> Expression:
    """The product, sums multiplied out. Bound indices of one never catch free indices of the
    other, nor those of a sum ``around`` the product, which neither of the two need mention."""
    return Expression(tuple(multiply_terms(a, b, around) for a in left.terms for b in right.terms))


def multiply_terms(a: Term, b: Term, around: frozenset[str] = frozenset()) -> Term:
    """The product of two terms."""
    # Σ_i a_i · Σ_i b_i is Σ_i Σ_j a_i b_j: neither sum may catch an index of the other.
    b = freshen(b, all_names(a) | around)
    a = freshen(a, all_names(b) | around)
    return Term(
        a.coefficient * b.coefficient,
        (*a.factors, *b.factors),
        (*a.bound, *b.bound),
        a.kind or b.kind,
    )


def product(factors: Iterable[Factor]) -> Expression:
    """Factors as one term."""
    return Expression((Term(Fraction(1), tuple(factors)),))


def total(expression: Expression, over: Iterable[Index]) -> Expression:
    """Σ over indices that are free in the expression."""
    over = tuple(over)
    terms = []
    for term in expression.terms:
        # What is summed over already must not be caught by the new sum.
        term = freshen(term, {index.name for index in over})
        present = indices(term)
        terms.append(
            replace(term, bound=(*term.bound, *(index for index in over if index in present)))
        )
        # An index that a term does not have is summed over all the same: it counts.
        for index in over:
            if index not in present:
                terms[-1] = times_size(terms[-1], index)
    return Expression(tuple(terms))


def times_size(term: Term, index: Index) -> Term:
    """The term as often as an index runs."""
    if isinstance(index.size, int):
        return replace(term, coefficient=term.coefficient * index.size)
    return replace(term, factors=(*counted(index.size), *term.factors))


def counted(size: str) -> tuple[Factor, ...]:
    """A size as factors of a formula: n, or n − 1 in parentheses."""
    return tuple(
        grouped(add(of(Count(letter)) if letter else ZERO, constant(by)))
        for letter, by in sizes.parts(size)
    )


def marked(expression: Expression, kind: Kind | None) -> Expression:
    """The expression with the kind of every term set."""
    return rebuilt(expression, lambda term: replace(term, kind=kind))


def replaced(expression: Expression, change: Callable[[Factor], Expression]) -> Expression:
    """The expression with each factor of its terms replaced by what ``change`` makes of it, the
    products multiplied out."""
    parts = []
    for term in expression.terms:
        # What a term sums over stays outside while its factors are multiplied, so that it is not
        # renamed. What they become may have lost it, and still no sum in them may run over it.
        around = frozenset(index.name for index in term.bound)
        opened = Expression((Term(term.coefficient, (), (), term.kind),))
        for factor in term.factors:
            opened = multiply(opened, change(factor), around)
        parts += [replace(part, bound=(*part.bound, *term.bound)) for part in opened.terms]
    return Expression(tuple(parts))


def renamed_to(
    expression: Expression, old: tuple[Index, ...], new: tuple[Index, ...]
) -> Expression:
    """The expression with one list of free indices put in the place of another."""
    return rename(expression, {a: b for a, b in zip(old, new, strict=True) if a != b})


def put_in(expression: Expression, closed: dict[Partial, Expression]) -> Expression:
    """The expression with each derivative replaced by what it came to."""

    def inside(factor: Factor) -> Expression:
        if isinstance(factor, Partial):
            return closed[factor]
        # A derivative may stand in the parentheses of a definition, but in no function and no
        # power: those are differentiated to a slope and the derivative of what is in them.
        return of(Group(put_in(factor.body, closed)) if isinstance(factor, Group) else factor)

    return replaced(expression, inside)


def written_out(expression: Expression, entry: Entry, definition: Expression) -> Expression:
    """The expression with the definition of a quantity in the place of each of its entries."""

    def opened(factor: Factor) -> Expression:
        if not isinstance(factor, Entry) or factor.name != entry.name:
            return of(factor)
        return renamed_to(definition, entry.indices, factor.indices)

    return replaced(expression, opened)


def partials_in(expression: Expression) -> list[Partial]:
    """The derivatives not carried out, each once, in order."""
    factors = (factor for term in expression.terms for factor in term.factors)
    return list(dict.fromkeys(factor for factor in factors if isinstance(factor, Partial)))
