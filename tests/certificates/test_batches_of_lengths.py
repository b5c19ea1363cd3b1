"""Batches whose other axes differ in length: every shape that occurs counts, however the samples
are cut into chunks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Make,
    Subject,
    check_right,
    double_backward,
    made,
    of,
    off,
    x,
)


def lengths(
    forward: Callable[[Any, Tensor], Tensor],
    sizes: list[tuple[int, int]],
    loss: Any = "half_sse",
    **members: Any,
) -> Subject:
    """Batches of (samples, tokens), each token two numbers, a target of two numbers for each
    sample."""
    data = [
        (x(n, t, 2), torch.arange(n) % 2 if loss == "cross_entropy" else x(n, 2)) for n, t in sizes
    ]
    return of(Formula(forward, **members), loss, data)


def summed(model: Any, z: Tensor) -> Tensor:
    return torch.tanh(model.l(z.sum(1) / z.shape[1]))


def averaged(model: Any, z: Tensor) -> Tensor:
    return model.head(torch.tanh(model.l(z)).mean(1))


def attended(model: Any, z: Tensor) -> Tensor:
    return model.head(F.scaled_dot_product_attention(model.q(z), z, torch.tanh(z)).sum(1))


def images() -> Subject:
    """Pictures of three sizes and a pooling that makes one of them."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    return of(
        model, "mse", [(x(2, 1, 3, 3), x(2, 2)), (x(3, 1, 4, 3), x(3, 2)), (x(1, 1, 2, 5), x(1, 2))]
    )


def language() -> Subject:
    """Targets that are as long as their inputs: the mean is over tokens."""
    model = Formula(
        lambda m, z: m.head(torch.tanh(m.embed(z))).mT,
        embed=nn.Embedding(3, 2),
        head=nn.Linear(2, 3),
    )
    data = [
        (torch.arange(n * t).reshape(n, t) % 3, torch.arange(1, n * t + 1).reshape(n, t) % 3)
        for n, t in ((2, 2), (1, 4), (3, 3))
    ]
    count = sum(y.numel() for _, y in data)

    def J() -> Tensor:
        return (
            torch.stack([F.cross_entropy(model(z), y, reduction="sum") for z, y in data]).sum()
            / count
        )

    return of(model, "cross_entropy", data, J)


def masked_by_name() -> Subject:
    """Dictionaries with a mask of the same length."""

    def forward(model: Any, batch: dict[str, Tensor]) -> Tensor:
        kept = batch["mask"].unsqueeze(2)
        return model.head((torch.tanh(model.l(batch["x"])) * kept).sum(1) / kept.sum(1))

    model = Formula(forward, l=nn.Linear(2, 2), head=nn.Linear(2, 1))
    data = [
        ({"x": x(n, t, 2), "mask": (torch.arange(t) < t - 1).expand(n, t).double()}, x(n, 1))
        for n, t in ((2, 3), (2, 4), (1, 2))
    ]
    return of(model, "mse", data)


TWO, THREE = [(3, 2), (3, 3)], [(2, 2), (4, 3), (1, 1), (2, 2)]
LENGTHS: dict[str, Make] = {
    "two lengths": lambda: lengths(summed, TWO, l=nn.Linear(2, 2)),
    "three lengths": lambda: lengths(summed, THREE, l=nn.Linear(2, 2)),
    "batches of one": lambda: lengths(
        averaged, [(1, 2), (1, 3), (1, 1)], l=nn.Linear(2, 2), head=nn.Linear(2, 2)
    ),
    "classes": lambda: lengths(
        averaged, THREE, "cross_entropy", l=nn.Linear(2, 2), head=nn.Linear(2, 2)
    ),
    "attention": lambda: lengths(
        attended, [(2, 3), (2, 2)], q=nn.Linear(2, 2), head=nn.Linear(2, 2)
    ),
    "images": images,
    "tokens as targets": language,
    "a mask": masked_by_name,
}


@pytest.mark.parametrize("way", ["hessian", "diagonal"])
@pytest.mark.parametrize("kind", LENGTHS.values(), ids=LENGTHS)
def test_lengths(kind: Make, way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize("name", ["three lengths", "a mask"])
def test_the_operator_agrees(name: str) -> None:
    check_right(LENGTHS[name], "operator")


@pytest.mark.parametrize("name", ["three lengths", "batches of one", "classes"])
def test_lengths_in_small_chunks(name: str) -> None:
    """Wherever the chunks fall, on a batch's end or across it."""
    subject = made(LENGTHS[name])
    for memory in (1, 2_000, 20_000):
        assert (
            off(hesse.hessian(subject.cost, memory=memory, certify=False).dense(), subject.expected)
            < 1e-9
        ), memory
        found = subject.cost.layout.flatten(
            hesse.diagonal(subject.cost, memory=memory, certify=False)
        )
        assert off(found, subject.expected.diagonal()) < 1e-9, memory


def test_lengths_where_chunks_are_batches() -> None:
    """As many samples in each batch as one chunk holds, by default."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Formula(summed, l=nn.Linear(60, 10)).double()
        data = [(x(3000, t, 60), x(3000, 10)) for t in (2, 3)]
    cost = hesse.Cost(net, "half_sse", data)
    found = hesse.hessian(cost, pairs=[("l.bias", "l.bias")], certify=False)["l.bias", "l.bias"]

    def J() -> torch.Tensor:
        return torch.stack([(net(z) - y).square().sum() / 2 for z, y in data]).sum()

    expected = double_backward(J, [net.get_parameter("l.bias")])
    assert off(found, expected) < 1e-9


class OfLengths(Dataset[tuple[Tensor, Tensor]]):
    """Sequences of two lengths by turns."""

    def __init__(self) -> None:
        self.rows = [(x(2 + i % 2, 2), x(2)) for i in range(4)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rows[index]


def test_lengths_from_a_loader_that_shuffles() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        data, net = OfLengths(), Formula(averaged, l=nn.Linear(2, 2), head=nn.Linear(2, 2))
        subject = of(net, "half_sse", DataLoader(data, batch_size=1, shuffle=True))
    rows = [(z[None], y[None]) for z, y in data.rows]
    expected = of(net, "half_sse", rows).expected
    for way, call in WAYS.items():
        assert off(call(subject.cost, certify=False), expected, way) < 1e-9
