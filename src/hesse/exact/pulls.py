"""Pulls worth writing out: Jᵀ of an operation on columns (n, k, *value), in as few and as large passes as can be.

Each gives the columns of its active inputs, (n, k, *input), or ``None`` where the call is one that it does not know.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from hesse.capture.rewrites import scale_shift
from hesse.exact.operations import RELABEL

if TYPE_CHECKING:
    from hesse.exact.propagation.rules import Operation

aten = torch.ops.aten


def _pull_linear(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    x, weight = op.node.args[0], op.node.args[1]
    if op.active != (x.name,) or op.is_batched(weight.name):
        return None
    # One large product; matmul would split a strided batch into many small ones.
    matrix = op.value(weight.name)
    return ((columns.reshape(-1, len(matrix)) @ matrix).reshape(*columns.shape[:-1], -1),)


def _pull_relabel(op: "Operation", columns: Tensor) -> tuple[Tensor]:
    return (columns.reshape(*columns.shape[:2], *op.value(op.active[0]).shape[1:]),)


def _pull_add(op: "Operation", columns: Tensor) -> tuple[Tensor, Tensor] | None:
    """x + y of one shape: the same columns go to both."""
    same = len(op.active) == 2 and all(tuple(op.value(name).shape[1:]) == op.node.shape for name in op.active)
    return (columns, columns) if same and not op.node.kwargs and len(op.node.args) == 2 else None


def _pull_transpose(op: "Operation", columns: Tensor) -> tuple[Tensor]:
    first, second = (axis % len(op.node.shape) for axis in op.node.args[1:3])
    return (columns.transpose(first + 2, second + 2),)


def _pull_permute(op: "Operation", columns: Tensor) -> tuple[Tensor]:
    axes = [axis % len(op.node.shape) for axis in op.node.args[1]]
    return (columns.permute(0, 1, *(2 + axes.index(place) for place in range(len(axes)))),)


def _pull_conv2d(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """The transposed convolution, for all samples and columns in one call."""
    x, weight, _, stride, padding, dilation, groups = op.node.arguments(None, None, None, [1], [0], [1], 1)
    if op.active != (x.name,) or op.is_batched(weight.name) or isinstance(padding, str):
        return None
    shape = op.value(x.name).shape[1:]
    images = columns.reshape(-1, *columns.shape[-3:])
    pulled = conv2d_input(
        (len(images), *shape[-3:]),
        op.value(weight.name),
        images,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return (pulled.reshape(*columns.shape[:2], *shape),)


def _pull_avg_pool2d(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """Windows that tile the image: every entry goes to its window, divided by the window's size."""
    shape = op.value(op.active[0]).shape[1:]
    window = _pair(op.node.args[1])
    stride = _pair(op.node.args[2]) if len(op.node.args) > 2 and op.node.args[2] else window
    tiled = stride == window and len(op.node.args) <= 3 and all(n % w == 0 for n, w in zip(shape[-2:], window, strict=True))
    if not tiled:
        return None
    *lead, rows, across = columns.shape
    spread = (columns / (window[0] * window[1]))[..., :, None, :, None].expand(*lead, rows, window[0], across, window[1])
    return (spread.reshape(*columns.shape[:2], *shape),)


def _pair(option: Any) -> tuple[int, int]:
    values = tuple(option) if isinstance(option, list | tuple) else (option, option)
    return (values[0], values[-1])


