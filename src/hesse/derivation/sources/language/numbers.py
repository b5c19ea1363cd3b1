"""Which names stand for numbers where a vector would fit too.

``lam*w.T @ w`` can be read with a number and, as NumPy stretches, with a vector of weights; whoever
writes it means a number. Where both fit a name is one

- if all that it does is to scale a product, as in ``lam*w.T @ w`` or ``gamma/2*w.T @ S @ w``, or an
  identity, as in ``s*eye(n)``;
- if numbers are customarily called so (``sigma``, ``lam``, ``b``), and it stands among the entries
  of others that are reduced, as in ``sum((y - (a*x + b))**2)`` or ``sum((x - mu)**2)``;
- if it is a parameter that is added to a product of data with another one: the intercept of ``y - X
  @ w - b``.

Beside another matrix product, as in ``W @ x + b`` or ``a*tanh(W @ x)``, within one, as in ``(x -
mu).T @ A @ (x - mu)``, and as the point that a distance is taken to, as in ``norm2(x - c)``, it has
entries of its own.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Symbol,
    Transpose,
    Tree,
    children,
    symbols,
    walk,
)
from hesse.derivation.sources.language.vocabulary import elementwise, known

# What numbers are called, with or without a digit or a subscript.
_CUSTOMARY = re.compile(
    r"(?:[abckl]|s2|sd|std|var|bias|intercept|alpha|beta|gamma|delta|eps|epsilon|eta|kappa|lam|lambda"
    r"|lambd|lmbda|mu|nu|rho|sigma2?|tau|zeta|[αβγδεζηκλμνρστ])_?\d*(?:_\w*)?"
)

# What a name stands in, the innermost form first, and which part of each it is in.
Place = tuple[tuple[Tree, Tree], ...]


@dataclass(frozen=True)
class Numbers:
    """Names that are read as numbers, and names that could be and are not.

    Attributes:
        chosen: the first.
        doubtful: the second, where both are natural: factors of a product, and what a norm is taken
            from.
    """

    chosen: tuple[str, ...]
    doubtful: tuple[str, ...]


def numbers(tree: Tree, axes: Mapping[str, int], parameters: Collection[str]) -> Numbers:
    """Reads where names stand.

    Args:
        tree: the cost.
        axes: how many each name has that is declared.
        parameters: the names that are derived by.

    Examples:
        >>> from hesse.derivation.sources.language.parsing import parse
        >>> numbers(parse("sum((y - X @ w)**2) + lam*w.T @ w"), {}, ["w"]).chosen
        ('lam',)
        >>> numbers(parse("sum((y - (a*x + b))**2)"), {}, ["a", "b"]).chosen
        ('a', 'b')
        >>> numbers(parse("sum(alpha*relu(W @ x))"), {}, ["W"])
        Numbers(chosen=(), doubtful=('alpha',))
    """
    found: dict[str, list[Place]] = {}
    for name, place in _places(tree, ()):
        if name not in axes and not name[0].isupper():
            found.setdefault(name, []).append(place)
    customary = {name for name in symbols(tree) if _CUSTOMARY.fullmatch(name)}
    # What is sure to have entries.
    arrays = {name for name in symbols(tree) if axes.get(name, name not in customary)}
    chosen = [
        name
        for name, places in found.items()
        if all(
            _scales(place)
            or (name in customary and _is_among_entries(place, arrays, name, parameters))
            for place in places
        )
    ]
    doubtful = [
        name
        for name, places in found.items()
        if name in customary
        and name not in chosen
        and any(_weighs_a_product(place) or _is_a_point(place) for place in places)
    ]
    return Numbers(tuple(chosen), tuple(doubtful))


def _places(tree: Tree, above: Place) -> Iterator[tuple[str, Place]]:
    if isinstance(tree, Symbol):
        yield tree.name, above
    for child in children(tree):
        yield from _places(child, ((tree, child), *above))


def _scales(place: Place) -> bool:
    """Whether a name is the leading factor of a matrix product, or a factor of an identity."""
    alone = True  # with numbers, and functions of itself
    for form, part in place:
        match form:
            case Binary("*" | "/" as operator, left, _):
                other = _beside(form, part)
                if operator == "*" and _is_identity(other):
                    return True
                if part is not left and symbols(left):
                    return False
                alone = alone and not symbols(other)
            case Binary("@", left, _):
                return part is left
            case Negative() | Binary("**"):
                if not alone:
                    return False
            case FunctionCall(name):
                if not alone or name not in elementwise():
                    return False
            case _:
                return False
    return False


def _beside(form: Binary, part: Tree) -> Tree:
    """The other operand; which of the two is meant, where they are equal, is told by identity."""
    return form.right if part is form.left else form.left


def _is_identity(tree: Tree) -> bool:
    return isinstance(tree, FunctionCall) and tree.function == "eye"


def _is_among_entries(
    place: Place, arrays: Collection[str], name: str, parameters: Collection[str]
) -> bool:
    """Whether a name stands among the entries of arrays that are reduced, and in no matrix product
    of its own."""
    added = intercept = False
    for form, part in place:
        match form:
            case Binary("+" | "-"):
                other = _beside(form, part)
                if _has_product(other):
                    intercept = name in parameters and _is_of_data(other, parameters)
                    if not intercept:
                        return False
                added = True
            case Binary("*"):
                if _has_product(_beside(form, part)):
                    return False
            case Binary("/", left, right):
                if part is left and _has_product(right):
                    return False
            case Binary("@", left, right):
                return not added or intercept or _is_square(left, right)
            case Transpose():
                continue
            case FunctionCall("norm2") if added and not intercept:
                return False
            case FunctionCall(function) if function in known() - elementwise():
                return any(
                    isinstance(other, Symbol) and other.name in arrays for other in walk(form)
                )
            case _:
                continue
    return True


def _has_product(tree: Tree) -> bool:
    return any(isinstance(part, Binary) and part.operator == "@" for part in walk(tree))


def _is_square(left: Tree, right: Tree) -> bool:
    """Whether a product is r.T @ r, a sum of squares."""
    return left == Transpose(right)


def _is_of_data(tree: Tree, parameters: Collection[str]) -> bool:
    """Whether a sum holds a product of what is given with parameters."""
    match tree:
        case Negative(operand):
            return _is_of_data(operand, parameters)
        case Binary("+" | "-", left, right):
            return _is_of_data(left, parameters) or _is_of_data(right, parameters)
        case Binary("@", left, right):
            return not {*symbols(left)} & {*parameters} and bool({*symbols(right)} & {*parameters})
    return False


def _is_a_point(place: Place) -> bool:
    """Whether a name stands in a norm as in norm2(x - c)."""
    for form, part in place:
        match form:
            case Binary("+" | "-"):
                if _has_product(_beside(form, part)):
                    return False
            case Negative():
                continue
            case FunctionCall("norm2"):
                return True
            case _:
                return False
    return False


def _weighs_a_product(place: Place) -> bool:
    """Whether a name is a factor of what holds a matrix product."""
    for form, part in place:
        match form:
            case Binary("*"):
                if _has_product(_beside(form, part)):
                    return True
            case Negative() | Binary("**" | "/"):
                continue
            case _:
                return False
    return False
