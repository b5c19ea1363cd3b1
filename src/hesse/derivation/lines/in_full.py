"""Derivatives of named quantities carried out in full: down to the parameter, with a line for each
rule on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hesse.derivation.calculus import rules
from hesse.derivation.calculus.algebra import (
    multiply,
    partials_in,
    put_in,
    renamed_to,
    total,
    written_out,
)
from hesse.derivation.calculus.diagonals import on_diagonals
from hesse.derivation.calculus.differentiation import (
    defined_at,
    derivative,
    derivative_of_definition,
    total_derivative,
)
from hesse.derivation.calculus.expression import (
    ZERO,
    Apply,
    Entry,
    Expression,
    Index,
    Partial,
    grouped,
    of,
)
from hesse.derivation.calculus.name import Name, primed
from hesse.derivation.calculus.normal_form import same, weight
from hesse.derivation.calculus.own_value import QUOTIENT, quotient_rule
from hesse.derivation.calculus.picking import Picker
from hesse.derivation.calculus.program import Quantity, mentioned, names_in
from hesse.derivation.calculus.rules import Derivative
from hesse.derivation.lines.adjoints import LONG
from hesse.derivation.lines.long_sums import write_rule
from hesse.derivation.lines.page import Page, listed
from hesse.derivation.lines.quotients import SlopeOfQuotient
from hesse.derivation.lines.records import Line

SHORT = 9  # what weighs no more, such as diag(p) − p pᵀ, is put in rather than looked up


@dataclass(frozen=True)
class DerivedCurvature:
    """An S once derived: ∂delta/∂z, as an expression, and the lines that gave it."""

    delta: Entry
    z: Entry
    expression: Expression
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Shortened:
    """A derivative that was too long to be put in: ∂entry/∂by = closed, in its name."""

    entry: Entry
    by: Entry
    name: Entry
    closed: Expression


@dataclass
class InFull:
    """Carries derivatives out on a page; the S that one block names, the next one knows."""

    page: Page
    curvatures: dict[str, DerivedCurvature] = field(default_factory=dict)
    known: dict[tuple[str, str], tuple[Entry, Entry, Expression]] = field(default_factory=dict)
    shortened: dict[tuple[str, str], "Shortened"] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    def begin(self) -> None:
        """A new block shows its own lines, all of them; of a name, what it stands for."""
        self.known, self.told = {}, set()

    def expand(self, partial: Partial) -> Expression:
        """The derivative of a named quantity, carried out; its lines are written the first time."""
        entry, (by,) = partial.of, partial.by
        assert isinstance(entry, Entry)
        key = (entry.name, by.name)
        if key not in self.known:
            general = entry
            # z[k,k]: the derivative of any entry, then that of this one.
            if len(set(entry.indices)) < len(entry.indices):
                general = self.page.letters.beside(
                    self.page.program.by_name[entry.name].entry, {i.name for i in by.indices}
                )
            self.known[key] = self._shortened(general, by)
        known_entry, known_by, closed = self.known[key]
        return renamed_to(
            closed, (*known_entry.indices, *known_by.indices), (*entry.indices, *by.indices)
        )

    def _shortened(self, entry: Entry, by: Entry) -> tuple[Entry, Entry, Expression]:
        """A derivative, under a name where it is long, so that all that it is put into is short."""
        key = (entry.name, by.name)
        kept = self.shortened.get(key)
        if kept is not None:
            self._tell(kept)
            return kept.entry, kept.by, kept.closed
        derived = self._derive(entry, by)
        of_quotient = any(g.entry.name == entry.name for g in self.page.adjoints.quotients.values())
        # ∂g/∂x is the block itself, or nearly so: a name would be put in nowhere else.
        if of_quotient or weight(derived) <= self.page.adjoints.longest:
            return entry, by, derived
        kept = self.shortened[key] = Shortened(entry, by, *self._named(entry, by, derived))
        self._tell(kept)
        return entry, by, kept.closed

    def _tell(self, kept: "Shortened") -> None:
        """What a name stands for, and those in it: once in each block."""
        key = (kept.entry.name, kept.by.name)
        if key in self.told:
            return
        self.told.add(key)
        mentions = self.page.program.by_name[kept.name.name].mentions
        for other in list(self.shortened.values()):
            if other.name.name in mentions:
                self._tell(other)
        self._write_name(kept.entry, kept.by, kept.closed, kept.name)

    def _write_name(self, entry: Entry, by: Entry, closed: Expression, name: Entry) -> None:
        note = self.page.program.by_name[name.name].note
        self.page.write("name", of(Partial(entry, (by,))), closed, note, name)

    def introduce(self, slope: SlopeOfQuotient) -> None:
        """The lines that g stands for."""
        self.carried_out(slope.quotient, slope.by)
        before, note = (
            of(Partial(slope.quotient, (slope.by,))),
            f"the first derivative of {slope.quotient.name}",
        )
        self.page.write("name", before, of(slope.entry), note, slope.entry)

    def _slope_of_quotient(self, slope: SlopeOfQuotient, entry: Entry, by: Entry) -> Expression:
        """∂g/∂x by the quotient rule; the numerator has lines of its own."""
        prefer = (*by.indices, *entry.indices)
        numerator = renamed_to(slope.numerator, slope.entry.indices, entry.indices)
        numerator = self.page.letters.nice(numerator, prefer)
        above, below = Partial(grouped(numerator), (by,)), Partial(slope.below, (by,))
        moves = self.page.program.depends(slope.below, by.name)
        moved = {slope.above: of(above), slope.below: of(below) if moves else ZERO}
        derived = quotient_rule(entry, (slope.above,), (slope.below,), moved)
        step, before = derived.expression, of(Partial(entry, (by,)))
        held = f"{slope.below.name} does not depend on {by.name}"
        self.page.write(QUOTIENT.name, before, step, QUOTIENT.reason if moves else held)
        inner = derivative(numerator, by, total_derivative(self.page.program))
        why = f"one term for each factor that contains {by.name}"
        closed = {
            above: self._carried_on(of(above), inner, numerator, by, prefer, lambda _: why),
            **({below: self.expand(below)} if moves else {}),
        }
        result = self.page.simplified(put_in(step, closed), prefer)
        self.page.write("put in", before, result, "one into the other")
        return result

    def _derive(self, entry: Entry, by: Entry) -> Expression:
        quotients = self.page.adjoints.quotients
        slope = quotients.get((entry.name, by.name))
        if slope is not None:
            known = of(Entry(slope.entry.name, by.indices))
            self.page.write("known", of(Partial(entry, (by,))), known, "as derived above")
            return known
        for slope in quotients.values():
            if slope.entry.name == entry.name:
                return self._slope_of_quotient(slope, entry, by)
        return self.carried_out(entry, by)

    def carried_out(self, entry: Entry, by: Entry) -> Expression:
        """The derivative of a quantity from its definition, with its lines and no name."""
        before = of(Partial(entry, (by,)))
        # The parameter's own indices stay where there is a choice; else those of what is
        # differentiated.
        leaf = by.name in self.page.program.leaves
        prefer = (*by.indices, *entry.indices) if leaf else (*entry.indices, *by.indices)
        # Through the δ's own quantity alone: then S says it all, and the block is S times what
        # lies below.
        gate = self._gate(entry.name, by.name)
        if gate is not None:
            taken = {index.name for index in (*entry.indices, *by.indices)}
            through = self.page.letters.beside(
                Entry(gate, self.page.program.by_name[gate].indices), taken
            )
            inner = Partial(through, (by,))
            step = total(multiply(of(Partial(entry, (through,))), of(inner)), through.indices)
            self.page.write(
                "chain rule", before, step, f"{entry.name} feels {by.name} only through {gate}"
            )
            S = self._curvature(entry, through)
            reached = self.expand(inner)
            result = self.page.simplified(total(multiply(S, reached), through.indices), prefer)
            self.page.write("put in", before, result, "one into the other")
            return result
        derived = derivative_of_definition(
            self.page.program, entry, by, total_derivative(self.page.program)
        )
        quantity = self.page.program.by_name[entry.name]
        summed = isinstance(quantity.definition, Expression)
        return self._carried_on(
            before,
            derived,
            defined_at(quantity, entry, by) if summed else of(entry),
            by,
            prefer,
            lambda left: self._reason(derived, entry, by, left),
            marked=rules.PRODUCT in derived.rules,
        )

    def _carried_on(
        self,
        before: Expression,
        derived: Derivative,
        value: Expression,
        by: Entry,
        prefer: tuple[Index, ...],
        reason: Callable[[bool], str],
        marked: bool = False,
    ) -> Expression:
        """A line for a rule, lines for the derivatives that are left, and what they come to.

        Args:
            before: what the rule is applied to.
            derived: what it gives.
            value: what is differentiated, as a sum.
            by: the variable.
            prefer: the indices that stay where there is a choice.
            reason: why the rule holds, given whether derivatives are left.
            marked: whether the terms say what moves in them.
        """
        step = self.page.letters.nice(self.page.simplified(derived.expression, prefer), prefer)
        partials = partials_in(step)
        why = derived.rule.reason or reason(bool(partials))
        marks = _marks(step, by) if marked else ()
        write_rule(self.page, derived.rule, before, value, by, step, prefer, why, marks)
        # Nothing is left: the line itself is the result.
        if not partials:
            return step
        closed = {partial: self.expand(partial) for partial in partials}
        result = self.page.simplified(put_in(step, closed), prefer)
        # Without any that is left it is another: of large ones that is seen at once.
        if not partials_in(result) or not same(result, step):
            self.page.write("put in", before, result, "what the last lines came to")
        return result

    def _gate(self, name: str, by: str) -> str | None:
        """The quantity whose δ this is, where the δ depends on the variable through it alone."""
        quantity = self.page.program.by_name.get(name)
        if quantity is None or quantity.role != "delta":
            return None
        gate = self.page.adjoints.quantity_of.get(name)
        # Through its own quantity, or not through it at all.
        if gate in (None, by) or by not in self.page.program.ancestors(gate):
            return None
        return None if self._reaches(name, by, without=gate) else gate

    def _reaches(self, above: str, below: str, without: str) -> bool:
        # What is left out counts as seen: no way goes through it.
        stack, seen = [above], {without}
        while stack:
            name = stack.pop()
            if name == below:
                return True
            if name in seen or name not in self.page.program.by_name:
                continue
            seen.add(name)
            stack.extend(self.page.program.by_name[name].mentions)
        return False

    def _curvature(self, delta: Entry, z: Entry) -> Expression:
        """S = ∂δ/∂z, with a name unless it is a single product; a diagonal one as a vector."""
        kept = self.curvatures.get(delta.name)
        if kept is None:
            start = len(self.page.lines)
            derived = self.expand(Partial(delta, (z,)))
            # A single product is as short as a name for it.
            if len(derived.terms) > 1:
                name, derived = self._named(delta, z, derived)
                self._write_name(delta, z, derived, name)
            kept = DerivedCurvature(delta, z, derived, tuple(self.page.lines[start:]))
            self.curvatures[delta.name] = kept
        else:
            # Each block shows how its S came about, though it is derived once.
            for line in kept.lines:
                self.page.write(
                    line.rule, line.before, line.after, line.reason, line.name, line.marks
                )
        return renamed_to(
            kept.expression, (*kept.delta.indices, *kept.z.indices), (*delta.indices, *z.indices)
        )

    def _named(self, entry: Entry, by: Entry, derived: Expression) -> tuple[Entry, Expression]:
        """A name for ∂entry/∂by, an S or a D, and the derivative in it."""
        quantity = self.page.adjoints.quantity_of.get(entry.name)
        kind, role = ("D", "transport") if quantity is None else ("S", "curvature")
        wish = Name(kind, of=Name.read(quantity or entry.name).place, by=Name.read(by.name).place)
        note = str(Name("∂", of=entry.name, by=by.name))
        if quantity == by.name:
            wish = Name(kind, wish.of)
            note = f"the curvature of {self.page.program.cost.name} in {quantity}"
        diagonal = on_diagonals(derived, entry.indices, by.indices)
        name = Entry(Picker(self.page.program.names).pick(primed(wish)), diagonal.indices)
        if quantity == by.name:
            self.page.symmetric_in(name, entry.indices, by.indices)
        definition = Quantity(name.name, name.indices, diagonal.expression, role, note)
        self.page.program = self.page.program.with_quantity(definition)
        return name, diagonal.named(name)

    def with_curvature_written_out(
        self, result: Expression, rows: tuple[Index, ...], columns: tuple[Index, ...]
    ) -> tuple[str, Expression] | None:
        """The block with its own S written out, where that S stands on a δ or an S above it, or is
        short."""
        known = self.page.program.by_name
        for quantity in (known[name] for name in mentioned(result) if name in known):
            if quantity.role == "curvature" and isinstance(quantity.definition, Expression):
                # Of one layer, and in one place: what stands beside it stays as short as it is.
                alone, most = len(result.terms) == 1, SHORT
                if self._is_one_layer():
                    places = [term for term in result.terms if quantity.name in names_in(term)]
                    alone, most = len(places) == 1, LONG
                short = alone and weight(quantity.definition) <= most
                below = (known[n].role for n in quantity.mentions if n in known)
                if short or not {"delta", "curvature"}.isdisjoint(below):
                    put = written_out(result, quantity.entry, quantity.definition)
                    return quantity.name, self.page.simplified(put, rows, columns)
        return None

    def _is_one_layer(self) -> bool:
        """Whether there is one S alone, so that its name stands for nothing else."""
        return sum(q.role == "preactivation" for q in self.page.program.quantities) <= 1

    def _reason(self, derived: Derivative, entry: Entry, by: Entry, left: bool) -> str:
        """Why the rule holds that a quantity's definition was differentiated by.

        Args:
            derived: the derivative, with its rules.
            entry: the quantity.
            by: the variable.
            left: whether derivatives of other quantities are left to be carried out.
        """
        program = self.page.program
        definition = program.by_name[entry.name].definition
        held = sorted(
            name
            for name in names_in(definition)
            if name in program.leaves and not program.depends(Entry(name), by.name)
        )
        fixed = f"{listed(held)} {'is' if len(held) == 1 else 'are'} held fixed" if held else ""
        match derived.rule:
            case rules.PRODUCT:
                return f"one term for each factor that contains {by.name}"
            case rules.CHAIN:
                assert isinstance(definition, Expression)
                factors = (factor for term in definition.terms for factor in term.factors)
                moving = [factor for factor in factors if program.depends(factor, by.name)]
                names = {name for factor in moving for name in names_in(factor)}
                inner = sorted(name for name in names if program.depends(Entry(name), by.name))
                way = "directly" if inner == [by.name] else f"through {listed(inner)}"
                return f"{entry.name} depends on {by.name} {way}"
            case rules.SUM:
                names = dict.fromkeys(rule.name for rule in derived.rules)
                return f"term by term, each by its own: {listed(names)}"
            case rules.POWER | rules.EXPONENTIAL | rules.GENERAL_POWER:
                return fixed
        if by.name in names_in(definition) and not left:
            return f"only the entries with the same indices are those of {by.name}"
        return f"a sum is differentiated term by term{'; ' + fixed if fixed else ''}"


def _marks(step: Expression, by: Entry) -> tuple[str, ...]:
    """For each term of a product rule, what it is that moves."""
    marks = []
    for term in step.terms:
        moving = next(
            (f.of.name for f in term.factors if isinstance(f, Partial) and isinstance(f.of, Entry)),
            None,
        )
        slope = any(isinstance(factor, Apply) and factor.order > 1 for factor in term.factors)
        marks.append(
            f"{moving or by.name} moves" if moving or not slope else "the slope itself moves"
        )
    return tuple(marks) if len(marks) > 1 else ()
