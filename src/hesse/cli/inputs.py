"""What the command line names: models, losses and data in files, numbers of bytes, and where to
write.

``file.py:name`` runs that file, as ``python file.py`` would, and takes what it calls ``name``.
Nothing else is run: arrays are read without unpickling.
"""

import importlib.util
import inspect
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import hesse
from hesse.errors import (
    HesseError,
    HesseFileError,
    HesseImportError,
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    nearest,
)
from hesse.process.files import require_place

# The last pair is what np.savez calls arrays that were given no names.
_NAMES = (("X", "y"), ("x", "y"), ("arr_0", "arr_1"))
# Powers of 1000, and of 1024 with an i, in capitals.
_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("", 1000), ("B", 1000), ("IB", 1024))
}

# Characters of what the user's own code says went wrong, which may be pages.
_LONGEST = 500
# More than any machine has, and few enough to count with.
_MOST_BYTES = 2.0**63


def build_cost(
    model: str,
    data: str,
    loss: str,
    *,
    params: list[str] | None,
    penalty: float | None,
    dtype: str | None,
) -> hesse.Cost:
    """The cost that a command line describes.

    The work is done in the model's own dtype, or in ``dtype``: floating arrays are converted to it,
    and integer arrays become int64, which changes no value.

    Raises:
        HesseError: a file, a name or a value that cannot be used, or a model that fails on the
            data.
    """
    module = load_model(model)
    if dtype is not None:
        module = module.to(getattr(torch, dtype))
    floating = next(
        (p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype()
    )
    samples = load_data(data, floating)
    criterion = _named_object("--loss", loss) if _is_reference(loss) else loss
    try:
        return hesse.Cost(module, criterion, samples, params=params or None, penalty=penalty)
    except HesseError as error:
        # Without a cause it is hesse's own word on an argument, which says enough.
        if error.__cause__ is None:
            raise
        raise HesseValueError(  # the user's own model or loss failed
            f"MODEL: {model} and --loss {loss} could not be evaluated on --data {data}: {error}"
        ) from error


def load_model(spec: str) -> nn.Module:
    """The module that ``file.py:name`` names: a module, or a function or class that makes one when
    called with nothing."""
    model = _object_or_result("MODEL", spec, nn.Module)
    if not isinstance(model, nn.Module):
        raise HesseTypeError(
            f"MODEL: expected an nn.Module, or a function of no arguments that makes one; {spec}"
            f" gives {type(model).__name__}"
        )
    return model


def load_data(spec: str, dtype: torch.dtype) -> Any:
    """``(X, y)`` of a ``.npz`` or ``.safetensors`` file; or what ``file.py:name`` names: a pair,
    batches, or a function.

    A file of arrays holds X and y, or x and y, or two arrays without names as ``np.savez(path,
    inputs, targets)`` writes them.
    """

    def convert(leaf: Any) -> Any:
        return _tensor(spec, leaf, dtype) if isinstance(leaf, Tensor | np.ndarray) else leaf

    if _is_reference(spec):
        data = _object_or_result("--data", spec, Iterable)
        if isinstance(data, tuple | list):
            return pytree.tree_map(convert, data)
        # What can be read only once is left as it is, for the cost to refuse.
        return (
            _Converted(data, convert)
            if isinstance(data, Iterable) and not isinstance(data, Iterator)
            else data
        )
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    path = Path(spec)
    if path.suffix not in readers:
        raise HesseValueError(
            f"--data: expected a .npz file, a .safetensors file or file.py:name, got {spec!r}"
        )
    _check_file("--data", path)
    return tuple(convert(array) for array in readers[path.suffix](path))


def parse_bytes(text: str) -> int:
    """A number of bytes as a person writes it.

    Example:
        >>> parse_bytes("2GB"), parse_bytes("1.5 MiB")
        (2000000000, 1572864)
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([A-Za-z]*)", text.strip())
    factor = _UNITS.get(match[2].upper()) if match else None
    number = float(match[1]) * factor if match and factor else 0.0
    if not 1 <= number < _MOST_BYTES:
        raise HesseValueError(
            f"--memory: {text[:40]!r} is not a number of bytes; write for"
            " instance 500MB, 2GB or 1.5GiB"
        )
    return int(number)


def check_writable(
    option: str, path: Path | None, suffixes: tuple[str, ...], size: int = 1
) -> None:
    """Refuse, before any work, a file that could not be written after it; of so many bytes, as far
    as that is known."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise HesseValueError(f"{option}: {str(path)!r} should end with {' or '.join(suffixes)}")
    require_place(path, option, size)


def require(module: str, extra: str, what: str) -> None:
    """Refuse, before any work, what needs a package that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise HesseImportError(
            f"{what} needs the package {module}; install it with: pip install 'hesse[{extra}]'"
        )


class _Converted:
    """Batches of a loader, converted as they come, so that they can be read again."""

    def __init__(self, batches: Iterable[Any], convert: Callable[[Any], Any]) -> None:
        self._batches, self._convert = batches, convert

    def __iter__(self) -> Iterator[Any]:
        return (pytree.tree_map(self._convert, batch) for batch in self._batches)


def _is_reference(spec: str) -> bool:
    return ".py:" in spec


def _object_or_result(argument: str, spec: str, wanted: type) -> Any:
    """The object behind ``file.py:name``, or what it makes where it is a function of no
    arguments."""
    named = _named_object(argument, spec)
    # A module is callable too, and is what is wanted; its class is called.
    if not callable(named) or (isinstance(named, wanted) and not inspect.isclass(named)):
        return named
    try:
        inspect.signature(named).bind()
    except (TypeError, ValueError) as error:
        raise HesseTypeError(
            f"{argument}: {spec} needs arguments ({error}); give a function that needs none"
        ) from None
    return _run(argument, spec, named)


def _named_object(argument: str, spec: str) -> Any:
    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name:
        raise HesseValueError(f"{argument}: expected file.py:name, got {spec!r}")
    path = Path(file)
    _check_file(argument, path)
    module = _module(argument, path.resolve())
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise HesseKeyError(
            f"{argument}: {file} has no {name!r}; the nearest names in it:"
            f" {nearest(name, known) or 'none'}"
        )
    return getattr(module, name)


def _module(argument: str, path: Path) -> Any:
    """The user's file as a module, run once, able to import its neighbours as a script is."""
    # A name that no import gives, and the same for one file in one run: MODEL, --data and --loss
    # may name the same file, which is run once.
    name = f"hesse_user_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[name] = module  # dataclasses and pickling look a class's module up by name
    try:
        _run(argument, str(path), partial(spec.loader.exec_module, module))
    except HesseError:
        del sys.modules[name]
        raise
    return module


def _run(argument: str, spec: str, function: Callable[[], Any]) -> Any:
    """Call the user's code; what it raises is told with the line of their file that it came
    from."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        file = Path(spec.partition(".py:")[0]).with_suffix(".py").name
        # The last frame in the user's file: deeper ones are libraries'.
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).name == file
        ]
        where = f" at line {lines[-1]}" if lines else ""
        raise HesseValueError(
            f"{argument}: running {spec} failed{where}: {type(error).__name__}:"
            f" {textwrap.shorten(str(error), _LONGEST)}"
        ) from error


def _check_file(argument: str, path: Path) -> None:
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise HesseFileError(f"{argument}: {str(path)!r} is a folder, not a file")
    if not os.path.isdir(path.parent):
        raise HesseFileError(f"{argument}: there is no folder {str(path.parent)!r}")
    # Of the same kind: a .npz for a .npz.
    try:
        others = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix]
    except OSError:  # a folder that may not be listed
        others = []
    hint = (
        f"; the nearest {path.suffix} files there: {nearest(path.name, sorted(others))}"
        if others
        else ""
    )
    raise HesseFileError(f"{argument}: there is no file {str(path)!r}{hint}")


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
