"""The penalty of a cost: a number that multiplies ½ ‖θ‖², or a function of the parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hesse.closed_over import graph_leaves, in_words
from hesse.data.batch import Batch
from hesse.diagnosis import diagnosed
from hesse.errors import HesseTypeError, HesseValueError
from hesse.evaluation_checks import require_scalar
from hesse.isolation import IsolatedFunction
from hesse.parameters import Parameters
from hesse.private_modules import PrivateModules

Penalty = float | Callable[[Parameters], Tensor]


def require_penalty(penalty: Any, parameters: Parameters) -> Penalty | None:
    """The penalty as a cost keeps it; a function is evaluated once, at the parameters."""
    if penalty is None:
        return None
    if isinstance(penalty, int | float) and not isinstance(penalty, bool):
        if not 0 <= penalty < float("inf"):
            raise HesseValueError(f"penalty: expected a finite number >= 0, got {penalty}")
        return float(penalty)
    if not callable(penalty):
        raise HesseTypeError(
            "penalty: expected a number or a function of {name: Tensor}, got"
            f" {type(penalty).__name__}"
        )
    isolated = IsolatedFunction(PrivateModules(None), {}, penalty, parameters)

    def evaluate(given: Parameters, _: Batch | None) -> Tensor:
        with diagnosed("penalty", f"the parameters {', '.join(given)[:80]}", given, ()):
            return require_scalar(penalty(given), "penalty(params)")

    closed_over = graph_leaves(isolated.observe(evaluate, parameters, None))
    if closed_over:
        raise HesseValueError(
            f"penalty: it depends on {in_words(closed_over)}, other than through its argument,"
            " and the derivatives would leave that out; take them from the dictionary that it is"
            " called with"
        )

    return _IsolatedPenalty(isolated)


@dataclass(frozen=True)
class _IsolatedPenalty:
    isolated: IsolatedFunction

    def __call__(self, parameters: Parameters) -> Any:
        with self.isolated.evaluating(parameters):
            return self.isolated.call(parameters)


def penalty_value(penalty: Penalty | None, parameters: Parameters, zero: Tensor) -> Tensor:
    """The penalty at parameters, a scalar; what it is added to is ``zero``, in dtype and device."""
    if penalty is None:
        return zero
    if isinstance(penalty, int | float):
        squares = (parameter.square().sum() for parameter in parameters.values())
        return 0.5 * penalty * sum(squares, start=zero)
    return penalty(parameters).reshape(())
