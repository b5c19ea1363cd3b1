"""Positions apart: above some value the positions of a sample often never meet again, as tokens above the last attention.

There each position is a sample of its own: S and D are blocks of one position, and a slot that shares its parameter over
positions is a plain slot with more samples. `find_apart` looks for the lowest such value, the *cut*, and makes the graph
of one position; the sweep carries its signals down to the cut and goes on below it with whole samples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hesse.capture.recognise import RECOGNISE, parameter_views
from hesse.capture.rewrites import scale_shift
from hesse.exact.operations import ELEMENTWISE, ELEMENTWISE_FLAT, RELABEL, appears_once, is_first, packet
from hesse.graph.graph import Graph, Node, Ref
from hesse.graph.sites import PLAIN, Arrangement, Site, joined
from hesse.graph.structures import Curvature, as_tensor

aten = torch.ops.aten
Shapes = Mapping[str, tuple[int, ...]]
Axes = dict[str, int]
# In place of an axis: the positions have been summed.
SUMMED = -1
_SUM = 2  # the code of reduction="sum"


@dataclass(frozen=True)
class Apart:
    """The part of a graph above a cut, for one position.

    Attributes:
        cut: the value that it begins with.
        count: how many positions there are.
        axes: of each value with samples the axis of its positions, or `SUMMED`.
        graph: the cut and the operations above it, at the shapes of one position.
        sites: the sites above the cut, of one position.
        end: the cut as a site without slots, where the sweep of one position ends.
    """

    cut: str
    count: int
    axes: Axes
    graph: Graph
    sites: tuple[Site, ...]
    end: Site

    def values(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values with the positions as samples: (n, *shape) -> (n t, *shape of one position)."""
        return values | {name: self._split(values[name], axis) for name, axis in self.axes.items()}

    def _split(self, value: Tensor, axis: int) -> Tensor:
        if axis == SUMMED:
            return value.repeat_interleave(self.count)
        return value.movedim(1 + axis, 1).flatten(0, 1).unsqueeze(1 + axis)

    def joined(self, value: Tensor) -> Tensor:
        """A value of the cut for every position as one for every sample: (n t, *shape of one position) -> (n, *shape)."""
        axis = self.axes[self.cut]
        return value.squeeze(1 + axis).unflatten(0, (-1, self.count)).movedim(1, 1 + axis)

    def curvature(self, own: Curvature) -> Tensor:
        """Curvature of the cut for every position, (n t, c, *one position), as one for every sample, (n, |cut|, *cut)."""
        blocks = as_tensor(own).flatten(2).unflatten(0, (-1, self.count))  # (n, t, c, c)
        n, t, c, _ = blocks.shape
        made = blocks.new_zeros(n, t, c, t, c)
        made.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        axis, (*shape,) = self.axes[self.cut], self.graph.shapes[self.cut]
        rest = shape[:axis] + shape[axis + 1 :]
        width = len(rest)
        made = made.reshape(n, t, *rest, t, *rest).movedim(2 + width, 2 + width + axis).movedim(1, 1 + axis)
        return made.reshape(n, t * c, *shape[:axis], t, *shape[axis + 1 :])

    def by_position(self, columns: Tensor) -> Tensor:
        """Columns for every entry of the cut, (n, |cut|, ...) -> (n, t, c, ...)."""
        axis, (*shape,) = self.axes[self.cut], self.graph.shapes[self.cut]
        split = columns.unflatten(1, (*shape[:axis], self.count, *shape[axis + 1 :])).movedim(1 + axis, 1)
        return split.reshape(*split.shape[:2], -1, *columns.shape[2:])


def find_apart(graph: Graph, sites: Mapping[str, Site], active: set[str]) -> Apart | None:
    """The lowest value that alone separates what is above, where positions never meet, from a site at or below it."""
    batched = graph.downstream({*graph.data, *sites})
    for cut in _cuts(graph, sites, active):
        above = [site for value, site in sites.items() if graph.place[value] > graph.place[cut]]
        if all(site.arrange.is_plain for site in above) or graph.node[cut].size > sum(_columns(graph, site) for site in above):
            continue
        for axis, count in enumerate(graph.node[cut].shape):
            axes = _axes(graph, cut, axis, active, batched) if count > 1 else None
            if axes is not None:
                made = _of_one_position(graph, cut, count, axes, above)
                if made is not None:
                    return made
    return None


