"""Rewrite the tables of docs/measurements.md from results/*.json. ``python -m bench.tables``."""

import os
from pathlib import Path

from bench.report import RESULTS, Report

PAGE = Path(__file__).parents[1] / "docs" / "measurements.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
# The order on the page; results of other names follow in alphabetical order.
ORDER = [
    "dense",
    "certificates",
    "positions",
    "fallback",
    "small",
    "diagonal",
    "operator",
    "curvature",
    "papers",
    "derivations",
    "formulas",
    "quadratic",
    "minimize",
    "memory",
    "startup",
    "scaling",
]


def place(path: Path) -> tuple[int, str]:
    """Where a result stands on the page."""
    return ORDER.index(path.stem) if path.stem in ORDER else len(ORDER), path.stem


def section() -> str:
    """All tables, each with the machine that it was measured on."""
    parts = []
    for path in sorted(RESULTS.glob("*.json"), key=place):
        result = Report.load(path)
        machine = ", ".join(f"{key} {value}" for key, value in result.machine.items())
        parts.append(f"{result.markdown()}- Measured on: {machine}.\n")
    return "\n".join(parts) or "Nothing has been measured yet.\n"


def main() -> None:
    """Replace what stands between the two marks; everything else on the page is written by hand."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    part = PAGE.with_suffix(".part")
    part.write_text(f"{before}{BEGIN}\n\n{section()}\n{END}{after}", encoding="utf-8")
    os.replace(part, PAGE)


if __name__ == "__main__":
    main()
