"""Positions, such as the tokens of a sample: on which axis they lie after an operation that does
not mix them. What no operation mixes can be worked on as if each position were a sample of its
own."""

import math
from collections.abc import Callable

from hesse.graph.graph import Node, Ref
from hesse.operations.record import SUMMED, Axes, Positions, Shapes


def along_all(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Entry by entry: what has all the positions has them on the same axis, what has one is the
    same for all."""
    carried = set(axes.values())
    if len(carried) != 1 or carried == {SUMMED} or any(shapes[name] != node.shape for name in axes):
        return None
    axis = carried.pop()
    for name in node.inputs:
        place = axis - len(node.shape) + len(shapes[name])
        if (
            name not in axes
            and shapes[name] != node.shape
            and place >= 0
            and shapes[name][place] != 1
        ):
            return None
    # Inputs of the same shape carry the positions too, also those that no parameter reaches.
    alike = {name: axis for name in node.inputs if shapes[name] == node.shape}
    return {node.name: axis, **alike}


def on_first(rule: Callable[[Node, int, Shapes], int | None]) -> Positions:
    """Of an operation on its first argument, the others being the same for all positions."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        x = node.args[0].name if isinstance(node.args[0], Ref) else None
        if x is None or set(axes) != {x} or axes[x] == SUMMED:
            return None
        axis = rule(node, axes[x], shapes)
        return None if axis is None else {node.name: axis}

    return follow


def relabelled(node: Node, axis: int, shapes: Shapes) -> int | None:
    """The axis of a reshaped value that is as long and has as many entries before it."""
    shape = shapes[node.inputs[0]]
    before = math.prod(shape[:axis])
    for place, length in enumerate(node.shape):
        if math.prod(node.shape[:place]) == before and length == shape[axis]:
            return place
    return None
