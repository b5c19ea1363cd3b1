"""A Hessian in a safetensors file.

The tensors are ``matrix``, or ``block i j`` for each pair held, i and j being indices in the
layout. The layout, the pairs, the provenance, the certificate and a checksum of each tensor are one
JSON text in the file's metadata, under ``hesse``; its own checksum is there under ``checksum``.
"""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.errors import HesseFileError, HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.process.files import require_file, write_tensors

if TYPE_CHECKING:
    from hesse.matrix.block_hessian import BlockHessian

# Of the description: it goes up when a file of an older hesse could be misread.
FORMAT = 2
# By safetensors' names: what a Hessian is computed in.
_DTYPES = ("F32", "F64")
# Entries of a parameter, more than any memory holds: what is multiplied with it can be written.
_MOST = 2**63
# Rows of a matrix held against its columns at once.
_ROWS = 256


class StoredHessian(NamedTuple):
    """What a file holds: tensors by name, and which pairs of parameters they are of; ``indices`` is
    None for a whole matrix."""

    layout: Layout
    indices: list[tuple[int, int]] | None
    provenance: dict[str, str]
    certificate: Certificate | None
    tensors: dict[str, Tensor]


def save(hessian: "BlockHessian", path: str | os.PathLike[str]) -> None:
    """Write a Hessian: beside the place first, then renamed, so that the file is there whole or not
    at all.

    Raises:
        HesseTypeError, HesseValueError: the path is none, or the matrix is not symmetric.
        HesseFileError: the file cannot be written.
    """
    layout = hessian.layout
    indices = (
        [(layout.index(a), layout.index(b)) for a, b in hessian.pairs]
        if hessian.matrix is None
        else None
    )
    if hessian.matrix is not None:
        tensors = {"matrix": hessian.matrix.detach().contiguous()}
    else:
        tensors = {
            key_of(i, j): _unshared(hessian.flat(layout.names[i], layout.names[j]).detach())
            for i, j in indices or ()
        }
    dtypes = {str(tensor.dtype) for tensor in tensors.values()}
    if not dtypes <= {"torch.float32", "torch.float64"}:
        raise HesseTypeError(
            f"save: a file holds float32 or float64, and this Hessian is {dtypes.pop()}; convert it"
        )
    one_sided = next((key for key in _symmetric(indices) if not _is_symmetric(tensors[key])), None)
    if one_sided is not None:
        raise HesseValueError(
            f"save: {one_sided!r} is not symmetric, so it is no matrix of second derivatives, and"
            " hesse.load would take its file for a damaged one; save (H + H.T) / 2"
        )
    header = {
        "format": FORMAT,
        "names": layout.names,
        "shapes": layout.shapes,
        "blocks": indices,
        "provenance": dict(hessian.provenance),
        "checksums": {key: checksum(tensor) for key, tensor in tensors.items()},
        "finite": all(_is_finite(tensor) for tensor in tensors.values()),
        "certificate": None if hessian.certificate is None else hessian.certificate.to_json(),
    }
    text = json.dumps(header)
    write_tensors(path, "save", tensors, {"hesse": text, "checksum": _text_checksum(text)})


def read(path: str | os.PathLike[str]) -> "StoredHessian":
    """What a file holds, all of it checked.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: there is no such file, it is cut short or damaged, or it is not a Hessian of
            hesse.
    """
    with _opened(path) as (file, (layout, indices, provenance, certificate, checksums, finite)):
        tensors = {key: file.get_tensor(key) for key in _expected(layout, indices)}
        for key, tensor in tensors.items():
            _require(
                checksum(tensor) == checksums[key],
                f"{key!r} is not as it was written: the file is damaged",
            )
        # What wrote the checksums need not have been hesse.
        for key in _symmetric(indices):
            _require(_is_symmetric(tensors[key]), f"{key!r} is not symmetric")
        _require(
            not finite or all(_is_finite(tensor) for tensor in tensors.values()),
            "it has entries that are not finite (nan or inf)",
        )
    return StoredHessian(layout, indices, provenance, certificate, tensors)


