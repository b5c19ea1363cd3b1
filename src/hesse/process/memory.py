"""How much memory there is to work with, the only place that asks the machine, and memory that is
quick to fill, new or again."""

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from hesse.distributed.group import current
from hesse.errors import (
    HesseError,
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
    readable_bytes,
)
from hesse.process.circumstances import is_out_of_memory

# What tensors take, in units of their bytes: the system's allocator keeps holes between them for
# later ones; as measured (bench.memory).
HOLES = 1.7
# Where nothing can be learnt: little enough for any machine that runs PyTorch.
_UNKNOWN = 2 * 1024**3
_MEMBERSHIPS = Path("/proc/self/cgroup")
# What version 1 says where there is no limit is near 2⁶³, in whole pages.
_NO_LIMIT = 2**62
# The two versions of Linux control groups: controllers in /proc/self/cgroup, mount, limit, use,
# reclaimable pages.
_GROUPS = (
    ("", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "memory",
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def require_memory(memory: object) -> int:
    """A number of bytes to keep things in.

    Raises:
        HesseTypeError: no whole number.
        HesseValueError: a negative one.
    """
    if not isinstance(memory, int) or isinstance(memory, bool):
        raise HesseTypeError(
            f"memory: expected a whole number of bytes, got {type(memory).__name__}; 2 GB are 2 *"
            " 10**9"
        )
    if memory < 0:
        raise HesseValueError(
            f"memory: expected a number of bytes >= 0, got {memory}; 0 keeps nothing"
        )
    return memory


def allowed_memory(memory: object, device: torch.device) -> int:
    """The bytes to keep things in: so many as are asked for, checked, or half of what is free; of
    several processes all get the same, for how they go on depends on it."""
    if memory is not None:
        return require_memory(memory)
    group = current()
    free = None if group is None else group.free
    return (available_bytes(device) if free is None else free) // 2


def available_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device without swapping or pushing others out; rather too
    few than too many.

    On the CPU the smallest of what the system calls available and what the limits of the process
    (`ulimit -v`, `ulimit -d`) and of its control group (a container's) leave; on a CUDA device what
    the driver has free, with what PyTorch holds unused. Callers take a share of it, since other
    processes take from it too.

    Examples:
        >>> import torch
        >>> available_bytes(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    figures = [_system(), _limits(), *_groups()]
    free = max(0, min((figure for figure in figures if figure is not None), default=_UNKNOWN))
    return free if (group := current()) is None else free // group.here


# How NumPy and PyTorch say what they could not get.
_ASKED = re.compile(r"allocate ([\d.]+) (bytes|[KMGT]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Bytes of one, and of the vectors of any processor.
CACHE_LINE = 64
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def zeros(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix of zeros that begins at a cache line. On the CPU from NumPy, which asks the kernel
    for large pages: touched for the first time some three times as fast as PyTorch's, which is a
    good part of the time of a Hessian.

    Examples:
        >>> import torch
        >>> zeros(1, 2, torch.float32, torch.device("cpu"))
        tensor([[0., 0.]])
    """
    if device.type == "cpu" and dtype in _NUMPY:
        held = np.zeros(rows * columns + CACHE_LINE // dtype.itemsize, _NUMPY[dtype])
        start = -held.ctypes.data % CACHE_LINE // dtype.itemsize
        return torch.from_numpy(held[start : start + rows * columns].reshape(rows, columns))
    return torch.zeros(rows, columns, dtype=dtype, device=device)


# Just below 32 MiB, the largest that glibc learns from.
_LEARNT_FROM = 2**25 - 2**16


@functools.cache
def keep_freed() -> None:
    """Let the process keep what is freed, for what is asked for next.

    Blocks above a threshold glibc has from the system anew each time, and free memory beyond twice
    that threshold it gives back: every page of it is filled with zeros again when it is next
    touched, which can take as long as the work itself. The threshold rises to what is seen to be
    freed (mallopt(3), M_MMAP_THRESHOLD), so that it depends on what ran before. Here a large block
    is freed, before any of it is touched; other allocators lose nothing by it.
    """
    with suppress(RuntimeError):
        torch.empty(_LEARNT_FROM, dtype=torch.uint8, device="cpu")


@contextmanager
def enough_memory(
    advice: str = "give less to work in with memory=, or use hesse.operator(cost)",
) -> Iterator[None]:
    """Memory for long work: kept while it goes on, and what NumPy and PyTorch raise for want of it
    as a `HesseMemoryError`; PyTorch has no kind of its own for it on the CPU.

    Args:
        advice: what to do.

    Raises:
        HesseMemoryError: memory ran out; says how much was asked for and how much was free.
    """
    keep_freed()
    try:
        yield
    except HesseError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        asked = _ASKED.search(str(error))
        more = f"{readable_bytes(float(asked[1]) * _UNITS[asked[2]])} more" if asked else "more"
        free = readable_bytes(available_bytes(torch.device("cpu")))
        raise HesseMemoryError(
            f"memory ran out: {more} was asked for, {free} being free; {advice}"
        ) from error


def require_free(count: int, what: str) -> None:
    """Raise before something that would end the process, or wait for ever, without so much memory.

    Raises:
        HesseMemoryError: fewer bytes are free.
    """
    free = available_bytes(torch.device("cpu"))
    if free < count:
        raise HesseMemoryError(
            f"memory ran out: {what} takes {readable_bytes(count)}, and {readable_bytes(free)} are"
            " free; let go of what is not needed, or raise the limit of the process"
        )


def _limits() -> int | None:
    """What the limits of the process leave of its address space and its data."""
    try:
        import resource

        limits = [
            resource.getrlimit(what)[0] for what in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
        ]
        if all(limit == resource.RLIM_INFINITY for limit in limits):
            return None
        # In pages: all of the address space, ..., and the data with the stack.
        pages = [int(count) for count in _text("/proc/self/statm").split()]
        left = [
            limit - used * resource.getpagesize()
            for limit, used in zip(limits, (pages[0], pages[5]), strict=True)
            if limit != resource.RLIM_INFINITY
        ]
        return min(left, default=None)
    # Of a system without such limits, or without /proc.
    except (ImportError, OSError, ValueError, IndexError):
        return None


def _system() -> int | None:
    """MemAvailable where there is /proc, otherwise half of the physical memory."""
    try:
        lines = _text("/proc/meminfo").splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _text(path: str | Path) -> str:
    """Of a file of the kernel's, which is asked for at every call: pathlib takes twice as long."""
    with open(path, "rb", buffering=0) as file:
        return file.read().decode()


def _groups() -> Iterator[int]:
    """What the memory limits of this process's control groups leave to it."""
    try:
        memberships = [line.split(":", 2) for line in _text(_MEMBERSHIPS).splitlines()]
    except OSError:
        return
    for controllers, *files in _GROUPS:
        for _, names, path in memberships:
            if controllers in names.split(","):
                yield from _left(path, *files)


def _left(group: str, mount: str, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    """What the limits of a control group, and of those that it is in, leave."""
    for folder in _folders(group, mount):
        try:
            # No limit reads "max", or as a number too large for any machine, and the rest need not
            # be read.
            if (most := int(_text(f"{folder}/{limit}"))) >= _NO_LIMIT:
                continue
            held = int(_text(f"{folder}/{used}"))
            # File pages not in use count as used, and are given back on demand.
            stat = _text(f"{folder}/memory.stat").splitlines()
            given = [int(line.split()[1]) for line in stat if line.startswith(f"{reclaimable} ")]
            yield most - held + sum(given)
        except (OSError, ValueError):
            continue


@functools.cache
def _folders(group: str, mount: str) -> tuple[str, ...]:
    """The folders of a control group and of those that it is in, as far as there are any: they stay
    as long as a process is in the group, and to look for them takes longer than to read them."""
    own = PurePosixPath("/", group)
    # Inside a container the mount may begin at the group itself: of those above it there are no
    # folders.
    every = (f"{mount}{outer}" for outer in (own, *own.parents))
    return tuple(folder for folder in every if os.path.isdir(folder))
