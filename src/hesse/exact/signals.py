"""From the sweep's arrivals to pairs of slots, arranged for contraction."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hesse.capture.sites import Arrangement, Site, Slot
from hesse.exact.pair import Factored, Pair
from hesse.exact.positions import over_positions
from hesse.exact.structures import Columns, Curvature, Diagonal, as_tensor
from hesse.exact.sweep import Arrival, Narrow

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


def passed(arrival: Arrival) -> Passed:
    """Arrange δ and make the features of a site's slots, (n, g, t, i) each."""
    site, delta = arrival.site, arrival.delta
    n, (g, t, _) = len(delta), site.arrange.sizes
    ones = torch.ones(1, 1, 1, 1, dtype=delta.dtype, device=delta.device).expand(n, g, t, 1)
    features = tuple(_features(slot, arrival.input, delta.dtype) if slot.features else ones for slot in site.slots)
    shape = tuple(delta.shape[1:])
    return Passed(site, site.arrange(delta, 1), features, () if arrival.input is None else tuple(arrival.input.shape[1:]), shape)


def _features(slot: Slot, value: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert slot.features is not None and value is not None
    made = slot.features(value).to(dtype)
    if slot.parts:
        made[..., -1] = 1
    return made


def pairs_at(arrival: Arrival, here: Passed, before: dict[str, Passed], wanted: set[PairKey]) -> Iterator[tuple[PairKey, Pair]]:
    """The wanted pairs that are complete at a site: its slots among themselves, and each with the slots passed before.

    Args:
        arrival: what the sweep brought.
        here: the site itself, from `passed`.
        before: the sites passed before.
        wanted: the keys (l, m) of the pairs to make; l is here.
    """
    value, slots = here.site.value, here.site.slots
    make = _Narrowed(arrival.narrow, here) if arrival.narrow is not None else _Direct(here)
    own = make.own(arrival.curvature)
    for x, left in enumerate(slots):
        for y, right in enumerate(slots[x:], start=x):
            signal = own(x, y)
            if ((value, x), (value, y)) in wanted and signal is not None:
                pair = Pair(left, right, here.features[x], here.features[y], signal, here.delta, None, here.input_shape, x == y)
                yield ((value, x), (value, y)), pair
    for name in arrival.signals | arrival.transports:
        there = before[name]
        signals, transports = make.signal(arrival.signals.get(name), there), make.transport(arrival.transports.get(name), there)
        for x, left in enumerate(slots):
            for y, right in enumerate(there.site.slots):
                signal, transport = signals(x), None if right.features is None else transports(x)
                if ((value, x), (name, y)) in wanted and (signal is not None or transport is not None):
                    features = here.features[x], there.features[y]
                    yield (
                        ((value, x), (name, y)),
                        Pair(left, right, *features, signal, there.delta, transport, there.input_shape, False),
                    )


class _Direct:
    """Signals as the sweep brings them: arranged once, the same for every slot of the site."""

    def __init__(self, here: Passed) -> None:
        self._here = here

    def own(self, curvature: Curvature | None) -> Callable[[int, int], Any]:
        made = None if curvature is None else _own(curvature, self._here)
        return lambda x, y: made

    def signal(self, columns: Curvature | None, there: Passed) -> Callable[[int], Any]:
        made = None if columns is None else _as_signal(columns, there, self._here.site.arrange)
        return lambda x: made

    def transport(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]:
        at = self._here.site.arrange
        plain = at.is_plain and there.site.arrange.is_plain and any(slot.kind == "dense" for slot in there.site.slots)
        made = None if columns is None else _as_transport(columns, at, plain)
        return lambda x: made


class _Narrowed:
    """Signals through a narrow value v: its Jacobian is summed over positions with each slot's features, and shared."""

    def __init__(self, narrow: Narrow, here: Passed) -> None:
        self._narrow, self._here = narrow, here
        base = here.site.arrange(narrow.base, 2).transpose(-1, -2).contiguous()
        self._summed = [over_positions(base, features) for features in here.features]

    def own(self, curvature: Curvature | None) -> Callable[[int, int], Any]:
        held = self._narrow.curvature
        if held is None and curvature is None:
            return lambda x, y: None
        held = (
            self._narrow.base.new_zeros(self._narrow.base.shape[0], *2 * self._narrow.base.shape[1:2]) if held is None else held
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

    def signal(self, columns: Curvature | None, there: Passed) -> Callable[[int], Any]:
        if columns is None:
            return lambda x: None
        coefficients = there.site.arrange(as_tensor(columns).unflatten(1, there.shape), 1, tail=1)
        return lambda x: Factored(coefficients, self._summed[x])

    def transport(self, columns: Columns | None, there: Passed) -> Callable[[int], Any]:
        return lambda x: None if columns is None else Factored(as_tensor(columns), self._summed[x])


def _own(curvature: Curvature, here: Passed) -> Curvature:
    """S of a site with itself; its structure is kept for a plain site, where the arrangement moves nothing."""
    if here.site.arrange.is_plain:
        return curvature
    return _as_signal(curvature, here, here.site.arrange)


def _as_signal(columns: Curvature, there: Passed, here: Arrangement) -> Tensor:
    """(n, |z_m|, *z_l) -> (n, h, s, p, g, o, t), laid so once for all pairs of the two sites."""
    right = here(as_tensor(columns), 2)
    left = there.site.arrange(right.unflatten(1, there.shape), 1, tail=3)
    return left.transpose(-1, -2).contiguous()


def _as_transport(columns: Columns, here: Arrangement, plain: bool) -> Columns:
    """(n, |x|, *z_l) -> (n, |x|, g, o, t); a diagonal stays one between plain dense slots."""
    if isinstance(columns, Diagonal):
        if plain:
            return columns
        columns = columns.dense()
    return here(columns, 2).transpose(-1, -2).contiguous()
