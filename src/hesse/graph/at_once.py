"""Which operations of the graph of one sample serve many samples at once.

A graph is traced with one sample, whose axis of length 1 most operations leave alone: with many
samples on it they compute what they do for each. Which do is not told by rules: they are run so,
and held against the samples one by one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hesse.graph.graph import AtOnce, Graph, Node
from hesse.process.circumstances import is_passing

aten = torch.ops.aten
# Sizes are among the arguments of these: that of one sample stands there as a 1.
_SIZED = (aten.view, aten.reshape, aten._unsafe_view, aten.expand)
# Two ways of computing the same differ by roundings: so much of the largest entry.
_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-11}


def at_once(
    graph: Graph,
    given: Mapping[str, Any],
    leaves: Sequence[Any],
    by_sample: Mapping[str, Tensor],
    sites: set[str],
) -> AtOnce:
    """Those that serve many samples at once.

    Args:
        graph: the graph of one sample.
        given: its values that do not come from the data, by name.
        leaves: several samples, as the user's function takes them.
        by_sample: every value for these samples one by one, (n, *value).
        sites: values that have samples of their own, also where they are the same for all.
    """
    values = {**given, **dict(zip(graph.data, leaves, strict=True))}
    samples = {name: leaf for name, leaf in values.items() if name in graph.data}
    samples = {name: leaf for name, leaf in samples.items() if isinstance(leaf, Tensor)}
    count = len(next(iter(samples.values())))
    nodes, axes = dict[str, Node](), dict.fromkeys(samples, 0)
    # What is made of something that does not serve many is left to be done one by one.
    one_by_one = set[str]()
    for node in graph.nodes:
        if one_by_one.intersection(node.inputs):
            one_by_one.add(node.name)
            continue
        try:
            node = _open(node, axes, graph)
            value = node.evaluate(values)
        except Exception as error:
            if is_passing(error):
                raise
            one_by_one.add(node.name)
            continue
        if node.name in sites and node.shape[:1] == (1,) == value.shape[:1]:
            value = value.expand(count, *node.shape[1:])
        elif not axes.keys() & set(node.inputs):
            values[node.name] = value
            continue
        axis = _axis(node, value, count)
        if axis is not None and _agree(
            value.movedim(axis, 0).unsqueeze(1 + axis), by_sample[node.name]
        ):
            values[node.name], axes[node.name], nodes[node.name] = value, axis, node
        else:
            one_by_one.add(node.name)
    total, losses = graph.node[graph.output], by_sample[graph.output]
    if graph.output in nodes or not _is_sum(total, values, losses):
        total = None
    return AtOnce(nodes, axes, total, losses.dtype)


def _is_sum(node: Node, values: Mapping[str, Any], losses: Tensor) -> bool:
    """Whether an operation of the values that serve many samples makes the sum of their losses."""
    # A loss of zero is also the mean of zeros.
    if not values.keys() >= set(node.inputs) or not bool(losses.all()):
        return False
    try:
        return _agree(node.evaluate(values), losses.sum(0))
    except Exception as error:
        if is_passing(error):
            raise
        return False


def _open(node: Node, axes: Mapping[str, int], graph: Graph) -> Node:
    """The operation with the size of the samples' axis left open, where sizes are given."""
    if node.kind not in _SIZED or len(node.inputs) != 1 or node.inputs[0] not in axes:
        return node
    before, axis = graph.shapes[node.inputs[0]], axes[node.inputs[0]]
    if node.kind is aten.expand:
        place = axis + len(node.shape) - len(before)
    else:
        entries = math.prod(before[:axis])
        places = [
            place
            for place, size in enumerate(node.shape)
            if size == 1 and math.prod(node.shape[:place]) == entries
        ]
        if not places:
            return node
        place = places[0]
    sizes = [-1 if k == place else size for k, size in enumerate(node.shape)]
    return replace(node, args=(node.args[0], sizes, *node.args[2:]))


def _axis(node: Node, value: Any, count: int) -> int | None:
    """The axis that has so many entries in place of the 1 of one sample, and nothing else other."""
    if not isinstance(value, Tensor) or value.ndim != len(node.shape):
        return None
    differing = [
        axis
        for axis, sizes in enumerate(zip(node.shape, value.shape, strict=True))
        if len({*sizes}) > 1
    ]
    if len(differing) != 1:
        return None
    axis = differing[0]
    return axis if (node.shape[axis], value.shape[axis]) == (1, count) else None


def _agree(value: Tensor, other: Tensor) -> bool:
    if value.dtype != other.dtype or value.shape != other.shape:
        return False
    if not value.is_floating_point():
        return torch.equal(value, other)
    size = float(other.abs().nan_to_num(0, 0, 0).max()) if other.numel() else 0.0
    tolerance = _TOLERANCES.get(value.dtype, 0.0) * size
    return torch.allclose(value, other, rtol=0, atol=tolerance, equal_nan=True)
