"""The LaTeX: read strictly, and compiled where there is a TeX."""

import re
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import hesse
from derivation.expressions import CASES, CLOSED_FORMS
from derivation.show.conftest import two_layers
from derivation.show.tex import TexError, check
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.latex import document, lines_latex, part_latex
from hesse.derivation.show.latex_writer import LatexWriter, latex
from hesse.derivation.show.readings import READINGS
from hesse.derivation.show.ruler import cut, width
from hesse.errors import HesseValueError

NEEDS_TEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
BEGIN, END = "\\begin{document}\n", "\\end{document}\n"
NAMES = [
    ("W1", "W2", "x"),
    ("encoder.layers.0.self_attn.in_proj_weight", "0.weight", "x_in"),
    ("W_1", "weight_matrix_2", "ξ"),
    ("<script>alert(1)</script>", '"><img src=x>', "50% & #1 {a}^b~c\\"),
    ("Ω̂", "名前", "é"),
]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_whatever_the_names_the_document_is_read(names, reading):
    found = two_layers(*names)
    check(document(found, reading))
    for block in found:
        check(part_latex(block, found, reading), maths=True)
        check(lines_latex(block, found, reading))


@pytest.mark.parametrize(
    "case", [*CLOSED_FORMS[1:14:2], CLOSED_FORMS[-2]], ids=lambda case: case.name
)
def test_real_derivations_are_read(case):
    found = hesse.derive(
        case.text, wrt=case.parameters, shapes=case.shapes, given=case.given, certify=False
    )
    for reading in READINGS:
        check(document(found, reading))


def test_kinds_have_their_colours_and_labels_and_symbols_their_shapes(derivation):
    source = document(derivation)
    assert r"\underbrace{\textcolor{blue}" in source and r"_{\text{curvature from above}}" in source
    assert r"\underbrace{\textcolor{brown}" in source and r"_{\text{product-rule term}}" in source
    assert (
        r"\underset{m \times h}{W_{2}[p,o]}" in source
        and r"\underset{d}{x_{i}} \, f'(\underset{h}{z_{2,o}}) \Bigl\{" in source
    )
    assert [line for line in source.splitlines() if line.startswith(r"\usepackage")] == [
        r"\usepackage{amsmath}",
        r"\usepackage{xcolor}",
    ]


def test_one_formula(derivation):
    (block,) = derivation
    program = derivation.program
    assert (
        latex(block.expression, program, "scalar")
        == r"x \, f'(z_{2}) \, S_{3} \, W_{2} \, a_{2} + x \, f'(z_{2}) \, \delta_{3}"
    )
    assert latex(block.expression, program, "matrix", block.rows, block.columns).endswith("K")
    with pytest.raises(HesseValueError, match="reading"):
        latex(block.expression, program, "index")


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ("[w = x_i2]", "[w = x_{i_{2}}]"),
        ("[l = 4o2 + 2m − 1]", "[l = 4o_{2} + 2m - 1]"),
        ("[w = input_ids_i]", r"[w = \texttt{input\_ids}_{i}]"),
        ("[w = x′[i,j]]", r"[w = x^{\prime}[i,j]]"),
        ("[k ≤ 3·s]", r"[k \le  3 \cdot s]"),
    ],
)
def test_names_in_conditions_are_names(shown, written, derivation):
    assert LatexWriter(derivation.program).plain(shown) == written
    check(written, maths=True)
    writer = PageWriter(derivation.program)
    assert Maths(writer)(writer.plain(shown)).startswith("<math>")


WRONG = [
    *("a_b", "$a_{b}_{c}$", "$a^{2}'$", r"\frac{a}", r"$\frac a b$", "{", r"\foo", "a & b"),
    *(r"\begin{align*} a", r"$\left( a$", "é", "50%"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_reader_is_strict(wrong):
    with pytest.raises(TexError):
        check(wrong)


@pytest.mark.slow
@NEEDS_TEX
@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
@pytest.mark.parametrize("reading", READINGS)
def test_it_compiles(names, reading, tmp_path):
    compiled(document(two_layers(*names), reading), tmp_path)


class Mixed(nn.Module):
    """Embedding, attention, LayerNorm, and a map without a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = (
            nn.Embedding(4, 2),
            nn.MultiheadAttention(2, 1, batch_first=True),
        )
        self.norm, self.out = nn.LayerNorm(2), nn.Linear(2, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.embed(tokens)
        h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
        return self.out(torch.cumprod(1.5 + torch.tanh(h.mean(1)), -1))


def every_derivation(whole: bool) -> Iterator[hesse.Derivation]:
    yield from (case.derivation for case in (CASES if whole else CASES[5::10]))
    yield hesse.derive(hesse.Network("2-3-1"), certify=False)
    yield hesse.derive(hesse.Network("2-2-2-2-2-1", "relu"), certify=False)
    torch.manual_seed(0)
    data = torch.tensor([[0, 1], [2, 3]]), torch.tensor([0, 1])
    yield hesse.derive(hesse.Cost(Mixed().double(), "cross_entropy", data), certify=False)


@pytest.mark.slow
@NEEDS_TEX
def test_every_derivation_compiles(request, tmp_path):
    """All of them in one document for each reading: a page of its own compiles too, they share the
    preamble."""
    derivations = list(every_derivation(request.config.getoption("--whole")))
    for reading in READINGS:
        pages = [document(found, reading) for found in derivations]
        (preamble,) = {page.split(BEGIN)[0] for page in pages}
        bodies = [page.split(BEGIN)[1].removesuffix(END) for page in pages]
        compiled(preamble + BEGIN + "\n\\clearpage\n".join(bodies) + END, tmp_path)


def compiled(source: str, folder: Path) -> None:
    """Raise with the end of TeX's log unless it compiles, at the first error."""
    (folder / "page.tex").write_text(source, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


# ---------------------------------------------------------------- no row is too wide


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2))


def named(first: str, second: str) -> nn.Module:
    layers = {first: nn.Linear(3, 4), "tanh": nn.Tanh(), second: nn.Linear(4, 2)}
    return nn.Sequential(OrderedDict(layers))


WIDE = {
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)),
        (1, 4, 4),
    ),
    "pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
        ),
        (1, 5, 5),
    ),
    "transformer layer": (encoder, (3, 4)),
    "LayerNorm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (3,)),
    "long names": (lambda: named("feature_extractor_of_all_the_images", "head"), (3,)),
    "signs in names": (lambda: named("{{7*7}}{% raw %}", "a\\b$c_{d}%#^~"), (3,)),
}


