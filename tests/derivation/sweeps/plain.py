"""Costs as plain functions of tensors, and what four sweeps should find in them, by PyTorch
alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]
# Gives a value a name, and gives it back.
Mark = Callable[[str, Tensor], Tensor]


def two_layers(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    z2 = mark("z2", p["W1"] @ d["x"])
    z3 = mark("z3", p["W2"] @ mark("a2", torch.sigmoid(z2)))
    return 0.5 * (d["y"] - mark("ŷ", torch.sigmoid(z3))).square().sum()


def softmax_regression(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    return -(d["y"] * torch.log_softmax(mark("z", p["W"] @ d["x"]), 0)).sum()


def rayleigh(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    x = p["x"]
    return mark("λ", mark("α", x @ d["A"] @ x) / mark("β", x @ x))


def gaussian(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    r = d["x"] - p["mu"]
    inverse, log = mark("inv(S)", torch.linalg.inv(p["S"])), mark("logdet(S)", torch.logdet(p["S"]))
    return 0.5 * log + 0.5 * r @ inverse @ r


def attention(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    weights = mark("p", torch.softmax(mark("z", d["K"] @ p["q"]), 0))
    return 0.5 * (d["y"] - d["V"].T @ weights).square().sum()


def dense(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    a2 = mark("a2", torch.tanh(mark("z2", p["W1"] @ d["x"] + p["b1"])))
    z3 = mark("z3", p["W2"] @ a2 + p["b2"])
    return 0.5 * (d["y"] - mark("ŷ", torch.tanh(z3))).square().sum()


def classes(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    a2 = mark("a2", F.softplus(mark("z2", p["W1"] @ d["x"] + p["b1"])))
    z3 = mark("z3", p["W2"] @ a2 + p["b2"])
    return mark("logsumexp(z3)", torch.logsumexp(z3, 0)) - d["y"] @ z3


def residual(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    h = d["x"]
    for layer in ("W", "W,2"):
        a = mark(f"a({layer})", torch.tanh(mark(f"z({layer})", F.linear(h, p["W"], p["b"]))))
        h = mark("u1" if layer == "W" else "u2", h + a)
    return mark("z(V)", F.linear(h, p["V"]))


def tied(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    a = mark("a(W)", torch.sin(mark("z(W)", F.linear(d["x"], p["W"]))))
    return F.linear(a, p["W"].T)


def normed(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    z = mark("z(W)", F.linear(d["x"], p["W"]))
    z = mark("z(g)", F.layer_norm(z, z.shape[-1:], p["g"], p["s"]))
    return mark("z(V)", F.linear(mark("a(g)", F.gelu(z)), p["V"]))


def pooled(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    z = mark("z(W)", F.conv1d(d["x"].unsqueeze(1), p["W"], p["b"]))
    a = mark("max_pool1d(z(W))", F.max_pool1d(z, 2))
    return mark("z(V)", F.linear(a.flatten(1), p["V"]))


def gated(p: Tensors, d: Tensors, mark: Mark) -> Tensor:
    gate = mark("a(W)", torch.sigmoid(mark("z(W)", F.linear(d["x"], p["W"]))))
    value = mark("a(U)", torch.tanh(mark("z(U)", F.linear(d["x"], p["U"]))))
    return mark("z(V)", F.linear(mark("u1", gate * value), p["V"]))


@dataclass(frozen=True)
class Found:
    """What four sweeps find: of each name that is marked, and of each parameter, in each sweep."""

    cost: Tensor
    values: Tensors
    signals: Tensors
    tangents: Tensors
    moved_signals: Tensors


def found(cost: Callable[[Tensors, Mark], Tensor], at: Mapping[str, Tensor], v: Tensors) -> Found:
    """By PyTorch's automatic differentiation of the whole function: δ is the gradient in a zero
    that is added to a value; what moves along v comes by double backward."""
    p = {name: value.clone().requires_grad_() for name, value in at.items()}
    values: Tensors = {}
    zeros: Tensors = {}

    def mark(name: str, value: Tensor) -> Tensor:
        zeros[name] = torch.zeros_like(value, requires_grad=True)
        values[name] = value + zeros[name]
        return values[name]

    J = cost(p, mark)
    by = {**zeros, **p}
    slopes = torch.autograd.grad(J, [*by.values()], create_graph=True, allow_unused=True)
    signals = dict(zip(by, slopes, strict=True))
    assert None not in signals.values()
    return Found(J, values, signals, _along(values, p, v), _along(signals, p, v))


def _along(outputs: Mapping[str, Any], p: Tensors, v: Tensors) -> Tensors:
    """How outputs move where the parameters move along v."""
    # wᵀ(∂out/∂p) is linear in w, and its derivative in w along v is (∂out/∂p) v.
    moving = {name: value for name, value in outputs.items() if value.requires_grad}
    w = [torch.zeros_like(value, requires_grad=True) for value in moving.values()]
    rows = torch.autograd.grad([*moving.values()], [*p.values()], w, True, True, allow_unused=True)
    moved = [(row * v[name]).sum() for name, row in zip(p, rows, strict=True) if row is not None]
    total = torch.stack(moved).sum()
    ways = torch.autograd.grad(total, w, allow_unused=True)
    given = {
        name: torch.zeros_like(value) if way is None else way
        for (name, value), way in zip(moving.items(), ways, strict=True)
    }
    return {name: given.get(name, torch.zeros_like(value)) for name, value in outputs.items()}
