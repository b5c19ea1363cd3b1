"""The normal form of an expression, in which like terms meet."""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import Any

from hesse.derivation.calculus.algebra import add, multiply, replaced, scale, times_size
from hesse.derivation.calculus.canonical import canonical, ordered
from hesse.derivation.calculus.contraction import (
    NOTHING,
    Facts,
    deltas_contracted,
    isometries_summed,
    numbers_summed,
)
from hesse.derivation.calculus.expression import (
    ONE,
    ZERO,
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Node,
    Partial,
    Power,
    Term,
    all_names,
    children,
    constant,
    freshen,
    freshened,
    indices,
    of,
    rebuilt,
    rename_factor,
)

# Functions whose values are 0 and 1 alone.
INDICATORS = frozenset({"step"})
# Terms that are made to see whether they are fewer: a product of twenty sums has a million.
MOST_OPENED = 2000
# Powers beyond this stay as they are: the numbers in them would have too many digits.
LARGEST_SPLIT_POWER = 1000


def simplify(
    expression: Expression,
    facts: Facts = NOTHING,
    prefer: tuple[Index, ...] = (),
) -> Expression:
    """The expression a person would write: no Kronecker delta that can be summed away, equal
    factors as powers, no term twice, and parentheses multiplied out where that leaves fewer terms.

    Args:
        expression: what to simplify.
        facts: what is known of its arrays.
        prefer: of two free indices that a delta makes equal, the one to write.
    """
    kept = collect(expression, facts, prefer)
    # Opened only where that leaves less to read: of y − ŷ squared it does not.
    if _has_parentheses(kept) and _count_opened(kept) <= MOST_OPENED:
        opened = collect(expand(kept), facts, prefer)
        if len(opened.terms) <= len(kept.terms) and weight(opened) < weight(kept):
            return opened
    return kept


def weight(value: Node) -> int:
    """How much there is to read; an exponent is read with its base."""
    kept: int | None = vars(value).get("_weight")
    if kept is None:
        if isinstance(value, Power):
            kept = 1 + weight(value.base)
        else:
            alone = {Expression: 0, Term: 2, Group: 0, Partial: 0}.get(type(value), 1)
            kept = alone + sum(map(weight, children(value)))
        vars(value)["_weight"] = kept
    return kept


def collect(
    expression: Expression,
    facts: Facts = NOTHING,
    prefer: tuple[Index, ...] = (),
) -> Expression:
    """Contract deltas, merge powers, add like terms, drop zeros. Parentheses stay.

    Under a delta of two free indices every other factor takes one of them: the one that comes first
    in ``prefer``.
    """
    # Exponents are numbers nearly always.
    number = expression.number
    if number is not None:
        return constant(number)
    rank = {index: place for place, index in enumerate(prefer)}
    sums: dict[object, Term] = {}
    for raw in expression.terms:
        term = contract(_tidy(raw, facts), facts)
        if term.coefficient == 0:
            continue
        term = _on_the_diagonal(term, rank)
        if facts.symmetric:
            term = _upright(term, facts.symmetric, rank)
        # Like terms have one key, whatever their bound indices are called.
        key = canonical(term, facts.symmetric)
        seen = sums.get(key)
        if seen is None:
            sums[key] = term
        else:
            # A term that came about in both ways is of neither kind.
            kind = seen.kind if seen.kind == term.kind else None
            sums[key] = replace(seen, coefficient=seen.coefficient + term.coefficient, kind=kind)
    return Expression(tuple(term for term in sums.values() if term.coefficient != 0))


def _on_the_diagonal(term: Term, rank: Mapping[Index, int]) -> Term:
    """Under deltas of free indices, every other factor takes the first of those that are equal, so
    that like terms look alike."""
    if not any(isinstance(factor, Delta) for factor in term.factors):
        return term
    first: dict[Index, Index] = {}
    for delta in term.factors:
        if isinstance(delta, Delta):
            ends = (_root(delta.left, first), _root(delta.right, first))
            # The order is total, so that equal terms choose the same index.
            keep, gone = sorted(ends, key=lambda index: (rank.get(index, len(rank)), index.name))
            first[gone] = keep
    to = {index: root for index in first if (root := _root(index, first)) != index}
    if not to:
        return term
    deltas = tuple(Delta(keep, gone) for gone, keep in to.items())
    others = tuple(
        rename_factor(factor, to) for factor in term.factors if not isinstance(factor, Delta)
    )
    return replace(term, factors=_gather((*others, *deltas)))


