"""From a captured cost to a program: one sample's loss, operation by operation."""

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice

import torch
from torch import Tensor

from hesse.capture import NotCaptured, capture, data_leaves, trace_whole
from hesse.cost import Cost
from hesse.data.batch import tensors_in
from hesse.derivation.calculus.expression import ZERO, Entry, of
from hesse.derivation.calculus.program import Leaf, Program, Quantity
from hesse.derivation.sources.networks.builder import Builder, Given, layer_of
from hesse.derivation.sources.networks.call import Call
from hesse.derivation.sources.networks.fallback import without_rule
from hesse.derivation.sources.networks.graph_program import GraphProgram, Value, Values
from hesse.derivation.sources.networks.view import View, number
from hesse.errors import HesseValueError
from hesse.graph.graph import Graph, Node
from hesse.operations.normalisation import scale_shift
from hesse.operations.record import Structure
from hesse.operations.registry import FUNCTIONS, record_of

aten = torch.ops.aten


def program_of(cost: Cost, taken: Collection[str] = ()) -> GraphProgram:
    """The loss of one sample as a program, its parameters under their own names; all of a function
    of the parameters alone.

    Args:
        cost: that is written as formulas.
        taken: names that nothing but its parameters is given.

    Raises:
        HesseValueError: the cost has no graph; the text says why.

    Examples:
        >>> import torch, hesse
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(),
        ...     torch.nn.Linear(3, 1))
        >>> cost = hesse.Cost(model, "half_sse", (torch.ones(4, 2), torch.zeros(4, 1)))
        >>> [quantity.name for quantity in program_of(cost).program.quantities]
        ['z(0)', 'a(0)', 'z(2)', 'J']
    """
    batches = list(islice(cost.batches(), 2))
    try:
        if cost.data is not None:
            return _Translation(cost, capture(cost).graph, taken=taken).program()
        why = "it is a function of the parameters alone"
    except NotCaptured as reason:
        if len(batches) > 1:
            raise _not_written(cost, reason) from reason
        # What couples the samples of one batch is a function of them all.
        why = str(reason)
    try:
        return _Translation(cost, trace_whole(cost, batches[0]), why, taken).program()
    except NotCaptured as reason:
        raise _not_written(cost, reason) from reason


def _not_written(cost: Cost, reason: NotCaptured) -> HesseValueError:
    return HesseValueError(
        f"derive: {cost.name} cannot be written as formulas of one sample: {reason}; give all"
        " samples in one batch, an expression or a hesse.Network, or change the model so that it"
        " can be captured"
    )


