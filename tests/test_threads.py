"""Several threads at once: each gets its own right numbers, and the process is left as it was."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import hesse

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
