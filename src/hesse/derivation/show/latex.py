r"""A derivation in LaTeX, which needs no packages but amsmath and xcolor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hesse.derivation.calculus.expression import Entry, Expression, Kind, Partial, Size, of
from hesse.derivation.calculus.program import Quantity
from hesse.derivation.lines.records import Block, Line, Record
from hesse.derivation.show import matrices
from hesse.derivation.show.factoring import factored
from hesse.derivation.show.given import ABOUT_MAPS, MAPS, forward, maps
from hesse.derivation.show.latex_writer import LatexWriter
from hesse.derivation.show.matrices import Forms, Shown
from hesse.derivation.show.names import escaped, latex_index, latex_name, typewriter
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
from hesse.derivation.show.readings import TITLES, Reading, known_reading, scalar, scalar_definition
from hesse.derivation.show.text_writer import TextWriter
from hesse.derivation.show.writer import Piece

# Base colours of xcolor that stay apart for every common colour blindness, and dark enough to read.
COLOURS: dict[Kind, str] = {"curvature from above": "blue", "product-rule term": "brown"}
_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage{amsmath}
\usepackage{xcolor}
\setlength{\textwidth}{17cm}
\setlength{\oddsidemargin}{-5mm}
\setlength{\textheight}{24cm}
\setlength{\topmargin}{-15mm}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\begin{document}
"""
_LINE = 84  # columns of the plain text that fit a line of the document


def document(derivation: Record, reading: str = "indices") -> str:
    """The whole derivation as a document that compiles as it stands.

    Args:
        derivation: what to show.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """
    body = _Document(derivation, known_reading(reading))
    return _PREAMBLE + "\n".join(body.rows()) + "\n\\end{document}\n"


def block_latex(block: Block, derivation: Record, reading: str = "indices") -> str:
    """One block's result, for LaTeX's math mode: to stand between dollar signs, with amsmath and
    xcolor loaded.

    Raises:
        HesseValueError: there is no such reading.
    """
    rows = _Document(derivation, known_reading(reading)).formula(block)
    inner = " \\\\\n".join(rows)
    return (
        f"\\begin{{aligned}}\n{inner}\n\\end{{aligned}}"
        if len(rows) > 1
        else inner.replace("&", "", 1)
    )


def lines_latex(
    block: Block, derivation: Record, reading: str = "indices", forms: Forms | None = None
) -> str:
    """One block's lines and result, to stand in a document that loads amsmath and xcolor.

    Args:
        block: what to show.
        derivation: what it belongs to.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.
        forms: the matrix forms that are known already.

    Raises:
        HesseValueError: there is no such reading.
    """
    return "\n".join(_Document(derivation, known_reading(reading), forms).block(block)) + "\n"


