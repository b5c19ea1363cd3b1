"""Losses as sums over samples: what a batch adds to the cost, and what it is divided by.

A mean over batches of unequal weight is not the mean of their means. So every loss is held as a
*total* (its sum over the batch) and a *weight* (what the mean divides by), and the cost divides the sum of
totals by the sum of weights over the whole data set.
"""

import copy
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hesse.data import moved
from hesse.errors import HesseTypeError, HesseValueError, nearest

Total = Callable[[Any, Any], Tensor]
Weight = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Loss:
    """A loss that is a weighed mean, or a sum, over samples.

    Attributes:
        name: what to call it in a plan.
        total: (prediction, target) -> the sum over the batch.
        weight: (prediction, target) -> what the batch adds to the divisor of the mean; ``None`` for a sum.
        separable: False where the loss of a batch is not the sum of its samples' losses.
        elementwise: True where predictions and targets are compared entry by entry.
    """

    name: str
    total: Total
    weight: Weight | None
    separable: bool = True
    elementwise: bool = False


def half_sse(prediction: Tensor, target: Tensor) -> Tensor:
    """½ Σ (y − ŷ)², the cost of the question that hesse began with."""
    return 0.5 * (target - prediction).square().sum()


def _elements(prediction: Tensor, target: Tensor) -> float:
    return float(torch.broadcast_shapes(prediction.shape, target.shape).numel())


def _samples(prediction: Tensor, target: Tensor) -> float:
    return float(prediction.shape[0])


def _class_weight(options: dict[str, Any]) -> Weight:
    """The divisor of a mean cross entropy: Σ weight[y] over the targets that are not ignored."""
    weight, ignore_index = options.get("weight"), options.get("ignore_index", -100)

    def divisor(prediction: Tensor, target: Tensor) -> float:
        if target.is_floating_point():  # class probabilities: the mean is over positions, unweighed
            return target.numel() / prediction.shape[1 if prediction.ndim > 1 else 0]
        kept = target[target != ignore_index]
        return float(kept.numel() if weight is None else weight.to(kept.device)[kept].sum())

    return divisor


def _over_elements(options: dict[str, Any]) -> Weight:
    return _samples if options.get("reduction") == "batchmean" else _elements


# What the mean of each known loss divides by, given its options.
_DIVISORS: dict[str, Callable[[dict[str, Any]], Weight]] = {
    "cross_entropy": _class_weight,
    "nll_loss": _class_weight,
    "mse_loss": _over_elements,
    "l1_loss": _over_elements,
    "huber_loss": _over_elements,
    "smooth_l1_loss": _over_elements,
    "binary_cross_entropy": _over_elements,
    "binary_cross_entropy_with_logits": _over_elements,
    "poisson_nll_loss": _over_elements,
    "soft_margin_loss": _over_elements,
    "kl_div": _over_elements,
}
_FUNCTIONS = {getattr(F, name): name for name in _DIVISORS}
_MODULES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.MSELoss: "mse_loss",
    nn.L1Loss: "l1_loss",
    nn.HuberLoss: "huber_loss",
    nn.SmoothL1Loss: "smooth_l1_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
    nn.PoissonNLLLoss: "poisson_nll_loss",
    nn.SoftMarginLoss: "soft_margin_loss",
    nn.KLDivLoss: "kl_div",
}
NAMED: dict[str, Any] = {
    "half_sse": half_sse,
    "mse": F.mse_loss,
    "cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy_with_logits,
}


def known_loss(loss: Any) -> Loss | None:
    """The loss behind a name, a `torch.nn` loss module or a `torch.nn.functional` loss; ``None`` for any other callable.

    Raises:
        HesseValueError: an unknown name, or ``reduction="none"``.
        HesseTypeError: not a name and not callable.

    Example:
        >>> known_loss("mse").name
        'mse_loss'
    """
    if isinstance(loss, str):
        if loss not in NAMED:
            raise HesseValueError(f"loss: no loss is named {loss!r}; the nearest known: {nearest(loss, list(NAMED))}")
        loss = NAMED[loss]
    if not callable(loss):
        raise HesseTypeError(
            f"loss: expected a name ({', '.join(NAMED)}), a loss module or a function (prediction, target) -> scalar, "
            f"got {type(loss).__name__}"
        )
    if loss is half_sse:
        return Loss("half_sse", half_sse, None, elementwise=True)
    if isinstance(loss, nn.Module):
        name = _MODULES.get(type(loss))
        if name is None:
            return None
        options = {**vars(loss), **dict(loss.named_buffers())}
        total = copy.copy(loss)
        vars(total)["reduction"] = "sum"
    else:
        function, options = _unwrap_partial(loss)
        name = _FUNCTIONS.get(function)
        if name is None:
            return None
        total = functools.partial(function, **{**options, "reduction": "sum"})
    elementwise = _DIVISORS[name] is _over_elements
    if elementwise and options.get("weight") is not None:
        return None  # it may have the shape of one batch; asking the function tells
    reduction = options.get("reduction", "mean")
    if reduction == "none":
        raise HesseValueError(
            f"loss: {name} with reduction='none' gives one number per sample; the cost is one number: "
            "use reduction='mean' or 'sum'"
        )
    weight = None if reduction == "sum" else _DIVISORS[name]({**options, "reduction": reduction})
    return Loss(name, total, weight, elementwise=elementwise)


