"""The sweep: one pass down the graph that carries every second-order signal of a chunk of samples.

The nodes are taken from the loss down. At every moment a set of values, the *frontier*, separates
what is done from what is not, and each frontier value v holds columns, tensors (n, k, *v) of "the
derivative in v of something":

    delta     of ℓ                                       k = 1         δ
    (S, m)    of δ at a site m already passed             k = |z_m|     S
    (D, m)    of the input of a site m already passed     k = |x_m|     D

and every two frontier values u, v their curvature ∂²ℓ/∂u∂v. Taking a node y = g(x₁, …, x_r) off the
frontier applies Jᵀ to all its columns, Jᵀ S J to its curvature, and adds the node's own second
derivative, δ·∂²g: the chain rule for Hessians, on a graph. On a chain of dense layers this is the
recursion S_lm = f' ∘ Wᵀ S_{l+1,m}; on any other graph it is its generalisation. (Gower and Mello
2012, "A new framework for the computation of Hessians", carry second derivatives down a graph in
the same way, entry by entry, for one function; here they are blocks, for many samples at once.)

Where positions do not meet above some value, the sweep down to it takes them for samples
(`independent_positions`). Two shortcuts keep the columns few. Where one value alone separates what
is above from a costly operation below, its identity is carried on in place of its columns, which
are multiplied by it on arrival (`Frontier.collapse`). And the lowest site, below which nothing is
needed, is reached through the smallest value on the way to it (`Narrow`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hesse.exact.propagation.frontier import BASE, DELTA, Frontier, Key
from hesse.exact.propagation.independent_positions import Apart, find_apart
from hesse.exact.propagation.pullback import Pullback, is_costly
from hesse.graph.graph import Graph, Node
from hesse.graph.sites import Site
from hesse.graph.structures import Columns, Curvature, as_tensor, identity
from hesse.operations.record import Structure
from hesse.operations.registry import record_of


@dataclass(frozen=True)
class Narrow:
    """A value v that everything passes through on its way to the lowest site, with fewer entries
    than that site.

    Attributes:
        curvature: of v, (n, |v|, |v|); ``None`` where zero.
        base: ∂v/∂z as columns (n, |v|, *z).
    """

    curvature: Tensor | None
    base: Tensor


@dataclass(frozen=True)
class Above:
    """What a site below the cut is told of the sites above it, whose samples are positions; see
    `independent_positions`.

    Attributes:
        base: ∂cut/∂z as columns by position, (n, t, c, *z).
        signals: by site m above the cut, ∂δ_m/∂cut, (n t, |z_m|, *cut), to be multiplied by
            ``base``; absent where zero.
        transports: by site m above the cut, ∂x_m/∂cut, likewise.
    """

    base: Tensor
    signals: dict[str, Columns]
    transports: dict[str, Columns]


@dataclass(frozen=True)
class Arrival:
    """What is known when the sweep arrives at a site l.

    Attributes:
        site: the site l.
        delta: δ_l, (n, *z).
        curvature: S_ll, (n, |z|, *z) or its structure; ``None`` where it is zero.
        input: the value of the site's input, (n, *x); ``None`` where it has none.
        signals: by later site m, S_ml as columns (n, |z_m|, *z_l); absent where zero.
        transports: by later site m, ∂x_m/∂z_l as columns (n, |x_m|, *z_l); absent where zero.
        narrow: set at the lowest site where all signals pass through one narrow value v. Then
            ``curvature`` is only what is added below v, and the columns are (n, k, |v|), to be
            multiplied by ``narrow.base``.
        above: set where the sites above a cut come by position.
        positions: how many positions of every sample stand as samples of their own.
    """

    site: Site
    delta: Tensor
    curvature: Curvature | None
    input: Tensor | None
    signals: dict[str, Columns]
    transports: dict[str, Columns]
    narrow: Narrow | None
    above: Above | None = None
    positions: int = 1


def _is_step(node: Node) -> bool:
    """Whether no derivative passes through."""
    return record_of(node).has(Structure.STEP) or not node.floating


def active_values(graph: Graph, sites: tuple[Site, ...]) -> set[str]:
    """The values that derivatives flow through on their way to the sites."""
    return graph.downstream({site.value for site in sites}, _is_step) if sites else set()


class Sweep:
    """One pass down the graph.

    Args:
        graph: the captured sample loss.
        sites: those whose parameters are wanted.
        partners: for each site, the sites passed before it whose S and D it needs.
        straight: the values whose operations count as linear, so that their own second derivatives,
            and the product-rule terms of the sites among them, are left out.
        only_diagonal: where nothing but the diagonal of a curvature will be used, carry only that.
        split: whether positions may be taken for samples where they do not meet.
    """

    def __init__(
        self,
        graph: Graph,
        sites: tuple[Site, ...],
        partners: dict[str, set[str]],
        straight: frozenset[str] = frozenset(),
        only_diagonal: bool = False,
        split: bool = True,
    ) -> None:
        self._graph, self._partners, self._straight = graph, partners, straight
        self._sites = {site.value: site for site in sites}
        self._active = active_values(graph, sites)
        self.apart = (
            find_apart(graph, self._sites, self._active)
            if sites and split and not only_diagonal
            else None
        )
        self._needs_above: dict[str, set[str]] = {}
        if self.apart is not None:
            self._split(self.apart)
        # Where the last site lies that needs the columns of m.
        self._last_use = {
            m: min(graph.place[site] for site, needed in self._partners.items() if m in needed)
            for m in {m for needed in self._partners.values() for m in needed}
        }

        self._costly_cuts = self._before_costly_operations() if sites else frozenset()
        self._narrow = (
            self._narrowest() if sites and not only_diagonal and self.apart is None else None
        )
        # Sites with positions are contracted through the few entries that a curvature comes from.
        self._low_rank = not only_diagonal and any(not site.arrange.is_plain for site in sites)
        self._thin = self._diagonal_suffices() if only_diagonal and sites else frozenset()

    def _split(self, apart: Apart) -> None:
        """Leave the sites above the cut to a sweep of their own, which ends at the cut as at a site
        that needs them."""
        above = {site.value for site in apart.sites}
        self._sites = {value: site for value, site in self._sites.items() if value not in above}
        self._needs_above = {value: self._partners[value] & above for value in self._sites}
        needed = {value: self._partners[value] & above for value in above}
        needed[apart.cut] = set().union(*self._needs_above.values())
        self._partners = {value: self._partners[value] - above for value in self._sites}
        self._above = Sweep(
            apart.graph, (*apart.sites, apart.end), needed, self._straight, split=False
        )

    def _before_costly_operations(self) -> frozenset[str]:
        """The values that alone separate what is above from a costly operation below: where columns
        are worth collapsing."""
        graph, active = self._graph, self._active
        lowest = min(graph.place[name] for name in self._sites)
        chosen, crossing, cut = set(), set(), None
        for node in reversed(graph.nodes[lowest : graph.place[graph.output] + 1]):
            if node.name not in active:
                continue
            inputs = tuple(name for name in node.inputs if name in active)
            crossing.add(node.name)
            if crossing == {node.name}:
                cut = node.name
            if cut is not None and inputs and is_costly(node, inputs, graph.shapes):
                chosen.add(cut)
            crossing.remove(node.name)
            crossing.update(inputs)
        return frozenset(chosen)

    def _narrowest(self) -> str | None:
        """The smallest value, smaller than the lowest site's, that alone separates that site from
        all others and the loss.

        Where that site is plain its S is contracted in symmetric halves, which is less work than
        through any such value.
        """
        graph = self._graph
        lowest = min(self._sites, key=lambda name: graph.place[name])
        if self._sites[lowest].arrange.is_plain:
            return None
        others = [graph.place[name] for name in self._sites if name != lowest]
        below = graph.downstream({lowest}) & self._active
        best, least = None, graph.node[lowest].size
        for node in graph.nodes[
            graph.place[lowest] + 1 : min(others, default=graph.place[graph.output])
        ]:
            crossing = {
                name
                for user in graph.nodes[graph.place[node.name] + 1 :]
                for name in user.inputs
                if name in below and graph.place[name] <= graph.place[node.name]
            }
            if crossing == {node.name} and node.size < least:
                best, least = node.name, node.size
        return best

    def _diagonal_suffices(self) -> frozenset[str]:
        """The values from the lowest site, where it is plain, up to the first operation that mixes
        entries."""
        graph = self._graph
        value = min(self._sites, key=lambda name: graph.place[name])
        thin: set[str] = set()
        if not self._sites[value].arrange.is_plain or any(self._partners[value]):
            return frozenset()
        while True:
            thin.add(value)
            users = [node for node in graph.nodes if value in node.inputs]
            if (
                len(users) != 1
                or users[0].name in self._sites
                or not record_of(users[0]).is_elementwise(users[0], (value,), graph.shapes)
            ):
                return frozenset(thin)
            if [name for name in users[0].inputs if name in self._active] != [value]:
                return frozenset(
                    thin
                )  # another way up ends here, which needs more than the diagonal
            value = users[0].name

    def arrivals(
        self,
        values: dict[str, Any],
        batched: set[str],
        scale: float,
        observe: Callable[[int], None] | None = None,
    ) -> Iterator[Arrival]:
        """Go down from the loss and stop at every site.

        Args:
            values: every value, with a leading sample axis where batched.
            batched: names of the values with a sample axis.
            scale: what the sum over samples is multiplied by: δ of the loss itself.
            observe: called with the number of tensor entries alive at each node, for the plan.
        """
        graph, frontier = self._graph, Frontier(self._graph, values)
        if graph.output not in self._active:
            return
        start, handed = graph.output, None
        if self.apart is None:
            frontier.add(start, DELTA, torch.full_like(values[start], scale).unsqueeze(1))
        else:
            start = self.apart.cut
            for arrival in self._above.arrivals(self.apart.values(values), batched, scale, observe):
                if arrival.site.value == start:
                    handed = arrival
                else:
                    yield replace(arrival, positions=self.apart.count)
            if handed is None:
                return
            frontier.add(start, DELTA, self.apart.joined(handed.delta).unsqueeze(1))
            if handed.curvature is not None:
                frontier.own[start] = self.apart.curvature(handed.curvature)
            if handed.signals or handed.transports:
                frontier.add(start, BASE, identity(values[start]))
        lowest = min(graph.place[value] for value in self._sites)
        held: tuple[dict[Key, Tensor], Tensor | None] | None = None
        for place in range(graph.place[start], lowest - 1, -1):
            node = graph.nodes[place]
            if not frontier.has(node.name):
                continue
            site = self._sites.get(node.name)
            if site is not None:
                yield self._arrive(site, frontier, values, batched, held, handed)
            frontier.retire({m for m, last in self._last_use.items() if last >= place})
            active = tuple(name for name in node.inputs if name in self._active)
            if node.name in self._costly_cuts:
                frontier.collapse(node.name)
            if node.name == self._narrow:
                held = frontier.begin_narrow(node.name)
            begins = site is not None and self._last_use.get(node.name, place) < place
            if begins:
                frontier.begin_signals(node.name)
            thin, straight = (
                len(active) == 1 and active[0] in self._thin,
                node.name in self._straight,
            )
            op = Pullback(node, active, values, batched, self._low_rank) if active else None
            frontier.take(node.name, op, begins, thin, straight)
            if (
                begins
                and not straight
                and site is not None
                and site.input is not None
                and site.input in active
                and any(slot.features for slot in site.slots)
            ):
                frontier.add(site.input, ("D", node.name), identity(values[site.input]))
            if observe is not None:
                observe(frontier.entries())

    def _arrive(
        self,
        site: Site,
        frontier: "Frontier",
        values: dict[str, Any],
        batched: set[str],
        held: tuple[dict[Key, Tensor], Tensor | None] | None,
        handed: Arrival | None,
    ) -> Arrival:
        wanted, narrow, above = self._partners[site.value], None, None
        columns = (
            frontier.expanded(site.value, wanted) if held is None else frontier.columns(site.value)
        )
        if held is not None:
            narrow = Narrow(held[1], as_tensor(columns[BASE]))
            columns = dict(held[0])
        if handed is not None and self.apart is not None and BASE in columns:
            needed = self._needs_above[site.value]
            above = Above(
                self.apart.by_position(as_tensor(columns[BASE])),
                {m: part for m, part in handed.signals.items() if m in needed},
                {m: part for m, part in handed.transports.items() if m in needed},
            )
        x = None if site.input is None else values[site.input]
        if x is not None and site.input not in batched:
            x = x.expand(len(values[site.value]), *x.shape)
        return Arrival(
            site,
            frontier.delta(site.value),
            frontier.own.get(site.value),
            x,
            {m: c for (kind, m), c in columns.items() if kind == "S" and m in wanted},
            {m: c for (kind, m), c in columns.items() if kind == "D" and m in wanted},
            narrow,
            above,
        )
