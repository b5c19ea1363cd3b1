"""From the sweep's arrivals to pairs of slots, arranged for contraction."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hesse.exact.contraction.pair import Factored, Pair
from hesse.exact.contraction.shared_positions import over_positions
from hesse.exact.propagation.sweep import Arrival, Narrow
from hesse.graph.sites import Arrangement, Site, Slot
from hesse.graph.structures import Columns, Curvature, Diagonal, LowRank, as_tensor, flat, unflat

# A slot of a site: (value of the site, place of the slot in it).
SlotKey = tuple[str, int]
PairKey = tuple[SlotKey, SlotKey]


@dataclass(frozen=True)
class Passed:
    """What stays of a site once the sweep has passed it."""

    site: Site
    delta: Tensor
    features: tuple[Tensor, ...]
    input_shape: tuple[int, ...]
    shape: tuple[int, ...]
    positions: int


def passed(arrival: Arrival) -> Passed:
    """Arrange δ and make the features of a site's slots, (n, g, t, i) each."""
    site, delta = arrival.site, arrival.delta
    n, (g, t, _) = len(delta), site.arrange.sizes
    ones = torch.ones(1, 1, 1, 1, dtype=delta.dtype, device=delta.device).expand(n, g, t, 1)
    features = tuple(
        _features(slot, arrival.input, delta.dtype) if slot.features else ones
        for slot in site.slots
    )
    shape = tuple(delta.shape[1:])
    input_shape = () if arrival.input is None else tuple(arrival.input.shape[1:])
    return Passed(site, site.arrange(delta, 1), features, input_shape, shape, arrival.positions)


