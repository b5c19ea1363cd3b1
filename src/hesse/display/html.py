"""A display as HTML, for a notebook: no colour of text or page of its own, so that it is legible on
a light page and on a dark one."""

from html import escape

from hesse.display.display import Display, Fact, Table
from hesse.display.text import LINES, WIDTH, rows_that_fit, shortened
from hesse.errors import printable

# Bytes of a cell of a notebook, and of one formula in it.
MOST, _FORMULA = 20_000, 5_000
# Lines of one fact, and characters of a name in a table.
_TALL, _NAME = 4, 48
# Text on it is legible, black or white, up to half of it.
_SHADE = "background:rgba(0,114,178,{:.2f})"
_LEFT, _RIGHT = "text-align:left", "text-align:right"


def html(display: Display) -> str:
    """The display as a part of a page, of less than `MOST` bytes; everything in it is escaped.

    Where it would be more, formulas are text, and then the table has fewer rows.
    """
    written = ""
    for formulas, rows in ((True, LINES), (False, LINES), (False, LINES // 2), (False, 3)):
        written = _written(display, formulas, rows)
        if len(written.encode()) < MOST:
            break
    return written


def _written(display: Display, formulas: bool, rows: int) -> str:
    summary = _shown(display.summary, 2 * WIDTH)
    parts = [f"<p><strong>{_shown(display.kind, WIDTH)}</strong>: {summary}</p>"]
    if display.table is not None:
        parts.append(_table(display.table, rows))
    facts = display.facts[:rows]
    if facts:
        said = "".join(_fact(fact, formulas) for fact in facts)
        parts.append(f"<table><tbody>{said}</tbody></table>")
    if len(display.facts) > len(facts):
        parts.append(f"<p>... {len(display.facts) - len(facts)} more ...</p>")
    if display.next:
        calls = ", ".join(f"<code>{_shown(call, WIDTH)}</code>" for call in display.next)
        parts.append(f"<p>next: {calls}</p>")
    return f"<div>{''.join(parts)}</div>"


def _fact(fact: Fact, formulas: bool) -> str:
    value = fact.markup() if formulas and fact.markup is not None else None
    if value is None or len(value.encode()) > _FORMULA:
        lines = fact.value.split("\n")[:_TALL]
        value = "<br>".join(_shown(line, 2 * WIDTH) for line in lines)
    head = f'<th style="{_LEFT}">{_shown(fact.label, _NAME)}</th>'
    return f'<tr>{head}<td style="{_LEFT}">{value}</td></tr>'


def _table(table: Table, room: int) -> str:
    def cell(tag: str, value: str, row: int | None, column: int) -> str:
        style = _LEFT if column in table.left else _RIGHT
        shade = 0.0 if row is None else table.shades.get((row, column), 0.0)
        if shade > 0:
            style += f";{_SHADE.format(shade / 2)}"
        name = shortened(printable(value[-_NAME - 1 :]), _NAME)
        # A column without a name has no head: a reader of screens would say that there is one.
        tag = tag if name else "td"
        return f'<{tag} style="{style}">{escape(name)}</{tag}>'

    def line(tag: str, cells: tuple[str, ...], row: int | None = None) -> str:
        return f"<tr>{''.join(cell(tag, c, row, k) for k, c in enumerate(cells))}</tr>"

    rows = "".join(line("td", cells, row) for row, cells in rows_that_fit(table, room))
    title = f"<p>{_shown(table.title, WIDTH)}</p>" if table.title else ""
    return f"{title}<table><thead>{line('th', table.head)}</thead><tbody>{rows}</tbody></table>"


def _shown(text: str, most: int) -> str:
    plain = printable(text[: most + 1])
    return escape(plain if len(plain) <= most else f"{plain[: most - 1]}…")
