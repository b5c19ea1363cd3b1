"""The entries of a Hessian on a disk, read when they are asked for."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import combinations_with_replacement
from typing import final

import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.entries import Entries, Pair, Piece, column_norms, largest_finite
from hesse.process.memory import require_free
from hesse.store.archive import Archive
from hesse.store.tiling import Tile

# Tiles that are read while others are worked on, and by how many threads: reading and checking one
# takes a thread about as long as two products with it.
_AHEAD, _THREADS = 4, 2


@final
class Stored(Entries):
    """The tiles of an archive.

    Args:
        archive: with all of its tiles.
        device: where they come to lie.
    """

    def __init__(self, archive: Archive, device: torch.device) -> None:
        self._archive, self._tiling = archive, archive.tiling
        self.layout, self.dtype, self.device = archive.tiling.layout, archive.dtype, device
        held = set(self._tiling.pairs)
        every = combinations_with_replacement(self.layout.names, 2)
        self.pairs = tuple(pair for pair in every if pair in held)
        self.nbytes = self._tiling.entries * self.dtype.itemsize

    @property
    def blocks(self) -> Mapping[Pair, Tensor]:
        return _Blocks(self)

    def block(self, pair: Pair) -> Tensor:
        sizes = self.layout.sizes
        count = sizes[pair[0]] * sizes[pair[1]] * self.dtype.itemsize
        if self.device.type == "cpu":
            require_free(count, f"the block {pair}")
        return super().block(pair)

    def part(self, pair: Pair, rows: slice, columns: slice) -> Tensor:
        out = torch.empty(
            rows.stop - rows.start,
            columns.stop - columns.start,
            dtype=self.dtype,
            device=self.device,
        )
        for tile in self._tiling.of_block(pair):
            both = [(tile, False)]
            # What is below the diagonal is a transpose.
            if pair[0] == pair[1] and tile.rows != tile.columns:
                both.append((Tile(pair, tile.columns, tile.rows), True))
            both = [each for each in both if _overlap(each[0], rows, columns)]
            values = self._archive.read(tile) if both else None
            for place, transposed in both:
                assert values is not None
                (to_rows, from_rows), (to_columns, from_columns) = (
                    _common(place.rows, rows),
                    _common(place.columns, columns),
                )
                held = values.mT if transposed else values
                out[to_rows, to_columns] = held[from_rows, from_columns].to(self.device)
        return out

    def diagonal(self, name: str) -> Tensor:
        entries = torch.empty(self.layout.sizes[name], dtype=self.dtype, device=self.device)
        tiles = [Tile((name, name), part, part) for part in self._tiling.slices(name)]
        for piece in self._read(tiles):
            entries[piece.rows] = piece.values.diagonal()
        return entries

    def pieces(self) -> Iterator[Piece]:
        yield from self._read(tile for pair in self.pairs for tile in self._tiling.of_block(pair))

    def norms(self) -> dict[Pair, float]:
        return {
            pair: math.sqrt(math.fsum(self._squares(pair)))
            if all(map(math.isfinite, self._squares(pair)))
            else math.nan
            for pair in self.pairs
        }

    def column_norms(self, count: int, random: torch.Generator) -> tuple[dict[str, float], int]:
        return column_norms(self.layout, self.norms()), self.layout.size

    def typical(self, count: int, random: torch.Generator) -> float:
        sizes = self.layout.sizes
        return largest_finite(
            [
                norm / math.sqrt(max(1, min(sizes[a], sizes[b])))
                for (a, b), norm in self.norms().items()
            ]
        )

    def block_product(self, a: str, b: str, v: Tensor) -> Tensor:
        pair, turned = ((a, b), False) if (a, b) in self.pairs else ((b, a), True)
        product = v.new_zeros(self.layout.sizes[a], *v.shape[1:])
        for piece in self._read(self._tiling.of_block(pair)):
            values, rows, columns = piece.values, piece.rows, piece.columns
            if not turned:
                product[rows] += values @ v[columns]
            if turned or (a == b and not piece.is_on_diagonal):
                product[columns] += values.mT @ v[rows]
        return product

    def _squares(self, pair: Pair) -> list[float]:
        """Of the whole block: an own block's tiles beyond the diagonal count for those before
        too."""
        squares = []
        for row, held in enumerate(self._archive.squares[pair]):
            for column, square in enumerate(held):
                if square is not None:
                    squares.append(square * (2 if pair[0] == pair[1] and row != column else 1))
        return squares

    def _read(self, tiles: Iterable[Tile]) -> Iterator[Piece]:
        """Tiles in their order, some of them being read while one is worked on."""
        ahead: deque[tuple[Tile, Future[Tensor]]] = deque()
        with ThreadPoolExecutor(_THREADS, "hesse-tiles") as pool:
            try:
                for tile in tiles:
                    ahead.append((tile, pool.submit(self._archive.read, tile)))
                    if len(ahead) > _AHEAD:
                        yield self._piece(*ahead.popleft())
                while ahead:
                    yield self._piece(*ahead.popleft())
            finally:
                for _, future in ahead:
                    future.cancel()

    def _piece(self, tile: Tile, values: Future[Tensor]) -> Piece:
        return Piece(tile.pair, tile.rows, tile.columns, values.result().to(self.device))


@final
class _Blocks(Mapping[Pair, Tensor]):
    """The blocks of a store, each read when it is asked for."""

    def __init__(self, entries: Stored) -> None:
        self._entries = entries

    def __getitem__(self, pair: Pair) -> Tensor:
        if pair not in self._entries.pairs:
            raise KeyError(pair)
        return self._entries.block(pair)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._entries.pairs)

    def __len__(self) -> int:
        return len(self._entries.pairs)


def _overlap(tile: Tile, rows: slice, columns: slice) -> bool:
    return all(
        held.start < wanted.stop and wanted.start < held.stop
        for held, wanted in ((tile.rows, rows), (tile.columns, columns))
    )


def _common(held: slice, wanted: slice) -> tuple[slice, slice]:
    """What two ranges have in common, as counted from the beginning of what is wanted and of what
    is held."""
    low, high = max(held.start, wanted.start), min(held.stop, wanted.stop)
    return (
        slice(low - wanted.start, high - wanted.start),
        slice(low - held.start, high - held.start),
    )


def stored_hessian(archive: Archive, device: torch.device) -> BlockHessian:
    """The Hessian of a store in which every tile is."""
    held = archive.description["certificate"]
    certificate = None if held is None else Certificate.from_json(held)
    return BlockHessian.of(Stored(archive, device), archive.description["provenance"], certificate)
