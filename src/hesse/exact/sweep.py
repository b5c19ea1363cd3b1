"""The sweep: one pass down the graph that carries every second-order signal of a chunk of samples.

The nodes are taken from the loss down. At every moment a set of values, the *frontier*, separates what is done
from what is not, and each frontier value v holds columns, tensors (n, k, *v) of "the derivative in v of something":

    delta           of ℓ                                         k = 1         δ
    (S, m)          of δ at a site m already passed               k = |z_m|     S
    (D, m)          of the input of a site m already passed       k = |x_m|     D

and every two frontier values u, v their curvature ∂²ℓ/∂u∂v. Taking a node y = g(x₁, …, x_r) off the frontier applies Jᵀ to all its columns at once and adds the node's own
second derivative, δ·∂²g, to the curvature of its inputs: the chain rule for Hessians, on a graph. On a chain of dense layers
this is the recursion S_lm = f' ∘ Wᵀ S_{l+1,m}; on any other graph it is its generalisation. (Gower and Mello 2012 carry
second derivatives down a graph in the same way, entry by entry, for one function; here blocks and many samples at once.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hesse.capture.graph import Graph
from hesse.capture.slots import Site
from hesse.exact.rules import Columns, Curvature, Diagonal, Operation, is_costly, is_elementwise, transposed

Key = tuple[str, str]
_DELTA: Key = ("delta", "")
_BASE: Key = ("base", "")
_CUT: Key = ("cut", "")


@dataclass(frozen=True)
class Narrow:
    """A value v that everything passes through on its way to the lowest site, with fewer entries than that site.

    Attributes:
        curvature: of v, (n, |v|, |v|); ``None`` where zero.
        base: ∂v/∂z as columns (n, |v|, *z).
    """

    curvature: Tensor | None
    base: Tensor


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
        narrow: set at the lowest site where all signals pass through one narrow value v. Then ``curvature`` is what is added below v
            alone, and the columns are (n, k, |v|), to be multiplied by ``narrow.base``.
    """

    site: Site
    delta: Tensor
    curvature: Curvature | None
    input: Tensor | None
    signals: dict[str, Columns]
    transports: dict[str, Columns]
    narrow: Narrow | None


