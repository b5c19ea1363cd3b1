"""Dense layers: a linear map of the last axis, or of the tokens, written in every way that people
write it."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from random_graphs.plain import Apply, Function
from random_graphs.weights import Pool, Shape, Weight

BUCKETS = torch.tensor([-0.3, 0.3], dtype=torch.float64)


def adopted(pool: Pool, layer: nn.Module) -> nn.Module:
    """A layer of torch's, in float64, its parameters sometimes tied to known ones, its scales away
    from 1 and 0."""
    layer.double()
    for module in layer.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            same = [known for known in pool.known if known.shape == parameter.shape]
            if same and pool.chance(0.12):
                setattr(module, name, pool.draw.choice(same))
            elif parameter.ndim == 1:
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter) / 3)
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("running_mean", "running_var"):
                with torch.no_grad():
                    buffer.add_(torch.rand_like(buffer) / 2)
    return layer


# ---------------------------------------------------------------- by hand


def _learned_start(x: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """One parameter is the bias and the input of one operation."""
    return x @ v + F.linear(b[None], w, b)


def _bias_in_weight(x: Tensor, w: Tensor) -> Tensor:
    """The bias is a row of the weight."""
    return F.linear(x, w[:, : x.shape[-1]], w[0, : len(w)])


def _flat_layer(x: Tensor, w: Tensor) -> Tensor:
    """Weight and bias one after the other in one parameter."""
    o = len(w) // (x.shape[-1] + 1)
    return F.linear(x, w[:-o].view(o, -1), w[-o:])


def _overlapping_layer(x: Tensor, w: Tensor) -> Tensor:
    """The bias is the first entries of the weight."""
    o = len(w) // x.shape[-1]
    return F.linear(x, w.view(o, -1), w[:o])


def _solved(x: Tensor, w: Tensor) -> Tensor:
    matrix = 2 * torch.eye(len(w)).to(w) + w @ w.T
    return torch.linalg.solve(matrix, x.unsqueeze(-1)).squeeze(-1)


def _log_determinant(x: Tensor, w: Tensor) -> Tensor:
    return x * torch.logdet(torch.eye(len(w)).to(w) + w @ w.T)


def _by_bucket(x: Tensor, w: Tensor) -> Tensor:
    return w[torch.bucketize(x.mean(-1), BUCKETS)] + x.sum(-1, keepdim=True)


def _in_place(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    made = x.new_zeros((*x.shape[:-1], w.shape[1]))
    made += x @ w
    made[..., 0] = b[0]
    return made.add_(b).tanh()


def _mapped(x: Tensor, w: Tensor) -> Tensor:
    return torch.vmap(lambda row: torch.tanh(row) @ w)(x)


def _slope(x: Tensor, w: Tensor) -> Tensor:
    """The derivative of a small network in its input, as in a network for a physical law."""
    return (
        torch.vmap(torch.func.jacrev(lambda row: torch.tanh(row @ w)))(x).sum(1)
        if x.ndim == 2
        else x @ w @ w.T
    )


def _recomputed(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    made = checkpoint(lambda x, w, b: torch.tanh(x @ w + b), x, w, b, use_reentrant=False)
    assert isinstance(made, Tensor)
    return made


def _wide(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w.exp() / 2).unflatten(-1, (2, -1)).sin().mean(-1)


def _batched(alpha: float, beta: float, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """`baddbmm` with one weight for all samples; a vector is one row."""
    rows = x.unsqueeze(1) if x.ndim == 2 else x
    n, t, d = rows.shape
    made = torch.baddbmm(
        b.expand(n, t, len(b)), rows, w.expand(n, d, len(b)), alpha=alpha, beta=beta
    )
    return made.squeeze(1) if x.ndim == 2 else made


# A text, the shapes of the weights and the function of the value and them. The shapes are written
# in letters: d inputs, o outputs, t tokens, m the larger of d and o, e = d + 1, w = d o, f = d o +
# o.
LINEAR: list[tuple[str, str, Function]] = [
    ("x @ W", "do", lambda x, w: x @ w),
    ("x @ W + b", "do o", lambda x, w, b: x @ w + b),
    ("b + x @ W.T", "od o", lambda x, w, b: b + x @ w.T),
    ("F.linear(x, W, b)", "od o", F.linear),
    ("F.linear(x, W)", "od", F.linear),
    ("F.linear(x, W.T, b)", "do o", lambda x, w, b: F.linear(x, w.T, b)),
    ("einsum ...i,oi->...o", "od", lambda x, w: torch.einsum("...i,oi->...o", x, w)),
    ("einsum io,...i->...o", "do", lambda x, w: torch.einsum("io,...i->...o", w, x)),
    ("tensordot", "do", lambda x, w: torch.tensordot(x, w, 1)),
    ("torch.matmul", "do", torch.matmul),
    ("(x[..., None, :] * W).sum(-1)", "od", lambda x, w: (x.unsqueeze(-2) * w).sum(-1)),
    ("(W @ x[..., None]).squeeze", "od", lambda x, w: (w @ x.unsqueeze(-1)).squeeze(-1)),
    ("(W @ x.mT).mT", "od", lambda x, w: (w @ x.mT).mT),
    ("x @ W + x @ V", "do do", lambda x, w, v: x @ w + x @ v),
    ("x @ (W + V)", "do do", lambda x, w, v: x @ (w + v)),
    ("x @ v + F.linear(b[None], W, b)", "do oo o", _learned_start),
    ("F.bilinear(x, x, W, b)", "odd o", lambda x, w, b: F.bilinear(x, x, w, b)),
    ("F.linear(x, W, W[0])", "mm", _bias_in_weight),
    ("F.linear(x, W, W[:, 0])", "od", lambda x, w: F.linear(x, w, w[:, 0])),
    ("F.linear(x, w[:-o].view, w[-o:])", "f", _flat_layer),
    ("F.linear(x, w.view, w[:o])", "w", _overlapping_layer),
    ("vmap of samples", "do", _mapped),
    ("quadratic form", "odd", lambda x, w: torch.einsum("...i,kij,...j->...k", x, w, x) / 2),
    ("-|x - c|²", "od", lambda x, c: -(x.unsqueeze(-2) - c).square().sum(-1) / 2),
    ("cosine to rows", "od", lambda x, w: F.normalize(x, dim=-1) @ F.normalize(w, dim=-1).T),
    ("max-plus", "od", lambda x, w: (x.unsqueeze(-2) + w).logsumexp(-1)),
    ("softmax(x) @ W", "do", lambda x, w: x.softmax(-1) @ w),
    ("W[argmax x]", "do", lambda x, w: w[x.argmax(-1)] * x.amax(-1, keepdim=True)),
    ("W[bucket of x] + x", "3o", _by_bucket),
    ("x @ kron(a, b)", "d1 1o", lambda x, a, b: x @ torch.kron(a, b)),
    ("solve(W, x)", "dd", _solved),
    ("x logdet(1 + W Wᵀ)", "od", _log_determinant),
    ("zeros + x @ W + b in place", "do o", _in_place),
    ("slope of tanh(x @ W)", "do", _slope),
    ("checkpoint(tanh(x @ W + b))", "do o", _recomputed),
    ("cat(x, 1) @ W", "eo", lambda x, w: torch.cat([x, torch.ones_like(x[..., :1])], -1) @ w),
]
VECTORS: list[tuple[str, str, Function]] = [
    ("torch.mm", "do", torch.mm),
    ("(W @ x.T).T", "od", lambda x, w: (w @ x.T).T),
]
TOKENS: list[tuple[str, str, Function]] = [
    ("bmm with an expanded W", "do", lambda x, w: torch.bmm(x, w.expand(len(x), *w.shape))),
    ("one matrix per token", "tdo", lambda x, w: torch.einsum("nti,tio->nto", x, w)),
    (
        "bmm, one matrix per token",
        "tdo",
        lambda x, w: torch.bmm(x.transpose(0, 1), w).transpose(0, 1),
    ),
    ("tokens and features contracted", "tdo", lambda x, w: torch.einsum("nti,tio->no", x, w)),
    ("tensordot over both", "tdo", lambda x, w: torch.tensordot(x, w, dims=2)),
]
# With the factors alpha and beta first.
SCALED: list[tuple[str, str, Function]] = [
    ("x @ W + alpha (x @ B) @ A", "do d1 1o", lambda p, q, x, w, b, a: x @ w + p * (x @ b) @ a),
    (
        "F.linear(x, W + alpha (B @ A).T)",
        "od d1 1o",
        lambda p, q, x, w, b, a: F.linear(x, w + p * (b @ a).T),
    ),
    ("baddbmm(b, x, W)", "do o", _batched),
    ("add(x @ W, b, alpha)", "do o", lambda p, q, x, w, b: torch.add(x @ w, b, alpha=p)),
    ("sub(x @ W, x @ V, alpha)", "do do", lambda p, q, x, w, v: torch.sub(x @ w, x @ v, alpha=p)),
]
SCALED_VECTORS: list[tuple[str, str, Function]] = [
    ("addmm(b, x, W)", "do o", lambda p, q, x, w, b: torch.addmm(b, x, w, alpha=p, beta=q)),
    ("addmm(b, x, W.T)", "od o", lambda p, q, x, w, b: torch.addmm(b, x, w.T, alpha=p, beta=q)),
    ("addmm(x, x, W)", "dd", lambda p, q, x, w: torch.addmm(x, x, w, alpha=p, beta=q)),
    (
        "addmm(x @ W, x @ B, A)",
        "do d1 1o",
        lambda p, q, x, w, b, a: torch.addmm(x @ w, x @ b, a, alpha=p, beta=q),
    ),
]
SCALED_TOKENS: list[tuple[str, str, Function]] = [
    (
        "addmm on flat tokens",
        "do o",
        lambda p, q, x, w, b: torch.addmm(b, x.flatten(0, 1), w, alpha=p).unflatten(0, x.shape[:2]),
    ),
]


def _linear_by_hand(pool: Pool, shape: Shape, o: int) -> Apply:
    """x Wᵀ + b over the last axis."""
    *lead, d = shape
    alpha, beta = pool.draw.choice([1, 0.5, 2, -1]), pool.draw.choice([1, 0.5, 2])
    own = {0: (VECTORS, SCALED_VECTORS), 1: (TOKENS, SCALED_TOKENS)}.get(len(lead), ([], []))
    scaled = [
        (f"{text}, alpha={alpha}, beta={beta}", spec, functools.partial(function, alpha, beta))
        for text, spec, function in [*SCALED, *own[1]]
    ]
    text, spec, function = pool.draw.choice([*LINEAR, *own[0], *scaled])
    sizes = {
        "d": d,
        "o": o,
        "t": math.prod(lead),
        "m": max(o, d),
        "e": d + 1,
        "w": d * o,
        "f": d * o + o,
        "1": 1,
        "3": 3,
    }
    return Apply(
        text,
        function,
        *(pool.weight(tuple(sizes[letter] for letter in letters)) for letters in spec.split()),
    )


# ---------------------------------------------------------------- the pieces


def dense(pool: Pool, shape: Shape, outputs: int | None = None) -> nn.Module:
    """A linear map of the last axis: torch's layer, or by hand."""
    o = outputs or pool.width()
    if pool.chance(0.4):
        layer = adopted(pool, nn.Linear(shape[-1], o, bias=pool.chance(0.7)))
        way = pool.draw.choice(["plain"] * 10 + ["weight norm", "orthogonal"])
        if way == "weight norm":
            return parametrizations.weight_norm(layer)
        if way == "orthogonal":
            return parametrizations.orthogonal(layer, orthogonal_map="matrix_exp")
        return layer
    return _linear_by_hand(pool, shape, o)


