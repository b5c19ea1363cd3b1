"""Pieces without parameters: elementwise functions, reductions over any axis, and what moves the
entries of a value about."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_graphs.weights import Pool, Shape, Weight

Function = Callable[..., Tensor]
Maker = Callable[[Pool, Shape], nn.Module | None]


class Apply(nn.Module):
    """A function of values and of weights; the weights come after the values."""

    def __init__(self, text: str, function: Function, *weights: Weight) -> None:
        super().__init__()
        self.text, self.function, self.weights = text, function, nn.ModuleList(weights)

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values, *(weight() for weight in self.weights))


def _in_place(x: Tensor) -> Tensor:
    made = x.clone()
    made[..., 0] = x[..., 0].sin()
    made *= 1.5
    return made.tanh_()


def _held(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.sigmoid() + 0.5


class OwnSquare(torch.autograd.Function):
    """x², with a backward of its own that can be differentiated and mapped."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,), (grad,) = ctx.saved_tensors, grad_outputs
        return 2 * x * grad


ELEMENTWISE: dict[str, Function] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "gelu tanh": functools.partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "softplus beta": lambda x: F.softplus(x, beta=2.0),
    "relu": torch.relu,
    "relu6": F.relu6,
    "relu in place": lambda x: F.relu(x + 0.1, inplace=True),
    "elu": F.elu,
    "celu": lambda x: F.celu(x, alpha=0.7),
    "selu": F.selu,
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "mish": F.mish,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid by hand": lambda x: F.relu6(x + 3) / 6,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, 0.05),
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": lambda x: (x / 3).exp(),
    "2 ** x": lambda x: 2.0 ** (x / 2),
    "expm1": lambda x: torch.expm1(x / 3),
    "log1p": lambda x: torch.log1p(x * x),
    "log abs": lambda x: (x.abs() + 0.5).log(),
    "sqrt": lambda x: (1 + x.square()).sqrt(),
    "rsqrt": lambda x: torch.rsqrt(0.5 + x.square()),
    "square": torch.square,
    "x ** 2": lambda x: x**2,
    "x ** 3": lambda x: x**3 / 3,
    "x ** 1": lambda x: x**1,
    "pow 1.5": lambda x: (x.square() + 0.3) ** 1.5 / 3,
    "pow -0.5": lambda x: (x.square() + 0.5).pow(-0.5),
    "x ** x": lambda x: (x.square() / 4 + 0.5) ** (x / 4),
    "reciprocal": lambda x: 1 / (1.5 + x.square()),
    "x / (1 + |x|)": lambda x: x / (1 + x.abs()),
    "abs": torch.abs,
    "clamp": lambda x: x.clamp(-0.8, 0.9),
    "clamp min": lambda x: x.clamp(min=-0.3),
    "clamp by itself": lambda x: x.clamp(max=x.tanh() + 0.2),
    "where": lambda x: torch.where(x > 0, x.square(), 0.3 * x),
    "masked fill": lambda x: x.sin().masked_fill(x > 0.7, 0.25),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sinh": lambda x: torch.sinh(x / 2),
    "cosh": lambda x: torch.cosh(x / 2),
    "atan": torch.atan,
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(1.5 + x.square()),
    "atanh": lambda x: torch.atanh(0.8 * x.tanh()),
    "lgamma": lambda x: torch.lgamma(1.2 + x.square()),
    "digamma": lambda x: torch.digamma(1.2 + x.square()),
    "erfinv": lambda x: torch.erfinv(0.7 * x.tanh()),
    "xlogy": lambda x: torch.xlogy(x, 1 + x.square()),
    "logit": lambda x: torch.logit(x.sigmoid() * 0.8 + 0.1),
    "sinc": torch.sinc,
    "ndtr": torch.special.ndtr,
    "sign": lambda x: x.square() * x.sign(),
    "fractional": lambda x: x.frac() + x.square() / 2,
    "maximum": lambda x: torch.maximum(x, 0.3 * x),
    "minimum": lambda x: torch.minimum(x, x.square()),
    "addcmul": lambda x: torch.addcmul(x, x, x.sin(), value=0.3),
    "addcdiv": lambda x: torch.addcdiv(x, x.sin(), 2 + x.cos(), value=0.5),
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.3),
    "lerp by itself": lambda x: torch.lerp(x, x.tanh(), x.sigmoid()),
    "logaddexp": lambda x: torch.logaddexp(x, -2 * x),
    "hypot": lambda x: torch.hypot(x, 1 + x.sigmoid()),
    "atan2": lambda x: torch.atan2(x, 1 + x.square()),
    "sub alpha": lambda x: torch.sub(x, x.square(), alpha=0.5),
    "rsub": lambda x: torch.rsub(x, 1.5, alpha=2),
    "negated": lambda x: -x,
    "dropout off": lambda x: F.dropout(x, 0.3, training=False),
    "detached gate": lambda x: x * x.sigmoid().detach(),
    "gate without gradients": lambda x: x * _held(x),
    "square of the user's own": lambda x: OwnSquare.apply(x) / 2,
    "straight through": lambda x: x.tanh() + (x.round() - x.tanh()).detach(),
    "nan to num": lambda x: torch.nan_to_num(x.sin()),
    "in place": _in_place,
    "to float32 and back": lambda x: x + (x > 0).float().double(),
    "glorious sum": lambda x: x + x.sin() + x.square() / 4 - x.tanh() * x,
}

