"""How a Hessian is cut into tiles: one length of tile for each parameter, the same in all of its
blocks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hesse.layout import Layout

NamePair = tuple[str, str]
# Entries of a tile: 16 MB in float32, which a disk writes and reads at its full speed.
_ENTRIES = 2**22
# Into so many times as many pieces as it has to be a row of a weight is cut, to be cut evenly.
_PIECES = 2


@dataclass(frozen=True)
class Tile:
    """A tile of a block.

    Attributes:
        pair: the parameters of its block, in layout order.
        rows, columns: its entries of each.
    """

    pair: NamePair
    rows: slice
    columns: slice

    # A slice itself has none.
    def __hash__(self) -> int:
        return hash((self.pair, self.rows.start, self.columns.start))


@dataclass(frozen=True)
class Tiling:
    """The tiles of a Hessian's upper triangle.

    Attributes:
        layout: the parameters.
        pairs: the blocks, each in layout order.
        lengths: of the tiles of each parameter.
    """

    layout: Layout
    pairs: tuple[NamePair, ...]
    lengths: dict[str, int]

    @staticmethod
    def of(layout: Layout, pairs: tuple[NamePair, ...], most: int = _ENTRIES) -> "Tiling":
        """Tiles of at most so many entries, of whole rows of a weight where these fit.

        Examples:
            >>> Tiling.of(Layout(("w", "b"), ((5, 10), (5,))), (("w", "w"),), 25**2).lengths
            {'w': 20, 'b': 5}
        """
        side = max(1, math.isqrt(min(most, _ENTRIES)))
        lengths = {}
        for name in layout.names:
            size, shape = layout.sizes[name], layout.shape(name)
            row = max(1, math.prod(shape[1:]))
            length = row * (side // row) if row <= side else _part(row, side)
            lengths[name] = max(1, min(size, length))
        return Tiling(layout, pairs, lengths)

    def slices(self, name: str) -> list[slice]:
        """The tiles of a parameter's entries."""
        size, step = self.layout.sizes[name], self.lengths[name]
        return [slice(low, min(size, low + step)) for low in range(0, size, step)]

    def of_block(self, pair: NamePair) -> Iterator[Tile]:
        """The tiles of a block; of a parameter's own those from the diagonal on."""
        a, b = pair
        for rows in self.slices(a):
            for columns in self.slices(b):
                if a != b or columns.start >= rows.start:
                    yield Tile(pair, rows, columns)

    @cached_property
    def count(self) -> int:
        """How many tiles there are."""
        return sum(1 for pair in self.pairs for _ in self.of_block(pair))

    @cached_property
    def entries(self) -> int:
        """How many entries all of the tiles hold."""
        return sum(
            (tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start)
            for pair in self.pairs
            for tile in self.of_block(pair)
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        index = self.layout.index
        return {
            "names": list(self.layout.names),
            "shapes": [list(shape) for shape in self.layout.shapes],
            "blocks": [[index(a), index(b)] for a, b in self.pairs],
            "lengths": [self.lengths[name] for name in self.layout.names],
        }

    @staticmethod
    def from_json(values: Any) -> "Tiling":
        """What `to_json` gave."""
        names = tuple(values["names"])
        layout = Layout(names, tuple(tuple(shape) for shape in values["shapes"]))
        pairs = tuple((names[i], names[j]) for i, j in values["blocks"])
        lengths = values["lengths"]
        if not all(type(length) is int and length > 0 for length in lengths):
            raise ValueError("its tiles have no length")
        return Tiling(layout, pairs, dict(zip(names, lengths, strict=True)))


def _part(row: int, side: int) -> int:
    """The length of the pieces that a row is cut into: like pieces where there are such."""
    least = -(-row // side)
    pieces = next((k for k in range(least, _PIECES * least + 1) if row % k == 0), least)
    return -(-row // pieces)
