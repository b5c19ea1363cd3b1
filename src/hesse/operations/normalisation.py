"""Normalisations: each is brought to one without parameters, and a scale and a shift after it."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, scale, total
from hesse.derivation.calculus.expression import Entry, Expression, Index, constant, of
from hesse.derivation.sources.networks.maps import reshaped
from hesse.derivation.sources.networks.view import Axis, View, length, number, power, times
from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.graph.parameter_view import Views, view_of
from hesse.graph.sites import Site
from hesse.operations.arithmetic import scale_shift_site
from hesse.operations.positions import on_first
from hesse.operations.record import Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

aten = torch.ops.aten

# ---------------------------------------------------------------- what they are rewritten into


def scale_shift(x: Tensor, scale: Tensor | None, shift: Tensor | None, axis: int) -> Tensor:
    """x ∘ scale + shift, both laid along the axes of ``x`` that begin at ``axis``."""
    given = scale if scale is not None else shift
    assert given is not None
    trailing = x.ndim - (axis % x.ndim) - given.ndim
    for vector, combine in ((scale, torch.mul), (shift, torch.add)):
        if vector is not None:
            x = combine(x, vector.reshape(vector.shape + (1,) * trailing))
    return x


def standardise(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """(x − mean) / √(variance + eps) over axis 1: BatchNorm with its running statistics."""
    # Channels lie on axis 1, whatever follows.
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x - mean.reshape(shape)) * (variance.reshape(shape) + eps).rsqrt()


def _with_affine(
    node: Node, normalised_node: Node, weight: Any, bias: Any, axis: int
) -> list[Node]:
    if weight is None and bias is None:
        return [
            Node(
                node.name,
                normalised_node.op,
                normalised_node.args,
                normalised_node.kwargs,
                node.shape,
            )
        ]
    return [
        normalised_node,
        Node(
            node.name, scale_shift, (Ref(normalised_node.name), weight, bias, axis), {}, node.shape
        ),
    ]


def _over_last_or_groups(node: Node, shapes: Shapes) -> list[Node]:
    """Layer norm, over its last axes, and group norm, over a number of groups of the channels."""
    x, over, weight, bias, eps, *_ = node.arguments(None, None, None, None, 1e-5)
    normalised_node = Node(
        f"{node.name}__normalised", node.op, (x, over, None, None, eps), {}, node.shape
    )
    return _with_affine(
        node, normalised_node, weight, bias, 1 if isinstance(over, int) else -len(over)
    )


def _rms_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, normalised, weight, eps = node.arguments(None, None, None, None)
    normalised_node = Node(
        f"{node.name}__normalised", node.op, (x, normalised, None, eps), {}, node.shape
    )
    return _with_affine(node, normalised_node, weight, None, -len(normalised))


def _instance_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, weight, bias, *statistics = node.args
    normalised_node = Node(
        f"{node.name}__normalised", node.op, (x, None, None, *statistics), node.kwargs, node.shape
    )
    return _with_affine(node, normalised_node, weight, bias, 1)


def _batch_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, weight, bias, mean, variance, training, _, eps, *_ = node.args
    normalised = f"{node.name}__normalised"
    if training or mean is None:
        arguments = (x, None, None, *node.args[3:])
        normalised_node = Node(normalised, node.op, arguments, node.kwargs, node.shape)
    else:
        normalised_node = Node(normalised, standardise, (x, mean, variance, eps), {}, node.shape)
    return _with_affine(node, normalised_node, weight, bias, 1)


# ---------------------------------------------------------------- how parameters enter


def _site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    x, scale, shift, axis = node.args
    seen = [view_of(vector, views) for vector in (scale, shift)]
    given = next((view for view in seen if view is not None), None)
    if given is None:
        return None
    trailing = len(node.shape) - axis % len(node.shape) - given.entries.ndim
    entries = given.entries.reshape(tuple(given.entries.shape) + (1,) * trailing)
    return scale_shift_site(node, x, seen[0], seen[1], views, entries, shapes)


# ---------------------------------------------------------------- numbers


def _pull_scale_shift(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """x ∘ scale + shift, scale and shift the same for all samples."""
    x, scale, shift, axis = op.node.args
    if op.active != (x.name,) or any(
        vector is not None and op.is_batched(vector.name) for vector in (scale, shift)
    ):
        return None
    if scale is None:
        return (columns,)
    vector = op.value(scale.name)
    trailing = len(op.node.shape) - axis % len(op.node.shape) - vector.ndim
    return (columns * vector.reshape(vector.shape + (1,) * trailing),)


def _rows(op: Local) -> tuple[Tensor, Tensor] | None:
    """y (n, rows, width) and 1 / σ (n, rows, 1) of a normalisation over the last axes, or over
    groups, without weights."""
    x, over, weight, bias, eps = op.node.arguments(None, None, None, None, 1e-5)[:5]
    if weight is not None or bias is not None:
        return None
    value = op.value(x.name)
    rows = (
        value.reshape(len(value), -1, torch.Size(over).numel())
        if isinstance(over, list | tuple)
        else _grouped(value, over)
    )
    # Not by `var`, which takes ten times as long.
    variance = (rows - rows.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
    rate = (variance + eps).rsqrt()
    return op.value(op.node.name).reshape(rows.shape), rate


def _grouped(value: Tensor, groups: int) -> Tensor:
    """(n, lead, channels, *places) -> (n, lead groups, entries of a group)."""
    return value.reshape(len(value), value.shape[1] * groups, -1)


def _pull(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """(c − mean c − y mean(y c)) / σ over what is normalised together, y = (x − μ) / σ being the
    value."""
    known = op.once(_rows)
    if known is None:
        return None
    y, rate = (part.unsqueeze(1) for part in known)
    rows = columns.reshape(*columns.shape[:2], *y.shape[2:])
    centred = rows - rows.mean(-1, keepdim=True)
    centred.addcmul_(y, (y * rows).mean(-1, keepdim=True), value=-1).mul_(rate)
    return (centred.reshape(columns.shape),)


def _second(op: Local, delta: Tensor) -> list[list[Tensor | None]] | None:
    """(3 s y yᵀ − q yᵀ − y qᵀ − s (d I − 1 1ᵀ)) / (d σ²) for each row of length d, y its value, s =
    mean(δ y), q = δ − mean δ."""
    known = op.once(_rows)
    if known is None:
        return None
    y, rate = known
    width = y.shape[-1]
    slope = delta.reshape(y.shape)
    s, q = (slope * y).mean(-1, keepdim=True), slope - slope.mean(-1, keepdim=True)
    # left yᵀ and its transpose add up to 3 s y yᵀ − q yᵀ − y qᵀ.
    left = 1.5 * s * y - q
    blocks = (
        left.unsqueeze(-1) * y.unsqueeze(-2)
        + y.unsqueeze(-1) * left.unsqueeze(-2)
        + s.unsqueeze(-1)
    )
    blocks.diagonal(dim1=-2, dim2=-1).sub_(width * s)
    return [[along_rows(blocks * (rate.square() / width).unsqueeze(-1), delta.shape[1:])]]


def along_rows(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Blocks (n, rows, width, width) of a value whose rows do not mix, as its curvature (n,
    entries, *value)."""
    n, rows, width, _ = blocks.shape
    curvature = blocks.new_zeros(n, rows, width, rows, width)
    curvature.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
    return curvature.reshape(n, rows * width, *shape)


