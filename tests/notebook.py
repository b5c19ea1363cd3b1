"""A notebook, executed by Jupyter and looked at in a browser, on every screen: each cell shows what
its object is, and axe-core finds nothing in it. A script, for which ``pip install nbconvert
ipykernel`` is needed beside the development environment: ``python tests/notebook.py``, with the
pictures of it in a folder that ``HESSE_PICTURES`` names."""

# Jupyter is no part of the development environment.
# pyright: reportMissingImports=false

import sys
import tempfile
from pathlib import Path

from browsing import CHROMIUM, EVERY_SCREEN, accessible, chromium, kept

# One cell each, with a part of what it shows.
CELLS = {
    "import torch\nfrom torch import nn\n\nimport hesse\n\n"
    "torch.manual_seed(0)\nnet = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))\n"
    "X, y = torch.randn(60, 3), torch.randint(2, (60,))\n"
    "cost = hesse.Cost(net, 'cross_entropy', (X, y))\ncost": "Cost",
    "hesse.plan(cost)": "Plan",
    "H = hesse.hessian(cost)\nH": "BlockHessian",
    "H.certificate": "Certificate",
    "H.inertia()": "Inertia(",
    "H.plot();": "<img",
    "H.plot(by='layer');": "<img",
    "A = hesse.operator(cost)\n2 * A - A.damped(0.1)": "Sum",
    "hesse.eigenpairs(A, 3)": "Eigenpairs",
    "hesse.trace(cost)": "Estimate",
    "hesse.layers(cost)": "Layers",
    "q = hesse.quadratic(cost)\nq": "QuadraticModel",
    "q.trust()": "Trust",
    "q.trust_region(0.5)": "Step",
    "hesse.minimize(cost)": "Minimum",
    "hesse.solve(cost, hesse.gradient(cost), damping=0.1)": "Solution",
    "H.to_pandas().iloc[:4, :4]": "0.weight",
    "d = hesse.derive('1/2*sum((y - f(W2 @ f(W1 @ x)))**2)', wrt=['W1', 'W2'])\nd": "Derivation",
    "d.block('W1', 'W2')": "Formula",
    "cost.theat": "AttributeError",
    "H['0.wait', '0.bias']": "nearest",
}
# What is hesse's of the page: Jupyter writes the code and the errors, pandas its own tables.
OURS = {"include": ["[data-mime-type='text/html'] > div"], "exclude": [".dataframe"]}


def executed() -> str:
    """The notebook with all that it shows, as a page; an error ends no run."""
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    for cell, (code, shows) in zip(notebook.cells, CELLS.items(), strict=True):
        said = str(cell.outputs)
        assert shows in said.replace("image/png", "<img"), (code, said)
        assert ("'error'" in said) == (shows in ("AttributeError", "nearest")), (code, said)
    exporter = HTMLExporter(require_js_url="", mathjax_url="", embed_images=True)
    return exporter.from_notebook_node(notebook)[0]


def main() -> int:
    """Whether something failed."""
    if CHROMIUM is None:
        print("needs Chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder, "notebook.html")
        path.write_text(executed(), encoding="utf-8")
        for width, scheme in EVERY_SCREEN:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(path.as_uri())
            accessible(page, [(width, scheme)], OURS)
            kept(page, f"notebook-{width}-{scheme}", whole=True)
            page.close()
    print(f"{len(CELLS)} cells on {len(EVERY_SCREEN)} screens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
