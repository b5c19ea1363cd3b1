"""From the sweep's arrivals to pairs of parameter uses, arranged for contraction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hesse.exact.contraction.pair import Pair, PairHessian, PairJacobian, ThroughBottleneck
from hesse.exact.contraction.shared_positions import over_positions
from hesse.exact.propagation.sweep import Arrival, Bottleneck
from hesse.graph.sites import Arrangement, ParameterUse, Site
from hesse.graph.structures import (
    Cotangents,
    Diagonal,
    LowRank,
    ValueHessian,
    as_tensor,
    flat,
    unflat,
)

# A parameter use of a site: (value of the site, place of the use in it).
UseKey = tuple[str, int]
PairKey = tuple[UseKey, UseKey]


@dataclass(frozen=True)
class VisitedSite:
    """What stays of a site once the sweep has passed it.

    Attributes:
        site: the site.
        delta: δ, arranged (n, g, t, o).
        features: of each use, (n, g, t, i).
        input_shape: the shape of the site's input for one sample; empty where it has none.
        shape: the shape of its value for one sample.
        positions: how many positions of every sample stand as samples of their own.
    """

    site: Site
    delta: Tensor
    features: tuple[Tensor, ...]
    input_shape: tuple[int, ...]
    shape: tuple[int, ...]
    positions: int


def visited(arrival: Arrival) -> VisitedSite:
    """Arrange δ and make the features of a site's uses."""
    site, delta = arrival.site, arrival.delta
    n, (g, t, _) = len(delta), site.arrange.sizes
    ones = torch.ones(1, 1, 1, 1, dtype=delta.dtype, device=delta.device).expand(n, g, t, 1)
    features = tuple(
        _features(use, arrival.input, delta.dtype) if use.features else ones for use in site.uses
    )
    shape = tuple(delta.shape[1:])
    input_shape = () if arrival.input is None else tuple(arrival.input.shape[1:])
    return VisitedSite(
        site, site.arrange(delta, 1), features, input_shape, shape, arrival.positions
    )


def _features(use: ParameterUse, value: Tensor | None, dtype: torch.dtype) -> Tensor:
    assert use.features is not None and value is not None
    features = use.features(value).to(dtype)
    if use.joined_from:
        # The place of the bias, which was padded with zeros: its input is 1.
        features[..., -1] = 1
    return features


def pairs_at(
    arrival: Arrival, site: VisitedSite, before: dict[str, VisitedSite], wanted: set[PairKey]
) -> Iterator[tuple[PairKey, Pair]]:
    """The wanted pairs that are complete at a site: its uses among themselves, and each with those
    of the sites visited before.

    Args:
        arrival: what the sweep brought.
        site: the site itself, from `visited`.
        before: the sites visited before, by value.
        wanted: the keys (l, m) of the pairs to make; l is this site.
    """
    value, uses = site.site.value, site.site.uses
    direct = (
        _Direct(site)
        if arrival.bottleneck is None
        else _ThroughBottleneck(arrival.bottleneck, site)
    )
    with_itself = direct.with_itself(arrival.hessian)
    for x, left in enumerate(uses):
        for y, right in enumerate(uses[x:], start=x):
            hessian = with_itself[x][y]
            if ((value, x), (value, y)) in wanted and hessian is not None:
                features, shape = (site.features[x], site.features[y]), site.input_shape
                pair = Pair(
                    left, right, *features, hessian, site.delta, None, shape, x == y, site.positions
                )
                yield ((value, x), (value, y)), pair
    sources: list[tuple[_Arranger, dict[str, Cotangents], dict[str, Cotangents]]] = [
        (direct, arrival.hessians, arrival.jacobians)
    ]
    if arrival.above is not None:
        # Pairs across the cut have the positions of m for samples; a, summed with the Jacobian
        # already, is not used again.
        above = arrival.above
        sources.append((_Through(above.jacobian, site), above.hessians, above.jacobians))
    for arranger, hessians, jacobians in sources:
        for name in hessians | jacobians:
            other = before[name]
            of_hessian = arranger.hessians(hessians.get(name), other)
            of_jacobian = arranger.jacobians(jacobians.get(name), other)
            for x, left in enumerate(uses):
                for y, right in enumerate(other.site.uses):
                    # A shift's input is the constant 1: no product-rule term.
                    hessian = of_hessian[x]
                    jacobian = None if right.features is None else of_jacobian[x]
                    if ((value, x), (name, y)) in wanted and (
                        hessian is not None or jacobian is not None
                    ):
                        yield (
                            ((value, x), (name, y)),
                            Pair(
                                left,
                                right,
                                site.features[x],
                                other.features[y],
                                hessian,
                                other.delta,
                                jacobian,
                                other.input_shape,
                                False,
                                other.positions,
                            ),
                        )


class _Arranger(Protocol):
    """Arranges what the sweep brought for a site l and one visited before, m.

    Both methods give one entry for each use of l; ``None`` stands for zero.
    """

    def hessians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairHessian | None]:
        """S of l and m."""
        ...

    def jacobians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairJacobian | None]:
        """D, of m's input in l's value."""
        ...


