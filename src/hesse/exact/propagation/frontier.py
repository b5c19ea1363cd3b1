"""The frontier of the sweep: the values that separate the nodes that are done from those that are
not, and what is carried at each.

Each frontier value holds *cotangents*, (n, k, *value): for every sample k rows, each the derivative
in that value of something. A `Key` says of what. Jᵀ of a node, its pull-back (vjp), takes them from
the node's value to its inputs.
"""

import math
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hesse.exact.propagation.ownership import WritableBuffers, accumulated, with_own_memory
from hesse.exact.propagation.placement import Placement
from hesse.exact.propagation.pullback import Pullback
from hesse.graph.graph import Graph
from hesse.graph.structures import (
    Cotangents,
    Diagonal,
    ValueHessian,
    added,
    as_tensor,
    flat,
    identity,
    transposed,
)


class Role(Enum):
    """What some cotangents at a value v are the derivatives of, in v.

    Attributes:
        LOSS: the sample's loss ℓ; one row, δ = ∂ℓ/∂v.
        SITE_DELTA: δ of a site z_m that the sweep has passed, ∂²ℓ/∂v∂z_m: S.
        SITE_INPUT: the input x_m of such a site, ∂x_m/∂v: D.
        COLLAPSED_VALUE: the value that other cotangents were collapsed onto.
        BOTTLENECK: the value that everything passes through on its way to the sites below.
        PAIR: δ of another frontier value: the Hessian of the pair.
    """

    LOSS = auto()
    SITE_DELTA = auto()
    SITE_INPUT = auto()
    COLLAPSED_VALUE = auto()
    BOTTLENECK = auto()
    PAIR = auto()


class Key(NamedTuple):
    """What cotangents are the derivatives of.

    Attributes:
        role: the kind of it.
        value: the site's value, or the other one of a pair; empty where there is only one such.
    """

    role: Role
    value: str = ""

    @property
    def is_of_site(self) -> bool:
        """Whether they belong to one site that the sweep has passed."""
        return self.role is Role.SITE_DELTA or self.role is Role.SITE_INPUT


DELTA = Key(Role.LOSS)
COLLAPSED = Key(Role.COLLAPSED_VALUE)
BOTTLENECK = Key(Role.BOTTLENECK)

# Collapsing replaces k rows by as many as the value has entries, and costs a product for each set
# when they are multiplied out again. It is done where that leaves half of the rows or fewer.
_WORTH_COLLAPSING = 2


class SetAside(NamedTuple):
    """What was taken off a bottleneck v, and is multiplied by ∂v/∂z at the site below.

    Attributes:
        cotangents: (n, k, |v|).
        hessian: of v, (n, |v|, |v|); ``None`` where zero.
    """

    cotangents: dict[Key, Tensor]
    hessian: Tensor | None


