"""Runs the pages beside this file and writes what their Python prints into the blocks of text below
it.

python docs/fill.py two-layer-network.md
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# The time that a plan says differs from machine to machine.
TIMES = re.compile(r"about [\d.,]+ \w+ \((?=from rates)")


def filled(page: str) -> str:
    """The page with each block of text replaced by what the Python above it prints."""
    names: dict[str, Any] = {}

    def run(code: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        return TIMES.sub("about ... (", printed.getvalue())

    parts, end = [], 0
    for block in re.finditer(r"```python\n(.*?)```(\n\n```text\n.*?```)?", page, re.DOTALL):
        printed = run(block[1])
        parts.append(page[end : block.end(1)] + "```")
        if block[2] is not None:
            parts.append(f"\n\n```text\n{printed.rstrip()}\n```")
        end = block.end()
    return "".join(parts) + page[end:]


def main(names: list[str]) -> None:
    """Fill the named pages, or all."""
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            done = filled(text)
        partial = path.with_suffix(".partial")
        partial.write_text(done, encoding="utf-8")
        os.replace(partial, path)


if __name__ == "__main__":
    main(sys.argv[1:])
