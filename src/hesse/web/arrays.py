"""Arrays as one types them, ``W1 = [[1, 2], [3, 4]]``: read, written, and read out of a file."""

import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hesse.errors import HesseValueError, in_a_line, printable, readable_bytes

LARGEST_FILE = 1 << 24  # bytes of the arrays of a file, unpacked
_DEEPEST = 3  # axes: a weight has two
_BEGINNING = re.compile(r"^[ \t]*([A-Za-z]\w{0,30})[ \t]*=", re.MULTILINE)
_SHOWN = 30  # characters of what is wrong
# What a damaged or hostile archive can raise.
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,  # of the size that a header claims
    NotImplementedError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(text: str) -> dict[str, np.ndarray]:
    """The arrays of a text.

    Raises:
        HesseValueError: something that is no array of finite numbers; the text says which and
            where.

    Examples:
        >>> read("")
        {}
        >>> read("W1 = [[1, 2],\\n      [3, 4]]\\nb1 = [0.5]")["W1"].shape
        (2, 2)
    """
    found: dict[str, np.ndarray] = {}
    begins = list(_BEGINNING.finditer(text))
    before = text[: begins[0].start()] if begins else text
    if before.strip():
        raise HesseValueError(
            f"arrays: expected lines such as W1 = [[1, 2], [3, 4]], got {_shown(before)}"
        )
    ends = [*(begin.start() for begin in begins), len(text)][1:]
    for begin, end in zip(begins, ends, strict=True):
        name, value = begin[1], text[begin.end() : end].strip()
        if name in found:
            raise HesseValueError(f"arrays: {name} is given twice")
        found[name] = _array(name, value)
    return found


def written(arrays: Mapping[str, np.ndarray]) -> str:
    """The text that `read` reads; a row of a matrix a line.

    Examples:
        >>> print(written({"b1": np.array([0.5, 2.0]), "W1": np.eye(2)}))
        b1 = [0.5, 2]
        W1 = [[1, 0],
              [0, 1]]
    """
    return "\n".join(
        f"{name} = {_rows(array, len(name) + 4) if array.ndim > 1 else _numbers(array)}"
        for name, array in arrays.items()
    )


def from_file(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz``; nothing in it is executed.

    Raises:
        HesseValueError: it is none, it is damaged or too large, or it holds anything but arrays of
            finite numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_FILE:
            raise HesseValueError(
                f"file: its arrays take {readable_bytes(size)}; up to"
                f" {readable_bytes(LARGEST_FILE)} are read here"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            found = {name: held[name] for name in held.files}
    except HesseValueError:
        raise
    except _DAMAGED as error:
        raise HesseValueError(
            "file: expected a .npz as numpy.savez writes it, of arrays of numbers alone:"
            f" {in_a_line(error)}"
        ) from error
    return {
        name: _finite(printable(name), array, f"a {array.dtype} array")
        for name, array in found.items()
    }


def _array(name: str, text: str) -> np.ndarray:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = text[max(0, error.pos - 10) : error.pos + 10]
        raise HesseValueError(
            f"{name}: expected numbers in brackets, such as [[1, 2], [3, 4]]; {error.msg.lower()}"
            f" at {_shown(place)}"
        ) from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, or brackets as deep
        raise HesseValueError(f"{name}: expected numbers in brackets, got {_shown(text)}") from None
    shape = tuple(_lengths(value))
    if len(shape) > _DEEPEST:
        raise HesseValueError(f"{name}: expected at most {_DEEPEST} axes, got {len(shape)}")
    numbers = list(_flat(name, value, shape))
    return _finite(name, np.array(numbers).reshape(shape), "a list")


def _lengths(value: Any) -> Iterator[int]:
    while isinstance(value, list):
        yield len(value)
        value = value[0] if value else None


def _flat(name: str, value: Any, shape: tuple[int, ...]) -> Iterator[float]:
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise HesseValueError(
                f"{name}: its rows differ: expected {shape[0]} entries as in the first, got"
                f" {_shown(json.dumps(value))}"
            )
        for part in value:
            yield from _flat(name, part, shape[1:])
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise HesseValueError(f"{name}: expected a number, got {_shown(json.dumps(value))}")
    else:
        try:
            yield float(value)
        except OverflowError:
            yield math.inf


def _finite(name: str, array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise HesseValueError(f"{name}: expected real numbers, got {what}")
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise HesseValueError(f"{name}: has entries that are not finite in float64")
    return numbers


def _numbers(array: np.ndarray) -> str:
    return json.dumps(_whole(array.tolist()))


def _rows(array: np.ndarray, indent: int) -> str:
    return "[" + (",\n" + " " * indent).join(map(_numbers, array)) + "]"


def _whole(value: Any) -> Any:
    """Numbers without a point where they need none."""
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _shown(text: str) -> str:
    text = printable(text.strip())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
