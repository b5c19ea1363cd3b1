"""Which uses of parameters make one block: those that move the same entries, wherever they are.

A layer that is run again, a step of a recurrent layer and a token are all the same here, a weight
that is shared: each is one more position. What enters as a vector (a bias apart from its weight, a
normalisation's scale and shift, a parameter that is its own site) has so few entries that its block
is taken as it is, not factored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import final

import torch
from torch import Tensor

from hesse.capture import Captured
from hesse.cost import Cost
from hesse.errors import HesseValueError
from hesse.graph.sites import ParameterUse, Site, joined
from hesse.layout import Layout

# A vector of more entries has a diagonal in place of a block.
LARGEST_EXACT = 2048
_VECTORS = ("shift", "scale", "leaf")


class Form(Enum):
    """What is held of a block.

    Attributes:
        FACTORS: a Kronecker product.
        EXACT: all of its entries.
        DIAGONAL: those on its diagonal.
    """

    FACTORS = auto()
    EXACT = auto()
    DIAGONAL = auto()


@final
@dataclass(frozen=True)
class PlacedUse:
    """A use of a parameter at a site of one of a cost's graphs.

    Attributes:
        graph: which of them.
        site: the site.
        use: the use; of a weight and its bias together, or of one parameter.
        index: where its entries (g, o, i) lie in the flat vector of all parameters.
        is_turned: whether outputs and inputs change places in the block, as where a table of words
            is the last layer too.
    """

    graph: int
    site: Site
    use: ParameterUse
    index: Tensor
    is_turned: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""
        return tuple(member.parameter for member in self.use.members)

    @property
    def is_vector(self) -> bool:
        """Whether it enters as a vector."""
        return self.use.kind in _VECTORS

    @property
    def repeats(self) -> bool:
        """Whether an entry stands in several places."""
        in_order = all(member.index is None for member in self.use.members)
        return not in_order and len(self.index.unique()) < len(self.index)


@final
@dataclass(frozen=True)
class Layer:
    """The uses that make one block.

    Attributes:
        names: the parameters.
        index: the entries, in the order of the block.
        shape: (g, o, i).
        form: what is held.
        uses: by graph and site: (graph, value of the site) -> uses.
    """

    names: tuple[str, ...]
    index: Tensor
    shape: tuple[int, int, int]
    form: Form
    uses: dict[tuple[int, str], list[PlacedUse]] = field(repr=False)


def layers_of(
    captures: Sequence[Captured], cost: Cost, joint: bool, factors_only: bool
) -> list[Layer]:
    """The layers of a cost.

    Args:
        captures: its graphs, one for batches of each signature.
        cost: the cost.
        joint: whether a bias belongs to the block of its weight.
        factors_only: whether vectors are factored too.

    Raises:
        HesseValueError: a parameter enters in ways that have no block in common.
    """
    uses = list(_uses(captures, cost.layout, joint))
    layers = []
    for group in _groups(uses, joint and not factors_only):
        is_vector = all(use.is_vector for use in group) and not factors_only
        layer = _of_vectors(group) if is_vector else _of_matrices(group)
        layers.append(replace(layer, index=layer.index.to(cost.device)))
    return layers


def _uses(captures: Sequence[Captured], layout: Layout, joint: bool) -> Iterator[PlacedUse]:
    """Every use; a weight with its bias where neither is used in other company."""
    apart: set[str] = set()
    if not joint:
        apart = set(layout.names)
    while True:
        company: dict[str, set[tuple[str, ...]]] = {}
        found = [
            (place, site, use)
            for place, captured in enumerate(captures)
            for given in captured.sites
            for site in [_perhaps_joined(given, apart)]
            for use in site.uses
        ]
        for _, _, use in found:
            names = tuple(member.parameter for member in use.members)
            for name in names:
                company.setdefault(name, set()).add(names)
        more = {name for name, sets in company.items() if len(sets) > 1} - apart
        if not more:
            break
        apart |= more
    for place, site, use in found:
        yield PlacedUse(place, site, use, _places(use, layout))


def _perhaps_joined(site: Site, apart: set[str]) -> Site:
    if any(use.parameter in apart or use.kind in _VECTORS[1:] for use in site.uses):
        return site
    return joined(site)


def _places(use: ParameterUse, layout: Layout) -> Tensor:
    parts = []
    for member in use.members:
        own = (
            torch.arange(member.size, device="cpu") if member.index is None else member.index.cpu()
        )
        parts.append((own + layout.offsets[member.parameter]).reshape(member.shape))
    return torch.cat(parts, 2).reshape(-1)


def _groups(uses: list[PlacedUse], joins_vectors: bool) -> list[list[PlacedUse]]:
    """The uses that have entries in common; a scale with the shift of its site."""
    leader = list(range(len(uses)))

    def find(k: int) -> int:
        while leader[k] != k:
            k = leader[k]
        return k

    # By entry, one of the uses that move it.
    size = max((int(use.index.max()) + 1 for use in uses), default=0)
    owner = torch.full((size,), -1, device="cpu")
    at_site: dict[tuple[int, str], int] = {}
    for k, use in enumerate(uses):
        before = owner[use.index]
        low, high = (int(bound) for bound in before.aminmax())
        for other in {low, high} if low == high else before.unique().tolist():
            if other >= 0:
                leader[find(k)] = find(other)
        owner[use.index] = k
        if joins_vectors and any(other.kind == "scale" for other in use.site.uses):
            leader[find(k)] = find(at_site.setdefault((use.graph, use.site.value), k))
    groups: dict[int, list[PlacedUse]] = {}
    for k, use in enumerate(uses):
        groups.setdefault(find(k), []).append(use)
    return list(groups.values())


def _by_site(uses: Sequence[PlacedUse]) -> dict[tuple[int, str], list[PlacedUse]]:
    found: dict[tuple[int, str], list[PlacedUse]] = {}
    for use in uses:
        found.setdefault((use.graph, use.site.value), []).append(use)
    return found


def _names(uses: Sequence[PlacedUse]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for use in uses for name in use.names))


def _of_vectors(uses: list[PlacedUse]) -> Layer:
    index = torch.cat([use.index for use in uses]).unique()
    form = Form.EXACT if len(index) <= LARGEST_EXACT else Form.DIAGONAL
    return Layer(_names(uses), index, (1, len(index), 1), form, _by_site(uses))


def _of_matrices(uses: list[PlacedUse]) -> Layer:
    first = uses[0]
    placed = [_placed(use, first) for use in uses]
    alike = [use for use in placed if use is not None]
    if len(alike) == len(uses) and not first.repeats:
        return Layer(_names(uses), first.index, first.use.shape, Form.FACTORS, _by_site(alike))
    index = torch.cat([use.index for use in uses]).unique()
    if len(index) <= LARGEST_EXACT:
        return Layer(_names(uses), index, (1, len(index), 1), Form.EXACT, _by_site(uses))
    kinds = ", ".join(sorted({use.use.kind for use in uses}))
    raise HesseValueError(
        f"cost: {first.names[0]!r} enters in several ways ({kinds}) whose entries are arranged"
        f" differently, and with {len(index):,} entries it is too large for an exact block (at most"
        f" {LARGEST_EXACT:,}): leave it out with params="
    )


def _placed(use: PlacedUse, first: PlacedUse) -> PlacedUse | None:
    """The use in the order of the first one; ``None`` where it has another."""
    if use.use.shape == first.use.shape and torch.equal(use.index, first.index):
        return use
    g, o, i = use.use.shape
    if first.use.shape == (g, i, o):
        turned = use.index.reshape(g, o, i).mT.reshape(-1)
        if torch.equal(turned, first.index):
            return PlacedUse(use.graph, use.site, use.use, use.index, is_turned=True)
    return None
