"""Pooling and resizing of images."""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.derivation.calculus.algebra import scale, total
from hesse.derivation.calculus.expression import Entry, Index, of
from hesse.derivation.sources.networks.view import View, times
from hesse.graph.local import Local
from hesse.operations.convolution import SPATIAL, each
from hesse.operations.record import Operation, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call


# A row of windows with no more entries gets its averages from a matrix, in a fraction of the time
# of what goes from window to window.
_SHORT = 128
# A window of so many entries along an axis is summed slice by slice.
_FEW = 4


def _spreading(window: Sequence[int], windows: int, like: Tensor) -> Tensor:
    """The matrix that spreads averages over a row of windows, each as many times as it is high."""
    high, wide = window
    matrix = like.new_zeros(windows, high, windows, wide)
    matrix.diagonal(dim1=0, dim2=2).fill_(1 / (high * wide))
    return matrix.view(windows, -1)


def averages(images: Tensor, window: Sequence[int]) -> Tensor:
    """Averages over windows that tile images (..., rows, across).

    Examples:
        >>> averages(torch.tensor([[1.0, 1.0, 2.0, 2.0]]), (1, 2))
        tensor([[1., 2.]])
    """
    *lead, rows, across = images.shape
    high, wide = window
    lines = _summed(images.reshape(*lead, rows // high, high, across), -2)
    pooled = _summed(lines.reshape(*lead, rows // high, across // wide, wide), -1)
    return pooled / (high * wide)


def _summed(values: Tensor, axis: int) -> Tensor:
    """The sum along an axis; a short one slice by slice, which is several times as fast."""
    if values.shape[axis] > _FEW:
        return values.sum(axis)
    return functools.reduce(torch.add, values.unbind(axis))


def spread(columns: Tensor, window: Sequence[int]) -> Tensor:
    """The way back: every entry (..., rows, across) goes to its window, divided by the window's
    size.

    Examples:
        >>> spread(torch.tensor([[2.0, 4.0]]), (1, 2))
        tensor([[1., 1., 2., 2.]])
    """
    *lead, rows, across = columns.shape
    high, wide = window
    if high * across * wide > _SHORT:
        # Along the rows by `stack`: what is expanded there is copied entry by entry.
        lines = torch.stack([columns / (high * wide)] * wide, -1).flatten(-2)
        lines = lines.unsqueeze(-2).expand(*lead, rows, high, across * wide)
    else:
        lines = columns.reshape(-1, across) @ _spreading(window, across, columns)
    return lines.reshape(*lead, rows * high, across * wide)


def _pull_average(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """By windows that tile the image."""
    shape = op.value(op.active[0]).shape[1:]
    window = each(op.node.args[1], 2)
    stride = each(op.node.args[2], 2) if len(op.node.args) > 2 and op.node.args[2] else window
    tiled = (
        stride == window
        and len(op.node.args) <= 3
        and all(n % w == 0 for n, w in zip(shape[-2:], window, strict=True))
    )
    # Windows that overlap, or leave entries out, go the general way.
    if not tiled:
        return None
    return (spread(columns, window),)


def _pull_maximum(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """Every entry goes to the place that its window's maximum was taken from, the same for all
    columns."""
    x = op.value(op.active[0])
    _, size, stride, padding, dilation, ceil = op.node.arguments(None, None, [], 0, 1, False)
    if x.ndim < 4:
        return None
    images = x.reshape(-1, *x.shape[-3:])
    _, places = F.max_pool2d(
        images, size, stride or size, padding, dilation, ceil, return_indices=True
    )
    n, k = columns.shape[:2]
    lead = (n, k, len(images) // n * images.shape[1])
    pulled = columns.new_zeros(*lead, images.shape[-1] * images.shape[-2])
    # Windows may overlap.
    pulled.scatter_add_(
        3,
        places.reshape(n, 1, lead[2], -1).expand(-1, k, -1, -1),
        columns.reshape(*lead, -1),
    )
    return (pulled.reshape(n, k, *x.shape[1:]),)


def _average(call: "Call") -> View | None:
    """a[c,u,v] = Σ P[u,s] Q[v,r] x[c,s,r]: each axis is averaged by itself."""
    name = call.record.name
    view, rank = call.build.operand(call.operand(call.node.args[0])), int(name[-2])
    first = len(view.axes) - rank
    # The matrix of one axis, from pooling the unit vectors.
    if "adaptive" in name:
        windows: list[Tensor] = [
            F.adaptive_avg_pool1d(torch.eye(n, dtype=torch.float64)[None], size)[0]
            for n, size in zip(view.shape[first:], call.node.shape[first:], strict=True)
        ]
    else:
        _, size, stride, padding, ceil, include, divisor = call.arguments(
            ("self", None), ("kernel_size", None), ("stride", []), ("padding", 0), ("ceil_mode",
            False), ("count_include_pad", True), ("divisor_override", None),
        )  # fmt: skip
        if divisor is not None:
            return None
        sizes = each(size, rank)
        windows = [
            F.avg_pool1d(torch.eye(n, dtype=torch.float64)[None], width, step, pad, ceil, include)[
                0
            ]
            for n, width, step, pad in zip(
                view.shape[first:],
                sizes,
                each(stride, rank) if stride else sizes,
                each(padding, rank),
                strict=True,
            )
        ]
    expression, axes = view.expression, list(view.axes)
    taken = {index.name for index in view.indices}
    for d, window in enumerate(windows):
        view = call.build.axes.joined(View(expression, tuple(axes)), first + d)
        expression, axes = view.expression, list(view.axes)
        (s,) = axes[first + d]
        if window.shape[1] == 1 and bool((window == window[0, 0]).all()):
            expression, axes[first + d] = (
                scale(total(expression, (s,)), Fraction(1, int(s.size))),
                (),
            )
            continue
        u = call.build.letters.known(SPATIAL[rank][d], window.shape[1], taken)
        taken.add(u.name)
        expression = total(times(_share(call, window, s, u), expression), (s,))
        axes[first + d] = (u,)
    return View(expression, tuple(axes))


def _share(call: "Call", window: Tensor, s: Index, u: Index) -> Any:
    """How much of place s goes into place u: 1/2 [2u ≤ s < 2u + 2] where all windows are alike."""
    inside = window > 0
    counts, starts = inside.sum(0), inside.double().argmax(0)
    width, step = int(counts[0]), int(starts[1] - starts[0]) if len(starts) > 1 else 1
    alike = bool(
        (counts == width).all() and (starts == step * torch.arange(len(starts)) + starts[0]).all()
    )
    if (
        not alike
        or abs(float(window[inside].min() - window.max())) > 1e-12
        or abs(float(window.max()) * width - 1) > 1e-12
    ):
        return of(Entry(call.build.constant("P", window), (s, u)))
    begin = f"{'' if step == 1 else step}{{1}}" + (f" + {int(starts[0])}" if int(starts[0]) else "")
    end = f"{'' if step == 1 else step}{{1}} + {int(starts[0]) + width}"
    return scale(
        call.build.condition(f"[{begin} ≤ {{0}} < {end}]", (s, u), inside.double()),
        Fraction(1, width),
    )


def _averages(names: str, **more: Any) -> list[Operation]:
    return [
        Operation(name=name, aten=name, structure=Structure.LINEAR, formula=_average, **more)
        for name in names.split()
    ]


def _of(structure: Structure, names: str) -> list[Operation]:
    return [Operation(name=name, aten=name, structure=structure) for name in names.split()]


RECORDS = [
    *_averages("avg_pool2d", pull=_pull_average),
    *_averages("avg_pool1d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"),
    *_of(
        Structure.LINEAR,
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d"
        " upsample_bilinear2d upsample_trilinear3d im2col",
    ),
    *_of(
        Structure.PIECEWISE_LINEAR,
        "max_pool1d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    ),
    Operation(
        name="max_pool2d", aten="max_pool2d", structure=Structure.PIECEWISE_LINEAR,
        pull=_pull_maximum, costly=True),
]  # fmt: skip
