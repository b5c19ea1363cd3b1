"""How each part of a derivation looks on a page, in one reading."""

import re
from dataclasses import dataclass, replace
from typing import Any

from hesse.derivation.calculus.expression import Entry, Expression, Kind
from hesse.derivation.calculus.sizes import size_text
from hesse.derivation.show.document import (
    Definition,
    Equation,
    Formula,
    Header,
    Line,
    Map,
    Section,
    Sum,
    as_sum,
    sentence,
)
from hesse.derivation.show.entries import outside
from hesse.derivation.show.given import shape_text
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.latex import LatexPage
from hesse.derivation.show.matrix import Matrix
from hesse.derivation.show.readings import Reading
from hesse.derivation.show.sentences import Sentences

# A browser can break a line on either side of a formula, between vec( and a name too.
_MATH = "<math>(?:(?!</math>).)*</math>"
_BESIDE = re.compile(rf"[^\s<>]+(?:{_MATH}[^\s<>]*)+|{_MATH}(?:[^\s<>]+(?:{_MATH})?)+")

CLASSES: dict[Kind, str] = {"curvature from above": "above", "product-rule term": "product"}


@dataclass(frozen=True)
class Part:
    """A piece of a formula that stays on one line.

    Attributes:
        math: its MathML, with the sign before it.
        sign: the same where it stands outside the colour of its kind, or over no label.
        kind: the class of its kind.
        label: what stands under it.
    """

    math: str
    sign: str = ""
    kind: str = ""
    label: str = ""


Parts = tuple[Part, ...]


@dataclass(frozen=True)
class About:
    """What is said below a result: the names in it, its kind in words, and what signs in its matrix
    mean."""

    named: tuple[Parts, ...]
    kind: str
    remarks: tuple[str, ...]


