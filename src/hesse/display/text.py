"""A display as text: at most a screen of lines, aligned."""

import textwrap
from collections.abc import Sequence

from hesse.display.display import Display, Fact, Table
from hesse.errors import printable

# A screen of a terminal, in characters and lines; the lines that a title or what comes next may
# take, and a table at the least.
WIDTH, LINES = 100, 24
_SHORT, _LEAST = 2, 6
# Characters between columns, and the least of a name that stays of it.
_GAP, _NAME = 2, 12


def text(display: Display, width: int = WIDTH, lines: int = LINES) -> str:
    """The display in at most so many lines of so many characters; what does not fit is left out,
    and three dots say so."""
    head = _capped(_wrapped(f"{display.kind}: {display.summary}", width, "    "), _SHORT)
    then = [Fact("next", ", ".join(display.next))] if display.next else []
    label = max((len(fact.label) for fact in (*display.facts, *then)), default=0) + _GAP
    after = [line for fact in then for line in _capped(_lines(fact, label, width), _SHORT)]
    room = lines - len(head) - len(after)
    table: list[str] = []
    if display.table is not None:
        # Facts leave a table its least, and a table the facts theirs.
        least = min(_LEAST, len(display.table.rows) + 2)
        said = fitted([_lines(fact, label, width) for fact in display.facts], room - least)
        rows = table_lines(display.table, width - 2, room - len(said))
        table = [f"  {row}" for row in rows]
    else:
        said = fitted([_lines(fact, label, width) for fact in display.facts], room)
    return "\n".join(line.rstrip() for line in (*head, *table, *said, *after))


def table_lines(table: Table, width: int | None = None, lines: int | None = None) -> list[str]:
    """The title, the head and the rows of a table, aligned; as wide as it is, or no wider than
    ``width``; as many of the rows as there is room for, the first and the last."""
    titles = [printable(table.title)] if table.title else []
    shown = rows_that_fit(table, None if lines is None else lines - len(titles) - 1)
    cells = [list(map(printable, row)) for row in (table.head, *(row for _, row in shown))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        _narrow(widths, table.left, width)
    rows = []
    for row in cells:
        aligned = [
            shortened(cell, room).ljust(room) if place in table.left else cell.rjust(room)
            for place, (cell, room) in enumerate(zip(row, widths, strict=True))
        ]
        rows.append((" " * _GAP).join(aligned).rstrip()[:width])
    return [*titles, *rows]


def rows_that_fit(table: Table, room: int | None) -> list[tuple[int | None, tuple[str, ...]]]:
    """The rows that are shown, each with its place, and in the place of those left out a row that
    says how many."""
    rows = list(enumerate(table.rows))
    if room is None or len(rows) <= room:
        return [*rows]
    end = table.last or (room - 1) // 2
    begin = max(0, room - 1 - end)
    where = table.left[0] if table.left else 0
    left_out = f"... {len(rows) - begin - end} more ..."
    gap = tuple(left_out if place == where else "" for place in range(len(table.head)))
    return [*rows[:begin], (None, gap), *rows[len(rows) - end :]]


def fits(table: Table, width: int = WIDTH) -> bool:
    """Whether a table is no wider when its names are shortened, and nothing else of it is."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    _narrow(widths, table.left, width)
    return sum(widths) + _GAP * (len(widths) - 1) <= width


def fitted(paragraphs: Sequence[list[str]], room: int) -> list[str]:
    """Paragraphs in so many lines: each is cut where it is longer than the longest that fits; the
    last are left out where even a line for each does not."""
    if not paragraphs:
        return []
    room = max(room, 1)
    longest = max(map(len, paragraphs), default=0)
    cap = next(
        (n for n in range(longest, 0, -1) if sum(min(len(p), n) for p in paragraphs) <= room), 0
    )
    if cap:
        return [line for paragraph in paragraphs for line in _capped(paragraph, cap)]
    shown = [_capped(paragraph, 1)[0] for paragraph in paragraphs[: room - 1]]
    return [*shown, f"... {len(paragraphs) - len(shown)} more ..."]


def shortened(name: str, length: int) -> str:
    """A name with its beginning left out where it is too long: its end says more."""
    return name if len(name) <= length else f"…{name[len(name) - length + 1 :]}"


def _lines(fact: Fact, indent: int, width: int) -> list[str]:
    """A fact on lines of its own, set in behind its label."""
    indent = min(indent, width // 2)
    rows = [
        row
        for line in fact.value.split("\n")
        for row in _wrapped(line, width - indent, "    ") or [""]
    ]
    label = shortened(printable(fact.label), indent - _GAP)
    return [f"{label if not k else '':<{indent}}{row}" for k, row in enumerate(rows)]


def _wrapped(line: str, width: int, further: str) -> list[str]:
    return textwrap.wrap(
        printable(line),
        width,
        subsequent_indent=further,
        break_on_hyphens=False,
    )


def _capped(rows: list[str], most: int) -> list[str]:
    if len(rows) <= most:
        return rows
    last = rows[most - 1]
    return [*rows[: most - 1], f"{last[: WIDTH - 2]} …"]


def _narrow(widths: list[int], left: Sequence[int], width: int) -> None:
    """Take what a table is too wide from its widest names."""
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    while over > 0 and (names := [place for place in left if widths[place] > _NAME]):
        widest = max(names, key=lambda place: widths[place])
        widths[widest] -= 1
        over -= 1
