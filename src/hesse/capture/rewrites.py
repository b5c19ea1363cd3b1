"""Rewrites of captured operations into forms that have slots and second derivatives.

Each rewrite takes a node and gives the nodes that replace it; the last one keeps the node's name. They are listed in
`REWRITES`, by operation.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hesse.graph.graph import Node, Ref

aten = torch.ops.aten
Shapes = dict[str, tuple[int, ...]]
Rewrite = Callable[[Node, Shapes], list[Node]]


def scale_shift(x: Tensor, scale: Tensor | None, shift: Tensor | None, axis: int) -> Tensor:
    """x ∘ scale + shift, both laid along the axes of ``x`` that begin at ``axis``."""
    given = scale if scale is not None else shift
    assert given is not None
    trailing = x.ndim - (axis % x.ndim) - given.ndim
    for vector, combine in ((scale, torch.mul), (shift, torch.add)):
        if vector is not None:
            x = combine(x, vector.reshape(vector.shape + (1,) * trailing))
    return x


def standardise(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """(x − mean) / √(variance + eps) over axis 1: BatchNorm with its running statistics."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x - mean.reshape(shape)) * (variance.reshape(shape) + eps).rsqrt()


def _argument(node: Node, place: int, default: Any = None) -> Any:
    return node.args[place] if len(node.args) > place else default


def _with_affine(node: Node, plain: Node, weight: Any, bias: Any, axis: int) -> list[Node]:
    if weight is None and bias is None:
        return [Node(node.name, plain.op, plain.args, plain.kwargs, node.shape)]
    return [plain, Node(node.name, scale_shift, (Ref(plain.name), weight, bias, axis), {}, node.shape)]


def _layer_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, normalised, eps = node.args[0], node.args[1], _argument(node, 4, 1e-5)
    plain = Node(f"{node.name}__normalised", aten.layer_norm.default, (x, normalised, None, None, eps), {}, node.shape)
    return _with_affine(node, plain, _argument(node, 2), _argument(node, 3), -len(normalised))


def _group_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, groups, eps = node.args[0], node.args[1], _argument(node, 4, 1e-5)
    plain = Node(f"{node.name}__normalised", aten.group_norm.default, (x, groups, None, None, eps), {}, node.shape)
    return _with_affine(node, plain, _argument(node, 2), _argument(node, 3), 1)


def _instance_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, weight, bias, *statistics = node.args
    plain = Node(f"{node.name}__normalised", node.op, (x, None, None, *statistics), node.kwargs, node.shape)
    return _with_affine(node, plain, weight, bias, 1)


def _batch_norm(node: Node, shapes: Shapes) -> list[Node]:
    x, weight, bias, mean, variance, training, _, eps, *_ = node.args
    if training or mean is None:
        return [node]
    plain = Node(f"{node.name}__normalised", standardise, (x, mean, variance, eps), {}, node.shape)
    return _with_affine(node, plain, weight, bias, 1)


def _attention(node: Node, shapes: Shapes) -> list[Node]:
    """softmax(q kᵀ / √d + mask) v, in operations that can be differentiated twice."""
    options = dict(
        zip(("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"), node.args[3:], strict=False), **node.kwargs
    )
    q, k, v = node.args[:3]
    if options.get("dropout_p"):
        return [node]
    name, length, width = node.name, *shapes[q.name][-2:]
    nodes = []
    if options.get("enable_gqa"):
        (more, k), (others, v) = (
            _for_each_head(f"{name}__{part}", shared, shapes[q.name][-3], shapes) for part, shared in (("keys", k), ("values", v))
        )
        nodes += [*more, *others]
    *lead, keys, _ = shapes[k.name]
    square = (*torch.broadcast_shapes(lead, shapes[q.name][:-2]), length, keys)
    scale = options.get("scale") or 1 / math.sqrt(width)
    nodes += [
        Node(f"{name}__q", aten.mul.Scalar, (q, scale), {}, shapes[q.name]),
        Node(f"{name}__k", aten.transpose.int, (k, -2, -1), {}, (*lead, width, keys)),
        Node(f"{name}__scores", aten.matmul.default, (Ref(f"{name}__q"), Ref(f"{name}__k")), {}, square),
    ]
    mask = options.get("attn_mask")
    if options.get("is_causal"):
        nodes.append(Node(f"{name}__masked", causal, (Ref(nodes[-1].name),), {}, square))
    elif mask is not None:
        nodes.append(Node(f"{name}__masked", masked, (Ref(nodes[-1].name), mask), {}, square))
    nodes.append(Node(f"{name}__weights", aten.softmax.int, (Ref(nodes[-1].name), -1), {}, square))
    nodes.append(Node(name, aten.matmul.default, (Ref(nodes[-1].name), v), {}, node.shape))
    return nodes


