"""The numbers of a panel: some rows of the Hessian, summed over all samples."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.exact.columns import penalty_rows
from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.grid import Grid, mirror
from hesse.exact.contraction.narrowing import Box, box, narrowed
from hesse.exact.contraction.pair import Order, Pair, Sizes
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.execution import pairs_by_chunk, rows_by_batch
from hesse.exact.panel import Panel, Strip
from hesse.exact.plan import Plan, PlanPart
from hesse.graph.sites import ParameterUse
from hesse.process.memory import zeros
from hesse.process.progress import Progress

# The rows of a strip, by the other parameter.
Sums = dict[str, Tensor]
# What orders have still to do, by where they wrote.
Finishing = dict[tuple[Order, int, torch.Size], tuple[Order, Sizes, Grid]]


@final
class Signals:
    """What is contracted of some samples, carried down the graph as often as it is asked for, or
    kept where there is room.

    Args:
        cost: the cost.
        part: of its plan.
        room: bytes to keep it in.
    """

    def __init__(self, cost: Cost, part: PlanPart, room: int) -> None:
        self._cost, self._part, self._room = cost, part, room
        self._kept: list[tuple[PairKey, Pair]] | None = None

    def __iter__(self) -> Iterator[tuple[PairKey, Pair]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[tuple[PairKey, Pair]] | None = []
        held: dict[int, int] = {}
        with Progress("signals", 1, False) as hidden:
            for key, pair in pairs_by_chunk(self._cost, self._part, hidden):
                if kept is not None:
                    held |= {each.data_ptr(): each.nbytes() for each in _storages(pair)}
                    kept = None if sum(held.values()) > self._room else [*kept, (key, pair)]
                yield key, pair
        self._kept = kept
        self._room = self._room if kept is not None else 0


def _storages(pair: Pair) -> list[torch.UntypedStorage]:
    parts: list[Any] = [pair.a, pair.b, pair.delta, pair.hessian, pair.jacobian]
    found = []
    while parts:
        part = parts.pop()
        if isinstance(part, Tensor):
            found.append(part.untyped_storage())
        elif dataclasses.is_dataclass(part):  # a structure
            parts += vars(part).values()
    return found


@final
class PanelSums:
    """Sums over all samples, panel by panel.

    Args:
        cost: the cost.
        planned: its plan.
        room: bytes for signals to be kept in, and as many for what a contraction makes.
    """

    def __init__(self, cost: Cost, planned: Plan, room: int) -> None:
        self._cost, self._parts = cost, planned.parts
        self._most = room / cost.dtype.itemsize
        self._signals = [Signals(cost, part, room) for part in planned.parts]
        # How many contractions bring each block: what one brings alone is written in place.
        self._bringing = Counter(
            frozenset(names)
            for part in planned.parts
            for contraction in part.contractions.values()
            for names in contraction.blocks
        )

    def of(self, panel: Panel) -> list[Sums]:
        """The rows of each strip of a panel; of a parameter's own block the part from the diagonal
        on, the square on it exactly symmetric."""
        sums, finishing = [self._zeros(strip) for strip in panel], Finishing()
        for part, signals in zip(self._parts, self._signals, strict=True):
            for key, pair in signals if part.contractions else ():
                for strip, blocks in zip(panel, sums, strict=True):
                    self._contract(pair, part.contractions[key].blocks, strip, blocks, finishing)
        for order, sizes, grid in finishing.values():
            order.finish(sizes, grid)
        for strip, blocks in zip(panel, sums, strict=True):
            for part in self._parts:
                self._add_products(part, strip, blocks)
            self._add_penalty(strip, blocks)
            if (square := _square(strip, blocks)) is not None:
                mirror(square)
        return sums

    def _zeros(self, strip: Strip) -> Sums:
        rows, cost = strip.rows.stop - strip.rows.start, self._cost
        return {
            other: zeros(rows, part.stop - part.start, dtype=cost.dtype, device=cost.device)
            for other, part in strip.columns.items()
        }

    def _contract(
        self,
        pair: Pair,
        blocks: tuple[tuple[str, str], ...],
        strip: Strip,
        sums: Sums,
        finishing: Finishing,
    ) -> None:
        for x, (left, begin_left) in enumerate(_members(pair.left)):
            for y, (right, begin_right) in enumerate(_members(pair.right)):
                names = (left.parameter, right.parameter)
                if names not in blocks or (pair.same and y < x):
                    continue
                one = names[0] == names[1]
                other = names[1] if names[0] == strip.name else names[0]
                columns = strip.columns.get(other)
                if strip.name not in names or columns is None:
                    continue
                target = sums[other]
                alone = finishing if self._bringing[frozenset(names)] == 1 else None
                if names[0] == strip.name:
                    rows = box(left, begin_left, strip.rows, True)
                    across = box(right, begin_right, columns, False)
                    self._add(pair, rows, across, strip.rows, columns, target, alone)
                # Two uses of one parameter meet in both orders.
                if names[1] == strip.name and not (one and pair.same):
                    rows = box(right, begin_right, strip.rows, False)
                    across = box(left, begin_left, columns, True)
                    self._add(pair, across, rows, columns, strip.rows, target.mT, alone)

    def _add(
        self,
        pair: Pair,
        left: Box | None,
        right: Box | None,
        rows: slice,
        columns: slice,
        target: Tensor,
        finishing: Finishing | None,
    ) -> None:
        """Add some entries of the left use with some of the right: in place where no other pair
        brings them, to be finished after the last samples."""
        if left is None or right is None:
            return
        for narrow, first, second in narrowed(pair, left, right):
            order, _ = choose(narrow.sizes, len(narrow.a), self._most)
            place = None
            if finishing is not None:
                place = _in_place(first, second, rows, columns, target)
            matrix = (
                target.new_zeros(narrow.left.size, narrow.right.size) if place is None else place
            )
            grid = Grid.of(matrix, narrow.sizes.i, narrow.sizes.j)
            order.run(narrow, grid)
            if place is not None and finishing is not None:
                finishing[order, place.data_ptr(), place.shape] = order, narrow.sizes, grid
            else:
                order.finish(narrow.sizes, grid)
                if narrow.same and not order.complete:
                    mirror(matrix)
                _scatter(matrix, first, second, rows, columns, target)

    def _add_products(self, part: PlanPart, strip: Strip, sums: Sums) -> None:
        names = set(part.by_columns)
        asked = [other for other in strip.columns if not names.isdisjoint((strip.name, other))]
        if asked:
            ranges = {strip.name: (strip.rows, asked)}
            with Progress("columns", 1, False) as hidden:
                self._add_rows(rows_by_batch(self._cost, part, hidden, ranges), strip, sums)

    def _add_penalty(self, strip: Strip, sums: Sums) -> None:
        penalty, square = self._cost.curved_penalty, _square(strip, sums)
        if isinstance(penalty, float):
            if square is not None:
                square.diagonal().add_(penalty)
        elif penalty is not None:
            asked = {strip.name: tuple(strip.columns)}
            self._add_rows(penalty_rows(self._cost, asked, {strip.name: strip.rows}), strip, sums)

    def _add_rows(
        self,
        rows: Iterator[tuple[str, slice, Mapping[str, Tensor]]],
        strip: Strip,
        sums: Sums,
    ) -> None:
        for _, entries, products in rows:
            count = entries.stop - entries.start
            here = slice(entries.start - strip.rows.start, entries.stop - strip.rows.start)
            for other, product in products.items():
                part = product.reshape(count, -1)[:, strip.columns[other]]
                sums[other][here].add_(part)


def _square(strip: Strip, sums: Sums) -> Tensor | None:
    """What a strip has of the rows and columns of the same entries, where it has that."""
    own = strip.columns.get(strip.name)
    if own is None or own.start != strip.rows.start:
        return None
    return sums[strip.name][:, : strip.rows.stop - strip.rows.start]


def _members(use: ParameterUse) -> Iterator[tuple[ParameterUse, int]]:
    """The uses of single parameters that one is made of, and where the inputs of each begin."""
    begin = 0
    for part in use.members:
        yield part, begin
        begin += part.shape[2]


def _in_place(left: Box, right: Box, rows: slice, columns: slice, target: Tensor) -> Tensor | None:
    """The part of a matrix that two boxes fill, in its own order; ``None`` where they fill none."""
    parts = []
    for held, wanted in ((left, rows), (right, columns)):
        flat = held.entries.reshape(-1)
        first, last = int(flat[0]), int(flat[-1])
        # In order: the entries of a box are, where those of its use are and none is left out.
        if last - first + 1 != len(flat) or bool((flat.diff() != 1).any()):
            return None
        if first < wanted.start or last >= wanted.stop:
            return None
        parts.append(slice(first - wanted.start, last + 1 - wanted.start))
    return target[parts[0], parts[1]]


def _scatter(
    matrix: Tensor, left: Box, right: Box, rows: slice, columns: slice, target: Tensor
) -> None:
    """Add what of a matrix is wanted to where it belongs."""
    places = []
    for held, wanted in ((left, rows), (right, columns)):
        flat = held.entries.reshape(-1)
        inside = ((flat >= wanted.start) & (flat < wanted.stop)).nonzero()[:, 0]
        places.append((inside.to(matrix.device), (flat[inside] - wanted.start).to(matrix.device)))
    (kept_rows, to_rows), (kept_columns, to_columns) = places
    part = matrix[kept_rows][:, kept_columns]
    target.index_put_((to_rows.unsqueeze(1), to_columns), part, accumulate=True)
