"""What a random network ends in: a loss of every kind, the targets that fit it, and how its mean
weighs batches."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cases import mean_of_quartics, root_of_sum, some_ignored, sum_of_log_cosh
from random_graphs.weights import Pool

# What a batch counts for in the mean of its losses; None for a sum.
Weigh = Callable[[Any, Tensor], float] | None


@dataclass(frozen=True)
class Ending:
    """A loss, the targets for a prediction, and what makes the prediction fit.

    Attributes:
        loss: as a cost takes it.
        targets: prediction -> targets.
        weigh: (prediction, target) -> the batch's share in the mean.
        last: a function put at the network's end, with its name.
        single: whether the data must be one batch.
    """

    loss: Any
    targets: Callable[[Tensor], Tensor]
    weigh: Weigh
    last: tuple[str, Callable[[Tensor], Tensor]] | None = None
    single: bool = False


def by_elements(prediction: Any, target: Tensor) -> float:
    return float(prediction.numel())


def by_samples(prediction: Any, target: Tensor) -> float:
    return float(len(target))


def by_kept(
    prediction: Any, target: Tensor, ignore: int = -100, weight: Tensor | None = None
) -> float:
    kept = target[target != ignore]
    return float(len(kept) if weight is None else weight[kept].sum())


def by_positions(prediction: Any, target: Tensor) -> float:
    return target.numel() / target.shape[1]


def numbers(prediction: Tensor) -> Tensor:
    return torch.randn_like(prediction)


def shares(prediction: Tensor) -> Tensor:
    return torch.rand_like(prediction)


def counts(prediction: Tensor) -> Tensor:
    return torch.randint(4, prediction.shape).double()


def signs(prediction: Tensor) -> Tensor:
    return 2.0 * torch.randint(2, prediction.shape).double() - 1


def bits(prediction: Tensor) -> Tensor:
    return torch.randint(2, prediction.shape).double()


def simplex(prediction: Tensor) -> Tensor:
    return torch.randn_like(prediction).softmax(1)


def classes(prediction: Tensor) -> Tensor:
    return torch.randint(prediction.shape[1], (len(prediction), *prediction.shape[2:]))


def classes_or(ignored: int) -> Callable[[Tensor], Tensor]:
    def make(prediction: Tensor) -> Tensor:
        targets = some_ignored(classes(prediction), ignored)
        targets.view(-1)[-1] = 0  # every batch keeps one
        return targets

    return make


# ---------------------------------------------------------------- functions of the user's own


def pinball(prediction: Tensor, target: Tensor) -> Tensor:
    error = target - prediction
    return F.softplus(4 * error).mean() / 4 + 0.3 * error.square().mean()


def focal(prediction: Tensor, target: Tensor) -> Tensor:
    cross = F.cross_entropy(prediction, target, reduction="none")
    return ((1 - (-cross).exp()) ** 2 * cross).mean()


def weighed_by_target(prediction: Tensor, target: Tensor) -> Tensor:
    return ((1 + target.square()) * (prediction - target).square()).sum()


def half_normal(prediction: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """The negative log likelihood of a normal distribution whose mean and log variance are
    predicted."""
    mean, log_variance = prediction
    return (
        0.5 * (log_variance.tanh() + (target - mean).square() * (-log_variance.tanh()).exp()).mean()
    )


def evidence(prediction: Tensor, target: Tensor) -> Tensor:
    log_p = prediction.log_softmax(1)
    return (
        -(log_p * F.one_hot(target, prediction.shape[1]).movedim(-1, 1)).sum()
        + 0.1 * (log_p.exp() * log_p).sum()
    )


def gaussian(prediction: Tensor, target: Tensor) -> Tensor:
    return F.gaussian_nll_loss(prediction, target, prediction.detach().square() + 0.5, full=True)


def log_probability(prediction: Tensor, target: Tensor) -> Tensor:
    return (
        -torch.distributions.StudentT(3.0, prediction, 1 + target.square(), validate_args=False)
        .log_prob(target)
        .sum()
    )


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """A mean over samples of something that is no sum over entries."""
    return (1 - F.cosine_similarity(prediction.flatten(1), target.flatten(1) + 0.1, dim=1)).mean()


def masked_mean(prediction: Tensor, target: Tensor) -> Tensor:
    """A mean over the entries that count: how many do differs from sample to sample."""
    mask = (target > -0.3).to(prediction)
    return ((prediction - target).square() * mask).sum() / mask.sum().clamp(min=1)


def several_terms(prediction: Tensor, target: Tensor) -> Tensor:
    return (
        F.mse_loss(prediction, target)
        + 0.3 * F.l1_loss(prediction.sin(), target)
        + 0.1 * prediction.square().mean()
    )


def contrast(prediction: Tensor, target: Tensor) -> Tensor:
    """Every sample is held against every other one."""
    flat, wanted = prediction.flatten(1), target.flatten(1)
    return F.cross_entropy(flat @ wanted.T, torch.arange(len(flat)))


class Charbonnier:
    """A loss that is an object with options."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target).square() + self.eps).sqrt().mean()


