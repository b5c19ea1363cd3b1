"""Formulas in LaTeX are read by KaTeX, in its strict mode, as pages show them. Node and its package
katex are needed: ``npm install katex``, with NODE_PATH where it is installed elsewhere."""

import json
import re
import shutil
import subprocess

import pytest

import hesse
from derivation.expressions import CASES

READ = """
const katex = require("katex"), formulas = JSON.parse(require("fs").readFileSync(0));
const failed = [];
for (const tex of formulas) {
  try { katex.renderToString(tex, {strict: "error", displayMode: true}); }
  catch (error) { failed.push([tex, error.message]); }
}
console.log(JSON.stringify(failed));
"""
DISPLAYED = re.compile(r"\\begin\{align\*\}(.*?)\\end\{align\*\}", re.DOTALL)
INLINE = re.compile(r"(?<![\\$])\$([^$]+)\$")


def failed(formulas: list[str]) -> list[list[str]]:
    """The formulas that KaTeX does not take, each with what it says."""
    run = subprocess.run(
        ["node", "-e", READ],
        input=json.dumps(formulas),
        capture_output=True,
        text=True,
        check=False,
    )
    if "Cannot find module" in run.stderr:
        pytest.skip("the package katex of Node is not there")
    return json.loads(run.stdout)


def formulas(d: hesse.Derivation) -> list[str]:
    """Every formula of a document, and the results by themselves."""
    source = d.latex()
    displayed = [rf"\begin{{aligned}}{rows}\end{{aligned}}" for rows in DISPLAYED.findall(source)]
    results = [
        d.block(*pair).latex(reading) for pair in d.blocks for reading in ("indices", "matrix")
    ]
    return [*displayed, *INLINE.findall(DISPLAYED.sub("", source)), *results]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not there")
def test_every_formula_is_read_by_katex(request: pytest.FixtureRequest) -> None:
    # A second of work: all rows take ten.
    cases = CASES if request.config.getoption("--whole") else CASES[::10]
    every = []
    for case in cases:
        d = case.derivation
        every += formulas(d)
    *bad, wrong = failed([*every, r"\frac{1}{"])
    assert not bad
    assert "Unexpected end of input" in wrong[1]
