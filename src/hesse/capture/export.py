"""From a cost to its graph, through `torch.export`. Nothing else in hesse knows how PyTorch is
traced."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hesse.capture.recurrences import UnrolledRecurrences
from hesse.capture.rewriting import rewritten
from hesse.capture.tracing import tracing
from hesse.data.batch import Batch, tensors_in
from hesse.errors import in_a_line
from hesse.graph.graph import Graph, Node, Pick, Ref
from hesse.process.circumstances import is_passing
from hesse.process.quiet import quiet
from hesse.process.switches import differentiable_twice

if TYPE_CHECKING:
    from hesse.cost import Cost

# What a model in float64 computes in float32 is computed in float64.
_WIDER = {torch.float32: torch.float64}


class NotCaptured(Exception):
    """The cost has no graph; the text says why, for the plan."""


def trace(cost: "Cost", batch: Batch) -> Graph:
    """The graph of one sample's loss.

    Raises:
        NotCaptured: the export failed; the work goes on without a graph.
    """
    sample = batch.take(slice(0, 1))
    return _exported(
        cost, _SampleLoss(cost, sample), (cost.parameters, cost.fixed, sample.x, sample.y)
    )


def trace_whole(cost: "Cost", batch: Batch | None = None) -> Graph:
    """The graph of a function of the parameters alone, or of the cost of a whole batch; what it
    closes over, and the batch, are constants.

    Raises:
        NotCaptured: the export failed.
    """
    return _exported(cost, _WholeCost(cost, batch), (cost.parameters, cost.fixed))


def _exported(cost: "Cost", module: nn.Module, arguments: tuple[Any, ...]) -> Graph:
    try:
        # torch.export turns switches off by itself: they are ours first, so that no other thread
        # takes its state for the one to go back to.
        with tracing(), differentiable_twice(recurrent=True), quiet(printed=True):
            program = torch.export.export(module, arguments)
            # Nothing writes into a tensor that was there before.
            if any(map(_writes, program.graph.nodes)):
                program = program.run_decompositions({})
    except Exception as error:
        if is_passing(error):
            raise
        raise NotCaptured(f"torch.export failed ({in_a_line(error)})") from error
    return _read(program, cost)


class _SampleLoss(nn.Module):
    """One sample's prediction and, last, its loss as a module of nothing but inputs, so that
    parameters keep their names."""

    def __init__(self, cost: "Cost", sample: Batch) -> None:
        super().__init__()
        # In a list, where `nn.Module` does not look: the traced module must own no parameters.
        self._held = [(cost, sample)]

    def forward(
        self, parameters: dict[str, Tensor], fixed: dict[str, Tensor], x: Any, y: Any
    ) -> tuple[Tensor, ...]:
        cost, sample = self._held[0]
        tensors, sample = {**fixed, **parameters}, dataclasses.replace(sample, x=x, y=y)
        with UnrolledRecurrences():
            if cost.predict_and_total is None:
                return (cost.total(tensors, sample),)
            prediction, total = cost.predict_and_total(tensors, sample)
        return (*(part for part in tensors_in(prediction) if part.is_floating_point()), total)


class _WholeCost(nn.Module):
    """A function of the parameters alone as a module of nothing but inputs."""

    def __init__(self, cost: "Cost", batch: Batch | None) -> None:
        super().__init__()
        self._held = [(cost, batch)]

    def forward(self, parameters: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        cost, batch = self._held[0]
        total = cost.total({**fixed, **parameters}, batch).reshape(())
        return total if cost.scale == 1 else cost.scale * total


def _writes(node: Any) -> bool:
    return node.op == "call_function" and getattr(
        getattr(node.target, "_schema", None), "is_mutable", False
    )


def _read(program: Any, cost: "Cost") -> Graph:
    specs = program.graph_signature.input_specs
    brought = {**program.state_dict, **program.constants}
    # The inputs come flattened in the order in which `trace` gives them: parameters, fixed, data.
    names = [spec.arg.name for spec in specs if spec.kind.name == "USER_INPUT"]
    owned = list(cost.parameters) + list(cost.fixed)
    parameters = dict(zip(names, cost.parameters, strict=False))
    fixed = dict(zip(names[len(parameters) : len(owned)], cost.fixed, strict=True))
    constants = {
        spec.arg.name: brought[spec.target]
        for spec in specs
        if spec.target is not None and spec.target in brought
    }
    constants = {
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in constants.items()
    }
    fx_nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    in_float32 = _in_float32(fx_nodes, set(parameters), cost)
    for node in fx_nodes:
        _require_plain_values(node)
    shapes = {node.name: _shape(node) for node in program.graph.nodes if _shape(node) is not None}
    unrewritten = [
        _node(node, _WIDER if node in in_float32 else {})
        for node in fx_nodes
        if _shape(node) is not None
    ]
    nodes = rewritten(unrewritten, shapes)
    *predictions, output = (
        spec.arg.name
        for spec in program.graph_signature.output_specs
        if spec.kind.name == "USER_OUTPUT"
    )
    data = tuple(names[len(owned) :])
    graph = Graph(
        tuple(nodes), parameters, fixed, constants, data, output, shapes, bool(in_float32)
    )
    needed = graph.upstream(graph.output)
    marked = (
        None
        if cost.predict_and_total is None
        else tuple(name for name in dict.fromkeys(predictions) if name in needed)
    )
    return dataclasses.replace(
        graph, nodes=tuple(node for node in nodes if node.name in needed), predictions=marked
    )


def _in_float32(nodes: list[Any], parameters: set[str], cost: "Cost") -> set[Any]:
    """The nodes between the parameters and the loss that a model in float64 computes in float32.

    The graph computes them in float64, so that all that is carried down it is of one dtype: what
    differs is the model's own rounding. What the parameters do not reach (angles, masks) stays as
    it is rounded.
    """
    owned = [*cost.parameters.values(), *cost.fixed.values()]
    if any(tensor.is_floating_point() and tensor.dtype != torch.float64 for tensor in owned):
        return set()
    active, in_float32 = set(parameters), set()
    for node in nodes:
        if active.isdisjoint(source.name for source in node.all_input_nodes):
            continue
        active.add(node.name)
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dtype in _WIDER:
            in_float32.add(node)
    return in_float32


def _require_plain_values(node: Any) -> None:
    """Raise `NotCaptured` on what the values of a graph cannot say."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        raise NotCaptured(
            f"the model runs a block of its own kind ({node.target}: no_grad, autocast,"
            " checkpointing or control flow)"
        )
    value = node.meta.get("val")
    if isinstance(value, Tensor) and value.is_complex():
        raise NotCaptured(f"{node.target} has complex values")
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        raise NotCaptured(f"{node.target} has a size that depends on the data")


