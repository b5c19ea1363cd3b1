"""Functions of a tensor: sinc, the hard sigmoid, and the weight of weight normalisation."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hesse.decompositions.decomposition import MISSING, WRONG, Decomposition

aten = torch.ops.aten


def _sinc(x: Tensor) -> Tensor:
    """sin(πx) / πx. PyTorch's second derivative is 0 or noise within 1e-8 of 0, where it is
    −π²/3."""
    u = math.pi * x
    # Below 1 the series, to u¹⁸: the rest is below rounding in float64. Above it the quotient,
    # whose derivatives lose digits only where u is small.
    small = u.abs() < 1
    square = torch.where(small, u, 0.0).square()
    series = torch.ones_like(u)
    for k in range(9, 0, -1):  # Σ (−u²)ᵏ / (2k + 1)!
        series = 1 - square * series / (2 * k * (2 * k + 1))
    away = torch.where(small, 1.0, u)
    return torch.where(small, series, away.sin() / away)


def _hard_sigmoid(z: Tensor, inplace: bool = False) -> Tensor:
    """z/6 + ½ between 0 and 1. PyTorch has no second derivatives of it."""
    value = (z / 6 + 1 / 2).clamp(0, 1)
    return z.copy_(value) if inplace else value


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ‖v‖. The second derivatives of PyTorch's fused kernel are wrong (2.13; not even
    symmetric)."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


FUNCTIONS: dict[Any, Decomposition] = {
    **dict.fromkeys(
        (torch.sinc, torch.special.sinc, Tensor.sinc, aten.sinc, aten.sinc.default),
        Decomposition(_sinc, WRONG),
    ),
    Tensor.sinc_: Decomposition(lambda x: x.copy_(_sinc(x.clone())), WRONG),
    **dict.fromkeys(
        (
            F.hardsigmoid,
            torch._C._nn.hardsigmoid,  # type: ignore[attr-defined]
            aten.hardsigmoid,
            aten.hardsigmoid.default,
        ),
        Decomposition(_hard_sigmoid, MISSING),
    ),
    **dict.fromkeys(
        (torch._VF._weight_norm, aten._weight_norm, aten._weight_norm.default),
        Decomposition(_weight_norm, WRONG),
    ),
}
