"""Columns: rows of the Hessian by Hessian-vector products, for what has no slots. Slower, never wrong."""

import math
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from hesse.certificates.drawing import drawn, generator
from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.data.batch import Batch

if TYPE_CHECKING:
    from hesse.cost import Cost

Function = Callable[[dict[str, Tensor]], Tensor]
# At most this many products share one evaluation of the model.
WIDEST = 256


def column_width(cost: "Cost", budget: int) -> int:
    """How many products fit side by side into a budget of bytes, judged by what one gradient keeps."""
    kept = 0
    batch = next(iter(cost.batches()))

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    leaves = {name: value.clone().requires_grad_() for name, value in cost.parameters.items()}
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            cost.batch_cost(leaves, batch)
    except RuntimeError:  # torch.func inside the user's function does not go with such hooks
        return 1
    # A product holds cotangents of what the gradient keeps, and works on some more of them.
    return max(1, min(WIDEST, budget // max(1, 4 * kept + 4 * cost.layout.size * cost.dtype.itemsize)))


def rows(
    cost: "Cost", name: str, batch: Batch | None, width: int, singly: bool = False
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Rows H[name, ·] of one batch's share of the Hessian, some at a time.

    Yields:
        The entries of the parameter, and for every parameter b the rows as (rows, *b.shape).
    """
    form = None if batch is None else (batch.size, batch.signature)
    yield from _rows(cost, lambda parameters: cost.batch_cost(parameters, batch), name, form, width, singly)


def penalty_rows(cost: "Cost", name: str) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Likewise for the Hessian of the penalty."""
    yield from _rows(cost, cost.penalty_cost, name, "penalty", WIDEST)


def _rows(
    cost: "Cost", function: Function, name: str, form: Hashable, width: int, singly: bool = False
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    parameters = cost.parameters
    size = parameters[name].numel()
    product = _product(cost, function, name, form, singly)
    for start in range(0, size, width):
        stop = min(size, start + width)
        basis = torch.zeros(stop - start, size, dtype=parameters[name].dtype, device=parameters[name].device)
        basis.diagonal(start).fill_(1)
        yield slice(start, stop), product(basis.reshape(-1, *parameters[name].shape))


def _product(cost: "Cost", function: Function, name: str, form: Hashable, singly: bool) -> Callable[[Tensor], dict[str, Tensor]]:
    """Products with tangents in one parameter, reverse over reverse: H is symmetric, so H v is vᵀ ∂(∂J/∂a)/∂θ.

    One evaluation of the gradient serves all tangents. Where an operation cannot be mapped over, they go one by one.
    """
    parameters = cost.parameters
    chosen: Callable[[Tensor], dict[str, Tensor]] | None = None

    def product(tangents: Tensor) -> dict[str, Tensor]:
        nonlocal chosen, singly
        if not singly:
            try:
                chosen = chosen or _together(function, parameters, name)
                made = {key: value.detach() for key, value in chosen(tangents).items()}
                if _agree(cost, function, name, form, tangents, made):
                    return made
                chosen, singly = None, True
            except RuntimeError:  # an operation without a batching rule; what fails one by one as well is raised from there
                chosen, singly = None, True
        chosen = chosen or _one_by_one(cost, function, name)
        return chosen(tangents)

    return product


def _agree(cost: "Cost", function: Function, name: str, form: Hashable, tangents: Tensor, made: dict[str, Tensor]) -> bool:
    """Whether products side by side are right, tried once for a parameter and a form of batch; some are not.

    On a random sum of them: where the first is right the second need not be.
    """
    tried = cost.captures.setdefault("columns", {})
    if (name, form) not in tried:
        weights = drawn(tangents.new_empty(len(tangents)), generator())
        total = torch.tensordot(weights, tangents, 1)[None]
        expected = _one_by_one(cost, function, name)(total)
        limit = torch.finfo(cost.dtype).eps ** 0.5
        apart = sum(float((torch.tensordot(weights, made[key], 1) - value[0]).norm()) for key, value in expected.items())
        size = sum(float(value.norm()) for value in expected.values())
        alike = apart <= limit * (size + limit) or not math.isfinite(size)
        tried[name, form] = alike or apart <= ROUNDINGS * sum(
            noise(lambda: list(_one_by_one(cost, function, name)(total).values()))
        )
    return tried[name, form]


def _together(function: Function, parameters: dict[str, Tensor], name: str) -> Callable[[Tensor], dict[str, Tensor]]:
    _, back, *_ = vjp(lambda parameters: grad(function)(parameters)[name], parameters)
    return vmap(lambda tangent: back(tangent)[0])


def _one_by_one(cost: "Cost", function: Function, name: str) -> Callable[[Tensor], dict[str, Tensor]]:
    leaves = {key: value.clone().requires_grad_() for key, value in cost.parameters.items()}
    with torch.enable_grad(), cost.holding(leaves):
        value, slope = function(leaves), None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value, [leaves[name]], create_graph=True, materialize_grads=True)
    if slope is None or not slope.requires_grad:
        return lambda tangents: {key: leaf.new_zeros(len(tangents), *leaf.shape) for key, leaf in leaves.items()}

    def product(tangents: Tensor) -> dict[str, Tensor]:
        with cost.holding(leaves):
            made = [
                torch.autograd.grad(slope, list(leaves.values()), tangent, retain_graph=True, materialize_grads=True)
                for tangent in tangents
            ]
        return {key: torch.stack([row[place] for row in made]).detach() for place, key in enumerate(leaves)}

    return product
