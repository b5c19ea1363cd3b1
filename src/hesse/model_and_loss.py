"""The user's model and loss as functions of the parameters and one batch, differentiable and
without side effects: what a cost is the sum of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from hesse.data.arguments import call_arguments
from hesse.data.batch import Batch, require_batch
from hesse.isolation import IsolatedFunction
from hesse.losses.loss import Loss
from hesse.parameters import Parameters


@final
class ModelAndLoss:
    """A prediction for each batch, and the loss of a prediction.

    All of it takes θ as a dictionary, and a loss's own parameters with it, under ``loss.*``.

    Args:
        isolated: the user's model.
        loss: the loss, settled.
    """

    def __init__(self, isolated: IsolatedFunction, loss: Loss) -> None:
        self._isolated, self._loss = isolated, loss

    def predict(self, parameters: Parameters, batch: Batch) -> Any:
        """The user's prediction for the inputs of one batch."""
        with self._isolated.evaluating(parameters) as owned:
            return self._isolated.call(owned, self._isolated.batch_for_call(batch).x)

    def predict_and_total(self, parameters: Parameters, batch: Batch) -> tuple[Any, Tensor]:
        """The prediction together with its loss, summed over the batch."""
        with self._isolated.evaluating(parameters) as owned:
            batch = self._isolated.batch_for_call(batch)
            prediction = self._isolated.call(owned, batch.x)
            return prediction, self._loss.of_batch(prediction, batch)

    def total(self, parameters: Parameters, batch: Batch | None) -> Tensor:
        """The loss, summed over the batch."""
        require_batch(batch)
        assert batch is not None
        return self.predict_and_total(parameters, batch)[1]

    def loss_of_prediction(self, parameters: Parameters, prediction: Any, batch: Batch) -> Tensor:
        """The loss of a prediction that is given, summed over the batch."""
        with self._isolated.evaluating(parameters):
            return self._loss.of_batch(prediction, self._isolated.batch_for_call(batch))


def as_called(
    model: Callable[..., Any], module: nn.Module | None, names: list[str]
) -> Callable[[Parameters, Any], Any]:
    """(θ, inputs) -> prediction.

    Args:
        model: the user's, a module or a function ``f(params, x)``.
        module: its private copy, whose parameters are put into it from outside; ``None`` for a
            function, which gets them as an argument.
        names: of the parameters that a function gets.
    """
    return _CalledFunction(model, names) if module is None else _CalledModule(module)


# With names of their own, so that a cost can be pickled.
@dataclass(frozen=True)
class _CalledFunction:
    function: Callable[..., Any]
    names: list[str]

    def __call__(self, parameters: Parameters, x: Any) -> Any:
        chosen = {name: parameters[name] for name in self.names}
        args, kwargs = call_arguments(self.function, x, chosen)
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class _CalledModule:
    module: nn.Module

    def __call__(self, parameters: Parameters, x: Any) -> Any:
        args, kwargs = call_arguments(self.module.forward, x)
        return self.module(*args, **kwargs)


@final
class FunctionOfParameters:
    """The user's function of the parameters, and of a batch where there are data.

    Args:
        isolated: the function.
        is_mean: whether it is a mean over the samples of its batch.
    """

    def __init__(self, isolated: IsolatedFunction, is_mean: bool) -> None:
        self._isolated, self._is_mean = isolated, is_mean

    def total(self, parameters: Parameters, batch: Batch | None) -> Tensor:
        """Its value, summed over the batch."""
        with self._isolated.evaluating(parameters) as owned:
            if batch is None:
                return self._isolated.call(owned)
            batch = self._isolated.batch_for_call(batch)
            value = self._isolated.call(owned, batch.item)
            return value * (batch.size if self._is_mean else 1)
