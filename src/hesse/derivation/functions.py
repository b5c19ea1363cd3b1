"""Elementwise functions: their values, and their first and second derivatives as a person would write them.

A derivative is text in ``z``, the argument, and ``a``, the function's own value: sigmoid's is ``a*(1 - a)``. A function that
has no row here is unknown: f, f', f'' stay symbols.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from hesse.derivation.algebra import add, multiply, scale
from hesse.derivation.expression import Apply, Expression, Factor, Power, constant, grouped, of


@dataclass(frozen=True)
class Function:
    """One elementwise function.

    Attributes:
        value: on a tensor; automatic differentiation gives every derivative that a check needs.
        derivatives: of order one and two, as text in ``z`` and ``a``.
        at_once: whether a derivation writes the derivative out at once (log' is 1/z) rather than as f' first.
        kink: where the derivatives hold, for a function that has a kink.
    """

    value: Callable[[Tensor], Tensor]
    derivatives: tuple[str, str]
    at_once: bool = False
    kink: str = ""


_PHI = 0.3989422804014327  # 1/√(2π)

FUNCTIONS: dict[str, Function] = {
    "exp": Function(torch.exp, ("a", "a"), at_once=True),
    "log": Function(torch.log, ("1/z", "-1/z**2"), at_once=True),
    "sin": Function(torch.sin, ("cos(z)", "-a"), at_once=True),
    "cos": Function(torch.cos, ("-sin(z)", "-a"), at_once=True),
    # Not torch.abs: differentiating it twice makes torch load its compiler, for seconds.
    "abs": Function(lambda z: torch.where(z < 0, -z, z), ("sign(z)", "0"), at_once=True, kink="where the argument is not zero"),
    "sign": Function(torch.sign, ("0", "0"), at_once=True, kink="where the argument is not zero"),
    "step": Function(lambda z: (z > 0).to(z.dtype), ("0", "0"), at_once=True, kink="where the argument is not zero"),
    "relu": Function(torch.relu, ("step(z)", "0"), kink="where the argument is not zero"),
    "tanh": Function(torch.tanh, ("1 - a**2", "-2*a*(1 - a**2)")),
    "sigmoid": Function(torch.sigmoid, ("a*(1 - a)", "a*(1 - a)*(1 - 2*a)")),
    "softplus": Function(lambda z: F.softplus(z, threshold=1e9), ("sigmoid(z)", "sigmoid(z)*(1 - sigmoid(z))")),
    "silu": Function(
        lambda z: z * torch.sigmoid(z),
        ("sigmoid(z)*(1 + z*(1 - sigmoid(z)))", "sigmoid(z)*(1 - sigmoid(z))*(2 + z*(1 - 2*sigmoid(z)))"),
    ),
    "gelu": Function(
        lambda z: z * torch.special.ndtr(z),
        ("normcdf(z) + z*normpdf(z)", "(2 - z**2)*normpdf(z)"),
    ),
    "normcdf": Function(torch.special.ndtr, ("normpdf(z)", "-z*normpdf(z)"), at_once=True),
    "normpdf": Function(lambda z: _PHI * torch.exp(-z * z / 2), ("-z*a", "(z**2 - 1)*a"), at_once=True),
    "erf": Function(torch.erf, ("2*2**(1/2)*normpdf(2**(1/2)*z)", "-4*2**(1/2)*z*normpdf(2**(1/2)*z)"), at_once=True),
}


def closed_form(function: str, order: int, argument: Factor, value: Factor | None = None) -> Expression | None:
    """The derivative of a known function as an expression in its argument and its value; None for an unknown one.

    Args:
        function: its name.
        order: 1 or 2; 0 gives the value.
        argument: what stands for z.
        value: what stands for a; the function applied to the argument where it has no name of its own.
    """
    if order == 0 or order > 2 or function not in FUNCTIONS:
        return None
    text = FUNCTIONS[function].derivatives[order - 1]
    return _build(_parsed(text), {"z": of(argument), "a": of(value or Apply(function, 0, argument))})


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _build(node: ast.expr, names: dict[str, Expression]) -> Expression:
    """An expression from the small language of the table above."""
    match node:
        case ast.Constant(value=int(number)):
            return constant(number)
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return scale(_build(operand, names), -1)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return of(Apply(name, 0, grouped(_build(argument, names))))
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _build(left, names), _build(right, names)
            match op:
                case ast.Add():
                    return add(a, b)
                case ast.Sub():
                    return add(a, scale(b, -1))
                case ast.Mult():
                    return multiply(_kept(a), _kept(b))
                case ast.Div() if b.number:
                    return scale(a, 1 / b.number)
                case ast.Div():
                    return multiply(_kept(a), of(Power(grouped(b), constant(-1))))
                case ast.Pow():
                    return of(Power(grouped(a), b))
    raise AssertionError(f"not in the language of derivatives: {ast.dump(node)}")


def _kept(expression: Expression) -> Expression:
    """A sum stays in its parentheses when it is multiplied."""
    return expression if len(expression.terms) < 2 else of(grouped(expression))


def nth_derivative(f: Callable[[Tensor], Tensor], order: int, z: Tensor) -> Tensor:
    """f^(order) at each entry, by automatic differentiation; itself differentiable."""
    if order == 0:
        return f(z)
    with torch.enable_grad():
        point = z if z.requires_grad else z.detach().requires_grad_()
        value = f(point)
        for _ in range(order):
            if not value.requires_grad:
                return torch.zeros_like(z)
            (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True, allow_unused=True)
            value = torch.zeros_like(z) if slope is None else slope
    return value if z.requires_grad else value.detach()


def sample_function(seed: int) -> Callable[[Tensor], Tensor]:
    """A smooth bounded function, neither odd nor even, to stand for an unknown one in a check."""
    generator = torch.Generator().manual_seed(seed)
    weights, rates, shifts = (torch.rand(3, generator=generator, dtype=torch.float64) + 0.5 for _ in range(3))
    return lambda z: (weights / 2 * torch.sin(z.unsqueeze(-1) * rates + shifts)).sum(-1)
