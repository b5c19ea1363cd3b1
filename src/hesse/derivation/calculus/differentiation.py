"""One step of differentiation: from a factor to the partial derivatives of what it is made of."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from hesse.derivation.calculus.algebra import add, multiply, product, renamed_to, total
from hesse.derivation.calculus.black_boxes import black_box_slope, black_box_slopes
from hesse.derivation.calculus.expression import (
    ONE,
    ZERO,
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Power,
    Term,
    all_names,
    constant,
    fresh,
    freshen,
    of,
)
from hesse.derivation.calculus.functions import closed_form
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Definition, Program, Quantity
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

# How an entry is differentiated: given the entry and the variable, its derivative.
Rule = Callable[[Entry, Entry], Expression]


def derivative(value: Factor | Term | Expression, by: Entry, entry: Rule) -> Expression:
    """∂ value / ∂ by, by the sum, product, power and chain rules; entries are left to ``entry``."""
    match value:
        case Expression():
            return add(*(derivative(term, by, entry) for term in value.terms))
        case Term():
            return product_rule(value, by, entry)
        case Entry():
            return entry(value, by)
        case Delta() | Count():
            return ZERO
        case Group(body):
            return derivative(body, by, entry)
        case Apply(function, order, argument):
            inner = derivative(argument, by, entry)
            return ZERO if inner.is_zero else multiply(slope(function, order, argument), inner)
        case Power(base, exponent):
            inner = derivative(base, by, entry)
            parts = []
            if not inner.is_zero:
                number = exponent.number
                factor = of(Group(exponent)) if number is None else constant(number)
                lowered = of(Power(base, add(exponent, constant(-1)))) if number != 1 else ONE
                parts.append(multiply(multiply(factor, lowered), inner))
            moved = derivative(exponent, by, entry)
            if not moved.is_zero:
                parts.append(multiply(product((value, Apply("log", 0, base))), moved))
            return add(*parts)
        case Partial():
            raise AssertionError("a derivative not carried out is not differentiated again")


def product_rule(term: Term, by: Entry, entry: Rule) -> Expression:
    """One term for each factor that depends on the variable, the others held."""
    taken = {index.name for index in by.indices}
    term = freshen(term, taken)
    parts = []
    for position, factor in enumerate(term.factors):
        moved = derivative(factor, by, entry)
        if moved.is_zero:
            continue
        before = Expression((Term(term.coefficient, term.factors[:position]),))
        after = Expression((Term(Fraction(1), term.factors[position + 1 :]),))
        inside = multiply(multiply(before, _apart(moved, term)), after)
        parts.append(
            Expression(
                tuple(replace(part, bound=(*term.bound, *part.bound)) for part in inside.terms)
            )
        )
    return add(*parts)


def _apart(moved: Expression, term: Term) -> Expression:
    """The derivative of one factor with bound indices that the whole term does not use."""
    used = all_names(term)
    return Expression(tuple(freshen(part, used) for part in moved.terms))


def slope(function: str, order: int, argument: Factor) -> Expression:
    """f^(order + 1) at the argument: a symbol, or written out where that is how people know it."""
    known = FUNCTIONS.get(function)
    if known is not None and known.at_once:
        written = closed_form(function, order + 1, argument)
        assert written is not None, (
            f"{function} is differentiated as it is written out, so its order stays zero"
        )
        return written
    if known is not None and order + 1 > 2:
        raise AssertionError(f"a third derivative of {function} is never needed")
    return of(Apply(function, order + 1, argument))


# ---------------------------------------------------------------- how entries are differentiated


def same_entry(entry: Entry, by: Entry) -> Expression:
    """∂W[j,k]/∂W[o,i] = [j = o] [k = i]"""
    return product(Delta(a, b) for a, b in zip(entry.indices, by.indices, strict=True) if a != b)


def directly(entry: Entry, by: Entry) -> Expression:
    """Only what an expression says itself: every other name is held fixed."""
    return same_entry(entry, by) if entry.name == by.name else ZERO


def wholly(program: Program) -> Rule:
    """All that depends on the variable moves: a quantity's derivative stays to be carried out."""

    def rule(entry: Entry, by: Entry) -> Expression:
        if entry.name == by.name:
            return same_entry(entry, by)
        return of(Partial(entry, (by,))) if program.depends(entry, by.name) else ZERO

    return rule


