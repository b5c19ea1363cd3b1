"""The report: all sections, valid, self-contained, escaped, whole or not at all."""

import math
import os
import re
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hesse
from browsing import PICTURES, SCREENS, accessible, needs_browser
from hesse.display import Fact, Table
from hesse.reports import findings, sections
from hesse.reports.page import page
from hesse.reports.parts import Facts, Folded, Image, Rows, Section, Words
from hesse.reports.report import report, written

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

HOSTILE = '"><script>alert(1)</script>\u202e\x1b'
VOID = {"meta", "img", "link", "br", "input"}


class Read(HTMLParser):
    """What a reader of a page needs: its tags in order, with what they have and hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.words[tag][-1] += data

    def all(self, tag: str, name: str) -> list[str]:
        return [held.get(name, "") for found, held in self.tags if found == tag]


def check(text: str) -> Read:
    """The structure that people with other readers than eyes need."""
    read = Read(text)
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert read.all("html", "lang") == ["en"] and read.words["title"][0].strip()
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [held["id"] for _, held in read.tags if "id" in held]
    assert len(ids) == len(set(ids))
    assert all(read.all("img", "alt")) and all(words.strip() for words in read.words["summary"])
    assert {href[1:] for href in read.all("a", "href")} <= set(ids)
    assert all(source.startswith("data:image/png;base64,") for source in read.all("img", "src"))
    # MathML has a name that looks like an address; nothing is fetched.
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//|url\(|@import""", text)
    return read


@pytest.fixture(scope="module")
def quick() -> Any:
    """Pictures that are not drawn, and planes of few points: what they show is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "png", lambda draw, size: b"picture")
        for kind in (hesse.Plane, hesse.Slice):
            patch.setattr(kind, "from_model", staticmethod(partial(kind.from_model, points=5)))
        yield


def two_layers(bias: bool) -> hesse.Cost:
    torch.manual_seed(0)
    layers = nn.Linear(16, 2, bias), nn.Tanh(), nn.Linear(2, 2, bias)
    data = torch.rand(6, 16).double(), torch.arange(6) % 2
    return hesse.Cost(nn.Sequential(*layers).double(), "cross_entropy", data)


@pytest.fixture(scope="module")
def cost() -> hesse.Cost:
    """Of three blocks, for a page has the formulas of all."""
    return two_layers(bias=False)


@pytest.fixture(scope="module")
def text(quick: None, cost: hesse.Cost, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    done = report(cost, path)
    assert set(done.refused) == set(sections.SECTIONS) and not any(done.refused.values())
    assert str(path) in str(done)
    return path.read_text()


def test_all_is_there(text: str, cost: hesse.Cost) -> None:
    read = check(text)
    titles = [words.strip() for words in read.words["h2"]]
    assert titles == list(sections.SECTIONS)
    H = hesse.hessian(cost)
    assert "undecided" in text and str(H.inertia()) in text
    assert f"{H.eigvalsh()[-1]:.6g}" in text
    assert hesse.quadratic(cost).stationary_point().kind in text
    assert "within" in text and "of double backward" in text
    assert f"{hesse.value(cost):.9g}" in text
    assert any("as images of the input" in alt for alt in read.all("img", "alt"))
    assert len(read.all("img", "alt")) == 8
    assert any("derivation of every block" in words for words in read.words["summary"])


def test_directions_are_eigenvectors_of_the_layers() -> None:
    cost = two_layers(bias=True)
    found = findings.Findings(cost)
    rows = sections._shares(found, tuple(found.pairs.layout.layers)).rows
    _, V = hesse.hessian(cost).eigh()
    share = float(V[: cost.layout.sizes["0.weight"] + 2, -1].square().sum())
    assert f"0 {share:.0%}" in rows[0][1]


def test_where_H_is_too_large_products_take_its_place(
    quick: None, cost: hesse.Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "_MOST_DENSE", 10)
    done = report(cost, tmp_path / "r.html")
    read = check((tmp_path / "r.html").read_text())
    text = " ".join(read.words["section"])
    assert not any(done.refused.values())
    assert "is more than 10, up to which a report builds H" in text
    assert "lower bounds; the others are undecided" in " ".join(text.split())
    assert any("density" in alt for alt in read.all("img", "alt"))


def test_what_is_refused_is_said_and_the_rest_is_there(
    quick: None, cost: hesse.Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(found: Any) -> Any:
        raise hesse.HesseError(f"not today {HOSTILE}")

    def fail(found: Any) -> Any:
        raise RuntimeError("a fault")

    kept = {"The cost": sections.cost}
    monkeypatch.setattr(
        "hesse.reports.report.SECTIONS", {**kept, "Layers": refuse, "The spectrum": fail}
    )
    done = written(findings.Findings(cost), tmp_path / "r.html")
    assert done.refused["The spectrum"] == "RuntimeError: a fault" and not done.refused["The cost"]
    read = check_simple((tmp_path / "r.html").read_text())
    assert any("Not shown: not today" in words for words in read.words["p"])
    assert "not shown: Layers: not today" in str(done)


def check_simple(text: str) -> Read:
    read = Read(text)
    assert "<script>alert" not in text and "\x1b" not in text and "\u202e" not in text
    return read


def test_everything_is_escaped() -> None:
    table = Table((HOSTILE, ""), ((HOSTILE, "1"),), (0,), title=HOSTILE, shades={(0, 1): 0.5})
    fact = Fact(HOSTILE, HOSTILE)
    parts = (
        Words(HOSTILE),
        Facts((fact,)),
        Rows(table, HOSTILE),
        Image(b"x", HOSTILE),
        Folded(HOSTILE, HOSTILE),
    )
    text = page(HOSTILE, [Section(HOSTILE, parts), Section("Refused", (), HOSTILE)])
    check_simple(text)
    assert text.count("&lt;script&gt;") >= 12 and "\\x1b" in text


def test_it_is_written_whole_or_not_at_all(
    quick: None, cost: hesse.Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.html").write_text("old")

    def stop(found: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("hesse.reports.report.SECTIONS", {"The cost": stop})
    with pytest.raises(KeyboardInterrupt):
        report(cost, tmp_path / "r.html")
    assert os.listdir(tmp_path) == ["r.html"] and (tmp_path / "r.html").read_text() == "old"


def test_what_is_wrong_is_told_first(cost: hesse.Cost, tmp_path: Path) -> None:
    for path, said in {
        tmp_path / "r.pdf": r"path: expected a path that ends with \.html",
        tmp_path / "no" / "r.html": "path: there is no folder",
    }.items():
        with pytest.raises(hesse.HesseError, match=said):
            report(cost, path)


@pytest.mark.parametrize(("shape", "said"), [((6, 2, 4, 4), "several images"), ((6, 3), "square")])
def test_no_image_of_what_is_none(shape: tuple[int, ...], said: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 1))
    cost = hesse.Cost(net, "half_sse", (torch.ones(shape), torch.ones(6, 1)))
    with pytest.raises(hesse.HesseError, match=said):
        sections._images(findings.Findings(cost))


@needs_browser
def test_axe_finds_nothing(browser: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text(text)
    page = browser.new_page()
    page.goto(path.as_uri())
    # It has so many formulas that a screen takes a quarter of a minute.
    accessible(page, SCREENS if PICTURES else SCREENS[:1])
    page.close()
