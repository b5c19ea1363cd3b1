"""What a page is made of: sections, and the parts that they show, as data."""

from dataclasses import dataclass, field
from typing import ClassVar

from hesse.display import Display, Fact, Table


@dataclass(frozen=True)
class Words:
    """A sentence or several."""

    text: str
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Facts:
    """Numbers under their labels."""

    facts: tuple[Fact, ...]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Rows:
    """A table, and what it is of."""

    table: Table
    caption: str
    kind: ClassVar[str] = "rows"


@dataclass(frozen=True)
class Image:
    """A picture as the content of a PNG file.

    Attributes:
        png: the file.
        shows: what is seen on it, for who does not see it.
    """

    png: bytes = field(repr=False)
    shows: str
    kind: ClassVar[str] = "image"


@dataclass(frozen=True)
class Folded:
    """What is long, behind a line that says what it is: HTML, or text as it stands."""

    line: str
    text: str = field(repr=False)
    html: bool = False
    kind: ClassVar[str] = "folded"


Part = Words | Facts | Rows | Image | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: the heading.
        parts: what is below it.
        refused: why there is nothing; empty where there is.
    """

    title: str
    parts: tuple[Part, ...] = field(repr=False)
    refused: str = ""


def shown(display: Display, caption: str) -> list[Part]:
    """What an object shows of itself at a prompt, without what can be typed next."""
    parts: list[Part] = [Words(display.summary)]
    if display.facts:
        parts.append(Facts(display.facts))
    if display.table is not None:
        parts.append(Rows(display.table, caption))
    return parts
