"""Which values of a graph are parameters, or views of them."""

import math

import torch

from hesse.graph.graph import Graph
from hesse.graph.parameter_view import ParameterView
from hesse.operations.record import MOVES
from hesse.operations.registry import record_of


def parameter_views(graph: Graph) -> dict[str, ParameterView]:
    """The values that are a parameter or a view of one; an empty one is none, for it has no
    derivatives."""
    views = {}
    for value, name in graph.parameters.items():
        size = math.prod(graph.shapes[value])
        if size:
            views[value] = ParameterView(
                name, torch.arange(size, device="cpu").reshape(graph.shapes[value]), size, value
            )
    for node in graph.nodes:
        if len(node.inputs) != 1 or node.inputs[0] not in views or not record_of(node).has(MOVES):
            continue
        # The same memory as another type is no view of the entries.
        if any(isinstance(argument, torch.dtype) for argument in node.args):
            continue
        source = views[node.inputs[0]]
        # The operation run on the numbers of the entries tells where each of them goes.
        entries = node.evaluate({node.inputs[0]: source.entries})
        views[node.name] = ParameterView(source.parameter, entries, source.size, node.name)
    return views
