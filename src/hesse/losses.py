"""Losses as sums over samples: what a batch adds to the cost, and what it is divided by.

A mean over batches of unequal weight is not the mean of their means. So every loss is held as a
*total* (its sum over the batch) and a *weight* (what the mean divides by), and the cost divides the
sum of totals by the sum of weights over the whole data set.
"""

import copy
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch, moved
from hesse.errors import HesseTypeError, HesseValueError, nearest
from hesse.operations.record import Operation
from hesse.operations.registry import RECORDS

Total = Callable[[Any, Any], Tensor]
Weight = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Loss:
    """A loss that is a weighed mean, or a sum, over samples.

    Attributes:
        name: what to call it in a plan.
        total: (prediction, target) -> the sum over the batch.
        weight: (prediction, target) -> what the batch adds to the divisor of the mean; ``None`` for
            a sum.
        separable: False where the loss of a batch is not the sum of its samples' losses.
        elementwise: True where predictions and targets are compared entry by entry.
        by_samples: True where ``total`` gives the mean over the samples of its batch, and the
            divisor is their number.
        ignored: the label that is left out, where targets are the numbers of classes; ``None``
            where they are not.
        given: the loss as the user gave it, where its sum and its divisor come from a record: what
            they are held against.
    """

    name: str
    total: Total
    weight: Weight | None
    separable: bool = True
    elementwise: bool = False
    by_samples: bool = False
    ignored: int | None = None
    given: Total | None = None

    def of_batch(self, prediction: Any, batch: Batch) -> Tensor:
        """The sum over a batch."""
        total = self.total(prediction, batch.targets)
        return total * batch.size if self.by_samples else total

    def divisor(self, prediction: Any, batch: Batch) -> float:
        """What a batch adds to the divisor of the mean; 0 for a sum."""
        if self.by_samples:
            return float(batch.size)
        return self.weight(prediction, batch.targets) if self.weight else 0.0

    @property
    def is_mean(self) -> bool:
        """Whether it is divided by anything."""
        return self.by_samples or self.weight is not None


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


def _of_prediction_and_target(loss: Any) -> Any:
    """A loss that takes a prediction and a target, as all but one do."""
    record = _record(loss)
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


def _record(loss: Any) -> Operation | None:
    """The record of a `torch.nn` loss module or of a `torch.nn.functional` loss, in a partial or
    not."""
    # By class or by identity: a subclass may compute something else.
    known = type(loss) if isinstance(loss, nn.Module) else _unwrap_partial(loss)[0]
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
    loss = _named(loss)
    if loss is half_sse:
        return Loss("half_sse", half_sse, None, elementwise=True)
    record = _record(loss)
    if record is None or record.loss is None:
        return None
    options, loss = options_of(loss), _of_prediction_and_target(loss)
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
        _reduced(loss, "sum"),
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
    return _unwrap_partial(loss)[1]


def of_each(loss: Loss) -> Callable[[Any, Any], Tensor] | None:
    """(prediction, target without weights) -> the numbers of the samples, or of their entries, that
    a loss of data with weights weighs; ``None`` of a loss without."""
    return loss.total.single if isinstance(loss.total, _WeighedTotal) else None


def known_within(loss: Loss) -> tuple[str, dict[str, Any]] | None:
    """The name and the options of the known loss behind one that a cost holds, weighed or not;
    ``None`` where it is a function of the user's.

    Examples:
        >>> known_within(weighed("bce"))[0]
        'binary_cross_entropy_with_logits'
    """
    given = loss.given or loss.total
    given = given.single if isinstance(given, _WeighedTotal) else given
    if given is half_sse:
        return "half_sse", {}
    record = _record(given.given if isinstance(given, MeanAndVariance) else given)
    return None if record is None else (record.name, options_of(given))


def _named(loss: Any) -> Callable[..., Any]:
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


def _reduced(loss: Callable[..., Any], reduction: str) -> Callable[..., Any]:
    """One of PyTorch's losses with another reduction; the user's stays as it is."""
    if isinstance(loss, MeanAndVariance):
        return MeanAndVariance(_reduced(loss.given, reduction))
    if isinstance(loss, nn.Module):
        # Shallow: its tensors, class weights, are shared, and only the reduction is another.
        other = copy.copy(loss)
        vars(other)["reduction"] = reduction
        return other
    function, options = _unwrap_partial(loss)
    return functools.partial(function, **{**options, "reduction": reduction})


def is_known(loss: Any) -> bool:
    """Whether a loss is one of PyTorch's, or hesse's own."""
    return _record(loss) is not None or _unwrap_partial(loss)[0] is half_sse


def compares_numbers(loss: Any) -> bool:
    """Whether a loss is known to compare predictions and targets number by number, so that targets
    are no classes.

    Examples:
        >>> compares_numbers("bce"), compares_numbers("cross_entropy")
        (True, False)
    """
    known = loss if loss is None else _named(loss)
    record = _record(known)
    return _unwrap_partial(known)[0] is half_sse or (
        record is not None and record.loss is not None and record.loss.divisor == "entries"
    )


