"""What a derivation says around its formulas, before any notation: indices, conventions, and the
lines to show."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Index,
    Kind,
    Partial,
    Size,
    indices,
    own_indices,
    walk,
)
from hesse.derivation.calculus.program import ArrayCall, Program, Quantity, names_in
from hesse.derivation.lines.records import Block, Line, Record
from hesse.derivation.show.readings import Reading, scalar

KINDS: tuple[Kind, ...] = ("curvature from above", "product-rule term")
EACH: dict[str | None, str] = {
    "curvature from above": (
        "curvature from above: the slope δ itself moves, and with it all that stands above"
    ),
    "product-rule term": "product-rule term: the slope δ is held, what it multiplies moves",
}
SIGNALS = ("delta", "curvature", "transport")


@dataclass(frozen=True)
class View:
    """A line as one reading shows it: in expressions, or by rows and columns where it is a matrix.

    Attributes:
        before, after, name, marks: as in the line.
        rows, columns: what the rows and columns of the two sides are, for the matrix reading.
        continued: whether ``before`` is the ``after`` of the line above and need not be written
            again.
    """

    line: Line
    before: Expression
    after: Expression
    name: Entry | None
    marks: tuple[str, ...]
    rows: Entry | None
    columns: Entry | None
    continued: bool


def views(
    lines: Sequence[Line], program: Program, reading: Reading, block: Block | None = None
) -> list[View]:
    """The lines that a reading shows. With one weight per layer some say nothing: they are left
    out."""
    shown: list[View] = []
    for line in lines:
        before, after, name = line.before, line.after, line.name
        if reading == "scalar":
            before, after = scalar(before, program), scalar(after, program)
            name = Entry(name.name) if name else None
            if before == after and name is None and line.rule != "start":
                continue
        marks = line.marks if len(line.marks) == len(after.terms) else ()
        above = shown[-1] if shown else None
        continued = (
            above is not None and above.name is None and above.after == before and before != after
        )
        rows, columns = _sides(line.before, block, program)
        shown.append(View(line, before, after, name, marks, rows, columns, continued))
    return shown


def _sides(
    before: Expression, block: Block | None, program: Program
) -> tuple[Entry | None, Entry | None]:
    """What the rows and the columns of a line are: of ∂z/∂W, z and W; of ∂²J/∂A∂B, A and B."""
    if len(before.terms) == 1 and len(before.terms[0].factors) == 1:
        match before.terms[0].factors[0]:
            case Partial(_, (first, second)):
                return first, second
            case Partial(Entry() as inner, (by,)):
                if inner.name != program.cost.name:
                    return inner, by
                # A gradient has the shape of its parameter.
                return Entry(by.name, by.indices[:1]), (
                    Entry(by.name, by.indices[1:]) if len(by.indices) > 1 else None
                )
    if block is not None and set(indices(before)) <= {*block.rows.indices, *block.columns.indices}:
        return block.rows, block.columns
    return None, None


def said(reason: str, program: Program, reading: Reading) -> str:
    """A line's reason; with one weight per layer the names in it have no indices."""
    if reading != "scalar":
        return reason
    names = sorted({*program.leaves, *program.by_name}, key=len, reverse=True)
    known = "|".join(map(re.escape, names))
    return (
        re.sub(rf"(?<!\w)({known})(?:_\w\d*(?!\w)|\[[\w,]+\])", r"\1", reason) if known else reason
    )


# ---------------------------------------------------------------- quantities


def all_lines(derivation: Record) -> Iterator[Line]:
    """Every line: of the first derivatives, of the stages, of the blocks."""
    for part in (*derivation.slopes.values(), *derivation.stages, *derivation):
        yield from part.lines


def signals(derivation: Record) -> list[Quantity]:
    """The δ, S and D that what is shown mentions and no line of it defines; stages define theirs,
    for any two layers."""
    if derivation.stages:
        return []
    program, lines = derivation.program, list(all_lines(derivation))
    named = {line.name.name for line in lines if line.name is not None}
    shown = [*(line.after for line in lines), *(block.expression for block in derivation)]
    return [
        quantity
        for quantity in program.quantities
        if quantity.role in SIGNALS
        and quantity.name not in named
        and any(program.depends(expression, quantity.name) for expression in shown)
    ]


