"""First derivatives: the backward signals δ of a program, named where they are used again, and
∂J/∂parameter from them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hesse.derivation.calculus.algebra import add, multiply, total
from hesse.derivation.calculus.differentiation import (
    OfEntry,
    derivative,
    derivative_of_definition,
    explicit_derivative,
)
from hesse.derivation.calculus.expression import ONE, Entry, Expression, Index, fresh, of, rename
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.name import Name, primed
from hesse.derivation.calculus.normal_form import simplify, weight
from hesse.derivation.calculus.picking import Picker
from hesse.derivation.calculus.program import Program, Quantity, nodes_of
from hesse.derivation.lines.quotients import SlopeOfQuotient, with_slopes

# A derivative that weighs more gets a name, so that it is written and differentiated once. Without
# one a chain of n functions has a derivative of n factors at each of its links, and a second
# derivative of n terms of them. In a long chain every link has its names, and so has every factor
# of a product of many, so that all lines are short.
LONG, LONG_IN_A_CHAIN = 24, 6
CHAIN = 12  # quantities made from each other, one after the other
MANY = 24  # quantities


def longest(program: Program) -> int:
    """The most that a derivative weighs without a name of its own."""
    short = program.depth <= CHAIN and len(program.quantities) <= MANY
    return LONG if short else LONG_IN_A_CHAIN


@dataclass(frozen=True)
class Share:
    """What one use of a parameter adds to ∂J/∂parameter: Σ outer · inner.

    ``outer`` is the signal that arrives from above (a δ); ``inner`` is the derivative of the place
    where the parameter enters (an a). Moving the first gives the curvature from above, moving the
    second the product-rule term.
    """

    outer: Expression
    inner: Expression
    over: tuple[Index, ...]

    @property
    def product(self) -> Expression:
        """Σ outer · inner."""
        return total(multiply(self.outer, self.inner), self.over)

    def at(self, old: tuple[Index, ...], new: tuple[Index, ...], taken: set[str]) -> "Share":
        """The same share for other indices of the parameter, summed over names that are not
        taken."""
        taken = taken | {index.name for index in old}
        over = tuple(fresh(index, taken) for index in self.over)
        to = {**dict(zip(self.over, over, strict=True)), **dict(zip(old, new, strict=True))}
        return Share(rename(self.outer, to), rename(self.inner, to), over)


@dataclass(frozen=True)
class Adjoints:
    """The program with its δ quantities, and the shares of each parameter's first derivative."""

    program: Program
    shares: dict[str, tuple[Share, ...]]
    entries: dict[str, Entry]
    quantity_of: dict[str, str]  # for each δ, the quantity it is the signal of
    quotients: dict[tuple[str, str], SlopeOfQuotient]  # g, by the quotient and the parameter
    longest: int = LONG  # what a derivative weighs that has no name

    def moved_shares(
        self, of: Entry, by: Entry, of_entry: OfEntry
    ) -> Iterator[tuple[Share, Expression, Expression]]:
        """The shares of ∂J/∂of, each with the two parts of its derivative ∂/∂by.

        The first part moves the signal from above, the second the place where the parameter enters.
        """
        taken = {index.name for index in (*of.indices, *by.indices)}
        for share in self.shares[of.name]:
            share = share.at(self.entries[of.name].indices, of.indices, taken)
            outer = derivative(share.outer, by, of_entry).expression
            inner = derivative(share.inner, by, of_entry).expression
            above, beside = multiply(outer, share.inner), multiply(share.outer, inner)
            yield share, total(above, share.over), total(beside, share.over)

    def slope(self, parameter: str) -> Expression:
        """∂J/∂parameter at the parameter's entry."""
        return simplify(
            add(*(share.product for share in self.shares[parameter])), facts(self.program)
        )