def _pull_cross_entropy(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """w (p − e_y): the derivative in the logits of one class target."""
    known = one_class(op)
    if known is None:
        return None
    p, weight, one_hot = known
    slope = weight * (p - one_hot)
    return (columns.reshape(*columns.shape[:2], *(1,) * (p.ndim - 1)) * slope.unsqueeze(1),)


def one_class(op: "Operation") -> tuple[Tensor, Tensor, Tensor] | None:
    """p, and weight and class as wide as it, (n, 1, classes, ...ones), of a cross entropy with one class for each sample."""
    logits, target, weight, reduction, ignore, smoothing = op.node.arguments(None, None, None, 1, -100, 0.0)
    z, y = op.value(logits.name), op.value(target.name)
    single = z.ndim >= 3 and z[0].numel() == z.shape[2] and y[0].numel() == 1
    if op.active != (logits.name,) or not single or not op.is_batched(target.name):
        return None
    # A mean divides by the class weight again; only a sum keeps it.
    if y.is_floating_point() or smoothing or (weight is not None and reduction != 2):
        return None
    kept, y = (y != ignore).to(z.dtype), y.clamp(min=0)
    kept = kept if weight is None else kept * op.value(weight.name)[y]
    one_hot = F.one_hot(y.flatten(), z.shape[2]).reshape(z.shape)
    return F.softmax(z, dim=2), kept.reshape(-1, *(1,) * (z.ndim - 1)), one_hot


def _pull_matmul(op: "Operation", columns: Tensor) -> tuple[Tensor, ...] | None:
    """x y with the same leading axes: columns yᵀ for x and xᵀ columns for y, all columns in one product for each matrix."""
    names = [argument.name for argument in op.node.args]
    x, y = (op.value(name) for name in names)
    if not all(op.is_batched(name) for name in names) or names[0] == names[1] or x.shape[:-2] != y.shape[:-2] or x.ndim < 3:
        return None
    (n, k), lead, (t, d), s = columns.shape[:2], x.shape[1:-2], columns.shape[-2:], x.shape[-1]
    lefts, rights = (matrix.reshape(-1, *matrix.shape[-2:]).mT for matrix in (x, y))
    made = []
    for name in op.active:
        if name == names[0]:
            rows = columns.movedim(1, -3).reshape(-1, k * t, d)
            made.append(torch.bmm(rows, rights).view(n, *lead, k, t, s).movedim(-3, 1))
        else:
            rows = columns.movedim(1, -2).reshape(-1, t, k * d)
            made.append(torch.bmm(lefts, rows).view(n, *lead, s, k, d).movedim(-2, 1))
    return tuple(made)


def _pull_softmax(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """w ∘ (c − Σ w c) along the axis."""
    axis = op.node.args[1] % len(op.node.shape) + 2
    weighed = columns * op.value(op.node.name).unsqueeze(1)
    return (weighed.addcmul_(weighed.sum(axis, keepdim=True), op.value(op.node.name).unsqueeze(1), value=-1),)


def _pull_layer_norm(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """(c − mean c − y mean(y c)) / σ over the normalised axes, y = (x − μ) / σ being the value."""
    known = normalised(op)
    if known is None:
        return None
    y, rate = (part.unsqueeze(1) for part in known)
    rows = columns.reshape(*columns.shape[:2], *y.shape[2:])
    centred = rows - rows.mean(-1, keepdim=True)
    centred.addcmul_(y, (y * rows).mean(-1, keepdim=True), value=-1).mul_(rate)
    return (centred.reshape(columns.shape),)


def normalised(op: "Operation") -> tuple[Tensor, Tensor] | None:
    """y (n, rows, width) and 1 / σ (n, rows, 1) of a layer normalisation without weights."""
    x, shape, weight, bias, eps = op.node.arguments(None, None, None, None, 1e-5)
    if weight is not None or bias is not None:
        return None
    width = torch.Size(shape).numel()
    rows = op.value(x.name).reshape(len(op.value(x.name)), -1, width)
    rate = (rows.var(-1, correction=0, keepdim=True) + eps).rsqrt()
    return op.value(op.node.name).reshape(rows.shape), rate


def _pull_scale_shift(op: "Operation", columns: Tensor) -> tuple[Tensor] | None:
    """x ∘ scale + shift, scale and shift the same for all samples."""
    x, scale, shift, axis = op.node.args
    if op.active != (x.name,) or any(vector is not None and op.is_batched(vector.name) for vector in (scale, shift)):
        return None
    if scale is None:
        return (columns,)
    vector = op.value(scale.name)
    trailing = len(op.node.shape) - axis % len(op.node.shape) - vector.ndim
    return (columns * vector.reshape(vector.shape + (1,) * trailing),)


PULLS: dict[Any, Callable[["Operation", Tensor], tuple[Tensor, ...] | None]] = {
    aten.linear: _pull_linear,
    aten.cross_entropy_loss: _pull_cross_entropy,
    aten.add: _pull_add,
    aten.transpose: _pull_transpose,
    aten.permute: _pull_permute,
    aten.conv2d: _pull_conv2d,
    aten.avg_pool2d: _pull_avg_pool2d,
    aten.matmul: _pull_matmul,
    aten.softmax: _pull_softmax,
    aten.layer_norm: _pull_layer_norm,
    scale_shift: _pull_scale_shift,
    **dict.fromkeys(RELABEL, _pull_relabel),
}
# Written out, but with a Jacobian of its own for every sample, through which many columns are better not carried.
COSTLY = {aten.matmul, aten.softmax, aten.layer_norm}
