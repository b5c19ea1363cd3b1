"""From the sweep's arrivals to pairs of slots, arranged for contraction."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.capture.slots import Arrangement, Site, Slot
from hesse.exact.contract import Pair
from hesse.exact.rules import Columns, Curvature, Diagonal
from hesse.exact.sweep import Arrival

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
    return slot.features(value).to(dtype)


def pairs_at(arrival: Arrival, here: Passed, before: dict[str, Passed], wanted: set[PairKey]) -> Iterator[tuple[PairKey, Pair]]:
    """The wanted pairs that are complete at a site: its slots among themselves, and each with the slots passed before.

    Args:
        arrival: what the sweep brought.
        here: the site itself, from `passed`.
        before: the sites passed before.
        wanted: the keys (l, m) of the pairs to make; l is here.
    """
    here_at, value = here.site.arrange, here.site.value
    if arrival.curvature is not None:
        own = _own(arrival.curvature, here)
        for x, left in enumerate(here.site.slots):
            for y, right in enumerate(here.site.slots[x:], start=x):
                if ((value, x), (value, y)) in wanted:
                    pair = Pair(left, right, here.features[x], here.features[y], own, here.delta, None, here.input_shape, x == y)
                    yield ((value, x), (value, y)), pair
    for name in {*arrival.signals, *arrival.transports}:
        there = before[name]
        signal = arrival.signals.get(name)
        signal = None if signal is None else _as_signal(signal, there, here_at)
        transport = arrival.transports.get(name)
        plain = here_at.is_plain and there.site.arrange.is_plain
        dense = any(slot.kind == "dense" for slot in there.site.slots)
        carried_by = None if transport is None else _as_transport(transport, here_at, plain and dense)
        for x, left in enumerate(here.site.slots):
            for y, right in enumerate(there.site.slots):
                if ((value, x), (name, y)) not in wanted:
                    continue
                carried = None if right.features is None else carried_by
                if signal is not None or carried is not None:
                    yield (
                        ((value, x), (name, y)),
                        Pair(left, right, here.features[x], there.features[y], signal, there.delta, carried, there.input_shape, False),
                    )


def _own(curvature: Curvature, here: Passed) -> Curvature:
    """S of a site with itself; its structure is kept for a plain site, where the arrangement moves nothing."""
    if here.site.arrange.is_plain:
        return curvature
    return _as_signal(curvature, here, here.site.arrange)


def _as_signal(columns: Curvature, there: Passed, here: Arrangement) -> Tensor:
    """(n, |z_m|, *z_l) -> (n, h, s, p, g, o, t), laid so once for all pairs of the two sites."""
    dense = columns if isinstance(columns, Tensor) else columns.dense()
    right = here(dense, 2)
    left = there.site.arrange(right.unflatten(1, there.shape), 1, tail=3)
    return left.transpose(-1, -2).contiguous()


def _as_transport(columns: Columns, here: Arrangement, plain: bool) -> Columns:
    """(n, |x|, *z_l) -> (n, |x|, g, o, t); a diagonal stays one between plain dense slots."""
    if isinstance(columns, Diagonal):
        if plain:
            return columns
        columns = columns.dense()
    return here(columns, 2).transpose(-1, -2).contiguous()
