"""Any depth, stage by stage: every layer adds its own few lines, in the named quantities δ, S and
D.

S_{l,m} = ∂²J/∂z_l ∂z_m is pulled down: from ∂δ_l/∂z_m, put together from what the δ above l come
to. D_{l→r} = ∂r/∂z_l is pushed up: from what the quantities below r come to. A block needs one S
and, where one of its parameters feeds the other, one D.
"""

from dataclasses import dataclass, field

from hesse.derivation.calculus.algebra import add, multiply, renamed_to, total
from hesse.derivation.calculus.diagonals import on_diagonals
from hesse.derivation.calculus.differentiation import (
    by_own_entry,
    derivative_of_definition,
    explicit_derivative,
)
from hesse.derivation.calculus.expression import (
    ZERO,
    Delta,
    Entry,
    Expression,
    Index,
    Partial,
    all_names,
    fresh,
    grouped,
    of,
    rename,
)
from hesse.derivation.calculus.name import Name, primed
from hesse.derivation.calculus.normal_form import simplify, weight
from hesse.derivation.calculus.picking import Picker
from hesse.derivation.calculus.program import Quantity, names_in
from hesse.derivation.lines.page import Page


@dataclass
class Stages:
    """The S and D of a page's program, each named when it is first needed."""

    page: Page
    order: dict[str, int] = field(init=False)
    signals: dict[str, str] = field(init=False)  # the δ of a quantity
    known: dict[tuple[str, str, str], tuple[Entry, Entry, Expression]] = field(default_factory=dict)
    lines: dict[tuple[str, str], "Named"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = {
            quantity.name: place for place, quantity in enumerate(self.page.program.quantities)
        }
        self.signals = {
            quantity: delta for delta, quantity in self.page.adjoints.quantity_of.items()
        }

    # ---------------------------------------------------------------- what a block asks

    def begin(self) -> None:
        """Nothing is forgotten between blocks."""

    def expand(self, partial: Partial) -> Expression:
        """∂X/∂W = Σ over the places z where W enters of ∂X/∂z · ∂z/∂W, with ∂X/∂z an S or a D."""
        entry, (by,) = partial.of, partial.by
        assert isinstance(entry, Entry)
        exchanged = self._exchanged(entry, by)
        if exchanged is not None:
            return exchanged
        # Only places that lead on to what is differentiated. A condition on W does not move with
        # it, and has no δ.
        places = {*self.signals, self.page.program.cost.name}
        users = (name for name in self.page.users(by.name) if name in places)
        slots = [name for name in users if self._depends(entry.name, name)]
        asked, reached = [], []
        for slot in slots:
            taken = {index.name for index in (*entry.indices, *by.indices)}
            place = self.page.letters.beside(self.page.program.by_name[slot].entry, taken)
            local = derivative_of_definition(
                self.page.program, place, by, explicit_derivative
            ).expression
            asked.append(total(multiply(of(Partial(entry, (place,))), local), place.indices))
            reached.append(total(multiply(self.derivative(entry, place), local), place.indices))
        step, result = (
            simplify(add(*asked)),
            self.page.simplified(add(*reached), (*by.indices, *entry.indices)),
        )
        self.page.write(
            "chain rule",
            of(Partial(entry, (by,))),
            step,
            f"{by.name} enters through {' and '.join(slots)} alone",
        )
        self.page.write("put in", step, result, "by the stages")
        return result

    def _exchanged(self, entry: Entry, by: Entry) -> Expression | None:
        """∂δ/∂W as ∂(∂J/∂W)/∂z, where W stands above z too, and so in the δ itself; None where it
        does not."""
        if entry.name not in self.page.adjoints.quantity_of:
            return None
        z = Entry(self.page.adjoints.quantity_of[entry.name], entry.indices)
        shares = list(self.page.adjoints.moved_shares(by, z, self.derivative))
        # Without a place above, the chain rule through the slots is the shorter way.
        if all(beside.is_zero for _, _, beside in shares):
            return None
        indices = self.page.adjoints.entries[by.name].indices
        slope = self.page.letters.nice(
            renamed_to(self.page.adjoints.slope(by.name), indices, by.indices)
        )
        step = of(Partial(grouped(slope), (z,)))
        result = self.page.simplified(
            add(*(above for _, above, _ in shares), *(beside for _, _, beside in shares)),
            (*by.indices, *entry.indices),
        )
        why = f"{by.name} stands above {z.name} too; the order of differentiation does not matter"
        self.page.write("exchange", of(Partial(entry, (by,))), step, why)
        self.page.write("put in", step, result, "by the stages")
        return result

    def with_curvature_written_out(
        self, result: Expression, rows: tuple[Index, ...], columns: tuple[Index, ...]
    ) -> None:
        """A stage's S and D keep their names."""

    # ---------------------------------------------------------------- the stages

    def derivative(self, entry: Entry, by: Entry) -> Expression:
        """∂ entry/∂ by for a δ (an S) or a forward quantity (a D), in named quantities."""
        if entry.name == by.name:
            return by_own_entry(entry, by)
        if not self._depends(entry.name, by.name):
            return ZERO
        quantity = self.page.adjoints.quantity_of.get(entry.name)
        if quantity is None:
            return self._known("D", entry, by)
        if self.order[quantity] <= self.order[by.name]:
            return self._known("S", entry, by)
        # S is symmetric: the lower of the two goes first.
        return self._known(
            "S", Entry(self.signals[by.name], by.indices), Entry(quantity, entry.indices)
        )

    def _depends(self, name: str, by: str) -> bool:
        return name == by or by in self.page.program.ancestors(name)

    def _known(self, kind: str, entry: Entry, by: Entry) -> Expression:
        key = (kind, entry.name, by.name)
        # Put together once, at the quantities' own indices, and renamed for each use.
        if key not in self.known:
            program = self.page.program
            first = program.by_name[entry.name].entry
            second = self.page.letters.beside(
                program.by_name[by.name].entry, {index.name for index in first.indices}
            )
            self.known[key] = (first, second, self._named(kind, first, second))
        first, second, expression = self.known[key]
        taken = all_names(expression) | {i.name for i in (*entry.indices, *by.indices)}
        # By way of names that nothing has: two indices may change places.
        away = {index: fresh(index, taken) for index in (*first.indices, *second.indices)}
        moved = rename(expression, away)
        return renamed_to(moved, tuple(away.values()), (*entry.indices, *by.indices))

    def _named(self, kind: str, entry: Entry, by: Entry) -> Expression:
        raw = derivative_of_definition(self.page.program, entry, by, self.derivative).expression
        free = (*entry.indices, *by.indices)
        expression = self.page.letters.nice(self.page.simplified(raw, free), free)
        # Zero and short ones are put in where they stand; a name would be longer.
        if expression.is_zero or (kind == "D" and self._is_short(entry, expression)):
            self.lines[entry.name, by.name] = Named(kind, entry, by, expression, None)
            return expression
        diagonal = on_diagonals(expression, entry.indices, by.indices)
        named = Entry(self._name(kind, entry, by), diagonal.indices)
        if kind == "S" and self.page.adjoints.quantity_of[entry.name] == by.name:
            self.page.symmetric_in(named, entry.indices, by.indices)
        note = str(Name("∂", of=entry.name, by=by.name))
        role = "curvature" if kind == "S" else "transport"
        quantity = Quantity(named.name, named.indices, diagonal.expression, role, note)
        self.page.program = self.page.program.with_quantity(quantity)
        self.page.spend(weight(diagonal.expression))
        self.lines[entry.name, by.name] = Named(kind, entry, by, expression, named)
        return diagonal.named(named)

    def _is_short(self, entry: Entry, expression: Expression) -> bool:
        """A D that needs no name: diagonal, another D, or a single product on the way to an
        activation."""
        if len(expression.terms) != 1:
            return False
        term = expression.terms[0]
        diagonal = not term.bound and any(isinstance(factor, Delta) for factor in term.factors)
        same = len(term.factors) == 1 and not term.bound and term.coefficient == 1
        return diagonal or same or self.page.program.by_name[entry.name].role == "preactivation"

    def _name(self, kind: str, entry: Entry, by: Entry) -> str:
        quantity = self.page.adjoints.quantity_of[entry.name] if kind == "S" else entry.name
        wish = Name(kind, of=Name.read(quantity).place, by=Name.read(by.name).place)
        if quantity == by.name:
            wish = Name(kind, wish.of)
        return Picker(self.page.program.names).pick(primed(wish))

    # ---------------------------------------------------------------- which to show

    @property
    def slots(self) -> list[str]:
        """The quantities that have a δ, from the first layer up."""
        return sorted(self.signals, key=self.order.__getitem__)

    def line(self, entry: str, by: str) -> "Named | None":
        """∂entry/∂by as it was put together; None where it is zero."""
        program = self.page.program
        self.derivative(program.by_name[entry].entry, program.by_name[by].entry)
        return self.lines.get((entry, by))


@dataclass(frozen=True)
class Named:
    """One S or D: ∂entry/∂by = expression, under a name where it has one."""

    kind: str
    entry: Entry
    by: Entry
    expression: Expression
    name: Entry | None

    @property
    def names_its_layer(self) -> bool:
        """Whether the layer of the variable stands in what the derivative comes to."""
        layer = {self.by.name, str(Name("S", Name.read(self.by.name).place))}
        return not layer.isdisjoint(names_in(self.expression))
