"""Trees of Python's own syntax, from templates: lines of code with places that trees are put into.

A formula's own names never stand in a template. They come as identifiers of `Names`, or as
constants.
"""

import ast
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

from hesse.errors import HesseValueError


def tree(template: str, **places: Any) -> Any:
    """A template with its places filled: an expression, or a statement.

    Args:
        template: one line of Python.
        **places: for a name in the template, a tree, or the identifier to be read or written there;
            for a starred one the trees of several arguments.

    Examples:
        >>> ast.unparse(tree("f(0, -z, *rest)", z=tree("u + v"), rest=[literal(-2), literal("a")]))
        "f(0, -(u + v), -2, 'a')"
    """
    return _filled(_parsed(template), places)


@cache
def _parsed(template: str) -> ast.stmt | ast.expr:
    (statement,) = ast.parse(template).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _filled(node: Any, places: dict[str, Any]) -> Any:
    match node:
        case ast.Name(name, context) if name in places:
            place = places[name]
            return ast.Name(place, context, lineno=1) if isinstance(place, str) else place
        case ast.AST():
            filled = {name: _filled(child, places) for name, child in ast.iter_fields(node)}
            return ast.copy_location(type(node)(**filled), node)
        case [ast.Starred(value=ast.Name(name)), *rest]:
            return [*places[name], *_filled(rest, places)]
        case [first, *rest]:
            return [_filled(first, places), *_filled(rest, places)]
    return node


def literal(value: Any) -> ast.expr:
    """A number, a text, or a nested tuple or list of them.

    Raises:
        HesseValueError: a number is beyond the range of float64.

    Examples:
        >>> [ast.unparse(literal(Fraction(number))) for number in ("-3", "1/2", "2/3")]
        ['-3', '0.5', '2 / 3']
        >>> ast.unparse(literal(Fraction(1, 10**300)))
        '1e-300'
    """
    match value:
        # Arrays of NumPy and of PyTorch take no whole numbers that are longer.
        case Fraction() if max(abs(value.numerator), value.denominator) >= 2**63:
            return literal(_in_float64(value))
        case Fraction(denominator=1):
            return literal(value.numerator)
        case Fraction() if Fraction(decimal := float(value)) == value and len(repr(decimal)) <= 8:
            return literal(decimal)
        case Fraction():
            return tree("a / b", a=literal(value.numerator), b=literal(value.denominator))
        case tuple() | list():
            kind = ast.Tuple if isinstance(value, tuple) else ast.List
            return kind([literal(item) for item in value], ast.Load())
        case int() | float() if value < 0:  # as Python reads it: a sign before a number
            return tree("-value", value=literal(-value))
    return ast.Constant(value)


def _in_float64(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        raise HesseValueError(
            "python: a number in the formula is beyond the range of float64, in which code computes"
        ) from None


def defined(name: str, parameters: Sequence[str], body: Sequence[ast.stmt]) -> ast.FunctionDef:
    """A function of its identifiers and statements."""
    definition = tree(f"def {name}({', '.join(parameters)}): ...")
    definition.body = list(body)
    return definition


def occurrences(template: str, place: str) -> int:
    """How often a place stands in a template."""
    names = [node.id for node in ast.walk(_parsed(template)) if isinstance(node, ast.Name)]
    return names.count(place)


def text_length(code: ast.AST) -> int:
    """How many characters a tree takes on one line."""
    return len(ast.unparse(code))
