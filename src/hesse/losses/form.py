"""The loss that the form of the data asks for: one beside weights of samples, or none at all where
the model's output is the cost, or holds it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hesse.errors import HesseTypeError, HesseValueError
from hesse.losses.known import known_loss
from hesse.losses.weighed import weighed


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
