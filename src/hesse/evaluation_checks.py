"""What is required of single evaluations of a cost: one finite number, the same each time, that
fits what is known of the loss."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.closed_over import graph_leaves
from hesse.data.batch import Batch
from hesse.errors import HesseTypeError, HesseValueError
from hesse.isolation import IsolatedFunction
from hesse.losses.loss import Loss
from hesse.losses.reduction import as_leaf, inferred_loss
from hesse.parameters import Parameters
from hesse.process.circumstances import is_passing
from hesse.process.quiet import quiet

# Relative: two evaluations of a deterministic model differ by the order of sums at most.
_REPEATS = 1e-5
# Of the largest prediction: kernels for another batch size round otherwise.
_MIXES = 1e-3


def require_scalar(result: Any, what: str) -> Tensor:
    """A tensor with one finite floating number; ``what`` names it in an error."""
    if not isinstance(result, Tensor):
        raise HesseTypeError(
            f"{what}: expected a tensor with one number, got {type(result).__name__}; compute it"
            " with torch"
        )
    if result.numel() != 1:
        raise HesseValueError(
            f"{what}: expected one number, got a tensor of shape {tuple(result.shape)}; reduce it"
            " with .mean() or .sum()"
        )
    if not result.is_floating_point():
        raise HesseTypeError(
            f"{what}: expected a floating number, got {str(result.dtype).removeprefix('torch.')}"
        )
    if not bool(torch.isfinite(result)):
        raise HesseValueError(
            f"{what}: the value is {float(result.detach())}; check the parameters and the data of"
            " that batch"
        )
    return result


def require_sum_over_samples(
    total: Callable[[Any, Any], Tensor], prediction: Any, batch: Batch
) -> None:
    """A loss that gives (total, count) gives a sum over samples, or the batches' totals do not add
    up."""
    kind = None if batch.whole else inferred_loss(total, prediction, batch.targets, batch.size)
    if kind is not None and kind.by_samples:
        raise HesseValueError(
            "loss: it returned (total, count), and the total is a mean over samples; return the"
            " sum, for instance (mean * count, count)"
        )


def leaves_of_loss(function: Any, prediction: Any, batch: Batch) -> tuple[Tensor, ...]:
    """Leaves of a loss's autograd graph besides the prediction, which is cut off here."""
    cut = pytree.tree_map_only(Tensor, as_leaf, prediction)
    try:
        leaves = graph_leaves(function(cut, batch.targets))
    except Exception as error:
        if is_passing(error):
            raise
        # A loss that differentiates the prediction in an input fails: the two are not connected
        # here.
        return ()
    predictions = pytree.tree_leaves(cut)
    return tuple(leaf for leaf in leaves if not any(leaf is z for z in predictions))


def require_recorded_divisor(
    loss: Loss, given: Callable[[Any, Any], Tensor], prediction: Any, batch: Batch, total: Tensor
) -> None:
    """A loss of which the record says the sum and the divisor: their quotient is what the loss
    gives as the user has it. Records are not believed."""
    divisor = loss.divisor(prediction, batch) if loss.is_mean else 1.0
    with quiet():
        expected = given(prediction, batch.targets).detach().double()
    recorded = total.detach().double() / divisor if divisor else expected
    limit = math.sqrt(torch.finfo(total.dtype).eps)
    if bool((recorded - expected).abs() > limit * (expected.abs() + limit)):
        raise HesseValueError(
            f"loss: {loss.name} gives {float(expected):.6g} on batch 0, and its sum divided by"
            f" {divisor:g}, which is what hesse's record of it says, {float(recorded):.6g}; please"
            " report it, and give a function of your own that returns (total, count)"
        )


def require_deterministic(second: Tensor, what: str, first: Tensor) -> None:
    """Two evaluations that gave the same number."""
    first, second = first.detach(), second.detach()
    if not torch.allclose(first, second, rtol=_REPEATS, atol=0.0):
        raise HesseValueError(
            f"{what}: two evaluations gave {float(first):.6g} and {float(second):.6g}; the cost is"
            " random (dropout or sampling inside?): make it deterministic, for instance with"
            " model.eval()"
        )


def mixes_samples(
    isolated: IsolatedFunction, parameters: Parameters, batch: Batch, prediction: Any
) -> bool:
    """Whether the prediction for some samples changes when another sample leaves their batch."""
    n = batch.size - 1
    if (
        n < 1
        or not isinstance(prediction, Tensor)
        or prediction.ndim == 0
        or len(prediction) != batch.size
    ):
        return False
    try:
        with isolated.evaluating(parameters) as owned:
            alone = isolated.call(owned, batch.take(slice(0, n)).clone().x).detach()
    except ValueError:  # normalising over a single sample is refused by torch
        return True
    scale = float(prediction.abs().max()) if prediction.numel() else 0.0
    return alone.shape != prediction[:n].shape or not torch.allclose(
        alone, prediction[:n], rtol=0.0, atol=_MIXES * scale
    )
