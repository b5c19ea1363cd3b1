"""A Hessian's tiles as a zarr v3 store: a group with an array for each block, whose chunks are the
tiles, each with its checksum (CRC-32C), so that numpy, xarray, dask and others read it.

The array of the block (a, b) is ``a/b``. Of a parameter's own block the chunks below the diagonal
are not there, and read as nan. Everything else is in the group's attributes, under ``hesse``.

Tiles are written and read here, as the format has them, a file each: bytes in order, and the
checksum. zarr's own way copies them several times, and does not wait until they are on the disk.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from hesse.errors import HesseFileError, printable
from hesse.process.files import making_folder, replacing, require_path, told
from hesse.process.memory import available_bytes
from hesse.store.chunk import (
    CHECKSUM,
    DamagedChunkError,
    forget,
    read_chunk,
    with_zarr,
    write_chunk,
)
from hesse.store.description import (
    FORMAT,
    checksum_of,
    described,
    name_of,
    sound_description,
    summed,
)
from hesse.store.place import is_store, not_a_store
from hesse.store.tiling import NamePair, Tile, Tiling

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Names that every file system can have, and zarr keeps for nothing else.
_PLAIN = re.compile(r"(?!__|\.z|(?i:zarr\.json)$)(?=.*[^.])[A-Za-z0-9_.-]{1,100}")
# What the notes of other processes than the first are called, with their rank.
_NOTES = "notes."
# A store of more than this of what is free is too large for the system to hold.
_KEPT = 0.5


class DamagedTileError(HesseFileError):
    """A tile that is not as it was written, or not there.

    Attributes:
        tile: which.
    """

    tile: Tile


@final
class Archive:
    """A store that is there.

    Args:
        path: its folder.
        argument: what the user gave it as, which begins messages.
        rank: of the process that writes; all but the first keep notes of their own, so that none
            writes what another does.

    Attributes:
        path: its folder.
        tiling: its tiles.
        dtype: of the entries.
        description: what else is known of it.
        squares: by block, of each tile the sum of the squares of its entries; ``None`` of those
            that are not there yet.

    Raises:
        HesseFileError: it is no store of hesse, or damaged.
    """

    def __init__(self, path: Any, argument: str, rank: int = 0) -> None:
        # Where it is, wherever the process goes.
        self.path = Path(os.path.abspath(require_path(path, argument)))
        self._argument, self._rank, self._noted = argument, rank, list[Any]()
        if not os.path.exists(self.path):
            raise HesseFileError(f"{argument}: there is no store {str(self.path)!r}")
        if not is_store(self.path):
            raise not_a_store(self.path, argument)
        try:
            attributes = _attributes(self.path)
            held = attributes["hesse"]
            if held.get("format") != FORMAT:
                raise ValueError(f"its format is {held.get('format')!r}, not {FORMAT}")
            if attributes["checksum"] != checksum_of(held):
                raise ValueError("its description is not as it was written")
            self.tiling = Tiling.from_json(held["tiles"])
            self.dtype = _DTYPES[held["dtype"]]
            self.description = sound_description(held["description"])
            self.squares = {pair: self._squares_of(pair) for pair in self.tiling.pairs}
            for notes in self._notes:
                self._merge(json.loads(notes.read_text("utf-8")))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as error:
            raise HesseFileError(
                f"{argument}: {str(self.path)!r} is not a Hessian that hesse stored, or is damaged:"
                f" {printable(str(error))}"
            ) from error

    @staticmethod
    @contextmanager
    def making(
        path: Any, argument: str, tiling: Tiling, dtype: torch.dtype, description: dict[str, Any]
    ) -> Iterator["Archive"]:
        """A store without tiles beside its place, to which it is moved with those that were
        written meanwhile, when all went well.

        Raises:
            HesseFileError: it cannot be made there.
            HesseImportError: zarr is not installed.
        """
        with with_zarr():
            import zarr
            from zarr.codecs import Crc32cCodec
            from zarr.storage import LocalStore
        with making_folder(path, argument) as folder:
            group = zarr.create_group(LocalStore(folder))
            for pair in tiling.pairs:
                sizes = [tiling.layout.sizes[name] for name in pair]
                group.create_array(
                    "/".join(_nodes(tiling, pair)),
                    shape=tuple(sizes),
                    chunks=tuple(tiling.lengths[name] for name in pair),
                    dtype=name_of(dtype),
                    fill_value=math.nan,
                    compressors=[Crc32cCodec()],
                    # Two axes of one array have two names.
                    dimension_names=(pair[0], f"{pair[1]}'"),
                    attributes={"parameters": list(pair), **summed(_none(tiling, pair))},
                )
            _write_attributes(folder, described(tiling, dtype, description))
            yield Archive(folder, argument)

    def update(self, **values: Any) -> None:
        """Change what is known of it."""
        self.description = {**self.description, **values}
        with told(self._argument, self.path):
            _write_attributes(self.path, described(self.tiling, self.dtype, self.description))

    # ------------------------------------------------------------ tiles

    def write(self, tile: Tile, values: Tensor) -> float:
        """Write a tile; it counts as there once `note` has been told the sum of the squares of its
        entries, which is returned."""
        path = self._file(tile)
        with told(self._argument, path):
            path.parent.mkdir(parents=True, exist_ok=True)
        square = write_chunk(path, self._argument, self._shape(tile), values.to(self.dtype))
        self._passed(path)
        return square

    def note(self, squares: dict[Tile, float]) -> None:
        """Some tiles are there: the sums of their squares."""
        for tile, square in squares.items():
            row, column = self._place(tile)
            self.squares[tile.pair][row][column] = square
        if self._rank:
            places = ((self.tiling.pairs.index(t.pair), *self._place(t)) for t in squares)
            self._noted += [
                [*place, _as_json(square)]
                for place, square in zip(places, squares.values(), strict=True)
            ]
            _replace(self.path / f"{_NOTES}{self._rank}.json", self._noted)
            return
        for pair in {tile.pair for tile in squares}:
            self._write_squares(pair)

    def settle(self) -> None:
        """Take what other processes noted, which write no more, among the rest."""
        with told(self._argument, self.path):
            if notes := self._notes:
                for pair in self.tiling.pairs:
                    self._write_squares(pair)
            for each in notes:
                each.unlink()

    def forget(self, tiles: list[Tile]) -> None:
        """Some tiles are to be made again."""
        for tile in tiles:
            row, column = self._place(tile)
            self.squares[tile.pair][row][column] = None
        for pair in {tile.pair for tile in tiles}:
            self._write_squares(pair)

    def holds(self, tile: Tile) -> bool:
        """Whether a tile is there, of the right size."""
        row, column = self._place(tile)
        if self.squares[tile.pair][row][column] is None:
            return False
        try:
            return self._file(tile).stat().st_size == self._bytes(tile)
        except OSError:
            return False

    def read(self, tile: Tile) -> Tensor:
        """A tile's entries.

        Raises:
            DamagedTileError: it is not there, or not as it was written.
        """
        try:
            whole = read_chunk(self._file(tile), self._shape(tile), self.dtype)
        except DamagedChunkError as error:
            raise self._damaged(tile, str(error)) from error
        self._passed(self._file(tile))
        return whole[: tile.rows.stop - tile.rows.start, : tile.columns.stop - tile.columns.start]

    @property
    def bytes(self) -> int:
        """What all of its tiles take."""
        return sum(
            self._bytes(tile) for pair in self.tiling.pairs for tile in self.tiling.of_block(pair)
        )

    @property
    def missing(self) -> list[Tile]:
        """The tiles that are not there."""
        return [
            tile
            for pair in self.tiling.pairs
            for tile in self.tiling.of_block(pair)
            if not self.holds(tile)
        ]

    @cached_property
    def _is_kept_by_the_system(self) -> bool:
        return self.bytes <= _KEPT * available_bytes(torch.device("cpu"))

    def _passed(self, path: Path) -> None:
        """A tile has been written or read, and is not soon again where the store is large: what the
        system holds of it would push everything else out of memory."""
        if not self._is_kept_by_the_system:
            forget(path)

    def bytes_of(self, tiles: list[Tile]) -> int:
        """What some tiles take."""
        return sum(map(self._bytes, tiles))

    def _bytes(self, tile: Tile) -> int:
        return math.prod(self._shape(tile)) * self.dtype.itemsize + CHECKSUM

    def _shape(self, tile: Tile) -> tuple[int, int]:
        # At the end of an axis a tile is filled up: the format knows one size of chunks.
        return self.tiling.lengths[tile.pair[0]], self.tiling.lengths[tile.pair[1]]

    def _place(self, tile: Tile) -> tuple[int, int]:
        rows, columns = self._shape(tile)
        return tile.rows.start // rows, tile.columns.start // columns

    def _file(self, tile: Tile) -> Path:
        row, column = self._place(tile)
        return self._folder(tile.pair) / "c" / str(row) / str(column)

    def _folder(self, pair: NamePair) -> Path:
        return self.path.joinpath(*_nodes(self.tiling, pair))

    def _damaged(self, tile: Tile, problem: str) -> DamagedTileError:
        error = DamagedTileError(
            f"{self._argument}: the tile of rows {tile.rows.start} to {tile.rows.stop} and columns"
            f" {tile.columns.start} to {tile.columns.stop} of the block {tile.pair} in"
            f" {str(self.path)!r} is damaged: {problem}; hesse.hessian(cost, out=...) makes it"
            " again, and no others"
        )
        error.tile = tile
        return error

    @property
    def _notes(self) -> list[Path]:
        return sorted(self.path.glob(f"{_NOTES}*.json"))

    def _merge(self, noted: list[Any]) -> None:
        """Tiles that another process noted."""
        for pair, row, column, square in noted:
            if min(pair, row, column) < 0 or float(square) < 0:
                raise ValueError("its notes are of no tile")
            self.squares[self.tiling.pairs[pair]][row][column] = float(square)

    def _squares_of(self, pair: NamePair) -> list[list[float | None]]:
        attributes = _attributes(self._folder(pair))
        held = attributes["squares"]
        if attributes["checksum"] != checksum_of(held):
            raise ValueError(f"of the block {pair} its squares are not as they were written")
        read = [[None if each is None else float(each) for each in row] for row in held]
        if [len(row) for row in read] != [len(row) for row in _none(self.tiling, pair)]:
            raise ValueError(f"of the block {pair} it has other tiles")
        if any(each is not None and each < 0 for row in read for each in row):
            raise ValueError(f"of the block {pair} it has squares below zero")
        return read

    def _write_squares(self, pair: NamePair) -> None:
        squares = [[_as_json(each) for each in row] for row in self.squares[pair]]
        folder = self._folder(pair)
        with told(self._argument, folder):
            _write_attributes(folder, {**_attributes(folder), **summed(squares)})


def _as_json(number: float | None) -> float | str | None:
    """As a text where JSON has no number for it."""
    return number if number is None or math.isfinite(number) else str(number)


@contextmanager
def written_alone(archive: Archive, argument: str) -> Iterator[None]:
    """Nobody else writes into a store meanwhile; a process that ends in any way lets go of it.

    Raises:
        HesseFileError: somebody does.
    """
    try:
        import fcntl
    except ImportError:  # of a system without such locks
        yield
        return
    with told(argument, archive.path):
        folder = os.open(archive.path, os.O_RDONLY)
    try:
        with told(argument, archive.path):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HesseFileError(
                    f"{argument}: another process is writing {str(archive.path)!r}; wait for it, or"
                    " name another"
                ) from error
        yield
    finally:
        os.close(folder)


def _nodes(tiling: Tiling, pair: NamePair) -> tuple[str, str]:
    """The names of a block's group and array; a parameter's own name where a path can have it."""
    a, b = (
        name if _PLAIN.fullmatch(name) else f"parameter {tiling.layout.index(name)}"
        for name in pair
    )
    return a, b


def _none(tiling: Tiling, pair: NamePair) -> list[list[None]]:
    rows, columns = (len(tiling.slices(name)) for name in pair)
    return [[None] * columns for _ in range(rows)]


def _attributes(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "zarr.json").read_text("utf-8"))["attributes"]


def _write_attributes(folder: Path, attributes: dict[str, Any]) -> None:
    path = folder / "zarr.json"
    metadata = json.loads(path.read_text("utf-8"))
    _replace(path, {**metadata, "attributes": attributes})


def _replace(path: Path, held: Any) -> None:
    content = json.dumps(held, indent=1).encode()
    with replacing(path, "out", len(content)) as partial:
        partial.write_bytes(content)