@cache
def wide(name: str) -> hesse.Derivation:
    network, shape = WIDE[name]
    torch.manual_seed(0)
    data = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 1, 0])
    return hesse.derive(hesse.Cost(network().double(), "cross_entropy", data), certify=False)


@pytest.mark.slow
@NEEDS_TEX
@pytest.mark.some(of=3)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", WIDE)
def test_no_row_is_too_wide_for_tex(name, reading, tmp_path):
    source = document(wide(name), reading)
    check(source)
    compiled(source, tmp_path)
    assert "Overfull" not in (tmp_path / "page.log").read_text(errors="replace")


def test_no_row_is_too_wide_by_the_ruler():
    """Left of the sign and right of it, in every alignment."""
    found = wide("convolution")
    for reading in READINGS:
        for rows in re.findall(r"\\begin{align\*}\n(.*?)\n\\end", document(found, reading), re.S):
            sides = [row.partition("&") for row in rows.split(" \\\\\n")]
            left = max(width(left) for left, _, _ in sides)
            assert left + max(width(right) for _, _, right in sides) < 484


@pytest.mark.slow
@NEEDS_TEX
def test_the_ruler_is_that_of_tex(tmp_path):
    rows = [
        cell.strip()
        for rows in re.findall(r"\\begin{align\*}\n(.*?)\n\\end", document(wide("LayerNorm")), re.S)
        for row in rows.split(" \\\\\n")
        for cell in row.split("&")
        # What opens in another row has no width of its own.
        if cell.strip() and cell.count(r"\left") == cell.count(r"\right")
    ]
    measured = "\n".join(
        rf"\settowidth{{\w}}{{$\displaystyle {row}$}}\typeout{{W \the\w}}" for row in rows
    )
    begin = r"\documentclass[10pt]{article}\usepackage{amsmath}\usepackage{xcolor}\newlength{\w}"
    compiled(f"{begin}\n{BEGIN}{measured}\n{END}", tmp_path)
    log = (tmp_path / "page.log").read_text(errors="replace")
    widths = [float(found) for found in re.findall(r"^W ([\d.]+)pt", log, re.M)]
    ratios = [width(row) / true for row, true in zip(rows, widths, strict=True) if true > 100]
    # Never much narrower than it is, and only fractions in fractions much wider.
    assert len(ratios) > 50 and min(ratios) > 0.95 and sorted(ratios)[len(ratios) // 2] < 1.05


@given(
    st.lists(
        st.sampled_from(["a", "b_{i}", "(c + d)", r"\left(\frac{a}{b} - e\right)"]), min_size=1
    ),
    st.sampled_from([" + ", " - ", r" \, ", r" \otimes ", r" \circ "]),
    st.integers(30, 200),
)
def test_cut_rows_fit_and_lose_nothing(factors, sign, room):
    def bare(text: str) -> str:
        return re.sub(r"\\,|\{\}|\s|\\(left|right|Bigl|Bigr)", "", text)

    rows = cut(sign.join(factors), room)
    assert bare("".join(rows)) == bare(sign.join(factors))
    assert all(width(row) <= room for row in rows) or room < 45
    check(r"\begin{align*}" + r" \\ ".join(rows) + r"\end{align*}")


def test_a_small_number_is_no_difference():
    latex = hesse.derive("sum(sqrt(x**2 + 0.00001))", wrt="x").latex()
    assert "10^{-5}" in latex and "1e-05" not in latex
    assert r"2.5 \cdot 10^{-7}" in hesse.derive("sum(0.00000025*exp(x))", wrt="x").latex()
