"""Sums without their zeros."""

from functools import partial
from typing import Any

import torch
from torch import fx

from hesse.capture.recording import COPIES
from hesse.capture.simplification.factors import SMOOTH
from hesse.capture.simplification.graph import Rule, Simplification, arguments, form
from hesse.capture.simplification.sums import ADDITIONS

aten = torch.ops.aten

_ZEROS: set[Any] = {
    aten._efficientzerotensor.default,
    aten.new_zeros.default,
    aten.zeros.default,
    aten.zeros_like.default,
}
# Zero where their first argument is.
_OF_ZERO: set[Any] = {
    *COPIES,
    *SMOOTH,
    aten.convolution.default,
    aten.div.Tensor,
    aten.mean.dim,
    aten.neg.default,
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.sum.dim_IntList,
    aten.t.default,
    aten.threshold_backward.default,
    aten.transpose.int,
    aten.unsqueeze.default,
}
# Where any argument is.
_PRODUCTS: set[Any] = {aten.bmm.default, aten.mm.default, aten.mul.Tensor}
# Where all are.
_OF_ALL: set[Any] = {aten.add.Tensor, aten.cat.default, aten.stack.default, aten.sub.Tensor}


def without_zeros(graph: fx.Graph) -> Rule:
    """What is left of sums with zeros, of those that are in a graph now."""
    zero = set[fx.Node]()
    for node in graph.nodes:
        if _is_of_zeros(node, zero):
            zero.add(node)
    return Rule(partial(_what_is_left, zero), ADDITIONS)


def _what_is_left(zero: set[fx.Node], graph: Simplification, node: fx.Node) -> fx.Node | None:
    if node.kwargs:
        return None
    first, second = arguments(node)
    if second not in zero and node.target is aten.add.Tensor:
        first, second = second, first
    if second not in zero or form(first) is None or form(first)[1:3] != form(node)[1:3]:
        return None
    whole, part = form(node)[0], form(first)[0]
    return first if part == whole else graph.call(aten.expand.default, first, list(whole))


def _is_of_zeros(node: fx.Node, zero: set[fx.Node]) -> bool:
    """Whether a value is zero where some others are."""
    if node.target in _ZEROS:
        return True
    if node.target in _OF_ZERO:
        # But for a bias of its own.
        biased = node.target is aten.convolution.default and arguments(node)[2] is not None
        return arguments(node)[COPIES.get(node.target, 0)] in zero and not biased
    if node.target in _PRODUCTS:
        return not zero.isdisjoint(node.all_input_nodes)
    numbers = any(isinstance(argument, int | float) for argument in node.args[:2])
    return node.target in _OF_ALL and not numbers and zero.issuperset(node.all_input_nodes)


def _side_by_side(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """The sum of what ways back from selections make, each its part among zeros, where the parts
    are all there is: a value that is taken apart into steps, or into queries, keys and values."""
    parts: list[tuple[Any, int, int, fx.Node]] = []
    left: list[Any] = [node]
    while left:
        part = left.pop()
        if not isinstance(part, fx.Node) or (part is not node and len(part.users) > 1):
            return None
        if part.target is aten.add.Tensor and not part.kwargs:
            left += part.args
        elif (among := _among_zeros(part)) is not None:
            parts.append(among)
        else:
            return None
    parts.sort(key=lambda part: part[1])
    joins, starts, ends, values = map(list, zip(*parts, strict=True))
    join, axis, size = joins[0]
    if any(other != joins[0] for other in joins) or [*starts, size] != [0, *ends]:
        return None
    return graph.call(join, values, axis)


def _among_zeros(part: fx.Node) -> tuple[Any, int, int, fx.Node] | None:
    """A value and where it lies among zeros: what joins it with others, along which axis of which
    size, and from where to where."""
    if part.target not in (aten.select_backward.default, aten.slice_backward.default):
        return None
    value, sizes, axis, *place = arguments(part)
    axis, size = axis % len(sizes), sizes[axis]
    if part.target is aten.select_backward.default:
        start = place[0] % size
        return (aten.stack.default, axis, size), start, start + 1, value
    start, end, step = slice(*place).indices(size)
    return ((aten.cat.default, axis, size), start, end, value) if step == 1 else None


SIDE_BY_SIDE = Rule(_side_by_side, frozenset({aten.add.Tensor}))
