"""What the page for a saved Hessian asks: what it holds, a window of it, and its spectrum.

The path is that of the command line, never one of a request.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import torch

import hesse
from hesse.errors import HesseFileError, HesseValueError, in_a_line
from hesse.layout import Layout
from hesse.matrix.entries import Entries, Pair
from hesse.matrix.storage import Slices
from hesse.store.archive import Archive
from hesse.store.place import is_store
from hesse.web.numbers import whole

SIDE = 96  # cells of a window to a side: it travels in some 100 kB
MOST_EIGENVALUES = 3000
_MOST_BLOCKS = 200  # in the table, the largest by their norms
_AT_ONCE = 1 << 26  # entries that one window reads


class Span(NamedTuple):
    """Some rows, or columns, of H, and the cells that they are drawn in.

    Attributes:
        start, stop: entries of the flat vector.
        edges: where each cell begins, and the end of the last.
    """

    start: int
    stop: int
    edges: np.ndarray

    @staticmethod
    def of(start: int, count: int) -> "Span":
        """As many cells as there are entries, and no more than are drawn."""
        cells = min(count, SIDE)
        return Span(start, start + count, start + np.arange(cells + 1) * count // cells)

    @property
    def length(self) -> int:
        """How many entries."""
        return self.stop - self.start

    def cells(self, start: int, stop: int) -> slice:
        """The cells that these entries lie in."""
        low = int(np.searchsorted(self.edges, start, "right")) - 1
        return slice(low, int(np.searchsorted(self.edges, stop, "left")))

    def common(self, entries: slice) -> slice | None:
        """What it has of other entries, counted from their first."""
        low, high = max(self.start, entries.start), min(self.stop, entries.stop)
        return slice(low - entries.start, high - entries.start) if low < high else None


def about(path: str, said: Mapping[str, str]) -> dict[str, Any]:
    """What a file or a store holds: parameters, blocks with their norms, layers."""
    H = _opened(path)
    layout, norms = H.layout, H.norms
    traces = {name: _trace(H, name) for name in layout.names if (name, name) in H.entries.pairs}
    largest = sorted(norms, key=lambda pair: -_finite(norms[pair], 0.0))[:_MOST_BLOCKS]
    return {
        "name": os.path.basename(os.path.normpath(path)),
        "summary": H.summary,
        "certificate": str(H.certificate or "not certified"),
        "provenance": dict(H.provenance),
        "size": layout.size,
        "parameters": [
            {"name": name, "shape": list(shape), "begin": layout.offsets[name]}
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        ],
        "blocks": [
            {
                "rows": a,
                "columns": b,
                "shape": [layout.sizes[a], layout.sizes[b]],
                "norm": _finite(norms[a, b]),
                "trace": traces.get(a) if a == b else None,
            }
            for a, b in largest
        ],
        "count": len(norms),
        "layers": [
            {
                "name": layer,
                "parameters": list(names),
                "size": sum(layout.sizes[name] for name in names),
                "norm": _norm(norms, names),
                "trace": _sum([traces.get(name) for name in names]),
            }
            for layer, names in layout.layers.items()
        ],
    }


def window(path: str, said: Mapping[str, str]) -> dict[str, Any]:
    """Some rows and columns, from ``top`` and ``left`` on, in at most `SIDE` cells a side.

    A cell is the entry of largest size of its patch, with its sign, or null where nothing was
    computed; of a store of which too many entries would have to be read, the root mean square of
    the tile that it lies in.
    """
    # What a file or a store holds was checked when it was told of: here it is only looked at.
    H = Slices(path) if path.lower().endswith(".safetensors") else _opened(path).entries
    size = H.layout.size
    top, left = whole(said, "top", 0, size - 1), whole(said, "left", 0, size - 1)
    rows = Span.of(top, whole(said, "rows", 1, size - top))
    columns = Span.of(left, whole(said, "columns", 1, size - left))
    coarse = is_store(path) and rows.length * columns.length > _AT_ONCE
    image = (
        _of_tiles(Archive(path, "load"), rows, columns) if coarse else _largest(H, rows, columns)
    )
    single = image.shape == (rows.length, columns.length)
    digits = 17 if single and H.dtype == torch.float64 else 9 if single else 4
    return {
        "rows": rows.edges.tolist(),
        "columns": columns.edges.tolist(),
        "cells": [
            [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in row]
            for row in image.tolist()
        ],
        "what": "root mean square" if coarse else "entry" if single else "largest",
    }


def spectrum(path: str, said: Mapping[str, str]) -> dict[str, Any]:
    """All eigenvalues, in ascending order."""
    H = _opened(path)
    if H.layout.size > MOST_EIGENVALUES:
        raise HesseValueError(
            f"spectrum: H has {H.layout.size:,} rows, and up to {MOST_EIGENVALUES:,} are decomposed"
            " here; in Python H.eigvalsh() takes more, and hesse.density(H) needs no"
            " decomposition"
        )
    return {
        "eigenvalues": H.eigvalsh().double().tolist(),
        "inertia": str(H.inertia()),
        "condition": _finite(H.condition_number()),
        "tolerance": H.tolerance,
    }


# ---------------------------------------------------------------- reading


def _opened(path: str) -> "hesse.BlockHessian":
    H = _of_arrays(path) if path.lower().endswith(".npz") else hesse.load(path)
    if not isinstance(H, hesse.BlockHessian):
        raise HesseFileError(f"{path!r} holds a {type(H).__name__}; a Hessian is shown here")
    if not H.layout.size:
        raise HesseFileError(f"{path!r} holds a Hessian without entries (P = 0)")
    return H


def _of_arrays(path: str) -> "hesse.BlockHessian":
    """The blocks of a ``.npz``, each under ``"a,b"`` with the axes of a and then those of b, as
    `BlockHessian.save` writes it; or one square matrix."""
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: _real(held[name]) for name in held.files}
    except Exception as error:  # whatever a damaged archive raises
        raise HesseFileError(f"{path!r} is no .npz of arrays: {in_a_line(error)}") from error
    if len(arrays) == 1 and "," not in next(iter(arrays)):
        name, matrix = next(iter(arrays.items()))
        _require_symmetric(path, name, matrix)
        return hesse.BlockHessian(Layout((name,), (tuple(matrix.shape[:1]),)), matrix=matrix)
    # A name may have a comma in it, and a parameter's own block has its name twice.
    shapes = {
        name: tuple(array.shape[: array.ndim // 2])
        for key, array in arrays.items()
        if f"{(name := key[: len(key) // 2])},{name}" == key
    }
    layout = Layout(tuple(shapes), tuple(shapes.values()))
    pairs = {f"{a},{b}": (a, b) for a in shapes for b in shapes}
    unknown = sorted(arrays.keys() - pairs.keys())
    if unknown or not arrays:
        raise HesseFileError(
            f"{path!r}: expected blocks under names such as 'w,b', with each parameter's own, as"
            f" H.save('h.npz') writes them; got {repr(unknown[0]) if unknown else 'none'}"
        )
    for name in layout.names:
        _require_symmetric(path, name, arrays[f"{name},{name}"].reshape(layout.sizes[name], -1))
    blocks = {
        (a, b): arrays[f"{a},{b}"].reshape(layout.sizes[a], -1)
        for a, b in combinations_with_replacement(layout.names, 2)
        if f"{a},{b}" in arrays
    }
    return hesse.BlockHessian(layout, blocks=blocks)


def _real(array: np.ndarray) -> torch.Tensor:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected real numbers, got {array.dtype}")
    kept = array.dtype in (np.float32, np.float64)
    return torch.from_numpy(array if kept else array.astype(np.float64))


def _require_symmetric(path: str, name: str, matrix: torch.Tensor) -> None:
    """One that is not symmetric is no Hessian; from elsewhere it may be so up to rounding."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return  # which is said of its shape
    finite = matrix[matrix.isfinite()]
    atol = 1e-5 * float(finite.abs().max()) if finite.numel() else 0.0
    if not torch.allclose(matrix, matrix.mT, rtol=0, atol=atol, equal_nan=True):
        raise HesseFileError(f"{path!r}: {name} is not symmetric, so it is no Hessian")


