"""Capture: from a cost to the graph of one sample's loss, with its sites. The only package that
knows how PyTorch is traced."""

import threading
import weakref
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import vmap

from hesse.capture.export import NotCaptured, data_leaves, trace, trace_whole
from hesse.capture.site_search import find_sites
from hesse.data.batch import Batch
from hesse.derivatives import ReverseOverReverse, TensorFunction
from hesse.errors import in_a_line
from hesse.graph.at_once import at_once
from hesse.graph.graph import Graph
from hesse.graph.sites import Site
from hesse.process.circumstances import circumstances, is_passing
from hesse.process.recent import Recent

if TYPE_CHECKING:
    from hesse.cost import Cost

# Samples on which the graph is held against the user's own function: more than one, for only then
# does it show where samples are not independent.
_PROBES = 6
# A trace patches modules of PyTorch, and so may another thread's: a failure beside other threads is
# believed when it came so often.
_TRIES = 2
# Requests, as of other blocks, whose plans and ways down a graph are kept.
_MOST_REQUESTS = 32


@dataclass(frozen=True)
class _NoGraph:
    """Why a cost has no graph; kept in place of one, so that it is traced once.

    Attributes:
        reason: in words.
        tries: how often it was tried while other threads ran: one of them may be why it failed.
    """

    reason: str
    tries: int


__all__ = [
    "Captured",
    "NotCaptured",
    "capture",
    "data_leaves",
    "known_capture",
    "sample_values",
    "trace_whole",
]


@dataclass(frozen=True, eq=False)
class Captured:
    """A cost's graph and where its parameters enter.

    Attributes:
        graph: one sample's loss.
        sites: where parameters enter linearly.
        fallbacks: parameters that go by columns, with the reason.
        dry_runs: what plans keep here: one for each of the last requests.
        plans: likewise the plans themselves.
        checked: the functions that the graph was held against.
    """

    graph: Graph
    sites: tuple[Site, ...]
    fallbacks: dict[str, str]
    dry_runs: Recent[Any] = field(default_factory=lambda: Recent(_MOST_REQUESTS))
    plans: Recent[Any] = field(default_factory=lambda: Recent(_MOST_REQUESTS))
    checked: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)


def capture(cost: "Cost", signature: Hashable = None) -> Captured:
    """Trace a cost, or find it traced, and check that its samples are independent and the graph
    computes the same.

    Args:
        cost: the cost.
        signature: of the batches that it is traced for (`Batch.signature`); by default that of the
            first one.

    Raises:
        NotCaptured: there is no graph that can be used; the text says why.
    """
    known = known_capture(cost, signature)
    if known is not None and cost.total in known.checked:
        return known
    batch = next(
        batch for batch in cost.batches() if batch is None or signature in (None, batch.signature)
    )
    if batch is None:
        raise NotCaptured("a function of the parameters alone has no samples to share work over")
    if batch.whole:
        raise NotCaptured("the first axes of a batch do not count samples, as for a graph")
    if cost.loss is not None and not cost.loss.separable:
        raise NotCaptured(
            "the loss couples its samples: its value on a batch is not a sum or mean over samples"
        )
    key = _key(cost, batch.signature)
    known = cost.captures.get(key)
    tries = known.tries if isinstance(known, _NoGraph) else 0
    if isinstance(known, _NoGraph) and not 0 < known.tries < _TRIES:
        raise NotCaptured(known.reason)
    if known is None or isinstance(known, _NoGraph):
        alone = threading.active_count() == 1
        try:
            known = _captured(cost, batch)
        except NotCaptured as reason:
            cost.captures[key] = _NoGraph(str(reason), 0 if alone else tries + 1)
            raise
        cost.captures[key] = known
    elif cost.total not in known.checked and not _agrees(cost, known.graph, batch):
        # The same module with another behaviour: an attribute was changed since it was traced.
        del cost.captures[key]
        return capture(cost, signature)
    known.checked.add(cost.total)
    return known


def known_capture(cost: "Cost", signature: Hashable) -> Captured | None:
    """What was traced before for batches of a signature, not held against this cost; ``None`` where
    nothing was."""
    known = None if signature is None else cost.captures.get(_key(cost, signature))
    return known if isinstance(known, Captured) else None


