"""The NumPy and torch code of functions of arrays, printed, and run without being evaluated as
text.

The code of a record (`hesse.operations`) is one Python expression in ``z``. `spelled` puts an
argument in its place, `callable_of` makes a function of it by walking its syntax tree, so that what
is printed and what is run cannot differ. Derivatives of known functions are expressions themselves
(`hesse.derivation.calculus.functions`) and need no code.
"""

import ast
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy
import scipy.special
import torch

from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

Backend = Literal["numpy", "torch"]
BACKENDS: tuple[Backend, ...] = ("numpy", "torch")

_MODULES = {"numpy": numpy, "torch": torch, "math": math, "scipy": scipy}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


# The language of formulas writes a square root as a power, whose code is better this.
_ROOT = {"numpy": "numpy.sqrt(z)", "torch": "torch.sqrt(z)"}


def code(backend: str, function: str) -> str:
    """The code of a function in ``z``; empty where it has none."""
    if function == "sqrt":
        return _ROOT[backend]
    known = FUNCTIONS.get(function) or ARRAY_FUNCTIONS.get(function)
    return "" if known is None else getattr(known, backend)


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def spelled(backend: Backend, function: str, argument: str) -> str:
    """The code of a function of an argument.

    Example:
        >>> spelled("numpy", "softplus", "u + v")
        'numpy.logaddexp(0, u + v)'
    """
    inner = ast.parse(argument, mode="eval").body

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return inner if node.id == "z" else node

    return ast.unparse(Put().visit(ast.parse(code(backend, function), mode="eval")))


def callable_of(backend: str, function: str) -> Callable[[Any], Any]:
    """The same as a function."""
    return _callable(code(backend, function))


@cache
def _callable(text: str) -> Callable[[Any], Any]:
    return _function(_parsed(text))


def modules(backend: Backend, function: str) -> set[str]:
    """What the code of a function imports."""
    names = {
        node.id
        for node in ast.walk(_parsed(code(backend, function)))
        if isinstance(node, ast.Name) and node.id in _MODULES
    }
    return {"scipy.special" if name == "scipy" else name for name in names}


def _function(node: ast.expr) -> Callable[[Any], Any]:
    """One node of the small language of code as a function of z."""
    match node:
        case ast.Call(func=called, args=[ast.Name(id="z")], keywords=[]):
            return _constant(called)  # the function itself: nothing in between
        case ast.Name(id="z"):
            return lambda z: z
        case ast.Constant() | ast.Attribute():
            value = _constant(node)
            return lambda z: value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            return lambda z: -number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _function(operand)
            return lambda z: -inner(z)
        case ast.BinOp(left=left, op=op, right=right):
            a, b, apply = _function(left), _function(right), _OPERATORS[type(op)]
            return lambda z: apply(a(z), b(z))
        case ast.Subscript(value=value, slice=ast.Constant(value=int(at))):
            inner = _function(value)
            return lambda z: inner(z)[at]
        case ast.Call(func=called, args=arguments, keywords=keywords):
            f, places = _constant(called), [_function(argument) for argument in arguments]
            named = {
                keyword.arg: _function(keyword.value)(None) for keyword in keywords if keyword.arg
            }
            return lambda z: f(*(place(z) for place in places), **named)
    raise AssertionError(f"not in the language of code: {ast.dump(node)}")


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _MODULES[name]
        case ast.Attribute(value=value, attr=attribute):
            return getattr(_constant(value), attribute)
    raise AssertionError(f"not a constant of the table: {ast.dump(node)}")
