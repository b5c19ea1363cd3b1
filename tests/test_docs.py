"""The pages under docs/ are scripts: their Python runs as it stands, in order, and prints what the
page says it prints."""

import re
from pathlib import Path

import pytest

import hesse

fill = pytest.importorskip("docs.fill", reason="the docs are not part of an sdist")

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}


@pytest.mark.small
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for block, got in fill.run(DOCS / page, PAGES[page]):
        line = PAGES[page].count("\n", 0, block.start("code")) + 1
        want = block["printed"]
        assert want is None or fill.says(want, got), f"{page}:{line} printed\n{got}"
    # An example's picture is the one that its code draws.
    for picture in fill.PICTURES.findall(PAGES[page]) if page.startswith("gallery/") else ():
        assert Path(picture).is_file(), f"{page} does not draw {picture}"


def test_what_is_filled_in_keeps_what_was_written_by_hand() -> None:
    assert fill.mended("time ... s\nP = 3\n", "time 4 s\nP = 3\n") == "time ... s\nP = 3\n"
    assert fill.mended("time ... s\nP = 3\n", "time 4 s\nP = 4\n") == "time ... s\nP = 4\n"
    assert fill.mended("one\n", "one\ntwo\n") == "one\ntwo\n"


def test_the_api_is_all_of_it() -> None:
    assert sorted(re.findall(r"^::: hesse\.(\w+)$", PAGES["api.md"], re.MULTILINE)) == sorted(
        hesse.__all__
    )


def test_every_page_is_on_the_site() -> None:
    site = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {page}\n" in site for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_pictures_on_a_page_are_there(page: str) -> None:
    for target in fill.PICTURES.findall(PAGES[page]):
        assert (DOCS / page).parent.joinpath(target).is_file(), f"{page} shows {target}"
