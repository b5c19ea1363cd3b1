"""What a cost is made of, as a derivation's header says it: its definitions, and its maps without a
formula."""

from dataclasses import dataclass

from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program, Quantity
from hesse.derivation.show.outline import SIGNALS

MAPS = "Maps without a formula"
ABOUT_MAPS = (
    "They and their derivatives are symbols here, which automatic differentiation evaluates."
)


def forward(program: Program) -> list[Quantity]:
    """The quantities of the cost itself that have a formula, in order, the cost last; none whose
    name is its formula."""
    return [
        quantity
        for quantity in program.quantities
        if quantity.role not in SIGNALS
        and not isinstance(quantity.definition, BlackBox)
        and not _is(quantity, quantity.name)
    ]


def note_of(quantity: Quantity) -> str:
    """What is said beside a definition, where it says more than that."""
    plain = quantity.role in ("preactivation", "activation") or _is(quantity, quantity.note)
    return "" if plain else quantity.note


def _is(quantity: Quantity, formula: str) -> bool:
    """Whether a quantity is defined as a function of a whole array that reads like this:
    ``softmax(z)``."""
    match quantity.definition:
        case ArrayCall(operation, argument):
            return formula == f"{operation}({argument.name})"
    return False


@dataclass(frozen=True)
class Map:
    """A map without a formula.

    Attributes:
        operation: what it is called.
        arguments: what goes in.
        value: what comes out.
        slopes: the names of its first and second derivatives.
    """

    operation: str
    arguments: tuple[str, ...]
    value: str
    slopes: tuple[str, ...]


def maps(program: Program) -> list[Map]:
    """The maps without a formula, in order."""
    found = [
        (q.name, q.definition) for q in program.quantities if isinstance(q.definition, BlackBox)
    ]
    slopes: dict[str, list[str]] = {}
    for name, definition in found:
        parts = Name.read(name).derivative if definition.order else None
        if parts:
            slopes.setdefault(parts[0], []).append(name)
    return [
        Map(d.operation, d.arguments, name, tuple(slopes.get(name, ())))
        for name, d in found
        if not d.order
    ]
