r"""A derivation in LaTeX, which needs no packages but amsmath and xcolor."""

import re
from collections.abc import Iterator, Sequence

from hesse.derivation.calculus.expression import Expression, Kind, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.records import Block, Record
from hesse.derivation.show.document import (
    ABOUT_MAPS,
    MAPS,
    Definition,
    Document,
    Header,
    Line,
    Result,
    Section,
    Sizes,
    Sum,
    Summand,
    as_sum,
    sentence,
    summands,
)
from hesse.derivation.show.entries import outside
from hesse.derivation.show.given import shape_text
from hesse.derivation.show.latex_writer import LatexWriter
from hesse.derivation.show.names import escaped, latex_index, latex_name, typewriter
from hesse.derivation.show.outline import Outline, number
from hesse.derivation.show.sentences import Sentences
from hesse.derivation.show.text_writer import TextWriter

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
\sloppy
\begin{document}
"""
_LINE = 84  # columns of the plain text that fit a line of the document


def document(record: Record, reading: str = "indices") -> str:
    """The whole derivation as a document that compiles as it stands.

    Args:
        record: what to show.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """
    outline = Outline(record, reading)
    # Underneath symbols of one weight per layer there is no shape to show.
    page = LatexPage(record.program, outline.reading.axes)
    return _PREAMBLE + "\n".join(page.rows(outline.document())) + "\n\\end{document}\n"


def block_latex(block: Block, record: Record, reading: str = "indices") -> str:
    """One block's result, for LaTeX's math mode: to stand between dollar signs, with amsmath and
    xcolor loaded.

    Raises:
        HesseValueError: there is no such reading.
    """
    rows = LatexPage(record.program, False).formula(Outline(record, reading).block(block))
    inner = " \\\\\n".join(rows)
    # A single row needs no alignment, nor the sign for it.
    if len(rows) == 1:
        return inner.replace("&", "", 1)
    return f"\\begin{{aligned}}\n{inner}\n\\end{{aligned}}"


def lines_latex(block: Block, record: Record, reading: str = "indices") -> str:
    """One block's lines and result, to stand in a document that loads amsmath and xcolor.

    Args:
        block: what to show.
        record: what it belongs to.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.

    Raises:
        HesseValueError: there is no such reading.
    """
    outline = Outline(record, reading)
    page = LatexPage(record.program, outline.reading.axes)
    return "\n".join(page.block(outline.block(block))) + "\n"


class LatexPage:
    """How each part of a document looks in LaTeX, in rows.

    Args:
        program: whose names are written.
        axes: whether arrays have axes to speak of: then their shapes stand under them, in
            definitions and results.
    """

    def __init__(self, program: Program, axes: bool) -> None:
        self.axes = axes
        self.writer, self.shaped = LatexWriter(program), LatexWriter(program, shaped=axes)
        # How wide a formula is when printed is told by the plain text, not by its commands.
        self.measure = TextWriter(program)
        self.sentences = Sentences(program, lambda name, at: f"${self.writer.name(name, at)}$")

    def said(self, text: str) -> str:
        """A sentence, in which names look as they do in formulas: W₁ rather than W1."""
        return "".join(self.sentences.pieces(text, escaped))

    def rows(self, document: Document) -> Iterator[str]:
        """The whole document, without its preamble."""
        yield r"\section*{Second derivatives}"
        yield from self.header(document.header)
        for slope in document.slopes:
            yield rf"\subsection*{{First derivative {self.derivative(slope)}}}"
            yield from self.lines(slope.lines)
        for stage in document.stages:
            yield rf"\subsection*{{{escaped(stage.name)}}}"
            yield from self.lines(stage.lines)
        for block in document.blocks:
            yield from self.block(block)
        yield r"\subsection*{Checked}" + "\n" + escaped(document.checked)

    # ------------------------------------------------------------ what is given

    def header(self, header: Header) -> Iterator[str]:
        """What is given, a paragraph for each."""
        if header.source:
            yield typewriter(header.source) + "\n"
        # The first alone says what one has to know to read the formulas.
        for half in header.about[:1]:
            yield escaped(sentence(half)) + "\n"
        yield from self.definitions("", header.definitions)
        yield from self.definitions("Signals", header.signals)
        yield from self.maps(header)
        if self.axes:
            shapes = [
                f"${latex_name(name)}$: ${self.sizes(sizes)}$" for name, sizes in header.shapes
            ]
            yield f"Shapes: {', '.join(shapes)}.\n" if shapes else ""
            runs = [
                f"${', '.join(map(latex_index, run.letters))} = 1 \\ldots"
                f" {self.writer.size(run.size)}$ ({self.said(run.counts)})"
                for run in header.runs
            ]
            yield f"Indices: {'; '.join(runs)}.\n" if runs else ""
        for guess in header.guesses:
            yield escaped(guess) + ".\n"
        if header.grid:
            inner = r" \\ ".join(" & ".join(row) for row in header.grid).replace("^T", r"^{\top}")
            yield rf"\[ H = \begin{{pmatrix}} {inner} \end{{pmatrix}} \]"
        for remark in (*header.conventions, *header.notes):
            yield self.said(remark) + "\n"

    def definitions(self, title: str, definitions: Sequence[Definition]) -> Iterator[str]:
        """Quantities in one alignment."""
        rows = [row for definition in definitions for row in self.defined(definition, self.shaped)]
        if rows:
            yield f"{title}:" if title else ""
            yield display(rows)

    def defined(self, definition: Definition, writer: LatexWriter) -> list[str]:
        """The definition of a quantity, in entries, as rows of an alignment."""
        left, right = f"{writer.entry(definition.left)} &= ", definition.right
        if not isinstance(right, Expression):
            return [left + writer.write(right)]
        return self.broken(left, summands(right), writer)

    def maps(self, header: Header) -> Iterator[str]:
        """The maps without a formula: from what to what, and their derivatives."""
        if not header.maps:
            return
        yield f"{MAPS}:\n"
        for box in header.maps:
            given = ", ".join(self.writer.symbol(name) for name, _ in box.arguments)
            slopes = r", \allowbreak ".join(map(self.writer.symbol, box.slopes))
            yield (
                f"{escaped(box.operation)}: ${given} \\mapsto {self.writer.symbol(box.value[0])}$"
                + (f", with derivatives ${slopes}$" if slopes else "")
                + ".\n"
            )
        yield f"{ABOUT_MAPS}\n"

    def sizes(self, sizes: Sizes) -> str:
        """``m \\times h``"""
        return r" \times ".join(map(self.writer.size, sizes)) or "1"

    # ------------------------------------------------------------ lines

    def derivative(self, section: Section) -> str:
        """What is derived, as a formula of the text."""
        assert section.derivative is not None
        return f"${self.writer.write(of(section.derivative))}$"

    def block(self, section: Section) -> Iterator[str]:
        """A block: its title, its lines and its result."""
        yield self.title(section)
        yield from self.lines(section.lines)
        yield from self.ending(section)

    def title(self, section: Section) -> str:
        """What a block is."""
        title = f"{self.derivative(section)} --- {escaped(section.name)}"
        if section.shape is not None:
            sizes = f"({', '.join(map(self.writer.size, section.shape))})"
            title += f", shape ${sizes if section.shape else shape_text(())}$"
        return rf"\subsection*{{{title}}}"

    def ending(self, section: Section) -> Iterator[str]:
        """What a block comes to."""
        assert section.result is not None
        yield r"\paragraph{Result}"
        yield from self.result(section.result)

    def lines(self, lines: Sequence[Line]) -> Iterator[str]:
        """Lines, each in a paragraph with its reason and an alignment below."""
        for line in lines:
            yield self.paragraph(line)
            yield display(self.equation(line))

    def paragraph(self, line: Line) -> str:
        """A line without its formula."""
        deviation = number(line.deviation)
        stamp = rf" \hfill {{\footnotesize deviation {deviation}}}" if deviation else ""
        rule = rf"{escaped(line.label)}\quad {escaped(line.rule)}"
        return rf"\paragraph{{{rule}}} {self.said(line.reason)}{stamp}"

    def equation(self, line: Line) -> list[str]:
        """A line of the derivation as rows of an alignment."""
        equation = line.equation
        above, left = list[str](), ""
        if equation.left is not None:
            if len(self.measure.write(equation.left)) > _LINE // 2:
                # A long left side has rows of its own.
                above = self.broken("&", as_sum(equation.left), self.writer)
            else:
                left = self.writer.write(equation.left)
        tail = f" =: {self.writer.entry(equation.name)}" if equation.name else ""
        rows = self.broken(f"{left} &= ", equation.right, self.writer, tail)
        # The left side was there for the width of the first row only.
        if equation.trivial:
            rows[0] = rows[0].split("&= ", 1)[1]
        below = self.defined(line.defined, self.writer) if line.defined else ()
        return [*above, *rows, *below]

    def broken(
        self,
        left: str,
        summands: Sum,
        writer: LatexWriter,
        tail: str = "",
        labels: bool = True,
        always: bool = False,
    ) -> list[str]:
        """Summands after what stands left of them, in rows, broken at signs where a row becomes too
        long.

        Args:
            left: what stands before them, with the sign of alignment.
            summands: what to write.
            writer: in which notation.
            tail: what stands behind them.
            labels: whether anything stands under them.
            always: whether their kinds have a colour without a label too.
        """
        # A command in LaTeX is some three times as long as what it prints.
        row, used, rows = left, len(left) // 3, []
        for place, part in enumerate(summands):
            width = len(self.measure.write(part.node))
            if place and used + width > _LINE:
                rows.append(row)
                row, used = r"&\quad ", 0
            sign = writer.minus if part.negative else writer.plus if place else ""
            before, after = (" " if used else "", " ") if place else ("", "")
            label = part.label if labels else ""
            *parts, last = _cut(writer.write(part.node), width)
            row += f"{before}{sign}{after}"
            # A term that is too long for any row goes on in the next ones.
            for piece in parts:
                rows.append(row + _labelled(piece, part, "", always))
                row, used = r"&\quad \quad ", 0
            row += _labelled(last, part, label, always)
            used += width // (len(parts) + 1) + 3  # and the sign between spaces
        return [*rows, row + tail]

    # ------------------------------------------------------------ results

    def result(self, result: Result) -> Iterator[str]:
        """The result, shapes under the symbols, and what its kinds are; then as a matrix."""
        yield display(self.in_entries(result, self.shaped))
        rows = [row for named in result.named for row in self.defined(named, self.shaped)]
        if rows:
            yield "with"
            yield display(rows)
        if result.about_kind:
            yield escaped(sentence(result.about_kind)) + "\n"
        if result.matrix:
            yield "As a matrix, rows and columns counted row by row:"
            yield display(self.broken("&", result.matrix, self.writer, labels=False, always=True))
            for remark in result.remarks:
                yield self.said(f"{remark}.") + "\n"

    def formula(self, section: Section) -> list[str]:
        """The result in the reading, as rows of an alignment."""
        result = section.result
        assert result is not None, "a block has a result"
        # By itself a result stands once: as a matrix, or in entries.
        if not result.in_place:
            return self.in_entries(result, self.writer)
        left = f"{self.writer.write(section.bare)} &= "
        return self.broken(left, result.matrix, self.writer, always=True)

    def in_entries(self, result: Result, writer: LatexWriter) -> list[str]:
        """The result in entries: what its terms have in common in front of braces."""
        left, tail = f"{self.writer.write(result.before)} &= ", ""
        if result.outer is not None:
            left, tail = rf"{left}{outside(result.outer, writer)} \Bigl\{{ ", r" \Bigr\}"
        return self.broken(left, result.inner, writer, tail, always=True)


def _cut(formula: str, width: int) -> list[str]:
    """A product in pieces that fit a line, cut outside all braces and parentheses: between the
    factors of a Kronecker product, or else between any."""
    if width <= _LINE:
        return [formula]
    room = len(formula) * _LINE / width
    for sign, again in ((r" \otimes ", r"{} \otimes "), (r" \, ", "")):
        pieces, depth = [""], 0
        for part in re.split(f"({re.escape(sign)})", formula):
            if part == sign and depth == 0 and len(pieces[-1]) > room / 3:
                pieces.append(again)
                continue
            pieces[-1] += part
            depth += len(re.findall(r"(?<!\\)[{(]|\\left", part))
            depth -= len(re.findall(r"(?<!\\)[})]|\\right", part))
        # A few signs alone in a row are worse than a row that is a little too long.
        if len(pieces[-1]) < room / 6:
            pieces[-2:] = [("" if again else sign).join(pieces[-2:])]
        if len(pieces) > 1:
            return pieces
    return [formula]


def display(rows: Sequence[str]) -> str:
    """Rows as an alignment."""
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


def _labelled(text: str, part: Summand, label: str, always: bool) -> str:
    """A summand in the colour of its kind, with its label under it."""
    if part.kind and (label or always):
        text = rf"\textcolor{{{COLOURS[part.kind]}}}{{{text}}}"
    return rf"\underbrace{{{text}}}_{{\text{{{escaped(label)}}}}}" if label else text