class Look:
    """How a document looks in one reading.

    Args:
        reading: which.
        writer: of formulas.
        maths: makes MathML of what that has written.
    """

    def __init__(self, reading: Reading, writer: PageWriter, maths: Maths) -> None:
        self.reading, self.writer, self.maths = reading, writer, maths
        # Shapes stand under entries only: a matrix has none, and looks strange beside some.
        bare = reading.in_place or not reading.axes
        self.shaped = writer if bare else PageWriter(writer.program, shaped=True, like=writer)
        self.latex = LatexPage(writer.program, reading.axes)
        self.sentences = Sentences(writer.program, lambda name, at: maths(writer.name(name, at)))

    def told(self, text: str) -> str:
        """A sentence, in which names look as they do in formulas; what stands beside one without a
        space stays with it."""
        from markupsafe import Markup, escape

        told = "".join(map(str, self.sentences.pieces(text, escape)))
        return Markup(_BESIDE.sub(r'<span class="kept">\g<0></span>', told))

    # ------------------------------------------------------------ formulas

    def part(self, latex: str, sign: str = "", kind: Kind | None = None, label: str = "") -> Part:
        """A piece of a formula: its sign is part of it, but where colours and labels are not."""
        if kind is None and not label:
            return Part(self.maths(f"{sign} {latex}"))
        kind_class = CLASSES[kind] if kind else ""
        return Part(self.maths(latex), sign.replace("-", "−"), kind_class, self.told(label))

    def parts(
        self,
        summands: Sum,
        writer: PageWriter | None = None,
        lead: str = "",
        labels: bool = True,
        always: bool = False,
    ) -> Parts:
        """The terms of a sum, each with its sign.

        Args:
            summands: what to write.
            writer: in which notation.
            lead: a sign before the first.
            labels: whether anything stands under them.
            always: whether their kinds have a colour without a label too.
        """
        writer = writer or self.writer
        # Each term is a part of its own, so that the browser can break the line between them.
        parts = []
        for place, part in enumerate(summands):
            sign = "-" if part.negative else "+" if place else ""
            label = part.label if labels else ""
            kind = part.kind if label or always else None
            sign = sign if place else f"{lead} {sign}".strip()
            parts.append(self.part(writer.write(part.node), sign, kind, label))
        return tuple(parts)

    def formula(self, formula: Formula, writer: PageWriter | None = None, lead: str = "") -> Parts:
        """A formula without labels."""
        return self.parts(as_sum(formula), writer, lead, labels=False)

    # ------------------------------------------------------------ what is given

    def given(self, header: Header) -> dict[str, Any]:
        """What a derivation begins with."""
        return {
            "definitions": [self.quantity(definition) for definition in header.definitions],
            "maps": [self.mapped(box) for box in header.maps],
            "signals": [self.quantity(definition) for definition in header.signals],
            "shapes": [
                (self.maths(self.writer.symbol(name)), shape_text(sizes))
                for name, sizes in header.shapes
            ],
            "guesses": header.guesses,
            "runs": [
                (
                    [self.maths(self.writer.index(name)) for name in run.letters],
                    size_text(run.size),
                    self.told(run.counts),
                )
                for run in header.runs
            ],
            "grid": [
                [self.maths(cell.replace("^T", r"^{\top}")) for cell in row] for row in header.grid
            ],
            "remarks": [self.told(remark) for remark in (*header.conventions, *header.notes)],
        }

    def quantity(self, definition: Definition) -> tuple[Parts, str]:
        """A quantity: its name, what it is, and a note."""
        return self.defined(definition, self.shaped), self.told(definition.note)

    def defined(self, definition: Definition, writer: PageWriter) -> Parts:
        """``left = right``"""
        left, right = definition.left, definition.right
        # A matrix has no indices, and no shapes under it either.
        if definition.in_place and definition.matrix is not None:
            writer, left, right = self.writer, Entry(left.name), definition.matrix
        head = self.part(writer.entry(left))
        if isinstance(right, Expression | Matrix):
            return head, *self.formula(right, writer, "=")
        return head, self.part(writer.write(right), "=")

    def mapped(self, box: Map) -> dict[str, Any]:
        """A map without a formula: from what to what, and its derivatives."""
        given = ", ".join(self.writer.symbol(name) for name, _ in box.arguments)
        return {
            "name": box.operation,
            "formula": [self.part(rf"{given} \mapsto {self.writer.symbol(box.value[0])}")],
            "slopes": [self.part(self.writer.symbol(name)) for name in box.slopes],
        }

    # ------------------------------------------------------------ lines

    def about(self, first: Line, last: Line) -> Parts:
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
        end = self.parts(unmarked, lead="=") if matrices else self.formula(last.after, lead="=")
        return *start, *end

    def beside(self, line: Line) -> Parts:
        """What a name in a line is, where its formula does not say it."""
        return self.defined(line.defined, self.writer) if line.defined else ()

    def equation(self, equation: Equation) -> Parts:
        """``before = after =: name``"""
        tail = (self.part(f"=: {self.writer.entry(equation.name)}"),) if equation.name else ()
        if equation.trivial:
            return *self.parts(equation.right), *tail
        left = () if equation.left is None else self.formula(equation.left)
        return *left, *self.parts(equation.right, lead="="), *tail

    # ------------------------------------------------------------ blocks

    def entries(self, section: Section) -> Parts:
        """The result of a block in entries, with what its terms have in common in front; none where
        a matrix stands in their place."""
        result = section.result
        assert result is not None, "a block has a result"
        if result.in_place:
            return ()
        left = self.formula(result.before)
        if result.outer is None:
            return *left, *self.parts(result.inner, self.shaped, "=", always=True)
        outer = self.part(rf"{outside(result.outer, self.shaped)} \, \{{", "=")
        inner = self.parts(result.inner, self.shaped, always=True)
        return *left, outer, *inner, self.part(r"\}")

    def matrix(self, section: Section) -> Parts:
        """The same as a matrix; none where there is no such form."""
        result = section.result
        if result is None or not result.matrix:
            return ()
        return *self.formula(section.bare), *self.parts(result.matrix, lead="=")

    def beneath(self, section: Section) -> About:
        """What is said below the result of a block."""
        result = section.result
        assert result is not None, "a block has a result"
        return About(
            tuple(self.defined(definition, self.shaped) for definition in result.named),
            sentence(result.about_kind),
            tuple(map(self.told, result.remarks)),
        )
