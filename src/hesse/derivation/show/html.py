"""A derivation as one page of HTML: MathML, no script, style or font from elsewhere."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.program import Quantity
from hesse.derivation.lines.records import Block, Line, Record
from hesse.derivation.show import matrices
from hesse.derivation.show.factoring import factored
from hesse.derivation.show.given import ABOUT_MAPS, MAPS, Map, forward, maps, note_of
from hesse.derivation.show.latex import lines_latex
from hesse.derivation.show.mathml import Maths, PageWriter
from hesse.derivation.show.matrices import Forms, Shown
from hesse.derivation.show.names import latex_name, typewriter
from hesse.derivation.show.outline import (
    EACH,
    KINDS,
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
from hesse.derivation.show.readings import READINGS, TITLES, Reading, scalar, scalar_definition
from hesse.derivation.show.text_writer import TextWriter
from hesse.derivation.show.writer import Piece
from hesse.errors import HesseError, HesseImportError

_CLASSES = {"curvature from above": "above", "product-rule term": "product"}


def page(derivation: Record) -> str:
    """The whole derivation as one file that needs nothing else: open it in any browser, offline.

    Raises:
        HesseImportError: latex2mathml or jinja2 is not installed.
    """
    return _rendered("page.html.j2", derivation, "hesse")


def fragment(derivation: Record) -> str:
    """The same as a part of a page, for a notebook.

    Raises:
        HesseImportError: latex2mathml or jinja2 is not installed.
    """
    # A notebook can hold many: each has names of its own for its switch.
    return _rendered("fragment.html.j2", derivation, f"hesse-{secrets.token_hex(4)}")


def _rendered(template: str, derivation: Record, prefix: str) -> str:
    return _environment().get_template(template).render(_Content(derivation).model(), prefix=prefix)


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
    def __init__(self, derivation: Record) -> None:
        self.derivation, self.program = derivation, derivation.program
        self.write, self.shaped = PageWriter(self.program), PageWriter(self.program, shaped=True)
        self.maths = Maths((self.write, self.shaped))
        self.plain, self.forms = TextWriter(self.program), Forms(self.program)
        self.reading: Reading = "indices"
        words: set[str] = set()  # that stand in names

        def note(word: str) -> str:
            words.add(word)
            return ""

        for name in (*self.program.leaves, *self.program.by_name):
            latex_name(name, (), note)
        self.words = sorted(words, key=len, reverse=True)
        self.codes: dict[tuple[str, str], str] = {}

    def model(self) -> dict[str, Any]:
        d = self.derivation
        return {
            "source": d.source,
            "cost": self.plain.symbol(self.program.cost.name),
            "title": f"Second derivatives of {self.plain.symbol(self.program.cost.name)}",
            "readings": [self.read(reading) for reading in READINGS],
            "default": "indices",
            "maps": (MAPS, ABOUT_MAPS),
            "kinds": [
                (_CLASSES[kind], kind, (EACH[kind] or "").partition(": ")[2]) for kind in KINDS
            ],
            "notes": d.notes,
            "checked": checked(d),
        }

    def read(self, reading: Reading) -> dict[str, Any]:
        """Everything in one reading."""
        d, self.reading = self.derivation, reading
        bare = reading == "scalar"
        return {
            "name": reading,
            "title": TITLES[reading],
            "definitions": [self.definition(quantity) for quantity in forward(self.program)],
            "maps": [self.mapped(one) for one in maps(self.program)],
            "signals": [self.definition(quantity) for quantity in signals(d)],
            "shapes": (
                []
                if bare
                else [
                    (self.math(self.write.symbol(name)), shape_text(sizes))
                    for name, sizes in shapes(d)
                ]
            ),
            "runs": (
                []
                if bare
                else [
                    (
                        [self.math(self.write.index(letter)) for letter in run.letters],
                        str(run.size),
                        run.counts,
                    )
                    for run in runs(d)
                ]
            ),
            "grid": [
                [self.math(cell.replace("^T", r"^{\top}")) for cell in row] for row in blocks_of(d)
            ],
            "conventions": conventions(d, reading),
            "slopes": [
                {
                    "title": self.parts(of(self.first(slope.parameter))),
                    "groups": self.groups(slope.lines),
                }
                for slope in d.slopes.values()
            ],
            "stages": [
                {"title": stage.name, "groups": self.groups(stage.lines)} for stage in d.stages
            ],
            "blocks": [self.block(block, place) for place, block in enumerate(d)],
        }

    # ------------------------------------------------------------ formulas

    def math(self, latex: str, writer: PageWriter | None = None) -> str:
        return self.maths(latex, writer or self.write)

    def part(
        self,
        latex: str,
        sign: str = "",
        kind: str | None = None,
        label: str = "",
        writer: PageWriter | None = None,
    ) -> Part:
        used = writer or self.write
        mentioned = [
            used.arrays[int(k)] for k in dict.fromkeys(re.findall(r"\\class\{array(\d+)\}", latex))
        ]
        told = (
            " · ".join(f"{name} {shape_text(used.sizes(name))}" for name in mentioned)
            if self.reading != "scalar"
            else ""
        )
        return Part(self.math(latex, used), sign, _CLASSES.get(kind or "", ""), label, told)

    def parts(
        self,
        expression: Expression,
        labels: Sequence[str] = (),
        writer: PageWriter | None = None,
        always: bool = False,
    ) -> list[Part]:
        """The terms of a sum, each with its sign."""
        used = writer or self.write
        return self.pieces(used.pieces(expression), labels, used, always)

    def pieces(
        self, pieces: Sequence[Piece], labels: Sequence[str], used: PageWriter, always: bool = False
    ) -> list[Part]:
        parts = []
        for place, piece in enumerate(pieces):
            sign = "−" if piece.negative else "+" if place else ""
            label = labels[place] if place < len(labels) else ""
            parts.append(
                self.part(piece.body, sign, piece.kind if label or always else None, label, used)
            )
        return parts

    def definition(self, quantity: Quantity) -> dict[str, Any]:
        """A quantity: its name, what it is, and a note."""
        formula = self.defined(quantity, self.shaped if self.reading == "indices" else self.write)
        return {"formula": formula, "note": note_of(quantity)}

    def mapped(self, one: Map) -> dict[str, Any]:
        """A map without a formula: from what to what, and its derivatives."""
        given = ", ".join(map(self.write.symbol, one.arguments))
        arrow = self.part(rf"{given} \mapsto {self.write.symbol(one.value)}")
        return {
            "name": one.operation,
            "formula": [arrow],
            "slopes": [self.part(self.write.symbol(name)) for name in one.slopes],
        }

    def defined(self, quantity: Quantity, used: PageWriter) -> list[Part]:
        shown = self.forms.definition(quantity) if self.reading == "matrix" else None
        if shown is not None:
            return [self.part(f"{self.write.symbol(quantity.name)} ="), *self.shown([shown])]
        right, left = quantity.definition, quantity.entry
        if self.reading == "scalar":
            right, left = scalar_definition(right, self.program), Entry(quantity.name)
        if not isinstance(right, Expression):
            return [
                self.part(f"{used.symbol(quantity.name)} =", writer=used),
                self.part(used.definition(right), writer=used),
            ]
        return [self.part(f"{used.entry(left)} =", writer=used), *self.parts(right, writer=used)]

    # ------------------------------------------------------------ lines

    def groups(self, lines: Sequence[Line], block: Block | None = None) -> list[dict[str, Any]]:
        """The lines in order, those of one branch together: they unfold."""
        shown = views(lines, self.program, self.reading, block)
        grouped = []
        for branch, members in groupby(
            shown, key=lambda view: view.line.label.rstrip("0123456789")
        ):
            inside = list(members)
            grouped.append(
                {
                    "branch": branch,
                    "lines": [self.line(view) for view in inside],
                    "about": self.about(inside),
                }
            )
        return grouped

    def about(self, lines: Sequence[View]) -> list[Part]:
        """What a branch comes to: its first left side and its last right one."""
        first, last = lines[0], lines[-1]
        start, end = (
            self.forms.sides(view) if self.reading == "matrix" else None for view in (first, last)
        )
        as_matrices = start is not None and end is not None and isinstance(start[0], Expression)
        left = self.parts(start[0]) if as_matrices else self.parts(first.before)  # pyright: ignore[reportArgumentType,reportOptionalSubscript]
        if first.before != last.before or first.line is last.line:
            return left
        right = self.shown(end[1]) if as_matrices and end else self.parts(last.after)
        return [*left, self.part("="), *right]

    def line(self, view: View) -> dict[str, Any]:
        line = view.line
        return {
            "label": line.label,
            "rule": line.rule,
            "formula": self.equation(view),
            "defined": (
                self.defined(quantity, self.write)
                if (quantity := named_by(view, self.program))
                else []
            ),
            "reason": said(line.reason, self.program, self.reading),
            "deviation": number(line.deviation) if line.deviation == line.deviation else "",
        }

    def equation(self, view: View) -> list[Part]:
        """``before = after =: name``, in the reading."""
        shown = self.forms.sides(view) if self.reading == "matrix" else None
        brings = view.name is not None and named_by(view, self.program) is None
        if shown is not None:
            left, right = shown
            head = (
                self.parts(left)
                if isinstance(left, Expression)
                else self.shown([left])
                if left
                else []
            )
            tail = (
                [self.part(f"=: {self.write.symbol(view.name.name)}")]
                if brings and view.name
                else []
            )
            return [*head, self.part("="), *self.shown(right, view.marks), *tail]
        after = self.parts(view.after, labels_of(view.after, view.marks))
        tail = [self.part(f"=: {self.write.entry(view.name)}")] if brings and view.name else []
        if view.before == view.after:
            return [*after, *tail]
        return [*([] if view.continued else self.parts(view.before)), self.part("="), *after, *tail]

    def shown(self, parts: Sequence[Shown], marks: Sequence[str] = ()) -> list[Part]:
        pieces = [Piece(part.negative, self.matrix(part.latex), part.kind) for part in parts]
        return self.pieces(pieces, matrices.labels_of(parts, marks), self.write)

    def matrix(self, latex: str) -> str:
        """A matrix formula with its words kept out of the converter's way."""
        for word in self.words:
            latex = latex.replace(typewriter(word), self.write.word(word))
        return latex

    # ------------------------------------------------------------ blocks

    def block(self, block: Block, place: int) -> dict[str, Any]:
        d = self.derivation
        rows, columns = block.rows.name, block.columns.name
        kinds = {term.kind for term in block.expression.terms}
        matrix = (
            self.forms.by_kind(block.expression, block.rows, block.columns)
            if self.reading != "scalar"
            else []
        )
        return {
            "id": f"{self.reading}-block-{place}",
            "title": self.parts(
                of(Partial(Entry(self.program.cost.name), (Entry(rows), Entry(columns))))
            ),
            "name": name_of(d, block),
            "shape": "" if self.reading == "scalar" else shape_text(block_shape(block)),
            "result": self.result(block, matrix if self.reading == "matrix" else []),
            "each": EACH[kinds.pop()] if len(kinds) == 1 and None not in kinds else "",
            "matrix": self.shown(matrix) if self.reading == "indices" else [],
            "remarks": matrices.remarks_of(matrix),
            "transposed": rows != columns and (columns, rows) not in d.blocks,
            "groups": self.groups(block.lines, block),
            "deviation": number(block.deviation) if block.deviation == block.deviation else "",
            "latex": lines_latex(block, d, self.reading, self.forms),
            "python": self.code(block),
        }

    def result(self, block: Block, matrix: Sequence[Shown]) -> list[Part]:
        if matrix:
            bare = Partial(
                self.program.cost.entry, (Entry(block.rows.name), Entry(block.columns.name))
            )
            return [*self.parts(of(bare)), self.part("="), *self.shown(matrix)]
        after, entries = block.expression, (block.rows, block.columns)
        used = self.shaped if self.reading == "indices" else self.write
        if self.reading == "scalar":
            after, entries = (
                scalar(after, self.program),
                tuple(replace(entry, indices=()) for entry in entries),
            )
        head = [
            self.part(self.write.expression(of(Partial(self.program.cost.entry, entries)))),
            self.part("="),
        ]
        pulled = factored(after)
        parts = self.parts(pulled.inner, labels_of(pulled.inner), used, always=True)
        if pulled.is_plain:
            return [*head, *parts]
        outer = self.part(rf"{used.outside(pulled.outer)} \, \{{", writer=used)
        return [*head, outer, *parts, self.part(r"\}")]

    def first(self, parameter: Entry) -> Partial:
        return Partial(Entry(self.program.cost.name), (Entry(parameter.name),))

    def code(self, block: Block) -> str:
        """The block as a function; "" where it has none."""
        from hesse.derivation.code.python import python

        key = block.rows.name, block.columns.name
        if key not in self.codes:
            try:
                self.codes[key] = python(block, self.program)
            except HesseError:
                self.codes[key] = ""
        return self.codes[key]
