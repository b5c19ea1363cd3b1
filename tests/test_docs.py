"""The pages under docs/ are scripts: their Python runs as it stands, in order, and prints what the
page says it prints."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

import hesse

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
# A block of Python, and what it prints where a block of text follows it.
BLOCKS = re.compile(r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<printed>.*?)```)?", re.DOTALL)
# How far two sides of a line are apart is rounding, which differs from machine to machine.
ROUNDING = re.compile(r"✓ (0|\de-1\d)|\b\de-1\d\b")
# Where the last digits depend on the machine, a page writes "...".
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.small
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    for block in BLOCKS.finditer(PAGES[page]):
        line = PAGES[page].count("\n", 0, block.start("code")) + 1
        exec(compile("\n" * (line - 1) + block["code"], str(DOCS / page), "exec"), names)
        got, want = capsys.readouterr().out, block["printed"]
        if want is not None:
            got, want = ROUNDING.sub("", got), ROUNDING.sub("", want)
            assert doctest.OutputChecker().check_output(want, got, LENIENT), (
                f"{page}:{line} printed\n{got}"
            )


def test_the_api_is_all_of_it() -> None:
    assert sorted(re.findall(r"^::: hesse\.(\w+)$", PAGES["api.md"], re.MULTILINE)) == sorted(
        hesse.__all__
    )


def test_every_page_is_on_the_site() -> None:
    site = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {page}\n" in site for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_pictures_on_a_page_are_there(page: str) -> None:
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGES[page]):
        assert (DOCS / target).is_file(), f"{page} shows {target}"
