"""A Hessian into a file, in the format that its name ends in."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.errors import HesseValueError
from hesse.matrix import storage
from hesse.matrix.frames import labels
from hesse.process.files import replacing, require_path
from hesse.store.place import names_store
from hesse.store.saving import save_store

if TYPE_CHECKING:
    from hesse.matrix.block_hessian import BlockHessian

# Rows of a table that somebody opens: a thousand are a million cells.
_MOST_ROWS = 1000


def save(hessian: "BlockHessian", path: str | os.PathLike[str]) -> None:
    """See `BlockHessian.save`."""
    text = require_path(path, "save")
    suffix = ".zarr" if names_store(text) else Path(text).suffix.lower()
    if suffix not in FORMATS:
        raise HesseValueError(
            f"save: a Hessian is not written as {suffix!r}; let the name end in one of"
            f" {', '.join(filter(None, FORMATS))}"
        )
    FORMATS[suffix](hessian, path)


def _save_arrays(hessian: "BlockHessian", path: Any) -> None:
    """NumPy's: each block that is held, of shape (*a.shape, *b.shape), under ``a,b``."""
    arrays = {f"{a},{b}": block.detach().cpu().numpy() for (a, b), block in hessian.items()}
    with replacing(path, "save", hessian.entries.nbytes) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _save_table(hessian: "BlockHessian", path: Any) -> None:
    """A table: a line for each row, named by parameter and index; the first two lines name the
    columns."""
    size = hessian.layout.size
    require_table(size, hessian.is_complete, "save")
    names, indices = labels(hessian.layout)
    with (
        replacing(path, "save", 25 * size**2) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        lines = csv.writer(file)
        lines.writerow(["parameter", "", *map(_as_text, names)])
        lines.writerow(["", "index", *indices])
        for name, index, row in zip(names, indices, hessian.dense().tolist(), strict=True):
            lines.writerow([_as_text(name), index, *row])


def require_table(size: int, is_complete: bool, what: str) -> None:
    """Raise where a Hessian of so many rows is not written as a table.

    Raises:
        HesseValueError: it has too many, or some of its blocks only.
    """
    if size > _MOST_ROWS:
        raise HesseValueError(
            f"{what}: a table of {size:,} rows has {size**2:,} cells; a .csv file takes up to"
            f" {_MOST_ROWS:,} rows, .npz, .safetensors and .zarr any number"
        )
    if not is_complete:
        raise HesseValueError(
            f"{what}: a .csv file is a table of the whole matrix, and of this one some blocks only"
            " are held; .npz and .safetensors take them"
        )


def _as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


FORMATS: dict[str, Callable[["BlockHessian", Any], None]] = {
    "": storage.save,
    ".safetensors": storage.save,
    ".zarr": save_store,
    ".npz": _save_arrays,
    ".csv": _save_table,
}
