"""Placements: where the entries of a value lie that operations do nothing but move, so that chains
of such operations are taken in one step.

The queries of an attention are a projection reshaped, transposed, selected from and reshaped again.
Operation by operation everything carried down would be laid anew for each; it is put where it
belongs in the projection at once.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch

from hesse.graph.graph import Graph, Node, Ref
from hesse.graph.sites import Site
from hesse.operations.arranging import placed
from hesse.operations.record import MOVES, Structure
from hesse.operations.registry import record_of

aten = torch.ops.aten


def with_placements(graph: Graph, sites: Iterable[Site], top: str) -> Graph:
    """The graph with every chain of operations that only move entries in one step.

    Args:
        graph: the graph.
        sites: whose values and inputs stay: a chain begins below them or ends there.
        top: a value that stays likewise.
    """
    asked = {value for site in sites for value in (site.value, site.input)}
    kept = {graph.output, top, *asked}
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    nodes = list[Node]()
    for node in graph.nodes:
        chain = [node] if _moves(node) else []
        while chain and (link := graph.node.get(chain[-1].inputs[0])) is not None:
            # What several share is moved once for all, unless each takes a part of its own.
            if (
                link.name in kept
                or not _moves(link)
                or not (len(users[link.name]) == 1 or all(map(_selects, users[link.name])))
            ):
                break
            chain.append(link)
        nodes.append(_in_one_step(graph, chain[::-1]) if chain else node)
    needed = set(kept)
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    nodes = [node for node in nodes if node.name in needed]
    # Right above where they come from, so that pairs of them are put there at once.
    place = dict(graph.place)
    for node in nodes:
        if node.op is placed:
            place[node.name] = place.get(node.inputs[0], -1)
    return replace(graph, nodes=tuple(sorted(nodes, key=lambda node: place[node.name])))


def _moves(node: Node) -> bool:
    return len(node.inputs) == 1 and node.floating and record_of(node).has(MOVES)


def _selects(node: Node) -> bool:
    return record_of(node).has(Structure.SELECTS)


def _in_one_step(graph: Graph, chain: list[Node]) -> Node:
    """The last of a chain, from the first one's input; as it is where that takes more than one
    step, or no less work."""
    last = chain[-1]
    if all(record_of(node).has(Structure.RELABELS) for node in chain):
        return last
    source = chain[0].inputs[0]
    start = torch.empty(graph.shapes[source], device="meta")
    value = start
    for node in chain:
        if tuple(value.shape) == node.shape and record_of(node).has(Structure.RELABELS):
            continue
        value = node.evaluate({node.inputs[0]: value})
        if value.untyped_storage()._cdata != start.untyped_storage()._cdata:
            return last
    if value.is_contiguous() and value.numel() == start.numel():
        args = (Ref(source), list(last.shape))
        return replace(last, op=aten.reshape.default, args=args, kwargs={})
    if len(chain) == 1:
        return last
    where = (start.ndim, last.shape, value.stride(), value.storage_offset())
    return replace(last, op=placed, args=(Ref(source), *where), kwargs={})
