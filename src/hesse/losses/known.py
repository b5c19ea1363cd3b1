"""PyTorch's losses, and hesse's own: by name, by class or by function, with their options."""

import copy
import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hesse.data.batch import moved
from hesse.errors import HesseTypeError, HesseValueError, nearest
from hesse.losses.loss import Loss, Weight
from hesse.operations.record import Operation
from hesse.operations.registry import RECORDS


def half_sse(prediction: Tensor, target: Tensor) -> Tensor:
    """½ Σ (y − ŷ)², the cost of the question that hesse began with."""
    return 0.5 * (target - prediction).square().sum()


@dataclass(frozen=True, eq=False)
class MeanAndVariance:
    """PyTorch's `gaussian_nll_loss` of a prediction that is a mean and its variance; with ``var=``
    given it takes the mean alone, as any other loss."""

    given: Callable[..., Tensor]

    def __call__(self, prediction: Any, target: Tensor) -> Tensor:
        if not isinstance(prediction, tuple | list) or len(prediction) != 2:
            raise HesseValueError(
                "loss: gaussian_nll_loss takes a mean and its variance, and the model predicts a"
                f" {type(prediction).__name__}; return (mean, variance), or give the variance,"
                " functools.partial(torch.nn.functional.gaussian_nll_loss, var=...)"
            )
        mean, variance = prediction
        return self.given(mean, target, variance)


def of_prediction_and_target(loss: Any) -> Any:
    """A loss that takes a prediction and a target, as all but one do."""
    record = record_of(loss)
    if record is not None and record.name == "gaussian_nll_loss" and "var" not in options_of(loss):
        return MeanAndVariance(loss)
    return loss


def _elements(prediction: Any, target: Tensor) -> float:
    prediction = prediction if isinstance(prediction, Tensor) else prediction[0]
    # Not by PyTorch, which loads SymPy for it: half a second, and warnings that were heard are
    # forgotten.
    return float(math.prod(np.broadcast_shapes(prediction.shape, target.shape)))


def _samples(prediction: Tensor, target: Tensor) -> float:
    return float(prediction.shape[0])


def _class_weight(options: dict[str, Any]) -> Weight:
    """The divisor of a mean cross entropy: Σ weight[y] over the targets that are not ignored."""
    return _ClassWeight(options.get("weight"), options.get("ignore_index", -100))


# Here and below classes rather than functions within functions: these could not be pickled.
@dataclass(frozen=True, eq=False)
class _ClassWeight:
    weight: Tensor | None
    ignored: int

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        if target.is_floating_point():  # class probabilities: the mean is over positions, unweighed
            return target.numel() / prediction.shape[1 if prediction.ndim > 1 else 0]
        kept, weight = target[target != self.ignored], self.weight
        return float(kept.numel() if weight is None else weight.to(kept.device)[kept].sum())


def _over_elements(options: dict[str, Any]) -> Weight:
    return _samples if options.get("reduction") == "batchmean" else _elements


# What the mean of a known loss divides by, given its options; by the word in its record.
_DIVISORS: dict[str, Callable[[dict[str, Any]], Weight]] = {
    "entries": _over_elements,
    "samples": lambda options: _samples,
    "class weights": _class_weight,
}


def record_of(loss: Any) -> Operation | None:
    """The record of a `torch.nn` loss module or of a `torch.nn.functional` loss, in a partial or
    not."""
    # By class or by identity: a subclass may compute something else.
    known = type(loss) if isinstance(loss, nn.Module) else unwrapped(loss)[0]
    return next(
        (
            r
            for r in RECORDS.values()
            if r.loss is not None and known in (r.loss.module, r.loss.function)
        ),
        None,
    )


def names() -> dict[str, Any]:
    """The losses that have a name, by it: the short ones first, then those of
    `torch.nn.functional`."""
    functions = {record: record.loss for record in RECORDS.values() if record.loss}
    return (
        {"half_sse": half_sse}
        | {loss.word: loss.function for loss in functions.values() if loss.word}
        | {record.name: loss.function for record, loss in functions.items()}
    )