class Frontier:
    """Cotangents of each value, the Hessian of the loss in each value, and in each pair of them,
    kept at the later of the two."""

    def __init__(
        self, graph: Graph, values: dict[str, Any], placements: Mapping[str, Placement]
    ) -> None:
        self._place, self._values, self._placements = graph.place, values, placements
        self._cotangents: dict[str, dict[Key, Cotangents]] = {}
        self.hessians: dict[str, ValueHessian] = {}
        # Cotangents collapsed onto a value passed before, (n, k, |value|). What is carried under
        # COLLAPSED, the Jacobian of that value, multiplies them out.
        self._collapsed: dict[Key, Tensor] = {}
        # later value -> {earlier value: (n, |earlier|, *later)}
        self._cross: dict[str, dict[str, Tensor]] = {}
        self._writable = WritableBuffers()

    def has(self, value: str) -> bool:
        return value in self._cotangents

    def cotangents(self, value: str) -> dict[Key, Cotangents]:
        return self._cotangents[value]

    def reach(self, value: str) -> None:
        """The loss depends on a value, whatever is carried at it."""
        self._cotangents.setdefault(value, {})

    def delta(self, value: str) -> Tensor:
        """δ; nan where it is not carried so far."""
        held = self._cotangents[value].get(DELTA)
        if held is None:
            like = self._values[value]
            return like.new_full((), torch.nan).expand_as(like)
        return as_tensor(held).squeeze(1)

    def add(self, value: str, key: Key, cotangents: Cotangents) -> None:
        held = self._cotangents.setdefault(value, {})
        held[key] = added(held[key], cotangents) if key in held else cotangents

    def retire(self, sites: set[str]) -> None:
        """Forget the cotangents of sites that nothing below needs."""
        for held in self._cotangents.values():
            for key in [key for key in held if key.is_of_site and key.value in sites]:
                del held[key]
        self._collapsed = {
            key: part for key, part in self._collapsed.items() if key.value not in sites
        }

    def collapse(self, value: str) -> None:
        """Where a value that stands alone holds more rows than it has entries, carry its identity
        down instead of them."""
        held = self._cotangents[value]
        size = self._values[value][0].numel()
        # A diagonal stays: it takes no more room than the value itself.
        movable = {
            key: part for key, part in held.items() if key.is_of_site and isinstance(part, Tensor)
        }
        rows = sum(
            part.shape[1]
            for part in [*movable.values(), held.get(COLLAPSED)]
            if isinstance(part, Tensor)
        )
        if rows < _WORTH_COLLAPSING * size:
            return
        if COLLAPSED in held:
            # Collapsed once already, onto a value above: move that set down to this value first,
            # for there is one value only that all collapsed cotangents stand at.
            jacobian = flat(as_tensor(held.pop(COLLAPSED)))
            self._collapsed = {
                key: torch.bmm(part, jacobian) for key, part in self._collapsed.items()
            }
        for key, part in movable.items():
            del held[key]
            self._collapsed[key] = (
                self._collapsed[key] + flat(part) if key in self._collapsed else flat(part)
            )
        held[COLLAPSED] = identity(self._values[value])

    def expanded(self, value: str, sites: set[str]) -> dict[Key, Cotangents]:
        """The cotangents of a value, those of these sites that were collapsed multiplied out."""
        held = dict(self._cotangents[value])
        carried = held.pop(COLLAPSED, None)
        if carried is None:
            return held
        jacobian = flat(as_tensor(carried))
        for key, part in self._collapsed.items():
            if key.value in sites:
                product = torch.bmm(part, jacobian).reshape(*part.shape[:2], *self._shape(value))
                held[key] = added(held[key], product) if key in held else product
        return held

    def begin_bottleneck(self, value: str) -> SetAside:
        """Set aside a value's cotangents and Hessian, and carry its own identity down instead."""
        held = self.expanded(value, {key.value for key in self._collapsed})
        hessian = self.hessians.pop(value, None)
        aside = {key: flat(as_tensor(part)) for key, part in held.items() if key != DELTA}
        self._cotangents[value] = {
            **{key: part for key, part in held.items() if key == DELTA},
            BOTTLENECK: identity(self._values[value]),
        }
        return SetAside(aside, None if hessian is None else flat(as_tensor(hessian)))

    def begin_site(self, site: str) -> None:
        """Start S of a site at the other frontier values; `take` starts it at the site's inputs."""
        for other, cross in self._cross.get(site, {}).items():
            self.add(other, Key(Role.SITE_DELTA, site), transposed(cross, self._shape(other)))

    def take(
        self,
        value: str,
        op: Pullback | None,
        begins: bool,
        diagonal_only: bool,
        passes_delta: bool = True,
    ) -> None:
        """Replace a value by its active inputs: Jᵀ on all cotangents, Jᵀ S J on its Hessian S, and
        the operation's own second derivative.

        Args:
            value: what is taken.
            op: what makes it; ``None`` where nothing below is wanted.
            begins: whether S of a site begins here.
            diagonal_only: of the Hessian of its input only the diagonal will be used.
            passes_delta: whether δ is carried on, an operation below bending too.
        """
        held = self._cotangents.pop(value)
        hessian, crosses = self.hessians.pop(value, None), self._cross.pop(value, {})
        self._writable.release(*held.values(), hessian, *crosses.values())
        if op is None:
            return
        passed = {key: part for key, part in held.items() if passes_delta or key != DELTA}
        # `_put_back` makes no rows S J, which are wanted where S of a site begins.
        placement = None if begins else self._placements.get(value)
        # Structures stay as they are through what only moves entries.
        if placement is not None and (placement.selects or _is_dense(passed, hessian)):
            self.reach(placement.foot)
            self._put_back(placement, passed, hessian, crosses)
            return
        for name in op.active:
            self.reach(name)
        together: dict[Key, Cotangents] = {
            **passed,
            **{Key(Role.PAIR, other): cross for other, cross in crosses.items()},
        }
        for key, parts in _pull_all(op, together).items():
            for name, part in zip(op.active, parts, strict=True):
                if key.role is Role.PAIR:
                    self._add_pair(name, key.value, as_tensor(part))
                else:
                    self.add(name, key, part)
        if hessian is not None:
            halves, blocks = op.pull_hessian(hessian, halves=begins, diagonal_only=diagonal_only)
            self._add_blocks(op.active, with_own_memory(blocks, halves))
            for name, half in zip(op.active, halves, strict=False):
                self.add(name, Key(Role.SITE_DELTA, value), half)
        if DELTA in held:
            self._add_blocks(op.active, op.local_hessian(as_tensor(held[DELTA]).squeeze(1)))

    def _put_back(
        self,
        placement: Placement,
        held: dict[Key, Cotangents],
        hessian: ValueHessian | None,
        crosses: dict[str, Tensor],
    ) -> None:
        """Entries selected from a value: everything goes to where they were, into one tensor for
        all that was selected.

        A value is often selected from many times, as the steps of a sequence are. By the general
        way each would make a Hessian of the whole value, zero but for its own entries.
        """
        name, z = placement.foot, placement.shape
        x, n = self._shape(name), len(self._values[name])
        size = math.prod(x)
        for key, part in held.items():
            rows = as_tensor(part)
            buffer = self._writable.buffer(
                self._cotangents.setdefault(name, {}), key, (n, rows.shape[1], *x), rows
            )
            placement(buffer, x, 2).add_(rows)
        if hessian is not None:
            dense = as_tensor(hessian)
            buffer = self._writable.buffer(self.hessians, name, (n, size, *x), dense)
            buffer = buffer.view(n, *x, *x)
            # First the rows of the entries, then their columns behind the row axes.
            placement(placement(buffer, x, 1), x, 1 + len(z)).add_(dense.reshape(n, *z, *z))
        for other, cross in crosses.items():
            across = transposed(cross, self._shape(other)).reshape(n, *z, -1)
            beside = self._placements.get(other)
            if beside is not None and beside.foot == name:
                # Both were selected from one value, where they go at once.
                buffer = self._writable.buffer(self.hessians, name, (n, size, *x), cross)
                buffer, y = buffer.view(n, *x, *x), beside.shape
                placement(beside(buffer, x, 1), x, 1 + len(y)).add_(cross.reshape(n, *y, *z))
                beside(placement(buffer, x, 1), x, 1 + len(z)).add_(across.reshape(n, *z, *y))
            elif other == name:
                # The pair of a value with what was selected from it: both orders fall on it.
                buffer = self._writable.buffer(self.hessians, name, (n, size, *x), cross)
                placement(buffer, x, 2).add_(cross)
                placement(buffer.view(n, *x, size), x, 1).add_(across)
            elif self._place[name] > self._place[other]:
                buffer = self._writable.buffer(
                    self._cross.setdefault(name, {}), other, (n, cross.shape[1], *x), cross
                )
                placement(buffer, x, 2).add_(cross)
            else:
                buffer = self._writable.buffer(
                    self._cross.setdefault(other, {}), name, (n, size, *self._shape(other)), cross
                )
                placement(buffer.view(n, *x, -1), x, 1).add_(across)

    def _add_blocks(self, names: tuple[str, ...], blocks: list[list[Any]]) -> None:
        """Hessian of the inputs, block[i][j] being (n, |input i|, *input j) for i <= j."""
        for i, first in enumerate(names):
            for j, second in enumerate(names[i:], start=i):
                block = blocks[i][j]
                if block is None:
                    continue
                if i == j:
                    self._add_hessian(first, block)
                else:
                    self._add_pair(second, first, as_tensor(block))

    def _add_hessian(self, value: str, more: ValueHessian) -> None:
        held = self.hessians.get(value)
        self.hessians[value] = more if held is None else accumulated(held, more)

    def _add_pair(self, value: str, other: str, cross: Tensor) -> None:
        """Add ∂²ℓ/∂value∂other, given as (n, |other|, *value); both orders of it where the two are
        the same value."""
        if value == other:
            self._add_hessian(value, cross + transposed(cross, self._shape(value)))
            return
        later, earlier = value, other
        if self._place[value] < self._place[other]:
            later, earlier, cross = other, value, transposed(cross, self._shape(other))
        held = self._cross.setdefault(later, {})
        held[earlier] = held[earlier] + cross if earlier in held else cross

    def _shape(self, value: str) -> tuple[int, ...]:
        return tuple(self._values[value].shape[1:])


def _pull_all(op: Pullback, held: dict[Key, Cotangents]) -> dict[Key, tuple[Cotangents, ...]]:
    """Jᵀ on every set of cotangents: diagonal ones by the rows of J, dense ones together where
    starting a pull-back is costly."""
    pulled: dict[Key, tuple[Cotangents, ...]] = {
        key: op.pull_diagonal(part) for key, part in held.items() if isinstance(part, Diagonal)
    }
    dense = {key: part for key, part in held.items() if isinstance(part, Tensor)}
    if op.is_light or len(dense) == 1:
        return pulled | {key: op.pull(part) for key, part in dense.items()}
    sizes = [part.shape[1] for part in dense.values()]
    split = [part.split(sizes, dim=1) for part in op.pull(torch.cat(list(dense.values()), dim=1))]
    return pulled | dict(zip(dense, zip(*split, strict=True), strict=True))


def _is_dense(held: dict[Key, Cotangents], hessian: ValueHessian | None) -> bool:
    """Whether nothing that is carried at a value has a structure."""
    return not any(isinstance(part, Diagonal) for part in held.values()) and (
        hessian is None or isinstance(hessian, Tensor)
    )
