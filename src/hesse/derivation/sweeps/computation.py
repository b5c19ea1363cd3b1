"""A cost's computational graph with its numbers, step by step: one node in one sweep is a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.derivation.calculus.program import mentioned
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.sweeps.formulas import Formulas, listed
from hesse.derivation.sweeps.nodes import Node, nodes
from hesse.derivation.sweeps.subject import Subject, direction
from hesse.derivation.sweeps.sweeps import sweeps
from hesse.errors import HesseValueError

SWEEPS = (
    "Values, forward",
    "Their δ, backward",
    "Tangents, forward",
    "Their δ, backward",
)
MOST_NODES = 150  # nobody looks at a picture of more, node by node


@dataclass(frozen=True)
class Step:
    """One node in one sweep.

    Attributes:
        sweep: its place in `SWEEPS`.
        node: whose.
        symbol: what is computed: z3, δ3, dz3 or dδ3.
        line: from what, ``δ3 = δŷ ∘ f'(z3)``; the symbol alone of what is given.
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
        nodes: in an order in which they can be computed.
        given: the numbers of those that are not computed.
        steps: in order.
        notes: what a reader should know, in sentences.
    """

    nodes: tuple[Node, ...]
    given: Mapping[str, Tensor]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    def values(self, sweep: int) -> dict[str, Tensor]:
        """The numbers of one sweep, by node."""
        return {step.node: step.value for step in self.steps if step.sweep == sweep}


def computation(subject: Subject, v: Mapping[str, Tensor] | None = None) -> Computation:
    """Run the four sweeps.

    Args:
        subject: a cost with its numbers.
        v: the direction of H v, an array for each parameter; by default at random.

    Raises:
        HesseValueError: it has more nodes than one would look at.

    Examples:
        >>> from hesse.derivation.sources.language import program
        >>> from hesse.derivation.sweeps.subject import at_random
        >>> found = computation(at_random(*program("1/2*sum((y - f(W @ x))**2)", "W")))
        >>> for step in found.steps:
        ...     print(step.sweep, step.line)
        0 z = W x
        0 ŷ = f(z)
        0 J = ½ (y − ŷ)ᵀ (y − ŷ)
        1 δJ
        1 δŷ = ŷ − y
        1 δz = δŷ ∘ f'(z)
        1 ∂J/∂W = δz xᵀ
        2 v = given
        2 dz = v x
        2 dŷ = f'(z) ∘ dz
        2 dJ = −(y − ŷ)ᵀ dŷ
        3 dδJ
        3 dδŷ = dŷ
        3 dδz = dδŷ ∘ f'(z) + δŷ ∘ f''(z) ∘ dz
        3 Hv = dδz xᵀ
    """
    return _Running(subject, direction(subject) if v is None else v).computation()


class _Running:
    """The sweeps through one program, with their numbers and their formulas."""

    def __init__(self, subject: Subject, v: Mapping[str, Tensor]) -> None:
        # Before the sweeps, which take longer.
        count = len(subject.program.leaves) + len(subject.program.quantities)
        if count > MOST_NODES:
            raise HesseValueError(
                f"the graph has {count} nodes, and at most {MOST_NODES} are drawn; give a smaller"
                " network of the same kind"
            )
        self.subject, self.swept = subject, sweeps(subject.program, subject.parameters)
        self.program = self.swept.program
        along = {self.swept.tangents[name]: v[name] for name in subject.parameters}
        self.numbers = Valuation(self.program, {**subject.arrays, **along}, subject.functions)
        self.formulas = Formulas(self.program)

    def computation(self) -> Computation:
        found = tuple(nodes(self.swept, self.numbers, self.formulas))
        return Computation(
            found,
            {
                node.name: self.numbers.value(node.name)
                for node in found
                if node.role in ("parameter", "data")
            },
            (*self._values(), *self._signals(), *self._tangents(), *self._moved_signals()),
            self.subject.notes,
        )

    def _values(self) -> Iterator[Step]:
        for name in self.swept.values:
            yield self._step(0, name, name, self.program.by_name[name].note)

    def _signals(self) -> Iterator[Step]:
        cost, signals = self.program.cost.name, self.swept.signals
        yield self._of_cost(1, "δ", 1, f"how {cost} feels itself")
        for name, signal in signals.items():
            through = [
                self.formulas.symbol(other)
                for other in self.swept.values
                if name in self.program.by_name[other].mentions and other in {cost, *signals}
            ]
            why = f"chain rule, through {listed(through)}" if through else "it goes into nothing"
            yield self._step(1, name, signal, why)

    def _tangents(self) -> Iterator[Step]:
        for name, tangent in self.swept.tangents.items():
            if name in self.subject.parameters:
                symbol, why = (
                    self.formulas.symbol(tangent),
                    f"how {self.formulas.symbol(name)} moves",
                )
                value = self.numbers.value(tangent)
                yield Step(2, name, symbol, f"{symbol} = given", why, value)
            else:
                yield self._moved(2, name, name, tangent)

    def _moved_signals(self) -> Iterator[Step]:
        yield self._of_cost(3, "dδ", 0, "its 1 does not move")
        for name, moved in self.swept.moved_signals.items():
            yield self._moved(3, name, self.swept.signals[name], moved)

    def _step(self, sweep: int, node: str, name: str, why: str) -> Step:
        line = self.formulas.definition(self.program.by_name[name])
        value = self.numbers.value(name)
        return Step(sweep, node, self.formulas.symbol(name), line, why, value)

    def _moved(self, sweep: int, node: str, source: str, name: str) -> Step:
        """A step in which the line of ``source`` is differentiated along v."""
        swept = self.swept
        moving = {*swept.tangents, *(swept.signals[one] for one in swept.moved_signals)}
        names = mentioned(self.program.by_name[source].definition)
        moves = [self.formulas.symbol(one) for one in names if one in moving]
        what = f"{listed(moves)} move{'s' * (len(moves) == 1)}" if moves else "nothing moves"
        return self._step(sweep, node, name, f"{swept.rules[name].name}: {what}")

    def _of_cost(self, sweep: int, sign: str, value: int, why: str) -> Step:
        cost = self.program.cost.name
        symbol = sign + self.formulas.symbol(cost)
        number = torch.tensor(value, dtype=torch.float64)
        return Step(sweep, cost, symbol, symbol, why, number)
