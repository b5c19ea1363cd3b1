"""One step of differentiation: from a factor to the partial derivatives of what it is made of."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from hesse.derivation.calculus import rules
from hesse.derivation.calculus.algebra import add, multiply, product, renamed_to, total
from hesse.derivation.calculus.black_boxes import black_box_slopes
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
    freshened,
    of,
)
from hesse.derivation.calculus.functions import closed_form
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.own_value import (
    above_and_below,
    quotient_rule,
    root_rule,
    under_root,
)
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import (
    ArrayCall,
    BlackBox,
    Program,
    Quantity,
)
from hesse.derivation.calculus.rules import HELD, Derivative, Rule, by_rule, of_sum
from hesse.errors import HesseValueError
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

# How an entry is differentiated: given the entry and the variable, its derivative.
OfEntry = Callable[[Entry, Entry], Expression]


def derivative(value: Factor | Term | Expression, by: Entry, of_entry: OfEntry) -> Derivative:
    """∂ value / ∂ by, by the sum, product, power and chain rules; entries are left to
    ``of_entry``."""
    match value:
        case Expression():
            return of_sum([derivative(term, by, of_entry) for term in value.terms])
        case Term():
            return product_rule(value, by, of_entry)
        case Entry():
            return by_rule(rules.LINEAR, of_entry(value, by))
        case Delta() | Count():
            return HELD
        case Group(body):
            return derivative(body, by, of_entry)
        case Apply(function, order, argument) if order > 1 and function in FUNCTIONS:
            # Its third derivative is that of the second as it is written out.
            written = closed_form(function, order, argument)
            assert written is not None, f"{function} has two derivatives"
            return derivative(written, by, of_entry)
        case Apply("log", 0, Apply("abs", 0, argument)):
            # log|u| has the slope of log u, for a negative u as well.
            return derivative(Apply("log", 0, argument), by, of_entry)
        case Apply(function, order, argument):
            inner = derivative(argument, by, of_entry)
            is_held = inner.expression.is_zero
            outer = ZERO if is_held else slope(function, order, argument)
            return Derivative(
                multiply(outer, inner.expression), (rules.CHAIN,) if inner.rules else ()
            )
        case Power(base, exponent):
            of_base, of_exponent = (derivative(part, by, of_entry) for part in (base, exponent))
            number = exponent.number
            factor = of(Group(exponent)) if number is None else constant(number)
            lowered = of(Power(base, add(exponent, constant(-1)))) if number != 1 else ONE
            logarithm = product((value, Apply("log", 0, base)))
            return Derivative(
                add(
                    multiply(multiply(factor, lowered), of_base.expression),
                    multiply(logarithm, of_exponent.expression),
                ),
                rules.of_power(base=bool(of_base.rules), exponent=bool(of_exponent.rules)),
            )
        case Partial():
            raise AssertionError("a derivative not carried out is not differentiated again")


def product_rule(term: Term, by: Entry, of_entry: OfEntry) -> Derivative:
    """One term for each factor that depends on the variable, the others held; where that is a
    single factor, by the rules of that factor."""
    term = freshen(term, {index.name for index in by.indices})
    parts, applied = [], []
    for position, factor in enumerate(term.factors):
        moved = derivative(factor, by, of_entry)
        if not moved.rules:
            continue
        # The factors keep their order: the new one stands where the old one stood.
        before = Expression((Term(term.coefficient, term.factors[:position]),))
        after = Expression((Term(Fraction(1), term.factors[position + 1 :]),))
        # With bound indices that the whole term does not use.
        apart = freshened(moved.expression, all_names(term))
        inside = multiply(multiply(before, apart), after)
        applied.append(moved.rules)
        parts.append(
            Expression(
                tuple(replace(part, bound=(*term.bound, *part.bound)) for part in inside.terms)
            )
        )
    # To a single factor that moves the others are numbers: it keeps its own rule.
    return Derivative(
        add(*parts), applied[0] if len(applied) == 1 else (rules.PRODUCT,) if applied else ()
    )


def slope(function: str, order: int, argument: Factor) -> Expression:
    """f^(order + 1) at the argument: a symbol, or written out where that is how people know it."""
    known = FUNCTIONS.get(function)
    if known is not None and known.at_once:
        # It is differentiated as it is written out, so its order stays zero.
        written = closed_form(function, order + 1, argument)
        if written is None:
            raise HesseValueError(
                f"derive: the derivative of {function} has no formula here; for an unknown"
                " elementwise function write a letter, such as g"
            )
        return written
    return of(Apply(function, order + 1, argument))


# ---------------------------------------------------------------- how entries are differentiated


def by_own_entry(entry: Entry, by: Entry) -> Expression:
    """∂W[j,k]/∂W[o,i] = [j = o] [k = i]"""
    return product(Delta(a, b) for a, b in zip(entry.indices, by.indices, strict=True) if a != b)


def explicit_derivative(entry: Entry, by: Entry) -> Expression:
    """Only what an expression says itself: every other name is held fixed."""
    return by_own_entry(entry, by) if entry.name == by.name else ZERO


def total_derivative(program: Program) -> OfEntry:
    """All that depends on the variable moves: a quantity's derivative stays to be carried out."""

    def moved(entry: Entry, by: Entry) -> Expression:
        if entry.name == by.name:
            return by_own_entry(entry, by)
        return of(Partial(entry, (by,))) if program.depends(entry, by.name) else ZERO

    return moved


