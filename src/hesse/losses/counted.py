"""Losses that say what they are divided by: functions of the user's that give (total, count)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hesse.errors import HesseValueError
from hesse.losses.loss import Loss, name_of


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