def _upright(term: Term, symmetric: frozenset[str], rank: Mapping[Index, int]) -> Term:
    """Of two indices of a symmetric array the free one first, so that A + Aᵀ is 2 A."""

    def place(index: Index) -> tuple[bool, int, str]:
        return index in term.bound, rank.get(index, len(rank)), index.name

    def turned(part: Any) -> Any:
        if isinstance(part, Entry):
            return ordered(part, symmetric, place)
        # ∂A⁻¹[i,j]/∂A[k,l] moves one entry of A, which is not symmetric then.
        return part if isinstance(part, Partial) else rebuilt(part, turned)

    # x_o A[o,q] and x_o A[q,o] are one factor each, which may have met before.
    return replace(term, factors=_gather(tuple(map(turned, term.factors))))


def _root(index: Index, first: Mapping[Index, Index]) -> Index:
    while first.get(index, index) != index:
        index = first[index]
    return index


def _tidy(term: Term, facts: Facts) -> Term:
    """Normalise each factor, and take numbers and products out of parentheses that hold a single
    term."""
    coefficient, factors, bound = term.coefficient, [], list(term.bound)
    taken = all_names(term)
    for factor in term.factors:
        factor = _tidy_factor(factor, facts)
        if isinstance(factor, Group):
            body = factor.body
            # A zero in a product is the whole of it.
            if body.is_zero:
                return Term(Fraction(0))
            if len(body.terms) == 1:
                inner = freshen(body.terms[0], taken)
                taken |= all_names(inner)
                coefficient *= inner.coefficient
                factors.extend(inner.factors)
                bound.extend(inner.bound)
                continue
            # Of a sum only a sign or a number that all terms share is taken out: a common factor
            # of symbols is a question of how a formula is shown.
            common = body.terms[0].coefficient
            if all(part.coefficient < 0 for part in body.terms):
                coefficient, factor = -coefficient, Group(scale(body, -1))
            elif common not in (1, -1) and all(
                abs(part.coefficient) == abs(common) for part in body.terms
            ):
                coefficient, factor = coefficient * abs(common), Group(scale(body, 1 / abs(common)))
            else:
                # ½ (p − 2) rather than (½ p − 1).
                shares = math.lcm(*(part.coefficient.denominator for part in body.terms))
                coefficient, factor = coefficient / shares, Group(scale(body, shares))
        if isinstance(factor, Power):
            split = _split_power(factor)
            if split is not None:
                number, rest = split
                coefficient *= number
                factors.extend(rest)
                continue
        factors.append(factor)
    return Term(coefficient, tuple(factors), tuple(bound), term.kind)


def _tidy_factor(factor: Factor, facts: Facts) -> Factor:
    match factor:
        case Group(body):
            return Group(simplify(body, facts))
        case Power(base, exponent):
            return _power(_tidy_factor(base, facts), collect(exponent))
        case Apply(function, order, argument):
            return Apply(function, order, _tidy_factor(argument, facts))
        case Delta(left, right):
            return Delta(*sorted((left, right)))
        case _:
            return factor


def _power(base: Factor, exponent: Expression) -> Factor:
    """u^{ab} for (u^a)^b, but for a root of a whole power: √(u²) is |u|, not u."""
    if exponent == ONE:
        return base
    # 1² is 1 and 0² is 0.
    if isinstance(base, Apply) and base.function in INDICATORS and (exponent.number or 0) > 0:
        return base
    if isinstance(base, Power) and (_is_whole(exponent) or not _is_whole(base.exponent)):
        return _power(base.base, collect(multiply(base.exponent, exponent)))
    return Power(base, exponent)


def _is_whole(exponent: Expression) -> bool:
    return exponent.number is not None and exponent.number.denominator == 1


def _split_power(power: Power) -> tuple[Fraction, list[Factor]] | None:
    """A power as a number and other factors, or None where it stays: exponent zero, a number, a
    whole power of one product, the sign of a sum of negative terms."""
    exponent = power.exponent.number
    if exponent is None:
        return None
    if exponent == 0:
        return Fraction(1), []
    if (
        isinstance(power.base, Group)
        and exponent.denominator == 1
        and abs(exponent) <= LARGEST_SPLIT_POWER
    ):
        body = power.base.body
        if body.number is not None and body.number != 0:
            return body.number ** int(exponent), []
        if len(body.terms) == 1 and not body.terms[0].bound:
            term = body.terms[0]
            if term.coefficient != 0:
                return term.coefficient ** int(exponent), [
                    _power(factor, constant(exponent)) for factor in term.factors
                ]
        if body.terms and all(part.coefficient < 0 for part in body.terms):
            # (−a − b)ⁿ is ±(a + b)ⁿ: a sign in front is easier to read.
            return Fraction((-1) ** int(exponent)), [Power(Group(scale(body, -1)), power.exponent)]
    return None


def contract(term: Term, facts: Facts = NOTHING) -> Term:
    """Sum away deltas and arrays that add to a number, gather equal factors, and count what is
    summed over nothing."""
    factors, bound = isometries_summed(term.factors, term.bound, facts.isometries)
    factors, bound = deltas_contracted(factors, bound)
    number, factors, bound = numbers_summed(factors, bound, facts.sums)
    present = {index for factor in factors for index in indices(factor)}
    kept = tuple(index for index in bound if index in present)
    result = Term(number * term.coefficient, tuple(factors), kept, term.kind)
    for index in bound:
        if index not in present:
            result = times_size(result, index)
    return replace(result, factors=_gather(result.factors))


def _gather(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Equal factors as one power, (x/l)^k x²/l² as (x/l)^(k + 2); numbers of entries first."""
    exponents: dict[Factor, Expression] = {}
    for factor in factors:
        if isinstance(factor, Delta):
            # A delta is its own square, so its powers are not added up.
            exponents.setdefault(factor, ONE)
            continue
        base, exponent = (
            (factor.base, factor.exponent) if isinstance(factor, Power) else (factor, ONE)
        )
        # Most factors are there once.
        alone = base not in exponents and exponent.number is not None
        exponents[base] = exponent if alone else collect(add(exponents.get(base, ZERO), exponent))
    for base in [*exponents]:
        _take_in(base, exponents)
    return tuple(
        _power(base, exponent) for base, exponent in exponents.items() if not exponent.is_zero
    )


def _take_in(base: Factor, exponents: dict[Factor, Expression]) -> None:
    """Raise a power of a product, (x/l)^k, by as often as its factors stand beside it."""
    if not (isinstance(base, Group) and exponents[base].number is None):
        return
    if len(base.body.terms) != 1 or base.body.terms[0].bound:
        return
    (term,) = base.body.terms
    times: set[int] = set()
    for factor in term.factors:
        inner, power = (
            (factor.base, factor.exponent.number)
            if isinstance(factor, Power)
            else (factor, Fraction(1))
        )
        beside = exponents.get(inner, ZERO).number
        if not power or beside is None:
            return
        times.add(math.trunc(beside / power))
    most = min(times, key=abs, default=0)
    if term.coefficient != 1 or most == 0 or min(times) * max(times) < 0:
        return
    for factor in term.factors:
        inner, power = (
            (factor.base, factor.exponent) if isinstance(factor, Power) else (factor, ONE)
        )
        exponents[inner] = collect(add(exponents[inner], scale(power, -most)))
    exponents[base] = collect(add(exponents[base], constant(most)))


def expand(expression: Expression) -> Expression:
    """Parentheses and their whole powers multiplied out."""
    parts = []
    for term in expression.terms:
        taken = all_names(term)
        parts.append(replaced(Expression((term,)), lambda f, taken=taken: _opened(f, taken)))
    return add(*parts)


def _opened(factor: Factor, taken: set[str]) -> Expression:
    body, copies = _parentheses(factor)
    if body is None:
        return of(factor)
    inner = freshened(expand(body), taken)
    return reduce(multiply, [inner] * copies)


def _has_parentheses(expression: Expression) -> bool:
    return any(isinstance(f, Group | Power) for term in expression.terms for f in term.factors)


def _parentheses(factor: Factor) -> tuple[Expression | None, int]:
    """The sum that a factor is a small whole power of, and the power."""
    match factor:
        case Group(body):
            return body, 1
        case Power(Group(body), exponent):
            power = exponent.number
            if power is not None and power.denominator == 1 and 1 < power <= 4:
                return body, int(power)
    return None, 1


def _count_opened(expression: Expression) -> int:
    """How many terms `expand` makes."""
    return sum(
        math.prod(
            _count_opened(body) ** copies
            for body, copies in map(_parentheses, term.factors)
            if body is not None
        )
        for term in expression.terms
    )


def same(left: Expression, right: Expression, facts: Facts = NOTHING) -> bool:
    """Whether two expressions are the same sum, up to order and the names of bound indices."""
    return collect(add(left, scale(right, -1)), facts).is_zero
