"""The strategies by which a parameter's rows of H are made, and those that were seen to fail: held
against double backward and found wrong, or ended in an error.

A strategy that failed is not taken again for that model. The plan falls back to the next slower one
and says so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hesse.certificates.comparison import TOLERANCE, Difference
from hesse.cost import Cost
from hesse.errors import HesseValueError, in_a_line
from hesse.process.circumstances import circumstances


class Strategy(StrEnum):
    """How a parameter's rows of H are made, from the fastest to the slowest.

    Attributes:
        CONTRACTION: matrix products of what the sweep brings.
        COLUMNS: Hessian-vector products, side by side.
        ONE_BY_ONE: the same one by one in plain autograd, which is the certificates' way too.
    """

    CONTRACTION = "contraction"
    COLUMNS = "columns"
    ONE_BY_ONE = "products one by one"

    @property
    def slower(self) -> "Strategy":
        """The next slower one; the slowest is its own."""
        every = list(Strategy)
        return every[min(len(every) - 1, every.index(self) + 1)]


# Of the typical entry of a product's largest part, in units of what is taken for rounding at once
# (`TOLERANCE`): what the order of summation may change.
_ORDER_OF_SUMMATION = 10.0


@dataclass(frozen=True)
class Failure:
    """Why a strategy is not taken.

    Attributes:
        strategy: the slowest that failed.
        reason: how.
    """

    strategy: Strategy
    reason: str

    @property
    def text(self) -> str:
        """For the plan."""
        return f"by {self.strategy} {self.reason}"


def failures(cost: Cost) -> dict[str, Failure]:
    """By parameter, what was seen to fail for this model, loss and curvature, and the settings that
    the process has; kept as long as they are."""
    key = cost.curvature, circumstances()
    return cost.captures.setdefault("failures", {}).setdefault(key, {})


def strategy_of(cost: Cost, name: str, by_columns: bool) -> Strategy:
    """The strategy by which a parameter's rows are made."""
    failed = failures(cost).get(name)
    if failed is not None:
        return failed.strategy.slower
    return Strategy.COLUMNS if by_columns else Strategy.CONTRACTION


def fall_back(
    cost: Cost, reasons: Mapping[str, Difference | str], by_columns: tuple[str, ...], what: str
) -> bool:
    """Fall back to the next slower strategies for some parameters.

    Args:
        cost: the cost.
        reasons: what was seen, by parameter: a difference, or an error.
        by_columns: the parameters that went by columns.
        what: what was asked for.

    Returns:
        Whether there are such strategies. The slowest one is the independent way itself: where it
        differs from that by little on the scale of the whole product, it is by rounding.

    Raises:
        HesseValueError: there is no slower strategy.
    """
    fallen, limit = (
        False,
        _ORDER_OF_SUMMATION
        * max(TOLERANCE[parameter.dtype] for parameter in cost.parameters.values()),
    )
    for name, reason in reasons.items():
        strategy = strategy_of(cost, name, name in by_columns)
        if strategy != Strategy.ONE_BY_ONE:
            failures(cost)[name], fallen = Failure(strategy, str(reason)), True
        elif isinstance(reason, str) or not reason.share < limit:
            raise HesseValueError(
                f"cost: the {what} cannot be certified. The rows of {name!r} were made by"
                f" {strategy}, which {reason}; no way of computing them agrees with it. Is the"
                " model random, or does it change with every call?"
            )
    return fallen


def fall_back_if_undefined(cost: Cost, names: Collection[str], by_columns: tuple[str, ...]) -> bool:
    """Fall back from the strategies that gave no number, which is wrong without a certificate too;
    says whether there are slower ones."""
    slower = {
        name: "gave entries that are not finite"
        for name in names
        if strategy_of(cost, name, name in by_columns) != Strategy.ONE_BY_ONE
    }
    return bool(slower) and fall_back(cost, slower, by_columns, "Hessian")


def error_of(cost: Cost, error: Exception) -> dict[str, str]:
    """An error on the way says nothing of which parameter it is about: it counts for all."""
    return dict.fromkeys(cost.layout.names, f"ended in an error ({in_a_line(error)})")
