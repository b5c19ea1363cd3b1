"""The LaTeX: read strictly, and compiled where there is a TeX."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import hesse
from derivation.expressions import CASES, CLOSED_FORMS
from derivation.show.conftest import two_layers
from derivation.show.tex import TexError, check
from hesse.derivation.show.latex import block_latex, document, lines_latex
from hesse.derivation.show.latex_writer import latex
from hesse.derivation.show.readings import READINGS
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
        check(block_latex(block, found, reading), maths=True)
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


def every_derivation() -> Iterator[hesse.Derivation]:
    for case in CASES:
        yield hesse.derive(
            case.text, wrt=case.parameters, shapes=case.shapes, given=case.given, certify=False
        )
    yield hesse.derive(hesse.Network("2-3-1"), certify=False)
    yield hesse.derive(hesse.Network("2-2-2-2-2-1", "relu"), certify=False)
    torch.manual_seed(0)
    data = torch.tensor([[0, 1], [2, 3]]), torch.tensor([0, 1])
    yield hesse.derive(hesse.Cost(Mixed().double(), "cross_entropy", data), certify=False)


@pytest.mark.slow
@NEEDS_TEX
def test_every_derivation_compiles(tmp_path):
    """All of them in one document for each reading: a page of its own compiles too, they share the
    preamble."""
    derivations = list(every_derivation())
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
