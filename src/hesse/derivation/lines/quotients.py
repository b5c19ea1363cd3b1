"""The first derivative g of a quotient λ = α/β, as a quotient with a name: g = (α' − λ β')/β.

With it the second derivative is the quotient rule once more, ∂g/∂x = (∂(α' − λ β')/∂x − g β')/β,
and each line is short. Without it the Hessian of a Rayleigh quotient has eight terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hesse.derivation.calculus.algebra import multiply
from hesse.derivation.calculus.differentiation import by_own_entry, derivative_of_definition
from hesse.derivation.calculus.expression import (
    ZERO,
    Entry,
    Expression,
    Power,
    constant,
    freshened,
    grouped,
    of,
)
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import collect, simplify
from hesse.derivation.calculus.own_value import above_and_below
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import Program, Quantity


@dataclass(frozen=True)
class SlopeOfQuotient:
    """g, the derivative of a quotient by a parameter.

    Attributes:
        entry: g at the parameter's own indices, which are the quotient's parameter's.
        quotient: λ.
        by: the parameter, at the same indices.
        numerator: α' − λ β'.
        above, below: α and β.
    """

    entry: Entry
    quotient: Entry
    by: Entry
    numerator: Expression
    above: Entry
    below: Entry

    @property
    def definition(self) -> Expression:
        """The numerator over β."""
        return collect(multiply(of(grouped(self.numerator)), of(Power(self.below, constant(-1)))))


def with_slopes(
    program: Program, entries: Mapping[str, Entry]
) -> tuple[Program, dict[tuple[str, str], SlopeOfQuotient]]:
    """The program with a g for each quotient and each parameter that it depends on.

    Args:
        program: of the cost.
        entries: of the parameters, with the indices that they have.
    """
    slopes: dict[tuple[str, str], SlopeOfQuotient] = {}
    quantities: list[Quantity] = []
    names = Picker(program.names)
    for quantity in program.quantities:
        quantities.append(quantity)
        sides = _sides(program, quantity)
        if sides is None:
            continue
        for by in entries.values():
            if not program.depends(quantity.entry, by.name):
                continue
            derived = _carried_out(program, quantity.entry, by)
            numerator = simplify(multiply(derived, of(sides[1])), facts(program))
            numerator = freshened(numerator, {index.name for index in by.indices})
            alone = sum(program.depends(quantity.entry, name) for name in entries) == 1
            wish = "g" if alone else f"g_{by.name}"
            name = names.pick(numbered([wish]))
            slope = SlopeOfQuotient(Entry(name, by.indices), quantity.entry, by, numerator, *sides)
            slopes[quantity.name, by.name] = slope
            note = f"∂{quantity.name}/∂{by.name}"
            quantities.append(Quantity(name, by.indices, slope.definition, "slope", note))
    return replace(program, quantities=tuple(quantities)), slopes


def _sides(program: Program, quantity: Quantity) -> tuple[Entry, Entry] | None:
    """The two quantities of a quotient, unless the one below is a root, whose derivative is written
    in its value already."""
    if quantity.role != "quotient" or not isinstance(quantity.definition, Expression):
        return None
    sides = above_and_below(quantity.definition)
    if sides is None or len(sides[0]) + len(sides[1]) != 2:
        return None
    below = program.by_name.get(sides[1][0].name)
    if below is None or below.role == "root" or not _is_closed(program, quantity):
        return None
    return sides[0][0], sides[1][0]


def _is_closed(program: Program, quantity: Quantity) -> bool:
    """Whether what a quotient is made of is used nowhere else: then a parameter acts through the
    quotient as a whole."""
    made_of = program.ancestors(quantity.name)
    inside = {*made_of, quantity.name}
    return all(
        other.name in inside or made_of.isdisjoint({*other.mentions} & {*program.by_name})
        for other in program.quantities
    )


def in_no_value(program: Program) -> Program:
    """The program with every quotient and root differentiated by its parts alone: stage by stage a
    quantity is moved as if it were free, and its own derivative must not move with it."""
    return replace(
        program,
        quantities=tuple(
            replace(quantity, role="value") if quantity.role in ("quotient", "root") else quantity
            for quantity in program.quantities
        ),
    )


def _carried_out(program: Program, entry: Entry, by: Entry) -> Expression:
    """∂ entry/∂ by, down to the parameter."""

    def moved(inner: Entry, variable: Entry) -> Expression:
        if inner.name == variable.name:
            return by_own_entry(inner, variable)
        if not program.depends(inner, variable.name):
            return ZERO
        return _carried_out(program, inner, variable)

    return derivative_of_definition(program, entry, by, moved).expression
