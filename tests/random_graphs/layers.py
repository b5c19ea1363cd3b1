"""Pieces through which parameters enter: scales and shifts, scalars, norms, convolutions, and what
they are drawn from.

Each takes the shape of one sample's value and gives a module, or None where it does not fit that
shape. The sizes of what they make are drawn; whether a piece is taken is decided by running it.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_graphs.dense import adopted, dense, from_the_left
from random_graphs.plain import Apply, Function, Maker
from random_graphs.weights import Pool, Shape, Weight

# ---------------------------------------------------------------- scales, shifts, scalars


def scale_or_shift(pool: Pool, shape: Shape) -> nn.Module:
    """A parameter that is added or multiplied, along some of the axes."""
    axes = [shape, shape[-1:], (*shape[:-1], 1), (1,) * len(shape), ()]
    of = pool.draw.choice(axes)
    one, two = (
        (lambda: [pool.weight(of)]),
        (lambda: [pool.weight(of), pool.weight(pool.draw.choice(axes))]),
    )
    ways: list[tuple[str, Function, Callable[[], list[Weight]]]] = [
        ("x * s", torch.mul, one),
        ("x + b", torch.add, one),
        ("b - x", lambda x, b: b - x, one),
        ("x * s + b", lambda x, s, b: x * s + b, two),
        ("b + s * x", lambda x, s, b: b + s * x, two),
        ("(x - b) * s", lambda x, s, b: (x - b) * s, two),
        ("(x - b) / exp(s)", lambda x, s, b: (x - b) / s.exp(), two),
        ("x / (1 + s²)", lambda x, s: x / (1 + s * s), one),
        ("addcmul(b, x, s)", lambda x, s, b: torch.addcmul(b, x, s, value=0.5), two),
        ("addcmul(x, x, s)", lambda x, s: torch.addcmul(x, x, s, value=0.5), one),
        (
            "lerp(x, tanh x, sigmoid s)",
            lambda x, s: torch.lerp(x, x.tanh(), s.sigmoid().expand_as(x)),
            one,
        ),
        ("x ** softplus(s)", lambda x, s: (x.square() + 0.3) ** F.softplus(s), one),
        ("x sigmoid(s x)", lambda x, s: x * (s * x).sigmoid(), one),
        ("x + sin²(s x) / (1 + s²)", lambda x, s: x + (s * x).sin().square() / (1 + s * s), one),
        ("where(x > s, x, s)", lambda x, s: torch.where(x > s, x, s * x), one),
        ("maximum(x, s)", lambda x, s: torch.maximum(x, s), one),
        ("clamp(x, min=s)", lambda x, s: x.clamp(min=s), one),
        ("x + s * tanh(x)", lambda x, s: x + s * x.tanh(), one),
        ("exp(s) x + s b", lambda x, s, b: s.exp() * x + s * b, two),
        ("x / (softplus(s) + b²)", lambda x, s, b: x / (F.softplus(s) + b * b + 0.2), two),
        ("x * (s * b)", lambda x, s, b: x * (s * b), two),
        ("add(x, s, alpha=2)", lambda x, s: torch.add(x, s, alpha=2), one),
        ("sub(x, s, alpha=0.5)", lambda x, s: torch.sub(x, s, alpha=0.5), one),
        ("x.clone().mul_(s).add_(b)", lambda x, s, b: (x + 0).mul_(s).add_(b), two),
        ("s.expand_as(x) * x", lambda x, s: s.expand_as(x) * x, one),
        ("hypot(x, s)", lambda x, s: torch.hypot(x, s + 0.5), one),
        ("cat(x, s)", lambda x, s: torch.cat([x, s.expand_as(x)], -1), one),
        (
            "concatenated token",
            lambda x, s: torch.cat([s.expand(len(x), *x.shape[1:])[:, :1], x], 1),
            one,
        ),
    ]
    text, function, weights = pool.draw.choice(ways)
    return Apply(f"{text} of {of}", function, *weights())


def scalars(pool: Pool, shape: Shape) -> nn.Module:
    """Parameters without axes, which meet one another."""
    ways: list[tuple[str, Function, int]] = [
        ("x * (a * b)", lambda x, a, b: x * (a * b), 2),
        ("a * x * b", lambda x, a, b: a * x * b, 2),
        ("a * x + b", lambda x, a, b: a * x + b, 2),
        ("exp(a) * x + a * b", lambda x, a, b: a.exp() * x + a * b, 2),
        ("x / (softplus(a) + b²)", lambda x, a, b: x / (F.softplus(a) + b**2), 2),
        ("a * tanh(b * x + c)", lambda x, a, b, c: a * (b * x + c).tanh(), 3),
        ("lerp(x, tanh x, sigmoid(a))", lambda x, a: torch.lerp(x, x.tanh(), a.sigmoid()), 1),
        ("(1 - a) * x + a * sin x", lambda x, a: (1 - a) * x + a * x.sin(), 1),
        ("stack(a, b).softmax on x, sin x", _weighed, 2),
        ("a ** 2 * x + (a - b) ** 2", lambda x, a, b: a**2 * x + (a - b) ** 2, 2),
        ("polynomial", lambda x, a, b, c: a + x * (b + x * c), 3),
        ("x ** sigmoid(a)", lambda x, a: (x.square() + 0.2) ** a.sigmoid(), 1),
        ("gaussian", lambda x, a, b: (-(x - a).square() * b.exp() / 2).exp(), 2),
        ("x * sqrt(a² + b²)", lambda x, a, b: x * (a * a + b * b + 0.1).sqrt(), 2),
        ("softplus with beta", lambda x, a: torch.log1p((a.exp() * x).exp()) / a.exp(), 1),
        ("a.item-free gate", lambda x, a, b: torch.where(a > b, a, b) * x, 2),
    ]
    text, function, count = pool.draw.choice(ways)
    return Apply(text, function, *(pool.weight(()) for _ in range(count)))


def _weighed(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    first, second = torch.stack([a, b]).softmax(0)
    return first * x + second * x.sin()


def prelu(pool: Pool, shape: Shape) -> nn.Module:
    return adopted(pool, nn.PReLU(pool.draw.choice([1, shape[0]])))


def bilinear(pool: Pool, shape: Shape) -> nn.Module:
    layer = adopted(pool, nn.Bilinear(shape[-1], shape[-1], pool.draw.choice([1, 2])))
    return Same(layer, pool.draw.choice([2, 2]))


class Same(nn.Module):
    """A layer of several arguments, given the same value for each."""

    def __init__(self, layer: nn.Module, times: int) -> None:
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(*(x,) * self.times)


# ---------------------------------------------------------------- norms


def norm(pool: Pool, shape: Shape) -> nn.Module | None:
    c, d = shape[0], shape[-1]
    groups = pool.draw.choice([g for g in (1, 2, 3) if c % g == 0])
    last, affine = shape[-1:], pool.chance(0.8)
    some = shape[-min(2, len(shape)) :]
    batch_norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[len(shape)]
    ways: list[Callable[[], Any]] = [
        lambda: nn.LayerNorm(d, elementwise_affine=affine),
        lambda: nn.LayerNorm(list(some), elementwise_affine=affine),
        lambda: nn.LayerNorm(d, bias=False),
        lambda: nn.GroupNorm(groups, c, affine=affine),
        lambda: batch_norm(c, affine=affine).eval(),
        lambda: nn.RMSNorm(d, eps=1e-2),
        lambda: Apply(
            "F.layer_norm(x, W, b)",
            lambda x, w, b: F.layer_norm(x, last, w, b),
            pool.weight(last),
            pool.weight(last),
        ),
        lambda: Apply(
            "F.group_norm(x, W, b)",
            lambda x, w, b: F.group_norm(x, groups, w, b),
            pool.weight((c,)),
            pool.weight((c,)),
        ),
        lambda: Apply(
            "g x / rms",
            lambda x, g: g * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 0.1),
            pool.weight(last),
        ),
        lambda: Apply(
            "g * F.normalize(x)", lambda x, g: g * F.normalize(x, dim=-1), pool.weight(last)
        ),
        lambda: Apply(
            "F.normalize(relu(g x))",
            lambda x, g: F.normalize(torch.relu(x * g), dim=-1),
            pool.weight(last),
        ),
        lambda: Apply(
            "F.rms_norm(x, W)", lambda x, w: F.rms_norm(x, last, w, 0.1), pool.weight(last)
        ),
        lambda: Apply("norm by hand", _standardised, pool.weight(last), pool.weight(last)),
        lambda: Apply(
            "F.layer_norm(x, w, w)", lambda x, w: F.layer_norm(x, last, w, w), pool.weight(last)
        ),
    ]
    if len(shape) > 1:
        instance_norm = {2: nn.InstanceNorm1d, 3: nn.InstanceNorm2d}[len(shape)]
        ways += [lambda: instance_norm(c, affine=True)]
    return adopted(pool, pool.draw.choice(ways)())


def _standardised(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-2).sqrt() * w + b


# ---------------------------------------------------------------- convolutions


def convolution(pool: Pool, shape: Shape) -> nn.Module | None:
    """Over the last one or two axes, by a layer or a function, of every stride, dilation, padding
    and grouping."""
    dims = len(shape) - 1
    if dims not in (1, 2):
        return None
    c = shape[0]
    groups = pool.draw.choice([g for g in (1, 1, 2, 3) if c % g == 0])
    outputs = groups * pool.draw.choice([1, 1, 2])
    kernel = tuple(pool.draw.choice([1, 2, 2, 3]) for _ in range(dims))
    stride, dilation, padding = (
        pool.draw.choice([1, 1, 2]),
        pool.draw.choice([1, 1, 2]),
        pool.draw.choice([0, 1, 1, "same"]),
    )
    mode = pool.draw.choice(["zeros", "zeros", "zeros", "circular", "replicate"])
    function: Function = {1: F.conv1d, 2: F.conv2d}[dims]
    transposed: Function = {1: F.conv_transpose1d, 2: F.conv_transpose2d}[dims]
    layer, turned = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d)}[dims]
    stride = 1 if padding == "same" else stride
    bias = pool.chance(0.7)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    turned_options = {
        "stride": stride,
        "padding": 1 if padding == 1 else 0,
        "dilation": dilation,
        "groups": groups,
    }
    way = pool.draw.choice(
        ["layer", "layer", "turned", "function", "function", "turned function", "causal"]
    )
    if way == "layer":
        return adopted(pool, layer(c, outputs, kernel, bias=bias, padding_mode=mode, **options))  # type: ignore[arg-type]
    if way == "turned":
        extra = pool.draw.choice([0, 1]) if stride > 1 else 0
        return adopted(
            pool, turned(c, outputs, kernel, bias=bias, output_padding=extra, **turned_options)
        )  # type: ignore[arg-type]
    weight = pool.weight(
        (c, outputs // groups, *kernel)
        if way == "turned function"
        else (outputs, c // groups, *kernel)
    )
    weights = [weight, *([pool.weight((outputs,))] if bias else [])]
    if way == "function":
        return Apply(
            f"F.conv{dims}d {options}",
            functools.partial(_convolve, function=function, options=options),
            *weights,
        )
    if way == "turned function":
        text = f"F.conv_transpose{dims}d {turned_options}"
        return Apply(
            text,
            functools.partial(_convolve, function=transposed, options=turned_options),
            *weights,
        )
    left = (kernel[-1] - 1) * dilation
    options = {"dilation": (1,) * (dims - 1) + (dilation,), "groups": groups}
    return Apply(
        f"causal conv{dims}d {options}",
        lambda x, *w: function(F.pad(x, (left, 0)), *w, **options),
        *weights,
    )


def _convolve(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, function: Function, options: dict[str, Any]
) -> Tensor:
    return function(x, w, b, **options)


LAYERS: list[tuple[float, Maker]] = [
    (8, dense),
    (3, from_the_left),
    (4, scale_or_shift),
    (3, scalars),
    (0.5, prelu),
    (0.5, bilinear),
    (3, norm),
    (7, convolution),
]
