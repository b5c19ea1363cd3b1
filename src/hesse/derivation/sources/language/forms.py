"""Calls and subscripts that are more than a function of one array: words made of others, einsum,
rows and new axes."""

import ast
import inspect
from fractions import Fraction
from types import EllipsisType
from typing import Any, Protocol, runtime_checkable

from hesse.derivation.calculus.structures import is_possible, unit_vector, windows
from hesse.derivation.sources.language.composed import COMPOSED, minus
from hesse.derivation.sources.language.tree import (
    Along,
    Binary,
    Einsum,
    FunctionCall,
    NewAxis,
    Symbol,
    Tree,
)
from hesse.errors import HesseValueError


@runtime_checkable
class Reader(Protocol):
    """What reads a text."""

    def tree(self, node: ast.expr, depth: int) -> Tree:
        """A part of it."""
        ...

    def axis(self, node: ast.expr) -> int:
        """A whole number in it."""
        ...

    def symbol(self, name: str, node: ast.expr) -> Symbol:
        """A name in it."""
        ...

    def error(self, message: str, node: ast.expr) -> HesseValueError:
        """What is said of a part."""
        ...

    def refused(self, form: ast.AST, node: ast.expr) -> HesseValueError:
        """What is said of a part that has no meaning."""
        ...


def composed(reader: Reader, name: str, node: ast.Call, depth: int) -> Tree:
    """A word that is made of others."""
    make = COMPOSED[name]
    parameters = inspect.signature(make).parameters
    # numpy.linalg calls the usual norm of a matrix so.
    fro = name == "norm"
    arguments = [
        each
        for each in node.args
        if not (fro and isinstance(each, ast.Constant) and each.value == "fro")
    ]
    takes = f"{name}() takes {', '.join(parameters)}"
    placed = [key for key, it in parameters.items() if it.kind is not it.KEYWORD_ONLY]
    if len(arguments) > len(placed):
        hint = "; the 1-norm is sum(abs(x))" if name == "norm" else ""
        raise reader.error(f"{takes}; got {len(arguments)} arguments{hint}", node)
    given = dict(zip(placed, arguments, strict=False))
    for pair in node.keywords:
        if pair.arg is None or pair.arg not in parameters or pair.arg in given:
            raise reader.error(f"{takes}; not {pair.arg or '**'}", pair.value)
        given[pair.arg] = pair.value
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and key not in given
    ]
    if missing:
        raise reader.error(f"{takes}; {missing[0]} is missing", node)
    return make(**{key: _argument(reader, key, value, depth) for key, value in given.items()})


def _argument(reader: Reader, key: str, node: ast.expr, depth: int) -> Any:
    match key:
        case "axis":
            return reader.axis(node)
        case "condition":
            return _condition(reader, node, depth)
    return reader.tree(node, depth + 1)


def _condition(reader: Reader, node: ast.expr, depth: int) -> Tree:
    """1 where u > v, 0 elsewhere."""
    match node:
        case ast.Compare(left=left, ops=[ast.Gt() | ast.GtE()], comparators=[right]):
            larger, smaller = left, right
        case ast.Compare(left=left, ops=[ast.Lt() | ast.LtE()], comparators=[right]):
            larger, smaller = right, left
        case _:
            raise reader.error("where() takes a condition such as x > 0", node)
    above, below = (reader.tree(side, depth + 1) for side in (larger, smaller))
    return FunctionCall("step", minus(above, below))


def einsum(reader: Reader, node: ast.Call, depth: int) -> Tree:
    """``einsum("ij,jk->ik", A, B)``"""
    match node.args:
        case [ast.Constant(value=str(text)), *arrays] if arrays and not node.keywords:
            pass
        case _:
            raise reader.error('einsum is written einsum("ij,jk->ik", A, B)', node)
    left, arrow, output = text.replace(" ", "").partition("->")
    inputs = tuple(left.split(","))
    letters = "".join(inputs)
    if not arrow:
        output = "".join(sorted(i for i in set(letters) if letters.count(i) == 1))
    each = len(inputs) == len(arrays) and (not letters or letters.isalpha())
    if not (each and len(set(output)) == len(output) and set(output) <= set(letters)):
        raise reader.error(
            f"einsum cannot read {text[:60]!r}: letters for each of {len(arrays)} arrays, such as"
            ' "ij,jk->ik"',
            node.args[0],
        )
    return Einsum(inputs, output, tuple(reader.tree(array, depth + 1) for array in arrays))


def part(reader: Reader, node: ast.Subscript, array: Tree, items: ast.expr) -> Tree:
    """``b[:, None]``, ``x[1:]`` and ``x[0]``; of an unknown place ``U[i]``, ``U[:, j]``, ``U[i,
    j]``, products with unit vectors e_i."""
    each = items.elts if isinstance(items, ast.Tuple) else [items]
    if any(isinstance(item, ast.Name) for item in each):
        return _at_letters(reader, node, array, each)
    match each:
        case [ast.Constant(value=value), *rest] if isinstance(value, EllipsisType):
            each, last = rest[::-1], True
        case _:
            last = False
    # Behind an ellipsis axes are counted from the end: the last is -1.
    place, step = (-1, -1) if last else (0, 1)
    for item in each:
        match item:
            case ast.Slice(lower=None, upper=None, step=None):
                place += step
            case ast.Constant(value=None):
                array = NewAxis(array, place)
                place += step
            case ast.Slice(lower=lower, upper=upper, step=None):
                start, stop = (None if end is None else reader.axis(end) for end in (lower, upper))
                if not is_possible((start, stop)):
                    raise reader.error("a slice of no entries, or of how many is not known", node)
                array = Along(array, windows([((start, stop), Fraction(1))]), place)
                place += step
            case ast.Constant() | ast.UnaryOp():
                array = Along(array, unit_vector(reader.axis(item)), place)
            case _:
                raise reader.refused(node, node)
    return array


def _at_letters(reader: Reader, node: ast.Subscript, array: Tree, each: list[ast.expr]) -> Tree:
    if len(each) > 2:
        raise reader.refused(node, node)
    # The last first: U[i, j] is e_i @ (U @ e_j).
    for place, item in reversed([*enumerate(each)]):
        match item:
            case ast.Slice(lower=None, upper=None, step=None):
                continue
            case ast.Name(id=letter):
                unit = reader.symbol(f"e_{letter}", node)
                array = Binary("@", array, unit) if place else Binary("@", unit, array)
            case _:
                raise reader.refused(node, node)
    return array
