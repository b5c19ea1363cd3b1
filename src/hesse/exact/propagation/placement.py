"""Where the entries of a value lie in one below it, when all between only puts entries in other
places: what is carried at the value goes there in one step.

Between a layer and the heads of its attention lie some ten views, transpositions and a selection.
One by one, half of them would copy all that is carried.
"""

from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.graph.graph import Graph, Node
from hesse.operations.record import Structure
from hesse.operations.registry import record_of


@dataclass(frozen=True)
class Placement:
    """Where the entries of a value lie in another.

    Attributes:
        foot: the other value.
        nodes: the operations from it up to the value.
    """

    foot: str
    nodes: tuple[Node, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's, for one sample."""
        return self.nodes[-1].shape

    @property
    def selects(self) -> bool:
        """Whether the last operation selects: what arrives there is written out in any case."""
        return record_of(self.nodes[-1]).has(Structure.SELECTS)

    def __call__(self, whole: Tensor, shape: tuple[int, ...], lead: int) -> Tensor:
        """The part of a tensor (lead..., *foot, ...), in place, that is the value's.

        Args:
            whole: the tensor.
            shape: the foot's.
            lead: how many axes lead.

        Raises:
            RuntimeError: it is no view of it.
        """
        for node in self.nodes:
            record = record_of(node)
            if record.selected is not None:
                whole = record.selected(node, whole, lead)
            else:
                behind = whole.shape[lead + len(shape) :]
                whole = whole.view(*whole.shape[:lead], *node.shape, *behind)
            shape = node.shape
        return whole


def placements(graph: Graph, active: Set[str], apart: Set[str]) -> dict[str, Placement]:
    """Those of the values that derivatives flow through, each as far down as it goes.

    Args:
        graph: the graph.
        active: the values that derivatives flow through.
        apart: the values that have to be arrived at.
    """
    found: dict[str, Placement] = {}
    for node in graph.nodes:
        record = record_of(node)
        moves = record.selected is not None or record.has(Structure.RELABELS)
        if node.name not in active or not moves or len(node.inputs) != 1 or node.name in apart:
            continue
        below = found.get(node.inputs[0])
        if below is not None:
            further = Placement(below.foot, (*below.nodes, node))
            if _is_view(further, graph):
                found[node.name] = further
                continue
        found[node.name] = Placement(node.inputs[0], (node,))
    return {name: each for name, each in found.items() if each.selects or len(each.nodes) > 1}


def _is_view(placement: Placement, graph: Graph) -> bool:
    """Whether the part is there in place: not where axes are joined that were moved apart."""
    shape = graph.shapes.get(placement.foot)
    if shape is None:
        return False
    try:
        placement(torch.empty(shape, device="meta"), shape, 0)
    except RuntimeError:
        return False
    return True
