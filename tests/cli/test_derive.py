"""`hesse derive`: each way of asking, each thing that comes out, and what is refused before
anything is written."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hesse
from derivation.show.tex import check
from hesse.cli.app import main
from hesse.cli.derive import Printed, derivation_of, pair_of
from hesse.cli.inputs.cost import build_cost
from hesse.derivation.code.module import module

TWO_LAYERS = "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"
MODEL = ["model.py:net", "--data", "data.npz", "--loss", "mse"]


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert main(["derive", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says instead; nothing else is printed."""
    assert main(["derive", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("hesse: ")
    return captured.err.removeprefix("hesse: ").rstrip("\n")


# ---------------------------------------------------------------- ways of asking


def test_an_expression(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, TWO_LAYERS, "--wrt", "W1,W2", "--shapes", "W1[h,d] W2[m,h]")
    assert found == hesse.derive(TWO_LAYERS, "W1 W2", shapes="W1[h,d] W2[m,h]").text() + "\n"
    assert max(map(len, found.splitlines())) <= 100


def test_what_is_known_of_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    expression = ["-sum(y*log(softmax(z)))", "--wrt", "z", "--block", "z,z"]
    assert "    diag(p) − p pᵀ" in asked(capsys, *expression, "--given", "sum(y) == 1")
    assert "(1ᵀ y) (diag(p) − p pᵀ)" in asked(capsys, *expression)
    both = asked(
        capsys,
        "sum(a*b*x**2)",
        "--wrt",
        "x",
        "--given",
        "a == 2",
        "--given",
        "b == 3",
        "--block",
        "x,x",
    )
    assert "12 [" in both


def test_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        asked(capsys, "--network", "2-3-1")
        == hesse.derive(hesse.Network("2-3-1", "sigmoid")).text() + "\n"
    )
    other = hesse.Network("2-3-1", "tanh", "cross_entropy", bias=False)
    options = [
        "--activation",
        "tanh",
        "--loss",
        "cross_entropy",
        "--no-bias",
        "--stagewise",
        "--wrt",
        "W1",
    ]
    assert (
        asked(capsys, "--network", "2-3-1", *options)
        == hesse.derive(other, "W1", stagewise=True).text() + "\n"
    )


def test_a_model_with_its_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, *MODEL, "--block", "0.weight,2.weight")
    cost = build_cost("model.py:net", "data.npz", "mse", params=None, penalty=None, dtype=None)
    assert found == hesse.derive(cost).block("0.weight", "2.weight").text() + "\n"
    some = asked(capsys, *MODEL, "--wrt", "2.weight,2.bias")
    assert "∂²J/∂2.weight∂2.bias" in some and "∂0.weight" not in some
    assert "own parameters at 2 of its samples" in " ".join(some.split())


# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize("reading", ["indices", "matrix", "scalar"])
def test_readings(reading: str, capsys: pytest.CaptureFixture[str]) -> None:
    d = hesse.derive("x @ A @ x", "x")
    assert asked(capsys, "x @ A @ x", "--wrt", "x", "--reading", reading) == d.text(reading) + "\n"
    block = ["--block", "x,x", "--reading", reading]
    assert (
        asked(capsys, "x @ A @ x", "--wrt", "x", *block) == d.block("x", "x").text(reading) + "\n"
    )


