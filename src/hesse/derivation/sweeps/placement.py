"""Where the nodes of a graph stand in its picture: in layers from top to bottom, few edges crossed
and all of them short (Sugiyama, Tagawa and Toda 1981)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

# So often are the layers gone through, down and up again.
_ROUNDS = 24
# An edge from what is given pulls less: the line from the data to the cost is to be straight.
_OF_A_LEAF = 0.25

Point = tuple[float, float]


@dataclass(frozen=True)
class Placement:
    """Centres of nodes, and the points that edges go through.

    Attributes:
        width, height: of all of it.
        nodes: the centre of each.
        edges: of each pair of nodes the points from the lower end of the first to the upper end of
            the second.
    """

    width: float
    height: float
    nodes: Mapping[str, Point]
    edges: Mapping[tuple[str, str], tuple[Point, ...]]


def placement(
    inputs: Mapping[str, Sequence[str]],
    sizes: Mapping[str, tuple[float, float]],
    across: float = 24.0,
    down: float = 44.0,
) -> Placement:
    """Place a graph without circles.

    Args:
        inputs: for each node those that go into it, all of them keys as well, in an order in which
            they can be computed.
        sizes: width and height of each node.
        across, down: the least distance between two nodes of a layer, and between two layers.

    Examples:
        >>> found = placement({"x": (), "y": ("x",)}, {"x": (40, 20), "y": (60, 20)})
        >>> found.nodes["x"], found.nodes["y"]
        ((30.0, 10.0), (30.0, 74.0))
    """
    return _Layers(inputs, sizes, across).placement(down)


class _Layers:
    """The layers of a graph. An edge over several layers has a stop in each of those between: a
    node of no width, named by the edge and its layer."""

    def __init__(
        self,
        inputs: Mapping[str, Sequence[str]],
        sizes: Mapping[str, tuple[float, float]],
        across: float,
    ) -> None:
        self.sizes, self.across = sizes, across
        layer = _layers(inputs)
        self.rows: list[list[object]] = [[] for _ in range(max(layer.values()) + 1)]
        for name in inputs:
            self.rows[layer[name]].append(name)
        # For each node its neighbours above and below, with how much they pull.
        self.above: dict[object, list[tuple[object, float]]] = {name: [] for name in inputs}
        self.below: dict[object, list[tuple[object, float]]] = {name: [] for name in inputs}
        self.ways: dict[tuple[str, str], list[object]] = {}
        for name, sources in inputs.items():
            for source in sources:
                stops = [(source, name, k) for k in range(layer[source] + 1, layer[name])]
                way: list[object] = [source, *stops, name]
                self.ways[source, name] = way
                for stop in stops:
                    self.rows[stop[2]].append(stop)
                pull = 1.0 if inputs[source] else _OF_A_LEAF
                for upper, lower in pairwise(way):
                    self.below.setdefault(upper, []).append((lower, pull))
                    self.above.setdefault(lower, []).append((upper, pull))

    def placement(self, down: float) -> Placement:
        self._order()
        x = self._across()
        heights = [max(self._height(node) for node in row) for row in self.rows]
        tops = [0.0]
        for height in heights:
            tops.append(tops[-1] + height + down)
        nodes = {
            str(node): (x[node], tops[k] + heights[k] / 2)
            for k, row in enumerate(self.rows)
            for node in row
            if node in self.sizes
        }
        row_of = {node: k for k, row in enumerate(self.rows) for node in row}

        def through(node: object) -> tuple[Point, Point]:
            """Where a line enters and leaves the layer of a node: it bends between layers only, so
            that it goes through no other node."""
            k = row_of[node]
            return (x[node], tops[k]), (x[node], tops[k] + heights[k])

        edges = {}
        for (source, name), (_, *stops, _) in self.ways.items():
            half, other = self._height(source) / 2, self._height(name) / 2
            edges[source, name] = (
                (x[source], nodes[source][1] + half),
                through(source)[1],
                *(point for stop in stops for point in through(stop)),
                through(name)[0],
                (x[name], nodes[name][1] - other),
            )
        width = max(x[node] + self._width(node) / 2 for node in x)
        return Placement(width, tops[-1] - down, nodes, edges)

    def _order(self) -> None:
        """Order each layer by where its neighbours stand, so that few edges cross."""
        for k in range(_ROUNDS):
            downwards = k % 2 == 0
            neighbours = self.above if downwards else self.below
            for row in self.rows if downwards else self.rows[::-1]:
                place = {node: i for r in self.rows for i, node in enumerate(r)}
                means = {node: _mean(neighbours.get(node, ()), place, place[node]) for node in row}
                row.sort(key=means.__getitem__)

    def _across(self) -> dict[object, float]:
        """Centres that leave room between nodes of a layer and are near those of their
        neighbours."""
        x: dict[object, float] = {}
        for row in self.rows:
            x |= dict(zip(row, self._offsets(row), strict=True))
        for k in range(_ROUNDS):
            for row in self.rows if k % 2 == 0 else self.rows[::-1]:
                wanted = [
                    _mean([*self.above.get(node, ()), *self.below.get(node, ())], x, x[node])
                    for node in row
                ]
                # With the room that they need taken off, centres only have to be in order.
                offsets = self._offsets(row)
                found = isotonic_regression(np.array(wanted) - offsets).x + offsets
                x |= dict(zip(row, map(float, found), strict=True))
        left = min(x[node] - self._width(node) / 2 for node in x)
        return {node: place - left for node, place in x.items()}

    def _offsets(self, row: Sequence[object]) -> np.ndarray:
        """Centres of a row that is as tight as it may be."""
        gaps = [(self._width(a) + self._width(b)) / 2 + self.across for a, b in pairwise(row)]
        return np.cumsum([0.0, *gaps])

    def _width(self, node: object) -> float:
        return self.sizes[node][0] if isinstance(node, str) else 0.0

    def _height(self, node: object) -> float:
        return self.sizes[node][1] if isinstance(node, str) else 0.0


def _layers(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The layer of each node: what is given stands right above what it goes into."""
    layer: dict[str, int] = {}
    for name, sources in inputs.items():
        layer[name] = max((layer[source] + 1 for source in sources), default=0)
    for name, sources in inputs.items():
        users = [layer[user] for user, used in inputs.items() if name in used]
        if users and not sources:
            layer[name] = min(users) - 1
    return layer


def _mean(
    neighbours: Sequence[tuple[object, float]], place: Mapping[object, float], own: float
) -> float:
    weight = sum(pull for _, pull in neighbours)
    return sum(place[node] * pull for node, pull in neighbours) / weight if weight else own
