"""Costs as text for the tests of code that is printed and run, and their Hessians by automatic
differentiation."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy
import torch
from torch import Tensor

import hesse
from hesse.derivation.calculus.program import Program
from hesse.derivation.derivation import Derivation

# Where functions are defined that are not everywhere.
DOMAIN = {
    "log": (0, math.inf),
    "sqrt": (0, math.inf),
    "log1p": (-1, math.inf),
    "logit": (0, 1),
    "atanh": (-1, 1),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "acosh": (1, math.inf),
    **dict.fromkeys(("lgamma", "digamma", "trigamma", "tetragamma", "pentagamma"), (0, math.inf)),
}
FUNCTIONS: dict[str, Any] = {
    **{
        name: getattr(torch, name)
        for name in ("exp", "log", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "erf")
    },
    **{name: getattr(torch.nn.functional, name) for name in ("gelu", "silu")},
    **{name: getattr(torch, name) for name in ("sum", "mean", "trace", "det", "logdet")},
    "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    "softmax": lambda z: torch.softmax(z, -1),
    "log_softmax": lambda z: torch.log_softmax(z, -1),
    "logsumexp": lambda z: torch.logsumexp(z, -1),
    "inv": torch.linalg.inv,
    "norm2": torch.linalg.norm,
    "f": lambda z: torch.sin(2 * z + 1) + z / 3,
}
# f, f', f'' of the unknown function above.
F_OF: tuple[Callable[[Tensor], Tensor], ...] = (
    FUNCTIONS["f"],
    lambda z: 2 * torch.cos(2 * z + 1) + 1 / 3,
    lambda z: -4 * torch.sin(2 * z + 1),
)


@dataclass(frozen=True)
class CostText:
    """A cost as text, its parameters, and shapes where they must be told."""

    text: str
    wrt: str
    shapes: str | None = None

    @property
    def derivation(self) -> Derivation:
        """Not certified here: these tests have references of their own."""
        return _derived(self)


@cache
def _derived(cost: CostText) -> Derivation:
    return hesse.derive(cost.text, cost.wrt.split(","), shapes=cost.shapes, certify=False)


COSTS = [
    CostText("x.T @ A @ x", "x"),
    CostText("1/2*norm2(y - X@w)**2", "w"),
    CostText("sum(softplus(X@w) - y*(X@w))", "w", "X[n,d] w[d] y[n]"),
    CostText("logsumexp(z) - sum(y*z)", "z"),
    CostText("sum((T - U@V.T)**2)", "U,V"),
    CostText("sum((W*(T - U@V.T))**2)", "U,V", "W[m,n] T[m,n] U[m,k] V[n,k]"),
    CostText("logdet(X)", "X"),
    CostText("det(X)", "X"),
    CostText("trace(inv(X)@A)", "X"),
    CostText("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1,W2"),
    CostText("1/2*sum((y - W2 @ W1 @ x)**2)", "W1,W2"),
    CostText(
        "1/2*sum((y - tanh(W2 @ sigmoid(W1 @ x + b1) + b2))**2)",
        "W1,b1,W2,b2",
        "W1[h,d] W2[m,h] x[d] y[m] b1[h] b2[m]",
    ),
    CostText("-sum(y*log_softmax(W2 @ relu(W1 @ x)))", "W1,W2", "W1[h,d] W2[m,h] x[d] y[m]"),
    CostText("mean((X@w - y)**2)", "w", "X[n,d] w[d] y[n]"),
    CostText("norm2(w)", "w", "w[d]"),
    CostText("exp(sum(w*c))", "w,c", "w[d] c[d]"),
    CostText("sum(w**3)/3", "w", "w[d]"),
    CostText("sum(gelu(w)) + sum(silu(w)) + sum(erf(w)) + sum(abs(w))", "w", "w[d]"),
    CostText("a**b", "a,b", "a[] b[]"),
    CostText("sum(x)**2", "x", "x[d]"),
    CostText("sum(x)", "x", "x[d]"),
    CostText("a*sum(x)", "a,x", "a[] x[d]"),
    CostText("sum(sqrt(x*x + 1))", "x", "x[d]"),
    CostText("sum(x**a)", "x,a", "x[d] a[]"),
    CostText("sum(log(softmax(X@W)*Y + 1))", "W", "X[n,d] W[d,k] Y[n,k]"),
    CostText("trace(A@X@B@X.T)", "X", "A[n,n] B[m,m] X[n,m]"),
    CostText("mean(exp(x))/mean(x**2)", "x", "x[d]"),
    CostText("sum((A@x)/(B@x))", "x", "A[n,d] B[n,d] x[d]"),
    CostText("sum(cos(X)*sin(X))", "X", "X[n,m]"),
    CostText("sum(exp(X)@w)**2", "X,w", "X[n,m] w[m]"),
    CostText("1/2*sum((y - X@w)**2) + l*sum(w*w)", "w,l", "X[4,3] w[3] y[4] l[]"),
]


def arrays_for(program: Program, seed: int = 0) -> dict[str, Tensor]:
    """Random positive arrays of small sizes, all different; square matrices far from singular."""
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, int] = {}
    arrays = {}
    for name, leaf in program.leaves.items():
        if leaf.is_given:
            shape = [
                size if isinstance(size, int) else sizes.setdefault(size, 2 + len(sizes))
                for size in leaf.sizes
            ]
            array = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.3
            arrays[name] = (
                array + 2 * torch.eye(shape[0], dtype=torch.float64)
                if len(shape) == 2 and shape[0] == shape[1]
                else array
            )
    return arrays


def as_numpy(arrays: Mapping[str, Tensor]) -> dict[str, numpy.ndarray]:
    """The same for NumPy."""
    return {name: array.numpy() for name, array in arrays.items()}


def for_numpy(
    functions: tuple[Callable[[Tensor], Tensor], ...],
) -> tuple[Callable[[numpy.ndarray], numpy.ndarray], ...]:
    """Functions of tensors as functions of arrays."""
    return tuple(lambda z, f=f: f(torch.as_tensor(z)).numpy() for f in functions)


def reference(cost: CostText, rows: str, columns: str, arrays: Mapping[str, Tensor]) -> Tensor:
    """A block by double backward of the text, read as Python."""

    def value(first: Tensor, second: Tensor) -> Tensor:
        # On a diagonal block both move the same parameter.
        moved = (
            {rows: first, columns: second}
            if rows != columns
            else {rows: first + second - second.detach()}
        )
        given = {**FUNCTIONS, **arrays, **moved}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # x.T of a vector
            return eval(cost.text, {"__builtins__": {}}, given)

    first, second = arrays[rows].clone().requires_grad_(), arrays[columns].clone().requires_grad_()
    (slope,) = torch.autograd.grad(
        value(first, second), first, create_graph=True, allow_unused=True
    )
    shape = (*first.shape, *second.shape)
    if slope is None or not slope.requires_grad:
        return torch.zeros(shape, dtype=torch.float64)
    parts = [
        torch.autograd.grad(entry, second, retain_graph=True, allow_unused=True)[0]
        for entry in slope.reshape(-1)
    ]
    return torch.stack(
        [torch.zeros_like(second) if part is None else part for part in parts]
    ).reshape(shape)