def test_latex_of_all_and_of_one_block(capsys: pytest.CaptureFixture[str]) -> None:
    whole = asked(capsys, TWO_LAYERS, "--wrt", "W1,W2", "--latex")
    one = asked(capsys, TWO_LAYERS, "--wrt", "W1,W2", "--latex", "--block", "W1, W2")
    for found in (whole, one):
        check(found)
    assert len(one) < len(whole)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_python_is_a_module_with_a_function_for_each_block(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = asked(
        capsys,
        "sum(exp(A @ x))",
        "--wrt",
        "A,x",
        "--python",
        *(["--backend", backend] * (backend != "numpy")),
    )
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert names == ["hessian_A_A", "hessian_A_x", "hessian_x_x"]
    assert source.count(f"import {backend}") == 1
    space: dict[str, Any] = {}
    exec(source, space)
    A, x = np.array([[1.0, 2.0], [0.0, 1.0], [0.5, 0.5]]), np.array([0.1, -0.2])
    if backend == "numpy":
        assert np.allclose(space["hessian_x_x"](A, x), A.T @ np.diag(np.exp(A @ x)) @ A)
    only = asked(
        capsys,
        "sum(exp(A @ x))",
        "--wrt",
        "A,x",
        "--python",
        "--backend",
        backend,
        "--block",
        "x,A",
    )
    assert "def hessian_x_A(" in only and only.count("def ") == 1 and "∂²J/∂x" in only


def test_names_that_are_alike_as_identifiers_stay_apart() -> None:
    d = hesse.derive("sum((a_b + a)**2) + b**2", ["a", "b", "a_b"], shapes="a[] b[] a_b[]")
    source = module([d.block("a", "b"), d.block("a_b", "a_b"), d.block("a", "a")], "numpy")
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert len(set(names)) == 3


def test_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    path = tmp_path / "page.html"
    assert (
        asked(capsys, TWO_LAYERS, "--wrt", "W1,W2", "--html", str(path)).replace("\n", "")
        == f"wrote {path}"
    )
    whole = path.read_text(encoding="utf-8")
    asked(capsys, TWO_LAYERS, "--wrt", "W1,W2", "--html", str(path), "--block", "W2,W2")
    one = path.read_text(encoding="utf-8")
    assert whole.startswith("<!") and one.startswith("<!") and len(one) < len(whole)
    assert [child.name for child in tmp_path.iterdir()] == ["page.html"], (
        "nothing half-written is left"
    )


def test_lines_that_are_left_unchecked(capsys: pytest.CaptureFixture[str]) -> None:
    # An array of twenty axes has a block that is too large to be checked.
    shapes = f"x[{','.join('2' * 20)}]"
    large = ("sum(x**2)", "--wrt", "x", "--shapes", shapes)
    assert "certify=False" in refused(capsys, *large)
    found = asked(capsys, *large, "--no-certify")
    assert found == hesse.derive("sum(x**2)", "x", shapes=shapes, certify=False).text() + "\n"
    document = json.loads(asked(capsys, *large, "--no-certify", "--json"))
    assert document["certificate"] is None


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "give one of an expression, file.py:name, and --network, such as --network 2-3-1"),
        (("x @ x", "--network", "2-3-1"), "give one of an expression, file.py:name, and --network"),
        (
            ("x @ A @ x",),
            "--wrt: an expression needs the names of its parameters, such as --wrt W1,W2",
        ),
        (("x @ x", "--wrt", ""), "wrt is empty"),
        (
            ("sum(x", "--wrt", "x"),
            "the expression cannot be read: '(' was never closed\n    sum(x\n       ^",
        ),
        (("sum(sigmod(x))", "--wrt", "x"), "did you mean 'sigmoid'?"),
        (("__import__('os')", "--wrt", "x"), "__import__"),
        (("x @ x", "--wrt", "x", "--data", "d.npz"), "--data is for a model, file.py:name"),
        (
            ("x @ x", "--wrt", "x", "--loss", "mse"),
            "--loss is for --network or a model: an expression has its loss in it",
        ),
        (("x @ x", "--wrt", "x", "--activation", "tanh"), "--activation is for --network"),
        (("x @ x", "--wrt", "x", "--no-bias"), "--no-bias is for --network"),
        (
            ("--network", "2-3-1", "--shapes", "x[d]"),
            "--shapes is for an expression: a network or a model knows its own",
        ),
        (("--network", "2-3-1", "--given", "x == 1"), "--given is for an expression"),
        (("--network", "2-3-1", "--data", "d.npz"), "--data is for a model"),
        (("--network", "2-3-1", "--activation", "sigmod"), "did you mean 'sigmoid'?"),
        (("--network", "2-3-1", "--loss", "l2"), "loss: no loss is named 'l2'"),
        (
            ("--network", "2-3-1", "--wrt", "W3"),
            "wrt: there is no parameter 'W3'; the nearest: 'W2', 'W1'",
        ),
        (
            ("model.py", "--data", "data.npz", "--loss", "mse"),
            "'model.py' is a file; name the model in it, such as model.py:net",
        ),
        (
            ("model.py:net", "--loss", "mse"),
            "--data: a derivation of a model is certified on its own data and loss; name both",
        ),
        (
            ("model.py:net", "--data", "data.npz"),
            "--loss: a derivation of a model is certified on its own data",
        ),
        (
            ("model.py:nat", "--data", "data.npz", "--loss", "mse"),
            "has no 'nat'; the nearest names in it: 'net'",
        ),
        ((*MODEL, "--no-bias"), "--no-bias is for --network"),
        (
            (*MODEL, "--wrt", "0.wieght"),
            "wrt: there is no parameter '0.wieght'; the nearest: '0.weight'",
        ),
        (
            ("x @ x", "--wrt", "x", "--block", "x"),
            "--block: expected two names, such as W1,W2, got 'x'",
        ),
        (
            ("x @ x", "--wrt", "x", "--block", "x,y"),
            "block: 'y' is not a parameter of this derivation; the nearest: 'x'",
        ),
        (("x @ x", "--wrt", "x", "--latex", "--python"), "--latex and --python: give one of them"),
        (
            ("x @ x", "--wrt", "x", "--latex", "--reading", "matrix"),
            "--reading is for text; leave it out beside --latex",
        ),
        (
            ("1e308*10*sum(x**2)", "--wrt", "x", "--no-certify", "--python"),
            "python: a number in the formula is beyond the range of float64",
        ),
        (("x @ x", "--wrt", "x", "--backend", "torch"), "--backend is for --python"),
        (("x @ x", "--wrt", "x", "--html", "page.htm"), "--html: 'page.htm' should end with .html"),
        (
            ("x @ x", "--wrt", "x", "--html", "nowhere/page.html"),
            "--html: there is no folder 'nowhere'",
        ),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...], text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    assert text in refused(capsys, *arguments)
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before


