"""What a derivation and its formulas show of themselves on a screen: what each comes to, in a line
where that is enough, and no lines of the way there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.records import Block, Derived, Record
from hesse.derivation.show.document import Definition, Result, Sum
from hesse.derivation.show.entries import outside
from hesse.derivation.show.given import declared, guesses
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.outline import Outline
from hesse.derivation.show.text import TextPage
from hesse.display import Fact, counted

# Blocks that are shown; and so few that there is room for more about each.
_MOST, _FEW = 16, 6


def results(record: Record) -> tuple[Fact, ...]:
    """What is given of the arrays, what each block comes to, or of a vector each first derivative,
    and what the names in it are."""
    outline = Outline(record, "indices")
    record_of = record.slopes if record.program.cost.indices else record.blocks
    parts: Iterator[Result] = (
        (outline.jacobian(slope) for slope in record.slopes.values())
        if record.program.cost.indices
        else (outline.result(block.expression, block.rows, block.columns) for block in record)
    )
    # What no screen has room for is not written.
    shown, left = list(islice(parts, _MOST)), len(record_of) - _MOST
    given = (*declared(record.program), *guesses(record.program))
    return (
        *([Fact("given", "\n".join(given))] if given else []),
        *_written(shown, record.program),
        *([Fact("...", f"and {counted(left, 'block')} more")] if left > 0 else []),
    )


def result(part: Block | Derived, record: Record) -> tuple[Fact, ...]:
    """What one block, or what was asked for beside blocks, comes to."""
    found = Outline(record, "indices").section(part).result
    return _written([] if found is None else [found], record.program)


def _written(found: list[Result], program: Program) -> tuple[Fact, ...]:
    """Each result; where they are few as a matrix too, and the names in them."""
    writing = _Writing(TextPage(program), PageWriter(program))
    if len(found) > _FEW:
        return tuple(map(writing.entries, found))
    named = {each.left.name: each for one in found for each in one.named}
    results = [fact for one in found for fact in (writing.entries(one), writing.matrix(one))]
    return (*filter(None, results), *map(writing.definition, named.values()))


@dataclass(frozen=True)
class _Writing:
    """Writes results as text, and as MathML where that can be made."""

    page: TextPage
    latex: PageWriter

    def entries(self, result: Result) -> Fact:
        """A derivative, by its indices."""
        head = "" if result.outer is None else outside(result.outer, self.page.writer)

        def latex() -> str:
            head = "" if result.outer is None else outside(result.outer, self.latex)
            inner = self._latex(result.inner)
            return rf"{head} \, \{{ {inner} \}}" if head else inner

        text = self._text(result.inner)
        written = f"{head} {{ {text} }}" if head else text
        return Fact(self.page.writer.write(result.before), written, self._markup(latex))

    def matrix(self, result: Result) -> Fact | None:
        """The same as a matrix, where it has that form."""
        if not result.matrix:
            return None
        latex = self._markup(lambda: self._latex(result.matrix))
        return Fact("  as a matrix", self._text(result.matrix), latex)

    def definition(self, definition: Definition) -> Fact:
        """What a name stands for."""
        left, right = self.page.definition(definition)
        return Fact(left, right, self._markup(lambda: self.latex.write(definition.right)))

    def _text(self, parts: Sum) -> str:
        signed = (f"{part.sign} {part.text}" for part in self.page.parts(parts))
        return " ".join(signed).removeprefix("+ ")

    def _latex(self, parts: Sum) -> str:
        signed = (f"{'-' if p.negative else '+'} {self.latex.write(p.node)}" for p in parts)
        return " ".join(signed).removeprefix("+ ")

    def _markup(self, latex: Callable[[], str]) -> Callable[[], str | None]:
        def markup() -> str | None:
            try:
                return str(Maths(self.latex)(latex()))
            except ImportError:  # without the extra html a notebook shows text
                return None

        return markup
