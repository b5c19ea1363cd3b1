"""What is declared of each operation: in which inputs it is linear, and where it acts entry by entry.

Structure is a fast path, never a condition of being right: an operation in no table is differentiated automatically.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hesse.capture.rewrites import causal, masked, scale_shift, standardise
from hesse.graph.graph import Node, Pick

aten = torch.ops.aten


def _ops(names: str) -> set[Any]:
    """The operations of these names that the installed PyTorch has."""
    return {getattr(aten, name) for name in names.split() if hasattr(aten, name)}


# f acts entry by entry on one input; everything else in the call is a constant.
ELEMENTWISE = _ops(
    "tanh sigmoid silu gelu softplus elu selu celu mish log_sigmoid exp expm1 log log1p sin cos tan sinh cosh "
    "asinh atan erf sqrt rsqrt square reciprocal logit tanhshrink softsign"
)
# Likewise, and f'' is zero wherever it exists.
ELEMENTWISE_FLAT = _ops(
    "relu relu6 leaky_relu hardtanh abs clamp clamp_min clamp_max threshold hardshrink softshrink hardsigmoid"
)
# Entry by entry in one input whose shape is the result's, the other inputs given; f'' is zero except for a power's.
_POWERS = _ops("pow")
_BINARY_FLAT = _ops("add sub rsub mul neg masked_fill") | {masked, causal, standardise}
# Losses that are sums over entries: their second derivative in the prediction is diagonal.
ENTRYWISE_LOSSES = _ops(
    "mse_loss huber_loss smooth_l1_loss l1_loss binary_cross_entropy binary_cross_entropy_with_logits "
    "poisson_nll_loss soft_margin_loss kl_div"
)
# Linear in all active inputs together.
LINEAR = _ops(
    "add sub rsub neg sum mean cat stack view reshape flatten unflatten transpose permute t numpy_T mT squeeze "
    "unsqueeze select slice split split_with_sizes chunk unbind expand repeat clone contiguous alias index "
    "index_select gather pad constant_pad_nd avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
    "masked_fill movedim roll flip broadcast_tensors tril triu diagonal expand_as view_as to _to_copy type_as "
    "upsample_nearest2d upsample_bilinear2d unfold im2col"
) | {masked, causal}
# Linear where they select: the second derivative is zero wherever it exists.
PIECEWISE_LINEAR = _ops("max_pool1d max_pool2d adaptive_max_pool2d amax amin max min maximum minimum where sort topk")
# Linear in each input by itself.
MULTILINEAR = _ops("mul matmul mm bmm linear addmm baddbmm conv1d conv2d conv3d dot mv einsum bilinear outer embedding") | {
    scale_shift,
    standardise,
}
# Linear in the first input by itself.
LINEAR_IN_FIRST = _ops("div prelu")
# Steps: no derivative passes through.
DISCRETE = _ops(
    "gt lt ge le eq ne argmax argmin logical_not logical_and logical_or logical_xor bitwise_not bitwise_and bitwise_or "
    "isnan isinf isfinite any all sign floor ceil round argsort detach"
)
# The same entries in the same order: a diagonal stays one.
RELABEL = _ops("view reshape flatten unflatten squeeze unsqueeze clone contiguous alias")

# Some of the entries of one input: (node, tensor, how many axes lead) -> the part of the tensor, in place, that is selected.
SELECTED: dict[Any, Callable[[Node, Tensor, int], Tensor]] = {
    aten.select: lambda node, whole, lead: whole.select(lead + node.args[1] % (len(node.shape) + 1), node.args[2]),
}


def packet(node: Node) -> Any:
    """The operation without its overload, for looking it up."""
    op = node.op.op if isinstance(node.op, Pick) else node.op
    return getattr(op, "overloadpacket", op)


def is_elementwise(node: Node, active: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the node is one function applied to each entry of its single active input."""
    kind = packet(node)
    if len(active) != 1 or not appears_once(node, active[0]):
        return False
    # Other inputs broadcast against a leading sample axis only where their rank is the same.
    ranks = {len(shapes[name]) for name in node.inputs}
    if shapes[active[0]] != node.shape or len(ranks) > 1:
        return False
    if kind in ELEMENTWISE or kind in ELEMENTWISE_FLAT or kind in _POWERS or kind is aten.div:
        return is_first(node, active)
    return kind in _BINARY_FLAT


def is_first(node: Node, active: tuple[str, ...]) -> bool:
    """Whether the first active input is the first argument and no other."""
    return getattr(node.args[0], "name", None) == active[0] and all(
        getattr(argument, "name", None) != active[0] for argument in node.args[1:]
    )


def second_derivative_is_zero(node: Node, active: tuple[str, ...]) -> bool:
    """Whether the node is (piecewise) linear in its active inputs together."""
    kind = packet(node)
    single = len(active) == 1 and appears_once(node, active[0])
    return (
        kind in LINEAR
        or kind in PIECEWISE_LINEAR
        or (kind in ELEMENTWISE_FLAT and single and is_first(node, active))
        or (kind in MULTILINEAR and single)
        or (kind in LINEAR_IN_FIRST and single and is_first(node, active))
    )


def appears_once(node: Node, name: str) -> bool:
    """Whether a value is exactly one of the arguments."""
    return sum(getattr(argument, "name", None) == name for argument in (*node.args, *node.kwargs.values())) == 1