class ScaledLoss(nn.Module):
    """A loss that is a module with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.7, dtype=torch.float64))
        self.scale: Tensor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.scale * ((prediction - target) * self.scale).tanh().square().sum()


def of_numbers(pool: Pool) -> Ending:
    """Prediction and target of one shape."""
    ways: list[Ending] = [
        Ending("half_sse", numbers, None),
        Ending("half_sse", numbers, None),
        Ending("mse", numbers, by_elements),
        Ending("mse", numbers, by_elements),
        Ending(nn.MSELoss(), numbers, by_elements),
        Ending(nn.MSELoss(reduction="sum"), numbers, None),
        Ending("bce", shares, by_elements),
        Ending(
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor(1.7, dtype=torch.float64)),
            bits,
            by_elements,
        ),
        # PyTorch's second derivative of it is off by more than 1e-9 where the prediction is near 0
        # or 1: away from there.
        Ending(
            nn.BCELoss(),
            shares,
            by_elements,
            last=("sigmoid(tanh x)", lambda x: x.tanh().sigmoid()),
        ),
        Ending(nn.HuberLoss(delta=0.7), numbers, by_elements),
        Ending(functools.partial(F.huber_loss, delta=0.5, reduction="sum"), numbers, None),
        Ending(F.smooth_l1_loss, numbers, by_elements),
        Ending(nn.L1Loss(), numbers, by_elements),
        Ending(nn.PoissonNLLLoss(), counts, by_elements, last=("tanh", torch.tanh)),
        Ending(nn.SoftMarginLoss(), signs, by_elements),
        Ending(
            nn.KLDivLoss(reduction="batchmean"),
            simplex,
            by_samples,
            last=("log_softmax(1)", lambda x: x.log_softmax(1)),
        ),
        Ending(
            nn.KLDivLoss(reduction="sum"),
            simplex,
            None,
            last=("log_softmax(1)", lambda x: x.log_softmax(1)),
        ),
        Ending(mean_of_quartics, numbers, by_samples),
        Ending(sum_of_log_cosh, numbers, None),
        Ending(pinball, numbers, by_samples),
        Ending(weighed_by_target, numbers, None),
        Ending(Charbonnier(0.1), numbers, by_samples),
        Ending(ScaledLoss(), numbers, None),
        Ending(gaussian, numbers, by_samples),
        Ending(log_probability, numbers, None),
        Ending(correlation, numbers, by_samples),
        Ending(several_terms, numbers, by_samples),
        Ending(
            nn.MultiLabelSoftMarginLoss(),
            bits,
            by_samples,
            last=("flatten", lambda x: x.flatten(1)),
        ),
        Ending(masked_mean, numbers, None, single=True),
        Ending(root_of_sum, numbers, None, single=True),
        Ending(contrast, numbers, None, single=True),
    ]
    return pool.draw.choice(ways)


def of_classes(pool: Pool, count: int) -> Ending:
    """The prediction's second axis counts classes."""
    weight = torch.rand(count, dtype=torch.float64) + 0.5
    kept = functools.partial(by_kept, weight=weight)
    everything = nn.CrossEntropyLoss(weight=weight, ignore_index=-1, label_smoothing=0.1)
    ways: list[Ending] = [
        Ending("cross_entropy", classes, by_kept),
        Ending("cross_entropy", classes, by_kept),
        Ending(nn.CrossEntropyLoss(weight=weight), classes, kept),
        Ending(nn.CrossEntropyLoss(label_smoothing=0.1), classes, by_kept),
        Ending(nn.CrossEntropyLoss(ignore_index=1), classes_or(1), functools.partial(by_kept,
        ignore=1)), Ending(everything, classes_or(-1), functools.partial(kept, ignore=-1)),
        Ending(nn.CrossEntropyLoss(reduction="sum", weight=weight), classes, None),
        Ending(functools.partial(F.cross_entropy, reduction="sum"), classes, None),
        Ending(F.cross_entropy, simplex, by_positions),
        Ending(nn.NLLLoss(), classes, by_kept, last=("log_softmax(1)", lambda x: x.log_softmax(1))),
        Ending(focal, classes, by_samples),
        Ending(evidence, classes, None),
    ]  # fmt: skip
    return pool.draw.choice(ways)


# ---------------------------------------------------------------- penalties


def group_penalty(parameters: dict[str, Tensor]) -> Tensor:
    return (
        0.1
        * torch.stack([(value.square().sum() + 0.1).sqrt() for value in parameters.values()]).sum()
    )


def coupled_penalty(parameters: dict[str, Tensor]) -> Tensor:
    """Parameters meet in it."""
    first, *rest = [value.sum() for value in parameters.values()]
    return 0.05 * sum((first * value for value in rest), start=first.square())


PENALTIES: Sequence[Any] = (None, None, None, None, 0.3, 0.01, group_penalty, coupled_penalty)
