"""What every notation has in common: the order of signs, numbers, sums and fractions in a
formula."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Kind,
    Partial,
    Power,
    Term,
    constant,
    freshen,
    indices,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Definition, Program


@dataclass(frozen=True)
class Piece:
    """One term of a sum as it is written, its sign apart."""

    negative: bool
    body: str
    kind: Kind | None = None


class Writer(ABC):
    """Writes expressions. A notation says how symbols look; what stands where is decided here.

    Args:
        program: whose names are written.
    """

    minus = "−"
    plus = "+"

    def __init__(self, program: Program) -> None:
        self.program = program
        self._variable: str | None = (
            None  # whose factors are to be marked, while a derivative not carried out is written
        )

    # ---------------------------------------------------------------- how symbols look

    @abstractmethod
    def symbol(self, name: str) -> str:
        """A name without indices."""

    @abstractmethod
    def entry(self, entry: Entry) -> str:
        """``W2[p,o]``"""

    @abstractmethod
    def delta(self, left: str, right: str) -> str:
        """``[i = j]``"""

    @abstractmethod
    def index(self, name: str) -> str:
        """The name of an index."""

    @abstractmethod
    def size(self, size: int | str) -> str:
        """A number, or the letter of one."""

    @abstractmethod
    def call(self, function: str, order: int, argument: str) -> str:
        """``f''(z)``"""

    @abstractmethod
    def raised(self, base: str, exponent: str) -> str:
        """``x²``"""

    @abstractmethod
    def root(self, inside: str) -> str:
        """``√(x)``"""

    @abstractmethod
    def quotient(self, above: str, below: Sequence[str]) -> str:
        """``a / (b c)``"""

    @abstractmethod
    def number(self, value: Fraction) -> str:
        """A positive rational number."""

    @abstractmethod
    def summation(self, over: Sequence[str]) -> str:
        """``Σ_p``"""

    @abstractmethod
    def parentheses(self, inside: str) -> str:
        """``(…)``"""

    @abstractmethod
    def partial(self, of: str | None, by: Sequence[str]) -> str:
        """``∂z/∂W``, or the bare ``∂/∂W``."""

    @abstractmethod
    def product(self, parts: Sequence[str], dotted: bool) -> str:
        """Factors side by side; with dots where a derivative is among them, or where they are
        pointed at."""

    @abstractmethod
    def moving(self, part: str) -> str:
        """A factor that contains the variable of the derivative it stands in."""

    @abstractmethod
    def plain(self, text: str) -> str:
        """A short formula of our own in letters, digits and signs."""

    # ---------------------------------------------------------------- what stands where

    def expression(self, expression: Expression) -> str:
        """The whole sum."""
        return self.joined(self.pieces(expression))

    def pieces(self, expression: Expression) -> list[Piece]:
        """The terms of a sum, each with its sign; a sum of nothing is 0."""
        if expression.is_zero:
            return [Piece(False, "0")]
        return [
            Piece(term.coefficient < 0, self.term(term), term.kind) for term in expression.terms
        ]

    def joined(self, pieces: Iterable[Piece]) -> str:
        """Terms with their signs between them."""
        text = ""
        for piece in pieces:
            sign = self.minus if piece.negative else self.plus
            text += (
                f" {sign} {piece.body}"
                if text
                else f"{self.minus if piece.negative else ''}{piece.body}"
            )
        return text

    def term(self, term: Term) -> str:
        """A term without its sign: what the sum does not touch stands before it."""
        inside = [factor for factor in term.factors if set(indices(factor)) & set(term.bound)]
        if not term.bound:
            return self._fraction(abs(term.coefficient), term.factors)
        outside = [factor for factor in term.factors if factor not in inside]
        over = self.summation([self.index(index.name) for index in term.bound])
        body = self._fraction(Fraction(1), inside)
        before = self._before(abs(term.coefficient), outside)
        return (
            self.product([*before, f"{over} {body}"], self._dotted(outside))
            if before
            else f"{over} {body}"
        )

    def outside(self, term: Term) -> str:
        """What stands in front of braces: its sign, its factors, and the sum it is taken over."""
        inside = [factor for factor in term.factors if set(indices(factor)) & set(term.bound)]
        before = [factor for factor in term.factors if factor not in inside]
        parts = self._before(abs(term.coefficient), before)
        if term.bound:
            parts.append(self.summation([self.index(index.name) for index in term.bound]))
            parts += self._before(Fraction(1), inside)
        sign = self.minus if term.coefficient < 0 else ""
        return sign + self.product(parts, self._dotted(term.factors))

    def _fraction(self, number: Fraction, factors: Sequence[Factor]) -> str:
        above, below = _divided(factors)
        if not below:
            parts = [self.factor(factor) for factor in above]
            if number != 1 or not parts:
                parts.insert(0, self.number(number))
            return self.product(parts, self._dotted(above))
        top = [self.factor(factor) for factor in above]
        if number.numerator != 1 or not top:
            top.insert(0, self.number(Fraction(number.numerator)))
        bottom = [self.factor(factor) for factor in below]
        if number.denominator != 1:
            bottom.insert(0, self.number(Fraction(number.denominator)))
        return self.quotient(self.product(top, self._dotted(above)), bottom)

    def _before(self, number: Fraction, factors: Sequence[Factor]) -> list[str]:
        """What stands before a Σ: a number or a quotient, then the factors."""
        above, below = _divided(factors)
        parts = [self.factor(factor) for factor in above]
        if below:
            parts.insert(
                0, self._fraction(number, [factor for factor in factors if factor not in above])
            )
        elif number != 1:
            parts.insert(0, self.number(number))
        return parts

    def factor(self, factor: Factor) -> str:
        """One factor, so that others can stand beside it."""
        variable, self._variable = self._variable, None
        written = self._factor(factor)
        self._variable = variable
        return (
            self.moving(written) if variable and self.program.depends(factor, variable) else written
        )

    def _factor(self, factor: Factor) -> str:
        match factor:
            case Entry(name):
                leaf = self.program.leaves.get(name)
                if leaf is not None and leaf.shown is not None:
                    return self.plain(leaf.shown.format(*(index.name for index in factor.indices)))
                return self.entry(factor)
            case Delta(left, right):
                return self.delta(self.index(left.name), self.index(right.name))
            case Apply(function, order, argument):
                return self.call(function, order, self.inside(argument))
            case Group(body):
                return self.parentheses(self.expression(body))
            case Count(size):
                return self.size(size)
            case Power(base, exponent):
                return self._power(base, exponent)
            case Partial(inner, by):
                return self._derivative(inner, by)

    def slope(self, entry: Entry) -> str | None:
        """``∂pool(a)_k/∂a_i`` for an entry of a named map's derivative, whose indices are those of
        all that it is of and by."""
        found = Name.read(entry.name).derivative
        known = self.program.by_name
        if found is None or not all(
            name in known or name in self.program.leaves for name in (found[0], *found[1])
        ):
            return None
        rest, parts = entry.indices, []
        for name in (found[0], *found[1]):
            rank = len(self.program.shape(name))
            parts.append(self.entry(Entry(name, rest[:rank])))
            rest = rest[rank:]
        return self.partial(parts[0], parts[1:])

    def inside(self, factor: Factor) -> str:
        """A factor where it stands between brackets of its own."""
        return self.expression(factor.body) if isinstance(factor, Group) else self.factor(factor)

    def _dotted(self, factors: Sequence[Factor]) -> bool:
        return self._variable is not None or any(map(_is_quotient, factors))

    def _power(self, base: Factor, exponent: Expression) -> str:
        number = exponent.number
        if number is not None and number < 0:
            return self.quotient(self.number(Fraction(1)), [self.factor(_inverted(base, number))])
        if number == Fraction(1, 2):
            return self.root(self.inside(base))
        below = self.factor(base)
        if (
            isinstance(base, Power)
            or _is_quotient(base)
            or (isinstance(base, Apply) and base.function == "exp")
        ):
            below = self.parentheses(below)
        return self.raised(below, self.expression(exponent))

    def _derivative(self, inner: Factor, by: tuple[Entry, ...]) -> str:
        variables = [self.entry(entry) for entry in by]
        if isinstance(inner, Entry):
            written = self.entry(inner)
            return self.partial(
                self.parentheses(written) if _is_quotient(inner) else written, variables
            )
        body = (
            inner.body if isinstance(inner, Group) else Expression((Term(Fraction(1), (inner,)),))
        )
        taken = {index.name for entry in by for index in entry.indices}
        self._variable = by[-1].name
        written = self.expression(Expression(tuple(freshen(term, taken) for term in body.terms)))
        self._variable = None
        return f"{self.partial(None, variables)} {self.parentheses(written)}"

    def definition(self, definition: Definition) -> str:
        """The right-hand side of a quantity."""
        match definition:
            case Expression():
                return self.expression(definition)
            case ArrayCall(operation, Entry(name, _)):
                return self.whole(operation, name)
            case BlackBox(operation, arguments):
                return self.black_box(
                    operation, definition.order, [self.symbol(name) for name in arguments]
                )

    @abstractmethod
    def whole(self, operation: str, argument: str) -> str:
        """``softmax(z)``"""

    @abstractmethod
    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        """``max_pool2d(a)``, a map without a formula, or the symbol of its derivative."""


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
