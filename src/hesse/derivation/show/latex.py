r"""A derivation in LaTeX, which needs no packages but amsmath and xcolor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hesse.derivation.calculus.expression import Expression, Kind, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.records import Block, Derived, Record
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
    sentence,
    summands,
)
from hesse.derivation.show.entries import outside
from hesse.derivation.show.given import shape_text
from hesse.derivation.show.latex_writer import LatexWriter
from hesse.derivation.show.names import escaped, latex_index, latex_name, typewriter
from hesse.derivation.show.outline import Outline, number
from hesse.derivation.show.ruler import cut, width
from hesse.derivation.show.sentences import Sentences

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
\tolerance=10000
\begin{document}
"""
_LINE = 474.0  # points of a line of the document that formulas take
_MOST = 1 / 3  # of it for what stands left of a sign of equality; what is wider has rows of its own


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


def part_latex(part: Block | Derived, record: Record, reading: str = "indices") -> str:
    """The result of a block, or of what was asked for beside blocks, for LaTeX's math mode: to
    stand between dollar signs, with amsmath and xcolor loaded.

    Raises:
        HesseValueError: there is no such reading.
    """
    section = Outline(record, reading).section(part)
    rows = LatexPage(record.program, False).formula(section)
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


@dataclass(frozen=True)
class _Piece:
    """A term with its sign, in the colour of its kind, with a label under it."""

    text: str
    sign: str = ""
    kind: Kind | None = None
    label: str = ""

    def coloured(self, text: str, label: str = "") -> str:
        """A part of the term."""
        if self.kind:
            text = rf"\textcolor{{{COLOURS[self.kind]}}}{{{text}}}"
        return rf"\underbrace{{{text}}}_{{\text{{{label}}}}}" if label else text


@dataclass(frozen=True)
class _Aligned:
    """An equation to be aligned with others at its sign: what stands left of it, the terms right of
    it, and what stands behind them."""

    left: str
    pieces: tuple[_Piece, ...]
    tail: str = ""
    sign: str = "= "

    def rows(self, room: float) -> list[str]:
        """The rows, those right of the sign no wider than there is room."""
        done, row = list[str](), f"{self.left} &{self.sign}".lstrip() if self.sign else "&"
        used, fresh, long = width(self.sign), True, False

        def begin(indent: str) -> None:
            nonlocal row, used, fresh
            done.append(row.rstrip())
            row, used, fresh = f"&{indent}", width(indent), True

        for piece in self.pieces:
            sign = f"{piece.sign} " if piece.sign else ""
            wide = width(sign) + width(piece.coloured(piece.text, piece.label))
            # A term that is too long for one row needs half a row to begin in.
            over = used + wide > room and (wide < room - 10 or used > room / 2)
            if not fresh and (long or over):
                begin(r"\quad ")
            row += sign if fresh else f" {sign}"
            used += width(sign)
            *parts, last = cut(piece.text, room - 20, room - used)
            # It goes on in the next ones.
            for part in parts:
                row += piece.coloured(part)
                begin(r"\quad \quad ")
            last = piece.coloured(last, piece.label)
            row, used, fresh, long = row + last, used + width(last), False, bool(parts)
        if self.tail and used + width(self.tail) > room:
            begin(r"\quad ")
        return [*done, f"{row} {self.tail}".rstrip() if self.tail else row]


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
        rows = self.alignment([self.defined(one, self.shaped) for one in definitions])
        if rows:
            yield f"{title}:" if title else ""
            yield display(rows)

    def defined(self, definition: Definition, writer: LatexWriter) -> _Aligned:
        """The definition of a quantity, in entries."""
        left, right = writer.entry(definition.left), definition.right
        if not isinstance(right, Expression):
            return _Aligned(left, (_Piece(writer.write(right)),))
        return _Aligned(left, self.terms(summands(right), writer))

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
        each = map(self.writer.size, sizes)
        return r" \times ".join(f"({one})" if "-" in one else one for one in each) or "1"

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
        left = "" if equation.left is None else self.writer.write(equation.left)
        tail = f"=: {self.writer.entry(equation.name)}" if equation.name else ""
        terms = self.terms(equation.right, self.writer)
        if equation.trivial:
            parts = [_Aligned("", terms, tail, sign="")]
        else:
            parts = [_Aligned(left, terms, tail)]
        if line.defined:
            parts.append(self.defined(line.defined, self.writer))
        return self.alignment(parts)

    def terms(
        self, parts: Sum, writer: LatexWriter, labels: bool = True, always: bool = False
    ) -> tuple[_Piece, ...]:
        """The terms of a sum.

        Args:
            parts: what to write.
            writer: in which notation.
            labels: whether anything stands under them.
            always: whether their kinds have a colour without a label too.
        """
        return tuple(
            _Piece(
                writer.write(part.node),
                writer.minus if part.negative else writer.plus if place else "",
                part.kind if always or (labels and part.label) else None,
                self.said(part.label) if labels else "",
            )
            for place, part in enumerate(parts)
        )

    def alignment(self, parts: Sequence[_Aligned]) -> list[str]:
        """Equations as rows that are aligned at their signs of equality."""
        lefts = [width(part.left) for part in parts]
        beside = max((left for left in lefts if left <= _MOST * _LINE), default=0.0)
        rows = []
        for part, left in zip(parts, lefts, strict=True):
            if left > _MOST * _LINE:
                # A long left side has rows of its own.
                rows += [f"&{row}" for row in cut(part.left, _LINE - beside)]
                part = replace(part, left="")
            rows += part.rows(_LINE - beside)
        return rows

    # ------------------------------------------------------------ results

    def result(self, result: Result) -> Iterator[str]:
        """The result, shapes under the symbols, and what its kinds are; then as a matrix."""
        yield display(self.in_entries(result, self.shaped))
        rows = self.alignment([self.defined(named, self.shaped) for named in result.named])
        if rows:
            yield "with"
            yield display(rows)
        if result.about_kind:
            yield escaped(sentence(result.about_kind)) + "\n"
        if result.matrix:
            yield f"{result.about_matrix}:"
            terms = self.terms(result.matrix, self.writer, labels=False, always=True)
            yield display(self.alignment([_Aligned("", terms, sign="")]))
            for remark in result.remarks:
                yield self.said(f"{remark}.") + "\n"

    def formula(self, section: Section) -> list[str]:
        """The result in the reading, as rows of an alignment."""
        result = section.result
        assert result is not None, "a block has a result"
        # By itself a result stands once: as a matrix, or in entries.
        if not result.in_place:
            return self.in_entries(result, self.writer)
        terms = self.terms(result.matrix, self.writer, always=True)
        return self.alignment([_Aligned(self.writer.write(section.bare), terms)])

    def in_entries(self, result: Result, writer: LatexWriter) -> list[str]:
        """The result in entries: what its terms have in common in front of braces."""
        left, terms = (
            self.writer.write(result.before),
            self.terms(result.inner, writer, always=True),
        )
        if result.outer is None:
            return self.alignment([_Aligned(left, terms)])
        outer = _Piece(rf"{outside(result.outer, writer)} \Bigl\{{")
        return self.alignment([_Aligned(left, (outer, *terms), r"\Bigr\}")])


def display(rows: Sequence[str]) -> str:
    """Rows as an alignment."""
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"
