"""The page: valid, self-contained, with nothing of the user's unescaped."""

import builtins
import re
from collections import OrderedDict
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

import hesse
from derivation.show.conftest import two_layers
from hesse.derivation.calculus.expression import Index
from hesse.derivation.calculus.program import BlackBox, Quantity
from hesse.derivation.show.html import fragment, page
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.html.rendering import _quoted  # pyright: ignore[reportPrivateUsage]
from hesse.derivation.show.latex import lines_latex
from hesse.derivation.show.outline import Outline
from hesse.errors import HesseImportError
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

pytest.importorskip("jinja2")

VOID = {"meta", "input", "br", "hr", "link", "img"}
# Only words and formulas can stand in these.
PHRASING = {
    "p",
    "span",
    "h1",
    "h2",
    "h3",
    "h4",
    "summary",
    "button",
    "label",
    "title",
    "b",
    "code",
    "dt",
}
BLOCKS = {
    "div",
    "ul",
    "ol",
    "li",
    "p",
    "pre",
    "table",
    "section",
    "details",
    "dl",
    "header",
    "footer",
    "main",
}
BLOCKS |= {"h1", "h2", "h3", "h4"}
OTHERS = {"html", "head", "body", "style", "script", "tr", "td", "tbody", "caption", "dd"}
MATHML = {
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mfrac",
    "msqrt",
    "mstyle",
    "mspace",
    "mtable",
    "mtr",
    "mtd",
}
TAGS = (
    PHRASING
    | BLOCKS
    | VOID
    | OTHERS
    | MATHML
    | {"msub", "msup", "msubsup", "munder", "mover", "munderover"}
)
# How many elements stand in one that has a place for each.
PLACES: dict[str, int] = {
    **dict.fromkeys(("msub", "msup", "mfrac", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b_{c}\\")


# A formula that could not be read: all other code is a source, or the name of a map.
UNREAD = re.compile('<code class="unread">')


class Valid(HTMLParser):
    """Every tag known, closed in order, in a place where it can stand; ids unique."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.inside = [0]
        self.ids: set[str] = set()
        self.labels: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert self.labels <= self.ids

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, f"unknown <{tag}> at {self.getpos()}"
        inside = [parent for parent in self.open if parent in PHRASING]
        assert not (tag in BLOCKS and inside), f"<{tag}> inside <{inside[-1]}> at {self.getpos()}"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                assert value and value not in self.ids, f"id {value} twice"
                self.ids.add(value)
            if name == "for":
                self.labels.add(value or "")
        self.inside[-1] += 1
        if tag not in VOID:
            self.open.append(tag)
            self.inside.append(0)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (
            f"</{tag}> closes {self.open[-1:]} at {self.getpos()}"
        )
        assert PLACES.get(tag, self.inside[-1]) == self.inside.pop(), f"{tag} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words += data


@pytest.fixture(scope="module")
def real():
    return page(
        hesse.derive(
            "1/2*sum((y - sigmoid(W2 @ sigmoid(W1 @ x)))**2)", wrt=["W1", "W2"], certify=False
        )
    )


def test_a_real_page_is_valid(real):
    Valid(real)


@pytest.mark.parametrize("show", [page, fragment])
def test_nothing_is_loaded_from_elsewhere(show, derivation):
    source = show(derivation)
    found = Valid(source)
    loads = ("src", "href", "action", "data", "style", "srcset")
    assert not [one for one in found.attributes if one[1] in loads or one[1].startswith("on")]
    assert (
        "http:" not in source
        and "https:" not in source
        and "@import" not in source
        and "url(" not in source
    )
    assert not [tag for tag, _, _ in found.attributes if tag in ("link", "img")]


def test_every_format_says_the_same_of_a_kind():
    derivation = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
    several, single = (
        Outline(derivation, "indices").result(block.expression, block.rows, block.columns)
        for block in (derivation.blocks["W1", "W1"], derivation.blocks["W2", "W2"])
    )
    assert several.about_kind.startswith("every term is curvature from above")
    assert single.about_kind.startswith("all of it is curvature from above")
    for shown in (derivation.text(), derivation.latex().lower(), derivation.html().lower()):
        for result in (several, single):
            assert " ".join(result.about_kind.split()[:6]) in shown


@pytest.mark.parametrize("show", [page, fragment])
def test_hostile_names_are_only_words(show):
    source = show(two_layers(*HOSTILE))
    found = Valid(source)
    assert "<img" not in source and "<script>alert" not in source
    assert not [value for _, name, value in found.attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in found.words
    assert not UNREAD.search(source)


def test_both_kinds_the_legend_the_shapes_and_the_three_readings(derivation):
    found = Valid(page(derivation))
    assert {"hesse-scalar", "hesse-indices", "hesse-matrix"} <= found.ids
    classes = {value for _, name, value in found.attributes if name == "class"}
    assert {"part above", "part product", "legend", "branch", "copy"} <= classes
    assert f"content: {_quoted('W2 (m, h)')};" in page(derivation)
    assert "def hessian_block(" in found.words and r"\begin{align*}" in found.words


def test_every_formula_becomes_mathml(real):
    """What cannot be read is shown as LaTeX: never here."""
    assert not UNREAD.search(real)


def test_words_within_names_are_words_in_every_reading():
    d = hesse.derive(
        hesse.Cost(
            nn.Sequential(OrderedDict(in_proj=nn.Linear(2, 2))),
            "mse",
            (torch.ones(1, 2), torch.ones(1, 2)),
        )
    )
    maths = "".join(re.findall("<math.*?</math>", page(d)))
    assert "in_proj.weight" in maths and "\\_" not in maths


def test_primes_follow_their_function(derivation):
    assert '<msup><mi>f</mi><mi class="prime">″</mi></msup><mi>(</mi>' in page(derivation)


def test_maps_without_a_formula_are_named():
    indices = (Index("k", "n"),)
    pooled = Quantity("pooled", indices, BlackBox("max_pool2d", ("x",), abs))
    slope = Quantity(
        "∂pooled/∂x", (*indices, Index("i", "d")), BlackBox("max_pool2d", ("x",), abs, 1)
    )
    found = two_layers()
    program = replace(found.program, quantities=(pooled, slope, *found.program.quantities))
    source = page(replace(found, program=program))
    Valid(source)
    assert (
        "<code>max_pool2d</code>" in source
        and "Maps without a formula" in source
        and "<mo>↦</mo>" in source
    )


def test_light_and_dark_phone_and_paper(derivation):
    source = page(derivation)
    for query in (
        "prefers-color-scheme: dark",
        "max-width: 44rem",
        "@media print",
        "overflow-x: auto",
        'name="viewport"',
    ):
        assert query in source


def test_two_fragments_can_stand_on_one_page(derivation):
    Valid(f"<div>{fragment(derivation)}{fragment(derivation)}</div>")


def test_what_is_missing_is_named(derivation, monkeypatch):
    found = builtins.__import__

    def without(name, *rest, **more):
        if name == "jinja2":
            raise ImportError(f"No module named {name!r}")
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(HesseImportError, match=r"pip install 'hesse\[html\]'"):
        page(derivation)


# ---------------------------------------------------------------- what each reading shows


class Seen(HTMLParser):
    """What is seen of the LaTeX of each block while one reading is chosen."""

    def __init__(self, source: str, reading: str) -> None:
        super().__init__(convert_charrefs=True)
        self.reading, self.hidden = reading, list[bool]()
        self.tags, self.codes, self.latex = list[str](), list[str](), False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            return
        only = [word for word in (dict(attrs).get("class") or "").split() if word[:3] == "in-"]
        self.hidden.append(bool(only) and f"in-{self.reading}" not in only)
        self.tags.append(tag)
        if tag == "pre":
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag
        self.hidden.pop()

    def handle_data(self, data: str) -> None:
        if "pre" in self.tags and not any(self.hidden):
            self.codes[-1] += data


def test_each_reading_shows_its_own_lines_and_no_other(derivation):
    source = page(derivation)
    (block,) = derivation
    for reading in ("scalar", "indices", "matrix"):
        codes = Seen(source, reading).codes
        assert [code for code in codes if r"\paragraph" in code] == [
            lines_latex(block, derivation, reading)
        ]
        rule = f':checked ~ .readings [class*="in-"]:not(.in-{reading}) {{ display: none; }}'
        assert f"#hesse-{reading}{rule}" in source


def test_lines_that_readings_share_are_told_once(real):
    assert real.count("from the definition") == real.count('<p class="reason">from the definition')
    assert 'class="formula in-indices in-matrix"' in real


def test_lines_of_an_earlier_block_are_told_there():
    d = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", ["W1", "W2"], certify=False)
    source = page(d)
    (again,) = set(re.findall(r"as lines (\w+ to \w+) of", source))
    assert source.count(f"as lines {again} of <span") == source.count(f"as lines {again} of $") > 0


def test_a_page_is_light():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    data = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1])
    source = page(hesse.derive(hesse.Cost(net, "cross_entropy", data), certify=False))
    assert len(source.encode()) < 950_000
    assert not UNREAD.search(source)
    Valid(source)


# ---------------------------------------------------------------- formulas and names


def test_names_in_sentences_look_as_they_do_in_formulas(derivation):
    source = page(derivation)
    W1 = "<math><msub><mi>W</mi><mn>1</mn></msub></math>"
    assert f"{W1} stands in <math><msub><mi>a</mi><mn>2</mn></msub></math>" in source
    assert f'<td>rows of <span class="kept">{W1},</span>' in source and f"vec({W1})" in source
    # With an index as well, which stands behind a low line in plain text.
    assert (
        "<msub><mi>δ</mi><mrow><mn>3</mn><mo>,</mo><mi>p</mi></mrow></msub></math> feels" in source
    )


def test_no_line_breaks_between_a_name_and_what_it_stands_beside():
    source = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"]).html()
    W1, J = "<math><msub><mi>W</mi><mn>1</mn></msub></math>", "<math><mi>J</mi></math>"
    assert f'<span class="kept">vec({W1}),</span> then <span class="kept">vec(' in source
    assert f'from <span class="kept">∂{J}/∂{W1};</span> {W1} stands in' in source
    for inside in re.findall('<span class="kept">(.*?)</span>', source):
        assert not re.search(r"\s", re.sub("<math>.*?</math>", "", inside))


def test_a_name_of_one_letter_is_one_in_sentences_too():
    source = hesse.derive("sum(log_softmax(A@B))", wrt=["A", "B"]).html()
    assert "rows of <math><mi>B</mi></math>" in source
    assert 'columns of <span class="kept"><math><mi>A</mi></math>,' in source
    # Which the letter of a branch is not.
    source = hesse.derive("y@inv(A)@y", wrt="A", shapes="A[n,n]").html()
    assert 'class="label">branch A<' in source


def test_names_under_terms_look_as_they_do_in_formulas():
    cost = "1/2*y.T@inv(K+s*eye(n))@y + 1/2*logdet(K+s*eye(n))"
    gp = hesse.derive(cost, wrt="s", shapes="K[n,n] y[n] s[]")
    source = gp.html()
    assert "</math> moves</span>" in source and 'class="label">inv' not in source
    assert r"\text{$u^{-1}_{1}$ moves}" in gp.latex()


@pytest.mark.parametrize("text", ["</style><b>", '"; } * { color: red', "a\\b\n", "\u202e", "名"])
def test_the_style_sheet_takes_any_name(text):
    inside = _quoted(text)[1:-1]
    assert _quoted(text) == f'"{inside}"' and inside.isascii()
    assert not set(inside) & set('"<>&;{}\n') and "202e" not in inside.replace("5c u202e", "")


def test_every_function_can_be_read(derivation):
    writer = PageWriter(derivation.program)
    maths = Maths(writer)
    formulas = [f"{writer.function(name, order)}(z)" for name in FUNCTIONS for order in range(5)]
    formulas += [writer.array_function(name, "W1") for name in ARRAY_FUNCTIONS]
    for formula in formulas:
        assert maths(formula).startswith("<math>"), formula


@pytest.mark.parametrize(
    ("latex", "inside"),
    [
        (r"\frac{1}{2} x", "<mfrac><mn>1</mn><mn>2</mn></mfrac><mi>x</mi>"),
        (r"{a b}^{2}", "<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>"),
        (r"W_{1}^{\top}", "<msubsup><mi>W</mi><mn>1</mn><mi>⊤</mi></msubsup>"),
        (
            r"f''(z)",
            '<msup><mi>f</mi><mi class="prime">″</mi></msup><mi>(</mi><mi>z</mi><mi>)</mi>',
        ),
        (r"\left(x\right)", "<mrow><mo>(</mo><mi>x</mi><mo>)</mo></mrow>"),
        (r"z(1)", "<mi>z</mi><mn>(1)</mn>"),
        (r"\mathbf{1}", "<mn>𝟏</mn>"),
        (r"f(a)^{\top}", "<mi>f</mi><mi>(</mi><mi>a</mi><msup><mi>)</mi><mi>⊤</mi></msup>"),
        ("f((a))", "<mi>f</mi><mi>((</mi><mi>a</mi><mi>))</mi>"),
        ("a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
    ],
)
def test_formulas_have_no_tag_too_many(latex, inside, derivation):
    assert Maths(PageWriter(derivation.program))(latex) == f"<math>{inside}</math>"


@pytest.mark.parametrize("latex", [r"\unknown", r"\frac{a}", "a}", "{a", r"\frac a b", "é<b>"])
def test_what_cannot_be_read_is_shown_as_it_is_written(latex, derivation):
    escaped = latex.replace("<", "&lt;").replace(">", "&gt;")
    shown = Maths(PageWriter(derivation.program))(latex)
    assert shown == f'<code class="unread">{escaped}</code>'


@pytest.mark.parametrize(
    ("asked", "title", "result"),
    [
        (lambda d: d.gradient("w"), "The first derivative of J", "the first derivative"),
        (lambda d: d.product("w"), "The product H v at w of J", "the product H v at w"),
        (lambda d: d.third("w", "w", "w"), "A third derivative of J", "a third derivative"),
        (lambda d: d.hessian(), "Second derivatives of J", "the Hessian"),
        (lambda d: d.block("w", "w"), "Second derivatives of J", "the Hessian"),
        (lambda _: VECTOR.jacobian("w"), "The Jacobian of f", "the Jacobian"),
    ],
)
def test_what_is_asked_for_beside_blocks_is_a_page_too(asked, title, result):
    source = asked(SOFTPLUS).html()
    assert f"<title>{title}</title>" in source and f'<span class="name">{result}</span>' in source
    lines = source.count('<li class="line"')
    assert lines >= 1 and source.count('class="deviation"') == lines
    assert '<details class="code"><summary>LaTeX' in source and "def " in source


SOFTPLUS = hesse.derive("sum(softplus(X @ w) - y*(X @ w))", "w", shapes="X[n,d] w[d] y[n]")
VECTOR = hesse.derive("W @ exp(w)", "w", shapes="W[m,d] w[d]")