def known_loss(loss: Any) -> Loss | None:
    """The loss behind a name, a `torch.nn` loss module or a `torch.nn.functional` loss; ``None``
    for any other callable.

    Raises:
        HesseValueError: an unknown name, or ``reduction="none"``.
        HesseTypeError: not a name and not callable.

    Examples:
        >>> known_loss("mse").name
        'mse_loss'
    """
    loss = named(loss)
    if loss is half_sse:
        return Loss("half_sse", half_sse, None, elementwise=True)
    record = record_of(loss)
    if record is None or record.loss is None:
        return None
    options, loss = options_of(loss), of_prediction_and_target(loss)
    name, divisor = record.name, record.loss.divisor
    if divisor == "entries" and options.get("weight") is not None:
        return None  # it may have the shape of one batch; asking the function tells
    reduction = options.get("reduction", "mean")
    if reduction == "none":
        raise HesseValueError(
            f"loss: {name} with reduction='none' gives one number per sample; the cost is one"
            " number: use reduction='mean' or 'sum', or give the samples weights, data=(X, y, w)"
        )
    # The total is always the sum: the mean's divisor is taken over the whole data set.
    weight = None if reduction == "sum" else _DIVISORS[divisor]({**options, "reduction": reduction})
    ignored = options.get("ignore_index", -100) if divisor == "class weights" else None
    return Loss(
        name,
        reduced(loss, "sum"),
        weight,
        elementwise=divisor == "entries" and not isinstance(loss, MeanAndVariance),
        ignored=ignored,
        given=loss,
    )


def options_of(loss: Any) -> dict[str, Any]:
    """The options of one of PyTorch's losses, its tensors among them."""
    if isinstance(loss, MeanAndVariance):
        return options_of(loss.given)
    if isinstance(loss, nn.Module):
        return {**vars(loss), **dict(loss.named_buffers())}
    return unwrapped(loss)[1]


def named(loss: Any) -> Callable[..., Any]:
    """The function or module behind a loss as the user gives it."""
    if isinstance(loss, str):
        known = names()
        if loss in known:
            return known[loss]
        if loss.endswith("_loss") and hasattr(F, loss):
            raise HesseValueError(
                f"loss: torch.nn.functional.{loss} takes something else than a prediction and a"
                " target; give a function (prediction, target) -> scalar that calls it"
            )
        raise HesseValueError(
            f"loss: no loss is named {loss!r}; the nearest known: {nearest(loss, list(known))}"
        )
    if not callable(loss):
        raise HesseTypeError(
            "loss: expected a name ('half_sse', 'mse', 'cross_entropy', 'bce', or one of"
            " torch.nn.functional's losses), a loss module or a function (prediction, target) ->"
            f" scalar, got {type(loss).__name__}"
        )
    return loss


def reduced(loss: Callable[..., Any], reduction: str) -> Callable[..., Any]:
    """One of PyTorch's losses with another reduction; the user's stays as it is."""
    if isinstance(loss, MeanAndVariance):
        return MeanAndVariance(reduced(loss.given, reduction))
    if isinstance(loss, nn.Module):
        # Shallow: its tensors, class weights, are shared, and only the reduction is another.
        other = copy.copy(loss)
        vars(other)["reduction"] = reduction
        return other
    function, options = unwrapped(loss)
    return functools.partial(function, **{**options, "reduction": reduction})


def is_known(loss: Any) -> bool:
    """Whether a loss is one of PyTorch's, or hesse's own."""
    return record_of(loss) is not None or unwrapped(loss)[0] is half_sse


def compares_numbers(loss: Any) -> bool:
    """Whether a loss is known to compare predictions and targets number by number, so that targets
    are no classes.

    Examples:
        >>> compares_numbers("bce"), compares_numbers("cross_entropy")
        (True, False)
    """
    known = loss if loss is None else named(loss)
    record = record_of(known)
    return unwrapped(known)[0] is half_sse or (
        record is not None and record.loss is not None and record.loss.divisor == "entries"
    )


def private(loss: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A copy of the user's loss that later changes do not reach, its tensors (class weights) on the
    device and widened."""
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss)._apply(lambda tensor: moved(tensor, device, dtype))
    function, options = unwrapped(loss)
    if not options:
        return loss
    return functools.partial(
        function, **pytree.tree_map_only(Tensor, lambda t: moved(t, device, dtype).clone(), options)
    )


def identity(loss: Any) -> Hashable:
    """What tells losses apart: for a known one its function and every option, tensors by value;
    else the very object."""
    if not isinstance(loss, str) and is_known(loss):
        function, options = (
            (type(loss), {**vars(loss), **loss._buffers})
            if isinstance(loss, nn.Module)
            else unwrapped(loss)
        )
        values = {
            name: tuple(v.reshape(-1).tolist()) if isinstance(v, Tensor) else v
            for name, v in options.items()
        }
        values = {name: value for name, value in values.items() if isinstance(value, Hashable)}
        return function, tuple(sorted(values.items(), key=lambda item: item[0]))
    return loss if isinstance(loss, Hashable) else object()


def unwrapped(loss: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(loss, functools.partial) and not loss.args:
        return loss.func, dict(loss.keywords)
    return loss, {}
