"""What the template of a page is given: the parts of a derivation, each as all readings have it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from hesse.derivation.calculus.expression import Kind
from hesse.derivation.lines.records import Block, Record
from hesse.derivation.show.document import ABOUT_MAPS, EACH, KINDS, MAPS, Line, Section
from hesse.derivation.show.given import all_lines, shape_text
from hesse.derivation.show.html.choices import Choice, choices
from hesse.derivation.show.html.folding import Again, Folding, Readings
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.html.parts import CLASSES, Look
from hesse.derivation.show.latex import display
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.outline import Outline, number
from hesse.derivation.show.readings import READINGS
from hesse.derivation.show.text_writer import TextWriter
from hesse.errors import HesseError


class Content:
    """All readings of a record.

    Args:
        record: what is shown.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.program, self.forms = record, record.program, Forms(record.program)
        outlines = [Outline(record, name) for name in READINGS if self._says_more(name)]
        self.documents = {outline.reading.name: outline.document() for outline in outlines}
        self.writer = PageWriter(self.program)
        maths = Maths(self.writer)
        self.looks = {
            outline.reading.name: Look(outline.reading, self.writer, maths) for outline in outlines
        }

    def model(self) -> dict[str, Any]:
        """The whole page."""
        text, document = TextWriter(self.program), next(iter(self.documents.values()))
        folding = Folding()
        return {
            "source": self.record.source,
            "title": f"{self._subject()} of {text.symbol(self.program.cost.name)}",
            "readings": [look.reading for look in self.looks.values()],
            # Which reading a page opens with.
            "default": "indices",
            "given": self.given(),
            "slopes": [self.section(sections) for sections in self.parts("slopes")],
            "stages": [self.section(sections) for sections in self.parts("stages")],
            "blocks": [self.block(sections, folding) for sections in self.parts("blocks")],
            "maps": (MAPS, ABOUT_MAPS),
            "kinds": self._kinds(),
            "checked": document.checked,
            "codes": [
                (text.write(block.bare), code)
                for block in document.blocks
                if (code := _code(block, self.record))
            ],
            # By now every array has its number.
            "arrays": [
                f"{name} {shape_text(self.writer.sizes(name))}" for name in self.writer.arrays
            ],
        }

    def _says_more(self, reading: str) -> bool:
        """Whether a reading means something here: one weight per layer where there are layers,
        matrices where some block has a matrix form."""
        if reading == "scalar":
            return any(quantity.role == "preactivation" for quantity in self.program.quantities)
        if reading == "matrix":
            blocks = ((block.expression, (block.rows, block.columns)) for block in self.record)
            beside = ((part.expression, part.entries) for part in self.record.derived)
            # An array with the axes of three entries is no matrix.
            return any(
                self.forms.by_kind(expression, rows, columns[0] if columns else None)
                for expression, (rows, *columns) in (*blocks, *beside)
                if len(columns) < 2
            )
        return True

    def _subject(self) -> str:
        """What the page is about."""
        if self.record.derived:
            names = " and ".join(derived.name for derived in self.record.derived)
            return names[:1].upper() + names[1:]
        return "Second derivatives" if self.record.blocks else "First derivatives"

    def _kinds(self) -> list[tuple[str, Kind, str]]:
        """The kinds of term that occur."""
        terms = (term for line in all_lines(self.record) for term in line.after.terms)
        found = {term.kind for term in terms}
        return [
            (CLASSES[kind], kind, EACH[kind].partition(": ")[2]) for kind in KINDS if kind in found
        ]

    # ------------------------------------------------------------ parts, as all readings have them

    def given(self) -> list[Choice]:
        """What is given, in each reading."""
        several = len(self.looks) > 1
        return [
            Choice((name,) if several else (), look.given(self.documents[name].header))
            for name, look in self.looks.items()
        ]

    def parts(self, of: str) -> list[dict[str, Section]]:
        """Sections of the documents, each by its reading."""
        sections = [getattr(document, of) for document in self.documents.values()]
        return [dict(zip(self.documents, one, strict=True)) for one in zip(*sections, strict=True)]

    def choices(self, said: dict[str, Any]) -> tuple[Choice, ...]:
        """What readings say, where there are as many as the page has."""
        return choices(said, len(self.looks))

    def section(
        self, sections: dict[str, Section], folding: Folding | None = None
    ) -> dict[str, Any]:
        """A section: its title, and its lines in groups."""
        name, section = next(iter(sections.items()))
        title = self.looks[name].formula(section.bare) if section.derivative else ()
        if folding is not None:
            folding.begin(title, self.looks[name].latex.writer.write(section.bare))
        return {"title": title, "name": section.name, "groups": self.groups(sections, folding)}

    def block(self, sections: dict[str, Section], folding: Folding) -> dict[str, Any]:
        """A block: its result and its code besides."""
        section = next(iter(sections.values()))
        looks = {name: self.looks[name] for name in sections}
        made = self.section(sections, folding)
        return {
            **made,
            "latex": self.latex(sections, made["groups"]),
            "shapes": self.choices(
                {
                    name: shape_text(one.shape)
                    for name, one in sections.items()
                    if one.shape is not None
                }
            ),
            "entries": self.choices(
                {name: look.entries(sections[name]) for name, look in looks.items()}
            ),
            "matrices": self.choices(
                {name: look.matrix(sections[name]) for name, look in looks.items()}
            ),
            # Who sees entries has to be told that a matrix is the same.
            "both": self.choices(
                {
                    name: result.about_matrix
                    for name, look in looks.items()
                    if (result := sections[name].result)
                    and look.entries(sections[name])
                    and look.matrix(sections[name])
                }
            ),
            "beneath": self.choices(
                {name: look.beneath(sections[name]) for name, look in looks.items()}
            ),
            "transposed": section.transposed,
            "deviation": number(section.deviation),
        }

    def groups(self, sections: dict[str, Section], folding: Folding | None) -> list[dict[str, Any]]:
        """The lines in order, those of one branch together: they unfold."""
        lines: dict[str, dict[str, Line]] = {}
        # A reading may leave lines out: the order is that of the longest.
        for name, section in sorted(sections.items(), key=lambda one: -len(one[1].lines)):
            for line in section.lines:
                lines.setdefault(line.label, {})[name] = line
        groups = []
        for branch, members in groupby(
            lines.values(), lambda line: next(iter(line.values())).branch
        ):
            members = list(members)
            shown = members if folding is None else folding.folded(members)
            groups.append(
                {
                    "branch": branch,
                    "about": self.choices(self._about(members)) if branch else (),
                    "lines": [one if isinstance(one, Again) else self.line(one) for one in shown],
                }
            )
        return groups

    def _about(self, members: Sequence[dict[str, Line]]) -> dict[str, Any]:
        """What a branch comes to in each reading, and in how many lines."""
        about = {}
        for name, look in self.looks.items():
            lines = [line[name] for line in members if name in line]
            if lines:
                about[name] = (look.about(lines[0], lines[-1]), len(lines))
        return about

    def line(self, line: Readings) -> dict[str, Any]:
        """A line."""
        one = next(iter(line.values()))

        def said(what: Callable[[Look, Line], Any]) -> tuple[Choice, ...]:
            return self.choices({name: what(self.looks[name], line[name]) for name in line})

        return {
            "label": one.label,
            "rule": one.rule,
            "readings": said(lambda look, line: None)[0].shown,
            "formulas": said(lambda look, line: look.equation(line.equation)),
            "defined": said(lambda look, line: look.beside(line)),
            "reasons": said(lambda look, line: look.told(line.reason)),
            "deviation": number(one.deviation),
            "latex": (
                *said(lambda look, line: look.latex.paragraph(line)),
                *said(lambda look, line: display(look.latex.equation(line))),
            ),
        }

    def latex(
        self, sections: dict[str, Section], groups: Sequence[dict[str, Any]]
    ) -> Iterator[Choice]:
        """A block in LaTeX, to stand in a document that loads amsmath and xcolor: what the page
        says of it."""
        pages = {name: self.looks[name].latex for name in sections}
        yield from self.choices({name: page.title(sections[name]) for name, page in pages.items()})
        for line in (line for group in groups for line in group["lines"]):
            if isinstance(line, Again):
                yield Choice(
                    (),
                    rf"\paragraph{{{'--'.join(line.here)}}}"
                    f" as lines {' to '.join(line.there)} of ${line.latex}$.",
                )
            else:
                yield from line["latex"]
        yield from self.choices(
            {name: "\n".join(page.ending(sections[name])) for name, page in pages.items()}
        )


def _code(section: Section, record: Record) -> str:
    """A block as a function; "" where it has none."""
    from hesse.derivation.code.python import python

    part = section.part
    assert part is not None, "what has no result is no function"
    try:
        if isinstance(part, Block):
            return python(part, record.program)
        free = tuple(index for entry in part.entries for index in entry.indices)
        return python(part.expression, record.program, name=part.function, free=free)
    except HesseError:
        return ""
