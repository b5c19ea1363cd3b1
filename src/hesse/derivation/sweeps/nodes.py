"""The nodes of a computational graph: what goes into each, and its own derivatives."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import Tensor

from hesse.derivation.calculus.differentiation import (
    OfEntry,
    derivative,
    derivative_of_definition,
    explicit_derivative,
)
from hesse.derivation.calculus.expression import Entry, Expression
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import simplify
from hesse.derivation.calculus.program import Leaf, Quantity, mentioned
from hesse.derivation.calculus.rules import Derivative
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.lines.adjoints import natural_entry
from hesse.derivation.lines.letters import Letters
from hesse.derivation.sweeps.formulas import Formulas, listed, sides_of
from hesse.derivation.sweeps.sweeps import Sweeps

_WRITTEN_OUT = 36  # numbers of a local derivative that is shown with them


@dataclass(frozen=True)
class LocalDerivative:
    """A derivative of one node by what goes in, all else held.

    Attributes:
        line: ``∂z3/∂a2 = W2``; in indices where it has no form as a matrix.
        rule: of differentiation.
        value: its numbers as a matrix, whose rows are the entries of the node, or of the first of
            two inputs, counted row by row; None where they are many, or no matrix.
    """

    line: str
    rule: str
    value: Tensor | None


@dataclass(frozen=True)
class Node:
    """A leaf or a quantity.

    Attributes:
        name: its key.
        symbol: as it is written.
        role: what it is to the cost.
        line: the operation, ``z3 = W2 a2``; its symbol alone where it is given.
        inputs: the nodes that go in.
        first: its derivatives, by each input that moves.
        second: its second derivatives that are not zero, by two inputs.
        curvature: what it adds to second derivatives, in a sentence.
    """

    name: str
    symbol: str
    role: Literal["parameter", "data", "quantity", "cost"]
    line: str
    inputs: tuple[str, ...] = ()
    first: tuple[LocalDerivative, ...] = ()
    second: tuple[LocalDerivative, ...] = ()
    curvature: str = ""


def nodes(swept: Sweeps, numbers: Valuation, formulas: Formulas) -> Iterator[Node]:
    """What is given, and then the quantities in the order in which they are computed."""
    made = _Made(swept, numbers, formulas)
    quantities = [swept.program.by_name[name] for name in swept.values]
    used = set().union(*(quantity.mentions for quantity in quantities))
    for name, leaf in swept.program.leaves.items():
        role = "parameter" if name in swept.parameters else "data"
        if role == "parameter" or (name in used and _is_data(leaf)):
            yield Node(name, formulas.symbol(name), role, formulas.symbol(name))
    yield from map(made.node, quantities)


def _is_data(leaf: Leaf) -> bool:
    """Whether a leaf holds numbers of the cost, not a direction or a condition on indices."""
    return leaf.role != "direction" and leaf.shown is None


class _Made:
    """The quantities of one program as nodes."""

    def __init__(self, swept: Sweeps, numbers: Valuation, formulas: Formulas) -> None:
        self.swept, self.numbers, self.formulas = swept, numbers, formulas
        self.program, self.letters = swept.program, Letters(swept.program)

    def node(self, quantity: Quantity) -> Node:
        leaves, entry = self.program.leaves, quantity.entry
        inputs = tuple(
            name
            for name in mentioned(quantity.definition)
            if name not in leaves or _is_data(leaves[name])
        )
        moving = [name for name in inputs if name in self.swept.tangents]
        first: list[LocalDerivative] = []
        second: dict[tuple[str, str], LocalDerivative] = {}
        for place, name in enumerate(moving):
            by = self._beside(name, entry)
            once = derivative_of_definition(self.program, entry, by, explicit_derivative)
            first.append(self._local(once, entry, by))
            for other in moving[place:]:
                beside = self._beside(other, entry, by)
                twice = derivative(once.expression, beside, self._held_but(inputs))
                if not self._tidy(twice).is_zero:
                    second[name, other] = self._local(twice, entry, by, beside)
        return Node(
            quantity.name,
            self.formulas.symbol(quantity.name),
            "cost" if quantity.name == self.program.cost.name else "quantity",
            self.formulas.definition(quantity),
            inputs,
            tuple(first),
            tuple(second.values()),
            self._curvature(moving, second),
        )

    def _curvature(self, moving: Collection[str], pairs: Collection[tuple[str, str]]) -> str:
        if not moving:
            return "No parameter moves it."
        symbol = self.formulas.symbol
        curved = [symbol(one) for one, other in pairs if one == other]
        if curved:
            return (
                f"Curved in {listed(curved)}: on the second way back its second derivative meets δ."
            )
        met = [f"{symbol(one)} with {symbol(other)}" for one, other in pairs]
        if met:
            return (
                f"A product, linear in each factor: its second derivative is that of {listed(met)}."
                " On the second way back each factor brings the tangent of the other."
            )
        return "Linear: no second derivative, and the second way back is like the first."

    def _beside(self, name: str, *others: Entry) -> Entry:
        """An entry of what goes in, in letters of its own."""
        quantity = self.program.by_name.get(name)
        entry = natural_entry(self.program, name) if quantity is None else quantity.entry
        return self.letters.beside(entry, {i.name for other in others for i in other.indices})

    def _held_but(self, inputs: Collection[str]) -> OfEntry:
        """Only the inputs of a node are held: its own value, which its derivative may be written
        in, moves with them."""

        def moved(entry: Entry, by: Entry) -> Expression:
            if entry.name in inputs or entry.name not in self.program.by_name:
                return explicit_derivative(entry, by)
            return derivative_of_definition(self.program, entry, by, moved).expression

        return moved

    def _local(self, derived: Derivative, entry: Entry, *by: Entry) -> LocalDerivative:
        value, sides = self._tidy(derived), sides_of(entry, by)
        return LocalDerivative(
            self.formulas.derivative(value, entry, by),
            derived.rule.name,
            None if sides is None else self._matrix(value, *sides),
        )

    def _matrix(self, value: Expression, *sides: Entry) -> Tensor | None:
        shape = [prod(self.numbers.size(index.size) for index in one.indices) for one in sides]
        if prod(shape) > _WRITTEN_OUT:
            return None
        free = tuple(index for one in sides for index in one.indices)
        return self.numbers.array(value, free).reshape(shape)

    def _tidy(self, derived: Derivative) -> Expression:
        return simplify(derived.expression, facts(self.program))
