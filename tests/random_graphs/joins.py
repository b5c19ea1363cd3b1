"""Pieces of several values: sums of up to five branches, products, concatenations, mixtures,
attention from one to another."""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_graphs.dense import adopted
from random_graphs.plain import Apply, Function
from random_graphs.weights import Pool, Shape

Joiner = Callable[[Pool, Sequence[Shape]], nn.Module | None]


def _sum(values: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values)


SEVERAL: list[tuple[str, Function]] = [
    ("sum", lambda *v: _sum(v)),
    ("sum, one negated", lambda *v: v[0] - _sum(v[1:])),
    ("sum from the right", lambda *v: functools.reduce(lambda a, b: b + a, v)),
    ("sum in a tree", lambda *v: _tree(v)),
    ("sum with factors", lambda *v: _sum([(k + 1) * 0.5 * each for k, each in enumerate(v)])),
    ("sum with alphas", lambda *v: functools.reduce(lambda a, b: torch.add(a, b, alpha=0.5), v)),
    ("sum in place", lambda *v: functools.reduce(lambda a, b: a.add_(b), v[1:], v[0].clone())),
    ("first twice in a sum", lambda *v: v[0] + _sum(v)),
    ("mean of a stack", lambda *v: torch.stack(v).mean(0)),
    ("sum of a stack", lambda *v: torch.stack(v, -1).sum(-1)),
    ("logsumexp of a stack", lambda *v: torch.stack(v, 1).logsumexp(1)),
    ("maximum of a stack", lambda *v: torch.stack(v, -1).amax(-1)),
    ("product", lambda *v: functools.reduce(torch.mul, v)),
    ("product of sums", lambda *v: (v[0] + v[1]) * (v[0] - v[-1])),
    ("sum of products", lambda *v: _sum([v[0], *map(torch.mul, v[:-1], v[1:])])),
    ("product with a sum", lambda *v: v[0] * (1 + _sum(v[1:]))),
]

PAIR: list[tuple[str, Function]] = [
    ("x * sigmoid(y)", lambda x, y: x * y.sigmoid()),
    ("x / (1 + y²)", lambda x, y: x / (1 + y.square())),
    ("maximum", torch.maximum),
    ("minimum", torch.minimum),
    ("where(x > y, x, y²)", lambda x, y: torch.where(x > y, x, y.square())),
    ("where(y > 0, x, y)", lambda x, y: torch.where(y > 0, x, y)),
    ("lerp(x, y, 0.3)", lambda x, y: torch.lerp(x, y, 0.3)),
    ("lerp(x, y, sigmoid x)", lambda x, y: torch.lerp(x, y, x.sigmoid())),
    ("addcmul(x, x, y)", lambda x, y: torch.addcmul(x, x, y, value=0.5)),
    ("addcdiv(x, y, 1 + x²)", lambda x, y: torch.addcdiv(x, y, 1 + x.square(), value=0.5)),
    ("hypot", lambda x, y: torch.hypot(x, 0.5 + y.square())),
    ("atan2", lambda x, y: torch.atan2(x, 0.5 + y.square())),
    ("logaddexp", torch.logaddexp),
    ("powers", lambda x, y: (x.square() + 0.3) ** y.tanh()),
    ("x² - x y", lambda x, y: x.square() - x * y),
    ("cross entropy to another", lambda x, y: -(x.softmax(-1) * y.log_softmax(-1))),
    ("cosine", lambda x, y: F.cosine_similarity(x, y, dim=-1).unsqueeze(-1)),
    ("highway", lambda x, y: y.sigmoid() * x.tanh() + (1 - y.sigmoid()) * x),
    ("outer", lambda x, y: torch.einsum("n...i,n...j->n...ij", x, y).flatten(-2)),
    ("inner", lambda x, y: torch.einsum("n...i,n...i->n...", x, y).unsqueeze(-1)),
    ("cat in place", lambda x, y: _written(x, y)),
    ("xlogy", lambda x, y: torch.xlogy(x, 1 + y.square())),
    ("detached target", lambda x, y: (x - y.detach()).square() / 2 + y),
]

