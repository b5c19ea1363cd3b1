"""Losses read as −log p(y | ŷ): a label drawn from the model's own prediction, and the slope of the
loss there.

Each is such that the mean of u uᵀ over labels, u the slope, is the Hessian of the loss in ŷ: the
Fisher information is Gauss–Newton's matrix. A weight of a class or of an entry counts its sample as
so many: u has its root.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Options = Mapping[str, Any]
# (prediction, target, the options of the loss, generator) -> u, of the shape of the prediction.
Slope = Callable[[Tensor, Tensor, Options, Generator], Tensor]


def categorical(prediction: Tensor, target: Tensor, options: Options, random: Generator) -> Tensor:
    """softmax(ŷ) − e_s, s drawn from the softmax; ŷ of shape (n, classes, ...)."""
    axis = 1 if prediction.ndim > 1 else 0
    p = prediction.softmax(axis).movedim(axis, -1)
    drawn = torch.multinomial(p.reshape(-1, p.shape[-1]), 1, True, generator=random)
    slope = p - F.one_hot(drawn.reshape(p.shape[:-1]), p.shape[-1])
    root = _class_weights(p, target, axis, options).sqrt()
    return (slope * root.unsqueeze(-1)).movedim(-1, axis)


def _class_weights(p: Tensor, target: Tensor, axis: int, options: Options) -> Tensor:
    """What each position counts as, by its own target: Σ_c weight_c of the target's smoothed
    probabilities; nothing where it is left out."""
    if target.is_floating_point():
        kept, given = torch.ones_like(p[..., 0], dtype=torch.bool), target.movedim(axis, -1)
    else:
        kept = target != options.get("ignore_index", -100)
        given = F.one_hot(torch.where(kept, target, 0), p.shape[-1]).to(p.dtype)
    smoothing = options.get("label_smoothing", 0.0)
    smoothed = (1 - smoothing) * given + smoothing / p.shape[-1]
    weight = options.get("weight")
    counts = smoothed.sum(-1) if weight is None else smoothed @ weight.to(p.dtype)
    return torch.where(kept, counts, 0)


def bernoulli(prediction: Tensor, target: Tensor, options: Options, random: Generator) -> Tensor:
    """σ(ŷ) − s, s drawn with probability σ(ŷ)."""
    p, weight = prediction.sigmoid(), options.get("pos_weight")
    slope = p - torch.bernoulli(p, generator=random)
    return slope if weight is None else (weight * target + 1 - target).sqrt() * slope


def gaussian(prediction: Tensor, target: Tensor, options: Options, random: Generator) -> Tensor:
    """√2 z: (y − ŷ)² is −log p where y is normal with variance 1/2."""
    return 2**0.5 * half_gaussian(prediction, target, options, random)


def half_gaussian(
    prediction: Tensor, target: Tensor, options: Options, random: Generator
) -> Tensor:
    """z: ½ (y − ŷ)² is −log p where y is normal with variance 1."""
    shape = torch.broadcast_shapes(prediction.shape, target.shape)
    return torch.randn(
        shape, generator=random, dtype=prediction.dtype, device=prediction.device
    ).sum_to_size(prediction.shape)


def poisson(prediction: Tensor, target: Tensor, options: Options, random: Generator) -> Tensor:
    """exp ŷ − s, s a Poisson number of mean exp ŷ."""
    rate = prediction.exp()
    return rate - torch.poisson(rate, generator=random)


# By the name of the loss.
LIKELIHOODS: dict[str, Slope] = {
    "binary_cross_entropy_with_logits": bernoulli,
    "cross_entropy": categorical,
    "half_sse": half_gaussian,
    "mse_loss": gaussian,
    "poisson_nll_loss": poisson,
}
