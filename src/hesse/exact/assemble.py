"""Putting the Hessian together: the result while it is made, and where each pair of parameter uses
goes in it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.grid import Grid, mirror
from hesse.exact.contraction.pair import Order, Pair
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.plan import NamePair, PlannedContraction
from hesse.graph.sites import ParameterUse, Site
from hesse.process.memory import zeros

# So many numbers of rows are joined before they are added.
_LITTLE = 10**6


class Storage:
    """The result while it is made: one matrix when every block is wanted, else one tensor for each.

    Of a symmetric block only the upper triangle counts, unless it is said to be complete.
    """

    def __init__(self, cost: Cost, wanted: list[NamePair]) -> None:
        self._layout, self.wanted = cost.layout, wanted
        options: dict[str, Any] = {"dtype": cost.dtype, "device": cost.device}
        count, P, sizes = len(cost.layout.names), cost.layout.size, cost.layout.sizes
        every_block = len(wanted) == count * (count + 1) // 2
        self._matrix = zeros(P, P, **options) if every_block else None
        self._blocks = (
            {} if every_block else {(a, b): zeros(sizes[a], sizes[b], **options) for a, b in wanted}
        )
        # Parameters whose own block is there in both halves, equal bit by bit, and those where
        # something added to it was not.
        self.complete: set[str] = set()
        self.rounded: set[str] = set()

    @property
    def sums(self) -> list[Tensor]:
        """All that is added to."""
        return list(self._blocks.values()) if self._matrix is None else [self._matrix]

    def block(self, first: str, second: str) -> Tensor:
        """A block as a matrix, to be added to; in either order."""
        if self._layout.index(first) > self._layout.index(second):
            return self.block(second, first).mT
        if self._matrix is None:
            return self._blocks[first, second]
        return self._matrix[self._layout.slice(first), self._layout.slice(second)]

    def add_rows(self, name: str, entries: slice, products: Mapping[str, Tensor]) -> None:
        """Add some rows of a parameter's blocks with others, each (rows, *shape of the other)."""
        self.rounded.add(name)  # the two halves of what is added are equal to rounding only
        count, names, layout = entries.stop - entries.start, tuple(products), self._layout
        parts = [part.reshape(count, -1) for part in products.values()]
        first = layout.index(names[0])
        # One addition where the blocks lie side by side, and what is joined for it is little.
        if (
            self._matrix is not None
            and first >= layout.index(name)
            and names == layout.names[first : first + len(names)]
            and sum(part.numel() for part in parts) <= _LITTLE
        ):
            start, joined = layout.offsets[name], torch.cat(parts, 1)
            rows = self._matrix[start + entries.start : start + entries.stop]
            rows[:, layout.offsets[names[0]] :][:, : joined.shape[1]].add_(joined)
            return
        for other, part in zip(names, parts, strict=True):
            self.block(name, other)[entries].add_(part)

    def has(self, first: str, second: str) -> bool:
        """Whether a block is part of the result, in either order."""
        return (
            self._matrix is not None
            or (first, second) in self._blocks
            or (second, first) in self._blocks
        )

    def finished(self) -> tuple[Tensor | None, dict[NamePair, Tensor] | None]:
        """The matrix or the blocks, the lower halves of what is symmetric filled in from the
        upper."""
        complete = self.complete - self.rounded
        if self._matrix is not None:
            mirror(
                self._matrix,
                [self._layout.slice(name) for name in self._layout.names if name in complete],
            )
            return self._matrix, None
        for (a, b), block in self._blocks.items():
            if a == b and a not in complete:
                mirror(block)
        return None, self._blocks


