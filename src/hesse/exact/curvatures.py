"""Second derivatives worth writing out: Σ δ · ∂²value/∂inputs² of an operation, δ being (n, *value).

Each gives the blocks (n, entries of one active input, *other active input), or ``None`` where the call is one that it does
not know.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from hesse.exact.operations import ENTRYWISE_LOSSES
from hesse.exact.pulls import normalised, one_class
from hesse.graph.structures import Curvature, Diagonal, RankOne

if TYPE_CHECKING:
    from hesse.exact.propagation.rules import Operation

aten = torch.ops.aten
Blocks = list[list[Curvature | None]]


def _cross_entropy(op: "Operation", delta: Tensor) -> Blocks | None:
    """w (diag(p) − p pᵀ) in the logits of one class target; w is the class weight.

    Source: Bishop (2006), eq. 4.106, for one sample.
    """
    known = one_class(op)
    if known is None or bool((delta < 0).any()):
        return None
    p, weight, _ = known
    scale = weight * delta.reshape(weight.shape)
    return [[RankOne(scale * p, scale.sqrt() * p)]]


def _entrywise_loss(op: "Operation", delta: Tensor) -> Blocks | None:
    """The diagonal is H·1, one product for all entries at once."""
    prediction = op.node.args[0].name
    if op.active != (prediction,) or op.node.shape != ():
        return None
    names = list(op.node.inputs)

    def diagonal(*inputs: Any) -> Tensor:
        given = dict(zip(names, inputs, strict=True))
        z = given[prediction]
        slope = grad(lambda z: op.local(given)(z).sum())
        return grad(lambda z: slope(z).sum())(z)

    axes = tuple(0 if op.is_batched(name) else None for name in names)
    entries = vmap(diagonal, in_dims=axes)(*(op.value(name) for name in names))
    return [[Diagonal(entries * delta.reshape(-1, *(1,) * (entries.ndim - 1)))]]


def _matmul(op: "Operation", delta: Tensor) -> Blocks | None:
    """x y with the same leading axes: δ[b,t,d] at x[b,t,s] and y[b,s,d], between the two alone."""
    names = [argument.name for argument in op.node.args]
    x, y = (op.value(name) for name in names)
    if op.active not in (tuple(names), tuple(names[::-1])) or x.shape[:-2] != y.shape[:-2] or x.ndim < 3:
        return None
    n, (t, s), d = len(delta), x.shape[-2:], y.shape[-1]
    parts = delta.reshape(n, -1, t, d)
    b = parts.shape[1]
    made = delta.new_zeros(n, b, t, s, b, s, d)
    along = made.diagonal(dim1=1, dim2=4).diagonal(dim1=2, dim2=3)  # (n, t, d, b, s)
    along.copy_(parts.permute(0, 2, 3, 1).unsqueeze(-1).expand_as(along))
    cross = made.reshape(n, b * t * s, *y.shape[1:])
    if op.active[0] != names[0]:
        cross = made.reshape(n, b * t * s, b * s * d).mT.reshape(n, b * s * d, *x.shape[1:])
    return [[None, cross], [None, None]]


def _softmax(op: "Operation", delta: Tensor) -> Blocks | None:
    """diag(w (δ − m)) − w wᵀ ∘ (δ_i + δ_j − 2 m) along the axis, m = Σ w δ; here the last one."""
    if op.node.args[1] % len(op.node.shape) != len(op.node.shape) - 1:
        return None
    n, width = len(delta), delta.shape[-1]
    w, slope = (part.reshape(n, -1, width) for part in (op.value(op.node.name), delta))
    bent = w * (slope - (w * slope).sum(-1, keepdim=True))
    blocks = torch.diag_embed(bent) - w.unsqueeze(-1) * bent.unsqueeze(-2) - bent.unsqueeze(-1) * w.unsqueeze(-2)
    return [[_along_rows(blocks, delta.shape[1:])]]


def _layer_norm(op: "Operation", delta: Tensor) -> Blocks | None:
    """(3 s y yᵀ − q yᵀ − y qᵀ − s (d I − 1 1ᵀ)) / (d σ²) for each row of length d, y its value, s = mean(δ y), q = δ − mean δ."""
    known = normalised(op)
    if known is None:
        return None
    y, rate = known
    width = y.shape[-1]
    slope = delta.reshape(y.shape)
    s, q = (slope * y).mean(-1, keepdim=True), slope - slope.mean(-1, keepdim=True)
    left = 1.5 * s * y - q
    blocks = left.unsqueeze(-1) * y.unsqueeze(-2) + y.unsqueeze(-1) * left.unsqueeze(-2) + s.unsqueeze(-1)
    blocks.diagonal(dim1=-2, dim2=-1).sub_(width * s)
    return [[_along_rows(blocks * (rate.square() / width).unsqueeze(-1), delta.shape[1:])]]


def _along_rows(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Blocks (n, rows, width, width) of a value whose rows do not mix, as its curvature (n, entries, *value)."""
    n, rows, width, _ = blocks.shape
    made = blocks.new_zeros(n, rows, width, rows, width)
    made.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
    return made.reshape(n, rows * width, *shape)


CURVATURES: dict[Any, Callable[["Operation", Tensor], Any]] = {
    aten.cross_entropy_loss: _cross_entropy,
    aten.matmul: _matmul,
    aten.softmax: _softmax,
    aten.layer_norm: _layer_norm,
    **dict.fromkeys(ENTRYWISE_LOSSES, _entrywise_loss),
}
