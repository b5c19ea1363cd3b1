"""Lines of a page that several blocks share, as the derivative of an S, are told once."""

from typing import Any, final

# So many lines in a row, which stand in an earlier block, are not written again.
_FEWEST = 3


@final
class Folding:
    """The lines that a page has told, block after block, in one reading."""

    def __init__(self) -> None:
        self._titles: list[Any] = []
        self._labels: list[list[str]] = []
        # Where a line was first, by all that it says: its block and its place there.
        self._told: dict[tuple[object, ...], tuple[int, int]] = {}

    def folded(self, groups: list[dict[str, Any]], title: Any) -> list[dict[str, Any]]:
        """The groups of a block with lines that an earlier one has too, several in a row, as one
        entry that says where."""
        self._titles.append(title)
        self._labels.append([])
        return [{**group, "lines": self._shown(group["lines"])} for group in groups]

    def _shown(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        while lines:
            length = self._known(lines)
            if length < _FEWEST:
                length = 1
                shown.append(lines[0])
            else:
                block, place = self._told[_said(lines[0])]
                labels = self._labels[block][place : place + length]
                shown.append(
                    {
                        "title": self._titles[block],
                        "here": (lines[0]["label"], lines[length - 1]["label"]),
                        "there": (labels[0], labels[-1]),
                    }
                )
            for line in lines[:length]:
                self._tell(line)
            lines = lines[length:]
        return shown

    def _tell(self, line: dict[str, Any]) -> None:
        labels = self._labels[-1]
        self._told.setdefault(_said(line), (len(self._labels) - 1, len(labels)))
        labels.append(line["label"])

    def _known(self, lines: list[dict[str, Any]]) -> int:
        """How many of the first stand in an earlier block, in the same order."""
        first = self._told.get(_said(lines[0]))
        if first is None:
            return 0
        block, place = first
        for length, line in enumerate(lines):
            if self._told.get(_said(line)) != (block, place + length):
                return length
        return len(lines)


def _said(line: dict[str, Any]) -> tuple[object, ...]:
    """All that a line says, without its number."""
    return line["rule"], tuple(line["formula"]), tuple(line["defined"]), line["reason"]
