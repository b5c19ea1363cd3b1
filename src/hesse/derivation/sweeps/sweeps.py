"""The two sweeps of a gradient, and the two of a product H v, as quantities of one program.

Forward, every quantity q gets its value. Backward it gets δq = ∂J/∂q, from the δ of the quantities
c that it goes into (Linnainmaa 1970):

    δq = Σ_c  δc ∂c/∂q

H v is how the gradient moves as the parameters move along v, so it takes the derivative of each
line of both sweeps. With dw = v at a parameter w, and dq and dδq for how q and δq move:

    dq = Σ_u  ∂q/∂u du          dδq = Σ_c  dδc ∂c/∂q  +  Σ_c Σ_u  δc ∂²c/∂q∂u du

What arrives at a parameter is (H v) there (Pearlmutter 1994, who writes R{q} for dq). Each of these
is a quantity of the program: the formula that is printed is the one that is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hesse.derivation.calculus.algebra import add, multiply, total
from hesse.derivation.calculus.differentiation import (
    derivative_of_definition,
    explicit_derivative,
    with_companions,
)
from hesse.derivation.calculus.expression import ONE, ZERO, Entry, Expression, Index, fresh, of
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.name import Name, primed
from hesse.derivation.calculus.normal_form import simplify
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import Program, Quantity
from hesse.derivation.calculus.rules import Rule
from hesse.derivation.lines.adjoints import natural_entry
from hesse.derivation.lines.hessian_product import with_directions
from hesse.derivation.lines.letters import Letters

# What a derivative along v is taken by: no name of a program, and without indices.
_ALONG = Entry("v")


@dataclass(frozen=True)
class Sweeps:
    """A program with all that four sweeps compute.

    Attributes:
        program: the values, and then what the other sweeps add. The cost is the last.
        parameters: whose gradient and product are taken.
        values: the quantities of the cost, in the order in which they are computed.
        signals: the name of δ by that of the quantity or parameter that it is of, in the order in
            which they are computed; the cost has none, its δ is 1.
        tangents: of dq, likewise; that of a parameter is its direction, what does not move has
            none.
        moved_signals: of dδ, likewise, (H v) at the parameters.
        rules: by which rule each tangent, of a value or of a δ, follows from what it is one of.
    """

    program: Program
    parameters: tuple[str, ...]
    values: tuple[str, ...]
    signals: Mapping[str, str]
    tangents: Mapping[str, str]
    moved_signals: Mapping[str, str]
    rules: Mapping[str, Rule]


def sweeps(program: Program, parameters: Sequence[str]) -> Sweeps:
    """The four sweeps through a program.

    Examples:
        >>> from hesse.derivation.sources.language import program as read
        >>> found = sweeps(*read("1/2*sum((y - X @ w)**2)", "w"))
        >>> [*found.values, *found.signals.values()], [*found.moved_signals.values()]
        (['r', 'J', 'δr', '∂J/∂w'], ['dδr', 'Hv'])
    """
    return _Sweeping(program, tuple(parameters)).sweeps()


class _Sweeping:
    """A program that grows by what each sweep computes."""

    def __init__(self, program: Program, parameters: tuple[str, ...]) -> None:
        self.program, self.directions = with_directions(with_companions(program), parameters)
        self.parameters = parameters
        self.names, self.letters = Picker(self.program.names), Letters(self.program)
        self.facts = facts(self.program)
        self.rules: dict[str, Rule] = {}

    def sweeps(self) -> Sweeps:
        values = tuple(quantity.name for quantity in self.program.quantities)
        moving = [
            quantity.name
            for quantity in self.program.quantities
            if any(self.program.depends(quantity.entry, name) for name in self.parameters)
        ]
        signals = self._backward(moving)
        tangents = dict(self.directions)
        for name in moving:
            self._add_moved(name, f"d{name}", tangents)
        # A δ moves with the values and with the δ above it: with all that its formula mentions.
        moved = dict(tangents)
        for name, signal in signals.items():
            if name not in self.parameters:
                self._add_moved(signal, f"d{signal}", moved)
        several = len(self.parameters) > 1
        for name in self.parameters:
            self._add_moved(signals[name], f"Hv_{name}" if several else "Hv", moved, always=True)
        moved_signals = {name: moved[signal] for name, signal in signals.items() if signal in moved}
        found = Sweeps(
            self.program, self.parameters, values, signals, tangents, moved_signals, self.rules
        )
        return _needed(found)

    def _backward(self, moving: Sequence[str]) -> dict[str, str]:
        program, cost = self.program, self.program.cost.name
        users: dict[str, list[Quantity]] = {name: [] for name in (*self.parameters, *moving)}
        for quantity in program.quantities:
            for name in quantity.mentions & users.keys():
                users[name].append(quantity)
        signals: dict[str, str] = {}
        for name in (*(name for name in reversed(moving) if name != cost), *self.parameters):
            is_parameter = name in self.parameters
            place = natural_entry(program, name) if is_parameter else program.by_name[name].entry
            parts = []
            for user in users[name]:
                # Along what no δ comes from there is no way to the cost.
                if user.name not in signals and user.name != cost:
                    continue
                taken = {index.name for index in place.indices}
                over = tuple(fresh(index, taken) for index in user.indices)
                at = Entry(user.name, over)
                local = derivative_of_definition(program, at, place, explicit_derivative)
                above = ONE if user.name == cost else of(Entry(signals[user.name], over))
                parts.append(total(multiply(above, local.expression), over))
            if not (parts or is_parameter):
                continue
            wishes = (
                numbered([str(Name("∂", of=cost, by=name))], 2)
                if is_parameter
                else primed(Name.read(name).signal)
            )
            signals[name] = self._add(wishes, place.indices, self._tidy(add(*parts), place.indices))
        return signals

    def _add_moved(self, name: str, wish: str, moved: dict[str, str], always: bool = False) -> None:
        """How a quantity moves where what it is made of moves, as ``moved`` names it; it is added
        to them, if it moves at all or ``always``."""
        quantity = self.program.by_name[name]

        def along(entry: Entry, _: Entry) -> Expression:
            to = moved.get(entry.name)
            return ZERO if to is None else of(Entry(to, entry.indices))

        derived = derivative_of_definition(self.program, quantity.entry, _ALONG, along)
        value = self._tidy(derived.expression, quantity.indices)
        if always or not value.is_zero:
            moved[name] = self._add(numbered([wish], 2), quantity.indices, value)
            self.rules[moved[name]] = derived.rule

    def _tidy(self, value: Expression, free: tuple[Index, ...]) -> Expression:
        return self.letters.nice(simplify(value, self.facts, free), free)

    def _add(self, wishes: Iterator[str], free: tuple[Index, ...], value: Expression) -> str:
        name = self.names.pick(wishes)
        self.program = self.program.with_quantity(Quantity(name, free, value))
        return name


def _needed(found: Sweeps) -> Sweeps:
    """Without what no result is made of: a derivative that only a third one would need."""
    program, cost = found.program, found.program.cost.name
    ends = {cost, *(name for name in (found.tangents.get(cost),) if name is not None)}
    for name in found.parameters:
        ends |= {found.signals[name], found.moved_signals[name]}
    needed = ends.union(*(program.ancestors(name) for name in ends))

    def kept(names: Mapping[str, str]) -> dict[str, str]:
        return {name: made for name, made in names.items() if made in needed}

    directions = {name: found.tangents[name] for name in found.parameters}
    return replace(
        found,
        program=replace(
            program, quantities=tuple(q for q in program.quantities if q.name in needed)
        ),
        values=tuple(name for name in found.values if name in needed),
        signals=kept(found.signals),
        tangents=directions | kept(found.tangents),
        moved_signals=kept(found.moved_signals),
    )
