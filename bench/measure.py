"""Clocks, memory and the speed of the machine: what every measurement needs and nothing about
Hessians."""

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Where the tables of `bench.dense`, `bench.positions` and `bench.operator` are measured.
DEVICE = os.environ.get("BENCH_DEVICE", "cpu")
if DEVICE != "cpu":
    import torch

    # Everybody's convolutions else round their factors to 11 bits, and nobody agrees with anybody.
    torch.backends.cudnn.allow_tf32 = False


def wall() -> float:
    """Seconds on the wall, once all that a GPU was given is done."""
    if DEVICE != "cpu":
        import torch

        torch.accelerator.synchronize()
    return time.perf_counter()


def timed(run: Callable[[], T], clock: Callable[[], float] = wall) -> tuple[float, T]:
    """Seconds by a clock, that on the wall where no other is given, and what came back."""
    start = clock()
    result = run()
    return clock() - start, result


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = wall,
) -> dict[str, list[float]]:
    """Seconds of each run in each round, taken in turn, so that a slow minute of the machine falls
    on all of them; every other round backwards, for who comes after one that fills the caches, or
    keeps the cores awake, is slower."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(rounds):
        for name in list(runs)[:: -1 if k % 2 else 1]:
            seconds[name].append(timed(runs[name], clock)[0])
    return seconds


def peak_memory() -> int:
    """The most bytes that this process has held. Linux.

    Not ``ru_maxrss``: a child process starts with its parent's there.
    """
    return _kilobytes("/proc/self/status", "VmHWM") * 1024


def forget_peak() -> None:
    """Count the most bytes from now on, from what this process holds. Linux."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def available_memory() -> int:
    """Bytes that could be taken now without swapping. Linux."""
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024


def _kilobytes(file: str, key: str) -> int:
    lines = Path(file).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def where() -> str:
    """What the tables' titles say of the machine: its threads, or the GPU."""
    import torch

    if DEVICE == "cpu":
        return f"{torch.get_num_threads()} threads"
    return f"on one {torch.cuda.get_device_name(DEVICE)}"


def product_rate(size: int = 2048, tries: int = 10) -> float:
    """Floating point operations per second of a float32 matrix product, the best of several; a
    multiply-add is two."""
    import torch

    a, b, out = (torch.randn(size, size, device=DEVICE) for _ in range(3))
    best = min(timed(lambda: torch.mm(a, b, out=out))[0] for _ in range(tries))
    return 2 * size**3 / best


def machine() -> dict[str, str]:
    """The processor and the versions that a result belongs to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    about = {"processor": name, "cores": str(os.cpu_count()), "python": platform.python_version()}
    if DEVICE != "cpu":
        about["GPU"] = where().removeprefix("on one ")
    for package in (
        "torch",
        "jax",
        "curvlinops-for-pytorch",
        "backpack-for-pytorch",
        "pytorch-minimize",
        "scipy",
    ):
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            continue
    return about
