"""Writing a Hessian that is in memory into a store."""

import os
from typing import TYPE_CHECKING

from hesse.errors import HesseFileError
from hesse.store.archive import Archive
from hesse.store.tiling import Tiling

if TYPE_CHECKING:
    from hesse.matrix.block_hessian import BlockHessian


def save_store(hessian: "BlockHessian", path: str | os.PathLike[str]) -> None:
    """Write a Hessian into a new store, tile by tile: it is there whole or not at all.

    Raises:
        HesseFileError: it cannot be written, or there is something in its place.
    """
    if os.path.lexists(path):
        raise HesseFileError(
            f"save: there is something at {os.fspath(path)!r} already, and a store is not"
            " overwritten; remove it, or name another"
        )
    entries, tiling = hessian.entries, Tiling.of(hessian.layout, hessian.pairs)
    certificate = None if hessian.certificate is None else hessian.certificate.to_json()
    description = {"provenance": dict(hessian.provenance), "certificate": certificate}
    with Archive.making(path, "save", tiling, hessian.dtype, description) as archive:
        for pair in tiling.pairs:
            squares = {}
            for tile in tiling.of_block(pair):
                values = entries.part(pair, tile.rows, tile.columns).detach().cpu()
                squares[tile] = archive.write(tile, values)
            archive.note(squares)
