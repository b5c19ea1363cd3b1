"""Sums in fewer passes over memory."""

from typing import Any

import torch
from torch import fx

from hesse.capture.simplification.graph import Rule, Simplification, arguments, form

aten = torch.ops.aten

ADDITIONS: frozenset[Any] = frozenset({aten.add.Tensor, aten.sub.Tensor})
# a + b @ c in one pass over the result.
FUSED: dict[Any, Any] = {
    aten.mm.default: aten.addmm.default,
    aten.bmm.default: aten.baddbmm.default,
}
OF_FUSED: dict[Any, Any] = {fused: product for product, fused in FUSED.items()}


def products(graph: Simplification, node: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of which a value that depends on v, used once, is the sum of matrix
    products."""
    if not graph.moves(node) or len(node.users) > 1 or node.kwargs:
        return None
    if node.target in FUSED:
        return [(arguments(node)[0], arguments(node)[1])]
    if node.target not in OF_FUSED:
        return None
    before = products(graph, arguments(node)[0])
    return None if before is None else [*before, (arguments(node)[1], arguments(node)[2])]


def _accumulated(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """c + a @ b + d @ e, one accumulator."""
    if node.kwargs or len(node.args) != 2:
        return None
    # The later of two is added to the other one.
    first, second = arguments(node)
    for addend, summed in ((first, second), (second, first)):
        pairs = products(graph, summed)
        if pairs is None or not isinstance(addend, fx.Node) or addend is summed:
            continue
        if form(addend) is None or form(node)[:3] != form(summed)[:3]:
            continue
        # It may be smaller.
        if form(addend)[1:3] != form(summed)[1:3]:
            continue
        total = addend
        for left, right in pairs:
            total = summed_with(graph, summed, total, left, right)
        return total
    return None


def summed_with(
    graph: Simplification, like: Any, total: fx.Node | None, left: Any, right: Any
) -> fx.Node:
    """total + left @ right, of the kind of another product."""
    product = OF_FUSED.get(like.target, like.target)
    if total is None:
        return graph.call(product, left, right)
    return graph.call(FUSED[product], total, left, right)


def _with_factor(graph: Simplification, node: fx.Node) -> fx.Node | None:
    """c ± g ⊙ a in one pass."""
    if node.kwargs:
        return None
    sign = 1 if node.target is aten.add.Tensor else -1
    first, second = arguments(node)
    for addend, scaled in ((first, second), (second, first))[: 1 + (sign == 1)]:
        if not isinstance(addend, fx.Node) or not isinstance(scaled, fx.Node) or addend is scaled:
            continue
        if scaled.target is not aten.mul.Tensor or len(scaled.users) > 1:
            continue
        if not graph.moves(scaled) or len({form(x)[:3] for x in (node, addend, scaled)}) > 1:
            continue
        source, factor = arguments(scaled)
        if not isinstance(factor, fx.Node):
            return graph.call(node.target, addend, source, alpha=factor)
        return graph.call(aten.addcmul.default, addend, source, factor, value=sign)
    return None


ACCUMULATED = Rule(_accumulated, frozenset({aten.add.Tensor}))
WITH_FACTOR = Rule(_with_factor, ADDITIONS)
