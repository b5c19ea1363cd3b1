"""Several threads at once: each gets its own right numbers, and the process is left as it was."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import hesse
from hesse.capture.tracing import modes_before_dispatch

THREADS = 4


def switches() -> list[Any]:
    """What is process-wide in PyTorch and could be left switched."""
    cuda = torch.backends.cuda
    return [
        torch._C._get_mkldnn_enabled(),
        torch.backends.cudnn.enabled,
        torch.backends.mha.get_fastpath_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        torch.is_grad_enabled(),
        modes_before_dispatch(),
    ]


def classifier() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def recurrent() -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x.reshape(-1, 2, 2))[0][:, -1])

    return Last()


def run(jobs: list[Callable[[], None]]) -> list[BaseException]:
    """The errors of jobs that are begun at once."""
    errors: list[BaseException] = []
    ready = threading.Barrier(len(jobs))

    def work(job: Callable[[], None]) -> None:
        ready.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("make", [classifier, recurrent])
def test_first_captures_at_once(make: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = [make().double() for _ in range(THREADS)]
        X, y = torch.randn(6, 4).double(), torch.randint(3, (6,))
    before = switches()
    costs = [hesse.Cost(model, "cross_entropy", (X, y)) for model in models]
    found: dict[int, torch.Tensor] = {}

    def job(k: int) -> Callable[[], None]:
        return lambda: found.update({k: hesse.hessian(costs[k]).dense()})

    assert not run([job(k) for k in range(THREADS)])
    assert switches() == before
    for k, cost in enumerate(costs):
        assert hesse.plan(cost).captured
        again = hesse.hessian(hesse.Cost(models[k], "cross_entropy", (X, y)))
        assert torch.equal(found[k], again.dense())


class _Tokens(nn.Module):
    """A layer on (N, 2, 4), then a mean over the positions."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.layer, x.reshape(-1, 2, 4)).mean(1)


def transformer(training: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
    return _Tokens(layer, lambda layer, x: layer(x)).train(training)


# What hesse turns switches off for, and what it does not.
SETUPS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 4)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 3), nn.ReLU(), nn.Flatten()
    ),
    "attention": lambda: _Tokens(
        nn.MultiheadAttention(4, 2, batch_first=True), lambda layer, x: layer(x, x, x)[0]
    ),
    "fused attention": lambda: _Tokens(
        nn.Linear(4, 4),
        lambda layer, x: F.scaled_dot_product_attention(*(layer(x)[:, None],) * 3)[:, 0],
    ),
    "transformer, training": lambda: transformer(True),
    "transformer, evaluating": lambda: transformer(False),
    "LSTM": lambda: _Tokens(nn.LSTM(4, 4, batch_first=True), lambda layer, x: layer(x)[0]),
    "GRU": lambda: _Tokens(nn.GRU(4, 4, batch_first=True), lambda layer, x: layer(x)[0]),
    "checkpoint": lambda: _Tokens(
        nn.Linear(4, 4), lambda layer, x: checkpoint(layer, x, use_reentrant=False).tanh()
    ),
    "normalised": lambda: nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)),
}


@pytest.mark.parametrize("setup", SETUPS)
def test_every_way_at_once(setup: str) -> None:
    """One cost whose Hessian, diagonal and products are asked for by three threads at once, all of
    them for the first time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SETUPS[setup]().double()
        X, y = torch.randn(3, 8).double(), torch.randint(4, (3,))
    before, found = switches(), dict[str, Tensor]()
    cost = hesse.Cost(model, "cross_entropy", (X, y))
    one = torch.eye(cost.layout.size, dtype=torch.float64)
    ways: dict[str, Callable[[hesse.Cost], Tensor]] = {
        "hessian": lambda cost: hesse.hessian(cost).dense(),
        "diagonal": lambda cost: cost.layout.flatten(hesse.diagonal(cost)).diag(),
        "operator": lambda cost: hesse.operator(cost) @ one,
    }

    def job(way: str) -> Callable[[], None]:
        return lambda: found.update({way: ways[way](cost)})

    assert not run([job(way) for way in ways])
    assert switches() == before
    H = hesse.hessian(hesse.Cost(model, "cross_entropy", (X, y))).dense()
    scale = float(H.abs().max())
    for way, expected in (("hessian", H), ("diagonal", H.diagonal().diag()), ("operator", H)):
        assert float((found[way] - expected).abs().max()) < 1e-12 * scale, way


def test_traces_of_both_kinds_at_once() -> None:
    """Exports beside straight lines: PyTorch keeps what traces them in one place of the process."""
    x, y = torch.randn(6, 4).double(), torch.randn(6, 3).double()
    before = switches()

    def cost() -> hesse.Cost:
        return hesse.Cost(classifier().double(), "mse", (x, y))

    jobs = [lambda: hesse.operator(cost()), lambda: hesse.plan(cost())] * 2
    for _ in range(3):
        assert not run(jobs)
        assert switches() == before
