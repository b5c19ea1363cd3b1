"""Losses read as −log p(y | ŷ): a label drawn from the model's own prediction, the slope u of the
loss there, and the mean of u uᵀ over labels.

For most that mean is the Hessian of the loss in ŷ, whatever the label: the Fisher information is
Gauss–Newton's matrix. For the others it is written out here, over the labels or in closed form. It
is a diagonal in ŷ for all of them. A weight of a class counts its sample as so many: u
has its root.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hesse.errors import HesseValueError

Options = Mapping[str, Any]
Tensors = list[Tensor]
# (the tensors of the prediction, target, the options of the loss, generator) -> u, alike.
Slope = Callable[[Tensors, Tensor, Options, Generator], Tensors]
# (the tensors of the prediction, target, the options of the loss) -> the mean of u uᵀ over labels,
# its diagonal.
Expectation = Callable[[Tensors, Tensor, Options], Tensors]

_OF_ITSELF = "it is Gauss–Newton's matrix, with the factor 1"


@dataclass(frozen=True)
class Likelihood:
    """What is known of a loss as −log p(y | ŷ).

    Attributes:
        slope: u at a label that is drawn.
        expectation: the mean of u uᵀ, where that is not the Hessian of the loss in ŷ.
        note: how the Fisher information of it stands to Gauss–Newton's matrix.
    """

    slope: Slope
    expectation: Expectation | None = None
    note: str = _OF_ITSELF


# ---------------------------------------------------------------- classes


def categorical(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """softmax(ŷ) − e_s, s drawn from the softmax; ŷ of shape (n, classes, ...)."""
    (scores,) = prediction
    axis = _class_axis(scores)
    p = scores.softmax(axis).movedim(axis, -1)
    slope = p - _one_hot_drawn(p, random)
    root = _class_weights(p, target, axis, options).sqrt()
    return [(slope * root.unsqueeze(-1)).movedim(-1, axis)]


def of_log_probabilities(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """−e_s, s drawn with the probabilities exp ŷ."""
    p, axis = _probabilities(prediction)
    root = _class_weights(p, target, axis, options).sqrt()
    return [-(_one_hot_drawn(p, random) * root.unsqueeze(-1)).movedim(-1, axis)]


def expected_of_log_probabilities(prediction: Tensors, target: Tensor, options: Options) -> Tensors:
    """Σ_s p_s e_s e_sᵀ = diag(p), p = exp ŷ."""
    p, axis = _probabilities(prediction)
    weight = _class_weights(p, target, axis, options)
    return [(p * weight.unsqueeze(-1)).movedim(-1, axis)]


def _class_axis(prediction: Tensor) -> int:
    return 1 if prediction.ndim > 1 else 0


def _probabilities(prediction: Tensors) -> tuple[Tensor, int]:
    """exp ŷ, the classes last, and where they stand in ŷ.

    Raises:
        HesseValueError: they do not add up to 1.
    """
    (logs,) = prediction
    axis = _class_axis(logs)
    p = logs.exp().movedim(axis, -1)
    total = p.sum(-1)
    # Of a log-softmax it is 1 to rounding.
    if not bool(((total - 1).abs() < 1e-3).all()):
        raise HesseValueError(
            "curvature: 'fisher' of nll_loss is a mean over labels with the probabilities exp ŷ,"
            f" and these add up to {float(total.flatten()[(total - 1).abs().argmax()]):.3g} for a"
            " sample; end the model in torch.nn.LogSoftmax(1)"
        )
    return p, axis


def _one_hot_drawn(p: Tensor, random: Generator) -> Tensor:
    drawn = torch.multinomial(p.reshape(-1, p.shape[-1]), 1, True, generator=random)
    return F.one_hot(drawn.reshape(p.shape[:-1]), p.shape[-1]).to(p.dtype)


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


# ---------------------------------------------------------------- yes and no


def bernoulli(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """σ(ŷ) − s, s drawn with probability σ(ŷ)."""
    (scores,) = prediction
    p, weight = scores.sigmoid(), options.get("pos_weight")
    slope = p - torch.bernoulli(p, generator=random)
    return [slope if weight is None else (weight * target + 1 - target).sqrt() * slope]


def bernoulli_of_each_class(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """The same for each of several classes, whose losses are averaged."""
    (scores,) = prediction
    (slope,) = bernoulli(prediction, target, {}, random)
    weight = options.get("weight")
    counts = torch.ones_like(scores) if weight is None else weight.expand_as(scores)
    return [slope * (counts / scores.shape[-1]).sqrt()]


def of_probabilities(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """(ŷ − s) / (ŷ (1 − ŷ)), s drawn with probability ŷ."""
    p = _inner_probabilities(prediction)
    return [(p - torch.bernoulli(p, generator=random)) / (p * (1 - p))]


def expected_of_probabilities(prediction: Tensors, target: Tensor, options: Options) -> Tensors:
    """ŷ (1/ŷ)² + (1 − ŷ) (1/(1 − ŷ))² = 1 / (ŷ (1 − ŷ))."""
    p = _inner_probabilities(prediction)
    return [1 / (p * (1 - p))]


def _inner_probabilities(prediction: Tensors) -> Tensor:
    (p,) = prediction
    if not bool(((p > 0) & (p < 1)).all()):
        raise HesseValueError(
            "curvature: 'fisher' of binary_cross_entropy divides by ŷ (1 − ŷ), and a prediction is"
            " 0 or 1; take binary_cross_entropy_with_logits of the scores"
        )
    return p


# ---------------------------------------------------------------- numbers


def gaussian(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """√2 z: (y − ŷ)² is −log p where y is normal with variance 1/2."""
    return [2**0.5 * part for part in half_gaussian(prediction, target, options, random)]


def half_gaussian(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """z: ½ (y − ŷ)² is −log p where y is normal with variance 1."""
    (mean,) = prediction
    shape = torch.broadcast_shapes(mean.shape, target.shape)
    return [_normal(mean, shape, random).sum_to_size(mean.shape)]


def of_mean(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """z / √v, v the variance that is given."""
    (mean,) = prediction
    shape = torch.broadcast_shapes(mean.shape, target.shape)
    slope = _normal(mean, shape, random) / _variance(options["var"], options).sqrt()
    return [slope.sum_to_size(mean.shape)]


def of_mean_and_variance(
    prediction: Tensors, target: Tensor, options: Options, random: Generator
) -> Tensors:
    """z / √v in the mean and (1 − z²) / (2 v) in the variance v."""
    mean, v = _mean_and_variance(prediction, options)
    z = _normal(mean, mean.shape, random)
    return [z / v.sqrt(), _like_variance((1 - z.square()) / (2 * v), prediction)]


def expected_of_mean_and_variance(prediction: Tensors, target: Tensor, options: Options) -> Tensors:
    """1/v in the mean, 1/(2 v²) in the variance v, and nothing between the two."""
    mean, v = _mean_and_variance(prediction, options)
    ones = torch.ones_like(mean)
    return [ones / v, _like_variance(ones / (2 * v.square()), prediction)]


def _mean_and_variance(prediction: Tensors, options: Options) -> tuple[Tensor, Tensor]:
    """With an axis of length 1 where one variance is for the whole last axis of the mean."""
    mean, variance = prediction
    variance = variance.unsqueeze(-1) if variance.ndim < mean.ndim else variance
    return mean, _variance(variance, options)


def _like_variance(entries: Tensor, prediction: Tensors) -> Tensor:
    """Summed over the entries of the mean that share a variance."""
    mean, variance = prediction
    shape = (*variance.shape, 1) if variance.ndim < mean.ndim else variance.shape
    return entries.sum_to_size(shape).reshape(variance.shape)


def _variance(given: Any, options: Options) -> Tensor:
    """The variance, which the loss holds at a least value."""
    return torch.as_tensor(given).clamp(min=options.get("eps", 1e-6))


def _normal(like: Tensor, shape: torch.Size, random: Generator) -> Tensor:
    return torch.randn(shape, generator=random, dtype=like.dtype, device=like.device)


def laplace(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """±1, each as likely: |y − ŷ| is −log p where y has Laplace's distribution of width 1."""
    (center,) = prediction
    return [2 * torch.bernoulli(torch.full_like(center, 0.5), generator=random) - 1]


