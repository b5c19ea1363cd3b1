"""What a measurement leaves behind: a table on the screen and the same table, with the raw numbers,
in results/*.json."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import DEVICE, machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Report:
    """One table of one bench.

    Attributes:
        name: the file it is kept in, ``results/<name>.json``.
        title: what the table shows.
        header: the column names.
        rows: the cells, as text.
        notes: sentences that belong under the table.
        measurements: every number behind the cells.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    measurements: Any = None
    machine: dict[str, str] = field(default_factory=machine)

    def markdown(self) -> str:
        """The table and its notes as aligned Markdown."""
        lines = [list(self.header), *map(list, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        cells = [
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            + " |"
            for line in lines
        ]
        cells.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return (
            "\n".join(
                [f"**{self.title}**", "", *cells, "", *[f"- {note}" for note in self.notes]]
            ).rstrip()
            + "\n"
        )

    def save(self) -> Path:
        """Write ``results/<name>.json``, or ``results/<name>-<device>.json``: beside it first, then
        renamed, so that no reader sees half a file."""
        RESULTS.mkdir(exist_ok=True)
        target = RESULTS / f"{self.name}{'' if DEVICE == 'cpu' else '-' + DEVICE}.json"
        with tempfile.NamedTemporaryFile(
            "w", dir=RESULTS, suffix=".part", delete=False, encoding="utf-8"
        ) as part:
            json.dump(asdict(self), part, indent=1, ensure_ascii=False)
            part.write("\n")
        Path(part.name).chmod(0o644)
        os.replace(part.name, target)
        return target

    @staticmethod
    def load(path: Path) -> "Report":
        """The report that a file keeps."""
        return Report(**json.loads(path.read_text(encoding="utf-8")))


def seconds(value: float) -> str:
    """``0.0123`` as ``12.3 ms``, ``4.21`` as ``4.21 s``."""
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def target(value: float, bound: float, text: str, *, least: bool) -> str:
    """A target beside what was reached: ``≥ 80×: met``."""
    met = value >= bound if least else value <= bound
    return f"{'≥' if least else '≤'} {text}: {'met' if met else 'MISSED'}"