def _captured(cost: "Cost", batch: Batch) -> Captured:
    graph = trace(cost, batch)
    if not _agrees(cost, graph, batch):
        raise NotCaptured(
            "the samples are not independent (as with BatchNorm in training mode): a batch's loss"
            " or its derivatives differ from the sum of its samples' own"
        )
    try:
        values = sample_values(graph, cost, cost.parameters, data_leaves(batch.take(slice(0, 1))))
        graph, sites, fallbacks = find_sites(graph, values)
        served = at_once(
            graph,
            graph.given(cost.parameters, cost.fixed),
            *_several(graph, cost, batch),
            {site.value for site in sites if site.uses[0].kind != "leaf"},
        )
        return Captured(replace(graph, at_once=served), sites, fallbacks)
    except Exception as error:  # of an operation in a form that nothing here knows
        if is_passing(error):
            raise
        raise NotCaptured(
            f"where its parameters enter is not understood: {in_a_line(error)}"
        ) from error


def _several(graph: Graph, cost: "Cost", batch: Batch) -> tuple[list[Any], dict[str, Tensor]]:
    """Several samples, a single one repeated, and every value for them one by one."""
    leaves = data_leaves(batch.take(slice(0, _PROBES)))
    if batch.size == 1:
        leaves = [torch.cat([leaf] * 2) if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def of_sample(*sample: Any) -> dict[str, Tensor]:
        values = sample_values(graph, cost, cost.parameters, sample)
        return {node.name: values[node.name] for node in graph.nodes}

    singly = [leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)
    with torch.no_grad():
        return leaves, vmap(of_sample, in_dims=axes)(*singly)


def _key(cost: "Cost", signature: Hashable) -> Any:
    training = (
        ()
        if cost.modules.model is None
        else tuple(module.training for module in cost.modules.model.modules())
    )
    fixed = tuple((name, tuple(value.shape)) for name, value in cost.fixed.items())
    settings = circumstances()
    return cost.layout, cost.dtype, str(cost.device), signature, training, fixed, settings


def _agrees(cost: "Cost", graph: Graph, batch: Batch) -> bool:
    """Value, gradient and a Hessian-vector product: the user's function of a batch beside the sum
    over the graph's samples."""
    probes = batch.take(slice(0, _PROBES))
    v = _random_like(cost.parameters, torch.Generator().manual_seed(0))
    leaves = [
        leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in data_leaves(probes)
    ]
    axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)

    def by_graph(parameters: dict[str, Tensor]) -> Tensor:
        return vmap(
            lambda *sample: sample_values(graph, cost, parameters, sample)[graph.output],
            in_dims=axes,
        )(*leaves).sum()

    def by_user(parameters: dict[str, Tensor]) -> Tensor:
        return cost.total(parameters, probes)

    # Of the norm. A wrong graph is off by about its size; float32 rounds to 1e-7 of each step.
    tolerance = 1e-3 if graph.widened or cost.dtype == torch.float32 else 1e-8
    try:
        ours, theirs = (
            _derivatives(function, cost.parameters, v) for function in (by_graph, by_user)
        )
    # Of the user's code on other samples than they meant it for, or of an operation.
    except Exception as error:
        if is_passing(error):
            raise
        raise NotCaptured(
            f"it cannot be run and differentiated twice sample by sample: {in_a_line(error)}"
        ) from error
    return all(
        float((a - b).norm()) <= tolerance * (float(b.norm()) + tolerance)
        for a, b in zip(ours, theirs, strict=True)
    )


def _random_like(parameters: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    return {
        name: (
            torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu").to(
                value
            )
        )
        for name, value in parameters.items()
    }


def _derivatives(
    function: Any, parameters: dict[str, Tensor], direction: dict[str, Tensor]
) -> list[Tensor]:
    """Value, gradient and H v, each as one vector."""
    theta = list(parameters.values())

    def value(tensors: list[Tensor]) -> Tensor:
        return function(dict(zip(parameters, tensors, strict=True)))

    slope, product = ReverseOverReverse().slope_and_second(TensorFunction(value), theta)
    return [
        torch.cat([part.detach().reshape(-1) for part in parts])
        for parts in ([value(theta)], slope, product([*direction.values()]))
    ]


def sample_values(
    graph: Graph,
    cost: "Cost",
    parameters: dict[str, Tensor],
    sample: Sequence[Any],
    shifts: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Every value of the graph for one sample, the last of them its loss; some of them shifted."""
    shifts = shifts or {}
    values = graph.given(parameters, cost.fixed) | dict(zip(graph.data, sample, strict=True))
    for value in shifts.keys() & values.keys():
        values[value] = values[value] + shifts[value].to(values[value].dtype)
    for node in graph.nodes:
        made = node.evaluate(values)
        shift = shifts.get(node.name)
        values[node.name] = made if shift is None else made + shift.to(made.dtype)
    return values
