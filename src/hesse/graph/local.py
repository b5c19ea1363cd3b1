"""A node at the values of some samples: what a rule for it is given."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from hesse.graph.graph import Node

# Every value of a graph by its name: tensors, and now and then a number.
Values = Mapping[str, Any]
T = TypeVar("T")


class Local:
    """A node at the values of some samples.

    Args:
        node: the operation.
        active: its inputs that derivatives flow through.
        values: every value by name, with a leading sample axis where it is in ``batched``.
        batched: the names of the values that have a sample axis.
    """

    def __init__(
        self, node: Node, active: tuple[str, ...], values: Values, batched: set[str]
    ) -> None:
        self.node, self.active = node, active
        self._values, self._batched = values, batched
        self._made: dict[Callable[..., Any], Any] = {}

    def value(self, name: str) -> Any:
        """One of the operation's inputs, or its value."""
        return self._values[name]

    def is_batched(self, name: str) -> bool:
        """Whether an input has a sample axis."""
        return name in self._batched

    def once(self, make: "Callable[[Local], T]") -> T:
        """What several rules of the operation need of it, made for the first of them."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def function(self, inputs: Mapping[str, Any]) -> Callable[..., Any]:
        """The node as a function of its active inputs, its other inputs given."""
        return partial(self._evaluate, inputs)

    def _evaluate(self, inputs: Mapping[str, Any], *actives: Any) -> Any:
        # The active inputs take the places of those given under the same names.
        return self.node.evaluate({**inputs, **dict(zip(self.active, actives, strict=True))})
