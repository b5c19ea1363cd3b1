"""Formulas on lines of a given width: broken at signs, with labels under the terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

# A factor that is pointed at stands between these two while lines are broken; then a line under it
# takes their place.
MARK_ON, MARK_OFF = "\ue000", "\ue001"
_OPEN, _CLOSE = "([{⟨", ")]}⟩"


@dataclass(frozen=True)
class Part:
    """A piece of a formula that stays together where it can: its sign, its text, and a label to
    stand under it."""

    sign: str
    text: str
    label: str = ""


def wide(text: str) -> int:
    """How many columns a text takes."""
    return len(text) - text.count(MARK_ON) - text.count(MARK_OFF)


def laid_out(head: str, parts: Sequence[Part], width: int, tail: str = "") -> list[str]:
    """``head part + part + … tail`` in rows of at most ``width`` columns, continued under the first
    part.

    Args:
        head: what stands before the first part, such as ``∂J/∂W =``.
        parts: the terms.
        width: of a row.
        tail: what stands after the last part, such as ``=: S``.
    """
    # Labels stand below: more room between the terms keeps them apart.
    labelled = any(part.label for part in parts)
    gap = "   " if labelled else " "
    if wide(head) > width // 2:
        # A long left-hand side stands alone; the sign begins the next row. Half a row is what the
        # terms need at least to be read beside it.
        sign = next((end for end in (" =", " {") if head.endswith(end)), "")
        rows = broken(head.removesuffix(" ="), width)
        margin = 4
        row = "  = " if sign == " =" else " " * 4
    else:
        rows, margin, row = [], wide(head) + (1 if head else 0), f"{head} " if head else ""
    labels: list[tuple[int, str]] = []

    def finish() -> None:
        nonlocal row
        if row.strip():
            rows.append(row.rstrip())
        if labels:
            rows.extend(_label_rows(labels, width))
            labels.clear()
        row = " " * margin

    fresh = True  # nothing stands on this row yet
    for position, part in enumerate(parts):
        # A plus says nothing in front of the first term.
        sign = part.sign if position or part.sign != "+" else ""
        last = tail if position == len(parts) - 1 else ""
        lead = (
            ""
            if not sign
            else (sign if fresh and not position else f"{sign} " if fresh else f"{gap}{sign}{gap}")
        )
        # A term needs room for itself, for what ends the formula, and for the label under it.
        needed = wide(row) + len(lead) + wide(part.text) + (wide(last) + 1 if last else 0)
        needed = max(needed, wide(row) + len(lead) + len(part.label) + 2 if part.label else 0)
        if not fresh and needed > width:
            finish()
            fresh = True
            lead = f"{sign} " if sign else ""
        start = wide(row) + len(lead)
        if start + wide(part.text) > width:
            # A term that is too long for any row goes on below its own beginning.
            pieces = broken(part.text, width - start)
            row += lead + pieces[0]
            for piece in pieces[1:]:
                rows.append(row.rstrip())
                row = " " * start + piece
        else:
            row += lead + part.text
        if part.label:
            labels.append((start, part.label))
            # The next term begins behind the label, whichever of the two is longer.
            row += " " * max(0, start + len(part.label) + 2 - wide(row))
        fresh = False
    if tail:
        if wide(row.rstrip()) + 1 + wide(tail) > width:
            finish()
            row = " " * min(margin, max(0, width - wide(tail))) + tail
        else:
            row = f"{row.rstrip()} {tail}"
    finish()
    return rows


def _label_rows(labels: Sequence[tuple[int, str]], width: int) -> list[str]:
    """``└ label`` under the start of each part."""
    row, rows = "", []
    for start, label in labels:
        text = f"└ {label}"
        if len(row) > start or start + len(text) > width:
            # No room beside the label before: a row of its own, as far right as it fits.
            if row:
                rows.append(row)
            row = ""
            start = max(0, min(start, width - len(text)))
        row += " " * (start - len(row)) + text
    return [*rows, row]


def broken(text: str, width: int) -> list[str]:
    """A text in rows of at most ``width`` columns, broken at spaces outside brackets, before a sign
    where there is one.

    Examples:
        >>> broken("a (b + c) + d (e + f)", 12)
        ['a (b + c)', '+ d (e + f)']
    """
    # However far in a term begins, its rows do not shrink to a letter each.
    width, rows = max(width, 8), []
    while wide(text) > width:
        place = _best_break(text, width)
        rows.append(text[:place].rstrip())
        text = text[place:].lstrip()
    return _balanced_marks([*rows, text])


def prose(text: str, width: int) -> list[str]:
    """A sentence in rows."""
    return wrap(text, width, break_on_hyphens=False) or [""]


def _best_break(text: str, width: int) -> int:
    """The place of the best space within the width; the width itself where there is none."""
    depth, column, best, cost = 0, 0, 0, (10**6, 0)
    for place, character in enumerate(text):
        if column > width:
            break
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == " " and column:
            sign = text[place + 1 : place + 3] in ("+ ", "− ", "= ", "· ")
            after = text[place - 1] in "+−=·"  # never leave a sign behind
            # Outer brackets first, then signs, then as far to the right as possible; a first fifth
            # is too little for a row.
            penalty = (2 * depth + (not sign) + 4 * after + 3 * (column < width // 5), -column)
            if penalty < cost:
                best, cost = place, penalty
        column += character not in (MARK_ON, MARK_OFF)
    if best:
        return best
    # A single word longer than the row is cut; marks take no column of it.
    return next((k for k in range(width, len(text) + 1) if wide(text[:k]) == width), width)


def _balanced_marks(rows: list[str]) -> list[str]:
    """A mark that a break cuts in two is closed and opened again."""
    done, on = [], False
    for row in rows:
        whole = (MARK_ON if on else "") + row
        on = whole.count(MARK_ON) > whole.count(MARK_OFF)
        done.append(whole + (MARK_OFF if on else ""))
    return done


def underlined(rows: Sequence[str]) -> list[str]:
    """The rows without marks, and a line under what was marked."""
    done = []
    for row in rows:
        line, under, on = "", "", False
        for character in row:
            if character in (MARK_ON, MARK_OFF):
                on = character == MARK_ON
                continue
            line += character
            under += "‾" if on else " "
        done.append(line)
        if under.strip():
            done.append(under.rstrip())
    return done


def table(rows: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """Rows of cells with their columns aligned."""
    if not rows:
        return []
    columns = max(len(row) for row in rows)
    widths = [
        max((wide(row[k]) for row in rows if k < len(row)), default=0) for k in range(columns)
    ]
    return [
        "".join(cell + " " * (widths[k] - wide(cell) + gap) for k, cell in enumerate(row)).rstrip()
        for row in rows
    ]