REDUCTIONS: dict[str, Callable[[Tensor, int, bool], Tensor]] = {
    "sum": lambda x, axis, keep: x.sum(axis, keepdim=keep),
    "mean": lambda x, axis, keep: x.mean(axis, keepdim=keep),
    "logsumexp": lambda x, axis, keep: x.logsumexp(axis, keepdim=keep),
    "amax": lambda x, axis, keep: x.amax(axis, keepdim=keep),
    "amin": lambda x, axis, keep: x.amin(axis, keepdim=keep),
    "max": lambda x, axis, keep: x.max(axis, keepdim=keep).values,
    "median": lambda x, axis, keep: x.median(axis, keepdim=keep).values,
    "var": lambda x, axis, keep: x.var(axis, correction=0, keepdim=keep),
    "var unbiased": lambda x, axis, keep: torch.cat([x, x.sin()], axis).var(axis, keepdim=keep),
    "std": lambda x, axis, keep: torch.cat([x, x.cos()], axis).std(axis, keepdim=keep),
    "norm": lambda x, axis, keep: (x + 0.1).norm(dim=axis, keepdim=keep),
    "norm 1": lambda x, axis, keep: torch.linalg.vector_norm(x, ord=1, dim=axis, keepdim=keep),
    "norm 3": lambda x, axis, keep: torch.linalg.vector_norm(x, ord=3, dim=axis, keepdim=keep),
    "prod": lambda x, axis, keep: x.prod(axis, keepdim=keep),
    "mean of squares": lambda x, axis, keep: x.square().mean(axis, keepdim=keep),
}

# Along one axis, shape kept.
ALONG: dict[str, Callable[[Tensor, int], Tensor]] = {
    "softmax": lambda x, axis: x.softmax(axis),
    "log softmax": lambda x, axis: x.log_softmax(axis),
    "softmin": lambda x, axis: F.softmin(x, axis),
    "cumsum": lambda x, axis: x.cumsum(axis),
    "cumprod": lambda x, axis: (1 + x.tanh() / 2).cumprod(axis),
    "logcumsumexp": lambda x, axis: x.logcumsumexp(axis),
    "centred": lambda x, axis: x - x.mean(axis, keepdim=True),
    "standardised": lambda x, axis: (
        (x - x.mean(axis, keepdim=True)) / (x.var(axis, correction=0, keepdim=True) + 0.1).sqrt()
    ),
    "root mean square": lambda x, axis: x * torch.rsqrt(x.square().mean(axis, keepdim=True) + 0.1),
    "normalize": lambda x, axis: F.normalize(x, dim=axis),
    "over its sum": lambda x, axis: x.exp() / x.exp().sum(axis, keepdim=True),
    "over its largest": lambda x, axis: x / (1 + x.abs().amax(axis, keepdim=True)),
    "flip": lambda x, axis: x.flip(axis),
    "roll": lambda x, axis: x.roll(1, axis),
    "sort": lambda x, axis: x.sort(axis).values,
    "gathered": lambda x, axis: x.gather(axis, x.argsort(axis)),
    "cummax": lambda x, axis: x.cummax(axis).values,
    "neighbours": lambda x, axis: x + x.roll(1, axis) * x.roll(-1, axis),
    "hard attention": lambda x, axis: (
        x * F.one_hot(x.argmax(axis), x.shape[axis]).movedim(-1, axis)
    ),
    "times its norm": lambda x, axis: x * (x.square().sum(axis, keepdim=True) + 0.2).sqrt() / 2,
}


