"""What a pair of parameter uses brings for each sample, not summed over them: its entries on the
diagonal, and its block.

Index letters as in `hesse.exact.contraction.choice`.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hesse.exact.contraction.diagonal_entries import add_entries, jacobian_and_weights
from hesse.exact.contraction.pair import Pair, ThroughBottleneck, dense
from hesse.exact.contraction.shared_positions import scattered_delta
from hesse.graph.structures import Diagonal
from hesse.process.circumstances import is_interrupted

# Of a pair, what has an axis for the samples.
_OF_SAMPLES = ("a", "b", "hessian", "delta", "jacobian")


def entries_by_sample(pair: Pair, size: int) -> Tensor:
    """The diagonal of a parameter of so many entries, (n, size): of every sample what `add_entries`
    adds for a chunk that holds it alone."""

    def of_sample(alone: Pair) -> Tensor:
        # New of what is mapped over, so that it can be written to.
        total = alone.a.new_zeros(size)
        add_entries(alone, total)
        return total

    tensors: list[Tensor] = []

    def noted(part: Tensor) -> Tensor:
        tensors.append(part)
        return part

    _mapped(pair, noted)

    def of_tensors(*parts: Tensor) -> Tensor:
        remaining = iter(parts)
        return of_sample(_mapped(pair, lambda _: next(remaining).unsqueeze(0)))

    try:
        return vmap(of_tensors)(*tensors)
    # Of uses whose entries are in no order that is known, which are taken from their block.
    except RuntimeError as error:
        if is_interrupted(error):
            raise
        return torch.stack(
            [
                of_sample(_mapped(pair, lambda part, n=n: part[n : n + 1]))
                for n in range(len(pair.a))
            ]
        )


def _mapped(pair: Pair, function: Callable[[Tensor], Tensor]) -> Pair:
    """The pair with every tensor of its samples replaced."""
    return replace(pair, **{name: _part(getattr(pair, name), function) for name in _OF_SAMPLES})


def _part(part: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(part, Tensor):
        return function(part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return replace(
        part, **{each.name: _part(getattr(part, each.name), function) for each in fields(part)}
    )


def blocks_by_sample(pair: Pair) -> Tensor:
    """The block, (n, g o i, h p j)."""
    n = len(pair.a)
    total = pair.a.new_zeros(n, *pair.left.shape, *pair.right.shape)
    if isinstance(pair.hessian, ThroughBottleneck):
        total += _through(pair, pair.hessian)
    elif pair.hessian is not None:
        total += _curvature(_laid(pair.hessian, pair), pair.a, pair.b)
    if pair.jacobian is not None:
        total += _product_rule(pair)
    return total.reshape(n, pair.left.size, pair.right.size)


def _laid(hessian: Any, pair: Pair) -> Tensor:
    """S with its seven axes, (n, h, s, p, g, o, t)."""
    S = dense(hessian)
    assert S is not None
    (n, g, t, _), (_, h, s, _) = pair.a.shape, pair.b.shape
    return S.reshape(n, h, s, pair.right.shape[1], g, pair.left.shape[1], t)


def _curvature(hessian: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_ts a[g,t,i] S[h,s,p; g,o,t] b[h,s,j]."""
    return torch.einsum("nhspgot,ngti,nhsj->ngoihpj", hessian, a, b)


def _product_rule(pair: Pair) -> Tensor:
    """Σ_tu a[g,t,i] D[h,u,c; g,o,t] δ'[h,u,w,p], with j = (c, w)."""
    if isinstance(pair.jacobian, ThroughBottleneck):
        weights = scattered_delta(pair)
        found = torch.einsum(
            "nhucv,nvgoi,nhuwp->ngoihpcw", pair.jacobian.coefficients, pair.jacobian.left, weights
        )
    else:
        jacobian, weights = jacobian_and_weights(pair)
        found = torch.einsum("nhucgot,ngti,nhuwp->ngoihpcw", jacobian, pair.a, weights)
    return found.flatten(-2)


def _through(pair: Pair, through: ThroughBottleneck) -> Tensor:
    """S that passes through a value v: Σ_vs L[v,g,o,i] K[h,s,p; v] b[h,s,j], or of a site with
    itself Σ_vw L[v] K[v,w] R[w], and what is added below v."""
    if through.right is None:
        return torch.einsum("nhspv,nvgoi,nhsj->ngoihpj", through.coefficients, through.left, pair.b)
    total = torch.einsum(
        "nvgoi,nvw,nwhpj->ngoihpj", through.left, through.coefficients, through.right
    )
    if isinstance(through.local, Diagonal):
        # At g = h and o = p alone.
        local = torch.einsum("ngto,ngti,ngtj->ngoij", through.local.values, pair.a, pair.b)
        total.diagonal(dim1=1, dim2=4).diagonal(dim1=1, dim2=3).add_(local.permute(0, 3, 4, 1, 2))
    elif through.local is not None:
        total += _curvature(_laid(through.local, pair), pair.a, pair.b)
    return total
