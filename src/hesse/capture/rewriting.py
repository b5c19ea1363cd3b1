"""A traced graph in operations that have second derivatives and show where parameters enter, by the
rewrites of their records."""

from hesse.graph.graph import Node
from hesse.operations.registry import record_of


def rewritten(nodes: list[Node], shapes: dict[str, tuple[int, ...]]) -> list[Node]:
    """The nodes that replace those given; shapes of new values are added to ``shapes``."""
    result: list[Node] = []
    for node in nodes:
        rewrite = record_of(node).rewrite
        replacing = rewrite(node, shapes) if rewrite is not None else [node]
        shapes.update({new.name: new.shape for new in replacing})
        result.extend(replacing)
    return result
