"""Independent positions: above some value the positions of a sample often never meet again, as
tokens above the last attention.

There each position is a sample of its own: S and D are blocks of one position, and a use that
shares its parameter over positions is a use on vectors with more samples.
`find_independent_positions` looks for the lowest such value, the *cut*, and makes the graph of one
position; the sweep goes with it down to the cut and goes on below it with whole samples.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hesse.capture.parameter_views import parameter_views
from hesse.exact.propagation.strait import cuts
from hesse.graph.graph import Graph
from hesse.graph.sites import AXES_IN_ORDER, Arrangement, Site, joined
from hesse.graph.structures import ValueHessian, as_tensor
from hesse.operations.record import SUMMED, Axes
from hesse.operations.registry import record_of


@dataclass(frozen=True)
class IndependentPositions:
    """The part of a graph above a cut, for one position.

    Attributes:
        cut: the value that it begins with.
        count: how many positions there are.
        axes: of each value with samples the axis of its positions, or `SUMMED`.
        graph: the cut and the operations above it, at the shapes of one position.
        sites: the sites above the cut, of one position.
        end: the cut as a site without uses, where the sweep of one position ends.
    """

    cut: str
    count: int
    axes: Axes
    graph: Graph
    sites: tuple[Site, ...]
    end: Site

    def values(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values with the positions as samples: (n, *shape) -> (n t, *shape of one
        position)."""
        return values | {name: self._split(values[name], axis) for name, axis in self.axes.items()}

    def _split(self, value: Tensor, axis: int) -> Tensor:
        if axis == SUMMED:
            return value.repeat_interleave(self.count)
        return value.movedim(1 + axis, 1).flatten(0, 1).unsqueeze(1 + axis)

    def joined(self, value: Tensor) -> Tensor:
        """A value of the cut for every position as one for every sample: (n t, *shape of one
        position) -> (n, *shape)."""
        axis = self.axes[self.cut]
        return value.squeeze(1 + axis).unflatten(0, (-1, self.count)).movedim(1, 1 + axis)

    def hessian(self, hessian: ValueHessian) -> Tensor:
        """The Hessian of the cut for every position, (n t, c, *one position), as one for every
        sample, (n, |cut|, *cut)."""
        blocks = as_tensor(hessian).flatten(2).unflatten(0, (-1, self.count))  # (n, t, c, c)
        n, t, c, _ = blocks.shape
        # Between different positions it is zero: one block for each on the diagonal of (t, t).
        full = blocks.new_zeros(n, t, c, t, c)
        full.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        axis, (*shape,) = self.axes[self.cut], self.graph.shapes[self.cut]
        rest = shape[:axis] + shape[axis + 1 :]
        width = len(rest)
        full = (
            full.reshape(n, t, *rest, t, *rest)
            .movedim(2 + width, 2 + width + axis)
            .movedim(1, 1 + axis)
        )
        return full.reshape(n, t * c, *shape[:axis], t, *shape[axis + 1 :])

    def by_position(self, rows: Tensor) -> Tensor:
        """Rows for every entry of the cut, (n, |cut|, ...) -> (n, t, c, ...)."""
        axis, (*shape,) = self.axes[self.cut], self.graph.shapes[self.cut]
        split = rows.unflatten(1, (*shape[:axis], self.count, *shape[axis + 1 :])).movedim(
            1 + axis, 1
        )
        return split.reshape(*split.shape[:2], -1, *rows.shape[2:])


def find_independent_positions(
    graph: Graph, sites: Mapping[str, Site], active: set[str]
) -> IndependentPositions | None:
    """The lowest value that alone separates what is above, where positions never meet, from a site
    at or below it."""
    batched = graph.downstream({*graph.data, *sites})
    for cut in cuts(graph, sites, active):
        above = [site for value, site in sites.items() if graph.place[value] > graph.place[cut]]
        # Nothing is gained where the sites above have no positions, nor where the cut's own rows,
        # which are carried on in place of theirs, are more.
        if all(site.arrange.is_vector for site in above) or graph.node[cut].size > sum(
            _rows(graph, site) for site in above
        ):
            continue
        for axis, count in enumerate(graph.node[cut].shape):
            axes = _axes(graph, cut, axis, active, batched) if count > 1 else None
            if axes is not None:
                positions = _of_one_position(graph, cut, count, axes, above)
                if positions is not None:
                    return positions
    return None


def _rows(graph: Graph, site: Site) -> int:
    """How many rows a site brings, of S and of D."""
    return graph.node[site.value].size + (
        0 if site.input is None else math.prod(graph.shapes[site.input])
    )


def _axes(graph: Graph, cut: str, axis: int, active: set[str], batched: set[str]) -> Axes | None:
    """The positions' axis of every value above the cut; ``None`` where they meet, or where nothing
    is known."""
    axes: Axes = {cut: axis}
    count = graph.node[cut].shape[axis]
    for node in graph.nodes[graph.place[cut] + 1 : graph.place[graph.output] + 1]:
        if node.name not in active:
            continue
        inputs = {name: axes[name] for name in node.inputs if name in axes and name in active}
        if not inputs or any(name in active and name not in inputs for name in node.inputs):
            return None
        follow = record_of(node).positions
        axes_of = follow(node, inputs, graph.shapes) if follow is not None else None
        others = {name for name in node.inputs if name in batched and name not in inputs}
        # What is the same for all samples must be the same for all positions.
        static = set(node.inputs) - batched
        if axes_of is None or not others <= axes_of.keys() or static & axes_of.keys():
            return None
        for name in (*others, node.name):
            shape = graph.shapes[name]
            along = axes_of[name]
            if along != SUMMED and (along >= len(shape) or shape[along] != count):
                return None
            # A value that two operations want on different axes.
            if axes.setdefault(name, along) != along:
                return None
    # Only where the loss is a sum over positions is each a sample with a loss of its own.
    return axes if axes.get(graph.output) == SUMMED else None


def _of_one_position(
    graph: Graph, cut: str, count: int, axes: Axes, above: list[Site]
) -> IndependentPositions | None:
    def shape_of_one(name: str) -> tuple[int, ...]:
        shape, axis = graph.shapes[name], axes[name]
        return shape if axis == SUMMED else (*shape[:axis], 1, *shape[axis + 1 :])

    shapes = graph.shapes | {name: shape_of_one(name) for name in axes}
    nodes = tuple(
        replace(node, shape=shapes[node.name]) for node in graph.nodes if node.name in axes
    )
    views, sites = parameter_views(graph), []
    for site in above:
        node = replace(graph.node[site.value], shape=shapes[site.value])
        recognise = record_of(node).site
        # The record is asked again, at the shapes of one position: its arrangement is another one.
        of_one = recognise(node, views, shapes) if recognise is not None else None
        if of_one is None:
            return None
        known = {(use.parameter, use.kind): use for use in of_one.uses}
        wanted = [(part.parameter, part.kind) for use in site.uses for part in use.members]
        if not known.keys() >= set(wanted):
            return None
        kept = replace(of_one, uses=tuple(known[part] for part in wanted))
        kept = joined(kept) if any(use.joined_from for use in site.uses) else kept
        if len(kept.uses) != len(site.uses):
            return None
        sites.append(kept)
    size = math.prod(shapes[cut])
    end = Site(cut, None, Arrangement((1, 1, size), AXES_IN_ORDER), ())
    whole = Graph(
        nodes,
        graph.parameters,
        graph.fixed,
        graph.constants,
        graph.data,
        graph.output,
        dict(shapes),
    )
    return IndependentPositions(cut, count, axes, whole, tuple(sites), end)