def _for_each_head(name: str, shared: Ref, heads: int, shapes: Shapes) -> tuple[list[Node], Ref]:
    """Keys or values that several heads of queries share, (*lead, groups, s, d) -> (*lead, heads, s, d)."""
    *lead, groups, length, width = shapes[shared.name]
    if groups == heads:
        return [], shared
    one, several = (*lead, groups, 1, length, width), (*lead, groups, heads // groups, length, width)
    shapes[name] = (*lead, heads, length, width)
    made = [
        Node(f"{name}__one", aten.unsqueeze.default, (shared, -3), {}, one),
        Node(f"{name}__several", aten.expand.default, (Ref(f"{name}__one"), list(several)), {}, several),
        Node(name, aten.reshape.default, (Ref(f"{name}__several"), list(shapes[name])), {}, shapes[name]),
    ]
    return made, Ref(name)


def _reshape(node: Node, shapes: Shapes) -> list[Node]:
    """A view of what is laid out otherwise here than where it was traced."""
    return [Node(node.name, aten.reshape.default, node.args, node.kwargs, node.shape, node.floating)]


def causal(scores: Tensor) -> Tensor:
    """Scores of later keys are taken out."""
    keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~keep, -math.inf)


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores under a mask: kept where it is true, or added to."""
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def _dropout(node: Node, shapes: Shapes) -> list[Node]:
    rate, training = node.args[1], node.args[2]
    return [node] if training and rate > 0 else [Node(node.name, aten.clone.default, node.args[:1], {}, node.shape)]


def _square(node: Node, shapes: Shapes) -> list[Node]:
    return [Node(node.name, aten.square.default, node.args[:1], {}, node.shape)] if node.args[1] == 2 else [node]


def _prelu(node: Node, shapes: Shapes) -> list[Node]:
    """x where x > 0, else w x: a scale slot and a selection."""
    x, weight = node.args
    if not isinstance(x, Ref) or not isinstance(weight, Ref):
        return [node]
    slope = (*shapes[weight.name], *(1,) * max(0, len(node.shape) - 2)) if shapes[weight.name] != (1,) else (1,)
    names = [f"{node.name}__{part}" for part in ("slope", "scaled", "positive")]
    return [
        Node(names[0], aten.view.default, (weight, list(slope)), {}, slope),
        Node(names[1], aten.mul.Tensor, (x, Ref(names[0])), {}, node.shape),
        Node(names[2], aten.gt.Scalar, (x, 0), {}, node.shape),
        Node(node.name, aten.where.self, (Ref(names[2]), x, Ref(names[1])), {}, node.shape),
    ]


def _addmm(node: Node, shapes: Shapes) -> list[Node]:
    """beta b + alpha x w, its factors as operations of their own."""
    factors = {"beta": node.kwargs.get("beta", 1), "alpha": node.kwargs.get("alpha", 1)}
    if not node.kwargs:
        return [node]
    bias, x, weight = node.args
    product, scaled, shift = (f"{node.name}__{part}" for part in ("product", "scaled", "shift"))
    return [
        Node(product, aten.mm.default, (x, weight), {}, node.shape),
        Node(scaled, aten.mul.Scalar, (Ref(product), factors["alpha"]), {}, node.shape),
        Node(shift, aten.mul.Scalar, (bias, factors["beta"]), {}, shapes[bias.name]),
        Node(node.name, aten.add.Tensor, (Ref(scaled), Ref(shift)), {}, node.shape),
    ]


def _slice_scatter(node: Node, shapes: Shapes) -> list[Node]:
    """What is written into a slice, its ends counted from the front: mapped over samples, torch cannot count from the back."""
    x, written, axis, start, end, step = node.arguments(None, None, 0, None, None, 1)
    start, end, _ = slice(start, end).indices(shapes[x.name][axis])
    return [Node(node.name, node.op, (x, written, axis, start, end, step), {}, node.shape, node.floating)]


REWRITES: dict[Any, Rewrite] = {
    aten.addmm.default: _addmm,
    aten.prelu.default: _prelu,
    aten.layer_norm.default: _layer_norm,
    aten.group_norm.default: _group_norm,
    aten.instance_norm.default: _instance_norm,
    aten.batch_norm.default: _batch_norm,
    aten.scaled_dot_product_attention.default: _attention,
    aten.dropout.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.pow.Tensor_Scalar: _square,
    aten.view.default: _reshape,
    aten.slice_scatter.default: _slice_scatter,
}


def rewrite(nodes: list[Node], shapes: Shapes) -> list[Node]:
    """Apply the rewrites; shapes of new values are added to ``shapes``."""
    result: list[Node] = []
    for node in nodes:
        made = REWRITES[node.op](node, shapes) if node.op in REWRITES else [node]
        shapes.update({new.name: new.shape for new in made})
        result.extend(made)
    return result
