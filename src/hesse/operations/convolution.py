"""Convolutions and transposed convolutions of one to three dimensions."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input

from hesse.derivation.calculus.algebra import add, total
from hesse.derivation.calculus.expression import Expression, Index
from hesse.derivation.sources.networks.view import View, times
from hesse.graph.graph import Node
from hesse.graph.local import Local
from hesse.graph.parameter_view import ParameterView, Views, input_of, view_of
from hesse.graph.sites import Arrangement, Gather, ParameterUse, Site
from hesse.operations.record import Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

# Rows of so few places are laid out entry by entry in less time than one after another, in
# float32; of images of so many entries the order is kept.
_SHORT, _FEW = 8, 2**14
# What the axes of an image are, for the letters of formulas.
SPATIAL = {1: ("token",), 2: ("row", "column"), 3: ("depth", "row", "column")}


def each(option: Any, rank: int) -> list[int]:
    """An option for every dimension."""
    # PyTorch takes one number for all dimensions, or a list of one.
    values = [option] if isinstance(option, int) else list(option)
    return values * rank if len(values) == 1 else values


# ---------------------------------------------------------------- how parameters enter


def _site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    x, weight, bias, stride, padding, dilation, groups = node.arguments(
        None, None, None, [1], [0], [1], 1
    )
    source, kernel = input_of(x, views), view_of(weight, views)
    if (
        source is None
        or len(shapes[source]) != len(shapes[weight.name])
        or isinstance(padding, str)
    ):  # without a batch
        return None
    if kernel is None:
        return _of_uses(node, source, groups, [], view_of(bias, views))
    (lead, channels), window = node.shape[:2], tuple(kernel.entries.shape[2:])
    entries = kernel.entries.reshape(groups, channels // groups, -1)

    def patches(a: Tensor) -> Tensor:
        columns = _windows(
            a.reshape(-1, *a.shape[-1 - len(window) :]), window, dilation, padding, stride
        )
        rows = columns.reshape(len(a), lead, groups, entries.shape[-1], -1)
        return rows.permute(0, 2, 1, 4, 3).flatten(2, 3)

    use = kernel.use(
        "convolution", entries, patches, _moves_of_patches(shapes[source], groups, patches)
    )
    return _of_uses(node, source, groups, [use], view_of(bias, views))


def _transposed_site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    x, weight, bias, stride, padding, _, groups, dilation = node.arguments(
        None, None, None, [1], [0], [0], 1, [1]
    )
    source, kernel = input_of(x, views), view_of(weight, views)
    if source is None or len(shapes[source]) != len(shapes[weight.name]):
        return None
    if kernel is None:
        return _of_uses(node, source, groups, [], view_of(bias, views))
    inputs, outputs, *window = kernel.entries.shape
    options = (each(option, len(window)) for option in (stride, dilation, padding))
    taken = _sources(shapes[source][2:], node.shape[2:], window, *options)
    entries = (
        kernel.entries.reshape(groups, inputs // groups, outputs, -1)
        .transpose(1, 2)
        .reshape(groups, outputs, -1)
    )

    def patches(a: Tensor) -> Tensor:
        places = F.pad(a.reshape(len(a), node.shape[0], groups, inputs // groups, -1), (1, 0))
        seen = places.index_select(-1, taken.flatten().to(a.device)).unflatten(
            -1, tuple(taken.shape)
        )
        return seen.permute(0, 2, 1, 4, 3, 5).flatten(4, 5).flatten(2, 3)

    use = kernel.use(
        "convolution", entries, patches, _moves_of_patches(shapes[source], groups, patches)
    )
    return _of_uses(node, source, groups, [use], view_of(bias, views))


def _of_uses(
    node: Node, source: str, groups: int, uses: list[ParameterUse], offset: ParameterView | None
) -> Site | None:
    """The site of a kernel's use, if there is one, and of a bias: an output for each channel of a
    group, at every place."""
    lead, channels, *places = node.shape
    if offset is not None:
        uses = [*uses, offset.shift((groups, channels // groups))]
    arrange = Arrangement(
        (lead, groups, channels // groups, math.prod(places)), ((1,), (0, 3), (2,))
    )
    return Site(node.name, source, arrange, tuple(uses)) if uses else None


def _windows(
    images: Tensor, window: tuple[int, ...], dilation: Any, padding: Any, stride: Any
) -> Tensor:
    """What each output place sees, (n, channels · window, places), laid out once. `F.unfold` takes
    two to eight times as long, image by image."""
    n, dims = len(images), len(window)
    dilation, padding, stride = (each(option, dims) for option in (dilation, padding, stride))
    if any(padding):
        images = F.pad(images, [pad for pad in reversed(padding) for _ in range(2)])
    seen = _seen(images, window, dilation, stride)
    rows = seen.shape[1 : 2 + dims].numel()
    small = seen.shape[-1] <= _SHORT and images.shape[1:].numel() <= _FEW
    if small and max(window) > 1 and images.dtype == torch.float32 and images.device.type == "cpu":
        order = _order(images.shape[1:], window, tuple(dilation), tuple(stride))
        return images.flatten(1).index_select(1, order).reshape(n, rows, -1)
    return seen.reshape(n, rows, -1)


def _seen(
    images: Tensor, window: Sequence[int], dilation: Sequence[int], stride: Sequence[int]
) -> Tensor:
    """The same as a view, (n, channels, *window, *places)."""
    for axis, (width, wide, step) in enumerate(zip(window, dilation, stride, strict=True), 2):
        images = images.unfold(axis, wide * (width - 1) + 1, step)[..., ::wide]
    places, within = range(2, 2 + len(window)), range(2 + len(window), 2 + 2 * len(window))
    return images.permute(0, 1, *within, *places)


@functools.lru_cache(maxsize=64)
def _order(
    image: torch.Size, window: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> Tensor:
    """The entries of an image in the order in which they are seen."""
    numbered = torch.arange(image.numel(), device="cpu").reshape(1, *image)
    return _seen(numbered, window, dilation, stride).flatten()


def _sources(
    inputs: Sequence[int],
    outputs: Sequence[int],
    window: Sequence[int],
    stride: list[int],
    dilation: list[int],
    pad: list[int],
) -> Tensor:
    """1 + the place u behind each output place s at each k of the window, s = stride · u + dilation
    · k − pad; 0 for none."""
    sources = torch.zeros(1, 1, dtype=torch.long, device="cpu")
    valid = torch.ones(1, 1, dtype=torch.bool, device="cpu")
    for length, reach, width, step, wide, off in zip(
        inputs, outputs, window, stride, dilation, pad, strict=True
    ):
        s, k = (
            torch.arange(reach, device="cpu")[:, None],
            torch.arange(width, device="cpu")[None, :],
        )
        u, left = (s + off - wide * k).div(step, rounding_mode="floor"), (s + off - wide * k) % step
        inside = (left == 0) & (u >= 0) & (u < length)
        # Axis by axis, the last one fastest.
        sources = (sources[:, None, :, None] * length + u[None, :, None, :]).reshape(
            len(sources) * reach, -1
        )
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).reshape(sources.shape)
    return torch.where(valid, sources + 1, 0)


def _moves_of_patches(
    shape: tuple[int, ...], groups: int, patches: Callable[[Tensor], Tensor]
) -> Gather:
    """How patches (n, g, s, (c, w)) take up the places u of an image (lead, channels, *u): each at
    most once for every w."""
    lead, channels, places = shape[0], shape[1], math.prod(shape[2:])
    # An image whose entries are their own numbers: its patches tell where each entry goes.
    numbered = (
        (torch.arange(lead * places, dtype=torch.float64, device="cpu") + 1)
        .reshape(lead, 1, *shape[2:])
        .expand(shape)
    )
    # (s, (c, w)) -> 1 + the place behind it; 0 for the padding.
    taken = patches(numbered.unsqueeze(0))[0, 0].long()
    positions, window = len(taken), taken.shape[1] * groups // channels
    # The position s whose patch has the place u at w; beyond the last where none has.
    position = torch.full((lead * places + 1, window), positions, device="cpu")
    rows = taken[:, :window]
    position.scatter_(0, rows, torch.arange(positions, device="cpu").unsqueeze(1).expand_as(rows))
    order = position[1:].reshape(-1)

    def spread(delta: Tensor) -> Tensor:
        padded = F.pad(delta, (0, 0, 0, 1))
        return padded.index_select(2, order.to(delta.device)).unflatten(2, (lead * places, window))

    # What a patch takes up lies where it lay in the image: moving is all that is done.
    return Gather(
        Arrangement((lead, groups, channels // groups, places), ((1,), (0, 3), (2,))), spread
    )


# ---------------------------------------------------------------- numbers


def _pull(
    dims: int, back: Callable[..., Tensor]
) -> Callable[[Local, Tensor], tuple[Tensor] | None]:
    def pull(op: Local, columns: Tensor) -> tuple[Tensor] | None:
        """The transposed convolution, for all samples and columns in one call."""
        x, weight, _, stride, padding, dilation, groups = op.node.arguments(
            None, None, None, [1], [0], [1], 1
        )
        if op.active != (x.name,) or op.is_batched(weight.name) or isinstance(padding, str):
            return None
        shape = op.value(x.name).shape[1:]
        images = columns.reshape(-1, *columns.shape[-1 - dims :])
        size = (len(images), *shape[-1 - dims :])
        kernel = op.value(weight.name)
        pulled = back(
            size, kernel, images, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        return (pulled.reshape(*columns.shape[:2], *shape),)

    return pull


def _pull_transposed(
    dims: int, forth: Callable[..., Tensor]
) -> Callable[[Local, Tensor], tuple[Tensor] | None]:
    def pull(op: Local, columns: Tensor) -> tuple[Tensor] | None:
        """The convolution that it is the transpose of, for all samples and columns in one call."""
        x, weight, _, stride, padding, _, groups, dilation = op.node.arguments(
            None, None, None, 1, 0, 0, 1, 1
        )
        if op.active != (x.name,) or op.is_batched(weight.name):
            return None
        images = columns.reshape(-1, *columns.shape[-1 - dims :])
        pulled = forth(images, op.value(weight.name), None, stride, padding, dilation, groups)
        return (pulled.reshape(*columns.shape[:2], *op.value(x.name).shape[1:]),)

    return pull


# ---------------------------------------------------------------- formulas


def _convolution(call: "Call") -> View:
    """z[o,u,v] = Σ W[o,c,k,l] x[c, 2u + k − 1, 2v + l − 1] + b[o]"""
    x, W, bias, stride, padding, dilation, groups = call.arguments(
        ("input", None),
        ("weight", None),
        ("bias", None),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("groups", 1),
    )
    weight, image = call.operand(W), call.build.operand(call.operand(x))
    rank = len(weight.axes) - 2
    strides, dilations = (each(option, rank) for option in (stride, dilation))
    kernel = weight.shape[2:]
    if padding == "same":
        # PyTorch pads the odd one at the end.
        pads = [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)]
    else:
        pads = [0] * rank if padding == "valid" else each(padding, rank)
    steps = list(zip(strides, dilations, pads, strict=True))
    return _correlation(call, weight, image, bias, steps, groups, transposed=False)


def _transposed_convolution(call: "Call") -> View:
    """z[o,s,r] = Σ W[c,o,k,l] x[c,u,v] over 2u + k − 1 = s, 2v + l − 1 = r"""
    x, W, bias, stride, padding, _, groups, dilation = call.arguments(
        ("input", None), ("weight", None), ("bias", None), ("stride", 1), ("padding", 0),
        ("output_padding", 0), ("groups", 1), ("dilation", 1),
    )  # fmt: skip
    weight, image = call.operand(W), call.build.operand(call.operand(x))
    rank = len(weight.axes) - 2
    steps = list(zip(*(each(option, rank) for option in (stride, dilation, padding)), strict=True))
    return _correlation(call, weight, image, bias, steps, groups, transposed=True)


def _correlation(
    call: "Call",
    weight: View,
    image: View,
    bias: Any,
    steps: Sequence[tuple[int, int, int]],
    groups: int,
    transposed: bool,
) -> View:
    build, rank = call.build, len(steps)
    batched = len(image.axes) == rank + 2
    for axis in range(len(image.axes) - rank - 1, len(image.axes)):
        image = build.axes.joined(image, axis)
    kernel = [f"k{d}" for d in range(rank)]
    inside = [f"in{d}" for d in range(rank)]
    grouped = groups > 1
    # Labels of the axes: o output channel, c input channel, c' and o' the ones within a group.
    labels = [
        (
            ["c'" if grouped else "c", "o", *kernel]
            if transposed
            else ["o", "c'" if grouped else "c", *kernel]
        )
    ]
    if transposed and grouped:
        labels = [["c", "o'", *kernel]]
    labels.append([*(["batch"] if batched else []), "c", *inside])
    expressions, along = build.axes.unified([weight, image], labels)
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
        value = times(
            value, _window(call, (u, s) if transposed else (s, u), k, stride, dilation, pad)
        )
    channels = along.get("o", ())
    if grouped:
        channels, condition = _groups(call, along, groups, transposed, taken)
        value = times(value, condition)
    value = total(times(value, expressions[1]), summed)
    axes = [*([along["batch"]] if batched else []), channels, *((u,) for u in out)]
    view = View(value, tuple(axes))
    if bias is not None:
        b = call.operand(bias)
        (z, added), joint = build.axes.unified(
            [view, b], [list(range(len(axes))), [len(axes) - rank - 1]]
        )
        view = View(add(z, added), tuple(joint[k] for k in range(len(axes))))
    return build.slot(view)


def _window(
    call: "Call", places: tuple[Index, Index], k: Index, stride: int, dilation: int, pad: int
) -> Expression:
    """[s = 2u + k − 1]; with the two places exchanged for a transposed convolution."""
    s, u = places
    return call.build.affine(s, -pad, [(stride, u), (dilation, k)])


def _groups(
    call: "Call", along: Any, groups: int, transposed: bool, taken: set[str]
) -> tuple[tuple[Index, ...], Any]:
    """The output channels, and the condition that ties them to the input channels of their
    group."""
    (c,) = along["c"]
    per = int(c.size) // groups
    if transposed:
        (inner,) = along["o'"]
        o = call.build.letters.new("output", int(inner.size) * groups, taken)
        C, N, K = (torch.arange(int(index.size)) for index in (c, inner, o))
        array = K[:, None, None] == int(inner.size) * (C[None, :, None] // per) + N[None, None, :]
        right = _in_group(per, int(inner.size))
        return (o,), call.build.condition(f"[{{0}} = {right}]", (o, c, inner), array)
    (o,), (inner,) = along["o"], along["c'"]
    outputs = int(o.size) // groups
    C, K, N = (torch.arange(int(index.size)) for index in (c, o, inner))
    array = C[:, None, None] == per * (K[None, :, None] // outputs) + N[None, None, :]
    right = _in_group(outputs, per)
    return (o,), call.build.condition(f"[{{0}} = {right}]", (c, o, inner), array)


def _in_group(per: int, inner: int) -> str:
    """A channel by its group, that of {1} where a group has so many, and its place {2} within."""
    near = "{1}" if per == 1 else f"⌊{{1}}/{per}⌋"
    return near if inner == 1 else f"{inner}{near} + {{2}}"


RECORDS = [
    *(
        Operation(
            name=f"conv{dims}d", aten=f"conv{dims}d", structure=Structure.MULTILINEAR, site=_site,
            kinds=("output", "channel"), pull=_pull(dims, back), formula=_convolution)
        for dims, back in ((1, conv1d_input), (2, conv2d_input), (3, conv3d_input))
    ),
    *(
        Operation(
            name=f"conv_transpose{dims}d", aten=f"conv_transpose{dims}d",
            structure=Structure.MULTILINEAR, site=_transposed_site, kinds=("channel", "output"),
            pull=_pull_transposed(dims, forth), formula=_transposed_convolution)
        for dims, forth in ((1, F.conv1d), (2, F.conv2d), (3, F.conv3d))
    ),
]  # fmt: skip
