"""From the record of a derivation and a reading to the document that every format writes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hesse.derivation.calculus.expression import Entry, Expression, Partial, Term, indices, of
from hesse.derivation.calculus.program import Quantity, mentioned, names_in, nodes_of
from hesse.derivation.lines import records
from hesse.derivation.lines.records import Record
from hesse.derivation.show.document import (
    Definition,
    Document,
    Header,
    Line,
    Result,
    Section,
    summands,
)
from hesse.derivation.show.factoring import factored
from hesse.derivation.show.given import (
    all_lines,
    block_name,
    block_shape,
    conventions,
    declared,
    forward,
    grid,
    guesses,
    maps,
    note_of,
    runs,
    shapes,
    signals,
)
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.matrix.remarks import remarks
from hesse.derivation.show.readings import ReadLine, known_reading


class Outline:
    """Makes the document of a record, or a part of it, in one reading.

    Args:
        record: what was derived.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """

    def __init__(self, record: Record, reading: str) -> None:
        self.record, self.program = record, record.program
        self.reading = known_reading(reading)
        self.forms = Forms(record.program)

    def document(self) -> Document:
        """The whole."""
        return Document(
            self.program.cost.name,
            self.header(),
            tuple(map(self.slope, self.record.slopes.values())),
            tuple(Section(stage.name, self.lines(stage.lines)) for stage in self.record.stages),
            (*map(self.block, self.record), *map(self.derived, self.record.derived)),
            checked_text(self.record),
        )

    def header(self) -> Header:
        """What is given."""
        record, axes = self.record, self.reading.axes
        return Header(
            record.source,
            self.reading.about,
            tuple(shapes(record)) if axes else (),
            (*declared(self.program), *guesses(self.program)),
            self.definitions(forward(self.program)),
            maps(self.program, self.reading),
            self.definitions(signals(record)),
            runs(record) if axes else (),
            grid(record),
            tuple(conventions(record, self.reading)),
            record.notes,
        )

    def definitions(self, quantities: Iterable[Quantity]) -> tuple[Definition, ...]:
        """What quantities are, each with its note."""
        return tuple(
            replace(self.definition(quantity), note=note_of(quantity)) for quantity in quantities
        )

    def definition(self, quantity: Quantity) -> Definition:
        """What a quantity is."""
        return replace(
            self.reading.definition(quantity, self.forms), in_place=self.reading.in_place
        )

    def results(self) -> list[Result]:
        """What the blocks come to; of a vector, its first derivatives."""
        if self.program.cost.indices:
            return [self.jacobian(slope) for slope in self.record.slopes.values()]
        return [self.result(block.expression, block.rows, block.columns) for block in self.record]

    # ------------------------------------------------------------ sections

    def slope(self, slope: records.Slope) -> Section:
        """A first derivative; its result where no line says it."""
        parameter = slope.parameter
        if self.program.cost.indices:
            return Section(
                "the first derivatives of a vector",
                self.lines(slope.lines),
                self._derivative(parameter),
                result=self.jacobian(slope),
            )
        return Section(
            "the first derivative",
            self.lines(slope.lines),
            self._derivative(parameter),
            result=None if slope.lines else self.result(slope.expression, parameter),
        )

    def jacobian(self, slope: records.Slope) -> Result:
        """The first derivatives of a vector: its entries are the rows."""
        vector = self.program.cost.entry
        left = of(Partial(vector, (slope.parameter,)))
        return self.result(slope.expression, vector, slope.parameter, left=left)

    def block(self, block: records.Block) -> Section:
        """A block."""
        rows, columns = block.rows, block.columns
        return Section(
            block_name(self.record, block),
            self.lines(block.lines, block),
            self._derivative(rows, columns),
            self.reading.shape(block_shape(block)),
            self.result(block.expression, rows, columns),
            transposed=rows.name != columns.name
            and (columns.name, rows.name) not in self.record.blocks,
            deviation=block.deviation,
            part=block,
        )

    def section(self, part: records.Block | records.Derived) -> Section:
        """A block, or what was asked for beside blocks."""
        return self.block(part) if isinstance(part, records.Block) else self.derived(part)

    def derived(self, derived: records.Derived) -> Section:
        """What was asked for beside first derivatives and blocks."""
        return Section(
            derived.name,
            self.lines(derived.lines),
            derived.left,
            result=self.result(derived.expression, *derived.entries, left=of(derived.left)),
            part=derived,
        )

    def _derivative(self, *by: Entry) -> Partial:
        return Partial(self.program.cost.entry, tuple(map(self.reading.titled, by)))

    def result(
        self,
        after: Expression,
        rows: Entry,
        columns: Entry | None = None,
        *more: Entry,
        left: Expression | None = None,
    ) -> Result:
        """A derivative carried out; ``left``, another array of the same axes."""
        by = (rows, *filter(None, (columns,)), *more)
        before = left or of(Partial(self.program.cost.entry, by))
        # What is in common depends on the reading, its kinds do not.
        pulled = factored(self.reading.expression(after, self.program))
        # An array with the axes of three entries is no matrix.
        matrix = () if more else self.reading.matrix(after, rows, columns, self.forms)
        # A number without sums is its own matrix.
        summed = any(isinstance(node, Term) and node.bound for node in nodes_of(after))
        if not (summed or any(entry.indices for entry in by)):
            matrix = ()
        return Result(
            self.reading.expression(before, self.program),
            outer=None if pulled.is_plain else pulled.outer,
            inner=summands(pulled.inner),
            matrix=matrix,
            in_place=self.reading.in_place and bool(matrix),
            rows=rows,
            columns=columns,
            remarks=tuple(
                dict.fromkeys(
                    remark
                    for part in matrix
                    if not isinstance(part.node, Term | Expression)
                    for remark in remarks(part.node, self.program)
                )
            )
            + (guesses(self.program, names_in(after)) if matrix else ()),
            named=tuple(map(self.definition, self._named(after, signals=left is not None))),
        )

    def _named(self, after: Expression, signals: bool) -> Iterator[Quantity]:
        """The S, D and g that a result stands on, and where it stands alone the ``signals`` δ;
        stages define theirs, for any two layers."""
        roles = ("curvature", "transport", "slope", *(["delta"] if signals else []))
        for name in () if self.record.stages else mentioned(after):
            quantity = self.program.by_name.get(name)
            if quantity is not None and quantity.role in roles:
                yield quantity

    # ------------------------------------------------------------ lines

    def lines(
        self, lines: Sequence[records.Line], block: records.Block | None = None
    ) -> tuple[Line, ...]:
        """The lines that the reading shows: those that it leaves nothing of are left out."""
        shown: list[Line] = []
        previous: ReadLine | None = None
        for line in lines:
            # Both sides and the name go through the reading before they are compared: one weight
            # per layer makes sides equal that were not.
            before, after = (
                self.reading.expression(side, self.program) for side in (line.before, line.after)
            )
            name = self.reading.entry(line.name) if line.name else None
            if self.reading.terse and before == after and not name and line.rule != "start":
                continue
            # A reading that adds like terms leaves marks without their terms.
            marks = line.marks if len(line.marks) == len(after.terms) else ()
            continued = (
                previous is not None and previous.name is None and previous.after == before != after
            )
            # The sides of a matrix are those of the line as it was derived: the reading may have
            # taken their indices.
            view = ReadLine(before, after, name, marks, *self._sides(line.before, block), continued)
            shown.append(self.line(line, view))
            previous = view
        return tuple(shown)

    def line(self, line: records.Line, view: ReadLine) -> Line:
        """A line; where its name alone says what it comes to, with what that is."""
        equation, defined = self.reading.equation(view, self.forms), None
        if view.name is not None and view.name.name in names_in(view.after):
            # S = S says nothing: what S is has to stand beside it.
            quantity = self.program.by_name.get(view.name.name)
            if quantity is not None:
                equation, defined = replace(equation, name=None), self.definition(quantity)
        reason = self.reading.reason(line.reason, self.program)
        return Line(
            line.label,
            line.rule,
            view.before,
            view.after,
            equation,
            defined,
            reason,
            line.deviation,
        )

    def _sides(
        self, before: Expression, block: records.Block | None
    ) -> tuple[Entry | None, Entry | None]:
        """What the rows and columns of a line are: of ∂z/∂W, z and W; of ∂²J/∂A∂B, A and B."""
        if len(before.terms) == 1 and len(before.terms[0].factors) == 1:
            match before.terms[0].factors[0]:
                case Partial(_, (first, second)):
                    return first, second
                case Partial(Entry() as inner, (by,)):
                    if inner.name != self.program.cost.name:
                        return inner, by
                    # A gradient has the shape of its parameter.
                    rest = by.indices[1:]
                    return Entry(by.name, by.indices[:1]), Entry(by.name, rest) if rest else None
        # A line of a block that derives nothing itself has the block's rows and columns.
        if block and {*indices(before)} <= {*block.rows.indices, *block.columns.indices}:
            return block.rows, block.columns
        return None, None


# ---------------------------------------------------------------- what was checked


def checked_text(record: Record) -> str:
    """How many lines were compared, their largest deviation, and that of the whole blocks."""
    lines = list(all_lines(record))
    compared = [line.deviation for line in lines if not math.isnan(line.deviation)]
    whole = [block.deviation for block in record if not math.isnan(block.deviation)]
    if not compared and not whole:
        return "Not yet: certify() compares every line in float64."
    count = f"{len(compared)} of {len(lines)}" if len(compared) < len(lines) else f"{len(lines)}"
    largest = number(max(compared, default=0.0))
    text = f"{count} lines at random points in float64, largest deviation {largest}"
    if whole:
        blocks = "the whole block" if len(whole) == 1 else f"the {len(whole)} whole blocks"
        text += f"; {blocks} against automatic differentiation, {number(max(whole))}"
    return f"{text}."


def number(deviation: float) -> str:
    """A deviation with one digit, as ``2e-16``; "" for one that is not known.

    Examples:
        >>> number(2.3e-16), number(0.0)
        ('2e-16', '0')
    """
    if math.isnan(deviation):
        return ""
    return "0" if deviation == 0 else f"{deviation:.0e}".replace("e-0", "e-")
