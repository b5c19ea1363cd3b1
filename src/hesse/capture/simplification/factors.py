"""Factors without v, as few as there can be, and where they cost least."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hesse.capture.simplification.graph import Rule, Simplification, arguments, form
from hesse.capture.simplification.sums import FUSED, OF_FUSED, products, summed_with

aten = torch.ops.aten

# Linear in their first argument, entry by entry, with a factor that is finite and smooth. One that
# selects is not among them: what it leaves out may be infinite.
SMOOTH: set[Any] = {
    aten.elu_backward.default,
    aten.gelu_backward.default,
    aten.log_sigmoid_backward.default,
    aten.mish_backward.default,
    aten.sigmoid_backward.default,
    aten.silu_backward.default,
    aten.softplus_backward.default,
    aten.tanh_backward.default,
}

_VIEWS: set[Any] = {
    aten.expand.default,
    aten.permute.default,
    aten.reshape.default,
    aten.t.default,
    aten.transpose.int,
}
_FACTORS: set[Any] = {*SMOOTH, aten.div.Tensor, aten.mul.Tensor, aten.neg.default}


def _of_factors(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """g ⊙ a ⊙ b by one factor, which does not depend on v."""
    found = _factor(graph, node)
    if found is None:
        return None
    source, factor = found
    if len(source.users) == 1 and source.target is aten.mul.Tensor:
        inner = _factor(graph, source)
        if inner is not None:
            source, factor = inner[0], _times(graph, inner[1], factor)
    # Most are there already as they would be made.
    if node.target is aten.mul.Tensor and arguments(node) == [source, factor]:
        return None
    return graph.call(aten.mul.Tensor, source, factor)


def _factor(graph: Simplification, node: fx.Node) -> tuple[fx.Node, Any] | None:
    """What is scaled entry by entry and by what, a number or a node without v; ``None`` where
    nothing is."""
    target, args = node.target, arguments(node)
    if target in (aten.mul.Tensor, aten.div.Tensor):
        first, second = args
        if target is aten.mul.Tensor and graph.moves(second):
            first, second = second, first
        if not graph.moves(first) or graph.moves(second) or node.kwargs:
            return None
        if target is aten.mul.Tensor:
            return first, second
        return first, 1 / second if not isinstance(second, fx.Node) else graph.call(
            aten.reciprocal.default, second
        )
    if target is aten.neg.default:
        return args[0], -1
    if target in SMOOTH and graph.moves(args[0]) and not any(map(graph.moves, args[1:])):
        kept = next(argument for argument in args[1:] if isinstance(argument, fx.Node))
        ones = graph.call(aten.new_ones.default, kept, list(form(node)[0]))
        return args[0], graph.call(target, ones, *args[1:], **node.kwargs)
    return None


def _times(graph: Simplification, first: Any, second: Any) -> Any:
    """The product of two factors."""
    if not isinstance(first, fx.Node) and not isinstance(second, fx.Node):
        return first * second
    if not isinstance(first, fx.Node):
        first, second = second, first
    return first if second == 1 else graph.call(aten.mul.Tensor, first, second)


def _scaled(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """A number times matrix products, which may be laid otherwise: of each the side without v has
    the number."""
    if isinstance(arguments(node)[1], fx.Node):
        return None
    source, number = arguments(node)
    source, views = _without_views(source, alone=True)
    pairs = products(graph, source)
    if pairs is None:
        return None
    total: fx.Node | None = None
    for left, right in pairs:
        if graph.moves(left):
            right = graph.call(aten.mul.Tensor, right, number)
        else:
            left = graph.call(aten.mul.Tensor, left, number)
        total = summed_with(graph, source, total, left, right)
    return _viewed(graph, total, views)


def _of_scaled(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """A matrix product of what has a number for a factor: the side without v has it."""
    *total, left, right = arguments(node)
    pair = [left, right]
    place = int(not graph.moves(left))
    if node.kwargs or graph.moves(pair[1 - place]):
        return None
    scaled, views = _without_views(pair[place], alone=False)
    if scaled.target is not aten.mul.Tensor or scaled.kwargs:
        return None
    source, number = arguments(scaled)
    if isinstance(number, fx.Node) or not graph.moves(source):
        return None
    if form(source)[:3] != form(scaled)[:3]:
        return None
    pair[place] = _viewed(graph, source, views)
    pair[1 - place] = graph.call(aten.mul.Tensor, pair[1 - place], number)
    return graph.call(node.target, *total, *pair)


def _without_views(node: fx.Node, alone: bool) -> tuple[fx.Node, list[fx.Node]]:
    """What is laid otherwise, and by which operations in a row, the last first; as far as each is
    used once, or whatever else uses them."""
    views: list[fx.Node] = []
    while node.target in _VIEWS and not (alone and len(node.users) > 1):
        views.append(node)
        node = arguments(node)[0]
    return node, views


def _viewed(graph: Simplification, node: Any, views: Sequence[fx.Node]) -> fx.Node:
    """A value laid by the operations that another one was laid by."""
    for view in reversed(views):
        node = graph.call(view.target, node, *arguments(view)[1:], **view.kwargs)
    return node


OF_FACTORS = Rule(_of_factors, frozenset(_FACTORS))
SCALED = Rule(_scaled, frozenset({aten.mul.Tensor}))
OF_SCALED = Rule(_of_scaled, frozenset({*FUSED, *OF_FUSED}))
