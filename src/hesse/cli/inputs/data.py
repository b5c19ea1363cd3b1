"""Data: arrays in a file, read without unpickling, or an object in the user's own."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.cli.inputs.csv_table import read_csv
from hesse.cli.inputs.references import check_file, is_reference, object_or_result
from hesse.errors import HesseError, HesseFileError, HesseKeyError, HesseTypeError, HesseValueError
from hesse.process.state_dict import PICKLED, read_pickled

# The last pair is what np.savez calls arrays that were given no names.
_NAMES = (("X", "y"), ("x", "y"), ("arr_0", "arr_1"))


def load_data(
    spec: str, dtype: torch.dtype, target: str | None = None, classes: bool = False
) -> Any:
    """``(X, y)`` of a file of arrays; or what ``file.py:name`` names: a pair, batches, or a
    function.

    Args:
        spec: of the command line. A ``.npz``, ``.safetensors`` or ``.pt`` file holds X and y, or x
            and y; or two arrays without names, as ``np.savez(path, inputs, targets)`` and
            ``torch.save((inputs, targets), path)`` write them. A ``.csv`` file has a column for
            each input.
        dtype: what floating arrays become.
        target, classes: of a ``.csv`` file, as in `read_csv`.
    """

    def convert(leaf: Any) -> Any:
        return _tensor(spec, leaf, dtype) if isinstance(leaf, Tensor | np.ndarray) else leaf

    path = Path(spec)
    if target is not None and path.suffix != ".csv":
        raise HesseValueError(f"--target is for a .csv file in --data, got {spec!r}")
    if is_reference(spec):
        data = object_or_result("--data", spec, Iterable)
        if isinstance(data, tuple | list):
            return pytree.tree_map(convert, data)
        # What can be read only once is left as it is, for the cost to refuse.
        return (
            _Converted(data, convert)
            if isinstance(data, Iterable) and not isinstance(data, Iterator)
            else data
        )
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    readers |= dict.fromkeys(PICKLED, _read_pickled)
    readers[".csv"] = lambda path: read_csv(path, target, classes)
    if path.suffix not in readers:
        raise HesseValueError(
            f"--data: expected a {', '.join(readers)} file or file.py:name, got {spec!r}"
        )
    check_file("--data", path)
    return pytree.tree_map(convert, readers[path.suffix](path))


class _Converted:
    """Batches of a loader, converted as they come, so that they can be read again."""

    def __init__(self, batches: Iterable[Any], convert: Callable[[Any], Any]) -> None:
        self._batches, self._convert = batches, convert

    def __iter__(self) -> Iterator[Any]:
        return (pytree.tree_map(self._convert, batch) for batch in self._batches)


def _read_npz(path: Path) -> tuple[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _pair(path, arrays.files, arrays.__getitem__)
    except HesseError:
        raise
    # numpy's own text depends on what it took the file for, and may propose unpickling.
    except Exception as error:
        raise HesseFileError(
            f"--data: {str(path)!r} is not a .npz archive of plain arrays; write one with"
            " numpy.savez"
        ) from error


def _read_safetensors(path: Path) -> tuple[Any, Any]:
    try:
        with safe_open(path, framework="pt") as tensors:
            return _pair(path, list(tensors.keys()), tensors.get_tensor)
    except SafetensorError as error:
        raise HesseFileError(f"--data: {str(path)!r} cannot be read as tensors: {error}") from error


def _read_pickled(path: Path) -> tuple[Any, ...]:
    held = read_pickled(path, "--data")
    parts = held if isinstance(held, tuple | list) else ()
    if isinstance(held, dict):
        parts = _pair(path, list(map(str, held)), held.__getitem__)
    if len(parts) not in (2, 3) or not all(isinstance(part, Tensor) for part in parts):
        raise HesseTypeError(
            f"--data: {str(path)!r} holds a {type(held).__name__}; expected (X, y), (X, y, weights)"
            ' or {"X": X, "y": y} of tensors'
        )
    return tuple(parts)


def _pair(path: Path, names: list[str], read: Callable[[str], Any]) -> tuple[Any, Any]:
    for inputs, targets in _NAMES:
        if inputs in names and targets in names:
            return read(inputs), read(targets)
    raise HesseKeyError(
        f"--data: {str(path)!r} holds {', '.join(map(repr, names)) or 'nothing'}; "
        "expected inputs named 'X' or 'x' and targets named 'y'"
    )


def _tensor(spec: str, array: Tensor | np.ndarray, dtype: torch.dtype) -> Tensor:
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "fiub":
            raise HesseTypeError(
                f"--data: {spec} has an array of {array.dtype}; expected floating numbers or"
                " integers"
            )
        if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise HesseValueError(
                f"--data: {spec} has integers up to {array.max()}; those that PyTorch counts with"
                " end at 2^63 - 1"
            )
        # PyTorch has no longer numbers than of 64 bits.
        kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        array = torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
    if array.is_floating_point():
        return array.to(dtype)
    return array if array.is_complex() or array.dtype == torch.bool else array.to(torch.int64)