def unfolded(program: Program, entry: Entry, by: Entry, rule: Rule) -> Expression:
    """∂ entry / ∂ by from the definition of the quantity."""
    quantity = program.by_name[entry.name]
    if isinstance(quantity.definition, ArrayCall):
        return _whole(program, quantity, entry, by, rule)
    if isinstance(quantity.definition, BlackBox):
        return _black_box(program, quantity, entry, by, rule)
    body = Expression(
        tuple(
            freshen(term, {i.name for i in (*entry.indices, *by.indices)})
            for term in quantity.definition.terms
        )
    )
    return derivative(renamed_to(body, quantity.indices, entry.indices), by, rule)


def _whole(program: Program, quantity: Quantity, entry: Entry, by: Entry, rule: Rule) -> Expression:
    assert isinstance(quantity.definition, ArrayCall)
    operation, argument = (
        ARRAY_FUNCTIONS[quantity.definition.operation],
        quantity.definition.argument,
    )
    lead = len(argument.indices) - operation.axes
    taken = {index.name for index in (*entry.indices, *by.indices)}
    over = tuple(fresh(index, taken) for index in argument.indices[lead:])
    at = Entry(argument.name, (*entry.indices[:lead], *over))

    def other(name: str, indices: tuple[Index, ...]) -> Entry:
        return Entry(companion(program, name, argument.name), indices)

    inner = rule(at, by)
    if inner.is_zero:
        return ZERO
    return total(multiply(operation.derivative(entry, at, over, other), inner), over)


def _black_box(
    program: Program, quantity: Quantity, entry: Entry, by: Entry, rule: Rule
) -> Expression:
    """Σ over the arguments of (∂ map/∂ argument, a symbol) · ∂ argument/∂ by."""
    assert isinstance(quantity.definition, BlackBox)
    parts = []
    for name in quantity.definition.arguments:
        taken = {index.name for index in (*entry.indices, *by.indices)}
        symbol = program.by_name.get(black_box_slope(quantity, name))
        if symbol is None:
            continue
        over = tuple(fresh(index, taken) for index in symbol.indices[len(entry.indices) :])
        inner = rule(Entry(name, over), by)
        if not inner.is_zero:
            parts.append(
                total(multiply(of(Entry(symbol.name, (*entry.indices, *over))), inner), over)
            )
    return add(*parts)


def companion(program: Program, operation: str, argument: str) -> str:
    """The name of the quantity that another operation makes of the same argument."""
    for quantity in program.quantities:
        match quantity.definition:
            case ArrayCall(found, Entry(name, _)) if found == operation and name == argument:
                return quantity.name
    raise AssertionError(f"{operation}({argument}) has no name")


def with_companions(program: Program) -> Program:
    """The program with a name for each array that a derivative will mention: softmax(z) beside
    logsumexp(z)."""
    quantities: list[Quantity] = []
    names = set(program.leaves) | set(program.by_name)
    have = {
        (q.definition.operation, q.definition.argument.name)
        for q in program.quantities
        if isinstance(q.definition, ArrayCall)
    }
    for quantity in program.quantities:
        definition = quantity.definition
        wanted = (
            ARRAY_FUNCTIONS[definition.operation].companion
            if isinstance(definition, ArrayCall)
            else ""
        )
        if isinstance(definition, ArrayCall) and wanted:
            argument, written = definition.argument, ARRAY_FUNCTIONS[wanted]
            if (wanted, argument.name) not in have:
                have.add((wanted, argument.name))
                text = written.text or f"{wanted}({{}})"
                name = (
                    probability_name(program, names)
                    if written.base
                    else _free_name(text.format(argument.name), names)
                )
                quantities.append(
                    Quantity(
                        name,
                        argument.indices,
                        ArrayCall(wanted, argument),
                        note=f"{wanted}({argument.name})",
                    )
                )
        quantities.append(quantity)
        if isinstance(definition, BlackBox):
            quantities.extend(black_box_slopes(program, quantity))
    return replace(program, quantities=tuple(quantities))


def probability_name(program: Program, names: set[str]) -> str:
    """A name for softmax or sigmoid values: p, unless an index is called that or the name is
    taken."""
    letters = set().union(*(index_names(quantity.definition) for quantity in program.quantities))
    letters |= {index.name for quantity in program.quantities for index in quantity.indices}
    return _free_name(
        next((name for name in ("p", "ŷ", "π") if name not in names | letters), "π"), names
    )


def index_names(definition: Definition) -> set[str]:
    """The names of all indices in a definition."""
    if isinstance(definition, BlackBox):
        return set()
    return all_names(definition.argument if isinstance(definition, ArrayCall) else definition)


def _free_name(base: str, names: set[str]) -> str:
    name, number = base, 2
    while name in names:
        name, number = f"{base}{number}", number + 1
    names.add(name)
    return name