def _shape(node: Any) -> Any:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _node(node: Any, dtypes: Mapping[torch.dtype, torch.dtype]) -> Node:
    floating = node.meta["val"].is_floating_point()
    op, (args, kwargs) = node.target, (node.args, node.kwargs)
    if op is operator.getitem:
        producer, index = node.args
        op, args, kwargs = Pick(producer.target, index), producer.args, producer.kwargs
    return Node(node.name, op, _refs(args, dtypes), _refs(kwargs, dtypes), _shape(node), floating)


def _refs(arguments: Any, dtypes: Mapping[torch.dtype, torch.dtype]) -> Any:
    """Plain containers with `Ref` in place of graph nodes, and with other dtypes in place of
    some."""
    if isinstance(arguments, torch.fx.Node):
        return Ref(arguments.name)
    if isinstance(arguments, torch.dtype):
        return dtypes.get(arguments, arguments)
    if isinstance(arguments, tuple):
        return tuple(_refs(item, dtypes) for item in arguments)
    if isinstance(arguments, list):
        return [_refs(item, dtypes) for item in arguments]
    if isinstance(arguments, dict):
        return {key: _refs(item, dtypes) for key, item in arguments.items()}
    return arguments


def data_leaves(batch: Batch) -> list[Any]:
    """A batch's tensors in the order of the graph's data values."""
    return pytree.tree_leaves((batch.x, batch.y))
