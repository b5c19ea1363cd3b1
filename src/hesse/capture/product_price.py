"""What the operations of a traced product cost for one v among many, by shapes."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import flop_registry

from hesse.capture.several_rules import (
    is_turned,
    padding_of_way_there,
    places_kernels,
    rule_of,
)
from hesse.capture.several_values import is_moving
from hesse.process.price import Price
from hesse.process.rehearsal import traits_of

aten = torch.ops.aten

# What starting an operation costs, in units of one that is differentiated on the way: one that is
# run as it stands, that looks at a tensor otherwise, that PyTorch's vmap works out, that places
# unit vectors; and each of many matrices that are multiplied in one, in bytes that pass in that
# time. As measured.
_CALL, _VIEW, _BY_VMAP, _PLACES, _MATRIX = 0.2, 0.1, 1.5, 1.0, 6000
_SYSTEM = aten.linalg_solve_triangular.default


def values(part: Any) -> Any:
    """The values, as shapes, of what holds nodes."""
    return fx.map_arg(part, lambda node: node.meta.get("val"))


def bytes_of(parts: Any) -> int:
    """Those of all tensors among some values."""
    if isinstance(parts, Tensor):
        return parts.nbytes
    return sum(map(bytes_of, parts)) if isinstance(parts, tuple | list) else 0


def product_price(graph: fx.Graph, unit: fx.Node) -> Price:
    """That of a product restricted to one v.

    Args:
        graph: the product, its nodes with ``meta``: ``moves`` and ``val``.
        unit: its v, a unit vector always.
    """
    total = Price()
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            total += _price(node, unit)
    return total


def _price(node: fx.Node, unit: fx.Node) -> Price:
    traits, value = traits_of(node.target), node.meta["val"]
    if not any(map(is_moving, node.all_input_nodes)):
        # Once for all.
        return Price(calls=_CALL)
    calls = _CALL if rule_of(node) is not None else _BY_VMAP
    if traits.views:
        copies = node.target is aten.reshape.default and not values(node.args[0]).is_contiguous()
        moved = 2 * value.nbytes if copies else 0
        return Price(calls=_CALL if copies else min(calls, _VIEW), rearranged=moved)
    # What a matrix product reads again for every v lies in the nearest cache.
    read = [x for x in node.all_input_nodes if traits.count is None or is_moving(x)]
    moved = bytes_of((value, [x.meta.get("val") for x in read]))
    if places_kernels(node, unit):
        return Price(calls=_PLACES, rearranged=moved)
    if traits.convolves:
        operations = _convolved(node, traits.count)
        return Price(operations, calls=calls, convolved=operations, rearranged=moved)
    if traits.count is None:
        return Price(calls=calls, **{"cached" if traits.in_order else "rearranged": moved})
    *_, left, right = (x for x in node.args if isinstance(x, fx.Node))
    if value.dim() == 2 and unit in (left, right, *map(_turned, (left, right))):
        return Price(calls=_PLACES, cached=moved)
    options = dict(node.kwargs)
    operations = traits.count(*values(node.args), **options, out_val=value)
    if node.target is _SYSTEM:
        # The sides are laid otherwise, for all v or for each its own, and what comes out too.
        return Price(operations, calls=calls, rearranged=4 * value.nbytes)
    return Price(operations, calls=calls, cached=moved + _MATRIX * _matrices(node, left, value))


def _turned(node: fx.Node) -> Any:
    return node.args[0] if node.target is aten.t.default else node


def _matrices(node: fx.Node, left: fx.Node, value: Tensor) -> int:
    """How many matrices are multiplied for each v, where not all in one."""
    if value.dim() == 3:
        return len(value)
    return 1 if value.dim() == 2 and (is_turned(left) or not is_moving(left)) else 0


def _convolved(node: fx.Node, count: Any) -> float:
    """The work of a convolution: with all v in the channels of what it makes, if these move, or in
    place of a way back by a way there."""
    value, args = node.meta["val"], values(node.args)
    if node.target is aten.convolution.default:
        folded = is_moving(node.args[1])
    elif node.args[-1][0]:  # type: ignore[index]
        folded = is_moving(node.args[2]) or padding_of_way_there(node) is not None
    else:
        folded = is_moving(node.args[0])
    if folded:
        count = flop_registry[node.target.overloadpacket]  # type: ignore[union-attr]
    return float(count(*args, **node.kwargs, out_val=value))
