"""The language in which a cost is written: text to a tree, shapes, and a program of named
quantities."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.sources.language.declarations import Shape, declared
from hesse.derivation.sources.language.lowering import lower
from hesse.derivation.sources.language.parsing import TOO_DEEP, normal, one_line, parse
from hesse.derivation.sources.language.shapes import Shapes, infer
from hesse.derivation.sources.language.tree import (
    FunctionCall,
    Negative,
    Number,
    Symbol,
    Tree,
    symbols,
)
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest


def program(
    text: str,
    wrt: str | Sequence[str],
    shapes: str | Mapping[str, Sequence[Size]] | None = None,
    given: str | Iterable[str] = (),
) -> tuple[Program, tuple[str, ...]]:
    """The program of a cost that is written as text, and its parameters.

    Args:
        text: the cost, in the syntax of `hesse.derivation.sources.language.parsing`.
        wrt: the names of the parameters; one string may hold several, separated by commas.
        shapes: ``"W1[h,d] x[d] a[]"``; what is not declared is inferred, see
            `hesse.derivation.sources.language.shapes.infer`.
        given: what else is known: ``"sum(y) == 1"``, of the entries along the last axis, or
            ``"Omega == 1"``, of every entry.

    Raises:
        HesseValueError: text that is not a cost, or shapes that do not fit.
        HesseKeyError: a name that does not occur.

    Example:
        >>> found, _ = program("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
        >>> [quantity.name for quantity in found.quantities]
        ['z2', 'a2', 'z3', 'ŷ', 'J']
        >>> found.leaves["W1"].sizes
        ('h', 'd')
    """
    if not isinstance(text, str):
        raise HesseTypeError(
            f"the cost must be text, such as 'sum((y - X @ w)**2)'; got {type(text).__name__}"
        )
    try:
        return _program(text, _parameters(wrt), declared(shapes), given)
    # The parser refuses what is too deep; rewrites and shapes may go deeper than the text does.
    except RecursionError:
        raise HesseValueError(TOO_DEEP) from None


def _program(
    text: str, parameters: tuple[str, ...], known: Mapping[str, Shape], given: Any
) -> tuple[Program, tuple[str, ...]]:
    tree = parse(text)
    occurring = symbols(tree)
    for name in parameters:
        # A parameter that is declared may be absent: its blocks are zero.
        if name not in occurring and name not in known:
            raise _absent(name, occurring)
    inferred = infer(tree, one_line(text), known, parameters)
    for name in parameters:
        if name in inferred.counts:
            raise HesseValueError(
                f"wrt names {name!r}, which is the letter of a size; a size cannot vary"
            )
    fixed, sums = _given(given, occurring)
    _check_given(fixed, sums, inferred, parameters)
    return (
        lower(
            tree, inferred, parameters, fixed, {name: number for name, (number, _) in sums.items()}
        ),
        parameters,
    )


def _parameters(wrt: Any) -> tuple[str, ...]:
    if not isinstance(wrt, Iterable):
        raise HesseTypeError(
            f"wrt must be the names of parameters, as text or in a list; got {wrt!r}"
        )
    names = re.split(r"[\s,]+", wrt.strip(" ,")) if isinstance(wrt, str) else list(wrt)
    if not names or names == [""]:
        raise HesseValueError("wrt is empty; name the parameters, such as wrt=['W1', 'W2']")
    for name in names:
        if not isinstance(name, str):
            raise HesseTypeError(f"wrt must hold names; got {name!r}")
        if not name.isidentifier() or "__" in name:
            raise HesseValueError(f"wrt names {name!r}, which cannot be the name of an array")
    return tuple(dict.fromkeys(map(normal, names)))


def _absent(name: str, occurring: Sequence[str]) -> HesseKeyError:
    # Another case of the same letters is the likelier slip.
    same = [other for other in occurring if other.casefold() == name.casefold()]
    close = same or get_close_matches(name, occurring, n=1, cutoff=0.7)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(occurring)}."
    return HesseKeyError(
        f"wrt names {name!r}, which does not occur in the expression; {hint} (If it is a parameter"
        " of its own, whose derivatives are zero, declare its shape.)"
    )


def _given(
    given: Any, occurring: Sequence[str]
) -> tuple[dict[str, Fraction], dict[str, tuple[int, int | None]]]:
    """The arrays that are one number, and those whose sums are, along an axis."""
    fixed: dict[str, Fraction] = {}
    sums: dict[str, tuple[int, int | None]] = {}
    if not isinstance(given, Iterable):
        raise HesseTypeError(
            f"given must be facts, such as 'sum(y) == 1', as text or in a list; got {given!r}"
        )
    for fact in [given] if isinstance(given, str) else given:
        if not isinstance(fact, str):
            raise HesseTypeError(f"given must hold text, such as 'sum(y) == 1'; got {fact!r}")
        left, equals, right = fact.partition("==")
        if not equals:
            raise HesseValueError(
                f"given holds {fact!r}; a fact is written 'sum(y) == 1' or 'Omega == 1'"
            )
        number = _number(parse(right))
        match parse(left), number:
            case Symbol(name), Fraction():
                fixed[name] = number
            case FunctionCall("sum", Symbol(name), axis), Fraction(denominator=1):
                sums[name] = int(number), axis
            case _:
                raise HesseValueError(
                    f"given holds {fact!r}; what can be given is 'sum(y) == 1' and 'Omega == 1',"
                    " with a number"
                )
        if name not in occurring:
            known = nearest(name, list(occurring))
            raise HesseKeyError(
                f"given names {name!r}, which does not occur in the expression; there are {known}"
            )
    return fixed, sums


def _check_given(
    fixed: Mapping[str, Fraction],
    sums: Mapping[str, tuple[int, int | None]],
    inferred: Shapes,
    parameters: Sequence[str],
) -> None:
    for name in (*fixed, *sums):
        if name in parameters:
            raise HesseValueError(
                f"given says something of {name!r}, which is in wrt and varies; leave it out of one"
                " of them"
            )
    others = {
        size for name, shape in inferred.leaves.items() if name not in fixed for size in shape
    }
    for name in fixed:
        for size in inferred.leaves[name]:
            if isinstance(size, str) and size not in others:
                raise HesseValueError(
                    f"given replaces {name!r} by a number, and no other array has its size {size};"
                    " declare its shape"
                )
    for name, (number, axis) in sums.items():
        axes = len(inferred.leaves[name])
        if not axes:
            raise HesseValueError(
                f"given names the sum of {name!r}, which is a scalar; write '{name} == {number}'"
            )
        if axis not in (None, -1, axes - 1):
            raise HesseValueError(
                f"given names the sum of {name!r} along axis {axis}; it can be that along the last"
                f" axis, {axes - 1}"
            )


def _number(tree: Tree) -> Fraction | None:
    match tree:
        case Number(value):
            return value
        case Negative(Number(value)):
            return -value
    return None
