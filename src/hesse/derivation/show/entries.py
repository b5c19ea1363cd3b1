"""What stands where in a formula of entries: the order of signs, numbers, sums and fractions."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy

from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Power,
    Term,
    constant,
    freshened,
    indices,
    of,
    rename_term,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import ArrayCall, BlackBox
from hesse.derivation.show.notation import (
    ATOM,
    PRODUCT,
    QUOTIENT,
    RAISED,
    SUM,
    Notation,
    Rule,
    Written,
)


def _expression(node: Expression, writer: Notation) -> Written:
    """Terms with their signs between them; a sum of nothing is 0."""
    text = ""
    for term in node.terms:
        sign = writer.minus if term.coefficient < 0 else writer.plus
        between = f" {sign} " if text else sign * (term.coefficient < 0)
        text += between + writer.part(term)
    return text or "0", SUM


def _term(node: Term, writer: Notation) -> Written:
    """A term without its sign: what the sum does not touch stands before it."""
    node = _placed(node, writer)
    if not node.bound:
        return _fraction(abs(node.coefficient), node.factors, writer), PRODUCT
    outside, inside = _apart(node)
    body = f"{_over(node, writer)} {_fraction(Fraction(1), inside, writer)}"
    before = _before(abs(node.coefficient), outside, writer)
    return writer.product([*before, body], _dotted(outside, writer)) if before else body, PRODUCT


def outside(term: Term, writer: Notation) -> str:
    """What stands in front of braces: its sign, its factors, and the sum it is taken over."""
    term = _placed(term, writer)
    before, inside = _apart(term)
    parts = _before(abs(term.coefficient), before, writer)
    if term.bound:
        parts += [_over(term, writer), *_before(Fraction(1), inside, writer)]
    return writer.minus * (term.coefficient < 0) + writer.product(
        parts, _dotted(term.factors, writer)
    )


def _placed(term: Term, writer: Notation) -> Term:
    """Σ_p [p = 0] z_p as z_0: what is summed over, where it is told to be one place."""
    for factor in term.factors:
        if isinstance(factor, Entry) and len(factor.indices) == 1:
            (index,), place = factor.indices, _place(factor, writer)
            if place is not None and index in term.bound:
                rest = replace(
                    term,
                    factors=tuple(other for other in term.factors if other != factor),
                    bound=tuple(other for other in term.bound if other != index),
                )
                return _placed(rename_term(rest, {index: Index(str(place), index.size)}), writer)
    return term


def _place(entry: Entry, writer: Notation) -> int | None:
    """The only place where a condition on one index holds."""
    leaf = writer.program.leaves.get(entry.name)
    if leaf is None or leaf.shown is None or leaf.value is None:
        return None
    holds = numpy.flatnonzero(leaf.value)
    return int(holds[0]) if len(holds) == 1 and leaf.value[holds[0]] == 1 else None


def _apart(term: Term) -> tuple[list[Factor], list[Factor]]:
    """The factors that the sum does not touch, and those that it does."""
    inside = [factor for factor in term.factors if set(indices(factor)) & set(term.bound)]
    return [factor for factor in term.factors if factor not in inside], inside


def _over(term: Term, writer: Notation) -> str:
    return writer.summation([writer.index(index.name) for index in term.bound])


def _fraction(number: Fraction, factors: Sequence[Factor], writer: Notation) -> str:
    above, below = _divided(factors)
    top, bottom = (
        [writer.factor(factor) for factor in above],
        [writer.factor(factor) for factor in below],
    )
    # Without a fraction line a number such as ½ stays whole.
    up = Fraction(number.numerator) if below else number
    if up != 1 or not top:
        top.insert(0, writer.number(up))
    product = writer.product(top, _dotted(above, writer))
    if not below:
        return product
    if number.denominator != 1:
        bottom.insert(0, writer.number(Fraction(number.denominator)))
    return writer.quotient(product, bottom)


def _before(number: Fraction, factors: Sequence[Factor], writer: Notation) -> list[str]:
    """What stands before a Σ: a number or a quotient, then the factors."""
    above, below = _divided(factors)
    parts = [writer.factor(factor) for factor in above]
    if below:
        rest = [factor for factor in factors if factor not in above]
        return [_fraction(number, rest, writer), *parts]
    return parts if number == 1 else [writer.number(number), *parts]


def _dotted(factors: Sequence[Factor], writer: Notation) -> bool:
    return writer.variable is not None or any(map(_is_quotient, factors))


def _is_quotient(factor: Factor) -> bool:
    """Whether a factor is written as a derivative."""
    return isinstance(factor, Partial) or (
        isinstance(factor, Entry) and Name.read(factor.name).derivative is not None
    )


def _divided(factors: Sequence[Factor]) -> tuple[list[Factor], list[Factor]]:
    """What stands above a fraction line, and what below."""
    above: list[Factor] = []
    below: list[Factor] = []
    for factor in factors:
        number = factor.exponent.number if isinstance(factor, Power) else None
        if isinstance(factor, Power) and number is not None and number < 0:
            below.append(_inverted(factor.base, number))
        else:
            above.append(factor)
    return above, below


def _inverted(base: Factor, exponent: Fraction) -> Factor:
    return base if exponent == -1 else Power(base, constant(-exponent))


def _entry(node: Entry, writer: Notation) -> Written:
    # A constant that stands for a condition on its indices is written as that condition.
    leaf = writer.program.leaves.get(node.name)
    if leaf is not None and leaf.shown is not None:
        return writer.plain(leaf.shown.format(*(index.name for index in node.indices))), ATOM
    return writer.entry(node), QUOTIENT if _is_quotient(node) else ATOM


def _apply(node: Apply, writer: Notation) -> Written:
    inside = writer.part(_bare(node.argument))
    if node.function == "abs" and not node.order:
        return writer.absolute(inside), ATOM
    # exp(x)² could be read as exp(x²).
    binds = RAISED if node.function == "exp" else ATOM
    # |u| has brackets of its own.
    bracketed = isinstance(node.argument, Apply) and node.argument.function == "abs"
    inside = f" {inside}" if bracketed else writer.parentheses(inside)
    return writer.function(node.function, node.order) + inside, binds


def _bare(factor: Factor) -> Expression | Factor:
    """A factor where it stands between brackets of its own."""
    return factor.body if isinstance(factor, Group) else factor


def _power(node: Power, writer: Notation) -> Written:
    number = node.exponent.number
    if number is not None and number < 0:
        below = writer.part(_inverted(node.base, number))
        return writer.quotient(writer.number(Fraction(1)), [below]), RAISED
    if number == Fraction(1, 2):
        return writer.root(writer.part(_bare(node.base))), RAISED
    return writer.raised(writer.part(node.base, ATOM), writer.part(node.exponent)), RAISED


def _partial(node: Partial, writer: Notation) -> Written:
    variables = [writer.entry(entry) for entry in node.by]
    if isinstance(node.of, Entry):
        return writer.partial(writer.part(node.of, ATOM), variables), QUOTIENT
    body = node.of.body if isinstance(node.of, Group) else of(node.of)
    # What is summed over inside must not have the name of an index that the derivative is taken by.
    taken = {index.name for entry in node.by for index in entry.indices}
    writer.variable = node.by[-1].name
    inside = writer.part(freshened(body, taken))
    writer.variable = None
    return f"{writer.partial(None, variables)} {writer.parentheses(inside)}", QUOTIENT


def _black_box(node: BlackBox, writer: Notation) -> Written:
    return writer.black_box(
        node.operation, node.order, [writer.symbol(name) for name in node.arguments]
    ), ATOM


RULES: dict[type, Rule] = {
    Expression: _expression,
    Term: _term,
    Entry: _entry,
    Delta: lambda node, writer: (
        writer.delta(writer.index(node.left.name), writer.index(node.right.name)),
        ATOM,
    ),
    Apply: _apply,
    Group: lambda node, writer: (writer.parentheses(writer.part(node.body)), ATOM),
    Count: lambda node, writer: (writer.size(node.size), ATOM),
    Power: _power,
    Partial: _partial,
    ArrayCall: lambda node, writer: (
        writer.array_function(node.operation, node.argument.name),
        ATOM,
    ),
    BlackBox: _black_box,
}