def _cuts(graph: Graph, sites: Mapping[str, Site], active: set[str]) -> list[str]:
    """The active values that alone cross from below to above, the lowest first, from the lowest site up."""
    lowest = min(graph.place[value] for value in sites)
    chosen, crossing = [], set()
    for node in reversed(graph.nodes[lowest : graph.place[graph.output] + 1]):
        if node.name in active:
            crossing.add(node.name)
            if crossing == {node.name}:
                chosen.append(node.name)
            crossing.remove(node.name)
            crossing.update(name for name in node.inputs if name in active)
    return chosen[::-1]


def _columns(graph: Graph, site: Site) -> int:
    """How many columns a site brings, of S and of D."""
    return graph.node[site.value].size + (0 if site.input is None else math.prod(graph.shapes[site.input]))


def _axes(graph: Graph, cut: str, axis: int, active: set[str], batched: set[str]) -> Axes | None:
    """The positions' axis of every value above the cut; ``None`` where they meet, or where nothing is known."""
    axes: Axes = {cut: axis}
    count = graph.node[cut].shape[axis]
    for node in graph.nodes[graph.place[cut] + 1 : graph.place[graph.output] + 1]:
        if node.name not in active:
            continue
        inputs = {name: axes[name] for name in node.inputs if name in axes and name in active}
        if not inputs or any(name in active and name not in inputs for name in node.inputs) or packet(node) not in _RULES:
            return None
        found = _RULES[packet(node)](node, inputs, graph.shapes)
        others = {name for name in node.inputs if name in batched and name not in inputs}
        # What is the same for all samples must be the same for all positions.
        static = set(node.inputs) - batched
        if found is None or not others <= found.keys() or static & found.keys():
            return None
        for name in (*others, node.name):
            shape = graph.shapes[name]
            if found[name] != SUMMED and (found[name] >= len(shape) or shape[found[name]] != count):
                return None
            if axes.setdefault(name, found[name]) != found[name]:
                return None
    return axes if axes.get(graph.output) == SUMMED else None


def _of_one_position(graph: Graph, cut: str, count: int, axes: Axes, above: list[Site]) -> Apart | None:
    def one(name: str) -> tuple[int, ...]:
        shape, axis = graph.shapes[name], axes[name]
        return shape if axis == SUMMED else (*shape[:axis], 1, *shape[axis + 1 :])

    shapes = graph.shapes | {name: one(name) for name in axes}
    nodes = tuple(replace(node, shape=shapes[node.name]) for node in graph.nodes if node.name in axes)
    views, sites = parameter_views(graph), []
    for site in above:
        node = replace(graph.node[site.value], shape=shapes[site.value])
        made = RECOGNISE[node.op](node, views, shapes) if node.op in RECOGNISE else None
        if made is None:
            return None
        known = {(slot.parameter, slot.kind): slot for slot in made.slots}
        wanted = [(part.parameter, part.kind) for slot in site.slots for part in slot.own]
        if not known.keys() >= set(wanted):
            return None
        kept = replace(made, slots=tuple(known[part] for part in wanted))
        kept = joined(kept) if any(slot.parts for slot in site.slots) else kept
        if len(kept.slots) != len(site.slots):
            return None
        sites.append(kept)
    size = math.prod(shapes[cut])
    end = Site(cut, None, Arrangement((1, 1, size), PLAIN), ())
    whole = Graph(nodes, graph.parameters, graph.fixed, graph.constants, graph.data, graph.output, dict(shapes))
    return Apart(cut, count, axes, whole, tuple(sites), end)


# ---------------------------------------------------------------- where an operation takes an axis that it leaves alone

Rule = Callable[[Node, Axes, Shapes], Axes | None]