def expected_of_laplace(prediction: Tensors, target: Tensor, options: Options) -> Tensors:
    """1."""
    return [torch.ones_like(prediction[0])]


def poisson(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """exp ŷ − s, s a Poisson number of mean exp ŷ."""
    rate = prediction[0].exp()
    return [rate - torch.poisson(rate, generator=random)]


def of_rate(prediction: Tensors, target: Tensor, options: Options, random: Generator) -> Tensors:
    """1 − s / (ŷ + ε), s a Poisson number of mean ŷ."""
    rate = _rate(prediction)
    return [1 - torch.poisson(rate, generator=random) / (rate + options.get("eps", 1e-8))]


def expected_of_rate(prediction: Tensors, target: Tensor, options: Options) -> Tensors:
    """(1 − ŷ/(ŷ + ε))² + ŷ/(ŷ + ε)², of mean and variance of s: 1/ŷ without the ε of the loss."""
    rate = _rate(prediction)
    shifted = rate + options.get("eps", 1e-8)
    return [(1 - rate / shifted).square() + rate / shifted.square()]


def _rate(prediction: Tensors) -> Tensor:
    (rate,) = prediction
    if not bool((rate > 0).all()):
        raise HesseValueError(
            "curvature: 'fisher' of poisson_nll_loss(log_input=False) divides by the rate ŷ, and a"
            " prediction is not above 0; end the model in torch.nn.Softplus()"
        )
    return rate


# ---------------------------------------------------------------- by the name of the loss

_AT_LABELS = (
    "it is Gauss–Newton's matrix with the mean over labels in place of those there are, and that"
    " of {} where the model ends in {}"
)
_LIKELIHOODS: dict[str, Likelihood] = {
    "binary_cross_entropy": Likelihood(
        of_probabilities,
        expected_of_probabilities,
        _AT_LABELS.format("binary_cross_entropy_with_logits", "a sigmoid"),
    ),
    "binary_cross_entropy_with_logits": Likelihood(bernoulli),
    "cross_entropy": Likelihood(categorical),
    "gaussian_nll_loss": Likelihood(
        of_mean_and_variance,
        expected_of_mean_and_variance,
        "it is Gauss–Newton's matrix with the mean over labels in place of those there are, under"
        " which nothing is between mean and variance",
    ),
    "half_sse": Likelihood(half_gaussian),
    "l1_loss": Likelihood(
        laplace,
        expected_of_laplace,
        "it is JᵀJ, by the divisor of the loss: that of half_sse; Gauss–Newton's matrix of l1_loss"
        " is zero",
    ),
    "mse_loss": Likelihood(
        gaussian,
        note="it is Gauss–Newton's matrix, with the factor 1: (y − ŷ)² is −log p with the variance"
        " 1/2; with the variance 1 it is half as large",
    ),
    "multilabel_soft_margin_loss": Likelihood(bernoulli_of_each_class),
    "nll_loss": Likelihood(
        of_log_probabilities,
        expected_of_log_probabilities,
        "it is Gauss–Newton's matrix of cross_entropy in the scores of the log-softmax; that of"
        " nll_loss itself, which is linear, is zero",
    ),
    "poisson_nll_loss": Likelihood(poisson),
    "soft_margin_loss": Likelihood(bernoulli),
}
_OF_RATE = Likelihood(
    of_rate, expected_of_rate, _AT_LABELS.format("PoissonNLLLoss()", "an exponential")
)
LIKELIHOODS = tuple(_LIKELIHOODS)


def likelihood_of(name: str, options: Options) -> Likelihood | None:
    """What is known of a loss with some options; ``None`` where it is no likelihood.

    Examples:
        >>> likelihood_of("cross_entropy", {}).expectation is None  # Gauss–Newton's
        True
    """
    if name == "poisson_nll_loss" and options.get("log_input") is False:
        return _OF_RATE
    if name == "gaussian_nll_loss" and "var" in options:
        return Likelihood(of_mean)
    return _LIKELIHOODS.get(name)
