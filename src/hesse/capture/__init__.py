"""Capture: from a cost to the graph of one sample's loss, with its slots. The only package that knows how PyTorch is traced."""

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from hesse.capture.export import NotCaptured, data_leaves, trace
from hesse.capture.graph import Graph
from hesse.capture.sites import Site
from hesse.capture.slots import find_sites
from hesse.data import Batch

if TYPE_CHECKING:
    from hesse.cost import Cost

# Samples on which the graph is held against the user's own function.
_PROBES = 6

__all__ = ["Captured", "NotCaptured", "capture", "data_leaves"]


@dataclass(frozen=True, eq=False)
class Captured:
    """A cost's graph and where its parameters enter.

    Attributes:
        graph: one sample's loss.
        sites: the slots.
        refused: parameters that go by columns, with the reason.
        rehearsals: what plans keep here: one for each request.
    """

    graph: Graph
    sites: tuple[Site, ...]
    refused: dict[str, str]
    rehearsals: dict[Any, Any] = field(default_factory=dict)
    checked: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)


def capture(cost: "Cost") -> Captured:
    """Trace a cost, or find it traced, and check that its samples are independent and the graph computes the same.

    Raises:
        NotCaptured: there is no graph that can be used; the text says why.
    """
    batch = next(iter(cost.batches()))
    if batch is None:
        raise NotCaptured("a function of the parameters alone has no samples to share work over")
    if cost.loss is not None and not cost.loss.separable:
        raise NotCaptured("the loss couples its samples: its value on a batch is not a sum or mean over samples")
    key = _key(cost, batch)
    known = cost.captures.get(key)
    if isinstance(known, str):
        raise NotCaptured(known)
    if known is None:
        try:
            known = _captured(cost, batch)
        except NotCaptured as reason:
            cost.captures[key] = str(reason)
            raise
        cost.captures[key] = known
    elif cost.total not in known.checked and not _agrees(cost, known.graph, batch):
        # The same module with another behaviour: an attribute was changed since it was traced.
        del cost.captures[key]
        return capture(cost)
    known.checked.add(cost.total)
    return known


def _captured(cost: "Cost", batch: Batch) -> Captured:
    graph = trace(cost, batch)
    if not _agrees(cost, graph, batch):
        raise NotCaptured(
            "the samples are not independent (as with BatchNorm in training mode): a batch's loss or its derivatives differ "
            "from the sum of its samples' own"
        )
    return Captured(*find_sites(graph))


def _key(cost: "Cost", batch: Batch) -> Any:
    def signature(leaf: Any) -> Any:
        return (tuple(leaf.shape[1:]), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf)

    training = tuple(m.training for m in cost.source.modules()) if isinstance(cost.source, torch.nn.Module) else ()
    fixed = tuple((name, tuple(value.shape)) for name, value in cost.fixed.items())
    return cost.layout, cost.dtype, str(cost.device), tuple(signature(leaf) for leaf in data_leaves(batch)), training, fixed


def _agrees(cost: "Cost", graph: Graph, batch: Batch) -> bool:
    """Value, gradient and two Hessian-vector products: the user's function of a batch beside the sum over the graph's samples.

    The products must also be symmetric, uᵀHv = vᵀHu: an operation whose second derivative is wrong seldom is.
    """
    probes = batch.take(slice(0, _PROBES))
    generator = torch.Generator().manual_seed(0)
    u, v = (_random_like(cost.parameters, generator) for _ in range(2))
    leaves = [leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in data_leaves(probes)]
    axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)

    def by_graph(parameters: dict[str, Tensor]) -> Tensor:
        return vmap(lambda *sample: sample_loss(graph, cost, parameters, sample), in_dims=axes)(*leaves).sum()

    def by_user(parameters: dict[str, Tensor]) -> Tensor:
        return cost.total(parameters, probes)

    tolerance = 1e-3 if cost.dtype == torch.float32 else 1e-8
    try:
        ours, theirs = (_derivatives(function, cost.parameters, (u, v)) for function in (by_graph, by_user))
    except RuntimeError as error:
        raise NotCaptured(
            f"an operation cannot be differentiated twice with torch.func: {str(error).splitlines()[0][:120]}"
        ) from error
    *_, bend_u, bend_v = ours
    flat_u, flat_v = cost.layout.flatten(u), cost.layout.flatten(v)
    skew = float(flat_v @ bend_u - flat_u @ bend_v)
    if abs(skew) > tolerance * (float(flat_v.norm() * bend_u.norm()) + tolerance):
        raise NotCaptured("an operation's second derivative is not symmetric, so PyTorch's rule for it is wrong")
    return all(float((a - b).norm()) <= tolerance * (float(b.norm()) + tolerance) for a, b in zip(ours, theirs, strict=True))


def _random_like(parameters: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value) for name, value in parameters.items()
    }


def _derivatives(function: Any, parameters: dict[str, Tensor], directions: tuple[dict[str, Tensor], ...]) -> list[Tensor]:
    slope, back, *_ = vjp(grad(function), parameters)
    vectors = [slope, *(back(direction)[0] for direction in directions)]
    return [function(parameters).detach().reshape(1), *(torch.cat([t.detach().reshape(-1) for t in d.values()]) for d in vectors)]


def sample_loss(graph: Graph, cost: "Cost", parameters: dict[str, Tensor], sample: tuple[Any, ...]) -> Tensor:
    """The graph's value for one sample."""
    values = graph.given(parameters, cost.fixed) | dict(zip(graph.data, sample, strict=True))
    for node in graph.nodes:
        values[node.name] = node.evaluate(values)
    return values[graph.output]
