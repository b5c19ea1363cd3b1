"""The table of operations: for each ATen operation the rule that writes its value as an expression."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hesse.derivation.networks.builder import Builder, Given
from hesse.derivation.networks.view import View, number
from hesse.graph.graph import Node, Pick, Ref

aten = torch.ops.aten


@dataclass(frozen=True)
class Call:
    """One node while it is translated.

    Attributes:
        build: where leaves and quantities are made.
        node: the operation.
        view: the view of a value of the graph.
        value: of a value that depends on no parameter, a function of one sample's values; None for one that does.
        known: its number where it has the same for every sample, else None.
        shape: of a value of the graph.
        dtype: of one that depends on no parameter.
        plain_targets: whether a value that holds class numbers never holds a given one.
    """

    build: Builder
    node: Node
    view: Callable[[str], View]
    value: Callable[[str], Given | None]
    known: Callable[[str], Tensor | None]
    shape: Callable[[str], tuple[int, ...]]
    dtype: Callable[[str], torch.dtype]
    plain_targets: Callable[[str, int], bool]

    @property
    def pick(self) -> int:
        """Which result of an operation that has several."""
        return self.node.op.index if isinstance(self.node.op, Pick) else 0

    def arguments(self, *names_and_defaults: Any) -> list[Any]:
        """The arguments by position or by name; each is ``(name, default)``."""
        return [self.option(place, name, default) for place, (name, default) in enumerate(names_and_defaults)]

    def option(self, place: int, name: str, default: Any) -> Any:
        """An argument by its place or its name."""
        return self.node.args[place] if len(self.node.args) > place else self.node.kwargs.get(name, default)

    def operand(self, argument: Any) -> View:
        """A value or a number as a view."""
        return self.view(argument.name) if isinstance(argument, Ref) else View(number(argument))


# What a rule gives: the value, or None where it does not know this form of the operation.
Rule = Callable[[Call], View | None]
RULES: dict[Any, Rule] = {}


def rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Enter a rule for operations: names in `torch.ops.aten`, or functions."""

    def enter(function: Rule) -> Rule:
        for operation in operations:
            for name in operation.split() if isinstance(operation, str) else [operation]:
                if not isinstance(name, str):
                    RULES[name] = function
                elif hasattr(aten, name):
                    RULES[getattr(aten, name)] = function
        return function

    return enter


def rule_of(node: Node) -> Rule | None:
    """The rule for a node's operation, where there is one."""
    op = node.op.op if isinstance(node.op, Pick) else node.op
    return RULES.get(getattr(op, "overloadpacket", op))