def named_by(view: View, program: Program) -> Quantity | None:
    """The quantity that a line brings in by its name alone: what it is has to be said beside it."""
    if view.name is None or view.name.name not in names_in(view.after):
        return None
    return program.by_name.get(view.name.name)


def shapes(derivation: Record) -> list[tuple[str, tuple[Size, ...]]]:
    """Each leaf with its sizes: the parameters first. Constants that stand for a condition are not
    arrays to the reader."""
    leaves = [leaf for leaf in derivation.program.leaves.values() if leaf.shown is None]
    order = {name: place for place, name in enumerate(derivation.parameters)}
    ranks = {"parameter": 0, "data": 1, "constant": 2}
    leaves.sort(key=lambda leaf: (order.get(leaf.name, len(order)), ranks[leaf.role]))
    return [(leaf.name, leaf.sizes) for leaf in leaves]


# ---------------------------------------------------------------- indices


@dataclass(frozen=True)
class Run:
    """The letters that run over one size, and what that size counts."""

    letters: tuple[str, ...]
    size: Size
    counts: str


def runs(derivation: Record) -> list[Run]:
    """All indices of a derivation, by what they run over."""
    program = derivation.program
    letters: dict[Size, dict[str, None]] = {}
    for index in _all_indices(derivation):
        letters.setdefault(index.size, {}).setdefault(index.name)
    axes: dict[Size, list[str]] = {}
    for name, sizes in shapes(derivation):
        for axis, size in enumerate(sizes):
            axes.setdefault(size, []).append(_axis(axis, len(sizes), name))
    for quantity in program.quantities:
        if len(quantity.indices) == 1 and quantity.role not in SIGNALS:
            axes.setdefault(quantity.indices[0].size, []).append(f"entries of {quantity.name}")
    return [Run(tuple(names), size, _listed(axes.get(size, []))) for size, names in letters.items()]


def _axis(axis: int, of: int, name: str) -> str:
    if of == 1:
        return f"entries of {name}"
    if of == 2:
        return f"{('rows', 'columns')[axis]} of {name}"
    return f"axis {axis + 1} of {name}"


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _all_indices(derivation: Record) -> Iterator[Index]:
    for quantity in derivation.program.quantities:
        yield from quantity.indices
        match quantity.definition:
            case Expression():
                yield from _within(quantity.definition)
            case ArrayCall(_, argument):
                yield from argument.indices
    for slope in derivation.slopes.values():
        yield from slope.parameter.indices
    for block in derivation:
        yield from (*block.rows.indices, *block.columns.indices)
    for line in all_lines(derivation):
        yield from (*_within(line.before), *_within(line.after))


def _within(value: Expression) -> Iterator[Index]:
    return (index for node in walk(value) for index in own_indices(node))


# ---------------------------------------------------------------- blocks


def letter(derivation: Record, rows: str, columns: str) -> str:
    """a, b or c for the blocks of one or two parameters; "" for more."""
    parameters = derivation.parameters
    if len(parameters) > 2 or rows not in parameters or columns not in parameters:
        return ""
    first, second = sorted((parameters.index(rows), parameters.index(columns)))
    return {(0, 0): "a", (0, 1): "b", (1, 1): "c"}[first, second]


def is_transposed(derivation: Record, rows: str, columns: str) -> bool:
    """Whether a block is one from below the diagonal."""
    order = derivation.parameters
    return rows in order and columns in order and order.index(rows) > order.index(columns)


def name_of(derivation: Record, block: Block) -> str:
    """``the mixed block b`` or ``the block (W1, W3)``, in words."""
    rows, columns = block.rows.name, block.columns.name
    if len(derivation.parameters) == 1:
        return "the Hessian"
    kind = "diagonal" if rows == columns else "mixed"
    known = letter(derivation, rows, columns)
    if not known:
        return f"a {kind} block"
    return f"the {kind} block {known}" + (
        ", transposed" if is_transposed(derivation, rows, columns) else ""
    )


def block_shape(block: Block) -> tuple[Size, ...]:
    """The sizes of a block: those of its rows, then those of its columns."""
    return tuple(index.size for index in (*block.rows.indices, *block.columns.indices))


