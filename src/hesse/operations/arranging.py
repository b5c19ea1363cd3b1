"""Operations that put entries in other places, take some of them, or repeat them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.derivation.sources.networks import maps
from hesse.derivation.sources.networks.view import View, length
from hesse.graph.graph import Node, Pick
from hesse.graph.local import Local
from hesse.operations.positions import on_first, relabelled
from hesse.operations.record import Formula, Operation, Rewrite, Shapes, Structure
from hesse.operations.reductions import axes_of

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

aten = torch.ops.aten

# ---------------------------------------------------------------- numbers


def _pull_relabelled(op: Local, columns: Tensor) -> tuple[Tensor]:
    return (columns.reshape(*columns.shape[:2], *op.value(op.active[0]).shape[1:]),)


def _pull_transposed(op: Local, columns: Tensor) -> tuple[Tensor]:
    first, second = (axis % len(op.node.shape) for axis in op.node.args[1:3])
    return (columns.transpose(first + 2, second + 2),)


def _pull_permuted(op: Local, columns: Tensor) -> tuple[Tensor]:
    axes = [axis % len(op.node.shape) for axis in op.node.args[1]]
    # The inverse of the permutation, behind the axes of samples and columns.
    return (columns.permute(0, 1, *(2 + axes.index(place) for place in range(len(axes)))),)


def _selected(node: Node, whole: Tensor, lead: int) -> Tensor:
    return whole.select(lead + node.args[1] % (len(node.shape) + 1), node.args[2])


def _axes_swapped(node: Node, whole: Tensor, lead: int) -> Tensor:
    first, second = (axis % len(node.shape) for axis in node.args[1:3])
    return whole.transpose(lead + first, lead + second)


def _axes_moved(node: Node, whole: Tensor, lead: int) -> Tensor:
    axes = [lead + axis % len(node.shape) for axis in node.args[1]]
    return whole.permute(*range(lead), *axes, *range(lead + len(axes), whole.ndim))


def _piece(node: Node, whole: Tensor, lead: int) -> Tensor:
    """One of the pieces that a value is split into."""
    _, size, axis = node.arguments(None, None, 0)
    assert isinstance(node.op, Pick)
    return node.op(whole, size, lead + axis % len(node.shape))


def _unbound(node: Node, whole: Tensor, lead: int) -> Tensor:
    _, axis = node.arguments(None, 0)
    assert isinstance(node.op, Pick)
    return whole.select(lead + axis % (len(node.shape) + 1), node.op.index)


# Where the axis of positions goes.
def _to_transposed(node: Node, axis: int, shapes: Shapes) -> int:
    first, second = (place % len(node.shape) for place in node.args[1:3])
    return {first: second, second: first}.get(axis, axis)


def _to_permuted(node: Node, axis: int, shapes: Shapes) -> int:
    return [place % len(node.shape) for place in node.args[1]].index(axis)


def _as_reshape(node: Node, shapes: Shapes) -> list[Node]:
    """A view of what is laid out otherwise here than where it was traced; not one of the same
    memory as another type."""
    if isinstance(node.args[1], torch.dtype):
        return [node]
    return [
        Node(node.name, aten.reshape.default, node.args, node.kwargs, node.shape, node.floating)
    ]


def _without_dropout(node: Node, shapes: Shapes) -> list[Node]:
    rate, training = node.args[1], node.args[2]
    return (
        [node]
        if training and rate > 0
        else [Node(node.name, aten.clone.default, node.args[:1], {}, node.shape)]
    )


def _one_of_several(node: Node, shapes: Shapes) -> list[Node]:
    """One of some tensors that are broadcast together, without the others: they do not flow into
    it."""
    if not isinstance(node.op, Pick):
        return [node]
    x = node.args[0][node.op.index]
    if shapes[x.name] == node.shape:
        return [Node(node.name, aten.alias.default, (x,), {}, node.shape, node.floating)]
    return [
        Node(node.name, aten.expand.default, (x, list(node.shape)), {}, node.shape, node.floating)
    ]


def _from_the_front(node: Node, shapes: Shapes) -> list[Node]:
    """What is written into a slice, its ends counted from the front: mapped over samples, torch
    cannot count from the back."""
    x, written, axis, start, end, step = node.arguments(None, None, 0, None, None, 1)
    start, end, _ = slice(start, end).indices(shapes[x.name][axis])
    return [
        Node(
            node.name, node.op, (x, written, axis, start, end, step), {}, node.shape, node.floating
        )
    ]


# ---------------------------------------------------------------- formulas


def _same(call: "Call") -> View | None:
    return call.operand(call.node.args[0])


def _dropout(call: "Call") -> View | None:
    x, rate, training = call.arguments(("self", None), ("p", 0.0), ("train", False))
    return None if training and rate > 0 else call.operand(x)


def _reshape(call: "Call") -> View:
    return maps.reshaped(call.build, call.operand(call.node.args[0]), call.node.shape)


def _permute(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    return maps.moved(view, [axis % len(view.axes) for axis in call.node.args[1]])


def _transpose(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    rank = len(view.axes)
    if rank < 2:
        return view
    first, second = call.node.args[1:3] if len(call.node.args) > 2 else (-2, -1)
    return maps.swapped(view, first % rank, second % rank)


def _turned(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    return maps.moved(view, range(len(view.axes))[::-1])


def _movedim(call: "Call") -> View | None:
    a, source, to = call.node.args
    view = call.operand(a)
    pairs = list(zip(*(([a] if isinstance(a, int) else a) for a in (source, to)), strict=True))
    rank = len(view.axes)
    # The axes that are not named fill what is left, in their order.
    order: list[int | None] = [None] * rank
    for a, b in pairs:
        order[b % rank] = a % rank
    rest = iter(axis for axis in range(rank) if axis not in order)
    return maps.moved(view, [next(rest) if axis is None else axis for axis in order])


def _unsqueeze(call: "Call") -> View:
    return maps.with_axis(call.operand(call.node.args[0]), call.node.args[1])


def _squeeze(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    chosen = axes_of(call.node.args[1] if len(call.node.args) > 1 else None, view)
    return maps.without_axes(view, [axis for axis in chosen if length(view.axes[axis]) == 1])


def _expand(call: "Call") -> View:
    return maps.expanded(call.build, call.operand(call.node.args[0]), call.node.shape)


def _select(call: "Call") -> View:
    view, axis, index = call.operand(call.node.args[0]), *call.node.args[1:3]
    axis %= len(view.axes)
    return maps.picked(call.build, view, axis, index % view.shape[axis])


def _slice(call: "Call") -> View:
    a, axis, start, _, step = call.arguments(
        ("self", None), ("dim", 0), ("start", None), ("end", None), ("step", 1)
    )
    view = call.operand(a)
    axis %= len(view.axes)
    size = view.shape[axis]
    start = max(0, start + size if (start or 0) < 0 else (start or 0))
    return maps.sliced(call.build, view, axis, start, step, call.node.shape[axis])


def _narrow(call: "Call") -> View:
    view, axis, start, size = call.operand(call.node.args[0]), *call.node.args[1:4]
    axis %= len(view.axes)
    return maps.sliced(call.build, view, axis, start % view.shape[axis] if start else 0, 1, size)


def _split(call: "Call") -> View:
    a, sizes, axis = call.arguments(("self", None), ("sizes", None), ("dim", 0))
    view = call.operand(a)
    axis %= len(view.axes)
    # A trace has one node for each part that is used, `pick` being which.
    start, size = maps.chunk_starts(view.shape[axis], sizes, call.record.name == "chunk")[call.pick]
    return maps.sliced(call.build, view, axis, start, 1, size)


def _unbind(call: "Call") -> View:
    a, axis = call.arguments(("self", None), ("dim", 0))
    view = call.operand(a)
    return maps.picked(call.build, view, axis % len(view.axes), call.pick)


def _cat(call: "Call") -> View:
    parts, axis = call.arguments(("tensors", None), ("dim", 0))
    views = [view for view in map(call.operand, parts) if 0 not in view.shape]
    return maps.joint(call.build, views, axis % len(views[0].axes)) if len(views) > 1 else views[0]


def _stack(call: "Call") -> View:
    parts, axis = call.arguments(("tensors", None), ("dim", 0))
    views = [call.operand(part) for part in parts]
    axis %= len(views[0].axes) + 1
    views = [maps.with_axis(view, axis) for view in views]
    return maps.joint(call.build, views, axis) if len(views) > 1 else views[0]


def _diagonal(call: "Call") -> View | None:
    a, offset, first, second = call.arguments(
        ("self", None), ("offset", 0), ("dim1", 0), ("dim2", 1)
    )
    view = call.operand(a)
    first, second = first % len(view.axes), second % len(view.axes)
    return (
        None
        if offset or view.shape[first] != view.shape[second]
        else maps.diagonal(call.build, view, first, second)
    )


def _relabels(names: str, formula: Formula, rewrite: Rewrite | None = None) -> list[Operation]:
    structure = Structure.RELABELS | Structure.LINEAR
    return [
        Operation(
            name=name,
            aten=name,
            structure=structure,
            rewrite=rewrite,
            pull=_pull_relabelled,
            positions=on_first(relabelled),
            formula=formula,
        )
        for name in names.split()
    ]


def _linear(
    names: str, formula: Formula | None = None, structure: Structure = Structure.NONE, **more: Any
) -> list[Operation]:
    structure |= Structure.LINEAR
    return [
        Operation(name=name, aten=name, structure=structure, formula=formula, **more)
        for name in names.split()
    ]


_PERMUTES, _SELECTS = Structure.PERMUTES, Structure.SELECTS
RECORDS = [
    # -------------------------------------------------------- the same entries in the same order
    *_relabels("view", _reshape, _as_reshape),
    *_relabels("reshape flatten unflatten", _reshape),
    *_relabels("squeeze", _squeeze),
    *_relabels("unsqueeze", _unsqueeze),
    *_relabels("clone contiguous alias", _same),
    *_linear("view_as _unsafe_view", _reshape),
    *_linear("to _to_copy type_as", _same),
    *(
        Operation(name=name, aten=name, formula=_same)
        for name in ("detach_copy", "lift_fresh_copy")
    ),
    *(
        Operation(name=name, aten=name, rewrite=_without_dropout, formula=_dropout)
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    ),
    # ------------------------------------------------------------ in another order
    *_linear(
        "transpose",
        _transpose,
        _PERMUTES,
        pull=_pull_transposed,
        selected=_axes_swapped,
        positions=on_first(_to_transposed),
    ),
    *_linear(
        "permute",
        _permute,
        _PERMUTES,
        pull=_pull_permuted,
        selected=_axes_moved,
        positions=on_first(_to_permuted),
    ),
    *_linear("t mT swapaxes", _transpose, _PERMUTES),
    *_linear("numpy_T", _turned, _PERMUTES),
    *_linear("movedim", _movedim, _PERMUTES),
    *_linear("flip roll"),
    # ------------------------------------------------------------ some of them
    *_linear("select", _select, _SELECTS, selected=_selected),
    *_linear("slice", _slice, _SELECTS),
    *_linear("narrow", _narrow),
    *_linear("split split_with_sizes chunk", _split, _SELECTS, selected=_piece),
    *_linear("unbind", _unbind, _SELECTS, selected=_unbound),
    *_linear("diagonal", _diagonal),
    *_linear("index index_select gather tril triu unfold"),
    # ------------------------------------------------------------ repeated, and put together
    *_linear("expand expand_as", _expand),
    *_linear("broadcast_tensors", rewrite=_one_of_several),
    *_linear("cat", _cat),
    *_linear("stack", _stack),
    *_linear("repeat pad constant_pad_nd"),
    Operation(name="slice_scatter", aten="slice_scatter", rewrite=_from_the_front),
    # ------------------------------------------------------------ without derivatives
    # What is detached in place is a view to a trace, for parameters that it has made into inputs.
    Operation(name="detach_", aten="detach_", structure=Structure.PERMUTES),
    *(Operation(name=name, aten=name, structure=Structure.STEP) for name in ("detach", "argsort")),
    *(
        Operation(name=name, aten=name, structure=Structure.PIECEWISE_LINEAR)
        for name in ("sort", "topk")
    ),
]
