"""Panels: so many rows of the Hessian as fit into memory, in their blocks with other parameters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hesse.cost import Cost
from hesse.exact.plan import Plan
from hesse.store.tiling import NamePair, Tile, Tiling


@dataclass(frozen=True)
class Strip:
    """Some rows of one parameter in its blocks with others.

    Attributes:
        name: the parameter.
        rows: its entries.
        columns: by other parameter, or itself, the entries of that.
    """

    name: str
    rows: slice
    columns: dict[str, slice]

    @property
    def entries(self) -> int:
        """How many entries of the Hessian it holds."""
        return _length(self.rows) * sum(map(_length, self.columns.values()))


# Worked on at once.
Panel = tuple[Strip, ...]


def _length(part: slice) -> int:
    return part.stop - part.start


def bringing_order(cost: Cost, planned: Plan) -> tuple[str, ...]:
    """Which parameter brings the blocks that two have: what goes by columns before what is
    contracted, as it may have few rows; what goes one by one first of all."""
    singly = [name for part in planned.parts for name in part.singly]
    return tuple(dict.fromkeys([*sorted(singly), *planned.by_columns, *cost.layout.names]))


def operations_of(panel: Panel, planned: Plan) -> float:
    """About what a panel takes: of its blocks' operations those of its entries."""
    blocks = {frozenset(block.names): block for block in planned.blocks}
    return sum(
        (block := blocks[frozenset((strip.name, other))]).operations
        * (_length(strip.rows) * _length(columns) / math.prod(block.shape))
        for strip in panel
        for other, columns in strip.columns.items()
    )


def panels_of(tiling: Tiling, order: Sequence[str], most: int) -> list[Panel]:
    """All of the tiles, in panels of at most so many entries, or of one tile.

    Args:
        tiling: the tiles.
        order: which parameter brings the blocks that it has with others: the first of the two.
        most: entries of a panel.
    """
    panels, current = list[Panel](), list[Strip]()
    for strip in _strips(tiling, order, most):
        if current and sum(each.entries for each in current) + strip.entries > most:
            panels.append(tuple(current))
            current = []
        current.append(strip)
    return [*panels, tuple(current)] if current else panels


def _strips(tiling: Tiling, order: Sequence[str], most: int) -> Iterator[Strip]:
    brought = set[frozenset[str]]()
    wanted = {frozenset(pair) for pair in tiling.pairs}
    for name in order:
        others = [
            other
            for other in tiling.layout.names
            if frozenset((name, other)) in wanted - brought and tiling.layout.sizes[other]
        ]
        brought |= {frozenset((name, other)) for other in others}
        width = sum(tiling.layout.sizes[other] for other in others)
        slices = tiling.slices(name) if others else []
        at_once = most // max(1, width * tiling.lengths[name])
        if at_once:
            for low in range(0, len(slices), at_once):
                some = slices[low : low + at_once]
                rows = slice(some[0].start, some[-1].stop)
                yield Strip(
                    name,
                    rows,
                    {
                        other: slice(rows.start if other == name else 0, tiling.layout.sizes[other])
                        for other in others
                    },
                )
            continue
        for rows in slices:
            yield from _cut(tiling, name, rows, others, most)


def _cut(tiling: Tiling, name: str, rows: slice, others: list[str], most: int) -> Iterator[Strip]:
    """A row of tiles in parts."""
    columns, width = dict[str, slice](), 0
    for other in others:
        for part in tiling.slices(other):
            if other == name and part.start < rows.start:
                continue
            if columns and _length(rows) * (width + _length(part)) > most:
                yield Strip(name, rows, columns)
                columns, width = {}, 0
            begin = columns[other].start if other in columns else part.start
            columns[other], width = slice(begin, part.stop), width + _length(part)
    if columns:
        yield Strip(name, rows, columns)


def tiles_of(tiling: Tiling, strip: Strip) -> Iterator[tuple[Tile, str, slice, slice]]:
    """The tiles of a strip: each with the other parameter, and its rows and columns in the strip's
    matrix with that one."""
    index = tiling.layout.index
    for other, columns in strip.columns.items():
        for part in tiling.slices(strip.name):
            if not strip.rows.start <= part.start < strip.rows.stop:
                continue
            for across in tiling.slices(other):
                if not columns.start <= across.start < columns.stop:
                    continue
                if other == strip.name and across.start < part.start:
                    continue
                here = slice(part.start - strip.rows.start, part.stop - strip.rows.start)
                there = slice(across.start - columns.start, across.stop - columns.start)
                pair: NamePair = (strip.name, other)
                if index(strip.name) <= index(other):
                    yield Tile(pair, part, across), other, here, there
                else:
                    yield Tile((other, strip.name), across, part), other, here, there