def shape_text(sizes: Sequence[Size]) -> str:
    """``(h, d)``; a scalar is ``()``."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def labels_of(expression: Expression, marks: Sequence[str] = ()) -> list[str]:
    """What stands under each term: the mark of its branch, and its kind where both kinds are
    there."""
    kinds = {term.kind for term in expression.terms}
    both = len(kinds & set(KINDS)) == 2
    labels = []
    for k, term in enumerate(expression.terms):
        mark = marks[k] if k < len(marks) else ""
        kind = term.kind if both and term.kind else ""
        labels.append(", ".join(part for part in (mark, kind) if part))
    return labels


def blocks_of(derivation: Record) -> list[list[str]]:
    """The assembled Hessian of two parameters as a grid of the names of its blocks, ``^T`` for a
    transpose."""
    if len(derivation.parameters) == 1:
        return []
    if len(derivation.parameters) == 2:
        return [["a", "b"], ["b^T", "c"]]
    return []


def conventions(derivation: Record, reading: Reading) -> list[str]:
    """What the blocks are, how often each stands in H, and in which order vec counts."""
    cost, names = derivation.program.cost.name, derivation.parameters
    entries = {block.rows.name: block.rows for block in derivation} | {
        block.columns.name: block.columns for block in derivation
    }
    entries |= {name: slope.parameter for name, slope in derivation.slopes.items()}
    said = []
    if len(names) == 2:
        first, second = names
        meant = (
            f"a = ∂²{cost}/∂{first}∂{first}, b = ∂²{cost}/∂{first}∂{second} and c ="
            f" ∂²{cost}/∂{second}∂{second}"
        )
        if reading == "scalar":
            said.append(f"Here {meant}; b stands twice.")
        else:
            said.append(
                f"Here {meant} are blocks, not numbers: one entry for each pair of entries of the"
                " two parameters."
            )
            said.append(
                f"Block b stands twice, the second time transposed: ∂²{cost}/∂{second}∂{first}"
                " = bᵀ."
            )
    elif len(names) > 2:
        said.append(
            f"H has a block H[A, B] = ∂²{cost}/∂A∂B for each pair of parameters; H[B, A] is its"
            " transpose."
        )
    if reading != "scalar" and any(entry.indices for entry in entries.values()):
        said.append(f"Rows and columns of H: {', then '.join(f'vec({name})' for name in names)}.")
        counted = [
            f"{name}[{','.join(index.name for index in entry.indices)}] is number {position(entry)}"
            f" of vec({name})"
            for name, entry in entries.items()
            if len(entry.indices) > 1
        ]
        said.append(
            "Entries are counted row by row, from 0"
            + (f": {'; '.join(counted)}." if counted else ".")
        )
        if any(len(block_shape(block)) > 2 for block in derivation):
            said.append(
                "The matrix A ⊗ B has the entry A[o,p] B[i,j] in row (o, i) and column (p, j)."
            )
    if derivation.program.samples is not None:
        said.append(
            f"{cost} is one sample's cost: over many samples each block is the"
            f" {derivation.program.samples} of theirs."
        )
    return said


def position(entry: Entry) -> str:
    """Where an entry stands in vec, counted from nought and row by row: ``o·d + i``."""
    text = ""
    for index in entry.indices:
        size = str(index.size)
        text = (
            f"({text})·{size} + {index.name}"
            if "+" in text
            else f"{text}·{size} + {index.name}"
            if text
            else index.name
        )
    return text


# ---------------------------------------------------------------- what was checked


def checked(derivation: Record) -> str:
    """How many lines were compared, their largest deviation, and that of the whole blocks."""
    lines = list(all_lines(derivation))
    found = [line.deviation for line in lines if not math.isnan(line.deviation)]
    whole = [block.deviation for block in derivation if not math.isnan(block.deviation)]
    if not found and not whole:
        return "Not yet: certify() compares every line in float64."
    text = f"{len(found)} of {len(lines)}" if len(found) < len(lines) else f"{len(lines)}"
    text += (
        f" lines at random points in float64, largest deviation {number(max(found, default=0.0))}"
    )
    if whole:
        blocks = "the whole block" if len(whole) == 1 else f"the {len(whole)} whole blocks"
        text += f"; {blocks} against automatic differentiation, {number(max(whole))}"
    return f"{text}."


def number(deviation: float) -> str:
    """A deviation with one digit, as ``2e-16``.

    Example:
        >>> number(2.3e-16), number(0.0)
        ('2e-16', '0')
    """
    return "0" if deviation == 0 else f"{deviation:.0e}".replace("e-0", "e-")
