"""The language in which a cost is written: text to a tree, shapes, and a program of named
quantities."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.sources.language.declarations import Shape, declared
from hesse.derivation.sources.language.facts import given_facts
from hesse.derivation.sources.language.lowering import lower
from hesse.derivation.sources.language.parsing import TOO_DEEP, normal, one_line, parse
from hesse.derivation.sources.language.shapes import infer
from hesse.derivation.sources.language.tree import symbols
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError


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
        given: what else is known, in the syntax of `hesse.derivation.sources.language.facts`.

    Raises:
        HesseValueError: text that is not a cost, or shapes that do not fit.
        HesseKeyError: a name that does not occur.

    Examples:
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
    facts = given_facts(given, occurring)
    facts.check(inferred, parameters)
    return lower(tree, inferred, parameters, facts), parameters


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