def from_the_left(pool: Pool, shape: Shape) -> nn.Module | None:
    """A matrix that mixes tokens (or channels, or rows of an image)."""
    if len(shape) < 2:
        return None
    t, u = shape[-2], pool.width()
    ways: list[tuple[str, Function, Shape]] = [
        ("W @ x", lambda x, w: w @ x, (u, t)),
        ("W.T @ x", lambda x, w: w.T @ x, (t, u)),
        ("einsum ut,n...td->n...ud", lambda x, w: torch.einsum("ut,n...td->n...ud", w, x), (u, t)),
        ("(x.mT @ W).mT", lambda x, w: (x.mT @ w).mT, (t, u)),
        ("softmax(W) @ x", lambda x, w: w.softmax(-1) @ x, (u, t)),
        ("F.linear(x.mT, W).mT", lambda x, w: F.linear(x.mT, w).mT, (u, t)),
        (
            "W.expand @ x",
            lambda x, w: torch.matmul(w.expand(len(x), *(1,) * (x.ndim - 3), *w.shape), x),
            (u, t),
        ),
    ]
    text, function, of = pool.draw.choice(ways)
    return Apply(text, function, pool.weight(of))


def wide(pool: Pool, shape: Shape) -> nn.Module:
    """More entries than a parameter may have that is its own slot."""
    columns = 2 * (280 // (2 * shape[-1]))
    return Apply(
        "exp of a wide W", _wide, Weight("{}", torch.clone, pool.fresh((shape[-1], columns)))
    )
