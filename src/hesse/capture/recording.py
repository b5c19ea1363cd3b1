"""A function of tensors as a program, the graph of its operations, recorded in one run on forms.

    a copy                       what it is a copy of
    twice the same operation     one
    what no argument enters      done at once, a constant of the program

`torch.fx.experimental.proxy_tensor.make_fx` gives the same operations one by one, and takes ten
times as long, most of it for what this does not need: symbolic sizes, where each was called, and
shapes that were found before.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hesse.capture.forms import Form, FormTensor, form_of, forms_made, known_by

aten = torch.ops.aten

# Where their result has the shape, strides and dtype of this argument it also has its values.
COPIES: dict[Any, int] = {
    aten.alias.default: 0,
    aten.clone.default: 0,
    aten.copy.default: 1,
    aten.detach.default: 0,
    aten.expand.default: 0,
    aten.lift_fresh.default: 0,
    aten.lift_fresh_copy.default: 0,
    aten.view.default: 0,
    aten._to_copy.default: 0,
    aten._unsafe_view.default: 0,
}
# What is seen of strides by these need not hold once copies are gone or several v run at once. Of a
# tensor and a number: PyTorch ends the process where the first are watched operation by operation
# (`torch.utils._python_dispatch.TorchDispatchMode`), and the second are the same.
_SAME: dict[Any, Any] = {
    aten._unsafe_view.default: aten.reshape.default,
    aten.view.default: aten.reshape.default,
    aten.add.Scalar: aten.add.Tensor,
    aten.div.Scalar: aten.div.Tensor,
    aten.mul.Scalar: aten.mul.Tensor,
    aten.sub.Scalar: aten.sub.Tensor,
}


class Unsuitable(Exception):
    """A method would not give right products for this function; says why."""


@dataclass(frozen=True)
class Program:
    """Operations on tensors, without branches; made executable when it is run for the first time.

    Attributes:
        graph: the operations; what each makes is the ``val`` of its ``meta``, a form.
        constants: what holds the tensors that are none of its arguments.
    """

    graph: fx.Graph
    constants: nn.Module

    @cached_property
    def _module(self) -> fx.GraphModule:
        return fx.GraphModule(self.constants, self.graph)

    def __call__(self, *given: Tensor) -> Any:
        return self._module(*given)


def called(
    graph: fx.Graph,
    target: Any,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    name: str | None = None,
) -> fx.Node:
    """An operation of a program, added to its graph."""
    node = graph.create_node("call_function", target, name=name)
    # Of a node that is made with its arguments `torch.fx` looks through them for sizes that are
    # symbols, which no program here has, and that takes longer than all else; and where arguments
    # are set in the ordinary way, it takes the node out of a table first and puts it back.
    object.__setattr__(node, "args", args)
    if options:
        object.__setattr__(node, "kwargs", dict(options))
    return node


def copied(graph: fx.Graph, node: fx.Node, value: Callable[[fx.Node], Any]) -> fx.Node:
    """A copy of a node of another graph, for whose arguments others stand."""
    args, options = fx.map_arg((node.args, node.kwargs), value)
    if node.op == "call_function":
        copy = called(graph, node.target, args, options, node.name)
    else:
        copy = graph.create_node(node.op, node.target, args, options, node.name)
    copy.meta.update(node.meta)
    return copy


def record(
    function: Callable[..., Sequence[Tensor]], given: Sequence[Tensor], writes: bool = False
) -> Program:
    """The program of a function.

    Args:
        function: of tensors, that gives some.
        given: tensors of the forms that it is recorded for.
        writes: operations that write into tensors are recorded as they are, and all others as well;
            else they are replaced, and values made once.

    Raises:
        NeedsValue: the function looks at a value.
        Unsuitable: it writes where that cannot be recorded.

    Examples:
        >>> program = record(lambda x, y: [(x * y).exp() + (x * y)], [torch.ones(2)] * 2)
        >>> [node.name for node in program.graph.nodes]
        ['given_0', 'given_1', 'mul', 'exp', 'add', 'output']
        >>> program(torch.ones(2), torch.zeros(2))
        [tensor([1., 1.])]
    """
    recorder = _Recorder(writes)
    arguments = [recorder.argument(tensor) for tensor in given]
    with recorder:
        results = (function if writes else torch.func.functionalize(function))(*arguments)
    recorder.graph.output([recorder.node(result) for result in results])
    recorder.forget()
    return Program(recorder.graph, recorder.constants)


@final
class _Recorder(TorchDispatchMode):
    """While it is entered, notes down every operation on what it has noted down, and gives its
    forms; the operations on all else are done."""

    def __init__(self, writes: bool) -> None:
        super().__init__()
        self.graph, self.constants, self._writes = fx.Graph(), nn.Module(), writes
        # By what they are made of; and constants, each held so that no other gets its place.
        self._made: dict[Any, tuple[Any, Any]] = {}
        self._held: dict[int, tuple[Tensor, fx.Node]] = {}
        self._values = list[FormTensor]()

    # What is entered for every operation is none of TorchDynamo's, which is asked each time else.
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def argument(self, tensor: Tensor) -> FormTensor:
        """A placeholder."""
        return self._standing_for(
            self.graph.placeholder(f"given_{len(self.graph.nodes)}"), form_of(tensor)
        )

    def forget(self) -> None:
        """Let values know no more what they are in the graph: a recurrent layer, or what is made of
        the program, has some of them, and would hold all of it."""
        for value in self._values:
            del value.node
        self._values.clear()

    def node(self, tensor: Tensor) -> fx.Node:
        """What a tensor is in the graph."""
        if isinstance(tensor, FormTensor):
            return tensor.node
        if id(tensor) not in self._held:
            name = f"constant_{len(self._held)}"
            # The memory of an array, perhaps, which somebody else may write into.
            setattr(self.constants, name, tensor.clone())
            node = self.graph.get_attr(name)
            self._standing_for(node, form_of(tensor))
            self._held[id(tensor)] = tensor, node
        return self._held[id(tensor)][1]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if FormTensor not in types and any(map(_is_of_tensors, args)):
            return func(*args, **options)
        made = forms_made(func, args, options)
        if func._schema.is_mutable:
            return self._written(func, args, options, made)
        if not _is_of_tensors(made):
            return made
        if self._writes:
            return self._noted(func, args, options, made)
        if func in COPIES and isinstance(original := args[COPIES[func]], FormTensor):
            # Of what is copied into another the strides are of no concern.
            same = slice(0, None, 2) if func is aten.copy.default else slice(None)
            if made.form[same] == original.node.meta["val"].form[same]:
                return self._standing_for(original.node, made.form)
        return self._noted_once(_SAME.get(func, func), args, options, made)

    def _standing_for(self, node: fx.Node, form: Form) -> FormTensor:
        value = FormTensor.of(form)
        value.node = node
        self._values.append(value)
        node.meta.setdefault("val", value)
        return value

    def _in_graph(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        return type(value)(map(self._in_graph, value)) if type(value) in (tuple, list) else value

    def _call(self, func: Any, *args: Any, **options: Any) -> fx.Node:
        name = func.__name__.partition(".")[0]
        return called(self.graph, func, args, options, name)

    def _noted(self, func: Any, args: Sequence[Any], options: Mapping[str, Any], made: Any) -> Any:
        """An operation, noted down, and what it makes."""
        given = {name: self._in_graph(value) for name, value in options.items()}
        return self._parts(self._call(func, *map(self._in_graph, args), **given), made)

    def _parts(self, node: fx.Node, made: Any) -> Any:
        if isinstance(made, FormTensor):
            return self._standing_for(node, made.form)
        parts = type(made)(
            self._parts(self._call(operator.getitem, node, place), part)
            if isinstance(part, FormTensor)
            else part
            for place, part in enumerate(made or ())
        )
        node.meta["val"] = parts
        return parts

    def _noted_once(
        self, func: Any, args: Sequence[Any], options: Mapping[str, Any], made: Any
    ) -> Any:
        """Likewise, or as it was noted down before."""
        given = known_by(self._in_graph(args)), known_by(list(map(self._in_graph, options.items())))
        key = func, *given
        if key not in self._made:
            self._made[key] = self._noted(func, args, options, made)
        return self._again(self._made[key])

    def _again(self, made: Any) -> Any:
        """Tensors of their own for the same values."""
        if isinstance(made, FormTensor):
            return self._standing_for(made.node, made.form)
        return type(made)(map(self._again, made)) if isinstance(made, tuple | list) else made

    def _written(
        self, func: Any, args: Sequence[Any], options: Mapping[str, Any], made: Any
    ) -> Any:
        """An operation that writes: what it has written into is what comes out."""
        if torch.Tag.inplace_view in func.tags:
            raise Unsuitable(f"{func} gives its argument another shape")
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **options}
        into = {
            str(argument.alias_info.before_set): given.get(argument.name)
            for argument in func._schema.arguments
            if argument.alias_info is not None and argument.alias_info.is_write
        }
        noted, returns = self._noted(func, args, options, made), func._schema.returns
        results = [
            part if returned.alias_info is None else into[str(returned.alias_info.before_set)]
            for returned, part in zip(returns, noted if len(returns) > 1 else [noted], strict=False)
        ]
        return tuple(results) if len(results) > 1 else results[0] if results else None


def _is_of_tensors(value: Any) -> bool:
    """Whether it is a tensor, or holds one."""
    if isinstance(value, tuple | list):
        return any(map(_is_of_tensors, value))
    return isinstance(value, Tensor)