TOKEN_PAIR: list[tuple[str, Function]] = [
    ("attention from x to y", lambda x, y: F.scaled_dot_product_attention(x, y, y)),
    (
        "causal attention, x values",
        lambda x, y: F.scaled_dot_product_attention(y, y, x, is_causal=True),
    ),
    ("softmax(x yᵀ) x", lambda x, y: (x @ y.mT).softmax(-1) @ x),
    ("softmax over queries", lambda x, y: (x @ y.mT).softmax(1).mT @ x),
    ("bmm", lambda x, y: torch.bmm(x, y.mT) / 2),
    ("xᵀ y", lambda x, y: x.mT @ y / 2),
    ("baddbmm", lambda x, y: torch.baddbmm(x @ x.mT, x, y.mT, alpha=0.5, beta=0.3)),
    ("einsum ntd,nte->nde", lambda x, y: torch.einsum("ntd,nte->nde", x, y) / 2),
    ("first of x on all of y", lambda x, y: x[:, :1] * y),
]


def _tree(values: Sequence[Tensor]) -> Tensor:
    """(a + b) + (c + d), as a balanced sum."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return _tree(values[:half]) + _tree(values[half:])


def _written(x: Tensor, y: Tensor) -> Tensor:
    made = torch.empty((*x.shape[:-1], 2 * x.shape[-1]), dtype=x.dtype)
    made[..., : x.shape[-1]] = x
    made[..., x.shape[-1] :] = y
    return made


def several(pool: Pool, shapes: Sequence[Shape]) -> nn.Module:
    """Two to five values of one shape; sums more often than the rest."""
    sums = 8 if pool.chance(0.5) else len(SEVERAL)
    text, function = pool.draw.choice(SEVERAL[:sums])
    return Apply(text, function)


def weighed(pool: Pool, shapes: Sequence[Shape]) -> nn.Module:
    """A sum with parameters as factors."""
    count = len(shapes)
    kind = pool.draw.choice(["scalars", "one vector", "softmax", "rows"])
    if kind == "scalars":
        return Apply("a x + b y ...", lambda *v: _sum([w * x for x, w in zip(v, v[count:],
        strict=False)]),
                     *(pool.weight(()) for _ in range(count)))  # fmt: skip
    if kind == "rows":
        weight = pool.weight((count, shapes[0][-1]))
        return Apply(
            "einsum of a stack",
            lambda *v: torch.einsum("kn...d,kd->n...d", torch.stack(v[:-1]), v[-1]),
            weight,
        )
    squash: Function = (lambda w: w.softmax(0)) if kind == "softmax" else (lambda w: w)
    weight = pool.weight((count,))
    return Apply(f"stack @ {kind}", lambda *v: torch.stack(v[:-1], -1) @ squash(v[-1]), weight)


def concatenated(pool: Pool, shapes: Sequence[Shape]) -> nn.Module:
    axis = pool.axis(shapes[0])
    ways: list[tuple[str, Function]] = [
        ("cat", lambda *v: torch.cat(v, axis)),
        ("cat of the first and its sine", lambda *v: torch.cat([v[0], *v[1:], v[0].sin()], axis)),
        (
            "cat, then every second",
            lambda *v: torch.cat(v, axis).flip(axis).narrow(axis, 0, v[0].shape[axis] + 1),
        ),
        (
            "cat, then halves multiplied",
            lambda *v: torch.mul(*torch.cat([*v, *v[::-1]], axis).tensor_split(2, axis)),
        ),
    ]
    text, function = pool.draw.choice(ways)
    return Apply(f"{text}, axis {axis}", function)


def pair(pool: Pool, shapes: Sequence[Shape]) -> nn.Module:
    table = [*PAIR, *(TOKEN_PAIR * 2 if len(shapes[0]) == 2 else [])]
    return Apply(*pool.draw.choice(table))


def mixture(pool: Pool, shapes: Sequence[Shape]) -> nn.Module | None:
    """Experts weighed by a gate that reads the first of the values."""
    count, d = len(shapes) - 1, shapes[0][-1]

    def soft(x: Tensor, *rest: Tensor) -> Tensor:
        *experts, w = rest
        return (torch.stack(experts, -1) * (x @ w).softmax(-1).unsqueeze(-2)).sum(-1)

    def hard(x: Tensor, *rest: Tensor) -> Tensor:
        *experts, w = rest
        gates, chosen = (x @ w).softmax(-1).max(-1, keepdim=True)
        return (
            torch.stack(experts, -1)
            .gather(-1, chosen.unsqueeze(-2).expand(*x.shape, 1))
            .squeeze(-1)
            * gates
        )

    text, function = pool.draw.choice(
        [("soft mixture", soft), ("soft mixture", soft), ("routed to the first", hard)]
    )
    return Apply(text, function, pool.weight((d, count)))


class CrossAttention(nn.Module):
    """`nn.MultiheadAttention` from one value to another."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.attention(x, y, y, need_weights=False)[0]