class Evaluation:
    """Every value of the graph for a chunk of samples."""

    def __init__(self, graph: Graph, sites: tuple[Site, ...], fixed: dict[str, Tensor], parameters: dict[str, Tensor]) -> None:
        self._graph = graph
        static: dict[str, Any] = {value: parameters[name] for value, name in graph.parameters.items()}
        static |= {value: fixed[name] for value, name in graph.fixed.items()} | graph.constants
        # A site has signals of its own for every sample, also where its value is the same for all.
        self.batched = graph.downstream({*graph.data, *(site.value for site in sites)})
        self._spread = {site.value for site in sites if site.slots[0].kind == "leaf"}
        with torch.no_grad():
            for node in graph.nodes:
                if node.name not in self.batched or node.name in self._spread:
                    static[node.name] = node.evaluate(static)
        self._static = static

    def run(self, leaves: list[Any]) -> dict[str, Any]:
        """Values by name; those in ``batched`` have a leading sample axis.

        Args:
            leaves: the samples' tensors in the order of the graph's data values, (n, ...).
        """
        graph, n = self._graph, len(leaves[0])
        names = [node.name for node in graph.nodes if node.name in self.batched and node.name not in self._spread]

        def one(*sample: Any) -> dict[str, Any]:
            values = {**self._static, **dict(zip(graph.data, sample, strict=True))}
            for name in names:
                values[name] = graph.node[name].evaluate(values)
            return {name: values[name] for name in names}

        tensors = [leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        with torch.no_grad():
            made = vmap(one, in_dims=tuple(0 if isinstance(leaf, Tensor) else None for leaf in tensors))(*tensors)
        expanded = {name: self._static[name].expand(n, *self._static[name].shape) for name in self._spread}
        return {**self._static, **dict(zip(graph.data, tensors, strict=True)), **expanded, **made}


class Sweep:
    """One pass down the graph.

    Args:
        graph: the captured sample loss.
        sites: those whose parameters are wanted.
        partners: for each site, the sites passed before it whose S and D it needs.
        observe: called with the number of tensor entries alive at each node, for the plan.
        only_diagonal: where nothing but the diagonal of a curvature will be used, carry only that.
    """

    def __init__(
        self,
        graph: Graph,
        sites: tuple[Site, ...],
        partners: dict[str, set[str]],
        observe: Callable[[int], None] | None = None,
        only_diagonal: bool = False,
    ) -> None:
        self._graph, self._partners, self._observe = graph, partners, observe
        self._sites = {site.value: site for site in sites}
        self._active = graph.downstream(set(self._sites)) if sites else set()
        # Where the last site lies that needs the columns of m.
        self._last_use = {
            m: min(graph.place[site] for site, needed in partners.items() if m in needed)
            for m in {m for needed in partners.values() for m in needed}
        }

        self._costly_cuts = self._before_costly_operations() if sites else frozenset()
        self._narrow = self._narrowest() if sites and not only_diagonal else None
        self._thin = self._diagonal_suffices() if only_diagonal and sites else frozenset()

    def _before_costly_operations(self) -> frozenset[str]:
        """The values that alone separate what is above from a costly operation below: where columns are worth collapsing."""
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
        """The smallest value, smaller than the lowest site's, that alone separates that site from all others and the loss."""
        graph = self._graph
        lowest = min(self._sites, key=lambda name: graph.place[name])
        others = [graph.place[name] for name in self._sites if name != lowest]
        below = graph.downstream({lowest})
        best, least = None, graph.node[lowest].size
        for node in graph.nodes[graph.place[lowest] + 1 : min(others, default=graph.place[graph.output])]:
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
        """The values from the lowest site, where it is plain, up to the first operation that mixes entries."""
        graph = self._graph
        value = min(self._sites, key=lambda name: graph.place[name])
        thin: set[str] = set()
        if not self._sites[value].arrange.is_plain or any(self._partners[value]):
            return frozenset()
        while True:
            thin.add(value)
            users = [node for node in graph.nodes if value in node.inputs]
            if len(users) != 1 or users[0].name in self._sites or not is_elementwise(users[0], (value,), graph.shapes):
                return frozenset(thin)
            value = users[0].name

    def arrivals(self, values: dict[str, Any], batched: set[str], scale: float) -> Iterator[Arrival]:
        """Go down from the loss and stop at every site.

        Args:
            values: every value, with a leading sample axis where batched.
            batched: names of the values with a sample axis.
            scale: what the sum over samples is multiplied by: δ of the loss itself.
        """
        graph = self._graph
        if graph.output not in self._active:
            return
        frontier = _Frontier(graph, values)
        frontier.add(graph.output, _DELTA, torch.full_like(values[graph.output], scale).unsqueeze(1))
        lowest = min(graph.place[value] for value in self._sites)
        held: tuple[dict[Key, Tensor], Tensor | None] | None = None
        for place in range(graph.place[graph.output], lowest - 1, -1):
            node = graph.nodes[place]
            if not frontier.has(node.name):
                continue
            site = self._sites.get(node.name)
            if site is not None:
                yield self._arrive(site, frontier, values, batched, held)
            frontier.retire({m for m, last in self._last_use.items() if last >= place})
            active = tuple(name for name in node.inputs if name in self._active)
            if node.name in self._costly_cuts:
                frontier.collapse(node.name)
            if node.name == self._narrow:
                held = frontier.begin_narrow(node.name)
            begins = site is not None and self._last_use.get(node.name, place) < place
            if begins:
                frontier.begin_signals(node.name)
            thin = len(active) == 1 and active[0] in self._thin
            frontier.take(node.name, Operation(node, active, values, batched) if active else None, begins, thin)
            if begins and site is not None and site.input in active and any(slot.features for slot in site.slots):
                frontier.add(site.input, ("D", node.name), Diagonal(torch.ones_like(values[site.input])))
            if self._observe is not None:
                self._observe(frontier.entries())

    def _arrive(
        self,
        site: Site,
        frontier: "_Frontier",
        values: dict[str, Any],
        batched: set[str],
        held: tuple[dict[Key, Tensor], Tensor | None] | None,
    ) -> Arrival:
        wanted, narrow = self._partners[site.value], None
        columns = frontier.expanded(site.value, wanted) if held is None else frontier.columns(site.value)
        if held is not None:
            narrow = Narrow(held[1], _as_tensor(columns[_BASE]))
            columns = dict(held[0])
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
        )