def elementwise(pool: Pool, shape: Shape) -> nn.Module:
    name = pool.draw.choice(list(ELEMENTWISE))
    return Apply(name, ELEMENTWISE[name])


def smooth(pool: Pool, shape: Shape) -> nn.Module:
    """A curve between layers, as networks have it."""
    kinds = [
        nn.Tanh,
        nn.Sigmoid,
        nn.GELU,
        nn.SiLU,
        nn.Softplus,
        nn.ReLU,
        nn.ELU,
        nn.Mish,
        nn.Tanh,
        nn.ReLU,
    ]
    return pool.draw.choice(kinds)()


def reduction(pool: Pool, shape: Shape) -> nn.Module:
    name, axis = pool.draw.choice(list(REDUCTIONS)), pool.axis(shape)
    keep = pool.chance(0.4) or len(shape) == 1
    return Apply(f"{name} over axis {axis}", lambda x: REDUCTIONS[name](x, axis, keep))


def along(pool: Pool, shape: Shape) -> nn.Module:
    name, axis = pool.draw.choice(list(ALONG)), pool.axis(shape)
    return Apply(f"{name} along axis {axis}", lambda x: ALONG[name](x, axis))


def broadcast(pool: Pool, shape: Shape) -> nn.Module:
    """A value with its own reduction, which is broadcast again."""
    name, axis = pool.draw.choice(list(REDUCTIONS)), pool.axis(shape)
    joins: list[tuple[str, Function]] = [
        ("x + r", torch.add),
        ("x * r", torch.mul),
        ("x - r", torch.sub),
        ("x / (1 + r²)", lambda x, r: x / (1 + r.square())),
        ("cat(x, r)", lambda x, r: torch.cat([x, r], axis)),
        ("maximum(x, r)", lambda x, r: torch.maximum(x, 0.7 * r)),
    ]
    text, join = pool.draw.choice(joins)
    return Apply(
        f"{text} with r the {name} over axis {axis}",
        lambda x: join(x, REDUCTIONS[name](x, axis, True)),
    )


def moved(pool: Pool, shape: Shape) -> nn.Module | None:
    """The entries along one axis picked, repeated, padded, cut or paired."""
    axis = pool.axis(shape)
    n = shape[axis - 1 if axis > 0 else axis]
    start = pool.draw.randrange(n)
    picked = torch.tensor([pool.draw.randrange(n) for _ in range(pool.width())])
    choices: list[tuple[str, Function]] = [
        (f"narrow {start} to the end", lambda x: x.narrow(axis, start, x.shape[axis] - start)),
        (f"index select {picked.tolist()}", lambda x: x.index_select(axis, picked)),
        ("cat(x, x²)", lambda x: torch.cat([x, x.square()], axis)),
        ("cat(x, 0)", lambda x: torch.cat([x, torch.zeros_like(x)], axis)),
        ("repeat interleave", lambda x: x.repeat_interleave(2, axis)),
        ("topk", lambda x: x.topk(max(1, n - 1), axis).values),
        ("movedim", lambda x: x.movedim(axis, -1)),
        ("unfold", lambda x: x.unfold(axis, min(2, x.shape[axis]), 1).flatten(-2)),
        ("roll and shrink", lambda x: (x + x.roll(1, axis)).narrow(axis, 0, max(1, n - 1))),
    ]
    if n % 2 == 0:
        choices += [
            ("glu", lambda x: F.glu(x, axis)),
            (
                "product of chunks",
                lambda x: math.prod(x.chunk(2, axis), start=torch.ones((), dtype=x.dtype)),
            ),
            (
                "rotated halves",
                lambda x: torch.cat([-x.chunk(2, axis)[1], x.chunk(2, axis)[0]], axis) + x.sin(),
            ),
        ]
    if n > 1:
        choices += [
            ("diff", lambda x: x.diff(dim=axis)),
            (
                "first times rest",
                lambda x: x.narrow(axis, 0, 1) * x.narrow(axis, 1, x.shape[axis] - 1),
            ),
            ("split and stacked", lambda x: torch.stack(x.split(1, axis), -1).sum(-1)),
            (
                "unbound sum",
                lambda x: torch.stack(
                    [part.tanh() * (k + 1) for k, part in enumerate(x.unbind(axis))], axis
                ),
            ),
            (
                "scattered",
                lambda x: torch.zeros_like(x).index_add(axis, torch.zeros(n, dtype=torch.long), x),
            ),
        ]
    text, function = pool.draw.choice(choices)
    return Apply(f"{text}, axis {axis}", function)