def derivative_of_definition(
    program: Program, entry: Entry, by: Entry, of_entry: OfEntry
) -> Derivative:
    """∂ entry / ∂ by from the definition of the quantity."""
    quantity = program.by_name[entry.name]
    match quantity.definition:
        case ArrayCall(operation, argument):
            return _of_array_call(program, operation, argument, entry, by, of_entry)
        case BlackBox():
            return _of_black_box(program, quantity.definition, entry, by, of_entry)
        case Expression():
            body = defined_at(quantity, entry, by)
            if quantity.role in ("quotient", "root"):
                return _in_its_own_value(entry, body, by, of_entry)
            return derivative(body, by, of_entry)


def defined_at(quantity: Quantity, entry: Entry, by: Entry) -> Expression:
    """What an entry of a quantity is; its sums run over other letters than those of the
    variable."""
    assert isinstance(quantity.definition, Expression), "an operation of its own has no terms"
    used = {i.name for i in (*entry.indices, *by.indices)}
    body = freshened(quantity.definition, used)
    return renamed_to(body, quantity.indices, entry.indices)


def _in_its_own_value(entry: Entry, body: Expression, by: Entry, of_entry: OfEntry) -> Derivative:
    base, parts = under_root(body), above_and_below(body)
    if base is not None:
        return root_rule(entry, derivative(base, by, of_entry))
    if parts is not None:
        moved = {factor: of_entry(factor, by) for side in parts for factor in side}
        return quotient_rule(entry, *parts, moved)
    return derivative(body, by, of_entry)


def _of_array_call(
    program: Program, operation: str, argument: Entry, entry: Entry, by: Entry, of_entry: OfEntry
) -> Derivative:
    record = ARRAY_FUNCTIONS[operation]
    # The axes in front are samples of the same function: they do not mix.
    lead = len(argument.indices) - record.axes
    taken = {index.name for index in (*entry.indices, *by.indices)}
    over = tuple(fresh(index, taken) for index in argument.indices[lead:])
    whole = Entry(argument.name, (*entry.indices[:lead], *over))

    def other(name: str, indices: tuple[Index, ...]) -> Entry:
        return Entry(companion(program, name, argument.name), indices)

    moved = of_entry(whole, by)
    # The derivative may name a companion, which is there only where the argument moves.
    outer = ZERO if moved.is_zero else record.derivative(entry, whole, over, other)
    return by_rule(Rule(f"{operation} rule", record.reason), total(multiply(outer, moved), over))


def _of_black_box(
    program: Program, definition: BlackBox, entry: Entry, by: Entry, of_entry: OfEntry
) -> Derivative:
    """Σ over the arguments of (∂ map/∂ argument, a symbol) · ∂ argument/∂ by."""
    parts = []
    for name in definition.arguments:
        taken = {index.name for index in (*entry.indices, *by.indices)}
        symbol = program.by_name.get(str(Name("∂", of=entry.name, by=name)))
        if symbol is not None:  # an argument that no parameter reaches has none
            over = tuple(fresh(index, taken) for index in symbol.indices[len(entry.indices) :])
            outer = of(Entry(symbol.name, (*entry.indices, *over)))
            parts.append(total(multiply(outer, of_entry(Entry(name, over), by)), over))
    reason = (
        f"{definition.operation} has no rule here: its derivative is a symbol, evaluated"
        " automatically"
    )
    # By this rule even where the map's own second derivative is zero, and no symbol is left.
    return Derivative(add(*parts), (Rule(rules.CHAIN.name, reason),))


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
        if isinstance(definition, ArrayCall):
            other = _companion(program, definition, have, names)
            # It comes before the quantity whose derivative mentions it.
            quantities += [other] if other is not None else []
        quantities.append(quantity)
        if isinstance(definition, BlackBox):
            quantities += black_box_slopes(program, quantity)
    return replace(program, quantities=tuple(quantities))


def _companion(
    program: Program, call: ArrayCall, have: set[tuple[str, str]], names: set[str]
) -> Quantity | None:
    """What the derivative of a call will mention, where it mentions something that has no name yet.

    Args:
        program: gives the name that fits.
        call: a function of a whole array.
        have: operations and their arguments that have a name; the companion is added.
        names: those taken.
    """
    operation, argument = ARRAY_FUNCTIONS[call.operation].companion, call.argument
    if not operation or (operation, argument.name) in have:
        return None
    have.add((operation, argument.name))
    record, note = ARRAY_FUNCTIONS[operation], f"{operation}({argument.name})"
    if record.base:
        name = probability_name(program, names, argument.name)
    else:
        text = record.text.format(argument.name) if record.text else note
        name = Picker(names).pick(numbered([text], 2))
    return Quantity(name, argument.indices, ArrayCall(operation, argument), note=note)


def probability_name(program: Program, names: set[str], of: str) -> str:
    """A name for softmax or sigmoid values: p, unless an index is called that or the name is taken;
    ŷ only where it is a prediction, which the cost is made of.

    Args:
        program: gives the indices.
        names: those taken.
        of: what they are the values at.
    """
    predicted = ("ŷ",) if of in program.cost.mentions else ()
    free = (name for name in ("p", *predicted) if name not in names | program.letters)
    return Picker(names).pick(numbered([next(free, "π")], 2))
