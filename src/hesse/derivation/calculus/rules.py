"""A derivative, and the rules of differentiation that were applied to come by it."""

from collections.abc import Iterable
from dataclasses import dataclass

from hesse.derivation.calculus.algebra import add
from hesse.derivation.calculus.expression import ZERO, Expression


@dataclass(frozen=True)
class Rule:
    """A rule of differentiation: its name, and why it holds where that is always the same."""

    name: str
    reason: str = ""


LINEAR = Rule("linear")
SUM = Rule("sum rule")
PRODUCT = Rule("product rule")
CHAIN = Rule("chain rule")
POWER = Rule("power rule")  # u^n
EXPONENTIAL = Rule("exponential rule")  # a^u
GENERAL_POWER = Rule("general power rule")  # u^v, both of which move


@dataclass(frozen=True)
class Derivative:
    """∂ value / ∂ by, and what was applied to come by it.

    Attributes:
        expression: the derivative.
        rules: the outermost rule of each term that moves, even where its derivative is zero, as
            that of |z|' is; of a factor in parentheses, those of its own terms.
    """

    expression: Expression = ZERO
    rules: tuple[Rule, ...] = ()

    @property
    def rule(self) -> Rule:
        """The one rule that was applied to every term that moves, or else the sum rule."""
        different = set(self.rules) or {LINEAR}
        return SUM if len(different) > 1 else different.pop()


HELD = Derivative()  # of what does not move


def by_rule(rule: Rule, expression: Expression) -> Derivative:
    """A derivative by one rule; by none where nothing moves."""
    return HELD if expression.is_zero else Derivative(expression, (rule,))


def of_sum(parts: Iterable[Derivative]) -> Derivative:
    """The derivative of a sum, from those of its terms."""
    parts = tuple(parts)
    applied = tuple(rule for part in parts for rule in part.rules)
    return Derivative(add(*(part.expression for part in parts)), applied)


def of_power(base: bool, exponent: bool) -> tuple[Rule, ...]:
    """The rule for a power of which the base, the exponent or both move."""
    if base:
        return (GENERAL_POWER if exponent else POWER,)
    return (EXPONENTIAL,) if exponent else ()
