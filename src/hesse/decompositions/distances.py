"""Distances between the rows of matrices, of which PyTorch has no second derivatives."""

import math
from typing import Any

import torch
from torch import Tensor

from hesse.decompositions.decomposition import MISSING, Decomposition

aten = torch.ops.aten


def _norm(x: Tensor, p: float) -> Tensor:
    """‖x‖_p along the last axis. At x = 0 its derivatives are 0, by the convention that PyTorch has
    for the first.

    So are, there, those of |x_i| for p ≤ 1; for 1 < p < 2 the second derivative in an x_i that is 0
    is infinite.
    """
    if p == 0:
        return (x != 0).to(x.dtype).sum(-1)
    size = x.abs()
    if x.shape[-1] == 0:  # amax of nothing is an error
        return size.sum(-1)
    if math.isinf(p):
        return size.amax(-1)
    # The norm is homogeneous: what it is scaled by is no part of its derivatives, and keeps powers
    # within range.
    unit = size.detach().amax(-1, keepdim=True)
    unit = torch.where(unit > 0, unit, 1.0)
    if p == 2:
        total = (x / unit).square().sum(-1)
    else:
        away = size > 0 if p <= 1 or p > 2 else torch.ones_like(size, dtype=torch.bool)
        total = torch.where(away, torch.where(away, size / unit, 1.0).pow(p), 0.0).sum(-1)
    # Twice a `where`: the one inside keeps the power's infinite slope at 0 out of the other's
    # backward, in which 0 times infinity would be nan.
    nonzero = total > 0
    return torch.where(nonzero, torch.where(nonzero, total, 1.0).pow(1 / p) * unit.squeeze(-1), 0.0)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """`torch.cdist`: ‖x1[i] − x2[j]‖_p, not by the products of rows, which lose the small ones."""
    return _norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


def _pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """`torch.nn.functional.pdist`: ‖x[i] − x[j]‖_p for i < j."""
    first, second = torch.triu_indices(len(input), len(input), 1, device=input.device)
    return _norm(input[first] - input[second], p)


DISTANCES: dict[Any, Decomposition] = {
    **dict.fromkeys((torch.cdist, aten.cdist, aten.cdist.default), Decomposition(_cdist, MISSING)),
    **dict.fromkeys((torch.pdist, aten.pdist, aten.pdist.default), Decomposition(_pdist, MISSING)),
}
