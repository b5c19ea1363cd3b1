"""A cost's computational graph with its numbers, step by step: one node in one sweep is a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from hesse.derivation.calculus.differentiation import (
    OfEntry,
    derivative,
    derivative_of_definition,
    explicit_derivative,
)
from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import simplify
from hesse.derivation.calculus.program import Quantity, mentioned
from hesse.derivation.calculus.rules import Derivative
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.lines.adjoints import natural_entry
from hesse.derivation.lines.letters import Letters
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.text_writer import TextWriter
from hesse.derivation.sweeps.subject import Subject, direction
from hesse.derivation.sweeps.sweeps import sweeps
from hesse.errors import HesseValueError

SWEEPS = (
    "Values, forward",
    "Their δ, backward",
    "Tangents, forward",
    "Their δ, backward again",
)
MOST_NODES = 150  # a picture of more is not looked at node by node
_WRITTEN_OUT = 36  # numbers of a local derivative that is written out

Role = Literal["parameter", "data", "constant", "quantity", "cost"]


@dataclass(frozen=True)
class LocalDerivative:
    """A derivative of one node by what goes in, all else held.

    Attributes:
        line: ``∂z3/∂a2 = W2``; in indices where it has no form as a matrix.
        rule: of differentiation.
        value: its numbers, those of the node first; None where they are many.
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
    """

    name: str
    symbol: str
    role: Role
    line: str
    inputs: tuple[str, ...] = ()
    first: tuple[LocalDerivative, ...] = ()
    second: tuple[LocalDerivative, ...] = ()


@dataclass(frozen=True)
class Step:
    """One node in one sweep.

    Attributes:
        sweep: its place in `SWEEPS`.
        node: whose.
        symbol: what is computed: z3, δ3, ż3 or δ̇3.
        line: from what, ``δ3 = δŷ ∘ f'(z3)``.
        why: the rule, and what it is applied to.
        value: its numbers.
    """

    sweep: int
    node: str
    symbol: str
    line: str
    why: str
    value: Tensor


@dataclass(frozen=True)
class Computation:
    """The graph of a cost, and the four sweeps through it.

    Attributes:
        nodes: in an order in which they can be computed, the cost last.
        values: the numbers of what is given, by node.
        steps: in order.
        notes: what a reader should know, in sentences.
    """

    nodes: tuple[Node, ...]
    values: Mapping[str, Tensor]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    def of(self, sweep: int) -> dict[str, Tensor]:
        """The numbers of one sweep, by node."""
        return {step.node: step.value for step in self.steps if step.sweep == sweep}


def computation(subject: Subject, v: Mapping[str, Tensor] | None = None) -> Computation:
    """Run the four sweeps.

    Args:
        subject: a cost with its numbers.
        v: the direction of H v, an array for each parameter; by default at random.

    Raises:
        HesseValueError: it has more nodes than one would look at.

    Example:
        >>> from hesse.derivation.sources.language import program
        >>> from hesse.derivation.sweeps.subject import at_random
        >>> found = computation(at_random(*program("1/2*sum((y - f(W @ x))**2)", "W")))
        >>> for step in found.steps:
        ...     print(step.sweep, step.line)
        0 z = W x
        0 ŷ = f(z)
        0 J = ½ (y − ŷ)ᵀ (y − ŷ)
        1 δJ = 1
        1 δŷ = ŷ − y
        1 δz = δŷ ∘ f'(z)
        1 ∂J/∂W = δz xᵀ
        2 v = given
        2 ż = v x
        2 ŷ̇ = f'(z) ∘ ż
        2 J̇ = −(y − ŷ)ᵀ ŷ̇
        3 δ̇J = 0
        3 δ̇ŷ = ŷ̇
        3 δ̇z = δ̇ŷ ∘ f'(z) + δŷ ∘ f''(z) ∘ ż
        3 Hv = δ̇z xᵀ
    """
    return _Running(subject, direction(subject) if v is None else v).computation()


class _Running:
    """The sweeps through one program, with their numbers and their formulas."""

    def __init__(self, subject: Subject, v: Mapping[str, Tensor]) -> None:
        self.subject, self.swept = subject, sweeps(subject.program, subject.parameters)
        self.program = self.swept.program
        nodes = len(self.program.leaves) + len(self.swept.values)
        if nodes > MOST_NODES:
            raise HesseValueError(
                f"the graph has {nodes} nodes, and at most {MOST_NODES} are drawn; give a smaller"
                " network of the same kind"
            )
        named = {self.swept.tangents[name]: v[name] for name in subject.parameters}
        self.numbers = Valuation(self.program, {**subject.arrays, **named}, subject.functions)
        self.writer, self.forms = TextWriter(self.program), Forms(self.program)
        self.letters = Letters(self.program)
        self.cost = self.program.cost.name

    def computation(self) -> Computation:
        made = [self.program.by_name[name] for name in self.swept.values]
        used = set().union(*(quantity.mentions for quantity in made))
        leaves = [
            leaf
            for name, leaf in self.program.leaves.items()
            if leaf.role != "direction"
            and leaf.shown is None
            and (name in used or leaf.role == "parameter")
        ]
        given = tuple(
            Node(leaf.name, self._symbol(leaf.name), leaf.role, self._symbol(leaf.name))
            for leaf in leaves
        )
        nodes = (*given, *map(self._node, made))
        return Computation(
            nodes,
            {leaf.name: self.numbers.value(leaf.name) for leaf in leaves},
            (*self._values(), *self._signals(), *self._tangents(), *self._moved_signals()),
            self.subject.notes,
        )

    # ---------------------------------------------------------------- steps

    def _values(self) -> Iterator[Step]:
        for name in self.swept.values:
            yield self._step(0, name, name, self.program.by_name[name].note)

    def _signals(self) -> Iterator[Step]:
        users = self._users()
        yield self._said(1, "δ", "1", 1.0, "how J feels itself")
        for name, signal in self.swept.signals.items():
            through = ", ".join(map(self._symbol, users[name])) or "nothing"
            yield self._step(1, name, signal, f"chain rule, through {through}")

    def _tangents(self) -> Iterator[Step]:
        for name, tangent in self.swept.tangents.items():
            if name in self.subject.parameters:
                symbol = self._symbol(tangent)
                why = f"how {self._symbol(name)} moves"
                yield Step(2, name, symbol, f"{symbol} = given", why, self.numbers.value(tangent))
            else:
                yield self._moved(2, name, name, tangent)

    def _moved_signals(self) -> Iterator[Step]:
        yield self._said(3, "δ̇", "0", 0.0, "δJ is 1, and stays so")
        for name, moved in self.swept.moved_signals.items():
            yield self._moved(3, name, self.swept.signals[name], moved)

    def _step(self, sweep: int, node: str, name: str, why: str) -> Step:
        quantity = self.program.by_name[name]
        return Step(
            sweep, node, self._symbol(name), self._line(quantity), why, self.numbers.value(name)
        )

    def _moved(self, sweep: int, node: str, source: str, name: str) -> Step:
        """A step in which the line of ``source`` is differentiated along v."""
        moves = self._moving_in(self.program.by_name[source])
        what = f"{' and '.join(map(self._symbol, moves))} move{'s' * (len(moves) == 1)}"
        return self._step(sweep, node, name, f"{self.swept.rules[name].name}: {what}")

    def _said(self, sweep: int, sign: str, formula: str, value: float, why: str) -> Step:
        symbol = f"{sign}{self._symbol(self.cost)}"
        number = torch.tensor(value, dtype=torch.float64)
        return Step(sweep, self.cost, symbol, f"{symbol} = {formula}", why, number)

    def _moving_in(self, quantity: Quantity) -> list[str]:
        """What moves along v, of what a quantity is made of."""
        moved = {
            signal
            for name, signal in self.swept.signals.items()
            if name in self.swept.moved_signals
        }
        return [
            name
            for name in mentioned(quantity.definition)
            if name in moved | self.swept.tangents.keys()
        ]

    def _users(self) -> dict[str, list[str]]:
        """The nodes that a δ comes back from."""
        return {
            name: [
                other
                for other in self.swept.values
                if name in self.program.by_name[other].mentions
                and (other == self.cost or other in self.swept.signals)
            ]
            for name in self.swept.signals
        }

    # ---------------------------------------------------------------- nodes

    def _node(self, quantity: Quantity) -> Node:
        inputs = tuple(
            name for name in mentioned(quantity.definition) if not self._is_condition(name)
        )
        moving = [name for name in inputs if name in self.swept.tangents]
        first: list[LocalDerivative] = []
        second: list[LocalDerivative] = []
        for place, name in enumerate(moving):
            by = self._beside(name, quantity.entry)
            derived = derivative_of_definition(
                self.program, quantity.entry, by, explicit_derivative
            )
            first.append(self._local(derived, quantity.entry, by))
            for other in moving[place:]:
                beside = self._beside(other, quantity.entry, by)
                twice = derivative(derived.expression, beside, self._held_but(set(inputs)))
                if not self._tidy(twice.expression).is_zero:
                    second.append(self._local(twice, quantity.entry, by, beside))
        role = "cost" if quantity.name == self.cost else "quantity"
        return Node(
            quantity.name,
            self._symbol(quantity.name),
            role,
            self._line(quantity),
            inputs,
            tuple(first),
            tuple(second),
        )

    def _is_condition(self, name: str) -> bool:
        """Whether a name is that of a constant which stands for a condition on indices."""
        return name in self.program.leaves and self.program.leaves[name].shown is not None

    def _beside(self, name: str, *others: Entry) -> Entry:
        """An entry of what goes in, in letters of its own."""
        quantity = self.program.by_name.get(name)
        entry = natural_entry(self.program, name) if quantity is None else quantity.entry
        return self.letters.beside(
            entry, {index.name for other in others for index in other.indices}
        )

    def _held_but(self, inputs: set[str]) -> OfEntry:
        """Only the inputs of a node are held: its own value, which its derivative may be written
        in, moves with them."""

        def moved(entry: Entry, by: Entry) -> Expression:
            if entry.name in inputs or entry.name not in self.program.by_name:
                return explicit_derivative(entry, by)
            return derivative_of_definition(self.program, entry, by, moved).expression

        return moved

    def _local(self, derived: Derivative, of_what: Entry, *by: Entry) -> LocalDerivative:
        value, entries = self._tidy(derived.expression), (of_what, *by)
        # A number has a matrix of second derivatives; those of an array have three groups of axes.
        sides = entries if len(by) == 1 else by if not of_what.indices else None
        form = None if sides is None else self.forms.whole(value, *sides)
        named = (
            Partial(of_what, by)
            if form is None
            else Partial(Entry(of_what.name), tuple(Entry(one.name) for one in by))
        )
        free = tuple(index for entry in entries for index in entry.indices)
        size = prod(self.numbers.size(index.size) for index in free)
        return LocalDerivative(
            f"{self.writer.write(of(named))} = {self.writer.write(value if form is None else form)}",
            derived.rule.name,
            self.numbers.array(value, free) if size <= _WRITTEN_OUT else None,
        )

    def _tidy(self, value: Expression) -> Expression:
        return simplify(value, facts(self.program))

    # ---------------------------------------------------------------- text

    def _symbol(self, name: str) -> str:
        return self.writer.write(Entry(name))

    def _line(self, quantity: Quantity) -> str:
        """A quantity with what it is computed from, as matrices where it has such a form."""
        right, form = quantity.definition, self.forms.definition(quantity)
        if form is None and isinstance(right, Expression):
            return f"{self.writer.write(quantity.entry)} = {self.writer.write(right)}"
        return (
            f"{self._symbol(quantity.name)} = {self.writer.write(right if form is None else form)}"
        )
