"""Recurrent layers, brought to the dense layers of their steps: their fused kernels have no second
derivatives, and a weight enters through every step.

They are unrolled in the graph rather than while it is traced, for PyTorch traces an operation a
hundred times as long as it takes to write one down.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, final

import torch
from torch.utils import _pytree as pytree

from hesse.graph.graph import Node, Pick, Ref
from hesse.operations.record import Operation

aten = torch.ops.aten

Shape = tuple[int, ...]


@final
class _Writer:
    """Nodes that are written down one after another.

    Args:
        name: what their names begin with.
        shapes: of all values of the graph; those of the nodes are added.
    """

    def __init__(self, name: str, shapes: dict[str, Shape]) -> None:
        self.nodes = list[Node]()
        self._name, self._shapes = name, shapes

    def shape(self, value: Ref) -> Shape:
        return self._shapes[value.name]

    def call(self, op: Callable[..., Any], shape: Sequence[int], *args: Any) -> Ref:
        """An operation."""
        node = Node(f"{self._name}__{len(self.nodes)}", op, args, {}, tuple(shape))
        self.nodes.append(node)
        self._shapes[node.name] = node.shape
        return Ref(node.name)

    def entrywise(self, op: Callable[..., Any], *args: Ref) -> Ref:
        """One of values that the first has the shape of."""
        return self.call(op, self.shape(args[0]), *args)

    def linear(self, x: Ref, weight: Ref, *bias: Ref) -> Ref:
        shape = (*self.shape(x)[:-1], self.shape(weight)[0])
        return self.call(aten.linear.default, shape, x, weight, *bias)

    def each(self, x: Ref) -> list[Ref]:
        """The values along the first axis."""
        count, *rest = self.shape(x)
        return [self.call(Pick(aten.unbind.int, place), rest, x) for place in range(count)]

    def pieces(self, x: Ref, count: int) -> list[Ref]:
        """As many, alike, along the last axis."""
        *lead, width = self.shape(x)
        given = x, count, len(lead)
        shape = (*lead, width // count)
        return [self.call(Pick(aten.chunk.default, at), shape, *given) for at in range(count)]

    def turned(self, x: Ref) -> Ref:
        """Samples and steps change places."""
        first, second, *rest = self.shape(x)
        return self.call(aten.transpose.int, (second, first, *rest), x, 0, 1)

    def joined(self, parts: Sequence[Ref], *axis: int) -> Ref:
        """All of them along an axis, by default the first."""
        along, shape = axis[0] if axis else 0, list(self.shape(parts[0]))
        shape[along] = sum(self.shape(part)[along] for part in parts)
        return self.call(aten.cat.default, shape, list(parts), *axis)


# What a step makes of its input's part of the gates and of the state (h, or h and c).
Step = Callable[[_Writer, Ref, Sequence[Ref], Callable[[Ref], Ref]], list[Ref]]


def _rnn(function: Callable[..., Any]) -> Step:
    """h = f(W x + U h)."""

    def step(
        write: _Writer, gates: Ref, state: Sequence[Ref], of_hidden: Callable[[Ref], Ref]
    ) -> list[Ref]:
        total = write.entrywise(aten.add.Tensor, of_hidden(state[0]), gates)
        return [write.entrywise(function, total)]

    return step


def _gru(
    write: _Writer, gates: Ref, state: Sequence[Ref], of_hidden: Callable[[Ref], Ref]
) -> list[Ref]:
    """r = σ(W x + U h), z = σ(W' x + U' h), n = tanh(W″ x + r ⊙ U″ h), h = n + z ⊙ (h − n)."""
    (hidden,), of = state, write.entrywise
    r, z, n = write.pieces(gates, 3)
    u, v, w = write.pieces(of_hidden(hidden), 3)
    reset = of(aten.sigmoid.default, of(aten.add.Tensor, u, r))
    keep = of(aten.sigmoid.default, of(aten.add.Tensor, v, z))
    # Of the state's shape, which has an axis more than the input's part.
    inner = write.call(aten.add.Tensor, write.shape(w), n, of(aten.mul.Tensor, w, reset))
    new = of(aten.tanh.default, inner)
    kept = of(aten.mul.Tensor, of(aten.sub.Tensor, hidden, new), keep)
    return [of(aten.add.Tensor, kept, new)]


def _lstm(
    write: _Writer, gates: Ref, state: Sequence[Ref], of_hidden: Callable[[Ref], Ref]
) -> list[Ref]:
    """(i, f, g, o) = W x + U h, c = σ(f) ⊙ c + σ(i) ⊙ tanh(g), h = σ(o) ⊙ tanh(c)."""
    (hidden, memory), of = state, write.entrywise
    i, f, g, o = write.pieces(of(aten.add.Tensor, of_hidden(hidden), gates), 4)
    enter, keep = (of(aten.sigmoid.default, gate) for gate in (i, f))
    new, out = of(aten.tanh.default, g), of(aten.sigmoid.default, o)
    kept, entered = of(aten.mul.Tensor, keep, memory), of(aten.mul.Tensor, enter, new)
    memory = of(aten.add.Tensor, kept, entered)
    return [of(aten.mul.Tensor, out, of(aten.tanh.default, memory)), memory]


def _unrolled(step: Step, node: Node, shapes: dict[str, Shape]) -> list[Node]:
    """One of the results of a layer: what comes out at all steps, or a last state of all layers and
    directions."""
    x, hidden, weights, biased, layers, dropout, training, both_ways, samples_first = node.args
    if (dropout and training) or not isinstance(node.op, Pick):
        return [node]
    # All results have the same steps: their names say of which arguments, a value by its place.
    known = list(shapes)
    leaves = pytree.tree_leaves(node.args, is_leaf=lambda leaf: isinstance(leaf, Ref))
    given = (known.index(leaf.name) if isinstance(leaf, Ref) else int(leaf) for leaf in leaves)
    write = _Writer("_".join(map(str, (node.kind.__name__, *given))), shapes)
    both = hidden if isinstance(hidden, list) else [hidden]
    states = list(zip(*map(write.each, both), strict=True))
    x = write.turned(x) if samples_first else x
    directions = 2 if both_ways else 1
    each = len(weights) // (layers * directions)
    last = []
    for layer in range(layers):
        ways = []
        for place in range(layer * directions, (layer + 1) * directions):
            of_layer = weights[each * place : each * (place + 1)]
            outputs, state = _direction(
                write, step, x, states[place], of_layer, biased, backward=len(ways) == 1
            )
            ways.append(write.joined(outputs))
            last.append(state)
        x = write.joined(ways, 2) if both_ways else ways[0]
    x = write.turned(x) if samples_first else x
    *_, out = (other for other in write.nodes if other.name == x.name)
    before = set(known)
    steps = [other for other in write.nodes if other.name not in before]
    if not node.op.index:
        return [*steps, Node(node.name, out.op, out.args, {}, node.shape)]
    own = _Writer(node.name, shapes)
    parts = [state[node.op.index - 1] for state in last]
    parts = [own.call(aten.squeeze.dim, own.shape(part)[1:], part, 0) for part in parts]
    stacked = Node(node.name, aten.stack.default, (parts,), {}, node.shape)
    return [*steps, *own.nodes, stacked]


def _direction(
    write: _Writer,
    step: Step,
    x: Ref,
    state: Sequence[Ref],
    weights: Sequence[Ref],
    biased: bool,
    backward: bool,
) -> tuple[list[Ref], Sequence[Ref]]:
    """What comes out of a layer step by step, in the order of the input, and its last state."""
    of_input, of_hidden, *more = weights
    biases, projection = (more[:2], more[2:]) if biased else ([], more)
    gates = write.linear(x, of_input, *biases[:1])
    gates = write.call(aten.flip.default, write.shape(gates), gates, [0]) if backward else gates
    state = [write.call(aten.unsqueeze.default, (1, *write.shape(part)), part, 0) for part in state]

    def gates_of_hidden(hidden: Ref) -> Ref:
        return write.linear(hidden, of_hidden, *biases[1:])

    outputs = []
    for part in write.each(gates):
        hidden, *memory = step(write, part, state, gates_of_hidden)
        hidden = write.linear(hidden, *projection) if projection else hidden
        state = [hidden, *memory]
        outputs.append(hidden)
    return outputs[::-1] if backward else outputs, state


RECORDS = [
    Operation(name="lstm", aten="lstm", rewrite=partial(_unrolled, _lstm)),
    Operation(name="gru", aten="gru", rewrite=partial(_unrolled, _gru)),
    *(
        Operation(name=name, aten=name, rewrite=partial(_unrolled, _rnn(function)))
        for name, function in (("rnn_tanh", aten.tanh.default), ("rnn_relu", aten.relu.default))
    ),
]