class Slices:
    """What a file holds, read where it is asked for: of its entries nothing is checked.

    Args:
        path: of the file.

    Attributes:
        layout: the parameters.
        pairs: the blocks that are held.
        dtype: of the entries.

    Raises:
        HesseTypeError, HesseValueError, HesseFileError: as `read`, before any entry is read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with _opened(path) as (file, header):
            self._file, self._whole, self.layout = file, header.indices is None, header.layout
        names = self.layout.names
        every = combinations_with_replacement(range(len(names)), 2)
        self.pairs = tuple((names[i], names[j]) for i, j in header.indices or every)
        self.dtype = self.part(self.pairs[0], slice(0, 0), slice(0, 0)).dtype

    def part(self, pair: tuple[str, str], rows: slice, columns: slice) -> Tensor:
        """Some rows and columns of a block that is held."""
        if not self._whole:
            block = self._file.get_slice(key_of(*map(self.layout.index, pair)))
            return block[rows, columns]
        begin = [self.layout.offsets[name] for name in pair]
        places = (
            slice(first + side.start, first + side.stop)
            for first, side in zip(begin, (rows, columns), strict=True)
        )
        return self._file.get_slice("matrix")[*places]


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, "_Header"]]:
    """A file, and what it says of its tensors, which are as it says."""
    # Before safetensors opens it, so that a missing file is told from a damaged one.
    path = require_file(path, "load")
    name = repr(path)
    try:
        file: Any = safetensors.safe_open(path, framework="pt")
        header = _header(file.metadata() or {})
        shapes = _expected(header.layout, header.indices)
        keys, kinds = set(file.keys()), set()
        _require(
            keys == set(shapes),
            f"it holds {len(keys)} tensors, not the {len(shapes)} that it describes",
        )
        # Shapes are read from the header of the file, before any of the entries.
        for key, shape in shapes.items():
            described = file.get_slice(key)
            kind, stored = described.get_dtype(), tuple(described.get_shape())
            _require(
                kind in _DTYPES and stored == shape,
                f"{key!r} is {kind} {stored}, not F32 or F64 {shape}",
            )
            kinds.add(kind)
        _require(len(kinds) == 1, "its blocks have several dtypes")
        _require(set(header.checksums) == set(shapes), "its checksums are of other tensors")
        yield file, header
    except _NotAHessian as error:
        raise HesseFileError(f"load: {name} is not a Hessian that hesse saved: {error}") from error
    except (safetensors.SafetensorError, OSError, UnicodeError) as error:
        raise HesseFileError(
            f"load: {name} cannot be read as safetensors; is it cut short? ({error})"
        ) from error


class _NotAHessian(Exception):
    """What of a readable file is not as `save` writes it."""


def checksum(tensor: Tensor) -> int:
    """CRC-32 of the entries, in slices, for a checksum of gigabytes is one of their pieces too."""
    flat, checksum = tensor.detach().cpu().contiguous().view(-1), 0
    for part in flat.split(2**24):
        checksum = zlib.crc32(part.view(torch.uint8).numpy().data, checksum)
    return checksum


def _text_checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _symmetric(indices: list[tuple[int, int]] | None) -> list[str]:
    """The tensors that are matrices of a parameter, or of all, with themselves."""
    return ["matrix"] if indices is None else [key_of(i, j) for i, j in indices if i == j]


def _is_symmetric(matrix: Tensor) -> bool:
    """Exactly, nan being equal to nan; by rows, for a transpose of gigabytes is a copy of them."""
    return all(
        # The first takes no memory, and mostly decides.
        torch.equal(rows, columns.T)
        or torch.allclose(rows, columns.T, rtol=0, atol=0, equal_nan=True)
        for rows, columns in zip(matrix.split(_ROWS), matrix.split(_ROWS, dim=1), strict=True)
    )


def _is_finite(tensor: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in tensor.split(_ROWS))


def key_of(i: int, j: int) -> str:
    """The name of a block's tensor, by the indices of its two parameters."""
    return f"block {i} {j}"


def _unshared(block: Tensor) -> Tensor:
    """The block in memory of its own: the format refuses tensors that share it."""
    # A view of the matrix is written without the rest of it.
    alone = block.is_contiguous() and block.untyped_storage().nbytes() == block.nbytes
    return block if alone else block.clone().contiguous()


class _Header(NamedTuple):
    """What a file says of its tensors."""

    layout: Layout
    indices: list[tuple[int, int]] | None
    provenance: dict[str, str]
    certificate: Certificate | None
    checksums: dict[str, int]
    finite: bool


def _header(metadata: Mapping[str, str]) -> _Header:
    """What a file says of its tensors, each part checked: a file's text is not to be trusted."""
    _require("hesse" in metadata, "its metadata has no 'hesse' entry")
    written = metadata.get("checksum")
    try:
        header: Any = json.loads(metadata["hesse"])
    except (ValueError, RecursionError) as error:
        raise _NotAHessian(f"its description is not JSON ({error})") from error
    _require(isinstance(header, dict), "its description is not a JSON object")
    _require(
        header.get("format") == FORMAT,
        f"its format is {header.get('format')!r}, and this hesse reads {FORMAT}",
    )
    _require(
        written == _text_checksum(metadata["hesse"]),
        "its description is not as it was written: the file is damaged",
    )
    names, shapes, indices, provenance, finite = (
        header.get(key) for key in ("names", "shapes", "blocks", "provenance", "finite")
    )
    _require(
        _list_of(names, str) and len(set(names)) == len(names) > 0,
        "its parameters have no names, or one name twice",
    )
    _require(
        _list_of(shapes, list)
        and len(shapes) == len(names)
        and all(_list_of(s, int) and min(s, default=0) >= 0 for s in shapes)
        and all(math.prod(s) < _MOST for s in shapes),
        "its shapes do not fit its names",
    )
    _require(
        isinstance(provenance, dict) and _list_of(list(provenance.values()), str),
        "its provenance is not text by name",
    )
    _require(isinstance(finite, bool), "it does not say whether its entries are finite")
    checksums: Any = header.get("checksums")
    _require(
        isinstance(checksums, dict) and all(type(value) is int for value in checksums.values()),
        "its checksums are not numbers",
    )
    try:
        stored = header.get("certificate")
        certificate = None if stored is None else Certificate.from_json(stored)
    except ValueError as error:
        raise _NotAHessian(str(error)) from error
    layout = Layout(tuple(names), tuple(tuple(shape) for shape in shapes))
    if indices is None:
        return _Header(layout, None, provenance, certificate, checksums, finite)
    _require(
        _list_of(indices, list)
        and len(indices) > 0
        and all(
            _list_of(place, int) and len(place) == 2 and 0 <= place[0] <= place[1] < len(names)
            for place in indices
        ),
        "its list of blocks does not fit its layout",
    )
    pairs = [(i, j) for i, j in indices]
    return _Header(layout, pairs, provenance, certificate, checksums, finite)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise _NotAHessian(problem)


def _list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _expected(layout: Layout, indices: list[tuple[int, int]] | None) -> dict[str, tuple[int, int]]:
    """The shape of every tensor that the file must hold."""
    if indices is None:
        return {"matrix": (layout.size, layout.size)}
    sizes = [layout.sizes[name] for name in layout.names]
    return {key_of(i, j): (sizes[i], sizes[j]) for i, j in indices}