def _placed(
    layout: Layout, pairs: tuple[Pair, ...], rows: Span, columns: Span
) -> Iterator[tuple[Pair, bool, slice, slice]]:
    """The blocks in a window, and what of them is in it; those below the diagonal are transposes of
    what is held."""
    for a, b in pairs:
        for first, second, turned in ((a, b, False), (b, a, True))[: 1 if a == b else 2]:
            some, others = rows.common(layout.slice(first)), columns.common(layout.slice(second))
            if some and others:
                yield (a, b), turned, some, others


def _largest(H: Entries | Slices, rows: Span, columns: Span) -> np.ndarray:
    """The entry of largest size of each cell, with its sign; nan where there is none."""
    image = np.full((len(rows.edges) - 1, len(columns.edges) - 1), np.nan)
    for (a, b), turned, some, others in _placed(H.layout, H.pairs, rows, columns):
        part = H.part((a, b), *((others, some) if turned else (some, others)))
        values = (part.mT if turned else part).detach().numpy()
        first, second = (b, a) if turned else (a, b)
        top, left = H.layout.offsets[first] + some.start, H.layout.offsets[second] + others.start
        y, x = rows.cells(top, top + len(values)), columns.cells(left, left + values.shape[1])
        down = np.maximum(rows.edges[y] - top, 0)
        along = np.maximum(columns.edges[x] - left, 0)
        low = np.minimum.reduceat(np.minimum.reduceat(values, down, 0), along, 1)
        high = np.maximum.reduceat(np.maximum.reduceat(values, down, 0), along, 1)
        found, there = np.where(-low > high, low, high), image[y, x]
        # Where a cell lies in two blocks it has the larger.
        image[y, x] = np.where(np.isnan(there) | (np.abs(found) > np.abs(there)), found, there)
    return image