def private(loss: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A copy of the user's loss that later changes do not reach, its tensors (class weights) on the device and widened."""
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss)._apply(lambda tensor: moved(tensor, device, dtype))
    function, options = _unwrap_partial(loss)
    if not options:
        return loss
    return functools.partial(function, **pytree.tree_map_only(Tensor, lambda t: moved(t, device, dtype).clone(), options))


def identity(loss: Any) -> Hashable:
    """What tells losses apart: for a known one its function and every option, tensors by value; else the very object."""
    if known_loss(loss) is not None and not isinstance(loss, str):
        function, options = (
            (type(loss), {**vars(loss), **loss._buffers}) if isinstance(loss, nn.Module) else _unwrap_partial(loss)
        )
        values = {name: tuple(v.reshape(-1).tolist()) if isinstance(v, Tensor) else v for name, v in options.items()}
        values = {name: value for name, value in values.items() if isinstance(value, Hashable)}
        return function, tuple(sorted(values.items(), key=lambda item: item[0]))
    return loss if isinstance(loss, Hashable) else object()


def _unwrap_partial(loss: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(loss, functools.partial) and not loss.args:
        return loss.func, dict(loss.keywords)
    return loss, {}


def custom_loss(function: Callable[[Any, Any], Tensor], prediction: Any, target: Any, samples: int) -> Loss | None:
    """Find out, on some samples, whether a function of the user's is a sum or a mean over samples.

    The samples are cut in two parts of n₁ and n₂, in several ways. A sum obeys L = L₁ + L₂; a mean obeys
    n L = n₁ L₁ + n₂ L₂; a loss that does neither couples its samples (``separable=False``). A single sample is taken twice.

    Returns:
        The loss, or ``None`` where these samples do not tell (all losses zero).
    """
    name = getattr(function, "__name__", type(function).__name__)
    coupled = Loss(f"{name} (couples its samples)", function, None, separable=False)
    tensors = [leaf for leaf in pytree.tree_leaves((prediction, target)) if isinstance(leaf, Tensor)]
    if any(tensor.ndim == 0 or len(tensor) != samples for tensor in tensors):
        return coupled  # not arranged by sample
    if samples == 1:
        prediction, target = pytree.tree_map_only(Tensor, lambda t: torch.cat([t, t]), (prediction, target))
        samples = 2

    def evaluate(part: Tensor) -> Tensor:
        return function(*pytree.tree_map_only(Tensor, lambda t: t[part.to(t.device)], (prediction, target))).detach()

    order = torch.arange(samples)
    drawn = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    everything, fits_mean, fits_sum = torch.ones(samples, dtype=torch.bool), True, True
    for cut in (order < 1, order < max(1, samples // 3), order % 2 == 0, drawn < max(1, samples // 2)):
        n = int(cut.sum())
        try:
            # Each on a copy of its own, for a function may write into what it is given.
            whole, first, second = evaluate(everything), float(evaluate(cut)), float(evaluate(~cut))
        except Exception:  # a function of the whole batch and of nothing less
            return coupled
        tolerance = torch.finfo(whole.dtype).eps ** 0.5 * (abs(float(whole)) + abs(first) + abs(second))
        fits_mean &= abs(samples * float(whole) - n * first - (samples - n) * second) <= tolerance * samples
        fits_sum &= abs(float(whole) - first - second) <= tolerance
    if fits_mean and fits_sum:
        return None
    if fits_mean:
        return mean_over_samples(function)
    return Loss(f"{name} (sum over samples)", function, None) if fits_sum else coupled


def mean_over_samples(function: Callable[[Any, Any], Tensor]) -> Loss:
    """A function of the user's that is the mean of its samples' losses."""

    def total(prediction: Any, target: Any) -> Tensor:
        return function(prediction, target) * pytree.tree_leaves(prediction)[0].shape[0]

    def samples(prediction: Any, target: Any) -> float:
        return float(pytree.tree_leaves(prediction)[0].shape[0])

    return Loss(f"{getattr(function, '__name__', type(function).__name__)} (mean over samples)", total, samples)
