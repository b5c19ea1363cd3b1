"""K-FAC in a safetensors file: the tensors of each block, and one JSON text that says what they are
of."""

import json
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hesse.errors import HesseError, HesseFileError
from hesse.kronecker.block import Block, Factor, KroneckerBlock, SpectralBlock
from hesse.layout import Layout
from hesse.matrix.storage import checksum
from hesse.process.files import read_tensors, write_tensors

# Of the description: it goes up when a file of an older hesse could be misread.
FORMAT = 1
_DTYPES = (torch.float32, torch.float64)


class Stored(NamedTuple):
    """What a file holds."""

    layout: Layout
    blocks: tuple[Block, ...]
    shift: float
    words: dict[str, str]
    notes: tuple[str, ...]


def save(path: str | PathLike[str], stored: Stored) -> None:
    """Write it: beside the place first, then renamed.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: the file cannot be written.
    """
    tensors = {
        f"{k} {name}": tensor.detach().cpu().contiguous()
        for k, block in enumerate(stored.blocks)
        for name, tensor in {"index": block.index, **block.tensors()}.items()
    }
    description = {
        "format": FORMAT,
        "names": stored.layout.names,
        "shapes": stored.layout.shapes,
        "shift": stored.shift,
        "words": stored.words,
        "notes": stored.notes,
        "blocks": [
            {"names": b.names, "shape": b.shape, "is product": isinstance(b, KroneckerBlock)}
            for b in stored.blocks
        ],
        "checksums": {key: checksum(tensor) for key, tensor in tensors.items()},
    }
    write_tensors(path, "save", tensors, {"kfac": json.dumps(description)})


def load(path: str | PathLike[str]) -> Stored:
    """What a file holds, checked: a file's text is not to be trusted.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: there is no such file, or it is none that `save` wrote.
    """
    tensors, texts = read_tensors(path, "load")
    try:
        return _stored(tensors, json.loads(texts["kfac"]))
    except HesseFileError:
        raise
    # Of a text in which something else stands, in as many ways as there are.
    except (HesseError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise HesseFileError(
            f"load: {str(path)!r} is not a K-FAC that hesse saved: {type(error).__name__} in its"
            " description"
        ) from error


def _stored(tensors: Mapping[str, Tensor], described: Any) -> Stored:
    _require(described["format"] == FORMAT, f"its format is not {FORMAT}")
    checksums = described["checksums"]
    _require(set(checksums) == set(tensors), "it holds other tensors than it describes")
    for key, tensor in tensors.items():
        _require(checksum(tensor) == checksums[key], f"{key!r} is damaged")
        is_index = key.endswith(" index")
        _require(
            tensor.dtype == torch.int64 if is_index else tensor.dtype in _DTYPES,
            f"{key!r} is {tensor.dtype}",
        )
        _require(is_index or bool(tensor.isfinite().all()), f"{key!r} is not finite")
    layout = Layout(tuple(described["names"]), tuple(map(tuple, described["shapes"])))
    blocks = tuple(
        _block(one, {name: tensors.get(f"{k} {name}") for name in _PARTS})
        for k, one in enumerate(described["blocks"])
    )
    covered = torch.cat([block.index for block in blocks]).sort().values
    _require(
        torch.equal(covered, torch.arange(layout.size, device="cpu")),
        "its blocks do not have every entry once",
    )
    shift = float(described["shift"])
    _require(0 <= shift < math.inf, "its penalty is no number")
    words = {str(key): str(word) for key, word in described["words"].items()}
    return Stored(layout, blocks, shift, words, tuple(map(str, described["notes"])))


_PARTS = ("index", "left", "right", "values")


def _block(described: Any, parts: Mapping[str, Tensor | None]) -> Block:
    names, index = tuple(map(str, described["names"])), parts["index"]
    g, o, i = map(int, described["shape"])
    fits = index is not None and tuple(index.shape) == (g * o * i,)
    left, right, values = (parts[name] for name in _PARTS[1:])
    for part, size in ((left, o), (right, i)):
        fits = fits and (part is None or tuple(part.shape) in ((g, size), (g, size, size)))
    is_product = described["is product"] is True
    fits = fits and (
        (left is not None and right is not None)
        if is_product
        else (values is not None and tuple(values.shape) == (g, o, i))
    )
    _require(fits, f"the tensors of the block of {names[0]!r} do not fit it")
    assert index is not None
    if is_product:
        assert left is not None and right is not None
        return KroneckerBlock(names, index, (g, o, i), Factor(left), Factor(right))
    assert values is not None
    return SpectralBlock(names, index, (g, o, i), left, right, values)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise HesseFileError(f"load: it is not a K-FAC that hesse saved: {problem}")
