"""The program of a product while rules make it simpler: its operations, and which of them depend on
v."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, fx

from hesse.capture.forms import made_of
from hesse.capture.recording import called


def form(node: Any) -> Any:
    """Shape, dtype, device and strides of a node's value."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return (
        (value.shape, value.dtype, value.device, value.stride())
        if isinstance(value, Tensor)
        else None
    )


def arguments(node: fx.Node) -> list[Any]:
    """Those by position, as what they are in each operation."""
    return list(node.args)


def moving(graph: fx.Graph, tangents: Sequence[fx.Node]) -> set[fx.Node]:
    """What depends on the tangents."""
    moves = set(tangents)
    for node in graph.nodes:
        if not moves.isdisjoint(node.all_input_nodes):
            moves.add(node)
    return moves


def drop_unused(graph: fx.Graph) -> None:
    """Take out what nothing uses; as `torch.fx.Graph.eliminate_dead_code`, which looks through the
    whole graph for mistakes first."""
    for node in reversed(graph.nodes):
        if not node.users and not node.is_impure():
            graph.erase_node(node)


@final
class Simplification:
    """A product that rules are applied to, with what of it depends on v.

    Args:
        graph: changed in place.
        moves: its nodes that depend on v; those that are made are added.
    """

    def __init__(self, graph: fx.Graph, moves: set[fx.Node]) -> None:
        self._graph, self._moves = graph, moves

    def run(self, *rules: "Rule") -> None:
        """Each rule at the operations that it knows, from the top down."""
        for rule in rules:
            for node in [node for node in self._graph.nodes if node.target in rule.targets]:
                # What another rule has taken away has no users.
                if node.users and (self.moves(node) or rule.anywhere):
                    with self._graph.inserting_before(node):
                        simpler = rule.simpler(self, node)
                    if simpler is not None:
                        node.replace_all_uses_with(simpler)
                        self._erase(node)

    def moves(self, value: Any) -> bool:
        """Whether a value depends on v."""
        return isinstance(value, fx.Node) and value in self._moves

    def call(self, target: Any, *args: Any, **options: Any) -> fx.Node:
        """A new operation, here."""
        node = called(self._graph, target, args, options)
        values, named = fx.map_arg((args, options), lambda source: source.meta["val"])
        node.meta["val"] = made_of(target, values, named)
        if any(map(self.moves, node.all_input_nodes)):
            self._moves.add(node)
            node.meta["moves"] = True
        return node

    def _erase(self, node: fx.Node) -> None:
        """A node without users, and what it alone used."""
        sources = node.all_input_nodes
        self._graph.erase_node(node)
        for source in sources:
            if not source.users and source.op == "call_function":
                self._erase(source)


@dataclass(frozen=True)
class Rule:
    """Operations that can be said in a simpler way.

    Attributes:
        simpler: what one of them becomes; ``None`` where it is as it should be.
        targets: the operations that it knows.
        anywhere: whether it is for what does not depend on v too.
    """

    simpler: Callable[[Simplification, fx.Node], fx.Node | None]
    targets: frozenset[Any]
    anywhere: bool = False
