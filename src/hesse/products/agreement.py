"""Whether a fast way of making products gives what plain autograd gives, to rounding: tried where a
way is first used."""

from collections.abc import Callable

import torch
from torch import Tensor

from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.derivatives import Tensors

# Of the largest entry of H v: what regrouping sums may change.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}


def difference(found: Tensors, plain: Callable[[], Tensors]) -> str | None:
    """How a product differs from the plain one by more than rounding explains; ``None`` where it
    does not.

    Args:
        found: the product.
        plain: makes the plain one. Where it is no number everywhere it tells nothing.
    """
    expected = plain()
    if not all(bool(part.isfinite().all()) for part in expected):
        return None
    largest = max((float(part.abs().max()) for part in expected if part.numel()), default=0.0)
    limits = [max(_TOLERANCE[part.dtype] for part in expected) * largest for _ in expected]
    if not all(map(_within, found, expected, limits)):
        limits = [
            limit + ROUNDINGS * each for limit, each in zip(limits, noise(plain), strict=True)
        ]
    for got, part, limit in zip(found, expected, limits, strict=True):
        if not _within(got, part, limit):
            error = float((got - part).abs().max())
            return (
                f"a product differs from ∂(∇J·v)/∂θ by {error:.2g} where that is up to"
                f" {largest:.2g}"
            )
    return None


def _within(found: Tensor, expected: Tensor, limit: float) -> bool:
    return torch.allclose(found, expected, rtol=0.0, atol=limit)
