"""The frontier of the sweep: the values that separate what is done from what is not, and what is
carried at each."""

import math
from typing import Any

import torch
from torch import Tensor

from hesse.exact.propagation.ownership import Written, accumulated, apart
from hesse.exact.propagation.pullback import Pullback
from hesse.graph.graph import Graph
from hesse.graph.structures import (
    Columns,
    Curvature,
    Diagonal,
    added,
    as_tensor,
    flat,
    identity,
    numel,
    transposed,
)
from hesse.operations.record import Selection
from hesse.operations.registry import record_of

Key = tuple[str, str]
DELTA: Key = ("delta", "")
BASE: Key = ("base", "")
CUT: Key = ("cut", "")


class Frontier:
    """The frontier: columns of each value, each value's own curvature, and that of pairs, kept at
    the later of the two."""

    def __init__(self, graph: Graph, values: dict[str, Any]) -> None:
        self._place, self._node, self._values = graph.place, graph.node, values
        self._columns: dict[str, dict[Key, Columns]] = {}
        self.own: dict[str, Curvature] = {}
        # Columns collapsed onto a value passed before, (n, k, |value|); the columns CUT, its
        # Jacobian, multiply them out.
        self._collapsed: dict[Key, Tensor] = {}
        self._cross: dict[
            str, dict[str, Tensor]
        ] = {}  # later value -> {earlier value: (n, |earlier|, *later)}
        self._written = Written()

    def has(self, value: str) -> bool:
        return value in self._columns

    def columns(self, value: str) -> dict[Key, Columns]:
        return self._columns[value]

    def delta(self, value: str) -> Tensor:
        return as_tensor(self._columns[value][DELTA]).squeeze(1)

    def entries(self) -> int:
        """How many numbers are held."""
        held = [part for columns in self._columns.values() for part in columns.values()] + list(
            self.own.values()
        )
        crossed = [part.numel() for parts in self._cross.values() for part in parts.values()]
        return (
            sum(numel(part) for part in held)
            + sum(crossed)
            + sum(part.numel() for part in self._collapsed.values())
        )

    def add(self, value: str, key: Key, columns: Columns) -> None:
        held = self._columns.setdefault(value, {})
        held[key] = added(held[key], columns) if key in held else columns

    def retire(self, sites: set[str]) -> None:
        """Forget the columns of sites that nothing below needs."""
        for held in self._columns.values():
            for key in [key for key in held if key[1] in sites]:
                del held[key]
        self._collapsed = {
            key: part for key, part in self._collapsed.items() if key[1] not in sites
        }

    def collapse(self, value: str) -> None:
        """Where a value that stands alone holds more columns than it has entries, carry its
        identity down instead of them."""
        columns = self._columns[value]
        size = self._values[value][0].numel()
        movable = {
            key: part
            for key, part in columns.items()
            if key[0] in "SD" and isinstance(part, Tensor)
        }
        count = sum(
            part.shape[1]
            for part in [*movable.values(), columns.get(CUT)]
            if isinstance(part, Tensor)
        )
        if count < 2 * size:
            return
        if CUT in columns:
            jacobian = flat(as_tensor(columns.pop(CUT)))
            self._collapsed = {
                key: torch.bmm(part, jacobian) for key, part in self._collapsed.items()
            }
        for key, part in movable.items():
            del columns[key]
            self._collapsed[key] = (
                self._collapsed[key] + flat(part) if key in self._collapsed else flat(part)
            )
        columns[CUT] = identity(self._values[value])

    def expanded(self, value: str, sites: set[str]) -> dict[Key, Columns]:
        """The columns of a value, those of these sites that were collapsed multiplied out."""
        columns = dict(self._columns[value])
        cut = columns.pop(CUT, None)
        if cut is None:
            return columns
        jacobian = flat(as_tensor(cut))
        for key, part in self._collapsed.items():
            if key[1] in sites:
                made = torch.bmm(part, jacobian).reshape(*part.shape[:2], *self._shape(value))
                columns[key] = added(columns[key], made) if key in columns else made
        return columns

    def begin_narrow(self, value: str) -> tuple[dict[Key, Tensor], Tensor | None]:
        """Set aside a value's columns and curvature, each (n, k, |value|), and carry its own
        identity down instead."""
        columns, own = (
            self.expanded(value, {site for _, site in self._collapsed}),
            self.own.pop(value, None),
        )
        aside = {key: flat(as_tensor(part)) for key, part in columns.items() if key != DELTA}
        delta = columns[DELTA]
        self._columns[value] = {DELTA: delta, BASE: identity(self._values[value])}
        return aside, None if own is None else flat(as_tensor(own))

    def begin_signals(self, site: str) -> None:
        """Start the S columns of a site at the other frontier values; `take` starts them at its
        inputs."""
        for other, cross in self._cross.get(site, {}).items():
            self.add(other, ("S", site), transposed(cross, self._shape(other)))

    def take(
        self, value: str, op: Pullback | None, begins: bool, thin: bool, straight: bool = False
    ) -> None:
        """Replace a value by its active inputs: Jᵀ on every column, Jᵀ S J on its curvature, and
        the operation's own ∂².

        Args:
            value: what is taken.
            op: what makes it; ``None`` where nothing below is wanted.
            begins: whether the S columns of a site begin here.
            thin: of the curvature of its input only the diagonal will be used.
            straight: the operation counts as linear, and its own ∂² is left out.
        """
        held, own, crosses = (
            self._columns.pop(value),
            self.own.pop(value, None),
            self._cross.pop(value, {}),
        )
        self._written.pass_on(*held.values(), own, *crosses.values())
        if op is None:
            return
        if op.record.selected is not None and not begins:
            self._put_back(op, op.record.selected, held, own, crosses)
            return
        delta = as_tensor(held[DELTA]).squeeze(1)
        together: dict[Key, Columns] = {
            **held,
            **{("cross", other): cross for other, cross in crosses.items()},
        }
        for key, parts in _pull_all(op, together).items():
            for name, part in zip(op.active, parts, strict=True):
                if key[0] == "cross":
                    self._add_pair(name, key[1], as_tensor(part))
                else:
                    self.add(name, key, part)
        if own is not None:
            halves, blocks = op.pull_curvature(own, halves=begins, thin=thin)
            self._add_blocks(op.active, apart(blocks, halves))
            for name, half in zip(op.active, halves, strict=False):
                self.add(name, ("S", value), half)
        if not straight:
            self._add_blocks(op.active, op.curvature(delta))

    def _put_back(
        self,
        op: Pullback,
        at: Selection,
        held: dict[Key, Columns],
        own: Curvature | None,
        crosses: dict[str, Tensor],
    ) -> None:
        """Entries selected from a value: everything goes to where they were, into one tensor for
        all that was selected."""
        name = op.active[0]
        x, z, n = self._shape(name), op.node.shape, len(self._values[name])
        size = math.prod(x)
        for key, part in held.items():
            columns = as_tensor(part)
            room = self._written.room(
                self._columns.setdefault(name, {}), key, (n, columns.shape[1], *x), columns
            )
            at(op.node, room, 2).add_(columns)
        if own is not None:
            dense = as_tensor(own)
            room = self._written.room(self.own, name, (n, size, *x), dense).view(n, *x, *x)
            at(op.node, at(op.node, room, 1), 1 + len(z)).add_(dense.reshape(n, *z, *z))
        for other, cross in crosses.items():
            across = transposed(cross, self._shape(other)).reshape(n, *z, -1)
            beside = self._node.get(other)
            at_other = None if beside is None else record_of(beside).selected
            if beside is not None and at_other is not None and beside.inputs == (name,):
                # Both were selected from one value, where they go at once.
                room, y = (
                    self._written.room(self.own, name, (n, size, *x), cross).view(n, *x, *x),
                    beside.shape,
                )
                at(op.node, at_other(beside, room, 1), 1 + len(y)).add_(cross.reshape(n, *y, *z))
                at_other(beside, at(op.node, room, 1), 1 + len(z)).add_(across.reshape(n, *z, *y))
            elif other == name:
                room = self._written.room(self.own, name, (n, size, *x), cross)
                at(op.node, room, 2).add_(cross)
                at(op.node, room.view(n, *x, size), 1).add_(across)
            elif self._place[name] > self._place[other]:
                at(
                    op.node,
                    self._written.room(
                        self._cross.setdefault(name, {}), other, (n, cross.shape[1], *x), cross
                    ),
                    2,
                ).add_(cross)
            else:
                room = self._written.room(
                    self._cross.setdefault(other, {}), name, (n, size, *self._shape(other)), cross
                )
                at(op.node, room.view(n, *x, -1), 1).add_(across)

    def _add_blocks(self, names: tuple[str, ...], blocks: list[list[Any]]) -> None:
        """Curvature of the inputs, block[i][j] being (n, |input i|, *input j) for i <= j."""
        for i, first in enumerate(names):
            for j, second in enumerate(names[i:], start=i):
                block = blocks[i][j]
                if block is None:
                    continue
                if i == j:
                    self.own[first] = (
                        accumulated(self.own[first], block) if first in self.own else block
                    )
                else:
                    self._add_pair(second, first, as_tensor(block))

    def _add_pair(self, value: str, other: str, columns: Tensor) -> None:
        """Add ∂²ℓ/∂value∂other, given as (n, |other|, *value); both orders of it where the two are
        the same value."""
        if value == other:
            both = columns + transposed(columns, self._shape(value))
            self.own[value] = accumulated(self.own[value], both) if value in self.own else both
            return
        later, earlier = value, other
        if self._place[value] < self._place[other]:
            later, earlier, columns = other, value, transposed(columns, self._shape(other))
        held = self._cross.setdefault(later, {})
        held[earlier] = held[earlier] + columns if earlier in held else columns

    def _shape(self, value: str) -> tuple[int, ...]:
        return tuple(self._values[value].shape[1:])


def _pull_all(op: Pullback, held: dict[Key, Columns]) -> dict[Key, tuple[Columns, ...]]:
    """Jᵀ on every column set: diagonal ones by the rows of J, dense ones together where starting a
    pull is costly."""
    pulled: dict[Key, tuple[Columns, ...]] = {
        key: op.pull_diagonal(part) for key, part in held.items() if isinstance(part, Diagonal)
    }
    dense = {key: part for key, part in held.items() if isinstance(part, Tensor)}
    if op.is_light or len(dense) == 1:
        return pulled | {key: op.pull(part) for key, part in dense.items()}
    sizes = [part.shape[1] for part in dense.values()]
    split = [part.split(sizes, dim=1) for part in op.pull(torch.cat(list(dense.values()), dim=1))]
    return pulled | dict(zip(dense, zip(*split, strict=True), strict=True))
