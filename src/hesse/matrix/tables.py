"""A Hessian in one line, and the table of its blocks, for a terminal and for a notebook."""

import html as escaping
import math
from typing import TYPE_CHECKING, NamedTuple

from hesse.errors import printable, readable_bytes

if TYPE_CHECKING:
    from hesse.matrix.block_hessian import BlockHessian

# A terminal's width and the rows it shows at a glance; the parameters that a grid of norms shows;
# the least room for a name, all in characters or lines.
WIDTH, ROWS, GRID, NAME = 80, 20, 16, 24
_MISSING = "·"
Cell = str | float


class _Table(NamedTuple):
    """Numbers are norms; the first three columns are place, parameter and shape."""

    title: str
    head: list[str]
    rows: list[list[Cell]]


def summary(hessian: "BlockHessian") -> str:
    """One line: size, dtype, device, which blocks, bytes."""
    count = len(hessian.layout.names)
    held = (
        "all blocks"
        if hessian.is_complete
        else (
            "block diagonal"
            if hessian.is_block_diagonal
            else f"{len(hessian.pairs)} of {count * (count + 1) // 2} blocks"
        )
    )
    dtype = str(hessian.dtype).removeprefix("torch.")
    return (
        f"BlockHessian: P = {hessian.layout.size}, {count} parameter{'s' * (count != 1)},"
        f" {dtype} on {hessian.device}, {held} ({readable_bytes(float(hessian.entries.nbytes))})"
    )


def text(hessian: "BlockHessian") -> str:
    """The norms of the blocks, at most 80 characters wide: all of them where they fit, else the
    largest of each row."""
    lines = _lines(_grid(hessian)) if len(hessian.layout.names) <= GRID else []
    if not lines or max(map(len, lines)) > WIDTH:
        lines = _lines(_folded(hessian))
    return "\n".join(lines)


def html(hessian: "BlockHessian") -> str:
    """The same for a notebook; each norm is shaded by its logarithm."""
    table = (_grid if len(hessian.layout.names) <= GRID else _folded)(hessian)
    largest = max((norm for norm in hessian.norms.values() if norm < math.inf), default=0.0)

    def cell(tag: str, value: Cell, column: int) -> str:
        # The shade falls by an eighth for each factor of ten: four decades below the largest are
        # white.
        style = f"text-align:{'left' if column in (1, 2) else 'right'}"
        if isinstance(value, float) and 0 < value < math.inf:
            style += (
                f";background:rgba(0,114,178,{max(0.0, 0.5 + math.log10(value / largest) / 8):.2f})"
            )
        return f'<{tag} style="{style}">{escaping.escape(_shown(value))}</{tag}>'

    def row(tag: str, cells: list[Cell] | list[str]) -> str:
        return f"<tr>{''.join(cell(tag, value, column) for column, value in enumerate(cells))}</tr>"

    return (
        f"<p>{escaping.escape(hessian.summary)}<br>{escaping.escape(hessian.certified)}<br>{escaping.escape(table.title)}</p>"
        f"<table><thead>{row('th', table.head)}</thead>"
        f"<tbody>{''.join(row('td', cells) for cells in table.rows)}</tbody></table>"
    )


def _grid(hessian: "BlockHessian") -> _Table:
    """One column per parameter: the upper triangle of the norms."""
    names, norms = hessian.layout.names, hessian.norms
    columns = range(len(names))

    def entry(i: int, j: int) -> Cell:
        return "" if j < i else norms.get((names[i], names[j]), _MISSING)

    # A dot stands for a block that was not computed, and only then needs a word.
    title = (
        "Frobenius norm of each block"
        + ("" if hessian.is_complete else f" ({_MISSING}: not computed)")
        + ":"
    )
    rows = [[*_labels(hessian, i), *(entry(i, j) for j in columns)] for i in columns]
    return _Table(title, ["", "parameter", "shape", *map(str, columns)], rows)


def _folded(hessian: "BlockHessian") -> _Table:
    """One row per parameter: its own block and its largest mixed one."""
    names, norms = hessian.layout.names, hessian.norms
    place = {name: i for i, name in enumerate(names)}
    # Each mixed block belongs to both of its parameters.
    mixed: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
    for (a, b), norm in norms.items():
        if a != b:
            mixed[a].append((norm, str(place[b])))
            mixed[b].append((norm, str(place[a])))

    def row(i: int) -> list[Cell]:
        diagonal = norms.get((names[i], names[i]), _MISSING)
        return [*_labels(hessian, i), diagonal, *max(mixed[names[i]], default=(_MISSING, ""))]

    count = len(names)
    # The first and the last rows of many.
    first, last = (count, count) if count <= ROWS else (ROWS // 2, count - ROWS // 2)
    rows = [row(i) for i in range(first)]
    if last > first:
        rows += [
            ["", f"... {last - first} more ...", "", "", "", ""],
            *(row(i) for i in range(last, count)),
        ]
    title = "Frobenius norm of each parameter's own block, and of its largest mixed one:"
    return _Table(title, ["", "parameter", "shape", "own", "mixed", "with"], rows)


def _lines(table: _Table) -> list[str]:
    """Columns aligned, names and shapes left; the names get the room that is left."""
    cells = [table.head, *([_shown(value) for value in row] for row in table.rows)]
    # All columns take what they need but the names, which are cut where the line would be too long.
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.head))]
    room = WIDTH - 2 * (len(widths) - 1) - sum(widths) + widths[1]
    widths[1] = min(widths[1], max(room, NAME))

    def line(row: list[str]) -> str:
        row = [row[0], shortened(row[1], widths[1]), *row[2:]]
        aligned = (
            c.ljust(w) if k in (1, 2) else c.rjust(w)
            for k, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    return [table.title, *map(line, cells)]


def _labels(hessian: "BlockHessian", i: int) -> list[Cell]:
    return [str(i), printable(hessian.layout.names[i]), str(hessian.layout.shapes[i])]


def _shown(value: Cell) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def printable_lines(text: str) -> str:
    """A text of several lines, its other control characters spelt out."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(name: str, length: int) -> str:
    """A name with its beginning left out where it is too long: its end says more."""
    return name if len(name) <= length else f"…{name[len(name) - length + 1 :]}"
