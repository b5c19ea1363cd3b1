"""The value and the gradient of a cost, over the whole data set."""

import torch
from torch import Tensor

from hesse.cost import Cost, require_cost
from hesse.data.batch import Batch
from hesse.diagnosis import diagnosed
from hesse.distributed.group import summed
from hesse.distributed.shares import share_of
from hesse.parameters import Parameters, as_leaves, slopes_in
from hesse.process.undisturbed import undisturbed


@undisturbed()
def value(cost: Cost) -> float:
    """J(θ), over the whole data set.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: p["x"].square().sum(), {"x": torch.tensor([1.0, 2.0])}
        ... )
        >>> hesse.value(cost)
        5.0
    """
    require_cost(cost)
    share = share_of(cost)
    # A loss may differentiate in its prediction, which then has to depend on something.
    leaves = as_leaves(cost.parameters)

    def sums() -> list[Tensor]:
        shares = [
            _share(share, leaves, index, batch).detach()
            for index, batch in enumerate(share.batches())
        ]
        penalty = float(share.penalty_cost(cost.parameters).detach())
        return [torch.tensor(sum(map(float, shares)) + penalty, dtype=torch.float64, device="cpu")]

    return float(summed("the value of a cost", sums)[0])


def gradient(cost: Cost) -> dict[str, Tensor]:
    """∂J/∂θ by parameter name, each of its parameter's shape.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: p["x"].square().sum(), {"x": torch.tensor([1.0, 2.0])}
        ... )
        >>> hesse.gradient(cost)
        {'x': tensor([2., 4.])}
    """
    return value_and_gradient(cost)[1]


@undisturbed()
def value_and_gradient(cost: Cost) -> tuple[float, dict[str, Tensor]]:
    """J and ∂J/∂θ from one pass over the data."""
    require_cost(cost)
    share = share_of(cost)

    def sums() -> list[Tensor]:
        value, slopes = _own_value_and_gradient(share)
        return [torch.tensor(value, dtype=torch.float64, device="cpu"), *slopes.values()]

    value, *slopes = summed("the gradient of a cost", sums)
    return float(value), dict(zip(cost.parameters, slopes, strict=True))


def _own_value_and_gradient(cost: Cost) -> tuple[float, dict[str, Tensor]]:
    """The same of the share of one process."""
    leaves = as_leaves(cost.parameters)
    sums = {name: torch.zeros_like(parameter) for name, parameter in cost.parameters.items()}
    value = 0.0

    def add(share: Tensor) -> None:
        nonlocal value
        value += float(share.detach())
        for name, slope in slopes_in(leaves, share).items():
            sums[name] += slope

    for index, batch in enumerate(cost.batches()):
        with cost.holding(leaves):
            add(_share(cost, leaves, index, batch))
    if cost.penalty is not None:
        add(cost.penalty_cost(leaves))
    return value, sums


def batch_gradient(cost: Cost, batch: Batch) -> dict[str, Tensor]:
    """The gradient of what one batch, or a part of one, adds to J."""
    leaves = as_leaves(cost.parameters)
    with cost.holding(leaves):
        return slopes_in(leaves, cost.batch_cost(leaves, batch))


def _share(cost: Cost, parameters: Parameters, index: int, batch: Batch | None) -> Tensor:
    """What one batch adds to J; where the user's code fails now, an error that says so."""
    with diagnosed(
        "cost",
        "its parameters" if batch is None else f"batch {index}",
        parameters,
        batch and batch.item,
    ):
        return cost.batch_cost(parameters, batch)