def _of_tiles(archive: Archive, rows: Span, columns: Span) -> np.ndarray:
    """The root mean square of the entries of the tiles of each cell, the largest."""
    image = np.full((len(rows.edges) - 1, len(columns.edges) - 1), np.nan)
    tiling, layout = archive.tiling, archive.tiling.layout
    for pair in tiling.pairs:
        lengths = [tiling.lengths[name] for name in pair]
        for tile in tiling.of_block(pair):
            square = archive.squares[pair][tile.rows.start // lengths[0]][
                tile.columns.start // lengths[1]
            ]
            sides = [
                slice(layout.offsets[name] + part.start, layout.offsets[name] + part.stop)
                for name, part in zip(pair, (tile.rows, tile.columns), strict=True)
            ]
            count = (sides[0].stop - sides[0].start) * (sides[1].stop - sides[1].start)
            mean = np.sqrt(np.nan if square is None else square / count)
            for first, second in (sides, sides[::-1]):
                if rows.common(first) and columns.common(second):
                    y, x = (
                        span.cells(max(side.start, span.start), min(side.stop, span.stop))
                        for span, side in ((rows, first), (columns, second))
                    )
                    image[y, x] = np.fmax(image[y, x], mean)
    return image


# ---------------------------------------------------------------- numbers


def _finite(value: float, otherwise: Any = None) -> Any:
    """A number that JSON can write."""
    return value if np.isfinite(value) else otherwise


def _trace(H: "hesse.BlockHessian", name: str) -> float | None:
    return _finite(float(H.entries.diagonal(name).double().sum()))


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _norm(norms: Mapping[Pair, float], names: tuple[str, ...]) -> float | None:
    """Of a layer's own block, as far as it is held."""
    squares = [
        norm**2 * (1 if a == b else 2)
        for (a, b), norm in norms.items()
        if a in names and b in names
    ]
    return _finite(float(np.sqrt(sum(squares)))) if squares else None
