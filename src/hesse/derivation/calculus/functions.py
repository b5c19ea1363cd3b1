"""Functions of each entry in formulas: the derivatives that their records write out, and those of
unknown ones."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, multiply, scale
from hesse.derivation.calculus.expression import (
    Apply,
    Expression,
    Factor,
    Power,
    constant,
    grouped,
    kept,
    of,
)
from hesse.operations.registry import FUNCTIONS


def closed_form(
    function: str, order: int, argument: Factor, value: Factor | None = None
) -> Expression | None:
    """The derivative of a known function as an expression in its argument and its value; None for
    an unknown function or another order.

    Args:
        function: its name.
        order: 1 or 2; for any other there is none.
        argument: what stands for z.
        value: what stands for a; the function applied to the argument where it has no name of its
            own.
    """
    if order == 0 or function not in FUNCTIONS:
        return None
    # Records write f' and f'' in z, the argument, and a, the value: a (1 − a) for a sigmoid.
    derivatives = FUNCTIONS[function].derivatives
    if order > len(derivatives):
        return None
    text = derivatives[order - 1]
    return _build(
        _parsed(text), {"z": of(argument), "a": of(value or Apply(function, 0, argument))}
    )


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _build(node: ast.expr, names: dict[str, Expression]) -> Expression:
    """An expression from the small language in which records write derivatives."""
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
                    return multiply(kept(a), kept(b))
                case ast.Div() if b.number:
                    return scale(a, 1 / b.number)
                case ast.Div():
                    return multiply(kept(a), of(Power(grouped(b), constant(-1))))
                case ast.Pow():
                    return of(Power(grouped(a), b))
    raise AssertionError(f"not in the language of derivatives: {ast.dump(node)}")


def nth_derivative(f: Callable[[Tensor], Tensor], order: int, z: Tensor) -> Tensor:
    """f^(order) at each entry, by automatic differentiation; itself differentiable."""
    if order == 0:
        return f(z)
    with torch.enable_grad():
        # Where a derivative of this one is wanted, the graph must lead back to z itself.
        point = z if z.requires_grad else z.detach().requires_grad_()
        value = f(point)
        for _ in range(order):
            # A constant has no graph: all its derivatives are zero.
            if not value.requires_grad:
                return torch.zeros_like(z)
            (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True, allow_unused=True)
            value = torch.zeros_like(z) if slope is None else slope
    return value if z.requires_grad else value.detach()


def sample_function(seed: int) -> Callable[[Tensor], Tensor]:
    """A smooth bounded function, neither odd nor even, to stand for an unknown one in a check."""
    generator = torch.Generator().manual_seed(seed)
    # Three sines with rates, shifts and weights that no symmetry relates: none of f, f' and f''
    # can be mistaken for another.
    weights, rates, shifts = (
        torch.rand(3, generator=generator, dtype=torch.float64) + 0.5 for _ in range(3)
    )
    return _Sines(weights, rates, shifts)


# A class, for a function within a function could not be pickled.
@dataclass(frozen=True, eq=False)
class _Sines:
    weights: Tensor
    rates: Tensor
    shifts: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        waves = torch.sin(z.unsqueeze(-1) * self.rates + self.shifts)
        return (self.weights / 2 * waves).sum(-1)
