"""The independent way: double backward of the function as the user gave it, over all of their data.

    H v = ∂(g·v)/∂θ,    g = ∂J/∂θ

by `torch.autograd` alone. Neither the captured graph nor any rule of hesse is used here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch
from hesse.distributed.group import processes, summed
from hesse.distributed.shares import share_of
from hesse.errors import HesseValueError, in_a_line
from hesse.parameters import as_leaves
from hesse.process.circumstances import is_passing

if TYPE_CHECKING:
    from hesse.cost import Cost

# A vector of length P, in its parts by parameter name: v, a gradient, a product H v.
ByParameter = dict[str, Tensor]

# What g with its graph takes, in units of one gradient, as measured (bench.dense).
_GRAPH = 1.3
# Of the time that a number took, products may take so much: 15 % with what is left to say what
# rounding may hide.
SHARE = 0.05
# A batch so many times smaller than the memory needs no look; else what a gradient keeps is counted
# on a few samples, of which double backward keeps some times more. Pieces are not made smaller than
# some samples.
_SMALL, _PROBE, _TWICE, _LEAST_PIECE = 1000, 16, 7, 16
METHOD = "double backward on the function as given"


@dataclass(frozen=True)
class Request:
    """A product with H to be known.

    Attributes:
        columns: v by parameter; zero in those left out.
        rows: the parameters whose part of H v is wanted.
    """

    columns: dict[str, Tensor]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Limit:
    """How long the independent way may take.

    Attributes:
        least: requests that are answered in any case.
        seconds: what the others must stay within.
        memory: bytes to work in. Batches that take more are cut, which is only right where samples
            are independent.
        gradients: or within so many gradients of the whole data, where that is more. A certificate
            may take six; the others go to what rounding may hide.
    """

    least: int
    seconds: float
    memory: int | None = None
    gradients: float = 3.0


def independent(cost: "Cost", notes: tuple[str, ...]) -> tuple["Cost", tuple[str, ...]]:
    """The cost, made of the user's own function, whose Hessian is what is asked for; and what a
    certificate says of it."""
    other = cost.curvature.reference(cost)
    if other is cost:
        return cost, notes
    return other, (
        *notes,
        f"{cost.curvature.name} is the Hessian of a function that is made of the one given",
    )


def products(
    cost: "Cost", requests: Sequence[Request], limit: Limit | None = None
) -> list[ByParameter]:
    """H v for each request, or for the first of them that the limit allows, by parameter, summed in
    float64.

    Raises:
        HesseValueError: the function cannot be differentiated twice.
    """
    share = share_of(cost)
    # Flat, one product after another: of those that there is time for on every rank.
    parts = summed(
        "products by double backward",
        lambda: [part for each in _own_products(share, requests, limit) for part in each.values()],
        [v for request in requests for v in request.columns.values()],
    )
    found, flat = list[ByParameter](), iter(parts)
    for request in requests:
        product = dict(zip(request.rows, flat, strict=False))
        if len(product) < len(request.rows):
            break
        found.append(product)
    return found


def _own_products(
    cost: "Cost", requests: Sequence[Request], limit: Limit | None
) -> list[ByParameter]:
    """The same of the share of one process."""
    names = [
        name for name in cost.layout.names if any(name in request.columns for request in requests)
    ]
    sums: list[ByParameter] = [
        {
            name: torch.zeros_like(cost.parameters[name], dtype=torch.float64)
            for name in request.rows
        }
        for request in requests
    ]
    # How many there is time for; the first batch that is differentiated tells, and the others
    # follow.
    count: int | None = None if limit is not None else len(requests)
    if cost.penalty is not None:
        _add(sums, _of_term(cost, None, requests, names, len(requests), penalty=True)[0])
    for batch in cost.batches():
        for piece in _pieces(cost, batch, limit.memory if limit is not None else None):
            parts, count = _of_term(cost, piece, requests, names, count, limit=limit)
            _add(sums, parts)
    return sums[:count]


def of_batch(cost: "Cost", batch: Batch | None, requests: Sequence[Request]) -> list[ByParameter]:
    """What one batch, or some of it, adds to H v for each request."""
    names = [
        name for name in cost.layout.names if any(name in request.columns for request in requests)
    ]
    return _of_term(cost, batch, requests, names, len(requests))[0]


def kept_by_gradient(cost: "Cost", batch: Batch | None) -> int | None:
    """Bytes that the gradient of a batch's share of J keeps for the way back; ``None`` where that
    cannot be seen, as where the user's function uses `torch.func`."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor.detach()

    try:
        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
        ):
            cost.batch_cost(as_leaves(cost.parameters), batch)
    # Of `torch.func`, which does not go with such hooks, or of the user's code on few samples.
    except Exception as error:
        if is_passing(error):
            raise
        return None
    return kept