def test_a_refused_output_is_found_before_any_derivation(tmp_path: Path) -> None:
    with pytest.raises(
        hesse.HesseError,
        match="--html and --latex: give one of them, or call hesse derive once for each",
    ):
        Printed(html=tmp_path / "page.html", latex=True)


def test_a_model_with_an_operation_without_a_formula_has_no_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n    "
        "    super().__init__()\n        self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 2)\n\n  "
        "  def forward(self, x):\n        return self.out(torch.cumprod(torch.tanh(self.fc(x)) + 2,"
        " -1))\n\nnet = Net()\n"
    )
    options = ["own.py:net", "--data", "data.npz", "--loss", "mse", "--block", "fc.bias,out.bias"]
    assert "cumprod" in asked(capsys, *options)
    assert "python: cumprod has no formula" in refused(capsys, *options, "--python")


def test_pairs() -> None:
    assert pair_of(" W1 , W2") == ("W1", "W2")
    d = derivation_of(
        "x @ x",
        wrt="x",
        shapes=None,
        given=None,
        network=None,
        activation=None,
        loss=None,
        no_bias=False,
        data=None,
        target=None,
        start=None,
        stagewise=False,
        certify=True,
    )
    assert Printed(("x", "x")).of(d) == d.block("x", "x").text()


# ---------------------------------------------------------------- first derivatives, vectors


def test_a_gradient(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asking = ["1/2*sum((y - X@w)**2)", "--wrt", "w", "--gradient", "w"]
    assert "−Xᵀ r" in asked(capsys, *asking)
    assert r"\sum" in asked(capsys, *asking, "--latex")
    for backend in ("numpy", "torch", "jax"):
        code = asked(capsys, *asking, "--python", "--backend", backend)
        assert "def gradient_w(y, X, w):" in code and backend in code
    page = tmp_path / "gradient.html"
    assert str(page) in asked(capsys, *asking, "--html", str(page))
    assert "<title>The first derivative of J</title>" in page.read_text("utf-8")
    said = refused(capsys, *asking, "--block", "w,w")
    assert said.startswith("--block and --gradient: give one of them")


def test_a_product(capsys: pytest.CaptureFixture[str]) -> None:
    asking = ["1/2*sum((y - X@w)**2)", "--wrt", "w", "--product", "w"]
    assert "XᵀX v" in asked(capsys, *asking)
    assert "def hessian_product_w(" in asked(capsys, *asking, "--python")
    assert json.loads(asked(capsys, *asking, "--json"))["product"]["parameter"] == "w"


def test_convexity(capsys: pytest.CaptureFixture[str]) -> None:
    asking = ["sum((A - u@v.T)**2)", "--wrt", "u,v", "--convexity"]
    assert asked(capsys, *asking).splitlines()[0].startswith("convex in u: positive semidefinite")
    document = json.loads(asked(capsys, "x**3 - x", "--wrt", "x", "--convexity", "--json"))
    (said,) = document["convexity"]
    assert said["verdict"] == "neither" and said["curvature"] < 0 and said["point"]
    assert refused(capsys, *asking, "--latex").startswith("--convexity is a verdict in words")


def test_a_vector_gives_its_jacobian(capsys: pytest.CaptureFixture[str]) -> None:
    assert "First derivatives: ∂f/∂W" in asked(capsys, "W @ x", "--wrt", "W")
    assert "def jacobian_f_W(x, W):" in asked(capsys, "W @ x", "--wrt", "W", "--python")
