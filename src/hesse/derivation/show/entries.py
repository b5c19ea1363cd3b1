"""What stands where in a formula of entries: the order of signs, numbers, sums and fractions."""

from collections.abc import Sequence
from fractions import Fraction

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
    constant,
    freshen,
    indices,
    of,
)
from hesse.derivation.calculus.program import ArrayCall, BlackBox
from hesse.derivation.show.names import derivative
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


def _expression(node: Expression, w: Notation) -> Written:
    """Terms with their signs between them; a sum of nothing is 0."""
    text = ""
    for term in node.terms:
        sign = w.minus if term.coefficient < 0 else w.plus
        between = f" {sign} " if text else sign * (term.coefficient < 0)
        text += between + w.part(term)
    return text or "0", SUM


def _term(node: Term, w: Notation) -> Written:
    """A term without its sign: what the sum does not touch stands before it."""
    if not node.bound:
        return _fraction(abs(node.coefficient), node.factors, w), PRODUCT
    outside, inside = _apart(node)
    body = f"{_over(node, w)} {_fraction(Fraction(1), inside, w)}"
    before = _before(abs(node.coefficient), outside, w)
    return w.product([*before, body], _dotted(outside, w)) if before else body, PRODUCT


def outside(term: Term, w: Notation) -> str:
    """What stands in front of braces: its sign, its factors, and the sum it is taken over."""
    before, inside = _apart(term)
    parts = _before(abs(term.coefficient), before, w)
    if term.bound:
        parts += [_over(term, w), *_before(Fraction(1), inside, w)]
    return w.minus * (term.coefficient < 0) + w.product(parts, _dotted(term.factors, w))


def _apart(term: Term) -> tuple[list[Factor], list[Factor]]:
    """The factors that the sum does not touch, and those that it does."""
    inside = [factor for factor in term.factors if set(indices(factor)) & set(term.bound)]
    return [factor for factor in term.factors if factor not in inside], inside


def _over(term: Term, w: Notation) -> str:
    return w.summation([w.index(index.name) for index in term.bound])


def _fraction(number: Fraction, factors: Sequence[Factor], w: Notation) -> str:
    above, below = _divided(factors)
    top, bottom = [w.factor(factor) for factor in above], [w.factor(factor) for factor in below]
    # Without a fraction line a number such as ½ stays whole.
    up = Fraction(number.numerator) if below else number
    if up != 1 or not top:
        top.insert(0, w.number(up))
    product = w.product(top, _dotted(above, w))
    if not below:
        return product
    if number.denominator != 1:
        bottom.insert(0, w.number(Fraction(number.denominator)))
    return w.quotient(product, bottom)


def _before(number: Fraction, factors: Sequence[Factor], w: Notation) -> list[str]:
    """What stands before a Σ: a number or a quotient, then the factors."""
    above, below = _divided(factors)
    parts = [w.factor(factor) for factor in above]
    if below:
        rest = [factor for factor in factors if factor not in above]
        return [_fraction(number, rest, w), *parts]
    return parts if number == 1 else [w.number(number), *parts]


def _dotted(factors: Sequence[Factor], w: Notation) -> bool:
    return w.variable is not None or any(map(_is_quotient, factors))


def _is_quotient(factor: Factor) -> bool:
    """Whether a factor is written as a derivative."""
    return isinstance(factor, Partial) or (
        isinstance(factor, Entry) and derivative(factor.name) is not None
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


def _entry(node: Entry, w: Notation) -> Written:
    # A constant that stands for a condition on its indices is written as that condition.
    leaf = w.program.leaves.get(node.name)
    if leaf is not None and leaf.shown is not None:
        return w.plain(leaf.shown.format(*(index.name for index in node.indices))), ATOM
    return w.entry(node), QUOTIENT if _is_quotient(node) else ATOM


def _apply(node: Apply, w: Notation) -> Written:
    inside = w.part(_bare(node.argument))
    if node.function == "abs" and not node.order:
        return w.absolute(inside), ATOM
    # exp(x)² could be read as exp(x²).
    binds = RAISED if node.function == "exp" else ATOM
    return w.function(node.function, node.order) + w.parentheses(inside), binds


def _bare(factor: Factor) -> Expression | Factor:
    """A factor where it stands between brackets of its own."""
    return factor.body if isinstance(factor, Group) else factor


def _power(node: Power, w: Notation) -> Written:
    number = node.exponent.number
    if number is not None and number < 0:
        below = w.part(_inverted(node.base, number))
        return w.quotient(w.number(Fraction(1)), [below]), RAISED
    if number == Fraction(1, 2):
        return w.root(w.part(_bare(node.base))), RAISED
    return w.raised(w.part(node.base, ATOM), w.part(node.exponent)), RAISED


def _partial(node: Partial, w: Notation) -> Written:
    variables = [w.entry(entry) for entry in node.by]
    if isinstance(node.of, Entry):
        return w.partial(w.part(node.of, ATOM), variables), QUOTIENT
    body = node.of.body if isinstance(node.of, Group) else of(node.of)
    # What is summed over inside must not have the name of an index that the derivative is taken by.
    taken = {index.name for entry in node.by for index in entry.indices}
    w.variable = node.by[-1].name
    inside = w.part(Expression(tuple(freshen(term, taken) for term in body.terms)))
    w.variable = None
    return f"{w.partial(None, variables)} {w.parentheses(inside)}", QUOTIENT


def _black_box(node: BlackBox, w: Notation) -> Written:
    return w.black_box(
        node.operation, node.order, [w.symbol(name) for name in node.arguments]
    ), ATOM


RULES: dict[type, Rule] = {
    Expression: _expression,
    Term: _term,
    Entry: _entry,
    Delta: lambda node, w: (w.delta(w.index(node.left.name), w.index(node.right.name)), ATOM),
    Apply: _apply,
    Group: lambda node, w: (w.parentheses(w.part(node.body)), ATOM),
    Count: lambda node, w: (w.size(node.size), ATOM),
    Power: _power,
    Partial: _partial,
    ArrayCall: lambda node, w: (w.array_function(node.operation, node.argument.name), ATOM),
    BlackBox: _black_box,
}
