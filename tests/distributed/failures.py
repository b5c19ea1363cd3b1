"""What goes wrong on one rank is an error on every rank, in time."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import hesse
from distributed.problems import net, ragged
from hesse.exact.panel_sums import PanelSums
from store.kills import MEMORY, cost, tiles

# Seconds after which a rank would have been waiting.
IN_TIME = 20.0


def other_vectors() -> None:
    H = hesse.operator(ragged(), certify=False)
    torch.manual_seed(dist.get_rank())
    _ = H @ torch.randn(len(H.cost.theta)).double()


def other_parameters() -> None:
    torch.manual_seed(dist.get_rank())
    hesse.value(ragged())


def other_data() -> None:
    model, noise = net(3, 2), torch.Generator().manual_seed(dist.get_rank())
    X = torch.randn(6, 3, generator=noise).double()
    hesse.value(hesse.Cost(model, "half_sse", (X, torch.zeros(6, 2).double())))


def other_sampler() -> None:
    data = TensorDataset(torch.randn(6, 3).double(), torch.randn(6, 2).double())
    sampler = DistributedSampler(data, num_replicas=5, rank=dist.get_rank())
    hesse.Cost(net(3, 2), "half_sse", DataLoader(data, sampler=sampler))


def other_calls() -> None:
    if dist.get_rank() == 0:
        hesse.value(ragged())
    else:
        hesse.gradient(ragged())


def an_error_of_the_user() -> None:
    """Of the last rank alone, and only once the cost is made."""
    ready = False

    def f(p: dict[str, Any], batch: Any) -> Any:
        if ready and dist.get_rank() == dist.get_world_size() - 1:
            raise ZeroDivisionError("of the last rank")
        return (batch[0] @ p["w"]).square().sum()

    data = [(torch.ones(2, 3), torch.ones(2))] * 4
    asked = hesse.Cost.from_function(f, {"w": torch.ones(3)}, data, reduction="sum")
    hesse.value(asked)
    ready = True
    hesse.gradient(asked)


# What is in the message, on the rank that fails itself and on the others.
FAILURES: dict[str, tuple[Callable[[], None], str]] = {
    "other vectors": (other_vectors, "the ranks do different things"),
    "other parameters": (other_parameters, "its parameters have other values"),
    "other data": (other_data, "its data are others"),
    "other sampler": (other_sampler, "deals to 5 ranks"),
    "other calls": (other_calls, "rank 0 the value of a cost, rank 1 the gradient of a cost"),
    "an error of the user": (an_error_of_the_user, "ZeroDivisionError"),
}


def check(name: str) -> None:
    """Every rank raises, says what, and can go on.

    Raises:
        AssertionError: it does not.
    """
    torch.manual_seed(0)
    fail, message = FAILURES[name]
    start = time.monotonic()
    try:
        fail()
    except hesse.HesseError as error:
        assert message in str(error), f"{name}: {error}"
    else:
        raise AssertionError(f"{name}: no error on rank {dist.get_rank()}")
    assert time.monotonic() - start < IN_TIME, name
    torch.manual_seed(0)
    assert hesse.value(ragged()) > 0


def check_killed(folder: Path, seconds: float | None = None) -> None:
    """The last rank is killed while tiles are computed, after its first or after some time; the
    others end in an error, each in time, and what they computed is kept.

    Raises:
        AssertionError: it is not so.
    """
    rank, last, store = dist.get_rank(), dist.get_world_size() - 1, folder / "killed.zarr"
    asked = cost()
    with hesse.alone():
        hesse.hessian(asked, out=folder / f"alone-{rank}.zarr", memory=MEMORY)
    expected = tiles(folder / f"alone-{rank}.zarr")
    dist.barrier()
    if seconds is None:
        _kill_at_second_panel(rank == last)
    elif rank == last:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        hesse.hessian(asked, out=store, memory=MEMORY)
    except hesse.HesseError as error:
        assert "another rank ended" in str(error), str(error)
        assert time.monotonic() - start < IN_TIME
        if store.exists():
            assert "is kept in" in str(error) or seconds is not None, str(error)
    else:
        assert seconds is not None  # it had ended
    if rank == 0:
        with hesse.alone():
            if store.exists() and seconds is None:
                done = hesse.status(store)
                assert 0 < done.done < done.tiles, done
            hesse.hessian(asked, out=store, memory=MEMORY)
        assert tiles(store) == expected
        assert not list(store.glob("notes.*"))


def _kill_at_second_panel(me: bool) -> None:
    """Of the process that is killed; the others wait a little with each, for it to come so far."""
    whole, seen = PanelSums.of, list[int]()

    def of(self: PanelSums, panel: Any) -> Any:
        seen.append(1)
        if me and len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.0 if me else 0.1)
        return whole(self, panel)

    PanelSums.of = of  # type: ignore[method-assign]