def _name(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


def _first(rule: Callable[[Node, int, Shapes], int | None]) -> Rule:
    """A rule for operations on their first argument, the others being the same for all positions."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        x = _name(node.args[0])
        if x is None or set(axes) != {x} or axes[x] == SUMMED:
            return None
        made = rule(node, axes[x], shapes)
        return None if made is None else {node.name: made}

    return follow


def _linear(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis < len(node.shape) - 1 else None


def _layer_norm(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis < len(node.shape) - len(node.args[1]) else None


def _scale_shift(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis < node.args[3] % len(node.shape) else None


def _softmax(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis != node.args[1] % len(node.shape) else None


def _transpose(node: Node, axis: int, shapes: Shapes) -> int | None:
    first, second = (place % len(node.shape) for place in node.args[1:3])
    return {first: second, second: first}.get(axis, axis)


def _permute(node: Node, axis: int, shapes: Shapes) -> int | None:
    return [place % len(node.shape) for place in node.args[1]].index(axis)


def _relabel(node: Node, axis: int, shapes: Shapes) -> int | None:
    """The axis with as many entries before it and as long."""
    shape = shapes[node.inputs[0]]
    before = math.prod(shape[:axis])
    for place, length in enumerate(node.shape):
        if math.prod(node.shape[:place]) == before and length == shape[axis]:
            return place
    return None


def _sum(node: Node, axis: int, shapes: Shapes) -> int | None:
    return SUMMED if len(node.args) == 1 else None


def _entrywise(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Entry by entry: what has all the positions has them on the same axis, what has one is the same for all."""
    found = set(axes.values())
    if found == {SUMMED}:
        scaled = packet(node) in (aten.mul, aten.neg) or (packet(node) is aten.div and is_first(node, node.inputs))
        return {node.name: SUMMED} if scaled and len(node.inputs) == 1 and appears_once(node, node.inputs[0]) else None
    if len(found) != 1 or any(shapes[name] != node.shape for name in axes):
        return None
    axis = found.pop()
    for name in node.inputs:
        place = axis - len(node.shape) + len(shapes[name])
        if name not in axes and shapes[name] != node.shape and place >= 0 and shapes[name][place] != 1:
            return None
    alike = {name: axis for name in node.inputs if shapes[name] == node.shape}
    return {node.name: axis, **alike}


def _cross_entropy(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Over the class axis; the target, a class for every position, lacks that axis."""
    logits, target, _, reduction, *_ = node.arguments(None, None, None, 1)
    axis, width = axes.get(logits.name), len(shapes[logits.name])
    classes = 1 if width > 1 else 0
    if set(axes) != {logits.name} or axis in (None, SUMMED, classes) or reduction != _SUM:
        return None
    if len(shapes[target.name]) != width - 1:
        return None
    return {node.name: SUMMED, target.name: axis - (axis > classes)}


def _entrywise_loss(place: int) -> Rule:
    """A loss summed over entries, its reduction the argument at a place."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        refs = [argument.name for argument in node.args if isinstance(argument, Ref)]
        found = set(axes.values())
        if len(node.args) <= place or node.args[place] != _SUM or len(found) != 1 or found == {SUMMED}:
            return None
        alike = len({shapes[name] for name in refs}) == 1
        return {node.name: SUMMED, **dict.fromkeys(refs, found.pop())} if alike else None

    return follow


_RULES: dict[Any, Rule] = {
    **dict.fromkeys(ELEMENTWISE | ELEMENTWISE_FLAT, _entrywise),
    **dict.fromkeys((aten.add, aten.sub, aten.rsub, aten.mul, aten.div, aten.neg, aten.broadcast_tensors), _entrywise),
    **dict.fromkeys(RELABEL, _first(_relabel)),
    aten.linear: _first(_linear),
    aten.layer_norm: _first(_layer_norm),
    scale_shift: _first(_scale_shift),
    aten.softmax: _first(_softmax),
    aten.transpose: _first(_transpose),
    aten.permute: _first(_permute),
    aten.sum: _first(_sum),
    aten.cross_entropy_loss: _cross_entropy,
    aten.mse_loss: _entrywise_loss(2),
    aten.binary_cross_entropy_with_logits: _entrywise_loss(4),
}
