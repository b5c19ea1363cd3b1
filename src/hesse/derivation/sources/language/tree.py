"""A cost as it is written: a small tree with whole arrays at its leaves, and its text.

`parsing` makes it, `lowering` turns it into entries with indices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, TypeVar

from hesse.derivation.calculus.structures import Pattern

Operator = Literal["+", "-", "*", "/", "**", "@"]
Span = tuple[int, int]  # where in the text: the first character, and the one after the last
Form = TypeVar("Form")


def _hashed_once(form: type[Form]) -> type[Form]:
    """A tree is looked up in tables at every step, and its hash is that of all below it: without
    this a walk over a tree takes as long as the square of its size."""
    of_fields = form.__hash__

    def kept(self: Form) -> int:
        if "_hash" not in self.__dict__:
            object.__setattr__(self, "_hash", of_fields(self))
        return self.__dict__["_hash"]

    form.__hash__ = kept
    return form


@_hashed_once
@dataclass(frozen=True)
class Symbol:
    """An array, or the letter of a size used as a number."""

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Number:
    """A number as it is written: not negative, with finitely many digits. A quotient is a
    `Binary`."""

    value: Fraction
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Negative:
    """``-operand``"""

    operand: "Tree"
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Binary:
    """``left operator right``; all but ``@`` entry by entry."""

    operator: Operator
    left: "Tree"
    right: "Tree"
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Transpose:
    """``operand.T``"""

    operand: "Tree"
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class FunctionCall:
    """``function(argument)`` or ``function(argument, axis=axis)``."""

    function: str
    argument: "Tree"
    axis: int | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class NewAxis:
    """``operand[:, None]``: an axis of length one more, at a place of the result."""

    operand: "Tree"
    axis: int = -1
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Along:
    """``operand[1:]``, ``operand[0]``, ``cumsum(operand)``: the product with a constant matrix
    along one axis; None for that of a vector."""

    operand: "Tree"
    pattern: Pattern
    axis: int | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Kron:
    """``kron(left, right)``: every entry of one times every entry of the other, of two vectors or
    two matrices."""

    left: "Tree"
    right: "Tree"
    span: Span | None = field(default=None, compare=False, repr=False)


@_hashed_once
@dataclass(frozen=True)
class Einsum:
    """``einsum("ij,jk->ik", A, B)``: products summed over the letters that the result does not
    have."""

    inputs: tuple[str, ...]
    output: str
    operands: "tuple[Tree, ...]"
    span: Span | None = field(default=None, compare=False, repr=False)


Tree = (
    Symbol | Number | Negative | Binary | Transpose | FunctionCall | NewAxis | Along | Kron | Einsum
)


def children(tree: Tree) -> tuple[Tree, ...]:
    """The parts that a tree is made of."""
    match tree:
        case Symbol() | Number():
            return ()
        case Negative(operand) | Transpose(operand) | NewAxis(operand) | Along(operand):
            return (operand,)
        case Einsum(_, _, operands):
            return operands
        case Binary(_, left, right) | Kron(left, right):
            return (left, right)
        case FunctionCall(_, argument):
            return (argument,)


def rebuilt(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """The tree with each of its children changed."""
    match tree:
        case Symbol() | Number():
            return tree
        case Negative(operand) | Transpose(operand) | NewAxis(operand) | Along(operand):
            return replace(tree, operand=change(operand))
        case Einsum(_, _, operands):
            return replace(tree, operands=tuple(map(change, operands)))
        case Binary(_, left, right) | Kron(left, right):
            return replace(tree, left=change(left), right=change(right))
        case FunctionCall(_, argument):
            return replace(tree, argument=change(argument))


def placed(tree: Tree, span: Span | None) -> Tree:
    """What was made of a text stands where the text did; what was read in it has its place."""
    if tree.span is not None:
        return tree
    return rebuilt(replace(tree, span=span), lambda child: placed(child, span))


def size(tree: Tree, known: dict[Tree, int]) -> int:
    """How many forms a tree has, one that stands in several places counted in each.

    Args:
        tree: the tree.
        known: the sizes of some trees; those of its parts are added.
    """
    if tree not in known:
        known[tree] = 1 + sum(size(child, known) for child in children(tree))
    return known[tree]


def walk(tree: Tree) -> Iterator[Tree]:
    """All subtrees, children first, in the order in which they are written."""
    for child in children(tree):
        yield from walk(child)
    yield tree


def symbols(tree: Tree) -> tuple[str, ...]:
    """The names that occur, each once, in the order in which they are written."""
    return tuple(dict.fromkeys(part.name for part in walk(tree) if isinstance(part, Symbol)))


# How tightly each form binds. A part in a place that asks for more stands in parentheses.
_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)
_STRENGTH: dict[str, tuple[int, int, int]] = {  # its own, and what its two sides need
    "+": (_SUM, _SUM, _PRODUCT),
    "-": (_SUM, _SUM, _PRODUCT),
    "*": (_PRODUCT, _PRODUCT, _SIGN),
    "/": (_PRODUCT, _PRODUCT, _SIGN),
    "@": (_PRODUCT, _PRODUCT, _SIGN),
    "**": (_POWER, _ATOM, _SIGN),
}
_SPACED = "+-@"


def unparse(tree: Tree) -> str:
    """The text of a tree, with no parentheses but those it needs: ``parse(unparse(tree)) == tree``.

    Examples:
        >>> from hesse.derivation.sources.language.parsing import parse
        >>> unparse(parse("((y) - (W2@f(W1@x)))**2"))
        '(y - W2 @ f(W1 @ x))**2'
    """
    return _text(tree)[0]


def _text(tree: Tree) -> tuple[str, int]:
    match tree:
        case Symbol(name):
            return name, _ATOM
        case Number(value):
            return decimal(value), _ATOM
        case Negative(operand):
            return f"-{_within(operand, _SIGN)}", _SIGN
        case Transpose(Number(value)):
            # 2.T would be read as the number 2. and a name.
            return f"({decimal(value)}).T", _ATOM
        case Transpose(operand):
            return f"{_within(operand, _ATOM)}.T", _ATOM
        case NewAxis(operand, axis):
            return f"{_within(operand, _ATOM)}[{_items('None', axis)}]", _ATOM
        case Along(operand, pattern, axis):
            strength = _SUM if len(pattern.items) > 1 else _ATOM
            return _along(_within(operand, _ATOM), pattern, axis), strength
        case Kron(left, right):
            return f"kron({unparse(left)}, {unparse(right)})", _ATOM
        case Einsum(inputs, output, operands):
            arrays = ", ".join(map(unparse, operands))
            return f'einsum("{",".join(inputs)}->{output}", {arrays})', _ATOM
        case Binary(operator, left, right):
            strength, first, second = _STRENGTH[operator]
            sign = f" {operator} " if operator in _SPACED else operator
            return f"{_within(left, first)}{sign}{_within(right, second)}", strength
        case FunctionCall(function, argument, axis):
            inside = unparse(argument) if axis is None else f"{unparse(argument)}, axis={axis}"
            return f"{function}({inside})", _ATOM


def _items(item: str, axis: int | None) -> str:
    """What stands in brackets, where an item is that of an axis."""
    if axis is not None and axis < 0:
        return f"..., {item}" + ", :" * (-axis - 1)
    return ":, " * (axis or 0) + item


def _along(operand: str, pattern: Pattern, axis: int | None) -> str:
    if pattern.square:
        return f"cumsum({operand})" if axis is None else f"cumsum({operand}, axis={axis})"
    parts = [_items(item, axis) for item in pattern.items]
    return pattern.sum_of([f"{operand}[{part}]" for part in parts])


def _within(tree: Tree, least: int) -> str:
    text, strength = _text(tree)
    return text if strength >= least else f"({text})"


def decimal(value: Fraction) -> str:
    """A number with finitely many digits, all of them: ``decimal(Fraction(1, 8)) == '0.125'``.

    Raises:
        ValueError: the number has no end, such as 1/3, or is negative.
    """
    rest, powers = value.denominator, {2: 0, 5: 0}
    for prime in powers:
        while rest % prime == 0:
            rest, powers[prime] = rest // prime, powers[prime] + 1
    if rest != 1 or value < 0:
        raise ValueError(f"{value} cannot be written as a decimal number without a sign")
    places = max(powers.values())
    digits = str(value.numerator * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits
