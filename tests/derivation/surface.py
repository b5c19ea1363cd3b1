"""The second engine: a cost evaluated as it is written, by PyTorch alone. Nothing of hesse.derive
reads the text here."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hesse.derivation.calculus.functions import sample_function
from hesse.derivation.calculus.program import Program

WIDTHS = (3, 2, 4, 5, 2, 3)


def arrays(program: Program, seed: int = 0, positive: bool = False) -> dict[str, Tensor]:
    """Random float64 arrays for the leaves of a program: a small number for each size, no two alike
    if it can be; each is what it is declared to be."""
    generator = torch.Generator().manual_seed(seed)
    given = {name: leaf for name, leaf in program.leaves.items() if leaf.pattern is None}
    letters = dict.fromkeys(
        letter
        for leaf in given.values()
        for size in leaf.sizes
        for letter in re.findall(r"[^\W\d]\w*", str(size))
    )
    number = {letter: WIDTHS[k % len(WIDTHS)] for k, letter in enumerate(letters)}
    result = {}
    for name, leaf in given.items():
        # n-1 is a size too.
        shape = [eval(str(size), {}, number) for size in leaf.sizes]
        found = torch.randn(shape, generator=generator, dtype=torch.float64)
        if positive or leaf.sums_to is not None:
            found = found.abs() + 0.3
        if leaf.sums_to is not None:
            found = leaf.sums_to * found / found.sum(-1, keepdim=True)
        if leaf.structure is not None:
            found = leaf.structure.drawn(found)
        result[name] = found
    return result


def sizes(program: Program, values: Mapping[str, Tensor]) -> dict[str, int]:
    """The number for each letter of a size."""
    return {
        size: found
        for name, leaf in program.leaves.items()
        if name in values
        for size, found in zip(leaf.sizes, values[name].shape, strict=True)
        if isinstance(size, str)
    }


def functions(program: Program) -> dict[str, Callable[[Tensor], Tensor]]:
    """What stands for each unknown function."""
    return {name: sample_function(k) for k, name in enumerate(sorted(program.unknown))}


def _along(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axis=None: reduce(x) if axis is None else reduce(x, dim=axis)


def _last(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axis=-1: reduce(x, dim=axis)


def _lifted(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x: function(torch.as_tensor(x, dtype=torch.float64))


def _pair(u: Any, v: Any) -> tuple[Tensor, Tensor]:
    first, second = (torch.as_tensor(side, dtype=torch.float64) for side in (u, v))
    return first, second


def _huber(x: Tensor, delta: float) -> Tensor:
    return F.huber_loss(x, torch.zeros_like(x), reduction="none", delta=delta)


WORDS: dict[str, Callable[..., Tensor]] = {
    **{
        name: _lifted(getattr(torch, name))
        for name in ("exp", "log", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "erf")
    },
    **{
        name: _lifted(getattr(torch, name))
        for name in (
            *("tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh"),
            *("log1p", "expm1", "erfc", "lgamma", "digamma", "logit", "sign"),
        )
    },
    **{f"arc{name}": _lifted(getattr(torch, f"arc{name}")) for name in ("sin", "cos", "tan")},
    "normcdf": _lifted(torch.special.ndtr),
    "normpdf": _lifted(lambda x: torch.exp(torch.distributions.Normal(0, 1).log_prob(x))),
    "trigamma": _lifted(lambda x: torch.polygamma(1, x)),
    "step": _lifted(lambda x: (x > 0).double()),
    **dict.fromkeys(("max", "maximum"), lambda u, v: torch.maximum(*_pair(u, v))),
    **dict.fromkeys(("min", "minimum"), lambda u, v: torch.minimum(*_pair(u, v))),
    **dict.fromkeys(
        ("clip", "clamp"),
        lambda x, low, high: torch.as_tensor(x, dtype=torch.float64).clamp(low, high),
    ),
    "huber": lambda x, delta=1: _huber(torch.as_tensor(x, dtype=torch.float64), delta),
    "where": lambda condition, u, v: torch.where(torch.as_tensor(condition), *_pair(u, v)),
    "var": lambda x, axis=None: torch.var(x, dim=axis, correction=0),
    "std": lambda x, axis=None: torch.std(x, dim=axis, correction=0),
    "average": lambda x, weights: (weights * x).sum() / weights.sum(),
    "outer": torch.outer,
    "kron": torch.kron,
    "diff": torch.diff,
    "cumsum": lambda x, axis=0: torch.cumsum(x, axis),
    "prod": lambda x, axis=None: x.prod() if axis is None else x.prod(axis),
    "norm": lambda x, kind=None, axis=None: torch.linalg.vector_norm(x, dim=axis),
    "einsum": torch.einsum,
    "softplus": _lifted(F.softplus),
    "gelu": _lifted(F.gelu),
    "silu": _lifted(F.silu),
    "sum": _along(torch.sum),
    "mean": _along(torch.mean),
    "norm2": _along(torch.linalg.vector_norm),
    "softmax": _last(torch.softmax),
    "log_softmax": _last(torch.log_softmax),
    "logsumexp": _last(torch.logsumexp),
    "trace": torch.trace,
    "det": torch.linalg.det,
    "logdet": lambda x: torch.linalg.slogdet(x)[1],
    "inv": torch.linalg.inv,
    "diag": torch.diag,
    "eye": lambda n: torch.eye(n, dtype=torch.float64),
}


def evaluate(
    text: str,
    program: Program,
    values: Mapping[str, Tensor],
    given: tuple[str, ...] = (),
) -> Tensor:
    """The cost at some arrays; it can be differentiated in them."""
    fixed = {
        left.strip(): torch.tensor(float(right))
        for left, _, right in (fact.partition("==") for fact in given)
        if left.strip().isidentifier() and right.strip().isdecimal()
    }
    unknown = {name: _lifted(function) for name, function in functions(program).items()}
    names = {"pi": torch.pi, **WORDS, **unknown, **sizes(program, values), **fixed, **values}
    code = re.sub(r"\.T\b", ".t()", text)  # in PyTorch, .T is for matrices alone
    return torch.as_tensor(eval(code, {"__builtins__": {}}, names), dtype=torch.float64)
