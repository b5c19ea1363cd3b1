"""The records of a derivation: its lines, and what they lead to."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import nan

from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Partial
from hesse.derivation.calculus.program import Program


@dataclass(frozen=True)
class Line:
    """One line: ``before = after``, by a rule, for a reason.

    Attributes:
        label: its number within the block, such as ``2`` or ``A1``.
        rule: the name of the rule, such as ``product rule``.
        before: what the rule is applied to.
        after: what it gives.
        reason: half a sentence.
        name: the symbol that the result is given, such as ``S3_p``, or None.
        marks: for each term of ``after``, a short label of its branch (``branch A``), or "".
        deviation: the largest difference of the two sides at random points, relative to the larger;
            nan until certified.
        instances: where the line stands for one line for each of many layers, those it is certified
            by.
        likewise: lines that say the same of other quantities, which it is written for.
    """

    label: str
    rule: str
    before: Expression = field(repr=False)
    after: Expression = field(repr=False)
    reason: str = ""
    name: Entry | None = field(default=None, repr=False)
    marks: tuple[str, ...] = field(default=(), repr=False)
    deviation: float = nan
    instances: tuple[tuple[Expression, Expression], ...] = field(default=(), repr=False)
    likewise: tuple["Line", ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Slope:
    """A first derivative: ∂J/∂parameter, and the lines that lead to it."""

    parameter: Entry
    expression: Expression = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False)


@dataclass(frozen=True)
class Stage:
    """What one layer adds to a derivation of any depth: its forward quantities by name, and a line
    for each δ, S and D."""

    name: str
    quantities: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Block:
    """One block: ∂²J/∂rows ∂columns, and the lines that lead to it.

    Attributes:
        rows, columns: entries of the two parameters, with different indices.
        expression: the collected result; its free indices are among those of rows and columns.
        lines: from the first derivative to the result. The last has ``expression`` as its
            ``after``.
        deviation: of the whole block against automatic differentiation, relative; nan until
            certified.
    """

    rows: Entry
    columns: Entry
    expression: Expression = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False)
    deviation: float = nan


def numbered(lines: Iterable[Line]) -> int:
    """How many lines have a number, and not one within a branch."""
    return sum(line.label.isdigit() for line in lines)


@dataclass(frozen=True)
class Derived:
    """``left = expression``, an array with the axes of some entries: what is asked of a derivation
    beside its lines, such as the product H v.

    Attributes:
        name: in words.
        function: what code calls it.
        left: what it is.
        entries: whose axes it has, in order.
        expression: what it comes to; its free indices are among theirs.
        lines: that lead to it.
    """

    name: str
    function: str
    left: Partial | Entry
    entries: tuple[Entry, ...]
    expression: Expression
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Certificate:
    """What was checked.

    Attributes:
        lines: how many lines.
        deviation: the largest difference of the two sides of any line, relative to the larger side.
        blocks: how many blocks were held against automatic differentiation.
        block_deviation: the largest difference there.
    """

    lines: int
    deviation: float
    blocks: int
    block_deviation: float

    def __str__(self) -> str:
        return (
            f"{self.lines} lines, largest deviation {self.deviation:.0e}; {self.blocks} blocks"
            f" against automatic differentiation, {self.block_deviation:.0e}"
        )


@dataclass(frozen=True)
class Record:
    """All that was derived, as data: what `hesse.derivation.derivation.Derivation` is made of, and
    what every room below it reads.

    Attributes:
        source: what was asked about, as text.
        program: the cost as named quantities, and every δ, S and D that got a name.
        parameters: in the order in which the flat Hessian has them.
        slopes: the first derivatives.
        blocks: the second ones, by rows and columns, ``rows`` not after ``columns``.
        stages: for a derivation stage by stage, from the first layer up; else none.
        derived: what was asked for beside them, where that is shown alone.
        notes: sentences on conventions and on what is special here.
        certificate: what was checked; None where certification was turned off.
        functions: what stands for functions that have no formula of their own, in a captured model.
    """

    source: str
    program: Program
    parameters: tuple[str, ...]
    slopes: Mapping[str, Slope]
    blocks: Mapping[tuple[str, str], Block] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    derived: tuple[Derived, ...] = ()
    notes: tuple[str, ...] = ()
    certificate: Certificate | None = None
    functions: Mapping[str, Callable[[Tensor], Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks.values())
