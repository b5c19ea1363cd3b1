"""Straits: values that everything below passes through on its way up.

Where all operations below such a value v are linear, or linear where they select (convolutions,
normalisation by fixed statistics, ReLU, maxima, sums of branches), the Hessian of the loss in
everything below is that of v, seen from there:

    S_u = Jᵀ S_v J,    J = ∂v/∂u

so that J, of |v| rows, is carried down in place of S_u, of |u|: for a network of ReLUs as many rows
as it has outputs, however large its images are.
"""

from collections.abc import Collection

from hesse.graph.graph import Graph
from hesse.operations.registry import record_of


def cuts(graph: Graph, sites: Collection[str], active: set[str]) -> list[str]:
    """The active values that alone cross from below to above, the lowest first, from the lowest
    site up."""
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


def find_strait(
    graph: Graph, sites: Collection[str], active: set[str], linearized: Collection[str]
) -> str | None:
    """The smallest value that alone separates what is above from linear operations alone, down to
    the lowest site; ``None`` where it has as many entries as every site below it.

    Args:
        graph: the graph.
        sites: the values where parameters enter.
        active: the values that derivatives flow through.
        linearized: those whose operations count as linear.
    """
    lowest = min(graph.place[value] for value in sites)
    curved = next(
        (
            node.name
            for node in graph.nodes[lowest + 1 :]
            if node.name in active
            and (inputs := tuple(name for name in node.inputs if name in active))
            and node.name not in linearized
            and not record_of(node).is_linear(node, inputs)
        ),
        graph.output,
    )
    strait = None
    for cut in cuts(graph, sites, active):
        size = graph.node[cut].size
        if graph.place[cut] >= graph.place[curved]:
            break
        if strait is None or size <= graph.node[strait].size:
            strait = cut
    if strait is None:
        return None
    below = [value for value in sites if graph.place[value] < graph.place[strait]]
    largest = max((graph.node[value].size for value in below), default=0)
    return strait if graph.node[strait].size < largest else None