def _upper(x: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(x.shape[-1], x.shape[-1])
    return x[..., rows] * x[..., columns]


POWERS = torch.arange(4)
BOUNDS = torch.tensor([0.3, 1.0], dtype=torch.float64)

ANY: list[tuple[str, Function]] = [
    ("flatten", lambda x: x.flatten(1)),
    ("products of pairs", _upper),
    ("powers summed", lambda x: (x.unsqueeze(-1) ** POWERS.to(x)).sum(-1) / 3),
    ("integer powers summed", lambda x: (x.unsqueeze(-1) ** POWERS).sum(-1) / 3),
    ("clamped at several", lambda x: x.unsqueeze(-1).clamp(max=BOUNDS).sum(-1)),
    (
        "where broadcast",
        lambda x: torch.where(BOUNDS > 0.5, x.unsqueeze(-1), x.unsqueeze(-1).sin()).prod(-1),
    ),
    ("sum of everything", lambda x: x + x.flatten(1).sum(1).reshape(-1, *(1,) * (x.ndim - 1))),
    ("softmax over everything", lambda x: x.flatten(1).softmax(1).view_as(x) * x),
    ("layer norm", lambda x: F.layer_norm(x, x.shape[1:])),
    ("einsum with itself", lambda x: torch.einsum("n...i,n...i->n...", x, x.sin()).unsqueeze(-1)),
    ("outer", lambda x: torch.einsum("n...i,n...j->n...ij", x, x.cos()).flatten(-2)),
    ("complex modulus", lambda x: torch.view_as_complex(torch.stack([x, x.cos()], -1)).abs()),
    ("fourier", lambda x: torch.fft.rfft(x).abs()),
    ("fourier, real part", lambda x: torch.fft.fft(x).real),
]
VECTOR: list[tuple[str, Function]] = [
    ("unsqueeze", lambda x: x.unsqueeze(1)),
    ("outer", lambda x: x[:, :, None] * x[:, None, :].sin()),
    ("diagonal matrix", lambda x: torch.diag_embed(x)),
    ("expanded", lambda x: x.unsqueeze(1).expand(-1, 2, -1) * torch.tensor([[1.0], [0.5]]).to(x)),
    ("in rows of two", lambda x: x.reshape(len(x), -1, 2)),
    ("one channel", lambda x: x[:, None, None, :]),
    ("triangle filled", lambda x: torch.tril(x[:, :, None] - x[:, None, :].cos())),
]
TOKENS: list[tuple[str, Function]] = [
    ("transpose", lambda x: x.transpose(1, 2)),
    ("mean of tokens", lambda x: x.mean(1)),
    ("last token", lambda x: x[:, -1]),
    ("first token twice", lambda x: x[:, 0] * x[:, 0].sin()),
    ("gram", lambda x: x @ x.mT / 2),
    ("gram of features", lambda x: torch.bmm(x.mT, x) / 2),
    ("attention to itself", lambda x: F.scaled_dot_product_attention(x, x, x)),
    (
        "causal attention to itself",
        lambda x: F.scaled_dot_product_attention(x, x.sin(), x, is_causal=True),
    ),
    ("one channel", lambda x: x.unsqueeze(1)),
    ("average pool", lambda x: F.avg_pool1d(x, 2, stride=1)),
    ("max pool", lambda x: F.max_pool1d(x, 2, stride=1)),
    ("power pool", lambda x: F.lp_pool1d(x.sigmoid(), 2, 2, stride=1)),
    ("adaptive pool", lambda x: F.adaptive_avg_pool1d(x, 2)),
    ("adaptive max pool", lambda x: F.adaptive_max_pool1d(x, 1)),
    ("interpolate", lambda x: F.interpolate(x, scale_factor=2, mode="linear")),
    ("padded", lambda x: F.pad(x, (1, 0), mode="replicate")),
    ("masked by position", lambda x: x * (torch.arange(x.shape[1]) > 0).to(x)[:, None]),
    ("decayed by position", lambda x: x * 0.7 ** torch.arange(x.shape[1]).to(x)[:, None]),
    ("trace", lambda x: (x @ x.mT).diagonal(dim1=1, dim2=2).sum(-1, keepdim=True)),
    ("batch norm, instance", lambda x: F.instance_norm(x)),
    ("solved", lambda x: torch.linalg.solve(_positive(x), x)),
    ("log determinant", lambda x: torch.linalg.slogdet(_positive(x))[1].unsqueeze(1)),
    ("determinant", lambda x: torch.linalg.det(_positive(x)).unsqueeze(1) / 4),
    ("inverse", lambda x: torch.linalg.inv(_positive(x)) @ x),
    ("cholesky", lambda x: torch.linalg.cholesky(_positive(x))),
]
IMAGE: list[tuple[str, Function]] = [
    ("mean of places", lambda x: x.mean((2, 3))),
    ("maximum of places", lambda x: x.amax((2, 3))),
    ("as tokens", lambda x: x.flatten(2).transpose(1, 2)),
    ("permute", lambda x: x.permute(0, 2, 3, 1)),
    ("average pool", lambda x: F.avg_pool2d(x, 2, stride=1)),
    (
        "average pool, padded",
        lambda x: F.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False),
    ),
    ("max pool", lambda x: F.max_pool2d(x, 2, stride=1)),
    ("adaptive pool", lambda x: F.adaptive_avg_pool2d(x, (1, 2))),
    ("interpolate", lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    ("bilinear", lambda x: F.interpolate(x, size=(3, 3), mode="bilinear", align_corners=True)),
    ("unfold", lambda x: F.unfold(x, 2)),
    ("circular", lambda x: F.pad(x, (1, 0, 0, 1), mode="circular")),
    ("reflected", lambda x: F.pad(x, (1, 0, 0, 1), mode="reflect")),
    ("unshuffled", lambda x: F.pixel_unshuffle(x, 2)),
    ("rows only", lambda x: x.mean(3)),
    ("rotated", lambda x: torch.rot90(x, 1, (2, 3))),
    ("local response", lambda x: F.local_response_norm(x, 2)),
]


def _positive(x: Tensor) -> Tensor:
    return torch.eye(x.shape[1]).to(x) + x @ x.mT


def rearranged(pool: Pool, shape: Shape) -> nn.Module:
    table = [*ANY, *{1: VECTOR, 2: TOKENS, 3: IMAGE}[len(shape)] * 2]
    return Apply(*pool.draw.choice(table))


# What makes one row of numbers of any value, whatever its axes.
def gathered(pool: Pool, shape: Shape) -> nn.Module:
    tables: dict[int, list[tuple[str, Function]]] = {
        2: [
            ("mean of tokens", lambda x: x.mean(1)),
            ("sum of tokens", lambda x: x.sum(1)),
            ("logsumexp of tokens", lambda x: x.logsumexp(1)),
            ("last token", lambda x: x[:, -1]),
            ("flatten", lambda x: x.flatten(1)),
        ],
        3: [
            ("flatten", lambda x: x.flatten(1)),
            ("mean of places", lambda x: x.mean((2, 3))),
            ("maximum of places", lambda x: x.amax((2, 3))),
        ],
    }
    return Apply(*pool.draw.choice(tables[len(shape)]))


PLAIN: list[tuple[float, Maker]] = [
    (5, elementwise),
    (3, smooth),
    (2, reduction),
    (3, along),
    (2, broadcast),
    (2, moved),
    (5, rearranged),
]
