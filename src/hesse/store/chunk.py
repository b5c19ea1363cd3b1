"""A chunk of a zarr array as a file: the entries in order, and their checksum (CRC-32C)."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from hesse.errors import HesseImportError
from hesse.linear_operators.inner_products import sum_of_squares
from hesse.process.files import replacing
from hesse.process.memory import zeros

CHECKSUM = 4  # bytes


class DamagedChunkError(Exception):
    """A chunk that is not as it was written, or not there; says why."""


def write_chunk(path: Path, argument: str, shape: tuple[int, int], values: Tensor) -> float:
    """Write a chunk of a shape, filled up with nan beyond what is there; the sum of the squares of
    what is."""
    whole = zeros(*shape, values.dtype, torch.device("cpu"))
    if whole.shape != values.shape:
        whole.fill_(math.nan)
    held = whole[: values.shape[0], : values.shape[1]].copy_(values)
    content = whole.numpy().reshape(-1).view(np.uint8)
    with (
        replacing(path, argument, content.nbytes + CHECKSUM) as partial,
        partial.open("wb", buffering=0) as file,
    ):
        _write_all(file, content.data)
        _write_all(file, _crc32c(content).to_bytes(CHECKSUM, "little"))
    return sum_of_squares(held)


def read_chunk(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The entries of one.

    Raises:
        DamagedChunkError: it is not there, or not as it was written.
    """
    # Memory from NumPy, which asks the kernel for large pages: `numpy.fromfile`, which does not,
    # takes ten times as long.
    content = np.empty(math.prod(shape) * dtype.itemsize + CHECKSUM, np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size
            if there == content.nbytes:
                there = _read_all(file, content.data)
    except OSError as error:
        raise DamagedChunkError(error.strerror or str(error)) from error
    if there != content.nbytes:
        raise DamagedChunkError(f"{there} of {content.nbytes} bytes are there")
    entries, checksum = content[:-CHECKSUM], content[-CHECKSUM:].tobytes()
    if _crc32c(entries) != int.from_bytes(checksum, "little"):
        raise DamagedChunkError("its checksum is of other entries")
    return torch.from_numpy(entries).view(dtype).view(shape)


def forget(path: Path) -> None:
    """Let the system drop what it holds of a file, where it can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return
    # A wish: a file system may know no such thing.
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def with_zarr() -> Iterator[None]:
    """What brings zarr and its checksum, which are installed where they are wanted.

    Raises:
        HesseImportError: they are not.
    """
    try:
        yield
    except ImportError as error:
        raise HesseImportError(
            f"a Hessian on disk needs zarr ({error}); install it with: pip install 'hesse[disk]'"
        ) from error


def _crc32c(content: np.ndarray) -> int:
    with with_zarr():
        import google_crc32c
    # Of an array it says bytes, and takes anything that lies in memory as they do.
    return google_crc32c.value(cast(bytes, content))


def _write_all(file: Any, content: Any) -> None:
    """All of it: a disk that fills up takes a part, and says so with the next."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _read_all(file: Any, content: Any) -> int:
    """How many bytes there were, of those asked for."""
    left = memoryview(content)
    while left and (count := file.readinto(left)):
        left = left[count:]
    return len(content) - len(left)
