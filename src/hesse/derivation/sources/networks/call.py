"""One node of a graph while it is translated: what a formula of an operation is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Expression
from hesse.derivation.sources.networks.builder import Builder, Given
from hesse.derivation.sources.networks.view import View, number
from hesse.graph.graph import Node, Pick, Ref
from hesse.operations.record import Operation


@dataclass(frozen=True)
class Call:
    """One node while it is translated.

    Attributes:
        build: where leaves and quantities are made.
        node: the operation.
        record: what is known of it.
        view: the view of a value of the graph.
        value: of a value that depends on no parameter, a function of one sample's values; None for
            one that does.
        known: its number where it has the same for every sample, else None.
        shape: of a value of the graph.
        dtype: of one that depends on no parameter.
        label: what data are called: those of a column of x are x0.
        plain_targets: whether a value that holds class numbers never holds a given one.
    """

    build: Builder
    node: Node
    record: Operation
    view: Callable[[str], View]
    value: Callable[[str], Given | None]
    known: Callable[[str], Tensor | None]
    shape: Callable[[str], tuple[int, ...]]
    dtype: Callable[[str], torch.dtype]
    label: Callable[[str], str]
    plain_targets: Callable[[str, int], bool]

    @property
    def pick(self) -> int:
        """Which result of an operation that has several."""
        return self.node.op.index if isinstance(self.node.op, Pick) else 0

    def arguments(self, *names_and_defaults: Any) -> list[Any]:
        """The arguments by position or by name; each is ``(name, default)``."""
        return [
            self.option(place, name, default)
            for place, (name, default) in enumerate(names_and_defaults)
        ]

    def option(self, place: int, name: str, default: Any) -> Any:
        """An argument by its place or its name."""
        return (
            self.node.args[place]
            if len(self.node.args) > place
            else self.node.kwargs.get(name, default)
        )

    def operand(self, argument: Any) -> View:
        """A value or a number as a view."""
        return self.view(argument.name) if isinstance(argument, Ref) else View(number(argument))

    def combined(self, a: Any, b: Any, how: Callable[[Expression, Expression], Expression]) -> View:
        """Two operands with broadcasting."""
        (left, right), axes = self.build.axes.broadcast([self.operand(a), self.operand(b)])
        return View(how(left, right), axes)

    def variant(self, options: Any) -> str:
        """A name for a function with these options: the plain one, or with a number where it means
        another already."""
        name = self.record.name
        known = self.build.variants.setdefault(name, [])
        if repr(options) not in known:
            known.append(repr(options))
        place, plain = known.index(repr(options)) + 1, self.record.function is None
        return name if place == 1 and plain else f"{name}{place + (not plain)}"
