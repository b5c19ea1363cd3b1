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


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead, less those in its code."""
    prose = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as the site makes them."""
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    titles = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in titles}


@pytest.mark.parametrize("page", ["../README.md", "../CONTRIBUTING.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    """What is on the site leads to what is on the site: whoever reads it has no checkout."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    for link in links(text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), f"{page} leads to {link}"
        assert page.startswith("../") or target.is_relative_to(DOCS), f"{page} leaves by {link}"
        found = anchors(target.read_text(encoding="utf-8")) if anchor else set()
        assert not anchor or anchor in found, f"{page} leads to {link}; there are {found}"


def test_the_api_is_all_of_it() -> None:
    assert sorted(re.findall(r"^::: hesse\.(\w+)$", PAGES["api.md"], re.MULTILINE)) == sorted(
        hesse.__all__
    )


def test_every_page_is_on_the_site() -> None:
    site = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {page}\n" in site for page in PAGES)
