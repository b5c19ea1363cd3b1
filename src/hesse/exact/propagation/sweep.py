"""The sweep: one pass down the graph that carries δ, S and D of a chunk of samples to every site.

The nodes are taken from the loss down. At every moment a set of values, the *frontier*, separates
what is done from what is not, and each frontier value v holds cotangents, tensors (n, k, *v) of
"the derivative in v of something":

    loss            of ℓ                                      k = 1         δ
    site delta m    of δ at a site m already passed           k = |z_m|     S
    site input m    of the input of a site m already passed   k = |x_m|     D

and every two frontier values u, v their Hessian ∂²ℓ/∂u∂v. Taking a node y = g(x₁, …, x_r) off the
frontier applies Jᵀ, its pull-back (vjp), to all its cotangents, Jᵀ S J to its Hessian, and adds the
node's own second derivative, δ·∂²g: the chain rule for Hessians, on a graph. On a chain of dense
layers this is the recursion S_lm = f' ∘ Wᵀ S_{l+1,m}; on any other graph it is its generalisation.
(Gower and Mello 2012, "A new framework for the computation of Hessians", carry second derivatives
down a graph in the same way, entry by entry, for one function; here they are blocks, for many
samples at once.)

Where positions do not meet above some value, the sweep down to it takes them for samples
(`independent_positions`). Two shortcuts keep the rows few. Where one value alone separates what is
above from a costly operation below, its identity is carried on in place of its cotangents, which
are multiplied by it on arrival (`Frontier.collapse`). And the lowest site, below which nothing is
needed, is reached through the smallest value on the way to it (`Bottleneck`); all sites, where
nothing but linear operations lies below a value (`strait`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hesse.exact.propagation.frontier import BOTTLENECK, DELTA, Frontier, Key, Role, SetAside
from hesse.exact.propagation.independent_positions import (
    IndependentPositions,
    find_independent_positions,
)
from hesse.exact.propagation.placement import placements
from hesse.exact.propagation.pullback import Pullback, is_costly
from hesse.exact.propagation.strait import find_strait
from hesse.graph.graph import Graph, Node
from hesse.graph.sites import Site
from hesse.graph.structures import Cotangents, LowRank, ValueHessian, as_tensor, identity
from hesse.operations.record import Structure
from hesse.operations.registry import record_of


@dataclass(frozen=True)
class Bottleneck:
    """A value v that everything passes through on its way to the lowest site, with fewer entries
    than that site.

    Attributes:
        hessian: of v, (n, |v|, |v|); ``None`` where zero.
        jacobian: ∂v/∂z as cotangents (n, |v|, *z).
    """

    hessian: Tensor | None
    jacobian: Tensor


@dataclass(frozen=True)
class Above:
    """What a site below the cut is told of the sites above it, whose samples are positions; see
    `independent_positions`.

    Attributes:
        jacobian: ∂cut/∂z as cotangents by position, (n, t, c, *z).
        hessians: by site m above the cut, ∂δ_m/∂cut, (n t, |z_m|, *cut), to be multiplied by
            ``jacobian``; absent where zero.
        jacobians: by site m above the cut, ∂x_m/∂cut, likewise.
    """

    jacobian: Tensor
    hessians: dict[str, Cotangents]
    jacobians: dict[str, Cotangents]


@dataclass(frozen=True)
class Arrival:
    """What is known when the sweep arrives at a site l.

    Attributes:
        site: the site l.
        delta: δ_l, (n, *z); nan where no operation from there on bends.
        hessian: S_ll, (n, |z|, *z) or its structure; ``None`` where it is zero.
        input: the value of the site's input, (n, *x); ``None`` where it has none.
        hessians: by later site m, S_ml as cotangents (n, |z_m|, *z_l); absent where zero.
        jacobians: by later site m, D = ∂x_m/∂z_l as cotangents (n, |x_m|, *z_l); absent where zero.
        bottleneck: set at the lowest site where everything passes through one smaller value v. Then
            ``hessian`` is only what is added below v, and the cotangents are (n, k, |v|), to be
            multiplied by ``bottleneck.jacobian``.
        above: set where the sites above a cut come by position.
        positions: how many positions of every sample stand as samples of their own.
    """

    site: Site
    delta: Tensor
    hessian: ValueHessian | None
    input: Tensor | None
    hessians: dict[str, Cotangents]
    jacobians: dict[str, Cotangents]
    bottleneck: Bottleneck | None
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
        linearized: the values whose operations count as linear, so that their own second
            derivatives, and the product-rule terms of the sites among them, are left out.
        only_diagonal: where nothing but the diagonal of a Hessian will be used, carry only that.
        split: whether positions may be taken for samples where they do not meet.
        keeps_delta: whether δ is wanted at every site, also where nothing below bends.
    """

    def __init__(
        self,
        graph: Graph,
        sites: tuple[Site, ...],
        partners: dict[str, set[str]],
        linearized: frozenset[str] = frozenset(),
        only_diagonal: bool = False,
        split: bool = True,
        keeps_delta: bool = False,
    ) -> None:
        self._graph, self._partners, self._linearized = graph, partners, linearized
        self._sites = {site.value: site for site in sites}
        self._active = active_values(graph, sites)
        # δ is for second derivatives of operations, and for D, which linearized sites have not.
        bending = (
            place
            for name, place in graph.place.items()
            if keeps_delta or (name in self._active and name not in linearized)
        )
        self._last_delta = min(bending, default=len(graph.nodes))
        self.positions = (
            find_independent_positions(graph, self._sites, self._active)
            if sites and split
            else None
        )
        self._needs_above: dict[str, set[str]] = {}
        if self.positions is not None:
            self._split(self.positions)
        # Where the last site lies that needs S and D of m: below it they are forgotten.
        self._last_use = {
            m: min(graph.place[site] for site, needed in self._partners.items() if m in needed)
            for m in {m for needed in self._partners.values() for m in needed}
        }

        self._only_diagonal = only_diagonal
        self._costly_cuts = self._before_costly_operations() if sites else frozenset()
        self._diagonal_only = self._diagonal_suffices() if only_diagonal and sites else frozenset()
        # Nothing else than the Hessian of each site with itself is carried past it.
        alone = sites and self.positions is None and not any(self._partners.values())
        has_positions = any(not site.arrange.is_vector for site in sites)
        # Of vectors it is carried down by its factors, and its diagonal taken where that is enough.
        alone = alone and (has_positions or not only_diagonal)
        self._strait = find_strait(graph, self._sites, self._active, linearized) if alone else None
        if self._strait in self._diagonal_only:
            self._strait = None
        self._bottleneck = self._strait or (
            self._smallest_on_the_way()
            if sites and not only_diagonal and self.positions is None
            else None
        )
        cut = None if self.positions is None else self.positions.cut
        apart = {*self._sites, *self._costly_cuts, *filter(None, (cut, self._bottleneck))}
        self._placements = placements(graph, self._active, apart)
        # Sites with positions are contracted through the few entries that a Hessian comes from.
        self._low_rank = has_positions or only_diagonal

    def _split(self, positions: IndependentPositions) -> None:
        """Leave the sites above the cut to a sweep of their own, which ends at the cut as at a site
        that needs them."""
        above = {site.value for site in positions.sites}
        self._sites = {value: site for value, site in self._sites.items() if value not in above}
        self._needs_above = {value: self._partners[value] & above for value in self._sites}
        needed = {value: self._partners[value] & above for value in above}
        needed[positions.cut] = set().union(*self._needs_above.values())
        self._partners = {value: self._partners[value] - above for value in self._sites}
        self._above = Sweep(
            positions.graph,
            (*positions.sites, positions.end),
            needed,
            self._linearized,
            split=False,
            keeps_delta=self._last_delta <= self._graph.place[positions.cut],
        )

    def _before_costly_operations(self) -> frozenset[str]:
        """The values that alone separate what is above from a costly operation below: where
        cotangents are worth collapsing.

        `crossing` holds the values that a cut just below the node would go through; where that is
        one value, everything above reaches what is below through it.
        """
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

    def entries(self, site: Site) -> int:
        """How many numbers are carried to a site for its own S, for each sample."""
        place, size = self._graph.place, site.size
        if self._strait is not None and place[site.value] < place[self._strait]:
            return min(size, self._graph.node[self._strait].size) * size
        if self.positions is not None and site.value not in self._sites:
            return size * size // self.positions.count
        return size * size

    def _smallest_on_the_way(self) -> str | None:
        """The smallest value, smaller than the lowest site's, that alone separates that site from
        all others and the loss.

        A site without positions has none: its S is contracted in symmetric halves, which is less
        work than through any such value.
        """
        graph = self._graph
        lowest = min(self._sites, key=lambda name: graph.place[name])
        if self._sites[lowest].arrange.is_vector:
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
        """The values from the lowest site, where it has no positions, up to the first operation
        that mixes entries."""
        graph = self._graph
        value = min(self._sites, key=lambda name: graph.place[name])
        chain: set[str] = set()
        if not self._sites[value].arrange.is_vector or any(self._partners[value]):
            return frozenset()
        while True:
            chain.add(value)
            users = [node for node in graph.nodes if value in node.inputs]
            if (
                len(users) != 1
                or users[0].name in self._sites
                or not record_of(users[0]).is_elementwise(users[0], (value,), graph.shapes)
            ):
                return frozenset(chain)
            if [name for name in users[0].inputs if name in self._active] != [value]:
                # Another way up ends here, which needs more than the diagonal.
                return frozenset(chain)
            value = users[0].name

    def arrivals(
        self,
        values: dict[str, Any],
        batched: set[str],
        scale: float,
        passed: Callable[[str], None] = lambda value: None,
    ) -> Iterator[Arrival]:
        """Go down from the loss and stop at every site.

        Args:
            values: every value, with a leading sample axis where batched.
            batched: names of the values with a sample axis.
            scale: what the sum over samples is multiplied by: δ of the loss itself.
            passed: is told each value that was taken off the frontier, for the plan.
        """
        graph, frontier = self._graph, Frontier(self._graph, values, self._placements)
        if graph.output not in self._active:
            return
        start, at_cut = graph.output, None
        if self.positions is None:
            frontier.reach(start)
            if graph.place[start] >= self._last_delta:
                frontier.add(start, DELTA, torch.full_like(values[start], scale).unsqueeze(1))
        else:
            start = self.positions.cut
            by_position = self.positions.values(values)
            for arrival in self._above.arrivals(by_position, batched, scale, passed):
                if arrival.site.value == start:
                    at_cut = arrival
                else:
                    yield replace(arrival, positions=self.positions.count)
            # No arrival at the cut: the loss does not depend on it, and so on nothing below.
            if at_cut is None:
                return
            frontier.reach(start)
            if graph.place[start] >= self._last_delta:
                frontier.add(start, DELTA, self.positions.joined(at_cut.delta).unsqueeze(1))
            if at_cut.hessian is not None:
                frontier.hessians[start] = self.positions.hessian(at_cut.hessian)
            if at_cut.hessians or at_cut.jacobians:
                frontier.add(start, BOTTLENECK, identity(values[start]))
        lowest = min(graph.place[value] for value in self._sites)
        aside: SetAside | None = None
        for place in range(graph.place[start], lowest - 1, -1):
            node = graph.nodes[place]
            if not frontier.has(node.name):
                continue
            site = self._sites.get(node.name)
            if site is not None:
                yield self._arrive(site, frontier, values, batched, aside, at_cut)
            frontier.retire({m for m, last in self._last_use.items() if last >= place})
            active = tuple(name for name in node.inputs if name in self._active)
            if node.name in self._costly_cuts:
                frontier.collapse(node.name)
            if node.name == self._bottleneck:
                aside = frontier.begin_bottleneck(node.name)
            begins = site is not None and self._last_use.get(node.name, place) < place
            # Before the node is taken: its pairs with other frontier values are still known.
            if begins:
                frontier.begin_site(node.name)
            diagonal_only = len(active) == 1 and active[0] in self._diagonal_only
            linearized = node.name in self._linearized
            op = (
                Pullback(node, active, values, batched, self._low_rank, linearized)
                if active
                else None
            )
            frontier.take(node.name, op, begins, diagonal_only, place > self._last_delta)
            # D is of the input before the parameter enters, so it starts below the node; shifts
            # have no input, and a linearized site no product-rule term.
            if (
                begins
                and not linearized
                and site is not None
                and site.input is not None
                and site.input in active
                and any(use.features for use in site.uses)
            ):
                key = Key(Role.SITE_INPUT, node.name)
                frontier.add(site.input, key, identity(values[site.input]))
            passed(node.name)

    def _arrive(
        self,
        site: Site,
        frontier: Frontier,
        values: dict[str, Any],
        batched: set[str],
        aside: SetAside | None,
        at_cut: Arrival | None,
    ) -> Arrival:
        wanted, bottleneck, above = self._partners[site.value], None, None
        held: dict[Key, Cotangents] = {}
        hessian = frontier.hessians.get(site.value)
        if aside is None:
            held |= frontier.expanded(site.value, wanted)
        else:
            held |= aside.cotangents
            jacobian = as_tensor(frontier.cotangents(site.value)[BOTTLENECK])
            if self._strait is None:
                bottleneck = Bottleneck(aside.hessian, jacobian)
            elif aside.hessian is not None:
                hessian = LowRank(jacobian, aside.hessian)
        if self._only_diagonal and isinstance(hessian, LowRank) and _meets_itself_alone(site):
            hessian = hessian.diagonal()
        if at_cut is not None and self.positions is not None and BOTTLENECK in held:
            needed = self._needs_above[site.value]
            above = Above(
                self.positions.by_position(as_tensor(held[BOTTLENECK])),
                {m: part for m, part in at_cut.hessians.items() if m in needed},
                {m: part for m, part in at_cut.jacobians.items() if m in needed},
            )
        x = None if site.input is None else values[site.input]
        if x is not None and site.input not in batched:
            x = x.expand(len(values[site.value]), *x.shape)
        return Arrival(
            site,
            frontier.delta(site.value),
            hessian,
            x,
            _of_role(Role.SITE_DELTA, held, wanted),
            _of_role(Role.SITE_INPUT, held, wanted),
            bottleneck,
            above,
        )


def _meets_itself_alone(site: Site) -> bool:
    """Whether the diagonal of a parameter that enters at a site is made of that of its S: it has no
    positions, and no parameter enters twice."""
    names = [use.parameter for use in site.uses]
    return site.arrange.is_vector and len(set(names)) == len(names)


def _of_role(role: Role, held: dict[Key, Cotangents], wanted: set[str]) -> dict[str, Cotangents]:
    return {
        key.value: part for key, part in held.items() if key.role is role and key.value in wanted
    }
