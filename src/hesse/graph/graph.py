"""The captured cost of one sample: straight-line code in which every value has a name.

A `Graph` says what the user's model and loss compute for a *single* sample (its tensors keep a
leading axis of length 1). Many samples are served by mapping over a new leading axis, so no rule
has to know where an operation keeps its samples.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Ref:
    """A use of a named value."""

    name: str


class _OfOperation:
    """What has an operation as its ``op``: one of PyTorch's is pickled by its name, for which
    PyTorch has no way."""

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        op = state["op"]
        if isinstance(op, torch._ops.OpOverload):
            namespace, name = op._schema.name.split("::")
            state["op"] = _OperationName(namespace, name, op._overloadname)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        name = state["op"]
        op = name.operation if isinstance(name, _OperationName) else name
        vars(self).update({**state, "op": op})


@dataclass(frozen=True)
class _OperationName:
    namespace: str
    name: str
    overload: str

    @property
    def operation(self) -> Callable[..., Any]:
        packet = getattr(getattr(torch.ops, self.namespace), self.name)
        return getattr(packet, self.overload)


@dataclass(frozen=True)
class Node(_OfOperation):
    """One operation: ``name = op(*args, **kwargs)``.

    Attributes:
        name: the value it makes.
        op: what computes it.
        args: arguments, with `Ref` where a value goes in.
        kwargs: keyword arguments, likewise.
        shape: the value's shape for one sample.
        floating: False for integers and booleans, which no derivative passes through.
    """

    name: str
    op: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...]
    floating: bool = True

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The distinct values that go in, in the order of their first use."""
        leaves = pytree.tree_leaves(
            (self.args, dict(self.kwargs)), is_leaf=lambda a: isinstance(a, Ref)
        )
        return tuple(dict.fromkeys(leaf.name for leaf in leaves if isinstance(leaf, Ref)))

    @cached_property
    def size(self) -> int:
        """Number of entries of the value, for one sample."""
        return torch.Size(self.shape).numel()

    @property
    def kind(self) -> Any:
        """The operation without its overload, for looking it up."""
        op = self.op.op if isinstance(self.op, Pick) else self.op
        # Records are of packets: one for all overloads of an operation.
        return getattr(op, "overloadpacket", op)

    def takes_once(self, name: str) -> bool:
        """Whether a value is exactly one of the arguments."""
        return (
            sum(
                getattr(argument, "name", None) == name
                for argument in (*self.args, *self.kwargs.values())
            )
            == 1
        )

    def takes_first(self, name: str) -> bool:
        """Whether a value is the first argument and no other."""
        return getattr(self.args[0], "name", None) == name and all(
            getattr(argument, "name", None) != name for argument in self.args[1:]
        )

    def arguments(self, *defaults: Any) -> tuple[Any, ...]:
        """The positional arguments, those left out filled in from a default for each place."""
        return (*self.args, *defaults[len(self.args) :])

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Run the operation on named values."""
        args, kwargs = self.given(values)
        return self.op(*args, **kwargs)

    def given(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, with values in place of their names."""
        args = list(self.args)
        for place in self._places:
            args[place] = _given(args[place], values)
        kwargs = {name: _given(argument, values) for name, argument in self.kwargs.items()}
        return args, kwargs

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """The places of arguments that are values or may hold some."""
        nests = Ref, list, tuple
        return tuple(k for k, argument in enumerate(self.args) if isinstance(argument, nests))


def _given(argument: Any, values: Mapping[str, Any]) -> Any:
    # Also inside lists and tuples, as for cat and stack.
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, list | tuple):
        return type(argument)([_given(part, values) for part in argument])
    return argument


@dataclass(frozen=True)
class Pick(_OfOperation):
    """One of the results of an operation that has several: ``pick(...) = op(...)[index]``."""

    op: Callable[..., Any]
    index: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.op(*args, **kwargs)[self.index]

    def __str__(self) -> str:
        return f"{self.op}[{self.index}]"


@dataclass(frozen=True)
class AtOnce:
    """How the operations of one sample serve many at once, with these on the axis of length 1 that
    one keeps: without `vmap`, which takes as long to start an operation as a small one lasts.

    Attributes:
        nodes: by value, the operations that do, with the sample's 1 among their sizes left open.
        axes: the axis that the samples lie on, of each value that they make.
        total: the operation that makes the loss, where of many samples it makes the sum of theirs;
            ``None`` where it does not.
        dtype: of a sample's loss.
    """

    nodes: Mapping[str, Node]
    axes: Mapping[str, int]
    total: Node | None = None
    dtype: torch.dtype = torch.float32

    def samples_first(self, name: str, value: Tensor) -> Tensor:
        """A value of many samples as `vmap` gives it, (n, *value of one)."""
        axis = self.axes[name]
        return (value.movedim(axis, 0) if axis else value).unsqueeze(1 + axis)

    def on_axis(self, name: str, value: Tensor) -> Tensor:
        """And back."""
        axis = self.axes[name]
        return value.squeeze(1 + axis).movedim(0, axis)


@dataclass(frozen=True)
class Graph:
    """The nodes in an order in which they can be run, and the names of what goes in and comes out.

    Attributes:
        nodes: the operations.
        parameters: value name -> parameter name, for the parameters asked about.
        fixed: value name -> name in the cost's fixed tensors (frozen parameters, buffers).
        constants: value name -> tensor that the trace brought along.
        data: the values that hold one sample's inputs and target, in the order of the flattened
            batch.
        output: the value that holds the sample's loss.
        shapes: of every value.
        widened: whether it computes in float64 what the user's function computes in float32.
        predictions: the values that the model predicts and the loss is taken of; ``None`` where the
            two are not apart.
        at_once: which operations serve many samples at once.
    """

    nodes: tuple[Node, ...]
    parameters: dict[str, str]
    fixed: dict[str, str]
    constants: dict[str, Tensor]
    data: tuple[str, ...]
    output: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    widened: bool = False
    predictions: tuple[str, ...] | None = None
    at_once: AtOnce = AtOnce({}, {})

    @cached_property
    def node(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each value is made in the order of the nodes; -1 for what goes in."""
        return {node.name: index for index, node in enumerate(self.nodes)}

    def given(
        self, parameters: Mapping[str, Tensor], fixed: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """The values that do not come from the data, by name: parameters, fixed tensors and
        constants."""
        values: dict[str, Any] = {
            value: parameters[name] for value, name in self.parameters.items()
        }
        return values | {value: fixed[name] for value, name in self.fixed.items()} | self.constants

    def downstream(self, roots: Set[str], barred: Callable[[Node], bool] | None = None) -> set[str]:
        """The values that depend on any of the roots, the roots among them, not through a node that
        is barred."""
        key = frozenset(roots), barred
        if key not in self._downstream:
            # One pass is enough: the nodes stand in an order in which they can be run.
            reached = set(roots)
            for node in self.nodes:
                if reached.intersection(node.inputs) and not (barred and barred(node)):
                    reached.add(node.name)
            self._downstream[key] = frozenset(reached)
        return set(self._downstream[key])

    @cached_property
    def _downstream(self) -> dict[Any, frozenset[str]]:
        """What was found: every evaluation asks the same again."""
        return {}

    @cached_property
    def predicted(self) -> frozenset[str]:
        """The predictions and the values that they depend on; none where no prediction is
        marked."""
        return frozenset().union(*(self.upstream(name) for name in self.predictions or ()))

    def upstream(self, *roots: str) -> set[str]:
        """The values that some values depend on, these among them."""
        # Backwards, so that a value is known to be needed before the node that makes it is met.
        needed = {*roots}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return needed