def adjoints(program: Program, parameters: tuple[str, ...], every_slot: bool = False) -> Adjoints:
    """Reverse accumulation over the named quantities.

    ∂J/∂q = Σ over the quantities c that mention q of ∂J/∂c · ∂c/∂q. It is named δ where q is a
    pre-activation, where it is a sum or is needed more than once, or long; elsewhere it is put
    in. With ``every_slot``, each place where a parameter enters has its δ too.
    """
    entries = {name: natural_entry(program, name) for name in parameters}
    program, quotients = with_slopes(program, entries)
    wanted = {name for name in parameters if name in program.leaves}
    # A parameter enters a quotient as a whole, by way of its g.
    whole = {quotient for quotient, _ in quotients}
    users = {
        name: [q for q in program.quantities if name in q.mentions and q.name not in whole]
        for name in (*program.by_name, *parameters)
    }
    for quotient, parameter in quotients:
        users[parameter].append(program.by_name[quotient])
    signal: dict[str, Expression] = {program.cost.name: ONE}  # at the quantity's own indices
    named: list[Quantity] = []
    quantity_of: dict[str, str] = {}
    # Stage by stage every layer has its δ already.
    names, most = Picker(program.names), LONG if every_slot else longest(program)

    def arriving(name: str, place: Entry) -> tuple[Share, ...]:
        shares = []
        for user in users[name]:
            # What no signal comes from does not lead on to the cost.
            if user.name not in signal:
                continue
            taken = {index.name for index in place.indices}
            over = tuple(fresh(index, taken) for index in user.indices)
            if (user.name, name) in quotients:
                g = Entry(quotients[user.name, name].entry.name, place.indices)
                shares.append(Share(signal[user.name], of(g), over))
                continue
            local = derivative_of_definition(
                program, Entry(user.name, over), place, explicit_derivative
            ).expression
            if local.is_zero:
                continue
            outer = rename(signal[user.name], dict(zip(user.indices, over, strict=True)))
            shares.append(Share(outer, local, over))
        return tuple(shares)

    # From the cost down: the signals of all that use a quantity are known when its own is made.
    for quantity in reversed(program.quantities[:-1]):
        if not any(program.depends(quantity.entry, name) for name in wanted):
            continue
        shares = arriving(quantity.name, quantity.entry)
        if not shares:
            continue
        expression = simplify(add(*(share.product for share in shares)), facts(program))
        # A sum gets a name where it is passed on to several names; that of an activation goes
        # into the δ below it alone.
        uses = len(quantity.mentions)
        slot = every_slot and not wanted.isdisjoint(quantity.mentions)
        passed_on = len(expression.terms) > 1 and (uses > 1 or quantity.role != "activation")
        long = weight(expression) > most
        if slot or passed_on or long or quantity.role == "preactivation":
            name = names.pick(primed(Name.read(quantity.name).signal))
            named.append(
                Quantity(
                    name,
                    quantity.indices,
                    expression,
                    "delta",
                    f"how {program.cost.name} feels {quantity.name}",
                )
            )
            signal[quantity.name] = of(Entry(name, quantity.indices))
            quantity_of[name] = quantity.name
        else:
            signal[quantity.name] = expression
    arrived = {name: arriving(name, entries[name]) for name in parameters}
    # A δ needs the values of the whole forward pass, so all of them come after it.
    everything = (*program.quantities[:-1], *named, program.cost)
    grown = replace(program, quantities=tuple(everything))
    return Adjoints(grown, arrived, entries, quantity_of, quotients, most)


def natural_entry(program: Program, name: str) -> Entry:
    """An entry with the index names that the program uses itself for this leaf."""
    sizes = program.shape(name)
    for quantity in program.quantities:
        entries = (node for node in nodes_of(quantity.definition) if isinstance(node, Entry))
        first = next((entry for entry in entries if entry.name == name), None)
        if first is not None and len(set(first.indices)) == len(first.indices):
            return first
    taken: set[str] = set()
    return Entry(name, tuple(fresh(Index("i", size), taken) for size in sizes))