def private(loss: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A copy of the user's loss that later changes do not reach, its tensors (class weights) on the
    device and widened."""
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss)._apply(lambda tensor: moved(tensor, device, dtype))
    function, options = _unwrap_partial(loss)
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
            else _unwrap_partial(loss)
        )
        values = {
            name: tuple(v.reshape(-1).tolist()) if isinstance(v, Tensor) else v
            for name, v in options.items()
        }
        values = {name: value for name, value in values.items() if isinstance(value, Hashable)}
        return function, tuple(sorted(values.items(), key=lambda item: item[0]))
    return loss if isinstance(loss, Hashable) else object()


def _unwrap_partial(loss: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(loss, functools.partial) and not loss.args:
        return loss.func, dict(loss.keywords)
    return loss, {}


def counted(function: Callable[..., Any]) -> Loss:
    """A function of the user's that gives ``(total, count)``, its own divisor."""

    return Loss(f"{name_of(function)} (total, count)", _First(function), _Count(function))


@dataclass(frozen=True, eq=False)
class _First:
    function: Callable[..., Any]

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        return self.function(prediction, target)[0]


@dataclass(frozen=True, eq=False)
class _Count:
    function: Callable[..., Any]

    def __call__(self, prediction: Any, target: Any) -> float:
        divisor = self.function(prediction, target)[1]
        tensor = isinstance(divisor, Tensor)
        if not (
            isinstance(divisor, int | float)
            or (tensor and divisor.numel() == 1 and not divisor.is_complex())
        ):
            kind = f"a tensor of shape {tuple(divisor.shape)}" if tensor else type(divisor).__name__
            raise HesseValueError(
                f"loss: it returned (total, count) with {kind} as the count; expected one number,"
                " the divisor"
            )
        if not 0 <= float(divisor) < float("inf"):
            raise HesseValueError(
                f"loss: it returned (total, count) with the count {float(divisor):g}; expected a"
                " number >= 0"
            )
        return float(divisor)


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function of the user's."""
    return getattr(function, "__name__", type(function).__name__)


# ---------------------------------------- a loss beside weights, and none at all


def own_loss(output: Any, batch: Any) -> Tensor:
    """The cost that a model's output is or holds: a number, ``output["loss"]`` or
    ``output.loss``."""
    if (
        isinstance(output, tuple | list)
        and output
        and isinstance(output[0], Tensor)
        and output[0].numel() == 1
    ):
        return output[0]  # as Hugging Face's models give it without dictionaries
    held = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
    if not isinstance(held, Tensor):
        raise HesseValueError(
            "model: without a loss its output is the cost or holds it, and this"
            f" {type(output).__name__} has no tensor as its .loss; does the batch hold the labels?"
            " Or give a loss(output, batch)"
        )
    return held


def weighed(loss: Any) -> Loss:
    """Σ w ℓ / Σ w of a loss that gives one number ℓ for each sample; the target comes with the
    weights.

    Raises:
        HesseValueError: it gives one number for the batch.
    """
    loss = _named(loss)
    # It has no form with one number per sample to weigh.
    if loss is half_sse:
        raise HesseValueError(
            "loss: half_sse is a sum over the whole batch, and the data is (X, y, w), with a weight"
            " for each sample; give 'mse', or a function that returns one number per sample"
        )
    known = is_known(loss)
    return Loss(
        f"{name_of(_unwrap_partial(loss)[0])} (weighed by w)",
        _WeighedTotal(_reduced(_of_prediction_and_target(loss), "none") if known else loss, known),
        _sum_of_weights,
    )


def _sum_of_weights(prediction: Any, target: Any) -> float:
    return float(target[1].sum())


@dataclass(frozen=True, eq=False)
class _WeighedTotal:
    """Σ w ℓ of a loss that gives one number for each sample, or, where it is ``known``, for each
    entry."""

    single: Callable[..., Any]
    known: bool

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        y, w = target
        return (w * self._each(prediction, y, len(w))).sum()

    def _each(self, prediction: Any, target: Any, samples: int) -> Tensor:
        losses = self.single(prediction, target)
        if self.known and losses.ndim > 1:
            losses = losses.flatten(1).mean(1)
        if not isinstance(losses, Tensor) or losses.shape != (samples,):
            described = (
                f"shape {tuple(losses.shape)}"
                if isinstance(losses, Tensor)
                else type(losses).__name__
            )
            raise HesseValueError(
                "loss: the data is (X, y, w), so that it has to give one number for each of the"
                f" {samples} samples, to be weighed by w, and it gave {described}; return a tensor"
                " of shape (samples,), for instance with reduction='none'"
            )
        return losses


# ------------------------------------------------------------ what the form of the data asks for


def loss_for(form: str, loss: Any) -> Any:
    """The loss that data of a form asks for: a `Loss`, or a function of the user's whose reduction
    is to be inferred."""
    if isinstance(loss, type):
        raise HesseTypeError(
            f"loss: expected a loss module, got the class {loss.__name__}; call it,"
            f" {loss.__name__}()"
        )
    if loss is not None and form in ("inputs", "tensor"):
        raise HesseTypeError(
            "data: batch 0 holds inputs only; expected a pair (inputs, targets) of tensors, a"
            " triple with weights of the samples behind them, or a mapping of the model's arguments"
        )
    if loss is None:
        if form in ("pair", "weighted"):
            raise HesseTypeError(
                "loss: expected a name, a loss module or a function (prediction, target) -> scalar"
                " for data of (X, y), got None; without a loss the model's output is the cost, or"
                " holds it, and a batch is a mapping of its arguments"
            )
        return own_loss
    return weighed(loss) if form == "weighted" else known_loss(loss) or loss