def _features(slot: Slot, value: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert slot.features is not None and value is not None
    made = slot.features(value).to(dtype)
    if slot.parts:
        made[..., -1] = 1
    return made


def pairs_at(
    arrival: Arrival, here: Passed, before: dict[str, Passed], wanted: set[PairKey]
) -> Iterator[tuple[PairKey, Pair]]:
    """The wanted pairs that are complete at a site: its slots among themselves, and each with the
    slots passed before.

    Args:
        arrival: what the sweep brought.
        here: the site itself, from `passed`.
        before: the sites passed before.
        wanted: the keys (l, m) of the pairs to make; l is here.
    """
    value, slots = here.site.value, here.site.slots
    direct = _Narrowed(arrival.narrow, here) if arrival.narrow is not None else _Direct(here)
    own = direct.own(arrival.curvature)
    for x, left in enumerate(slots):
        for y, right in enumerate(slots[x:], start=x):
            signal = own(x, y)
            if ((value, x), (value, y)) in wanted and signal is not None:
                features, shape = (here.features[x], here.features[y]), here.input_shape
                pair = Pair(
                    left, right, *features, signal, here.delta, None, shape, x == y, here.positions
                )
                yield ((value, x), (value, y)), pair
    sources: list[tuple[_Maker, dict[str, Columns], dict[str, Columns]]] = [
        (direct, arrival.signals, arrival.transports)
    ]
    if arrival.above is not None:
        # Pairs across the cut have the positions of m for samples; a, summed with the Jacobian
        # already, is not used again.
        sources.append(
            (_Through(arrival.above.base, here), arrival.above.signals, arrival.above.transports)
        )
    for make, found, moved in sources:
        for name in found | moved:
            there = before[name]
            signals, transports = (
                make.signal(found.get(name), there),
                make.transport(moved.get(name), there),
            )
            for x, left in enumerate(slots):
                for y, right in enumerate(there.site.slots):
                    signal, transport = (
                        signals(x),
                        None if right.features is None else transports(x),
                    )
                    if ((value, x), (name, y)) in wanted and (
                        signal is not None or transport is not None
                    ):
                        features, shape = (here.features[x], there.features[y]), there.input_shape
                        pair = Pair(
                            left,
                            right,
                            *features,
                            signal,
                            there.delta,
                            transport,
                            shape,
                            False,
                            there.positions,
                        )
                        yield ((value, x), (name, y)), pair


class _Maker(Protocol):
    """Makes the signals of two sites from the columns that the sweep brought."""

    def signal(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]: ...

    def transport(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]: ...


class _Direct:
    """Signals as the sweep brings them: arranged once, the same for every slot of the site."""

    def __init__(self, here: Passed) -> None:
        self._here = here

    def own(self, curvature: Curvature | None) -> Callable[[int, int], Any]:
        if isinstance(curvature, LowRank) and not self._here.site.arrange.is_plain:
            return self._low_rank(curvature)
        made = None if curvature is None else _own(curvature, self._here)
        return lambda x, y: made

    def _low_rank(self, curvature: LowRank) -> Callable[[int, int], Any]:
        """Each slot's features are summed with the few columns once, and contracted through
        them."""
        at = self._here.site.arrange
        base = at(curvature.columns, 2).transpose(-1, -2)
        summed = [over_positions(base, features) for features in self._here.features]
        local = None if curvature.rest is None else Diagonal(at(curvature.rest, 1))
        return lambda x, y: Factored(curvature.core_matrix(), summed[x], summed[y], local)

    def signal(self, columns: Curvature | None, there: Passed) -> Callable[[int], Any]:
        made = None if columns is None else _as_signal(columns, there, self._here.site.arrange)
        return lambda x: made

    def transport(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]:
        at = self._here.site.arrange
        plain = (
            at.is_plain
            and there.site.arrange.is_plain
            and any(slot.kind == "dense" for slot in there.site.slots)
        )
        made = None if columns is None else _as_transport(columns, there, at, plain)
        return lambda x: made


class _Through:
    """Signals through a value v: its Jacobian is summed over positions with each slot's features,
    and shared.

    Args:
        base: ∂v/∂z, (n, v, *z), or by position where those stand as samples of the sites above, (n,
            t, v, *z).
        here: the site.
    """

    def __init__(self, base: Tensor, here: Passed) -> None:
        self._here, lead = here, base.ndim - len(here.shape)
        base = here.site.arrange(base, lead).transpose(-1, -2).contiguous()
        self._summed = [
            over_positions(base, features).flatten(0, lead - 2) for features in here.features
        ]

    def signal(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]:
        if columns is None:
            return lambda x: None
        coefficients = there.site.arrange(unflat(flat(as_tensor(columns)), there.shape), 1, tail=1)
        return lambda x: Factored(coefficients, self._summed[x])

    def transport(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]:
        if columns is None:
            return lambda x: None
        coefficients = _by_channel(flat(as_tensor(columns)), there)
        return lambda x: Factored(coefficients, self._summed[x])


class _Narrowed(_Through):
    """Signals through a narrow value, also those of the site with itself."""

    def __init__(self, narrow: Narrow, here: Passed) -> None:
        super().__init__(narrow.base, here)
        self._narrow = narrow

    def own(self, curvature: Curvature | None) -> Callable[[int, int], Any]:
        held = self._narrow.curvature
        if held is None and curvature is None:
            return lambda x, y: None
        held = (
            self._narrow.base.new_zeros(
                self._narrow.base.shape[0], *2 * self._narrow.base.shape[1:2]
            )
            if held is None
            else held
        )
        at = self._here.site.arrange
        diagonal = isinstance(curvature, Diagonal)
        local = (
            Diagonal(at(curvature.values, 1))
            if diagonal
            else None
            if curvature is None
            else _as_signal(curvature, self._here, at)
        )
        return lambda x, y: Factored(held, self._summed[x], self._summed[y], local)


def _own(curvature: Curvature, here: Passed) -> Curvature:
    """S of a site with itself; its structure is kept for a plain site, where the arrangement moves
    nothing."""
    if here.site.arrange.is_plain:
        return curvature.dense() if isinstance(curvature, LowRank) else curvature
    return _as_signal(curvature, here, here.site.arrange)


def _as_signal(columns: Curvature, there: Passed, here: Arrangement) -> Tensor:
    """(n, |z_m|, *z_l) -> (n, h, s, p, g, o, t), laid so once for all pairs of the two sites."""
    right = here(as_tensor(columns), 2)
    left = there.site.arrange(unflat(right, there.shape), 1, tail=3)
    return left.transpose(-1, -2).contiguous()


def _as_transport(columns: Columns, there: Passed, here: Arrangement, plain: bool) -> Columns:
    """(n, |x_m|, *z_l) -> (n, h, u, c, g, o, t); a diagonal stays one between plain dense slots."""
    if isinstance(columns, Diagonal):
        if plain:
            return columns
        columns = columns.dense()
    return _by_channel(here(columns, 2).transpose(-1, -2), there).contiguous()


def _by_channel(columns: Tensor, there: Passed) -> Tensor:
    """(n, |x_m|, ...) -> (n, h, u, c, ...): x by channel where the slot's features only move it,
    else the features themselves."""
    slot = next(slot for slot in there.site.slots if slot.features is not None)
    rest = columns.shape[2:]
    if slot.moves is not None:
        return slot.moves.arrange(unflat(columns, there.input_shape), 1, tail=len(rest))
    assert slot.features is not None
    n, x = columns.shape[:2]
    made = slot.features(columns.reshape(n, x, -1).mT.reshape(-1, *there.input_shape))
    return made.reshape(n, -1, *made.shape[1:]).movedim(1, -1).reshape(n, *made.shape[1:], *rest)
