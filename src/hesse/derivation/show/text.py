"""A derivation in plain Unicode text, on lines of at most a hundred columns."""

import math
from collections.abc import Iterator, Sequence

from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.program import Quantity
from hesse.derivation.lines.records import Block, Record, Slope
from hesse.derivation.show import matrices
from hesse.derivation.show.factoring import factored
from hesse.derivation.show.given import ABOUT_MAPS, MAPS, forward, maps, note_of
from hesse.derivation.show.layout import Part, broken, laid_out, prose, table, underlined, wide
from hesse.derivation.show.matrices import Forms, Shown
from hesse.derivation.show.outline import (
    EACH,
    View,
    block_shape,
    blocks_of,
    checked,
    conventions,
    labels_of,
    name_of,
    named_by,
    number,
    runs,
    said,
    shape_text,
    shapes,
    signals,
    views,
)
from hesse.derivation.show.readings import Reading, known_reading, scalar, scalar_definition
from hesse.derivation.show.text_writer import TextWriter

WIDTH = 100


def page(derivation: Record, reading: str = "indices") -> str:
    """The whole derivation: what is given, the first derivatives, and each block line by line.

    Args:
        derivation: what to show.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """
    return (
        "\n".join(row.rstrip() for row in _Page(derivation, known_reading(reading)).rows()) + "\n"
    )


def block_text(block: Block, derivation: Record, reading: str = "indices") -> str:
    """One block: its lines and its result.

    Raises:
        HesseValueError: there is no such reading.
    """
    return (
        "\n".join(row.rstrip() for row in _Page(derivation, known_reading(reading)).block(block))
        + "\n"
    )


_MARGIN = 12  # of the header's names
_RULE = 22  # where the formulas of the lines begin
_STAMP = 92  # where their deviations do


