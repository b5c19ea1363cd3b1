"""Costs that every rank makes alike, and what is asked about them: by all ranks together, and by
each alone, with the same numbers to rounding."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import hesse

# Relative to the largest entry: float64, sums in another order.
TOLERANCE = 1e-9


def net(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for x, z in pairwise(widths):
        layers += [nn.Linear(x, z), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def classes(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of so many samples, some labels of which are ignored."""
    batches = [(torch.randn(n, 3).double(), torch.randint(4, (n,))) for n in sizes]
    for _, y in batches:
        y[::3] = -100
        y[0] = 1
    return batches


def one_batch() -> hesse.Cost:
    return hesse.Cost(net(3, 4, 4), "cross_entropy", classes(13)[0])


def ragged() -> hesse.Cost:
    return hesse.Cost(net(3, 4, 4), "cross_entropy", classes(5, 3, 7, 1), penalty=0.1)


def weighted() -> hesse.Cost:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 3.0]).double())
    return hesse.Cost(net(3, 4, 4), loss, classes(5, 4))


def many_batches() -> hesse.Cost:
    return hesse.Cost(net(3, 4, 4), nn.CrossEntropyLoss(reduction="sum"), classes(*[2, 3] * 9))


def batch_norm() -> hesse.Cost:
    """Samples that depend on one another: their batch is not cut."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    return hesse.Cost(model, "half_sse", (torch.randn(9, 3).double(), torch.randn(9, 2).double()))


def without_data() -> hesse.Cost:
    p = {"x": torch.randn(4).double(), "y": torch.randn(2).double()}
    return hesse.Cost.from_function(
        lambda p: p["x"].prod() * p["y"].sin().sum(), p, penalty=lambda p: p["x"].pow(4).sum()
    )


def by_function() -> hesse.Cost:
    def f(p: dict[str, Tensor], batch: Any) -> Tensor:
        x, y = batch
        return (x @ p["w"]).tanh().sub(y).square().sum()

    data = [(torch.randn(n, 3).double(), torch.randn(n).double()) for n in (4, 2, 6)]
    return hesse.Cost.from_function(f, {"w": torch.randn(3).double()}, data, reduction="sum")


def convolution() -> hesse.Cost:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)).double()
    X = torch.randn(6, 1, 4, 4).double()
    return hesse.Cost(model, "mse", (X, torch.randn(6, 2).double()))


def wrapped() -> hesse.Cost:
    """In DistributedDataParallel, whose ranks start apart, and a loader that deals samples out, not
    the same number to each."""
    dataset = TensorDataset(torch.randn(11, 3).double(), torch.randn(11, 2).double())
    torch.manual_seed(dist.get_rank())
    model = nn.parallel.DistributedDataParallel(net(3, 3, 2))
    loader = DataLoader(dataset, batch_size=2, sampler=DistributedSampler(dataset))
    return hesse.Cost(model, "half_sse", loader)


def shuffled() -> hesse.Cost:
    dataset = TensorDataset(torch.randn(11, 3).double(), torch.randn(11, 2).double())
    return hesse.Cost(net(3, 3, 2), "half_sse", DataLoader(dataset, batch_size=3, shuffle=True))


CASES: dict[str, Callable[[], hesse.Cost]] = {
    make.__name__: make
    for make in (
        *(one_batch, ragged, weighted, many_batches, batch_norm),
        *(without_data, by_function, convolution, wrapped, shuffled),
    )
}


def asked(cost: hesse.Cost, v: Tensor) -> Iterator[tuple[str, Any]]:
    """What is asked about a cost: tensors and numbers."""
    yield "value", hesse.value(cost)
    yield "gradient", cost.layout.flatten(hesse.gradient(cost))
    yield "hessian", hesse.hessian(cost).dense()
    yield "blocks", cost.layout.flatten(hesse.hessian(cost, block_diagonal=True).diagonal())
    yield "diagonal", cost.layout.flatten(hesse.diagonal(cost))
    H = hesse.operator(cost)
    assert H.certificate is not None
    yield "product", H @ v
    yield "products", H @ torch.stack([v, 2 * v, v.square()], 1)
    pairs = hesse.eigenpairs(H, 2, which="largest")
    yield "eigenvalues", pairs.values
    yield "trace", hesse.trace(cost, seed=0).value
    solution = hesse.solve(cost, v, damping=50.0).vector
    assert isinstance(solution, Tensor)
    yield "solution", solution


def asked_of_curvatures(cost: hesse.Cost, v: Tensor) -> Iterator[tuple[str, Any]]:
    """The same of other curvatures."""
    for curvature in ("gauss_newton", "fisher", "fisher_mc", "empirical_fisher"):
        yield curvature, hesse.hessian(cost, curvature=curvature).dense()
        yield f"{curvature} product", hesse.operator(cost, curvature=curvature) @ v


def asked_little(cost: hesse.Cost, v: Tensor) -> Iterator[tuple[str, Any]]:
    """What shows whether every sample counts once."""
    yield "gradient", cost.layout.flatten(hesse.gradient(cost))
    yield "hessian", hesse.hessian(cost, certify=False).dense()
    yield "product", hesse.operator(cost, certify=False) @ v


def vector(cost: hesse.Cost) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(cost.layout.size, generator=random, dtype=torch.float64)


def check(name: str, ask: Callable[..., Iterator[tuple[str, Any]]] = asked) -> int:
    """Ask together and alone; how many answers were compared.

    Raises:
        AssertionError: they differ.
    """
    torch.manual_seed(0)
    cost = CASES[name]()
    v = vector(cost)
    with hesse.alone():
        expected = dict(ask(cost, v))
    found = dict(ask(cost, v))
    for what, value in found.items():
        ours, theirs = torch.as_tensor(value).double(), torch.as_tensor(expected[what]).double()
        gap, size = float((ours - theirs).abs().max()), float(theirs.abs().max())
        assert gap <= TOLERANCE * max(1.0, size), (
            f"{name}: {what} is off by {gap:.2g} of {size:.2g}"
        )
    return len(found)
