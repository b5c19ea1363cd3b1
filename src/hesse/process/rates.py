"""How fast this machine is, measured once and kept in the user's cache folder: what turns the price
of some work into seconds."""

import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vjp, vmap

from hesse.errors import HesseError
from hesse.process.convolutions import work
from hesse.process.files import free_bytes, told, write_text
from hesse.process.price import Price
from hesse.process.switches import one_thread

# The way back through an operation starts so many; images are of so few channels, as most are in
# the work. Each rate is measured for so many seconds.
_CALLS, _CHANNELS, _SECONDS = 3, 8, 0.05
# Bytes that are written to see how fast a disk is.
_WRITTEN = 2**26


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, for one dtype.

    Attributes:
        operations: floating point operations of matrix products.
        moved: bytes read and written.
        calls: operations of PyTorch that are started, under `vmap` and `vjp` as in a sweep.
        cached: bytes read and written where caches hold them.
        convolved: floating point operations of convolutions, as `hesse.process.convolutions`
            counts them.
        rearranged: bytes that caches hold, read or written in another order than they lie in.
    """

    operations: float
    moved: float
    calls: float
    cached: float
    convolved: float
    rearranged: float

    def seconds(self, price: Price) -> float:
        """How long some work takes: what is slow at different things adds up.

        Examples:
            >>> rates = Rates(1e9, 1e9, 1e4, 5e9, 1e8, 2e9)
            >>> rates.seconds(Price(2e9, moved=1e9, calls=1e4, cached=5e9, rearranged=1e9))
            5.5
        """
        return (
            (price.operations - price.convolved) / self.operations
            + price.convolved / self.convolved
            + price.moved / self.moved
            + price.calls / self.calls
            + price.cached / self.cached
            + price.rearranged / self.rearranged
        )


def rates(dtype: torch.dtype, device: torch.device, measure: bool = False) -> Rates:
    """Those of this machine, from the user's cache folder, or measured now and kept there.

    Args:
        dtype: of the work.
        device: where it is done.
        measure: measure again.
    """
    key = "; ".join(map(str, (_name(device), torch.get_num_threads(), torch.__version__, dtype)))
    if measure:
        _known.cache_clear()
    return _known(key, dtype, device, measure)


@cache
def _known(key: str, dtype: torch.dtype, device: torch.device, measure: bool) -> Rates:
    kept = _read()
    if not measure and key in kept:
        with suppress(TypeError, KeyError, ValueError):
            return Rates(**{name: float(rate) for name, rate in kept[key].items()})
    measured = _measured(dtype, device)
    _write({**kept, key: asdict(measured)})
    return measured


def writing_rate(folder: Path, measure: bool = False) -> float:
    """Bytes that the disk of a folder writes in a second, until they are on it; kept with the
    others.

    Args:
        folder: where a file can be written.
        measure: measure again.

    Raises:
        HesseFileError: nothing can be.
    """
    with told("out", folder):
        key, kept = f"disk {folder.stat().st_dev}", _read()
        if not measure and key in kept:
            with suppress(TypeError, KeyError, ValueError):
                return float(kept[key]["written"])
        # A disk that is nearly full has room for what is planned, perhaps, and for less than this.
        size = max(1, min(_WRITTEN, free_bytes(folder, "out") // 2))
        content = torch.rand(size // 4 + 1).numpy().tobytes()[:size]
        start = time.perf_counter()
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        rate = size / (time.perf_counter() - start)
    if size == _WRITTEN:
        _write({**_read(), key: {"written": rate}})
    return rate


@cache
def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError, StopIteration, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return platform.processor() or platform.machine()


def _file() -> Path:
    """Where the rates are kept: by the habits of the system."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "hesse" / "rates.json"


def _read() -> dict[str, dict[str, float]]:
    """What is kept; nothing where it cannot be read."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(kept: dict[str, dict[str, float]]) -> None:
    """Keep them, all or nothing; where that cannot be, they are measured again another time."""
    with suppress(OSError, RuntimeError, HesseError):
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "rates", json.dumps(kept, indent=1))


class _Sizes(NamedTuple):
    """What is measured: thin matrices, as most are in the work; arrays of so many bytes, which no
    cache holds, and of so many, which one holds; so many images."""

    size: int
    thin: int
    array: int
    cached: int
    images: int


# A GPU starts work for longer than it does what a processor is measured by.
_SIZES = {"cpu": _Sizes(512, 64, 2**25, 2**24, 64), "cuda": _Sizes(4096, 512, 2**28, 2**27, 4096)}


def _measured(dtype: torch.dtype, device: torch.device) -> Rates:
    """Measured now, within a second; by one thread too, for where others keep the cores busy
    threads that wait for one another are slower than one, and a hundred times."""
    found = [_measured_once(dtype, device)]
    if device.type == "cpu" and torch.get_num_threads() > 1:
        with one_thread():
            found.append(_measured_once(dtype, device))
    return Rates(*map(max, zip(*map(astuple, found), strict=True)))


def _measured_once(dtype: torch.dtype, device: torch.device) -> Rates:
    """By as many threads as there are."""
    sizes = _SIZES.get(device.type, _SIZES["cpu"])
    left = torch.full((sizes.size, sizes.thin), 0.5, dtype=dtype, device=device)
    product = torch.empty(sizes.size, sizes.size, dtype=dtype, device=device)
    array = torch.zeros(sizes.array // dtype.itemsize, dtype=dtype, device=device)
    other = torch.zeros_like(array)
    held = torch.zeros(sizes.cached // dtype.itemsize, dtype=dtype, device=device)
    image = torch.ones(sizes.images, _CHANNELS, 16, 16, dtype=dtype, device=device)
    kernel = torch.ones(_CHANNELS, _CHANNELS, 3, 3, dtype=dtype, device=device)
    small = torch.ones(2, 2, dtype=dtype, device=device)
    options = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    back = (*options, [True, True, False])

    def convolutions() -> tuple[Tensor, Any]:
        """There, and the way back to both."""
        there = torch.ops.aten.convolution(image, kernel, *options)
        return there, torch.ops.aten.convolution_backward(there, image, kernel, *back)

    def pull(one: Tensor) -> Tensor:
        return vjp(torch.tanh, one)[1](one)[0]

    there, ways_back = convolutions()
    convolved = work(torch.ops.aten.convolution.default)(image, kernel, *options, out_val=there)
    convolved += work(torch.ops.aten.convolution_backward.default)(
        there, image, kernel, *back, out_val=ways_back
    )
    multiplied = 2 * sizes.size**2 * sizes.thin
    fresh = _time(lambda: torch.add(array, 1.0), device)
    again = _time(lambda: torch.add(array, 1.0, out=other), device)
    return Rates(
        multiplied / _time(lambda: torch.mm(left, left.mT, out=product), device),
        # Memory fresh from the system is many times slower. The work has some of both, and whole
        # Hessians were measured to go at about the mean of their rates.
        2 * sizes.array / math.sqrt(fresh * again),
        _CALLS / _time(lambda: vmap(pull)(small), device),
        2 * sizes.cached / _time(lambda: torch.mul(held, 0.5), device),
        convolved / _time(convolutions, device),
        2 * sizes.cached / _time(lambda: held.view(-1, 16, 16).mT.contiguous(), device),
    )


def _time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a run, the shortest of those that fit into a little time."""
    run()
    shortest, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end or shortest == float("inf"):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
