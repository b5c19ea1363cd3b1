"""What a loss's mean divides by may show in a later batch only; one cut of the samples or another
gives one cost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Make,
    Subject,
    check_right_or_refused,
    of,
    off,
    parameter,
    x,
)


def masked_mean(prediction: Tensor, target: Any) -> Tensor:
    y, mask = target
    return ((prediction - y).square() * mask).sum() / mask.sum()


def classes_that_count(prediction: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(prediction, y, ignore_index=2)


def weighed_classes(prediction: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(prediction, y, weight=torch.tensor([1.0, 5.0], dtype=torch.float64))


def of_positive(prediction: Tensor, y: Tensor) -> Tensor:
    """The mean over the targets that are positive."""
    return ((prediction - y).square() * (y > 0)).sum() / (y > 0).sum()


def masks(*padded: int) -> list[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Batches of three samples with two outputs, so many of whose entries are padding."""
    return [
        (x(3, 2), (x(3, 2), (torch.arange(6) >= count).double().reshape(3, 2))) for count in padded
    ]


def together(model: nn.Module, loss: Callable[[Tensor, Any], Tensor], data: list[Any]) -> Subject:
    """The cost of all samples as one batch, which is what one cut of them or another must give."""

    def J() -> Tensor:
        ys = [y for _, y in data]
        target = (
            tuple(torch.cat(part) for part in zip(*ys, strict=True))
            if isinstance(ys[0], tuple)
            else torch.cat(ys)
        )
        return loss(model(torch.cat([z for z, _ in data])), target)

    return of(model, loss, data, J)


MEANS: dict[str, Make] = {
    "no padding in the first batch": lambda: together(nn.Linear(2, 2), masked_mean, masks(0, 3)),
    "no padding until the last of four": lambda: together(
        nn.Linear(2, 2), masked_mean, masks(0, 0, 0, 1)
    ),
    "padding in the first batch alone": lambda: together(nn.Linear(2, 2), masked_mean, masks(3, 0)),
    "nothing ignored in the first batch": lambda: together(
        nn.Linear(2, 3),
        classes_that_count,
        [(x(3, 2), torch.tensor([0, 1, 0])), (x(3, 2), torch.tensor([2, 1, 2]))],
    ),
    "one class in the first batch": lambda: together(
        nn.Linear(2, 2),
        weighed_classes,
        [(x(2, 2), torch.tensor([0, 0])), (x(3, 2), torch.tensor([1, 0, 1]))],
    ),
    "all positive in the first batch": lambda: together(
        nn.Linear(2, 2),
        of_positive,
        [(x(3, 2), x(3, 2).abs()), (x(3, 2), -x(3, 2).abs() + torch.eye(3, 2) * 9)],
    ),
    "samples that couple in the second batch": lambda: together(
        nn.Linear(2, 1),
        lambda p, y: (p - y).square().mean() + (p * (y > 1)).mean() ** 2,
        [(x(3, 2), -x(3, 1).abs()), (x(3, 2), x(3, 1) + 3)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MEANS.values(), ids=MEANS)
def test_means(kind: Make, way: str) -> None:
    """The same as of one batch, or refused with the batch that tells and the way out."""
    check_right_or_refused(kind, way, r"(?s)^loss.*batch(es| \d).*one batch")


def test_the_batch_is_named() -> None:
    """It is the third of four that tells."""
    net, data = nn.Linear(2, 2).double(), masks(0, 0, 2, 0)
    try:
        cost = hesse.Cost(net, masked_mean, data)
    except hesse.HesseError as error:
        assert "batch 2" in str(error) and "one batch" in str(error)
    else:
        assert off(hesse.hessian(cost).dense(), together(net, masked_mean, data).expected) < 1e-9


@pytest.mark.parametrize("way", WAYS)
def test_means_that_are_the_same_in_every_batch_are_taken(way: str) -> None:
    """What is a mean over samples in each batch is not refused."""

    def loss(prediction: Tensor, y: Tensor) -> Tensor:
        return (prediction - y).square().sum(1).mean()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = [(x(n, 2), x(n, 2)) for n in (3, 2, 1)]
        subject = together(Formula(lambda m, z: torch.tanh(z @ m.w), w=parameter(2, 2)), loss, data)
    assert off(WAYS[way](subject.cost), subject.expected, way) < 1e-9
