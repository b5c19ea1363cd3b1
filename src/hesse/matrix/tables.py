"""What a Hessian shows of itself: a line, and the table of its blocks' norms."""

import math
from typing import TYPE_CHECKING

from hesse.display import Display, Table, facts
from hesse.display.text import fits
from hesse.errors import printable, readable_bytes

if TYPE_CHECKING:
    from hesse.matrix.block_hessian import BlockHessian

# The parameters that a grid of norms shows: more rows are no screen with what else is said.
_GRID = 13
_MISSING = "·"
Cell = str | float


def display(hessian: "BlockHessian") -> Display:
    """Its sizes, the norms of its blocks, what it was held against, and what to ask of it."""
    small = len(hessian.layout.names) <= _GRID and hessian.pairs
    table = _grid(hessian) if small else _folded(hessian)
    table = table if fits(table) else _folded(hessian)
    blocks = [f'H["{a}", "{b}"]' for a, b in hessian.pairs[:2][-1:]]
    whole = ["H.dense()", "H.eigh()", "H.inertia()"] if hessian.is_complete else []
    return Display(
        "BlockHessian",
        summary(hessian),
        facts(certificate=str(hessian.certificate or "none: not certified")),
        table,
        (*blocks, *whole, "H.norms", "H.plot()", 'H.save("h.safetensors")'),
    )


def summary(hessian: "BlockHessian") -> str:
    """Size, dtype, device, which blocks, bytes."""
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
        f"P = {hessian.layout.size}, {count} parameter{'s' * (count != 1)},"
        f" {dtype} on {hessian.device}, {held} ({readable_bytes(float(hessian.entries.nbytes))})"
    )


def _grid(hessian: "BlockHessian") -> Table:
    """One column per parameter: the upper triangle of the norms."""
    names, norms = hessian.layout.names, hessian.norms
    columns = range(len(names))

    def entry(i: int, j: int) -> Cell:
        return "" if j < i else norms.get((names[i], names[j]), _MISSING)

    # A dot stands for a block that was not computed, and only then needs a word.
    missing = "" if hessian.is_complete else f" ({_MISSING}: not computed)"
    title = f"Frobenius norm of each block{missing}:"
    rows = [[*_labels(hessian, i), *(entry(i, j) for j in columns)] for i in columns]
    return _table(title, ("", "parameter", "shape", *map(str, columns)), rows)


def _folded(hessian: "BlockHessian") -> Table:
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

    title = "Frobenius norm of each parameter's own block, and of its largest mixed one:"
    head = ("", "parameter", "shape", "own", "mixed", "with")
    return _table(title, head, [row(i) for i in range(len(names))])


def _table(title: str, head: tuple[str, ...], rows: list[list[Cell]]) -> Table:
    """Numbers are norms; each is shaded by its logarithm: four decades below the largest are
    white."""
    norms = {
        (i, j): cell
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
        if isinstance(cell, float) and 0 < cell < math.inf
    }
    largest = max(norms.values(), default=1.0)
    shades = {place: 1 + math.log10(norm / largest) / 4 for place, norm in norms.items()}
    shown = tuple(tuple(c if isinstance(c, str) else f"{c:.3g}" for c in row) for row in rows)
    return Table(head, shown, (1, 2), title, shades=shades)


def _labels(hessian: "BlockHessian", i: int) -> list[Cell]:
    return [str(i), hessian.layout.names[i], str(hessian.layout.shapes[i])]


def printable_lines(text: str) -> str:
    """A text of several lines, its other control characters spelt out."""
    return "\n".join(map(printable, text.split("\n")))
