"""A derivation in plain Unicode text, on lines of at most a hundred columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hesse.derivation.calculus.expression import Partial
from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.records import Block, Derived, Record
from hesse.derivation.show.document import (
    ABOUT_MAPS,
    MAPS,
    Definition,
    Document,
    Equation,
    Header,
    Line,
    Result,
    Section,
    Sizes,
    Sum,
    without_indices,
)
from hesse.derivation.show.entries import outside
from hesse.derivation.show.given import shape_text
from hesse.derivation.show.layout import Part, broken, laid_out, prose, table, underlined, wide
from hesse.derivation.show.outline import Outline, number
from hesse.derivation.show.text_writer import TextWriter
from hesse.errors import printable

WIDTH = 100
_MARGIN = 12  # of the header's names
_RULE = 22  # where the formulas of the lines begin
_STAMP = 92  # where their deviations do


def page(record: Record, reading: str = "indices") -> str:
    """The whole derivation: what is given, the first derivatives, and each block line by line.

    Args:
        record: what to show.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """
    return _joined(TextPage(record.program).rows(Outline(record, reading).document()))


def part_text(part: Block | Derived, record: Record, reading: str = "indices") -> str:
    """A block, or what was asked for beside blocks: its lines and its result.

    Raises:
        HesseValueError: there is no such reading.
    """
    return _joined(TextPage(record.program).section(Outline(record, reading).section(part)))


def results(blocks: Iterable[Block], record: Record, reading: str = "indices") -> str:
    """What blocks come to, without their lines.

    Raises:
        HesseValueError: there is no such reading.
    """
    page, outline = TextPage(record.program), Outline(record, reading)
    shown = (outline.result(block.expression, block.rows, block.columns) for block in blocks)
    return _joined(row for result in shown for row in page.result(result))


def _joined(rows: Iterable[str]) -> str:
    return "".join(f"{printable(row.rstrip())}\n" for row in rows)


class TextPage:
    """How each part of a document looks as text, in rows.

    Args:
        program: whose names are written.
    """

    def __init__(self, program: Program) -> None:
        self.writer = TextWriter(program)

    def rows(self, document: Document) -> Iterator[str]:
        """The whole document."""
        # A vector has no blocks.
        order, parts = (
            ("Second", document.blocks) if document.blocks else ("First", document.slopes)
        )
        names = ", ".join(self.writer.write(part.bare) for part in parts)
        yield from broken(f"{order} derivatives: {names}", WIDTH)
        yield ""
        yield from self.header(document.header)
        for section in document.sections:
            yield ""
            yield from self.section(section)
        yield ""
        yield from _field("Checked", document.checked)

    # ------------------------------------------------------------ what is given

    def header(self, header: Header) -> Iterator[str]:
        """The fields of the header, each under its name."""
        if header.source:
            yield from _field("Given", header.source)
        if header.about:
            yield from _field("Reading", ", ".join(header.about))
        if header.shapes:
            shown = (f"{name} {shape_text(sizes)}" for name, sizes in header.shapes)
            yield from _field("Shapes", "   ".join(shown))
        for place, guess in enumerate(header.guesses):
            yield from _field("" if header.shapes or place else "Shapes", guess)
        yield from _field("Names", self.definitions(header.definitions))
        yield from _field("Maps", self.maps(header))
        yield from _field("Indices", self.indices(header))
        yield from _field("Signals", self.definitions(header.signals))
        grid = self.grid(header)
        yield from _field("Hessian", grid)
        for place, sentence in enumerate(header.conventions):
            yield from _field("" if grid or place else "Hessian", sentence)
        for note in header.notes:
            yield from _field("Note", note)

    def grid(self, header: Header) -> list[str]:
        """How the blocks make up H."""
        cells = [[cell.replace("^T", "ᵀ") for cell in row] for row in header.grid]
        rows = [f"[ {row} ]" for row in table(cells, gap=2)]
        length = max(map(wide, rows), default=0)
        rows = [f"{row[:-2]}{' ' * (length - wide(row))} ]" for row in rows]
        return [f"{'    ' if place else 'H = '}{row}" for place, row in enumerate(rows)]

    def indices(self, header: Header) -> list[str]:
        """What each letter runs over."""
        runs = [(", ".join(run.letters), f"1 … {run.size}", run.counts) for run in header.runs]
        rows = table(runs)
        # A table that is wider than the page becomes sentences.
        if all(wide(row) <= WIDTH - _MARGIN for row in rows):
            return rows
        sentences = (f"{letters}: {size}, {counts}" for letters, size, counts in runs)
        return [row for sentence in sentences for row in prose(sentence, WIDTH - _MARGIN)]

    def maps(self, header: Header) -> list[str]:
        """The maps without a formula: from what to what, and their derivatives."""
        rows, room = [], WIDTH - _MARGIN
        for box in header.maps:
            given = ", ".join(self.array(*argument) for argument in box.arguments)
            arrow = Part("+", f"{given} ↦ {self.array(*box.value)}")
            rows += laid_out(f"{box.operation}:", [arrow], room)
            if box.slopes:
                slopes = ", ".join(map(self.writer.symbol, box.slopes))
                rows += [f"    {row}" for row in broken(f"derivatives {slopes}", room - 4)]
        return [*rows, *prose(f"{MAPS}. {ABOUT_MAPS}", room)] if rows else []

    def array(self, name: str, sizes: Sizes | None) -> str:
        """A name with its shape."""
        return self.writer.symbol(name) + ("" if sizes is None else f" {shape_text(sizes)}")

    def definitions(self, definitions: Sequence[Definition]) -> list[str]:
        """Quantities, the notes and matrices beside them in a column of their own."""
        rows: list[str] = []
        cells: list[tuple[str, str, str]] = []
        for definition in definitions:
            left, right = self.definition(definition)
            beside, note = "", definition.note
            # In the matrix reading the column is for matrices only: notes follow their formula.
            if definition.in_place and definition.matrix is not None:
                right, note = f"{right}   {note}" if note else right, ""
            elif definition.matrix is not None:
                name = self.writer.symbol(definition.left.name)
                beside = f"{name} = {self.writer.write(definition.matrix)}"
            cells.append((left, right, beside or note))
        # One column for all, behind the longest formula that has something beside it.
        room = WIDTH - _MARGIN
        heads = [wide(f"{left} = {right}") for left, right, _ in cells]
        column = max((n for n, cell in zip(heads, cells, strict=True) if cell[2]), default=0) + 4
        for head, (left, right, beside) in zip(heads, cells, strict=True):
            # What does not fit beside its formula stands below, set in.
            if beside and column + wide(beside) <= room and head < column:
                rows.append(f"{left} = {right}{' ' * (column - head)}{beside}")
                continue
            rows += laid_out(f"{left} =", [Part("+", right)], room)
            if beside:
                rows += [f"    {row}" for row in broken(beside, room - 4)]
        return rows

    def definition(self, definition: Definition) -> tuple[str, str]:
        """Both sides of a quantity's definition."""
        if definition.in_place and definition.matrix is not None:
            return self.writer.symbol(definition.left.name), self.writer.write(definition.matrix)
        return self.writer.entry(definition.left), self.writer.write(definition.right)

    # ------------------------------------------------------------ sections

    def section(self, section: Section) -> Iterator[str]:
        """A title with a line under it, the lines, and the result."""
        title = [section.name]
        if section.derivative is not None:
            title.insert(0, self.writer.write(section.bare))
        if section.shape is not None:
            title.append(f"shape {shape_text(section.shape)}")
        rows = broken("   ".join(title), WIDTH)
        yield from (*rows, "─" * max(map(wide, rows)))
        for line in section.lines:
            yield from self.line(line)
        # The last line of a first derivative is its result, and a stage has none.
        if section.result is None:
            return
        if section.lines:
            yield ""
        yield from self.result(section.result)
        if section.transposed and isinstance(section.derivative, Partial):
            turned = replace(section.derivative, by=section.derivative.by[::-1])
            sentence = f"{self.writer.write(without_indices(turned))} is its transpose."
            yield from (f"  {row}" for row in prose(sentence, WIDTH - 2))
        if deviation := number(section.deviation):
            yield f"  Against automatic differentiation, the whole block: {deviation}."

    def line(self, line: Line) -> Iterator[str]:
        """Its number and rule, its equation, its reason, and how far its sides are apart."""
        head = f"{line.label:<3} {line.rule}"
        rows = [" " * _RULE + row for row in underlined(self.equation(line))]
        # A rule with a long name has a row of its own above the formula.
        if wide(head) <= _RULE - 2:
            rows[0] = f"{head:<{_RULE}}{rows[0][_RULE:]}"
        else:
            rows = [*broken(head, WIDTH), *rows]
        if line.reason:
            # A short reason goes on behind a short formula, if the deviation still has its place.
            if len(rows) == 1 and wide(rows[0]) + 4 + len(line.reason) + 2 <= _STAMP:
                rows[0] += f"    {line.reason}"
            else:
                width = WIDTH - _RULE - 4
                rows += [" " * (_RULE + 4) + row for row in prose(line.reason, width)]
        if deviation := number(line.deviation):
            # On the first row with room at its end, else on one more.
            place = next((k for k, row in enumerate(rows) if wide(row) + 2 <= _STAMP), len(rows))
            rows += [""] * (place == len(rows))
            rows[place] += " " * (_STAMP - wide(rows[place])) + f"✓ {deviation}"
        yield from rows

    def equation(self, line: Line) -> list[str]:
        """``before = after =: name``, and below it what a name is that stands on both sides."""
        equation, width = line.equation, WIDTH - _RULE
        tail = f"=: {self.writer.entry(equation.name)}" if equation.name else ""
        rows = laid_out(self.head(equation), self.parts(equation.right), width, tail)
        return rows + (self.with_definition(line.defined, width) if line.defined else [])

    def with_definition(self, definition: Definition, width: int) -> list[str]:
        """``with  S = …``"""
        left, right = self.definition(definition)
        rows = laid_out(f"{left} =", [Part("+", right)], width - 6)
        return [f"{' ' * 6 if place else 'with  '}{row}" for place, row in enumerate(rows)]

    def head(self, equation: Equation) -> str:
        """What stands left of the terms."""
        if equation.trivial:
            return ""
        return "=" if equation.left is None else f"{self.writer.write(equation.left)} ="

    def parts(self, summands: Sum) -> list[Part]:
        """Terms, with their signs and what stands under them."""
        return [
            Part("−" if part.negative else "+", self.writer.write(part.node), part.label)
            for part in summands
        ]

    # ------------------------------------------------------------ results

    def result(self, result: Result) -> Iterator[str]:
        """What its terms have in common in front of braces, the kinds under the terms; then as a
        matrix."""
        head, tail = f"{self.writer.write(result.before)} =", ""
        if result.outer is not None:
            head, tail = f"{head} {outside(result.outer, self.writer)} {{", "}"
        rows = laid_out(head, self.parts(result.inner), WIDTH - 2, tail)
        yield from (f"  {row}" for row in underlined(rows))
        for definition in result.named:
            yield from (f"    {row}" for row in self.with_definition(definition, WIDTH - 4))
        if result.about_kind:
            yield f"    {result.about_kind}"
        if result.matrix:
            counted = ", ".join(result.counted)
            about = (
                f"As a matrix, {counted}, counted row by row" if counted else result.about_matrix
            )
            yield f"  {about}:"
            rows = laid_out("", self.parts(result.matrix), WIDTH - 4)
            rows += [row for remark in result.remarks for row in prose(remark, WIDTH - 4)]
            yield from (f"    {row}" for row in rows)


def _field(name: str, what: str | Sequence[str]) -> Iterator[str]:
    """A named entry of the header."""
    rows = prose(what, WIDTH - _MARGIN) if isinstance(what, str) else what
    for place, row in enumerate(rows):
        yield f"{'' if place else name:<{_MARGIN}}{row}"