class _Translation:
    """One graph on its way to a program."""

    def __init__(
        self,
        cost: Cost,
        graph: Graph,
        whole: str | None = None,
        taken: Collection[str] = (),
    ) -> None:
        self.cost, self.graph, self.whole = cost, graph, whole
        self.moving = graph.downstream(set(graph.parameters))
        self.sampled = graph.downstream(set(graph.data))
        self.values = Values(graph, cost, None)
        first = next(iter(cost.batches()))
        self.batch = None if whole is None else first
        alone = None if first is None or whole is not None else first.take(slice(0, 1))
        self.sample = Values(graph, cost, alone)
        self.views: dict[str, View] = {}
        self.build = Builder(reserved=[*cost.parameters, *taken])
        self.uses = Counter(
            name for node in graph.nodes if node.name in self.moving for name in node.inputs
        )
        self._name_normalisations()

    def _name_normalisations(self) -> None:
        """A normalisation has no parameters; its name is that of the scale and shift that
        follow."""
        for node in self.graph.nodes:
            if node.op is scale_shift:
                owner = next(
                    (self._owned(ref.name) for ref in node.args[1:3] if ref is not None), None
                )
                if owner is not None:
                    self.build.layers[node.args[0].name] = layer_of(owner)

    def _owned(self, value: str) -> str | None:
        while value in self.graph.node and len(self.graph.node[value].inputs) == 1:
            value = self.graph.node[value].inputs[0]
        return self.graph.parameters.get(value) or self.graph.fixed.get(value)

    def program(self) -> GraphProgram:
        for value, name in self.graph.parameters.items():
            self.views[value] = self._parameter(value, name)
        for node in self.graph.nodes:
            if node.name in self.moving:
                view = self._translated(node)
                # What is used again is written once.
                if self.uses[node.name] > 1 and not self.build.light(view):
                    view = self.build.settled(view)
                self.views[node.name] = view
        value = self.build.composed(self.view(self.graph.output).expression)
        note = "the cost of one sample" if self.whole is None else ""
        cost = Quantity(self.build.name("J"), (), value, "cost", note)
        # A leaf that nothing mentions any more is not shown.
        used = set().union(*(quantity.mentions for quantity in (*self.build.quantities, cost)))
        leaves = {
            name: leaf
            for name, leaf in self.build.leaves.items()
            if name in used or leaf.role == "parameter"
        }
        unknown = frozenset(self.build.functions) - set(FUNCTIONS)
        program = Program(leaves, (*self.build.quantities, cost), unknown)
        return GraphProgram(
            program,
            tuple(self.cost.parameters),
            dict(self.build.functions),
            self.whole,
            self.cost,
            self.graph,
            {name: given for name, given in self.build.arrays.items() if name in leaves},
        )

    def _translated(self, node: Node) -> View:
        call = self._call(node)
        view = call.record.formula(call) if call.record.formula is not None else None
        return without_rule(call) if view is None else view

    def _call(self, node: Node) -> Call:
        return Call(
            self.build,
            node,
            record_of(node),
            self.view,
            self.given,
            self.known,
            self.shape,
            self.dtype,
            self._label,
            self._never_holds,
        )

    # ---------------------------------------------------------------- what goes in

    def _parameter(self, value: str, name: str) -> View:
        shape = self.graph.shapes[value]
        kinds = next(
            (kinds for node in self._users(value) if (kinds := record_of(node).kinds) is not None),
            ("output", "input"),
        )
        extra = ["kernel"] * (len(shape) - len(kinds))
        leaf = Leaf(name, shape, "parameter")
        return self.build.leaf(leaf, [*kinds[: len(shape)], *extra], Value(value))

    def _users(self, value: str) -> Iterator[Node]:
        return (node for node in self.graph.nodes if value in node.inputs)

    def view(self, name: str) -> View:
        """The view of a value; that of one without parameters is made when it is first asked
        for."""
        if name not in self.views:
            self.views[name] = (
                self._constant(name) if name not in self.sampled else self._data(name)
            )
        return self.views[name]

    def given(self, name: str) -> Given | None:
        """How a value follows from one sample's; None where it moves with the parameters."""
        return None if name in self.moving else Value(name)

    def known(self, name: str) -> Tensor | None:
        """A value that is the same for every sample, None for others."""
        return None if name in self.moving or name in self.sampled else self.values[name].detach()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value, for one sample."""
        return (
            tuple(self.graph.shapes[name])
            if name in self.graph.shapes
            else tuple(self.values[name].shape)
        )

    def dtype(self, name: str) -> torch.dtype:
        """The type of the entries of a value without parameters."""
        return self.sample[name].dtype

    def _constant(self, name: str) -> View:
        array = self.values[name].detach().double().cpu()
        sizes = [size for size in array.shape if size > 1]
        if (
            array.numel()
            and bool((array == array.reshape(-1)[0]).all())
            and bool(array.isfinite().all())
        ):
            value = array.reshape(-1)[0].item()
            return self.build.axes.finished(
                View(
                    number(value) if value else ZERO,
                    tuple((self.build.axes.temporary(s),) if s > 1 else () for s in array.shape),
                )
            )
        base = self.graph.fixed.get(name) or self._name_in_the_batch(name)
        letter = self.build.constant(base, array.reshape(sizes))
        return self._laid(letter, array.shape)

    def _label(self, name: str) -> str:
        """What data are called: those taken from x at one place by it, x0."""
        node = self.graph.node.get(name)
        if node is None or len(node.inputs) != 1:
            return _short(name)
        place = str(node.args[2]) if node.kind is aten.select else ""
        return self._label(node.inputs[0]) + place

    def _name_in_the_batch(self, name: str) -> str:
        """x or y, where all samples are one constant each; c for other constants."""
        value = self.values[name]
        for letter, data in (("x", self.batch.x), ("y", self.batch.y)) if self.batch else ():
            tensors = tensors_in(data)
            if any(one.shape == value.shape and torch.equal(one, value) for one in tensors):
                return letter
        return "c"

    def _laid(self, leaf: str, shape: tuple[int, ...]) -> View:
        """A leaf without axes of size 1 on the axes of a tensor."""
        indices, taken = [], set[str]()
        kinds = iter(_AXES.get(sum(size > 1 for size in shape), ()))
        for size in shape:
            if size > 1:
                indices.append(self.build.letters.known(next(kinds, "part"), size, taken))
                taken.add(indices[-1].name)
        letters = iter(indices)
        return View(
            of(Entry(leaf, tuple(indices))),
            tuple((next(letters),) if size > 1 else () for size in shape),
        )

    def _data(self, name: str) -> View:
        """Data as it is, or moved to other places, or whatever is made of it alone."""
        if name in self.graph.data:
            _, *rest = self.shape(name)
            leaf = Leaf(self.build.name(_short(name)), tuple(rest), "data", per_sample=True)
            # The data of a convolution over a sequence has its channels first.
            rows = any(
                node.kind in (aten.conv1d, aten.conv_transpose1d) for node in self._users(name)
            )
            kinds = (
                ["channel", "token"]
                if rows and len(rest) == 2
                else [*_AXES.get(len(rest), ()), *["part"] * len(rest)][: len(rest)]
            )
            view = self.build.leaf(leaf, kinds, Value(name, tuple(rest)))
            return view.over(((), *view.axes))
        node = self.graph.node[name]
        record = record_of(node)
        if record.has(_MOVES) and len(node.inputs) == 1 and record.formula is not None:
            moved = record.formula(self._call(node))
            if moved is not None and moved.entry is not None:
                return moved
        shape = self.shape(name)
        sizes = [size for size in shape if size > 1]
        source = next((data for data in self.graph.data if data in self.graph.upstream(name)), "x")
        leaf = self.build.name(_short(source))
        self.build.leaves[leaf] = Leaf(leaf, tuple(sizes), "data", per_sample=True)
        self.build.arrays[leaf] = Value(name, tuple(sizes))
        return self._laid(leaf, shape)

    def _never_holds(self, name: str, number: int) -> bool:
        """Whether class numbers never are a given one, in all the data."""
        if name not in self.graph.data:
            return False
        place = self.graph.data.index(name)
        return not any(
            bool((data_leaves(batch)[place] == number).any())
            for batch in self.cost.batches()
            if batch is not None
        )


# Kinds of the axes of data, by their number.
_AXES = {
    1: ("input",),
    2: ("token", "input"),
    3: ("channel", "row", "column"),
    4: ("channel", "depth", "row", "column"),
}
# Operations that only move data to other places.
_MOVES = Structure.RELABELS | Structure.PERMUTES


def _short(name: str) -> str:
    """``x_0`` as x0."""
    head, _, tail = name.rpartition("_")
    return f"{head}{tail}" if head and tail.isdigit() else name