def _before_the_last(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis < len(node.shape) - len(node.args[1]) else None


def _before_the_scale(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis < node.args[3] % len(node.shape) else None


# ---------------------------------------------------------------- formulas


def _mean(
    view: View, axes: Sequence[int]
) -> tuple[tuple[Axis, ...], Callable[[Expression], Expression]]:
    """The axes of a mean over some of a view's, and how it is taken of an expression."""
    summed = [index for axis in axes for index in view.axes[axis]]
    share = Fraction(1, length(tuple(summed)))
    kept = tuple(() if k in axes else axis for k, axis in enumerate(view.axes))
    return kept, lambda value: scale(total(value, summed), share)


def _standardised(call: "Call", view: View, axes: Sequence[int], eps: float) -> View:
    """(x − μ) / √(σ² + ε) with μ and σ² over some axes."""
    build = call.build
    view = build.settled(view)
    label = build.label(call.node.name)
    kept, mean = _mean(view, axes)
    centre = build.named(
        View(mean(view.expression), kept), build.name(f"μ({label})"), note="the mean"
    )
    centred = View(add(view.expression, scale(centre.expression, -1)), view.axes)
    centred = build.named(centred, build.name(f"c({label})"), note="the distance from the mean")
    squares = mean(power(centred.expression, constant(2)))
    spread = build.named(
        View(add(squares, number(eps)), kept), build.name(f"v({label})"), note="the variance, and ε"
    )
    normal = View(
        times(centred.expression, power(spread.expression, constant(Fraction(-1, 2)))), view.axes
    )
    return build.named(normal, build.name(f"n({label})"), note="mean 0, variance 1")


def _over_last(call: "Call") -> View | None:
    x, normalised, weight, bias, eps = call.arguments(
        ("input", None), ("normalized_shape", None), ("weight", None), ("bias", None), ("eps", 1e-5)
    )
    if weight is not None or bias is not None:
        return None
    view = call.operand(x)
    return _standardised(call, view, range(len(view.axes) - len(normalised), len(view.axes)), eps)


def _root_mean_square(call: "Call") -> View | None:
    """x / √(mean x² + ε) over the last axes."""
    x, normalised, weight, eps = call.arguments(
        ("input", None), ("normalized_shape", None), ("weight", None), ("eps", None)
    )
    if weight is not None:
        return None
    build, view = call.build, call.build.settled(call.operand(x))
    label, axes = (
        build.label(call.node.name),
        range(len(view.axes) - len(normalised), len(view.axes)),
    )
    eps = torch.finfo(call.dtype(call.node.name)).eps if eps is None else eps
    kept, mean = _mean(view, axes)
    spread = build.named(
        View(add(mean(power(view.expression, constant(2))), number(eps)), kept),
        build.name(f"v({label})"),
        note="the mean square, and ε",
    )
    normal = View(
        times(view.expression, power(spread.expression, constant(Fraction(-1, 2)))), view.axes
    )
    return build.named(normal, build.name(f"n({label})"), note="mean square 1")


def _over_places(call: "Call") -> View | None:
    x, weight, bias, *_, eps = call.arguments(
        ("input", None), ("weight", None), ("bias", None), ("running_mean", None), ("running_var",
        None), ("use_input_stats", True), ("momentum", 0.1), ("eps", 1e-5),
    )  # fmt: skip
    use = call.node.args[5] if len(call.node.args) > 5 else True
    if weight is not None or bias is not None or not use:
        return None
    view = call.operand(x)
    return _standardised(call, view, range(2, len(view.axes)), eps)


def _over_the_batch(call: "Call") -> View | None:
    """BatchNorm in training mode: by the mean and the variance of the batch."""
    x, weight, bias, _, _, _, _, eps, *_ = call.node.args
    if weight is not None or bias is not None:
        return None
    view = call.operand(x)
    axes = [axis for axis in range(len(view.axes)) if axis != 1]
    return _standardised(call, view, axes, eps)


def _over_groups(call: "Call") -> View | None:
    x, groups, weight, bias, eps = call.arguments(
        ("input", None), ("groups", 1), ("weight", None), ("bias", None), ("eps", 1e-5)
    )
    if weight is not None or bias is not None:
        return None
    view = call.operand(x)
    batch, channels, *rest = view.shape
    parted = reshaped(call.build, view, (batch, groups, channels // groups, *rest))
    return reshaped(
        call.build, _standardised(call, parted, range(2, len(parted.axes)), eps), view.shape
    )


def _running(call: "Call") -> View:
    """BatchNorm with its running statistics: numbers, so that this is a scale and a shift."""
    x, mean, variance, eps = call.node.args[:4]
    view = call.operand(x)
    channels = [list(range(len(view.axes))), [1]]
    spread = call.known(variance.name) if isinstance(variance, Ref) else None
    assert spread is not None, "running statistics are fixed"
    slope = (spread.double() + eps).rsqrt()
    rate = of(
        Entry(
            call.build.constant(f"1/σ({call.build.label(call.node.name)})", slope),
            (Index("*rate", len(slope)),),
        )
    )
    (value, centre), along = call.build.axes.unified([view, call.operand(mean)], channels)
    centred = View(add(value, scale(centre, -1)), tuple(along[k] for k in range(len(view.axes))))
    (value, factor), along = call.build.axes.unified(
        [centred, View(rate, ((Index("*rate", len(slope)),),))], channels
    )
    result = View(times(factor, value), tuple(along[k] for k in range(len(view.axes))))
    return call.build.named(
        result,
        call.build.name(f"n({call.build.label(call.node.name)})"),
        note="by the running mean and variance",
    )


def _scaled_and_shifted(call: "Call") -> View:
    x, weight, bias, axis = call.node.args
    view = call.build.operand(call.operand(x))
    rank = len(view.axes)
    labels = list(range(rank))
    if weight is not None:
        gamma = call.operand(weight)
        covered = labels[axis % rank : axis % rank + len(gamma.axes)]
        (value, factor), along = call.build.axes.unified([view, gamma], [labels, covered])
        view = View(times(factor, value), tuple(along[k] for k in labels))
    if bias is not None:
        beta = call.operand(bias)
        covered = labels[axis % rank : axis % rank + len(beta.axes)]
        (value, added), along = call.build.axes.unified([view, beta], [labels, covered])
        view = View(add(value, added), tuple(along[k] for k in labels))
    return call.build.slot(view)


RECORDS = [
    # Written out, but with a Jacobian of its covered for every sample, through which many columns
    # are better not carried.
    Operation(
        name="layer_norm", aten="layer_norm", rewrite=_over_last_or_groups, pull=_pull, costly=True,
        second=_second, positions=on_first(_before_the_last), formula=_over_last),
    Operation(
        name="group_norm", aten="group_norm", rewrite=_over_last_or_groups, pull=_pull, costly=True,
        second=_second, formula=_over_groups),
    Operation(
        name="rms_norm", aten="rms_norm", rewrite=_rms_norm, positions=on_first(_before_the_last),
        formula=_root_mean_square),
    Operation(name="instance_norm", aten="instance_norm", rewrite=_instance_norm,
        formula=_over_places),
    Operation(name="batch_norm", aten="batch_norm", rewrite=_batch_norm, formula=_over_the_batch),
    Operation(
        name="standardise", stands_for=(standardise,),
        structure=Structure.ENTRYWISE | Structure.MULTILINEAR, formula=_running),
    Operation(
        name="scale_shift", stands_for=(scale_shift,), structure=Structure.MULTILINEAR, site=_site,
        pull=_pull_scale_shift, positions=on_first(_before_the_scale), formula=_scaled_and_shifted),
]  # fmt: skip
