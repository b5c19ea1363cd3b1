"""Lines of a page that several blocks share, as the derivative of an S, are told once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from hesse.derivation.show.document import Line

# So many lines in a row, which stand in an earlier block, are not written again.
_FEWEST = 2


Readings = Mapping[str, Line]
"""A line in each reading that has it."""


@dataclass(frozen=True)
class Again:
    """Lines that stand in an earlier block.

    Attributes:
        title, latex: of that block, on the page and in LaTeX.
        here, there: the first and the last label, here and in that block.
    """

    title: Any
    latex: str
    here: tuple[str, str]
    there: tuple[str, str]


@final
class Folding:
    """The lines that a page has told, block after block."""

    def __init__(self) -> None:
        self._titles: list[tuple[Any, str]] = []
        self._labels: list[list[str]] = []
        # Where a line was first, by all that it says: its block and its place there.
        self._told: dict[tuple[object, ...], tuple[int, int]] = {}

    def begin(self, title: Any, latex: str) -> None:
        """A new block."""
        self._titles.append((title, latex))
        self._labels.append([])

    def folded(self, lines: Sequence[Readings]) -> list[Readings | Again]:
        """Lines of the block; several in a row that an earlier block has too as one entry that says
        where."""
        shown: list[Readings | Again] = []
        while lines:
            length = self._known(lines)
            if length < _FEWEST:
                length = 1
                shown.append(lines[0])
            else:
                block, place = self._told[_said(lines[0])]
                labels = self._labels[block][place : place + length]
                here = label(lines[0]), label(lines[length - 1])
                shown.append(Again(*self._titles[block], here, (labels[0], labels[-1])))
            for line in lines[:length]:
                self._tell(line)
            lines = lines[length:]
        return shown

    def _tell(self, line: Readings) -> None:
        labels = self._labels[-1]
        self._told.setdefault(_said(line), (len(self._labels) - 1, len(labels)))
        labels.append(label(line))

    def _known(self, lines: Sequence[Readings]) -> int:
        """How many of the first stand in an earlier block, in the same order."""
        first = self._told.get(_said(lines[0]))
        if first is None:
            return 0
        block, place = first
        for length, line in enumerate(lines):
            if self._told.get(_said(line)) != (block, place + length):
                return length
        return len(lines)


def label(line: Readings) -> str:
    """Its number, the same in all readings."""
    return next(iter(line.values())).label


def _said(line: Readings) -> tuple[object, ...]:
    """All that a line says, without its number."""
    return tuple((name, o.rule, o.equation, o.defined, o.reason) for name, o in line.items())