def with_weights(pool: Pool, shapes: Sequence[Shape]) -> nn.Module:
    """Two values and parameters in one operation."""
    d = shapes[0][-1]
    o = pool.width()
    ways: list[Callable[[], nn.Module]] = [
        lambda: nn.Bilinear(d, d, o, bias=pool.chance(0.5)),
        lambda: Apply("x W yᵀ summed", lambda x, y, w: ((x @ w) * y).sum(-1, keepdim=True),
        pool.weight((d, d))), lambda: Apply("F.linear(x, W) + F.linear(y, W)", lambda x, y,
        w: F.linear(x, w) + F.linear(y, w), pool.weight((o, d))),
        lambda: Apply("F.linear(x + y, W) * y", lambda x, y, w: F.linear(x + y, w) * y,
        pool.weight((d, d))), lambda: Apply("addcmul(x, y, s)", lambda x, y, s: torch.addcmul(x, y,
        s, value=0.5), pool.weight((d,))), lambda: Apply("s * x + (1 - s) * y", lambda x, y,
        s: s * x + (1 - s) * y, pool.weight(pool.draw.choice([(d,), ()]))),
        lambda: Apply("lerp(x, y, sigmoid a)", lambda x, y, a: torch.lerp(x, y, a.sigmoid()),
        pool.weight(())), lambda: Apply("FiLM", lambda x, y, w: x * F.linear(y, w).tanh() + y,
        pool.weight((d, d))), lambda: Apply("cat(x, y) @ W", lambda x, y, w: torch.cat([x, y],
        -1) @ w, pool.weight((2 * d, o))), lambda: Apply("x @ W[:d] + y @ W[d:]", lambda x, y,
        w: x @ w[:d] + y @ w[d:], pool.weight((2 * d, o))), lambda: Apply("x * (y @ W)", lambda x,
        y, w: torch.einsum("n...i,n...j,ij->n...i", x, y, w), pool.weight((d, d))),
    ]  # fmt: skip
    if len(shapes[0]) == 2:
        ways += [
            lambda: CrossAttention(
                nn.MultiheadAttention(d, 1, bias=pool.chance(0.5), batch_first=True)
            )
        ]
    if len(shapes[0]) == 1:
        ways += [lambda: GatedCell(nn.GRUCell(d, d))]
        ways += [
            lambda: Apply(
                "addmm(x, y, W)",
                lambda x, y, w: torch.addmm(x, y, w, beta=0.5, alpha=2),
                pool.weight((d, d)),
            )
        ]
    return adopted(pool, pool.draw.choice(ways)())


class GatedCell(nn.Module):
    """A recurrent cell whose state is one of the values."""

    def __init__(self, cell: nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.cell(x, y)


# A weight, how many values it takes at least and at most, and the maker.
JOINS: list[tuple[float, tuple[int, int], Joiner]] = [
    (5, (2, 5), several),
    (2, (2, 4), weighed),
    (2, (2, 3), concatenated),
    (4, (2, 2), pair),
    (1, (3, 4), mixture),
    (3, (2, 2), with_weights),
]