class _Page:
    def __init__(self, derivation: Record, reading: Reading) -> None:
        self.derivation = derivation
        self.reading: Reading = reading
        self.program = derivation.program
        self.write, self.forms = TextWriter(self.program), Forms(self.program)

    def rows(self) -> Iterator[str]:
        d = self.derivation
        names = ", ".join(f"∂²{self._cost()}/∂{rows}∂{columns}" for rows, columns in d.blocks)
        yield from broken(f"Second derivatives: {names}", WIDTH)
        yield ""
        yield from self.header()
        for slope in d.slopes.values():
            yield ""
            yield from self.slope(slope)
        for stage in d.stages:
            yield ""
            yield from self.headed(stage.name)
            yield from self.lines(views(stage.lines, self.program, self.reading))
        for block in d:
            yield ""
            yield from self.block(block)
        yield ""
        yield from _field("Checked", checked(d))

    # ------------------------------------------------------------ what is given

    def header(self) -> Iterator[str]:
        d = self.derivation
        if d.source:
            yield from _field("Given", d.source)
        shown = [f"{name} {shape_text(sizes)}" for name, sizes in shapes(d)]
        if self.reading == "scalar":
            yield from _field(
                "Reading",
                "one weight per layer: every axis has length one, so indices and sums are gone",
            )
        elif shown:
            yield from _field("Shapes", "   ".join(shown))
        yield from _field("Names", self.definitions(forward(self.program)))
        yield from _field("Maps", self.maps())
        if self.reading != "scalar":
            yield from _field("Indices", self.indices())
        yield from _field("Signals", self.definitions(signals(d)))
        yield from self.hessian()
        for note in d.notes:
            yield from _field("Note", note)

    def hessian(self) -> Iterator[str]:
        """How the blocks make up H, and in which order vec counts."""
        grid = blocks_of(self.derivation)
        if grid:
            cells = [[cell.replace("^T", "ᵀ") for cell in row] for row in grid]
            rows = [f"[ {row} ]" for row in table(cells, gap=2)]
            length = max(map(wide, rows))
            rows = [f"{row[:-2]}{' ' * (length - wide(row))} ]" for row in rows]
            yield from _field(
                "Hessian", [f"{'H = ' if not k else '    '}{row}" for k, row in enumerate(rows)]
            )
        for k, sentence in enumerate(conventions(self.derivation, self.reading)):
            yield from _field("Hessian" if not grid and not k else "", sentence)

    def indices(self) -> list[str]:
        """What each letter runs over."""
        found = runs(self.derivation)
        rows = table([(", ".join(run.letters), f"1 … {run.size}", run.counts) for run in found])
        if all(wide(row) <= WIDTH - _MARGIN for row in rows):
            return rows
        return [
            row
            for run in found
            for row in prose(
                f"{', '.join(run.letters)}: 1 … {run.size}, {run.counts}", WIDTH - _MARGIN
            )
        ]

    def maps(self) -> list[str]:
        """The maps without a formula: from what to what, and their derivatives."""
        rows, room = [], WIDTH - _MARGIN
        for one in maps(self.program):
            given = ", ".join(map(self.array, one.arguments))
            rows += laid_out(
                f"{one.operation}:", [Part("+", f"{given} ↦ {self.array(one.value)}")], room
            )
            if one.slopes:
                slopes = ", ".join(map(self.write.symbol, one.slopes))
                rows += [f"    {row}" for row in broken(f"derivatives {slopes}", room - 4)]
        return [*rows, *prose(f"{MAPS}. {ABOUT_MAPS}", room)] if rows else []

    def array(self, name: str) -> str:
        """A name with its shape."""
        shape = "" if self.reading == "scalar" else f" {shape_text(self.program.shape(name))}"
        return self.write.symbol(name) + shape

    def definitions(self, quantities: Sequence[Quantity]) -> list[str]:
        rows: list[str] = []
        cells: list[tuple[str, str]] = []
        for quantity in quantities:
            left, right = self.definition(quantity)
            note = f"   {told}" if (told := note_of(quantity)) else ""
            matrix = self.matrix_definition(quantity)
            if matrix and self.reading == "matrix":
                cells.append((f"{matrix}{note}", ""))
            else:
                cells.append((f"{left} = {right}", matrix or note.strip()))
        room = WIDTH - _MARGIN
        column = max((wide(cell[0]) for cell in cells if cell[1]), default=0) + 4
        for first, second in cells:
            if second and column + wide(second) <= room and wide(first) < column:
                rows.append(f"{first}{' ' * (column - wide(first))}{second}")
                continue
            left, _, right = first.partition(" = ")
            rows.extend(laid_out(f"{left} =", [Part("+", right)], room))
            if second:
                rows.extend(f"    {row}" for row in broken(second, room - 4))
        return rows

    def definition(self, quantity: Quantity) -> tuple[str, str]:
        if self.reading == "scalar":
            return self.write.symbol(quantity.name), self.write.definition(
                scalar_definition(quantity.definition, self.program)
            )
        right = self.write.definition(quantity.definition)
        whole = not isinstance(quantity.definition, Expression)
        return (
            self.write.symbol(quantity.name) if whole else self.write.entry(quantity.entry)
        ), right

    def matrix_definition(self, quantity: Quantity) -> str | None:
        """``z2 = W1 x``, where the definition has a matrix form and says more than the indices
        do."""
        if self.reading == "scalar" or (not quantity.indices and self.reading == "indices"):
            return None
        shown = self.forms.definition(quantity)
        return None if shown is None else f"{self.write.symbol(quantity.name)} = {shown.text}"

    # ------------------------------------------------------------ lines

    def headed(self, title: str) -> list[str]:
        """A title with a line under it."""
        rows = broken(title, WIDTH)
        return [*rows, "─" * max(map(wide, rows))]

    def slope(self, slope: Slope) -> Iterator[str]:
        variable = self.write.symbol(slope.parameter.name)
        yield from self.headed(f"∂{self._cost()}/∂{variable}   the first derivative")
        yield from self.lines(views(slope.lines, self.program, self.reading))
        if not slope.lines:
            before = of(Partial(self.program.cost.entry, (slope.parameter,)))
            yield from self._formula(before, slope.expression, slope.parameter, None)

    def block(self, block: Block) -> Iterator[str]:
        rows, columns = block.rows.name, block.columns.name
        d = self.derivation
        title = (
            f"∂²{self._cost()}/∂{self.write.symbol(rows)}∂{self.write.symbol(columns)}  "
            f" {name_of(d, block)}"
        )
        if self.reading != "scalar":
            title += f"   shape {shape_text(block_shape(block))}"
        yield from self.headed(title)
        yield from self.lines(views(block.lines, self.program, self.reading, block))
        yield ""
        yield from self.result(block)
        if rows != columns and (columns, rows) not in d.blocks:
            turned = f"∂²{self._cost()}/∂{self.write.symbol(columns)}∂{self.write.symbol(rows)}"
            yield from (f"  {row}" for row in prose(f"{turned} is its transpose.", WIDTH - 2))
        if not math.isnan(block.deviation):
            yield (
                f"  Against automatic differentiation, the whole block: {number(block.deviation)}."
            )

    def lines(self, shown: Sequence[View]) -> Iterator[str]:
        for view in shown:
            yield from self.line(view)

    def line(self, view: View) -> Iterator[str]:
        line = view.line
        head = f"{line.label:<3} {line.rule}"
        rows = underlined(self.equation(view, WIDTH - _RULE))
        left = [head] if wide(head) <= _RULE - 2 else [*broken(head, WIDTH)]
        if len(left) == 1 and wide(head) <= _RULE - 2:
            rows = [f"{head:<{_RULE}}{rows[0]}", *(" " * _RULE + row for row in rows[1:])]
        else:
            rows = [*left, *(" " * _RULE + row for row in rows)]
        stamp = f"✓ {number(line.deviation)}" if not math.isnan(line.deviation) else ""
        reason = said(line.reason, self.program, self.reading)
        if reason:
            if len(rows) == 1 and wide(rows[0]) + 4 + len(reason) + 2 <= _STAMP:
                rows[0] += f"    {reason}"
            else:
                rows += [" " * (_RULE + 4) + row for row in prose(reason, WIDTH - _RULE - 4)]
        if stamp:
            place = next((k for k, row in enumerate(rows) if wide(row) + 2 <= _STAMP), None)
            if place is None:
                rows.append("")
                place = -1
            rows[place] += " " * (_STAMP - wide(rows[place])) + stamp
        yield from rows

    def equation(self, view: View, width: int) -> list[str]:
        """``before = after =: name``, in the reading."""
        shown = self.forms.sides(view) if self.reading == "matrix" else None
        if shown is not None:
            left, right = shown
            written = (
                self.write.expression(left)
                if isinstance(left, Expression)
                else left.text
                if left
                else ""
            )
            head, parts = f"{written} =".lstrip(), _matrix_parts(right, view.marks)
            name = self.write.symbol(view.name.name) if view.name else ""
        else:
            head = (
                ""
                if view.before == view.after
                else "="
                if view.continued
                else f"{self.write.expression(view.before)} ="
            )
            parts = self._parts(view.after, view.marks)
            name = self.write.entry(view.name) if view.name else ""
        quantity = named_by(view, self.program)
        if quantity is None:
            return laid_out(head, parts, width, f"=: {name}" if name else "")
        left, right = self.definition(quantity)
        matrix = self.matrix_definition(quantity) if self.reading == "matrix" else None
        left, _, right = matrix.partition(" = ") if matrix else (left, "=", right)
        defined = laid_out(f"{left} =", [Part("+", right)], width - 6)
        return [
            *laid_out(head, parts, width),
            *(("with  " if not k else " " * 6) + row for k, row in enumerate(defined)),
        ]

    def _parts(self, expression: Expression, marks: Sequence[str] = ()) -> list[Part]:
        labels = labels_of(expression, marks)
        return [
            Part("−" if piece.negative else "+", piece.body, label)
            for piece, label in zip(self.write.pieces(expression), labels or [""], strict=True)
        ]

    # ------------------------------------------------------------ results

    def result(self, block: Block) -> Iterator[str]:
        before = of(Partial(self.program.cost.entry, (block.rows, block.columns)))
        yield from self._formula(before, block.expression, block.rows, block.columns)

    def _formula(
        self, before: Expression, after: Expression, rows: Entry, columns: Entry | None
    ) -> Iterator[str]:
        """A result: what its terms have in common in front of braces, the kinds under the terms;
        then as a matrix."""
        if self.reading == "scalar":
            before, after = scalar(before, self.program), scalar(after, self.program)
        pulled = factored(after)
        kinds = {term.kind for term in pulled.inner.terms}
        parts = self._parts(pulled.inner)
        head = f"{self.write.expression(before)} ="
        tail = ""
        if not pulled.is_plain:
            outer = self.write.outside(pulled.outer)
            head, tail = f"{head} {outer} {{", "}"
        yield from (f"  {row}" for row in underlined(laid_out(head, parts, WIDTH - 2, tail)))
        if len(kinds) == 1 and None not in kinds:
            yield f"    {'all of it' if len(parts) == 1 else 'every term'} is {EACH[kinds.pop()]}"
        if self.reading != "scalar":
            shown = self.forms.by_kind(after, rows, columns)
            if shown and (rows.indices or (columns is not None and columns.indices)):
                sides = [("rows", rows), ("columns", columns)]
                named = [
                    f"{word} ({','.join(i.name for i in at.indices)})"
                    for word, at in sides
                    if at and at.indices
                ]
                yield f"  As a matrix, {', '.join(named)}, counted row by row:"
                yield from (f"    {row}" for row in laid_out("", _matrix_parts(shown), WIDTH - 4))
                for remark in matrices.remarks_of(shown):
                    yield from (f"    {row}" for row in prose(remark, WIDTH - 4))

    def _cost(self) -> str:
        return self.write.symbol(self.program.cost.name)


def _matrix_parts(shown: Sequence[Shown], marks: Sequence[str] = ()) -> list[Part]:
    labels = matrices.labels_of(shown, marks)
    return [
        Part("−" if part.negative else "+", part.text, label)
        for part, label in zip(shown, labels, strict=True)
    ]


def _field(name: str, what: str | Sequence[str]) -> Iterator[str]:
    """A named entry of the header."""
    rows = prose(what, WIDTH - _MARGIN) if isinstance(what, str) else list(what)
    for k, row in enumerate(rows):
        yield f"{name if not k else '':<{_MARGIN}}{row}"
