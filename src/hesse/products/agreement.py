"""Whether a fast way of making products gives what plain autograd gives, to rounding: tried where a
way is first used."""

from collections.abc import Callable

import torch
from torch import Tensor

from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.derivatives import Tensors

# Of the largest entry of H v: what regrouping sums may change.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}


def difference(product: Tensors, expected: Tensors, again: Callable[[], Tensors]) -> str | None:
    """How a product differs from plain autograd's by more than rounding explains; ``None`` where it
    does not.

    Args:
        product: the product, made in a fast way.
        expected: plain autograd's. Where it is no number everywhere it tells nothing.
        again: makes plain autograd's.
    """
    if not all(bool(part.isfinite().all()) for part in expected):
        return None
    largest = max((float(part.abs().max()) for part in expected if part.numel()), default=0.0)
    limits = [max(_TOLERANCE[part.dtype] for part in expected) * largest for _ in expected]
    # Rounding is measured where it matters only: that takes some products.
    if not all(map(_within, product, expected, limits)):
        limits = [
            limit + ROUNDINGS * each for limit, each in zip(limits, noise(again), strict=True)
        ]
    for fast, part, limit in zip(product, expected, limits, strict=True):
        if not _within(fast, part, limit):
            error = float((fast - part).abs().max())
            return (
                f"a product differs from ∂(∇J·v)/∂θ by {error:.2g} where that is up to"
                f" {largest:.2g}"
            )
    return None


def _within(fast: Tensor, expected: Tensor, limit: float) -> bool:
    return torch.allclose(fast, expected, rtol=0.0, atol=limit)
