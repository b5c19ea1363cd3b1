"""Documents in LaTeX compile: all of them as one, by pdflatex with amsmath and xcolor. On Debian it
is ``apt-get install texlive-latex-recommended``."""

import shutil
import subprocess
from pathlib import Path

import pytest

from derivation.expressions import CASES

BEGIN, END = r"\begin{document}", r"\end{document}"


def compiled(document: str, folder: Path) -> str:
    """What the engine complains of; "" where it complains of nothing."""
    (folder / "all.tex").write_text(document)
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "all.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if "xcolor.sty' not found" in run.stdout:
        pytest.skip("xcolor is not there")
    said = [row for row in run.stdout.splitlines() if row.startswith(("!", "./all.tex:"))]
    return "\n".join(said) or ("" if run.returncode == 0 else run.stdout[-500:])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no engine for TeX is there")
def test_every_document_compiles(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # Two seconds of work: all rows take ten.
    cases = CASES if request.config.getoption("--whole") else CASES[::10]
    preambles, bodies = set(), []
    for case in cases:
        d = case.derivation
        preamble, _, body = d.latex().partition(BEGIN)
        preambles.add(preamble)
        bodies.append(body.partition(END)[0])
    (preamble,) = preambles
    assert compiled("".join((preamble, BEGIN, *bodies, END)), tmp_path) == ""
    assert "Undefined control sequence" in compiled(rf"{preamble}{BEGIN}\nosuch{END}", tmp_path)