def double_backward_bytes(cost: "Cost", batch: Batch | None) -> float | None:
    """About what double backward of a batch takes, by what a gradient of some of its samples keeps;
    ``None`` where that cannot be seen."""
    some = None if batch is None else batch.take(slice(0, _PROBE))
    kept = kept_by_gradient(cost, some)
    times = 1.0 if batch is None or some is None else batch.size / some.size
    return None if kept is None else _TWICE * times * kept


def _pieces(cost: "Cost", batch: Batch | None, memory: int | None) -> list[Batch | None]:
    """The batch, or the batch cut, where double backward of all of it at once would keep more than
    there is room for."""
    if batch is None or memory is None or cost.loss is None or not cost.loss.separable:
        return [batch]
    data = sum(
        leaf.nbytes for leaf in pytree.tree_leaves((batch.x, batch.y)) if isinstance(leaf, Tensor)
    )
    if _SMALL * data <= memory:
        return [batch]
    needed = double_backward_bytes(cost, batch)
    if needed is None:
        return [batch]
    most = max(_LEAST_PIECE, int(memory * batch.size / max(1.0, needed)))
    return (
        [batch]
        if most >= batch.size
        else [batch.take(slice(low, low + most)) for low in range(0, batch.size, most)]
    )


def _add(sums: list[ByParameter], more: list[ByParameter]) -> None:
    for total, parts in zip(sums, more, strict=False):
        for name, part in parts.items():
            total[name] += part


def _of_term(
    cost: "Cost",
    batch: Batch | None,
    requests: Sequence[Request],
    names: list[str],
    count: int | None,
    limit: Limit | None = None,
    penalty: bool = False,
) -> tuple[list[ByParameter], int]:
    """What one batch, or the penalty, adds to each product, and how many products there is time
    for."""
    leaves = as_leaves(cost.parameters)
    parts: list[ByParameter] = []
    start = time.perf_counter()
    try:
        with torch.enable_grad(), cost.holding(leaves):
            value = cost.penalty_cost(leaves) if penalty else cost.batch_cost(leaves, batch)
            slopes: Sequence[Any] = [None] * len(names)
            if value.requires_grad:
                slopes = torch.autograd.grad(
                    value, [leaves[name] for name in names], create_graph=True, allow_unused=True
                )
            gradient = {
                name: g
                for name, g in zip(names, slopes, strict=True)
                if g is not None and g.requires_grad
            }
            graph = time.perf_counter() - start
            for request in requests[:count]:
                parts.append(_product(gradient, leaves, request))
                if count is None and limit is not None:
                    share = cost.samples / processes()
                    whole = share / batch.size if batch is not None else 1.0
                    spent = time.perf_counter() - start
                    each = (spent - graph) / len(parts)
                    allowed = max(limit.seconds, limit.gradients * graph * whole / _GRAPH)
                    if len(parts) >= limit.least and (spent + each) * whole > allowed:
                        break
    # Of an operation without a second derivative, a once-differentiable function, ...
    except Exception as error:
        if is_passing(error):
            raise
        raise HesseValueError(
            f"cost: PyTorch cannot differentiate it twice ({in_a_line(error)}); is there an"
            " operation in the model or the loss without a second derivative (a fused kernel, a"
            " custom autograd Function that is once_differentiable)?"
        ) from error
    return parts, count if count is not None else len(parts)


def _product(
    gradient: dict[str, Tensor], leaves: dict[str, Tensor], request: Request
) -> dict[str, Tensor]:
    outputs = [(gradient[name], v) for name, v in request.columns.items() if name in gradient]
    if not outputs:
        return {name: torch.zeros_like(leaves[name]) for name in request.rows}
    slopes, directions = zip(*outputs, strict=True)
    parts = torch.autograd.grad(
        slopes,
        [leaves[name] for name in request.rows],
        directions,
        retain_graph=True,
        materialize_grads=True,
    )
    return dict(zip(request.rows, parts, strict=True))
