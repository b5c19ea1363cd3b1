"""What an object shows of itself, as data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Fact(NamedTuple):
    """A label and what is to be said under it.

    Attributes:
        label: a word or two.
        value: text; a line break in it stays one.
        markup: makes the same as HTML, for formulas; ``None`` where it cannot.
    """

    label: str
    value: str
    markup: Callable[[], str | None] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells. Where there are too many, the middle ones are left out.

    Attributes:
        head: over the columns.
        rows: of the same length each.
        left: the columns that are aligned to the left, and shortened where the room is narrow.
        title: a line above it.
        last: rows at the end that stay: a sum.
        shades: how dark the cells are, by row and column, from 0 to 1: for HTML.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)
    title: str = ""
    last: int = 0
    shades: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Display:
    """What an object shows: what it is, its numbers, and what can be asked of it next.

    Attributes:
        kind: what it is.
        summary: its sizes and what marks it, in a line.
        facts: numbers under their labels.
        table: what has rows.
        next: calls that go on from here, as they are typed.
    """

    kind: str
    summary: str
    facts: tuple[Fact, ...] = ()
    table: Table | None = None
    next: tuple[str, ...] = ()


def facts(**named: str | None) -> tuple[Fact, ...]:
    """Those of some texts by label that are there; an underscore in a label is a space."""
    return tuple(Fact(name.replace("_", " "), text) for name, text in named.items() if text)


def counted(number: int, noun: str) -> str:
    """A number of things.

    Examples:
        >>> counted(1, "sample"), counted(2_410, "entry")
        ('1 sample', '2,410 entries')
    """
    several = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"
