"""The values of a program that is linear in v, for several v at once: every one that moves with v
has them along a first axis."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import fx

from hesse.capture.recording import called
from hesse.capture.simplification.graph import form
from hesse.capture.simplification.sums import FUSED

aten = torch.ops.aten


def is_moving(value: Any) -> bool:
    """Whether a value of the program moves with v."""
    return isinstance(value, fx.Node) and bool(value.meta.get("moves"))


@final
class SeveralValues:
    """A graph that grows beside that of a program, and what stands in it for each value.

    Args:
        program: with ``meta``: ``moves`` and ``val`` for each node.
        units: whether its v is a unit vector always; the places of the ones are given after it.

    Attributes:
        graph: the graph, with all placeholders.
        known: what stands for each value of the program.
        fresh: what has memory of its own.
        sizes: of values; -1 for what grows with the number of v.
        count: the number of v.
    """

    def __init__(self, program: fx.Graph, units: bool) -> None:
        self.graph, self.known = fx.Graph(), dict[fx.Node, fx.Node]()
        self.fresh, self.sizes = set[fx.Node](), dict[fx.Node, tuple[Any, ...]]()
        # Those that are a unit matrix, and whether transposed; and where the ones are, by the width
        # of the matrix.
        self._units = dict[Any, bool]()
        self._places = dict[int, tuple[fx.Node, fx.Node]]()
        places = program.find_nodes(op="placeholder")
        for node in places:
            self.known[node] = self.graph.node_copy(node)
        (tangents, *_) = (node for node in reversed(places) if is_moving(node))
        # v itself, where it is a unit vector always, and the places of the ones in it.
        self.unit, self.ones = (tangents if units else None), None
        if units:
            self.ones = self.graph.placeholder("ones")
            if len(self.shape(tangents)) == 2:
                self._units[tangents] = False
        self.count = self.call(aten.sym_size.int, self.known[tangents], 0)

    def note_unit(self, node: fx.Node) -> None:
        """The transpose of a unit matrix is one."""
        if node.target is aten.t.default and node.args[0] in self._units:
            self._units[node] = not self._units[node.args[0]]

    def shape(self, node: fx.Node) -> list[int]:
        """Of a value for one v."""
        return list(form(node)[0])

    def call(self, target: Any, *args: Any, **options: Any) -> fx.Node:
        return called(self.graph, target, args, options)

    def new(self, size: Sequence[int], target: Any, *args: Any, **options: Any) -> fx.Node:
        """An operation whose result is memory of its own, of a size; -1 for what grows with the
        number of v."""
        node = self.call(target, *args, **options)
        self.fresh.add(node)
        self.sizes[node] = tuple(size)
        return node

    def product(self, size: Sequence[int], kind: Any, pair: Any, total: fx.Node | None) -> fx.Node:
        """A product of matrices, `mm` or `bmm`; added to a total, where there is one."""
        if total is None:
            return self.new(size, kind, *pair)
        return self.new(size, FUSED[kind], total, *pair)

    def stacked(self, node: Any, shape: Sequence[int] | None = None) -> fx.Node:
        """A value with the axis of v, of this shape for each."""
        shape = self.shape(node) if shape is None else list(shape)
        if is_moving(node) and shape == self.shape(node):
            return self.known[node]
        return self.call(aten.expand.default, self.aligned(node, len(shape)), [self.count, *shape])

    def aligned(self, node: Any, rank: int) -> Any:
        """A value whose axes stand where they do for one v of so many axes."""
        if not is_moving(node) or len(self.shape(node)) == rank:
            return self.known[node] if isinstance(node, fx.Node) else node
        ones = [1] * (rank - len(self.shape(node)))
        sizes = [self.count, *ones, *self.shape(node)]
        return self.call(aten.reshape.default, self.known[node], sizes)

    def folded(self, node: Any, like: Sequence[int] | None = None) -> fx.Node:
        """A value with the axis of v in the first of its own."""
        shape = self.shape(node) if like is None else list(like)
        folded = self.call(aten.reshape.default, self.stacked(node, shape), [-1, *shape[1:]])
        self.sizes[folded] = (-1, *shape[1:])
        return folded

    def unfolded(self, value: fx.Node, node: fx.Node) -> fx.Node:
        return self.call(aten.reshape.default, value, [self.count, *self.shape(node)])

    def ones_in(self, node: Any) -> tuple[fx.Node, fx.Node] | None:
        """Row and column of the ones in a matrix that is a unit vector, or its transpose; ``None``
        for another."""
        if node not in self._units:
            return None
        rows, columns = self.shape(node)
        width = rows if self._units[node] else columns
        if width not in self._places:
            row = self.call(torch.floor_divide, self.ones, width)
            self._places[width] = row, self.call(torch.remainder, self.ones, width)
        row, column = self._places[width]
        return (column, row) if self._units[node] else (row, column)
