"""Losses beside weights of samples: Σ w ℓ / Σ w."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hesse.errors import HesseValueError
from hesse.losses.known import (
    MeanAndVariance,
    half_sse,
    is_known,
    named,
    of_prediction_and_target,
    options_of,
    record_of,
    reduced,
    unwrapped,
)
from hesse.losses.loss import Loss, name_of


def weighed(loss: Any) -> Loss:
    """Σ w ℓ / Σ w of a loss that gives one number ℓ for each sample; the target comes with the
    weights.

    Raises:
        HesseValueError: it gives one number for the batch.
    """
    loss = named(loss)
    # It has no form with one number per sample to weigh.
    if loss is half_sse:
        raise HesseValueError(
            "loss: half_sse is a sum over the whole batch, and the data is (X, y, w), with a weight"
            " for each sample; give 'mse', or a function that returns one number per sample"
        )
    known = is_known(loss)
    return Loss(
        f"{name_of(unwrapped(loss)[0])} (weighed by w)",
        _WeighedTotal(reduced(of_prediction_and_target(loss), "none") if known else loss, known),
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
    record = record_of(given.given if isinstance(given, MeanAndVariance) else given)
    return None if record is None else (record.name, options_of(given))
