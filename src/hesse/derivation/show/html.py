"""A derivation as one page of HTML: MathML, no script, style or font from elsewhere."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from hesse.derivation.calculus.expression import Entry, Expression, Kind
from hesse.derivation.lines.records import Record
from hesse.derivation.show.document import (
    ABOUT_MAPS,
    EACH,
    KINDS,
    MAPS,
    Definition,
    Document,
    Equation,
    Formula,
    Line,
    Map,
    Result,
    Section,
    Sum,
    as_sum,
    sentence,
)
from hesse.derivation.show.entries import outside
from hesse.derivation.show.folding import Folding
from hesse.derivation.show.given import all_lines, shape_text
from hesse.derivation.show.latex import LatexPage
from hesse.derivation.show.mathml import Maths, PageWriter
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.matrix import Matrix
from hesse.derivation.show.outline import Outline, number
from hesse.derivation.show.readings import READINGS, Reading
from hesse.derivation.show.text_writer import TextWriter
from hesse.errors import HesseError, HesseImportError

_CLASSES: dict[Kind, str] = {"curvature from above": "above", "product-rule term": "product"}


def page(record: Record) -> str:
    """The whole derivation as one file that needs nothing else: open it in any browser, offline.

    Raises:
        HesseImportError: latex2mathml or jinja2 is not installed.
    """
    return _rendered("page.html.j2", record, "hesse")


def fragment(record: Record) -> str:
    """The same as a part of a page, for a notebook.

    Raises:
        HesseImportError: latex2mathml or jinja2 is not installed.
    """
    # A notebook can hold many: each has names of its own for its switch.
    return _rendered("fragment.html.j2", record, f"hesse-{secrets.token_hex(4)}")


def _rendered(template: str, record: Record, prefix: str) -> str:
    page = _environment().get_template(template).render(_Content(record).model(), prefix=prefix)
    return _UNSHOWN.sub(lambda sign: repr(sign[0])[1:-1], page)


def _environment() -> Any:
    try:
        import latex2mathml.converter  # noqa: F401
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise HesseImportError(
            f"a page of HTML needs latex2mathml and jinja2 ({error}); install them with: pip"
            " install 'hesse[html]'"
        ) from error
    loader = PackageLoader("hesse.derivation.show", "templates")
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# Signs of control, and those that turn the direction of a text; MathML has unseen ones of its own.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Part:
    """A piece of a formula: its MathML, the sign before it, its kind's class, its label, and the
    shapes of what it mentions."""

    math: str
    sign: str = ""
    kind: str = ""
    label: str = ""
    shapes: str = ""


# ---------------------------------------------------------------- what the template is given


class _Content:
    """All readings of a record, for the template."""

    def __init__(self, record: Record) -> None:
        self.record, self.program = record, record.program
        self.writer, self.shaped = PageWriter(self.program), PageWriter(self.program, shaped=True)
        self.maths, self.forms = Maths(), Forms(self.program)

    def model(self) -> dict[str, Any]:
        """The whole page."""
        cost = TextWriter(self.program).symbol(self.program.cost.name)
        # One store of matrix forms for all readings: each is looked for once.
        outlines = [
            Outline(self.record, name, self.forms) for name in READINGS if self._says_more(name)
        ]
        documents = [outline.document() for outline in outlines]
        return {
            "source": self.record.source,
            "title": f"Second derivatives of {cost}",
            "readings": [
                _Page(self, outline.reading).model(document)
                for outline, document in zip(outlines, documents, strict=True)
            ],
            # Which reading a page opens with.
            "default": "indices",
            "maps": (MAPS, ABOUT_MAPS),
            "kinds": self._kinds(),
            "notes": self.record.notes,
            "checked": documents[0].checked,
            "codes": [
                (TextWriter(self.program).write(block.bare), code)
                for block in documents[0].blocks
                if (code := self.code(block))
            ],
        }

    def _says_more(self, reading: str) -> bool:
        """Whether a reading means something here: one weight per layer where there are layers,
        matrices where some block has a matrix form."""
        if reading == "scalar":
            return any(quantity.role == "preactivation" for quantity in self.program.quantities)
        if reading == "matrix":
            return any(
                self.forms.by_kind(block.expression, block.rows, block.columns)
                for block in self.record
            )
        return True

    def _kinds(self) -> list[tuple[str, Kind, str]]:
        """The kinds of term that occur."""
        terms = (term for line in all_lines(self.record) for term in line.after.terms)
        found = {term.kind for term in terms}
        return [
            (_CLASSES[kind], kind, EACH[kind].partition(": ")[2]) for kind in KINDS if kind in found
        ]

    def code(self, section: Section) -> str:
        """A block as a function; "" where it has none."""
        from hesse.derivation.code.python import python

        block = section.block
        assert block is not None, "only a block is a function"
        try:
            return python(block, self.program)
        except HesseError:
            return ""


class _Page:
    """How each part of a document looks to the template, in one reading."""

    def __init__(self, content: _Content, reading: Reading) -> None:
        self.content, self.reading, self.writer = content, reading, content.writer
        # Shapes stand under entries only: a matrix has none, and looks strange beside some.
        self.shaped = content.shaped if reading.axes and not reading.in_place else self.writer
        self.latex = LatexPage(content.program, reading.axes)
        self.folding = Folding()

    def model(self, document: Document) -> dict[str, Any]:
        """Everything in one reading."""
        header = document.header
        return {
            "name": self.reading.name,
            "title": self.reading.title,
            "definitions": [self.quantity(definition) for definition in header.definitions],
            "maps": [self.mapped(box) for box in header.maps],
            "signals": [self.quantity(definition) for definition in header.signals],
            "shapes": [
                (self.math(self.writer.symbol(name)), shape_text(sizes))
                for name, sizes in header.shapes
            ],
            "guesses": header.guesses,
            "runs": [
                ([self.math(self.writer.index(n)) for n in run.letters], str(run.size), run.counts)
                for run in header.runs
            ],
            "grid": [
                [self.math(cell.replace("^T", r"^{\top}")) for cell in row] for row in header.grid
            ],
            "conventions": header.conventions,
            "slopes": [
                {"title": self.formula(slope.bare), "groups": self.groups(slope.lines)}
                for slope in document.slopes
            ],
            "stages": [
                {"title": stage.name, "groups": self.groups(stage.lines)}
                for stage in document.stages
            ],
            "blocks": [self.block(block, place) for place, block in enumerate(document.blocks)],
        }

    # ------------------------------------------------------------ formulas

    def math(self, latex: str) -> str:
        """A formula by itself."""
        return self.content.maths(latex, self.writer)

    def part(
        self,
        latex: str,
        writer: PageWriter | None = None,
        sign: str = "",
        kind: Kind | None = None,
        label: str = "",
    ) -> Part:
        """A piece of a formula, in the writer that wrote it."""
        writer = writer or self.writer
        # The writer has numbered the arrays whose shapes it knows.
        mentioned = dict.fromkeys(re.findall(r"\\class\{array(\d+)\}", latex))
        names = [writer.arrays[int(place)] for place in mentioned] if self.reading.axes else []
        shapes = " · ".join(f"{name} {shape_text(writer.sizes(name))}" for name in names)
        return Part(
            self.content.maths(latex, writer), sign, _CLASSES[kind] if kind else "", label, shapes
        )

    def parts(
        self,
        summands: Sum,
        writer: PageWriter | None = None,
        labels: bool = True,
        always: bool = False,
    ) -> list[Part]:
        """The terms of a sum, each with its sign.

        Args:
            summands: what to write.
            writer: in which notation.
            labels: whether anything stands under them.
            always: whether their kinds have a colour without a label too.
        """
        writer = writer or self.writer
        # Each term is a part of its own, so that the browser can break the line between them.
        parts = []
        for place, part in enumerate(summands):
            sign = "−" if part.negative else "+" if place else ""
            label = part.label if labels else ""
            kind = part.kind if label or always else None
            parts.append(self.part(writer.write(part.node), writer, sign, kind, label))
        return parts

    def formula(self, formula: Formula, writer: PageWriter | None = None) -> list[Part]:
        """A formula without labels."""
        return self.parts(as_sum(formula), writer, labels=False)

    # ------------------------------------------------------------ what is given

    def quantity(self, definition: Definition) -> dict[str, Any]:
        """A quantity: its name, what it is, and a note."""
        return {"formula": self.defined(definition, self.shaped), "note": definition.note}

    def defined(self, definition: Definition, writer: PageWriter) -> list[Part]:
        """``left = right``"""
        left, right = definition.left, definition.right
        # A matrix has no indices, and no shapes under it either.
        if definition.in_place and definition.matrix is not None:
            writer, left, right = self.writer, Entry(left.name), definition.matrix
        head = self.part(f"{writer.entry(left)} =", writer)
        if isinstance(right, Expression | Matrix):
            return [head, *self.formula(right, writer)]
        return [head, self.part(writer.write(right), writer)]

    def mapped(self, box: Map) -> dict[str, Any]:
        """A map without a formula: from what to what, and its derivatives."""
        given = ", ".join(self.writer.symbol(name) for name, _ in box.arguments)
        return {
            "name": box.operation,
            "formula": [self.part(rf"{given} \mapsto {self.writer.symbol(box.value[0])}")],
            "slopes": [self.part(self.writer.symbol(name)) for name in box.slopes],
        }

    # ------------------------------------------------------------ lines

    def groups(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        """The lines in order, those of one branch together: they unfold."""
        grouped = [
            (branch, list(members)) for branch, members in groupby(lines, lambda x: x.branch)
        ]
        return [
            {
                "branch": branch,
                "lines": (shown := [self.line(line) for line in members]),
                "count": len(shown),
                "about": self.about(members[0], members[-1]),
            }
            for branch, members in grouped
        ]

    def about(self, first: Line, last: Line) -> list[Part]:
        """What a branch comes to: its first left side and its last right one."""
        left, right = first.equation.left, last.equation.right
        matrices = all(
            isinstance(line.equation.right[0].node, Matrix) for line in (first, last)
        ) and isinstance(left, Expression)
        start = self.formula(left if matrices and left is not None else first.before)
        # An equation only where the last line is about what the first one is about.
        if first.before != last.before or first is last:
            return start
        # This is of the whole branch: marks belong to its lines.
        unmarked = tuple(replace(part, mark="") for part in right)
        end = self.parts(unmarked) if matrices else self.formula(last.after)
        return [*start, self.part("="), *end]

    def line(self, line: Line) -> dict[str, Any]:
        """A line."""
        return {
            "label": line.label,
            "rule": line.rule,
            "formula": self.equation(line.equation),
            "defined": self.defined(line.defined, self.writer) if line.defined else [],
            "reason": line.reason,
            "deviation": number(line.deviation),
        }

    def equation(self, equation: Equation) -> list[Part]:
        """``before = after =: name``"""
        parts = self.parts(equation.right)
        if not equation.trivial:
            parts.insert(0, self.part("="))
            parts[:0] = [] if equation.left is None else self.formula(equation.left)
        tail = [self.part(f"=: {self.writer.entry(equation.name)}")] if equation.name else []
        return [*parts, *tail]

    # ------------------------------------------------------------ blocks

    def block(self, section: Section, place: int) -> dict[str, Any]:
        """A block: its title, its result, its lines, and the same as code."""
        result = section.result
        assert result is not None, "a block has a result"
        title = self.formula(section.bare)
        return {
            "id": f"{self.reading.name}-block-{place}",
            "title": title,
            "name": section.name,
            "shape": "" if section.shape is None else shape_text(section.shape),
            "result": self.result(result, section),
            "named": [self.defined(definition, self.shaped) for definition in result.named],
            "kind": sentence(result.about_kind),
            "matrix": [] if result.in_place else self.parts(result.matrix),
            "remarks": result.remarks,
            "transposed": section.transposed,
            "groups": self.folding.folded(self.groups(section.lines), title),
            "deviation": number(section.deviation),
            "latex": "\n".join(self.latex.block(section)) + "\n",
        }

    def result(self, result: Result, section: Section) -> list[Part]:
        """The result as a matrix, or in entries with what its terms have in common in front."""
        if result.in_place:
            return [*self.formula(section.bare), self.part("="), *self.parts(result.matrix)]
        head = [*self.formula(result.before), self.part("=")]
        parts = self.parts(result.inner, self.shaped, always=True)
        if result.outer is None:
            return [*head, *parts]
        outer = self.part(rf"{outside(result.outer, self.shaped)} \, \{{", self.shaped)
        return [*head, outer, *parts, self.part(r"\}")]
