"""Runs the pages of the docs and writes what their Python prints into the blocks of text below it,
and the pictures that it saves beside the pages that show them.

python docs/fill.py two-layer-network.md
"""

import contextlib
import doctest
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# A block of Python, and what it prints where a block of text follows it.
BLOCKS = re.compile(r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<printed>.*?)```)?", re.DOTALL)
PICTURES = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
# How far two sides of a line are apart is rounding, which differs from machine to machine.
ROUNDING = re.compile(r"✓ (0|\de-1\d)|\b\de-1\d\b")
# Where the last digits depend on the machine, a page writes "...".
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(page: Path, text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each block of a page with what it prints, run in order in the current folder."""
    names: dict[str, Any] = {}
    for block in BLOCKS.finditer(text):
        line = text.count("\n", 0, block.start("code")) + 1
        code = compile("\n" * (line - 1) + block["code"], str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        yield block, printed.getvalue()


def says(want: str, got: str) -> bool:
    """Whether a page says what was printed, but for rounding and where it writes "..."."""
    want, got = ROUNDING.sub("", want), ROUNDING.sub("", got)
    return doctest.OutputChecker().check_output(want, got, LENIENT)


def mended(want: str, got: str) -> str:
    """What was printed; lines that the page says already stay as they were written."""
    if says(want, got):
        return want
    wanted, printed = want.splitlines(), got.splitlines()
    if len(wanted) == len(printed):
        pairs = zip(wanted, printed, strict=True)
        printed = [old if says(f"{old}\n", f"{new}\n") else new for old, new in pairs]
    return "".join(f"{line}\n" for line in printed)


def filled(page: Path, text: str) -> str:
    """The page with each block of text replaced by what the Python above it prints."""
    parts, end = [], 0
    for block, printed in run(page, text):
        if block["printed"] is not None:
            parts += [text[end : block.start("printed")], mended(block["printed"], printed)]
            end = block.end("printed")
    return "".join(parts) + text[end:]


def main(names: list[str]) -> None:
    """Fill the named pages, or all."""
    os.environ["MPLBACKEND"] = "agg"
    for page in [HERE / name for name in names] or sorted(HERE.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            done = filled(page, text)
            for picture in filter(os.path.isfile, PICTURES.findall(text)):
                shutil.copy(picture, page.parent / picture)
        partial = page.with_suffix(".partial")
        partial.write_text(done, encoding="utf-8")
        os.replace(partial, page)


if __name__ == "__main__":
    main(sys.argv[1:])
