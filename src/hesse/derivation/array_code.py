"""How NumPy and torch write functions of arrays: one table of code that is printed, and run without being evaluated as text.

Each row is one Python expression in ``z``. `spelled` puts an argument in its place, `callable_of` makes a function of it by
walking its syntax tree, so that what is printed and what is run cannot differ. Derivatives of known functions are expressions
themselves (`hesse.derivation.functions`) and need no rows.
"""

import ast
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy
import scipy.special
import torch

Backend = Literal["numpy", "torch"]

# Stable at both ends: log(1 + exp(z)) is logaddexp(0, z), and softmax and sigmoid are exponentials of such differences.
CODE: dict[Backend, dict[str, str]] = {
    "numpy": {
        "exp": "numpy.exp(z)",
        "log": "numpy.log(z)",
        "sqrt": "numpy.sqrt(z)",
        "sin": "numpy.sin(z)",
        "cos": "numpy.cos(z)",
        "abs": "numpy.abs(z)",
        "sign": "numpy.sign(z)",
        "step": "numpy.heaviside(z, 0)",
        "relu": "numpy.maximum(z, 0)",
        "tanh": "numpy.tanh(z)",
        "sigmoid": "numpy.exp(-numpy.logaddexp(0, -z))",
        "softplus": "numpy.logaddexp(0, z)",
        "silu": "z * numpy.exp(-numpy.logaddexp(0, -z))",
        "gelu": "z * scipy.special.ndtr(z)",
        "normcdf": "scipy.special.ndtr(z)",
        "normpdf": "numpy.exp(-z**2 / 2) / math.sqrt(2 * math.pi)",
        "erf": "scipy.special.erf(z)",
        "softmax": "numpy.exp(z - numpy.logaddexp.reduce(z, axis=-1, keepdims=True))",
        "logsumexp": "numpy.logaddexp.reduce(z, axis=-1)",
        "log_softmax": "z - numpy.logaddexp.reduce(z, axis=-1, keepdims=True)",
        "inv": "numpy.linalg.inv(z)",
        "det": "numpy.linalg.det(z)",
        "logdet": "numpy.linalg.slogdet(z)[1]",
    },
    "torch": {
        "exp": "torch.exp(z)",
        "log": "torch.log(z)",
        "sqrt": "torch.sqrt(z)",
        "sin": "torch.sin(z)",
        "cos": "torch.cos(z)",
        "abs": "torch.abs(z)",
        "sign": "torch.sign(z)",
        "step": "torch.heaviside(z, torch.zeros_like(z))",
        "relu": "torch.relu(z)",
        "tanh": "torch.tanh(z)",
        "sigmoid": "torch.sigmoid(z)",
        "softplus": "torch.logaddexp(z, torch.zeros_like(z))",
        "silu": "z * torch.sigmoid(z)",
        "gelu": "z * torch.special.ndtr(z)",
        "normcdf": "torch.special.ndtr(z)",
        "normpdf": "torch.exp(-z**2 / 2) / math.sqrt(2 * math.pi)",
        "erf": "torch.special.erf(z)",
        "softmax": "torch.softmax(z, -1)",
        "logsumexp": "torch.logsumexp(z, -1)",
        "log_softmax": "torch.log_softmax(z, -1)",
        "inv": "torch.linalg.inv(z)",
        "det": "torch.linalg.det(z)",
        "logdet": "torch.linalg.slogdet(z)[1]",
    },
}
_MODULES = {"numpy": numpy, "torch": torch, "math": math, "scipy": scipy}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


@cache
def _parsed(backend: Backend, function: str) -> ast.expr:
    return ast.parse(CODE[backend][function], mode="eval").body


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

    return ast.unparse(Put().visit(ast.parse(CODE[backend][function], mode="eval")))


@cache
def callable_of(backend: Backend, function: str) -> Callable[[Any], Any]:
    """The same as a function."""
    return _function(_parsed(backend, function))


def modules(backend: Backend, function: str) -> set[str]:
    """What the code of a function imports."""
    names = {node.id for node in ast.walk(_parsed(backend, function)) if isinstance(node, ast.Name) and node.id in _MODULES}
    return {"scipy.special" if name == "scipy" else name for name in names}


def _function(node: ast.expr) -> Callable[[Any], Any]:
    """One node of the table's small language as a function of z."""
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
            named = {keyword.arg: _function(keyword.value)(None) for keyword in keywords if keyword.arg}
            return lambda z: f(*(place(z) for place in places), **named)
    raise AssertionError(f"not in the language of the table: {ast.dump(node)}")


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _MODULES[name]
        case ast.Attribute(value=value, attr=attribute):
            return getattr(_constant(value), attribute)
    raise AssertionError(f"not a constant of the table: {ast.dump(node)}")
