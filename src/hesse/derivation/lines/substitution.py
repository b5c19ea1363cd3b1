"""The step in which f' and f'' of known functions are written out: sigmoid' = a (1 − a), relu'' =
0."""

from collections.abc import Callable
from dataclasses import dataclass

from hesse.derivation.calculus.algebra import replaced
from hesse.derivation.calculus.differentiation import probability_name
from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Factor,
    Group,
    Power,
    Term,
    kept,
    of,
)
from hesse.derivation.calculus.functions import closed_form
from hesse.derivation.calculus.normal_form import collect
from hesse.derivation.calculus.program import Program, Quantity, names_in
from hesse.derivation.lines.records import Line
from hesse.operations.registry import FUNCTIONS


@dataclass(frozen=True)
class Substitution:
    """What was replaced by what, for which function; the result; and the program with the values
    that got a name."""

    expression: Expression
    replaced: tuple[tuple[Factor, Expression, str], ...]
    program: Program

    @property
    def lines(self) -> list[Line]:
        """One line for each thing replaced, not yet numbered."""
        return [
            Line(
                "",
                function,
                of(factor),
                closed,
                FUNCTIONS[function].kink or f"the slope of {function} from its value",
            )
            for factor, closed, function in self.replaced
        ]


def substituted(expression: Expression, program: Program) -> Substitution | None:
    """Every derivative of a known function written out, and every value by its name; None where
    there is nothing of either."""
    replaced: dict[tuple[str, int, str], tuple[Factor, Expression, str]] = {}
    # The program grows by each value that gets a name while the expression is walked.
    names = [program]

    def change(factor: Apply) -> Expression | None:
        argument = factor.argument
        closed = closed_form(factor.function, factor.order, argument, _value(names[0], factor))
        if closed is None:
            return None
        closed = collect(map_applies(closed, lambda inner: _named(inner, names)))
        # Told once for each argument: tanh'(z_i) and tanh'(z_k) are one line.
        key = (
            factor.function,
            factor.order,
            argument.name if isinstance(argument, Entry) else repr(argument),
        )
        replaced.setdefault(key, (factor, closed, factor.function))
        return closed

    result = map_applies(expression, change)
    # What has a name now is called by it wherever it stands; else where its name stands beside it:
    # cosh(z) / u, of u = cosh(z), is 1.
    known = None if replaced else names_in(expression)
    result = map_applies(result, lambda factor: _by_name(names[0], factor, known))
    changed = replaced or result != expression
    return Substitution(result, tuple(replaced.values()), names[0]) if changed else None


def _by_name(program: Program, factor: Apply, names: frozenset[str] | None) -> Expression | None:
    value = None if factor.order else _value(program, factor)
    return of(value) if value is not None and (names is None or value.name in names) else None


def _value(program: Program, factor: Apply) -> Entry | None:
    """The quantity that is the function's own value at the same argument, if one has that name."""
    if not isinstance(factor.argument, Entry):
        return None
    name = _values(program).get((factor.function, factor.argument.name))
    return None if name is None else Entry(name, factor.argument.indices)


def _values(program: Program) -> dict[tuple[str, str], str]:
    """The quantities that are a function of each entry of another array: their names, by the
    function and the array."""
    # A program does not change, and every slope of it asks.
    known: dict[tuple[str, str], str] | None = vars(program).get("_values")
    if known is None:
        known = vars(program)["_values"] = {}
        for quantity in program.quantities:
            match quantity.definition:
                case Expression((Term(1, (Apply(function, 0, Entry(name, indices)),), ()),)):
                    if indices == quantity.indices:
                        known.setdefault((function, name), quantity.name)
    return known


def _named(factor: Apply, programs: list[Program]) -> Expression | None:
    """A value that a derivative brings in, such as sigmoid(z) for softplus, gets a name where its
    argument is a quantity."""
    argument = factor.argument
    program = programs[0]
    if (
        factor.order
        or factor.function != "sigmoid"
        or not isinstance(argument, Entry)
        or argument.name not in program.by_name
    ):
        return None
    known = _value(program, factor)
    if known is None:
        name = probability_name(program, program.names, argument.name)
        indices = program.by_name[argument.name].indices
        definition = of(Apply(factor.function, 0, Entry(argument.name, indices)))
        programs[0] = program.with_quantity(
            Quantity(name, indices, definition, "activation", f"{factor.function}({argument.name})")
        )
        known = Entry(name, argument.indices)
    return of(known)


def map_applies(expression: Expression, change: Callable[[Apply], Expression | None]) -> Expression:
    """The expression with each elementwise factor replaced by what ``change`` gives; None leaves
    it."""
    return replaced(expression, lambda factor: _mapped(factor, change))


def _mapped(factor: Factor, change: Callable[[Apply], Expression | None]) -> Expression:
    match factor:
        case Apply():
            changed = change(factor)
            return of(factor) if changed is None else kept(changed)
        case Power(base, exponent):
            inner = _mapped(base, change)
            return of(Power(base if inner == of(base) else Group(inner), exponent))
        case Group(body):
            return of(Group(map_applies(body, change)))
    return of(factor)
