"""Recognition of sites: for each operation that parameters enter linearly, the site it makes.

One function for each operation, listed in `RECOGNISE`. See `hesse.graph.sites` for the form that all are brought to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.capture.rewrites import scale_shift
from hesse.graph.graph import Graph, Node, Ref
from hesse.graph.sites import PLAIN, Arrangement, Moves, Site, Slot

aten = torch.ops.aten

# ---------------------------------------------------------------- views of parameters

# Operations that only move the entries of a parameter about.
_MOVES = {
    aten.t.default, aten.numpy_T.default, aten.transpose.int, aten.permute.default, aten.view.default, aten.reshape.default,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.select.int, aten.slice.Tensor, aten.flatten.using_ints,
    aten.clone.default, aten.contiguous.default, aten.alias.default, aten.mT.default, aten.detach_.default, aten.movedim.int,
}  # fmt: skip
_SPLITS = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int}


@dataclass(frozen=True)
class View:
    parameter: str
    entries: Tensor  # flat entry of the parameter behind each entry of the view
    size: int  # how many entries the parameter has
    value: str  # the value of the graph that is the view


def parameter_views(graph: Graph) -> dict[str, View]:
    """The values that are a parameter or a view of one; an empty one is none, for it has no derivatives."""
    views = {}
    for value, name in graph.parameters.items():
        size = math.prod(graph.shapes[value])
        if size:
            views[value] = View(name, torch.arange(size, device="cpu").reshape(graph.shapes[value]), size, value)
    for node in graph.nodes:
        base = getattr(node.op, "op", node.op)
        if len(node.inputs) == 1 and node.inputs[0] in views and (node.op in _MOVES or base in _SPLITS):
            source = views[node.inputs[0]]
            views[node.name] = View(source.parameter, node.evaluate({node.inputs[0]: source.entries}), source.size, node.name)
    return views


def _slot(
    kind: str, view: View, entries: Tensor, features: Callable[[Tensor], Tensor] | None, moves: Moves | None = None
) -> Slot:
    """A slot whose entries (g, o, i) are given; they need an index unless they are the whole parameter in its own order."""
    g, o, i = entries.shape
    flat = entries.reshape(-1)
    plain = flat.numel() == view.size and bool((flat == torch.arange(view.size, device="cpu")).all())
    return Slot(view.parameter, kind, None if plain else flat, (g, o, i), features, moves=moves, use=view.value)


def _bias_slot(view: View, shape: tuple[int, int]) -> Slot:
    return _slot("shift", view, view.entries.reshape(*shape, 1), None)


# ---------------------------------------------------------------- recognition, one function for each operation


def _name(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


def _input(argument: Any, views: dict[str, View]) -> str | None:
    """The name of an input that is a value of the sample, not a parameter."""
    name = _name(argument)
    return None if name is None or name in views else name


def _dense(node: Node, x: Any, weight: View | None, bias: View | None, views: dict[str, View]) -> Site | None:
    """z = x Wᵀ + b over the last axis; ``weight`` views W as (o, i)."""
    source = _input(x, views)
    o = node.shape[-1]
    positions = math.prod(node.shape[:-1])
    arrange = Arrangement((1, positions, o), PLAIN)
    slots = []
    if weight is not None and source is not None:
        i = weight.entries.shape[-1]
        moves = Moves(Arrangement((1, positions, i), PLAIN))
        slots.append(_slot("dense", weight, weight.entries.unsqueeze(0), lambda a: a.reshape(len(a), 1, positions, i), moves))
    if bias is not None and bias.entries.numel() != o:  # one number for all outputs
        return None
    if bias is not None:
        slots.append(_bias_slot(bias, (1, o)))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _linear(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    x, weight, bias = node.arguments(None, None, None)
    return _dense(node, x, views.get(_name(weight) or ""), views.get(_name(bias) or ""), views)


def _transposed(view: View | None) -> View | None:
    return None if view is None or view.entries.ndim != 2 else replace(view, entries=view.entries.T)


def _matmul(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    weight = views.get(_name(right) or "")
    if weight is not None and weight.entries.ndim == 2:
        return _dense(node, left, _transposed(weight), None, views)
    weight, x = views.get(_name(left) or ""), _input(right, views)
    if weight is None or x is None or weight.entries.ndim != 2 or len(shapes[x]) != 2:
        return None
    # z = W x with x (i, t): the outputs are the rows of z.
    (o, i), t = weight.entries.shape, node.shape[-1]
    arrange = Arrangement((1, o, t), ((0,), (2,), (1,)))
    moves = Moves(Arrangement((1, i, t), ((0,), (2,), (1,))))
    slot = _slot("dense", weight, weight.entries[None], lambda a: a.mT.reshape(len(a), 1, t, i), moves)
    return Site(node.name, x, arrange, (slot,))


def _addmm(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    bias, x, weight = node.args[:3]
    seen = views.get(_name(bias) or "")
    return _dense(node, x, _transposed(views.get(_name(weight) or "")), seen if seen and seen.entries.ndim == 1 else None, views)


def _embedding(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    table, tokens = views.get(_name(node.args[0]) or ""), _name(node.args[1])
    padding = node.args[2] if len(node.args) > 2 else -1
    if table is None or tokens is None or any(node.args[3:]):
        return None
    vocabulary, width = table.entries.shape
    positions = math.prod(node.shape[:-1])

    def one_hot(indices: Tensor) -> Tensor:
        rows = F.one_hot(indices.reshape(len(indices), 1, positions), vocabulary)
        if padding >= 0:  # the padding row takes no derivative
            rows = rows * (torch.arange(vocabulary, device=rows.device) != padding)
        return rows

    arrange = Arrangement((1, positions, width), PLAIN)
    return Site(node.name, tokens, arrange, (_slot("embedding", table, table.entries.T.unsqueeze(0), one_hot),))


def _convolution(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    dims = len(node.shape) - 2
    x, weight, bias, stride, padding, dilation, groups = node.arguments(None, None, None, [1], [0], [1], 1)
    source, kernel, offset = _input(x, views), views.get(_name(weight) or ""), views.get(_name(bias) or "")
    if source is None or dims not in (1, 2) or len(shapes[source]) != dims + 2 or isinstance(padding, str):
        return None
    channels, positions = node.shape[1], math.prod(node.shape[2:])
    lead = node.shape[0]
    arrange = Arrangement((lead, groups, channels // groups, positions), ((1,), (0, 3), (2,)))
    slots = []
    if kernel is not None:
        window = tuple(kernel.entries.shape[2:])
        options = [_pad_to_2d(option, dims, fill) for option, fill in ((window, 1), (dilation, 1), (padding, 0), (stride, 1))]
        entries = kernel.entries.reshape(groups, channels // groups, -1)

        def patches(a: Tensor) -> Tensor:
            images = a.reshape(-1, *a.shape[-1 - dims :])
            columns = F.unfold(images if dims == 2 else images.unsqueeze(-2), *options)
            rows = columns.reshape(len(a), lead, groups, entries.shape[-1], positions)
            return rows.permute(0, 2, 1, 4, 3).reshape(len(a), groups, lead * positions, -1)

        slots.append(_slot("convolution", kernel, entries, patches, _moves_of_patches(shapes[source], groups, patches)))
    if offset is not None:
        slots.append(_bias_slot(offset, (groups, channels // groups)))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _moves_of_patches(shape: tuple[int, ...], groups: int, patches: Callable[[Tensor], Tensor]) -> Moves:
    """How patches (n, g, s, (c, w)) take up the places u of an image (lead, channels, *u): each at most once for every w."""
    lead, channels, places = shape[0], shape[1], math.prod(shape[2:])
    numbered = (torch.arange(lead * places, dtype=torch.float64, device="cpu") + 1).reshape(lead, 1, *shape[2:]).expand(shape)
    taken = patches(numbered.unsqueeze(0))[0, 0].long()  # 1 + place behind (s, (c, w)); 0 for the padding
    positions, window = len(taken), taken.shape[1] * groups // channels
    # The position s whose patch has the place u at w; beyond the last where none has.
    position = torch.full((lead * places + 1, window), positions, device="cpu")
    rows = taken[:, :window]
    position.scatter_(0, rows, torch.arange(positions, device="cpu").unsqueeze(1).expand_as(rows))
    order = position[1:].reshape(-1)

    def spread(delta: Tensor) -> Tensor:
        padded = F.pad(delta, (0, 0, 0, 1))
        return padded.index_select(2, order.to(delta.device)).unflatten(2, (lead * places, window))

    return Moves(Arrangement((lead, groups, channels // groups, places), ((1,), (0, 3), (2,))), spread)


def _pad_to_2d(option: Any, dims: int, fill: int) -> tuple[int, int]:
    values = tuple(option) if isinstance(option, tuple | list) else (option,)
    values = values * dims if len(values) == 1 else values
    return (fill, *values) if dims == 1 else values  # type: ignore[return-value]


def _along(shape: tuple[int, ...], entries: Tensor) -> Arrangement:
    """Arrange z by the axes that a broadcast parameter has: those are groups, the others positions."""
    full = (1,) * (len(shape) - entries.ndim) + tuple(entries.shape)
    own = [axis for axis, n in enumerate(full) if n > 1]
    shared = [axis for axis, n in enumerate(full) if n == 1]
    return Arrangement(shape, (tuple(own), tuple(shared), ()))


def _elementwise_site(
    node: Node,
    x: Any,
    scale: View | None,
    shift: View | None,
    views: dict[str, View],
    entries: Tensor,
    shapes: dict[str, tuple[int, ...]],
) -> Site | None:
    source = _input(x, views)
    if any(n not in (1, m) for n, m in zip(reversed(entries.shape), reversed(node.shape), strict=False)) or entries.ndim > len(
        node.shape
    ):
        return None
    arrange = _along(node.shape, entries)
    slots = []
    if scale is not None and source is not None:

        def aligned(a: Tensor) -> Tensor:
            wide = a.reshape(len(a), *(1,) * (len(node.shape) - a.ndim + 1), *a.shape[1:]).expand(len(a), *node.shape)
            return arrange(wide, 1)

        moves = Moves(arrange) if shapes[source] == node.shape else None
        slots.append(_slot("scale", scale, scale.entries.reshape(-1, 1, 1), aligned, moves))
    if shift is not None:
        slots.append(_slot("shift", shift, shift.entries.reshape(-1, 1, 1), None))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _multiply(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    for x, weight in ((left, right), (right, left)):
        view = views.get(_name(weight) or "")
        if view is not None and _input(x, views) is not None:
            return _elementwise_site(node, x, view, None, views, view.entries, shapes)
    return None


def _add(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    if node.kwargs.get("alpha", 1) != 1:
        return None
    for x, weight in ((left, right), (right, left)):
        view = views.get(_name(weight) or "")
        if view is not None and _name(x) not in views:
            return _elementwise_site(node, x, None, view, views, view.entries, shapes)
    return None


def _scale_shift(node: Node, views: dict[str, View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    x, scale, shift, axis = node.args
    seen = [views.get(_name(vector) or "") for vector in (scale, shift)]
    given = next((view for view in seen if view is not None), None)
    if given is None:
        return None
    trailing = len(node.shape) - axis % len(node.shape) - given.entries.ndim
    entries = given.entries.reshape(tuple(given.entries.shape) + (1,) * trailing)
    return _elementwise_site(node, x, seen[0], seen[1], views, entries, shapes)


RECOGNISE: dict[Any, Callable[[Node, dict[str, View], dict[str, tuple[int, ...]]], Site | None]] = {
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.embedding.default: _embedding,
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.mul.Tensor: _multiply,
    aten.add.Tensor: _add,
    scale_shift: _scale_shift,
}