class _Frontier:
    """The frontier: columns of each value, each value's own curvature, and that of pairs, kept at the later of the two."""

    def __init__(self, graph: Graph, values: dict[str, Any]) -> None:
        self._place, self._values = graph.place, values
        self._columns: dict[str, dict[Key, Columns]] = {}
        self.own: dict[str, Curvature] = {}
        # Columns collapsed onto a value passed before, (n, k, |value|), to be multiplied by that value's Jacobian, the columns _CUT.
        self._collapsed: dict[Key, Tensor] = {}
        self._cross: dict[str, dict[str, Tensor]] = {}  # later value -> {earlier value: (n, |earlier|, *later)}

    def has(self, value: str) -> bool:
        return value in self._columns

    def columns(self, value: str) -> dict[Key, Columns]:
        return self._columns[value]

    def delta(self, value: str) -> Tensor:
        return _as_tensor(self._columns[value][_DELTA]).squeeze(1)

    def entries(self) -> int:
        """How many numbers are held."""
        held = [part for columns in self._columns.values() for part in columns.values()] + list(self.own.values())
        crossed = [part.numel() for parts in self._cross.values() for part in parts.values()]
        return sum(_numel(part) for part in held) + sum(crossed) + sum(part.numel() for part in self._collapsed.values())

    def add(self, value: str, key: Key, columns: Columns) -> None:
        held = self._columns.setdefault(value, {})
        held[key] = _sum(held[key], columns) if key in held else columns

    def retire(self, sites: set[str]) -> None:
        """Forget the columns of sites that nothing below needs."""
        for held in self._columns.values():
            for key in [key for key in held if key[1] in sites]:
                del held[key]
        self._collapsed = {key: part for key, part in self._collapsed.items() if key[1] not in sites}

    def collapse(self, value: str) -> None:
        """Where a value that stands alone holds more columns than it has entries, carry its identity down instead of them."""
        columns = self._columns[value]
        size = self._values[value][0].numel()
        movable = {key: part for key, part in columns.items() if key[0] in "SD" and isinstance(part, Tensor)}
        count = sum(part.shape[1] for part in movable.values())
        if _CUT in columns:
            count += columns[_CUT].shape[1] if isinstance(columns[_CUT], Tensor) else 0
        if count < 2 * size:
            return
        if _CUT in columns:
            jacobian = _as_tensor(columns.pop(_CUT)).flatten(2)
            self._collapsed = {key: torch.bmm(part, jacobian) for key, part in self._collapsed.items()}
        for key, part in movable.items():
            del columns[key]
            self._collapsed[key] = self._collapsed[key] + part.flatten(2) if key in self._collapsed else part.flatten(2)
        columns[_CUT] = Diagonal(torch.ones_like(self._values[value]))

    def expanded(self, value: str, sites: set[str]) -> dict[Key, Columns]:
        """The columns of a value, those of these sites that were collapsed multiplied out."""
        columns = dict(self._columns[value])
        cut = columns.pop(_CUT, None)
        if cut is None:
            return columns
        jacobian = _as_tensor(cut).flatten(2)
        for key, part in self._collapsed.items():
            if key[1] in sites:
                made = torch.bmm(part, jacobian).reshape(*part.shape[:2], *self._shape(value))
                columns[key] = _sum(columns[key], made) if key in columns else made
        return columns

    def begin_narrow(self, value: str) -> tuple[dict[Key, Tensor], Tensor | None]:
        """Set aside a value's columns and curvature, each (n, k, |value|), and carry its own identity down instead."""
        columns, own = self.expanded(value, {site for _, site in self._collapsed}), self.own.pop(value, None)
        aside = {key: _as_tensor(part).flatten(2) for key, part in columns.items() if key != _DELTA}
        delta = columns[_DELTA]
        self._columns[value] = {_DELTA: delta, _BASE: Diagonal(torch.ones_like(self._values[value]))}
        return aside, None if own is None else _as_tensor(own).flatten(2)

    def begin_signals(self, site: str) -> None:
        """Start the S columns of a site at the other frontier values; `take` starts them at its inputs."""
        for other, cross in self._cross.get(site, {}).items():
            self.add(other, ("S", site), transposed(cross, self._shape(other)))

    def take(self, value: str, op: Operation | None, begins: bool, thin: bool) -> None:
        """Replace a value by its active inputs: Jᵀ on every column, Jᵀ S J on its curvature, and the operation's own ∂²."""
        held, own, crosses = self._columns.pop(value), self.own.pop(value, None), self._cross.pop(value, {})
        if op is None:
            return
        delta = _as_tensor(held[_DELTA]).squeeze(1)
        together: dict[Key, Columns] = {**held, **{("cross", other): cross for other, cross in crosses.items()}}
        for key, parts in _pull_all(op, together).items():
            for name, part in zip(op.active, parts, strict=True):
                if key[0] == "cross":
                    self._add_pair(name, key[1], _as_tensor(part))
                else:
                    self.add(name, key, part)
        if own is not None:
            halves, blocks = op.pull_curvature(own, halves=begins, thin=thin)
            self._add_blocks(op.active, blocks)
            for name, half in zip(op.active, halves, strict=False):
                self.add(name, ("S", value), half)
        self._add_blocks(op.active, op.curvature(delta))

    def _add_blocks(self, names: tuple[str, ...], blocks: list[list[Any]]) -> None:
        """Curvature of the inputs, block[i][j] being (n, |input i|, *input j) for i <= j."""
        for i, first in enumerate(names):
            for j, second in enumerate(names[i:], start=i):
                block = blocks[i][j]
                if block is None:
                    continue
                if i == j:
                    self.own[first] = _accumulated(self.own[first], block) if first in self.own else block
                else:
                    self._add_pair(second, first, _as_tensor(block))

    def _add_pair(self, value: str, other: str, columns: Tensor) -> None:
        """Add ∂²ℓ/∂value∂other, given as (n, |other|, *value); both orders of it where the two are the same value."""
        if value == other:
            both = columns + transposed(columns, self._shape(value))
            self.own[value] = _accumulated(self.own[value], both) if value in self.own else both
            return
        later, earlier = value, other
        if self._place[value] < self._place[other]:
            later, earlier, columns = other, value, transposed(columns, self._shape(other))
        held = self._cross.setdefault(later, {})
        held[earlier] = held[earlier] + columns if earlier in held else columns

    def _shape(self, value: str) -> tuple[int, ...]:
        return tuple(self._values[value].shape[1:])


