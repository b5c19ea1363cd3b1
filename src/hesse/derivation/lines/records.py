"""The records of a derivation: its lines, and what they lead to."""

from dataclasses import dataclass
from math import nan

from hesse.derivation.calculus.expression import Entry, Expression


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
    """

    label: str
    rule: str
    before: Expression
    after: Expression
    reason: str = ""
    name: Entry | None = None
    marks: tuple[str, ...] = ()
    deviation: float = nan
    instances: tuple[tuple[Expression, Expression], ...] = ()


@dataclass(frozen=True)
class Slope:
    """A first derivative: ∂J/∂parameter, and the lines that lead to it."""

    parameter: Entry
    expression: Expression
    lines: tuple[Line, ...]


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
    expression: Expression
    lines: tuple[Line, ...]
    deviation: float = nan


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
