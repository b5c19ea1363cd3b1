"""A traced product in fewer passes over memory.

    g ⊙ a ⊙ b, a and b without v        ->  g ⊙ (a ⊙ b)      the bracket is computed once, not per v
    f'(z) of g, as PyTorch's backward   ->  g ⊙ f'(z)
    c + a @ b, c + g ⊙ a                ->  one operation each
    c + (a @ b + d @ e)                 ->  (c + a @ b) + d @ e, one accumulator
    c + 0, 0 a tangent that is none     ->  c
    parts among zeros, added up         ->  the parts side by side
    s (a @ b), (s a) @ b, s a number    ->  a @ (s b)        likewise

Most of what a product with the Hessian does beside matrix products passes over activations, so that
it takes as long as there are passes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hesse.capture.forms import known_by
from hesse.capture.simplification.factors import OF_FACTORS, OF_SCALED, SCALED
from hesse.capture.simplification.graph import (
    Rule,
    Simplification,
    arguments,
    drop_unused,
    moving,
)
from hesse.capture.simplification.sums import ACCUMULATED, WITH_FACTOR
from hesse.capture.simplification.zeros import SIDE_BY_SIDE, without_zeros

aten = torch.ops.aten


def simplify(graph: fx.Graph, tangents: Sequence[fx.Node]) -> None:
    """Fewer operations with the same result, to rounding, for values that are finite.

    Args:
        graph: a product, every operation of it pure, with the values of its nodes as shapes and
            without repetitions.
        tangents: its placeholders for v, in which it is linear.
    """
    product = Simplification(graph, moving(graph, tangents))
    product.run(SIDE_BY_SIDE)
    # Of a sum of products what is scaled is looked at between, and what the sum is added to.
    product.run(
        *(without_zeros(graph), _WITHOUT_TURNS, OF_FACTORS),
        *(ACCUMULATED, SCALED, OF_SCALED, ACCUMULATED, WITH_FACTOR),
    )
    _merge_equal(graph)
    drop_unused(graph)


def fuse_sums(graph: fx.Graph) -> None:
    """Likewise, by the rules that make nothing new without v, for a product cut in two."""
    product = Simplification(graph, {node for node in graph.nodes if node.meta.get("moves")})
    product.run(ACCUMULATED, WITH_FACTOR)


def _merge_equal(graph: fx.Graph) -> None:
    """The same operation on the same arguments is done once."""
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op not in ("call_function", "get_attr"):
            continue
        key = node.target, known_by(node.args), known_by(tuple(node.kwargs.items()))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _without_turns(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """The transpose of a transpose, the reshape of a reshape."""
    source = arguments(node)[0] if arguments(node) else None
    if not isinstance(source, fx.Node) or source.target is not node.target:
        return None
    if node.target is aten.reshape.default:
        return graph.call(aten.reshape.default, arguments(source)[0], arguments(node)[1])
    turns_back = node.target is aten.t.default or (
        node.target is aten.transpose.int and arguments(node)[1:] == arguments(source)[1:]
    )
    return arguments(source)[0] if turns_back else None


_WITHOUT_TURNS = Rule(
    _without_turns,
    frozenset({aten.reshape.default, aten.t.default, aten.transpose.int}),
    anywhere=True,
)
