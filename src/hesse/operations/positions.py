"""What operations do to positions, such as the tokens of a sample, where they do not meet: on which
axis they lie afterwards."""

import math
from collections.abc import Callable

from hesse.graph.graph import Node, Ref
from hesse.operations.record import SUMMED, Axes, Positions, Shapes


def along_all(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Entry by entry: what has all the positions has them on the same axis, what has one is the
    same for all."""
    found = set(axes.values())
    if len(found) != 1 or found == {SUMMED} or any(shapes[name] != node.shape for name in axes):
        return None
    axis = found.pop()
    for name in node.inputs:
        place = axis - len(node.shape) + len(shapes[name])
        if (
            name not in axes
            and shapes[name] != node.shape
            and place >= 0
            and shapes[name][place] != 1
        ):
            return None
    alike = {name: axis for name in node.inputs if shapes[name] == node.shape}
    return {node.name: axis, **alike}


def on_first(rule: Callable[[Node, int, Shapes], int | None]) -> Positions:
    """Of an operation on its first argument, the others being the same for all positions."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        x = node.args[0].name if isinstance(node.args[0], Ref) else None
        if x is None or set(axes) != {x} or axes[x] == SUMMED:
            return None
        made = rule(node, axes[x], shapes)
        return None if made is None else {node.name: made}

    return follow


def relabelled(node: Node, axis: int, shapes: Shapes) -> int | None:
    """The axis with as many entries before it and as long."""
    shape = shapes[node.inputs[0]]
    before = math.prod(shape[:axis])
    for place, length in enumerate(node.shape):
        if math.prod(node.shape[:place]) == before and length == shape[axis]:
            return place
    return None
