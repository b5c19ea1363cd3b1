"""The factors common to all terms of a sum, pulled out in front of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from hesse.derivation.calculus.expression import (
    Delta,
    Expression,
    Factor,
    Index,
    Power,
    Term,
    all_names,
    constant,
    freshen,
    indices,
    rename_factor,
    rename_term,
)


@dataclass(frozen=True)
class Factored:
    """``outer { inner }``: a sum as a product with what its terms had in common; each inner term
    keeps its kind.

    The bound indices of ``outer`` are summed over the whole product.
    """

    outer: Term
    inner: Expression

    @property
    def is_plain(self) -> bool:
        """Whether nothing was in common."""
        return self.outer == Term(Fraction(1))


def factored(expression: Expression) -> Factored:
    """Pull out of a sum what all its terms have in common: a number, factors, and sums over an
    index they share.

    Under ``[j = o]`` the names j and o mean the same, so that ``f(z_o) A + f(z_j) [j = o] B`` is
    ``f(z_o) { A + [j = o] B }``.

    Examples:
        >>> from hesse.derivation.calculus.expression import Entry, Expression, Term
        >>> a, b, c = (Entry(name) for name in "abc")
        >>> pulled = factored(Expression((Term(Fraction(2), (a, b)), Term(Fraction(-2), (a, c)))))
        >>> pulled.outer.coefficient, pulled.outer.factors
        (Fraction(2, 1), (Entry(name='a', indices=()),))
    """
    if len(expression.terms) < 2:
        return Factored(Term(Fraction(1)), expression)
    terms = [_without_whole_powers(term) for term in expression.terms]
    # The names are taken from the term with the fewest deltas: the others can follow it, it cannot
    # follow them.
    guide = min(
        range(len(terms)),
        key=lambda k: sum(isinstance(factor, Delta) for factor in terms[k].factors),
    )
    terms = _aligned(terms, guide)
    shared = _shared_sums(terms, guide)
    # A sum that goes back inside holds back factors, which can take other sums back with them.
    while True:
        common, rest = _common(terms, guide, shared)
        # A sum stands outside where two factors or more go with it: Σ_n x[n,i] a[n,j] { … }.
        kept = [index for index in shared if sum(index in indices(factor) for factor in common) > 1]
        if kept == shared:
            break
        shared = kept
    coefficient = _common_number(expression)
    inner = Expression(
        tuple(
            Term(
                term.coefficient / coefficient,
                _gathered(left),
                tuple(index for index in term.bound if index not in shared),
                term.kind,
            )
            for term, left in zip(terms, rest, strict=True)
        )
    )
    return Factored(Term(coefficient, _gathered(common), tuple(shared)), inner)


def _common(
    terms: list[Term], guide: int, shared: list[Index]
) -> tuple[list[Factor], list[list[Factor]]]:
    """The factors that all terms have, and those that are left of each; none that a sum which stays
    inside holds back."""
    bound = {index for term in terms for index in term.bound if index not in shared}
    common: list[Factor] = []
    rest = [list(term.factors) for term in terms]
    for factor in list(terms[guide].factors):
        if set(indices(factor)) & bound:
            continue
        # A condition that all terms have stands in front of them once.
        if isinstance(factor, Delta) and not all(factor in left for left in rest):
            continue
        places = [_equal(factor, left, term) for left, term in zip(rest, terms, strict=True)]
        if all(place is not None for place in places):
            common.append(factor)
            for left, place in zip(rest, places, strict=True):
                del left[place]  # pyright: ignore[reportArgumentType]
    return common, rest


def _common_number(expression: Expression) -> Fraction:
    numbers = [term.coefficient for term in expression.terms]
    size = abs(numbers[0])
    if any(abs(number) != size for number in numbers):
        size = Fraction(1)
    return -size if all(number < 0 for number in numbers) else size


def _without_whole_powers(term: Term) -> Term:
    """Whole powers as factors side by side."""
    factors: list[Factor] = []
    for factor in term.factors:
        number = factor.exponent.number if isinstance(factor, Power) else None
        if (
            isinstance(factor, Power)
            and number is not None
            and number.denominator == 1
            # A higher power is common as a whole or not at all: opened it would only be long.
            and 1 < abs(number) <= 8
        ):
            single = factor.base if number > 0 else Power(factor.base, constant(-1))
            factors.extend([single] * int(abs(number)))
        else:
            factors.append(factor)
    return replace(term, factors=tuple(factors))


def _gathered(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Factors side by side as whole powers again, each where it stood first."""
    counts = Counter(factors)
    powers: list[Factor] = []
    for factor, count in counts.items():
        if count == 1:
            powers.append(factor)
        elif isinstance(factor, Power) and factor.exponent.number is not None:
            powers.append(Power(factor.base, constant(factor.exponent.number * count)))
        else:
            powers.append(Power(factor, constant(count)))
    return tuple(powers)


def _equal(factor: Factor, among: list[Factor], term: Term) -> int | None:
    """Where a factor stands among others, names that a delta of the term makes equal taken as
    one."""
    if factor in among:
        return among.index(factor)
    # Each name is led to the one name that stands for all those it is equal to.
    to: dict[Index, Index] = {}
    for delta in term.factors:
        if isinstance(delta, Delta):
            left, right = to.get(delta.left, delta.left), to.get(delta.right, delta.right)
            to = {old: left if new == right else new for old, new in to.items()} | {right: left}
    if not to:
        return None
    wanted = rename_factor(factor, to)
    return next(
        (
            k
            for k, other in enumerate(among)
            if not isinstance(other, Delta) and rename_factor(other, to) == wanted
        ),
        None,
    )


def _aligned(terms: list[Term], guide: int) -> list[Term]:
    """The terms with their bound indices named after those of the guide that touch the most equal
    factors."""
    lead = terms[guide]
    aligned = []
    for position, term in enumerate(terms):
        if position == guide:
            aligned.append(term)
            continue
        done: set[Index] = set()
        for index in lead.bound:
            best, most = None, 0
            for candidate in (
                other for other in term.bound if other not in done and other.size == index.size
            ):
                # Equal factors are counted as often as both terms have them.
                moved = Counter(_renamed(term, candidate, index).factors)
                score = sum(
                    min(n, moved[factor])
                    for factor, n in Counter(lead.factors).items()
                    if index in indices(factor)
                )
                if score > most:
                    best, most = candidate, score
            if best is not None:
                term = _renamed(term, best, index)
                done.add(index)
        aligned.append(term)
    return aligned


def _renamed(term: Term, old: Index, new: Index) -> Term:
    """The term with one bound index renamed."""
    if old == new:
        return term
    opened = replace(term, bound=tuple(index for index in term.bound if index != old))
    if new.name in all_names(opened):
        opened = freshen(opened, {new.name})
    moved = rename_term(opened, {old: new})
    return replace(moved, bound=(new, *moved.bound))


def _shared_sums(terms: list[Term], guide: int) -> list[Index]:
    return [index for index in terms[guide].bound if all(index in term.bound for term in terms)]
