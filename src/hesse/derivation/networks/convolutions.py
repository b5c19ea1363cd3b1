"""Rules for convolution and average pooling, by conditions on places: ``[s = 2u + k − 1]``."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.derivation.algebra import add, scale, total
from hesse.derivation.expression import Entry, Expression, Index, of
from hesse.derivation.networks.registry import Call, rule
from hesse.derivation.networks.view import View, times

SPATIAL = {1: ("token",), 2: ("row", "column"), 3: ("depth", "row", "column")}


@rule("conv1d conv2d conv3d")
def _convolution(call: Call) -> View:
    """z[o,u,v] = Σ W[o,c,k,l] x[c, 2u + k − 1, 2v + l − 1] + b[o]"""
    x, W, bias, stride, padding, dilation, groups = call.arguments(
        ("input", None), ("weight", None), ("bias", None), ("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)
    )
    weight, image = call.operand(W), call.build.operand(call.operand(x))
    rank = len(weight.axes) - 2
    strides, dilations = (_each(option, rank) for option in (stride, dilation))
    kernel = weight.shape[2:]
    if padding == "same":
        # PyTorch pads the odd one at the end.
        pads = [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)]
    else:
        pads = [0] * rank if padding == "valid" else _each(padding, rank)
    steps = list(zip(strides, dilations, pads, strict=True))
    return _correlation(call, weight, image, bias, steps, groups, transposed=False)


@rule("conv_transpose1d conv_transpose2d conv_transpose3d")
def _transposed_convolution(call: Call) -> View:
    """z[o,s,r] = Σ W[c,o,k,l] x[c,u,v] over 2u + k − 1 = s, 2v + l − 1 = r"""
    x, W, bias, stride, padding, _, groups, dilation = call.arguments(
        ("input", None), ("weight", None), ("bias", None), ("stride", 1), ("padding", 0), ("output_padding", 0), ("groups", 1),
        ("dilation", 1),
    )  # fmt: skip
    weight, image = call.operand(W), call.build.operand(call.operand(x))
    rank = len(weight.axes) - 2
    steps = list(zip(*(_each(option, rank) for option in (stride, dilation, padding)), strict=True))
    return _correlation(call, weight, image, bias, steps, groups, transposed=True)


def _each(option: Any, rank: int) -> list[int]:
    values = [option] if isinstance(option, int) else list(option)
    return values * rank if len(values) == 1 else values


def _correlation(
    call: Call, weight: View, image: View, bias: Any, steps: Sequence[tuple[int, int, int]], groups: int, transposed: bool
) -> View:
    build, rank = call.build, len(steps)
    batched = len(image.axes) == rank + 2
    for axis in range(len(image.axes) - rank - 1, len(image.axes)):
        image = build.joined(image, axis)
    kernel = [f"k{d}" for d in range(rank)]
    inside = [f"in{d}" for d in range(rank)]
    grouped = groups > 1
    labels = [["c'" if grouped else "c", "o", *kernel] if transposed else ["o", "c'" if grouped else "c", *kernel]]
    if transposed and grouped:
        labels = [["c", "o'", *kernel]]
    labels.append([*(["batch"] if batched else []), "c", *inside])
    expressions, along = build.unified([weight, image], labels)
    taken = {index.name for axis in along.values() for index in axis}
    value = expressions[0]
    out: list[Index] = []
    summed = [
        index
        for label in dict.fromkeys(label for axes in labels for label in axes)
        if label not in ("o", "batch")
        for index in along[label]
    ]
    sizes = call.node.shape[len(call.node.shape) - rank :]
    for d, (stride, dilation, pad) in enumerate(steps):
        (k,), (s,) = along[f"k{d}"], along[f"in{d}"]
        u = build.letters.known(SPATIAL[rank][d], sizes[d], taken)
        taken.add(u.name)
        out.append(u)
        value = times(value, _window(call, (u, s) if transposed else (s, u), k, stride, dilation, pad))
    channels = along.get("o", ())
    if grouped:
        channels, condition = _groups(call, along, groups, transposed, taken)
        value = times(value, condition)
    value = total(times(value, expressions[1]), summed)
    axes = [*([along["batch"]] if batched else []), channels, *((u,) for u in out)]
    view = View(value, tuple(axes))
    if bias is not None:
        b = call.operand(bias)
        (z, added), found = build.unified([view, b], [list(range(len(axes))), [len(axes) - rank - 1]])
        view = View(add(z, added), tuple(found[k] for k in range(len(axes))))
    return build.slot(view)


def _window(call: Call, places: tuple[Index, Index], k: Index, stride: int, dilation: int, pad: int) -> Expression:
    """[s = 2u + k − 1]; with the two places exchanged for a transposed convolution."""
    s, u = places
    return call.build.affine(s, -pad, [(stride, u), (dilation, k)])


def _groups(call: Call, along: Any, groups: int, transposed: bool, taken: set[str]) -> tuple[tuple[Index, ...], Any]:
    """The output channels, and the condition that ties them to the input channels of their group."""
    (c,) = along["c"]
    per = int(c.size) // groups
    if transposed:
        (inner,) = along["o'"]
        o = call.build.letters.new("output", int(inner.size) * groups, taken)
        C, N, K = (torch.arange(int(index.size)) for index in (c, inner, o))
        array = K[:, None, None] == int(inner.size) * (C[None, :, None] // per) + N[None, None, :]
        shown = f"[{{0}} = {inner.size}⌊{{1}}/{per}⌋ + {{2}}]"
        return (o,), call.build.condition(shown, (o, c, inner), array)
    (o,), (inner,) = along["o"], along["c'"]
    outputs = int(o.size) // groups
    C, K, N = (torch.arange(int(index.size)) for index in (c, o, inner))
    array = C[:, None, None] == per * (K[None, :, None] // outputs) + N[None, None, :]
    near = "{1}" if outputs == 1 else f"⌊{{1}}/{outputs}⌋"
    right = f"{'' if per == 1 else per}{near}" + ("" if per == 1 else " + {2}")
    return (o,), call.build.condition(f"[{{0}} = {right}]", (c, o, inner), array)


@rule("avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d")
def _average(call: Call) -> View | None:
    """a[c,u,v] = Σ P[u,s] Q[v,r] x[c,s,r]: each axis is averaged by itself."""
    name = str(call.node.op).split(".")[1]
    view, rank = call.build.operand(call.operand(call.node.args[0])), int(name[-2])
    first = len(view.axes) - rank
    if "adaptive" in name:
        windows: list[Tensor] = [
            F.adaptive_avg_pool1d(torch.eye(n, dtype=torch.float64)[None], size)[0]
            for n, size in zip(view.shape[first:], call.node.shape[first:], strict=True)
        ]
    else:
        _, size, stride, padding, ceil, include, divisor = call.arguments(
            ("self", None), ("kernel_size", None), ("stride", []), ("padding", 0), ("ceil_mode", False),
            ("count_include_pad", True), ("divisor_override", None),
        )  # fmt: skip
        if divisor is not None:
            return None
        sizes = _each(size, rank)
        windows = [
            F.avg_pool1d(torch.eye(n, dtype=torch.float64)[None], width, step, pad, ceil, include)[0]
            for n, width, step, pad in zip(
                view.shape[first:], sizes, _each(stride, rank) if stride else sizes, _each(padding, rank), strict=True
            )
        ]
    expression, axes = view.expression, list(view.axes)
    taken = {index.name for index in view.indices}
    for d, window in enumerate(windows):
        view = call.build.joined(View(expression, tuple(axes)), first + d)
        expression, axes = view.expression, list(view.axes)
        (s,) = axes[first + d]
        if window.shape[1] == 1 and bool((window == window[0, 0]).all()):
            expression, axes[first + d] = scale(total(expression, (s,)), Fraction(1, int(s.size))), ()
            continue
        u = call.build.letters.known(SPATIAL[rank][d], window.shape[1], taken)
        taken.add(u.name)
        expression = total(times(_share(call, window, s, u), expression), (s,))
        axes[first + d] = (u,)
    return View(expression, tuple(axes))


def _share(call: Call, window: Tensor, s: Index, u: Index) -> Any:
    """How much of place s goes into place u: 1/2 [2u ≤ s < 2u + 2] where all windows are alike."""
    inside = window > 0
    counts, starts = inside.sum(0), inside.double().argmax(0)
    width, step = int(counts[0]), int(starts[1] - starts[0]) if len(starts) > 1 else 1
    alike = bool((counts == width).all() and (starts == step * torch.arange(len(starts)) + starts[0]).all())
    if not alike or abs(float(window[inside].min() - window.max())) > 1e-12 or abs(float(window.max()) * width - 1) > 1e-12:
        return of(Entry(call.build.constant("P", window), (s, u)))
    begin = f"{'' if step == 1 else step}{{1}}" + (f" + {int(starts[0])}" if int(starts[0]) else "")
    end = f"{'' if step == 1 else step}{{1}} + {int(starts[0]) + width}"
    return scale(call.build.condition(f"[{begin} ≤ {{0}} < {end}]", (s, u), inside.double()), Fraction(1, width))