class _Document:
    def __init__(self, derivation: Record, reading: Reading, forms: Forms | None = None) -> None:
        self.forms = forms or Forms(derivation.program)
        self.derivation = derivation
        self.reading: Reading = reading
        self.program = derivation.program
        self.write = LatexWriter(self.program)
        self.shaped = LatexWriter(self.program, shaped=reading != "scalar")
        self.measure = TextWriter(self.program)

    def rows(self) -> Iterator[str]:
        d = self.derivation
        yield r"\section*{Second derivatives}"
        if d.source:
            yield rf"{typewriter(d.source)}" + "\n"
        yield from self.header()
        for slope in d.slopes.values():
            yield (
                r"\subsection*{First derivative"
                rf" ${self.write.expression(of(self._first(slope.parameter)))}$}}"
            )
            yield from self.lines(views(slope.lines, self.program, self.reading))
        for stage in d.stages:
            yield rf"\subsection*{{{escaped(stage.name)}}}"
            yield from self.lines(views(stage.lines, self.program, self.reading))
        for block in d:
            yield from self.block(block)
        yield r"\subsection*{Checked}" + "\n" + escaped(checked(d))

    # ------------------------------------------------------------ what is given

    def header(self) -> Iterator[str]:
        d = self.derivation
        if self.reading == "scalar":
            yield (
                f"{escaped(TITLES['scalar'][:1].upper() + TITLES['scalar'][1:])}: every axis has"
                " length one.\n"
            )
        yield from self.definitions("", forward(self.program))
        yield from self.definitions("Signals", signals(d))
        yield from self.maps()
        if self.reading != "scalar":
            given = [f"${latex_name(name)}$: ${self._sizes(sizes)}$" for name, sizes in shapes(d)]
            yield "Shapes: " + ", ".join(given) + ".\n" if given else ""
            said_of = [
                f"${', '.join(map(latex_index, run.letters))} = 1 \\ldots"
                f" {self.write.size(run.size)}$ ({escaped(run.counts)})"
                for run in runs(d)
            ]
            yield "Indices: " + "; ".join(said_of) + ".\n" if said_of else ""
        grid = blocks_of(d)
        if grid:
            inner = r" \\ ".join(
                " & ".join(cell.replace("^T", r"^{\top}") for cell in row) for row in grid
            )
            yield rf"\[ H = \begin{{pmatrix}} {inner} \end{{pmatrix}} \]"
        for sentence in (*conventions(d, self.reading), *d.notes):
            yield escaped(sentence) + "\n"

    def definitions(self, title: str, quantities: Sequence[Quantity]) -> Iterator[str]:
        rows = [row for quantity in quantities for row in self.defined(quantity, self.shaped)]
        if rows:
            yield f"{title}:" if title else ""
            yield "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    def maps(self) -> Iterator[str]:
        """The maps without a formula: from what to what, and their derivatives."""
        found = maps(self.program)
        if found:
            yield f"{MAPS}:\n"
        for one in found:
            symbols = [
                ", ".join(map(self.write.symbol, names)) for names in (one.arguments, (one.value,))
            ]
            slopes = r", \allowbreak ".join(map(self.write.symbol, one.slopes))
            yield f"{escaped(one.operation)}: ${symbols[0]} \\mapsto {symbols[1]}$" + (
                f", with derivatives ${slopes}$.\n" if slopes else ".\n"
            )
        if found:
            yield f"{ABOUT_MAPS}\n"

    def _sizes(self, sizes: Sequence[Size]) -> str:
        return r" \times ".join(map(self.write.size, sizes)) or "1"

    # ------------------------------------------------------------ lines

    def block(self, block: Block) -> Iterator[str]:
        d = self.derivation
        title = (
            f"${self.write.expression(of(self._second(block)))}$ --- {escaped(name_of(d, block))}"
        )
        if self.reading != "scalar":
            title += f", shape ${latex_shape(block_shape(block), self.write)}$"
        yield rf"\subsection*{{{title}}}"
        yield from self.lines(views(block.lines, self.program, self.reading, block))
        yield r"\paragraph{Result}"
        yield from self.result(block)

    def lines(self, shown: Sequence[View]) -> Iterator[str]:
        for view in shown:
            yield (
                rf"\paragraph{{{escaped(view.line.label)}\quad {escaped(view.line.rule)}}}"
                rf" {self._reason(view.line)}"
            )
            yield self.display(self.equation(view))

    def _reason(self, line: Line) -> str:
        stamp = (
            ""
            if math.isnan(line.deviation)
            else rf" \hfill {{\footnotesize deviation {number(line.deviation)}}}"
        )
        return escaped(said(line.reason, self.program, self.reading)) + stamp

    def equation(self, view: View) -> list[str]:
        """A line of the derivation as rows of an alignment."""
        shown = self.forms.sides(view) if self.reading == "matrix" else None
        quantity = named_by(view, self.program)
        if shown is not None:
            left, right = shown
            written = (
                self.write.expression(left)
                if isinstance(left, Expression)
                else left.latex
                if left
                else ""
            )
            name = (
                rf" =: {self.write.symbol(view.name.name)}"
                if view.name and quantity is None
                else ""
            )
            labels = matrices.labels_of(right, view.marks)
            rows = self.wrapped(
                f"{written} &= ",
                _matrix_pieces(right),
                [len(part.text) for part in right],
                labels,
                name,
            )
        else:
            name = f" =: {self.write.entry(view.name)}" if view.name and quantity is None else ""
            written = "" if view.continued else self.write.expression(view.before)
            rows = self.broken(written, view.after, self.write, marks=view.marks, tail=name)
            if view.before == view.after:
                rows[0] = rows[0].split("&= ", 1)[1]
        return [*rows, *self.defined(quantity, self.write)] if quantity else rows

    def defined(self, quantity: Quantity, write: LatexWriter) -> list[str]:
        """The definition of a quantity as rows of an alignment."""
        right, left = quantity.definition, quantity.entry
        if self.reading == "scalar":
            right, left = scalar_definition(right, self.program), Entry(quantity.name)
        if not isinstance(right, Expression):
            return [rf"{write.symbol(quantity.name)} &= {write.definition(right)}"]
        return self.broken(write.entry(left), right, write)

    def broken(
        self,
        left: str,
        right: Expression,
        write: LatexWriter,
        marks: Sequence[str] = (),
        front: str = "",
        tail: str = "",
        always: bool = False,
    ) -> list[str]:
        """``left &= right`` in rows, broken at signs where a row becomes too long."""
        widths = [len(piece.body) for piece in self.measure.pieces(right)]
        return self.wrapped(
            f"{left} &= {front}", write.pieces(right), widths, labels_of(right, marks), tail, always
        )

    def wrapped(
        self,
        left: str,
        pieces: Sequence[Piece],
        widths: Sequence[int],
        labels: Sequence[str] = (),
        tail: str = "",
        always: bool = False,
    ) -> list[str]:
        """Pieces after what stands left of them, in rows that are not too long."""
        row, used, rows = left, len(left) // 3, []
        for k, (piece, width) in enumerate(zip(pieces, widths, strict=True)):
            if k and used + width > _LINE:
                rows.append(row)
                row, used = r"&\quad ", 0
            sign = self.write.minus if piece.negative else (self.write.plus if k else "")
            label = labels[k] if k < len(labels) else ""
            before, after = " " if used and k else "", " " if k else ""
            row += f"{before}{sign}{after}{self._labelled(piece, label, always)}"
            used += width + 3
        return [*rows, row + tail]

    def _labelled(self, piece: Piece, label: str, always: bool) -> str:
        coloured = (
            rf"\textcolor{{{COLOURS[piece.kind]}}}{{{piece.body}}}"
            if piece.kind and (label or always)
            else piece.body
        )
        return rf"\underbrace{{{coloured}}}_{{\text{{{escaped(label)}}}}}" if label else coloured

    def display(self, rows: Sequence[str]) -> str:
        """Rows as an alignment."""
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"

    # ------------------------------------------------------------ results

    def result(self, block: Block) -> Iterator[str]:
        """The result, shapes under the symbols, and what its kinds are; then as a matrix."""
        yield self.display(self.in_entries(block, self.shaped))
        kinds = {term.kind for term in block.expression.terms}
        if len(kinds) == 1 and None not in kinds:
            whole = "All of it" if len(block.expression.terms) == 1 else "Every term"
            yield escaped(f"{whole} is {EACH[kinds.pop()]}.") + "\n"
        shown = (
            self.forms.by_kind(block.expression, block.rows, block.columns)
            if self.reading != "scalar"
            else []
        )
        if shown:
            yield "As a matrix, rows and columns counted row by row:"
            yield self.display(
                self.wrapped(
                    "&", _matrix_pieces(shown), [len(part.text) for part in shown], always=True
                )
            )
            for remark in matrices.remarks_of(shown):
                yield escaped(f"{remark}.") + "\n"

    def formula(self, block: Block) -> list[str]:
        """The result in the reading, as rows of an alignment."""
        shown = (
            self.forms.by_kind(block.expression, block.rows, block.columns)
            if self.reading == "matrix"
            else []
        )
        if not shown:
            return self.in_entries(block, self.write)
        left = self.write.expression(of(self._second(block)))
        labels = matrices.labels_of(shown)
        return self.wrapped(
            f"{left} &= ",
            _matrix_pieces(shown),
            [len(part.text) for part in shown],
            labels,
            always=True,
        )

    def in_entries(self, block: Block, write: LatexWriter) -> list[str]:
        """The result in indices: what its terms have in common in front of braces."""
        left, after = (
            Partial(self.program.cost.entry, (block.rows, block.columns)),
            block.expression,
        )
        if self.reading == "scalar":
            after = scalar(after, self.program)
            left = self._second(block)
        pulled = factored(after)
        front, tail = "", ""
        if not pulled.is_plain:
            front, tail = rf"{write.outside(pulled.outer)} \Bigl\{{ ", r" \Bigr\}"
        return self.broken(
            self.write.expression(of(left)),
            pulled.inner,
            write,
            front=front,
            tail=tail,
            always=True,
        )

    def _first(self, parameter: Entry) -> Partial:
        at = Entry(parameter.name) if self.reading != "indices" else parameter
        return Partial(Entry(self.program.cost.name), (at,))

    def _second(self, block: Block) -> Partial:
        entries = (block.rows, block.columns)
        if self.reading != "indices":
            entries = tuple(replace(entry, indices=()) for entry in entries)
        return Partial(self.program.cost.entry, entries)


def _matrix_pieces(shown: Sequence[Shown]) -> list[Piece]:
    return [Piece(part.negative, part.latex, part.kind) for part in shown]


def latex_shape(sizes: Sequence[Size], write: LatexWriter) -> str:
    """``(h, d, m, h)``"""
    return f"({', '.join(map(write.size, sizes))})" if sizes else shape_text(())