def _as_tensor(columns: Curvature) -> Tensor:
    return columns if isinstance(columns, Tensor) else columns.dense()


def _numel(part: Curvature) -> int:
    if isinstance(part, Tensor):
        return part.numel()
    return part.values.numel() if isinstance(part, Diagonal) else 2 * part.factor.numel()


def _sum(first: Columns, second: Columns) -> Columns:
    if isinstance(first, Diagonal) and isinstance(second, Diagonal):
        return Diagonal(first.values + second.values)
    return _as_tensor(first) + _as_tensor(second)


def _accumulated(held: Curvature, more: Curvature) -> Curvature:
    """held + more; a diagonal goes into a dense tensor in place, for that tensor is the frontier's own."""
    if isinstance(held, Diagonal) and isinstance(more, Diagonal):
        return Diagonal(held.values + more.values)
    if isinstance(held, Diagonal):
        held, more = more, held
    total = _as_tensor(held)
    if not isinstance(more, Diagonal):
        return total + _as_tensor(more)
    n, total = len(total), total.contiguous()
    total.view(n, total.shape[1], -1).diagonal(dim1=1, dim2=2).add_(more.values.reshape(n, -1))
    return total


def _pull_all(op: Operation, held: dict[Key, Columns]) -> dict[Key, tuple[Columns, ...]]:
    """Jᵀ on every column set: diagonal ones by the rows of J, dense ones together where starting a pull is costly."""
    pulled: dict[Key, tuple[Columns, ...]] = {key: op.pull_diagonal(part) for key, part in held.items() if isinstance(part, Diagonal)}
    dense = {key: part for key, part in held.items() if isinstance(part, Tensor)}
    if op.is_light or len(dense) == 1:
        return pulled | {key: op.pull(part) for key, part in dense.items()}
    sizes = [part.shape[1] for part in dense.values()]
    split = [part.split(sizes, dim=1) for part in op.pull(torch.cat(list(dense.values()), dim=1))]
    return pulled | dict(zip(dense, zip(*split, strict=True), strict=True))