class Target:
    """Where a pair of uses is contracted to: the blocks themselves where it can be, else a matrix
    laid into them at the end.

    Args:
        storage: the result.
        pair: the pair, of any chunk.
        contraction: how it is contracted.
        alone: whether no other pair brings the same blocks.
    """

    def __init__(
        self, storage: Storage, pair: Pair, contraction: PlannedContraction, alone: bool
    ) -> None:
        self._storage, self._contraction = storage, contraction
        self._left, self._right, self._same = pair.left, pair.right, pair.same
        # The orders that were run, without repeats.
        self._used: dict[Order, None] = {}
        self.sizes = pair.sizes
        grid = self._in_place() if alone else None
        self._is_in_place = grid is not None
        if grid is None:
            matrix = storage.block(*contraction.blocks[0]).new_zeros(
                pair.left.size, pair.right.size
            )
            grid = Grid.of(matrix, self.sizes.i, self.sizes.j)
        self._grid = grid

    def _in_place(self) -> Grid | None:
        """The blocks themselves; ``None`` where their entries are in another order, or both orders
        of two uses meet in one."""
        left, right = _members(self._left), _members(self._right)
        if not _fits_in_place(self._left, self._right, self._same, self._contraction.order):
            return None
        matrices = {}
        for x, (first, _) in enumerate(left):
            for y, (second, _) in enumerate(right):
                if (first.parameter, second.parameter) in self._contraction.blocks and not (
                    self._same and y < x
                ):
                    block = self._storage.block(first.parameter, second.parameter)
                    if tuple(block.shape) != (first.size, second.size):
                        return None
                    matrices[x, y] = block
        return Grid(
            tuple(inputs for _, inputs in left), tuple(inputs for _, inputs in right), matrices
        )

    def add(self, pair: Pair) -> None:
        """Add a chunk's share."""
        sizes = pair.sizes
        # The forms of one sample, from which the plan was made, may differ from a chunk's.
        order = (
            self._contraction.order
            if self._contraction.order.applies(sizes)
            else choose(sizes, len(pair.a))[0]
        )
        self._used[order] = None
        order.run(pair, self._grid)

    def finish(self) -> None:
        """After the last chunk: complete the blocks."""
        for order in self._used:
            order.finish(self.sizes, self._grid)
        complete = self._same and all(order.complete for order in self._used)
        if self._is_in_place:
            names = {use.parameter for use in self._left.members} if self._same else set()
            (self._storage.complete if complete else self._storage.rounded).update(names)
            return
        if self._same and not complete:
            mirror(self._grid.matrix)
        self._storage.rounded |= {
            use.parameter for use in (*self._left.members, *self._right.members)
        }
        matrix = self._grid.matrix.view(*self._left.shape, *self._right.shape)
        for x, (first, rows) in enumerate(_members(self._left)):
            for y, (second, columns) in enumerate(_members(self._right)):
                names = (first.parameter, second.parameter)
                if names not in self._contraction.blocks or (self._same and y < x):
                    continue
                part = matrix[:, :, rows, :, :, columns].reshape(first.size, second.size)
                _add_at(self._storage.block(*names), part, first.index, second.index)
                # Two uses of one parameter meet in both orders.
                if names[0] == names[1] and not self._same:
                    _add_at(self._storage.block(*names), part.mT, second.index, first.index)


def _fits_in_place(left: ParameterUse, right: ParameterUse, same: bool, order: Order) -> bool:
    """Whether an order may write a pair's blocks where they are."""
    # Such an order writes one matrix, and the blocks of joined uses lie interleaved in it.
    if order.joined and (left.joined_from or right.joined_from):
        return False
    for first in left.members:
        for second in right.members:
            # Entries in another order have to be put in their places one by one.
            if first.index is not None or second.index is not None:
                return False
            # Two uses of one parameter: their block is added in both orders.
            if first.parameter == second.parameter and not same:
                return False
    return True


def entries_apart(
    cost: Cost, contractions: Mapping[PairKey, PlannedContraction], sites: Iterable[Site]
) -> int:
    """How many numbers are held in matrices of their own while pairs are contracted, before they
    are laid into the blocks, and then in the largest of them once more."""
    uses = {(site.value, x): use for site in sites for x, use in enumerate(site.uses)}
    bringing = Counter(
        names for c in contractions.values() for names in set(map(frozenset, c.blocks))
    )
    apart = []
    for (first, second), contraction in contractions.items():
        left, right = uses[first], uses[second]
        alone = len(cost.signatures) == 1 and all(
            bringing[frozenset(names)] == 1 for names in contraction.blocks
        )
        whole = all(
            part.size == cost.layout.sizes[part.parameter]
            for part in (*left.members, *right.members)
        )
        if not (
            alone and whole and _fits_in_place(left, right, first == second, contraction.order)
        ):
            apart.append(left.size * right.size)
    return sum(apart) + max(apart, default=0)


def _members(use: ParameterUse) -> list[tuple[ParameterUse, slice]]:
    """The uses of single parameters that one is made of, and which of its inputs each has."""
    edges = list(itertools.accumulate((part.shape[2] for part in use.members), initial=0))
    return [
        (part, slice(low, high))
        for part, low, high in zip(use.members, edges, edges[1:], strict=False)
    ]


def _add_at(block: Tensor, matrix: Tensor, rows: Tensor | None, columns: Tensor | None) -> None:
    if rows is None and columns is None and block.shape == matrix.shape:
        block.add_(matrix)
        return
    device = block.device
    rows = torch.arange(len(matrix), device=device) if rows is None else rows.to(device)
    columns = (
        torch.arange(matrix.shape[1], device=device) if columns is None else columns.to(device)
    )
    block.index_put_((rows.unsqueeze(1), columns), matrix, accumulate=True)
