"""What a derivation says, as a tree: made once for a reading, and written by each format in its own
way. Its formulas are expressions and matrices; nothing here knows how they look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

from hesse.derivation.calculus.expression import Entry, Expression, Kind, Partial, Size, Term, of
from hesse.derivation.calculus.program import ArrayCall, BlackBox
from hesse.derivation.lines.records import Block, Derived
from hesse.derivation.show.matrix.nodes import Matrix

Sizes = tuple[Size, ...]
Formula = Expression | Matrix

KINDS: tuple[Kind, ...] = ("curvature from above", "product-rule term")
EACH: dict[Kind, str] = {
    "curvature from above": (
        "curvature from above: the slope δ itself moves, and with it all that stands above"
    ),
    "product-rule term": "product-rule term: the slope δ is held, what it multiplies moves",
}
MAPS = "Maps without a formula"
ABOUT_MAPS = (
    "They and their derivatives are symbols here, which automatic differentiation evaluates."
)


# ---------------------------------------------------------------- formulas


@dataclass(frozen=True)
class Summand:
    """One summand of a formula, its sign apart.

    Attributes:
        node: what it is without its sign.
        kind: which of the two kinds of second derivatives, where that is known.
        mark: a short label of its branch, or "".
        named: whether its kind stands under it.
    """

    node: Term | Expression | Matrix
    negative: bool = False
    kind: Kind | None = None
    mark: str = ""
    named: bool = False

    @property
    def label(self) -> str:
        """What stands under it."""
        return ", ".join(filter(None, (self.mark, self.kind if self.named else "")))


Sum = tuple[Summand, ...]


def summands(expression: Expression, marks: tuple[str, ...] = ()) -> Sum:
    """The terms of a sum, with their kinds under them where both are there; a sum of nothing is
    0."""
    if expression.is_zero:
        return (Summand(expression),)
    both = {term.kind for term in expression.terms}.issuperset(KINDS)
    # There may be no marks, or fewer than terms.
    marks += ("",) * len(expression.terms)
    return tuple(
        Summand(term, term.coefficient < 0, term.kind, mark, both)
        for term, mark in zip(expression.terms, marks, strict=False)
    )


def as_sum(formula: "Formula") -> Sum:
    """A formula as the summands that it has; a matrix is one."""
    return summands(formula) if isinstance(formula, Expression) else (Summand(formula),)


def sentence(half: str) -> str:
    """Half a sentence as a whole one."""
    return f"{half[:1].upper()}{half[1:]}." if half else ""


def one_kind(parts: Sequence[Term | Summand]) -> Kind | None:
    """The kind of all parts, where they have one."""
    first = parts[0].kind if parts else None
    return first if all(part.kind == first for part in parts) else None


@dataclass(frozen=True)
class Equation:
    """``left = right =: name``

    Attributes:
        left: None where it is the right side of the line above.
        right: as summands.
        name: what the right side is called from here on, or None.
        trivial: whether the right side says all that the left one does.
    """

    left: Formula | None
    right: Sum
    name: Entry | None = None
    trivial: bool = False


@dataclass(frozen=True)
class Definition:
    """``left = right``, a quantity of the program.

    Attributes:
        left: with indices, unless the right side is a function of a whole array.
        right: in entries.
        matrix: the same as a matrix, where there is such a form and it says more.
        in_place: whether that stands in the place of the entries, or beside them.
        note: half a sentence, or "".
    """

    left: Entry
    right: Expression | ArrayCall | BlackBox
    matrix: Matrix | None = None
    in_place: bool = False
    note: str = ""


# ---------------------------------------------------------------- what is given


@dataclass(frozen=True)
class Run:
    """The letters that run over one size, and what that size counts."""

    letters: tuple[str, ...]
    size: Size
    counts: str


@dataclass(frozen=True)
class Map:
    """A map without a formula.

    Attributes:
        operation: what it is called.
        arguments: what goes in, with its shape where that is shown.
        value: what comes out.
        slopes: the names of its first and second derivatives.
    """

    operation: str
    arguments: tuple[tuple[str, Sizes | None], ...]
    value: tuple[str, Sizes | None]
    slopes: tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """What a derivation begins with.

    Attributes:
        source: what was asked about.
        about: half-sentences on the reading, the later ones for those who have the room.
        shapes: each leaf with its sizes.
        guesses: sentences on what is given of arrays, and on shapes that were not declared and
            could be others.
        definitions: the quantities of the cost.
        maps: those that have no formula.
        signals: the δ, S and D that no line defines.
        runs: the indices.
        grid: the names of the blocks in H, ``^T`` for a transpose; for two parameters.
        conventions: sentences on the blocks and on vec.
        notes: sentences on what is special.
    """

    source: str
    about: tuple[str, ...]
    shapes: tuple[tuple[str, Sizes], ...]
    guesses: tuple[str, ...]
    definitions: tuple[Definition, ...]
    maps: tuple[Map, ...]
    signals: tuple[Definition, ...]
    runs: tuple[Run, ...]
    grid: tuple[tuple[str, ...], ...]
    conventions: tuple[str, ...]
    notes: tuple[str, ...]


# ---------------------------------------------------------------- lines and results


@dataclass(frozen=True)
class Line:
    """One line of a derivation.

    Attributes:
        label, rule, reason, deviation: as in the record.
        before, after: its two sides in entries.
        equation: the same as the reading writes it.
        defined: the quantity that its name alone brings in, which has to be said beside it.
    """

    label: str
    rule: str
    before: Expression
    after: Expression
    equation: Equation
    defined: Definition | None = None
    reason: str = ""
    deviation: float = nan

    @property
    def branch(self) -> str:
        """The letter of the branch that it is part of, or ""."""
        return self.label.rstrip("0123456789")


@dataclass(frozen=True)
class Result:
    """``before = outer { inner }``, and the same as a matrix.

    Attributes:
        outer: what all terms had in common; None where that is nothing.
        matrix: one matrix for each kind; none where there is no such form.
        in_place: whether that stands in the place of the entries, or below them.
        rows, columns: what the matrix is counted by.
        remarks: what signs in it mean.
        named: what the S and D in it are.
    """

    before: Expression
    outer: Term | None
    inner: Sum
    matrix: Sum
    in_place: bool
    rows: Entry
    columns: Entry | None
    remarks: tuple[str, ...]
    named: tuple[Definition, ...] = ()

    @property
    def counted(self) -> tuple[str, ...]:
        """The sides that have entries to count, with their indices; none of a number."""
        sides = {"rows": self.rows, "columns": self.columns}
        return tuple(
            f"{side} ({','.join(index.name for index in entry.indices)})"
            for side, entry in sides.items()
            if entry and entry.indices
        )

    @property
    def about_matrix(self) -> str:
        """What is said before the matrix, where it stands below the entries."""
        if not self.counted:
            return "In matrices"
        return "As a matrix, rows and columns counted row by row"

    @property
    def about_kind(self) -> str:
        """Half a sentence on the kind of all terms; "" where they have several, or none."""
        kind = one_kind(self.inner)
        if kind is None:
            return ""
        return f"{'all of it' if len(self.inner) == 1 else 'every term'} is {EACH[kind]}"


@dataclass(frozen=True)
class Section:
    """A part of a derivation: a first derivative, a stage, or a block.

    Attributes:
        name: in words.
        lines: in order.
        derivative: what is derived, with the indices that the reading gives a title; the name of a
            product with it; None for a stage.
        shape: of a block, where that is shown.
        result: None for a stage, and for a first derivative whose last line says it.
        transposed: whether the block with the two parameters exchanged is only its transpose.
        deviation: of a whole block.
        part: the record, for those who write code of it.
    """

    name: str
    lines: tuple[Line, ...]
    derivative: Partial | Entry | None = None
    shape: Sizes | None = None
    result: Result | None = None
    transposed: bool = False
    deviation: float = nan
    part: Block | Derived | None = None

    @property
    def bare(self) -> Expression:
        """What is derived, without indices."""
        assert self.derivative is not None, "a stage derives nothing by itself"
        return without_indices(self.derivative)


def without_indices(derivative: Partial | Entry) -> Expression:
    """∂z/∂W for ∂z_p/∂W[o,i], Hv for Hv_i."""
    if isinstance(derivative, Entry):
        return of(Entry(derivative.name))
    assert isinstance(derivative.of, Entry), "only an entry can be written without its indices"
    by = tuple(Entry(entry.name) for entry in derivative.by)
    return of(replace(derivative, of=Entry(derivative.of.name), by=by))


@dataclass(frozen=True)
class Document:
    """A whole derivation in one reading.

    Attributes:
        cost: its name.
        header: what is given.
        slopes, stages, blocks: its parts, in this order.
        checked: a sentence on what was compared.
    """

    cost: str
    header: Header
    slopes: tuple[Section, ...]
    stages: tuple[Section, ...]
    blocks: tuple[Section, ...]
    checked: str

    @property
    def sections(self) -> Iterator[Section]:
        """All parts."""
        yield from (*self.slopes, *self.stages, *self.blocks)