class _Direct:
    """As the sweep brings it: arranged once, the same for every use of the site."""

    def __init__(self, site: VisitedSite) -> None:
        self._site = site

    def with_itself(self, hessian: ValueHessian | None) -> list[list[PairHessian | None]]:
        """S of the site with itself, for each pair of its uses."""
        count = len(self._site.site.uses)
        if isinstance(hessian, LowRank) and not self._site.site.arrange.is_vector:
            return self._low_rank(hessian)
        arranged = None if hessian is None else _with_itself(hessian, self._site)
        return [[arranged] * count for _ in range(count)]

    def _low_rank(self, hessian: LowRank) -> list[list[PairHessian | None]]:
        """Each use's features are summed with the few rows once, and contracted through them."""
        arrange = self._site.site.arrange
        jacobian = arrange(hessian.jacobian, 2).transpose(-1, -2)
        summed = [over_positions(jacobian, features) for features in self._site.features]
        local = None if hessian.rest is None else Diagonal(arrange(hessian.rest, 1))
        core = hessian.core_matrix()
        return [
            [ThroughBottleneck(core, left, right, local) for right in summed] for left in summed
        ]

    def hessians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairHessian | None]:
        arrange, count = self._site.site.arrange, len(self._site.features)
        if cotangents is None:
            return [None] * count
        return [_arranged_hessian(cotangents, other, arrange)] * count

    def jacobians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairJacobian | None]:
        arrange, count = self._site.site.arrange, len(self._site.features)
        if cotangents is None:
            return [None] * count
        # Only a dense layer's features are its input as it stands.
        keeps_diagonal = (
            arrange.is_vector
            and other.site.arrange.is_vector
            and any(use.kind == "dense" for use in other.site.uses)
        )
        return [_arranged_jacobian(cotangents, other, arrange, keeps_diagonal)] * count


class _Through:
    """What passes through a value v: its Jacobian is summed over positions with each use's
    features, and shared.

    Args:
        jacobian: ∂v/∂z, (n, v, *z), or by position where those stand as samples of the sites above,
            (n, t, v, *z).
        site: the site.
    """

    def __init__(self, jacobian: Tensor, site: VisitedSite) -> None:
        self._site, lead = site, jacobian.ndim - len(site.shape)
        jacobian = site.site.arrange(jacobian, lead).transpose(-1, -2).contiguous()
        self._summed = [
            over_positions(jacobian, features).flatten(0, lead - 2) for features in site.features
        ]

    def hessians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairHessian | None]:
        if cotangents is None:
            return [None] * len(self._summed)
        rows = unflat(flat(as_tensor(cotangents)), other.shape)
        coefficients = other.site.arrange(rows, 1, tail=1)
        return [ThroughBottleneck(coefficients, summed) for summed in self._summed]

    def jacobians(
        self, cotangents: Cotangents | None, other: VisitedSite
    ) -> Sequence[PairJacobian | None]:
        if cotangents is None:
            return [None] * len(self._summed)
        coefficients = _by_channel(flat(as_tensor(cotangents)), other)
        return [ThroughBottleneck(coefficients, summed) for summed in self._summed]


class _ThroughBottleneck(_Through):
    """What passes through the sweep's bottleneck, also that of the site with itself."""

    def __init__(self, bottleneck: Bottleneck, site: VisitedSite) -> None:
        super().__init__(bottleneck.jacobian, site)
        self._bottleneck = bottleneck

    def with_itself(self, hessian: ValueHessian | None) -> list[list[PairHessian | None]]:
        """S of the site with itself, for each pair of its uses: that of the bottleneck, and what is
        added below it."""
        core, jacobian = self._bottleneck.hessian, self._bottleneck.jacobian
        if core is None and hessian is None:
            return [[None] * len(self._summed) for _ in self._summed]
        if core is None:
            core = jacobian.new_zeros(len(jacobian), *2 * jacobian.shape[1:2])
        local = None if hessian is None else self._local(hessian)
        return [
            [ThroughBottleneck(core, left, right, local) for right in self._summed]
            for left in self._summed
        ]

    def _local(self, hessian: ValueHessian) -> Tensor | Diagonal:
        arrange = self._site.site.arrange
        if isinstance(hessian, Diagonal):
            return Diagonal(arrange(hessian.values, 1))
        return _arranged_hessian(hessian, self._site, arrange)


def _with_itself(hessian: ValueHessian, site: VisitedSite) -> PairHessian:
    """S of a site with itself; its structure is kept where the arrangement moves nothing."""
    if site.site.arrange.is_vector:
        return hessian.dense() if isinstance(hessian, LowRank) else hessian
    return _arranged_hessian(hessian, site, site.site.arrange)


def _arranged_hessian(rows: ValueHessian, other: VisitedSite, arrange: Arrangement) -> Tensor:
    """(n, |z_m|, *z_l) -> (n, h, s, p, g, o, t), laid so once for all pairs of the two sites."""
    right = arrange(as_tensor(rows), 2)
    left = other.site.arrange(unflat(right, other.shape), 1, tail=3)
    return left.transpose(-1, -2).contiguous()


def _arranged_jacobian(
    rows: Cotangents, other: VisitedSite, arrange: Arrangement, keeps_diagonal: bool
) -> Tensor | Diagonal:
    """(n, |x_m|, *z_l) -> (n, h, u, c, g, o, t); between dense layers on vectors a diagonal stays
    one."""
    if isinstance(rows, Diagonal):
        if keeps_diagonal:
            return rows
        rows = rows.dense()
    return _by_channel(arrange(rows, 2).transpose(-1, -2), other).contiguous()


def _by_channel(rows: Tensor, other: VisitedSite) -> Tensor:
    """(n, |x_m|, ...) -> (n, h, u, c, ...): x by channel where the use's features only gather it,
    else the features themselves."""
    use = next(use for use in other.site.uses if use.features is not None)
    rest = rows.shape[2:]
    if use.gather is not None:
        return use.gather.arrange(unflat(rows, other.input_shape), 1, tail=len(rest))
    assert use.features is not None
    # Features are linear in the input: those of the rows are the rows of the features.
    n, x = rows.shape[:2]
    features = use.features(rows.reshape(n, x, -1).mT.reshape(-1, *other.input_shape))
    features = features.reshape(n, -1, *features.shape[1:])
    return features.movedim(1, -1).reshape(n, *features.shape[2:], *rest)
