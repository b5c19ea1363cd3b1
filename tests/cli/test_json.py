"""Documents for machines: one on standard output, and nothing else; every field is documented."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import hesse
from hesse.cli.app import main
from hesse.cli.documents import plain
from hesse.cli.inputs.cost import build_cost

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
QUESTION = ["own.py:net", "--data", "data.npz", "--loss", "mse", "--dtype", "float64"]
OWN = """
import torch
print("I was run")
torch.manual_seed(0)
net = torch.nn.Linear(3, 2)
"""
LINES = [
    ["plan", *QUESTION],
    ["plan", *QUESTION, "--out", "new.zarr"],
    ["hessian", *QUESTION, "--out", "h.safetensors"],
    ["hessian", *QUESTION, "--out", "h.zarr"],
    ["status", "h.zarr"],
    ["quadratic", *QUESTION],
    ["minimize", *QUESTION, "--maxiter", "3", "--out", "m.safetensors"],
    ["layers", *QUESTION],
    ["spectrum", *QUESTION],
    ["graph", *QUESTION, "--figure", "g.svg"],
    ["report", *QUESTION, "--out", "r.html"],
    ["derive", "x @ A @ x", "--wrt", "x"],
    ["derive", "x @ A @ x", "--wrt", "x", "--gradient", "x", "--python"],
    ["derive", "A @ x", "--wrt", "x", "--html", "d.html"],
]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every command says, by its line."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "own.py").write_text(OWN)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        import numpy as np

        np.savez("data.npz", X=torch.randn(6, 3).numpy(), y=torch.randn(6, 2).numpy())
        for line in LINES:
            out = _Written()
            patch.setattr("sys.stdout", out)
            assert main([*line, "--json"]) == 0
            found[" ".join(line)] = json.loads(out.text, parse_constant=_refuse)
        cost = build_cost("own.py:net", "data.npz", "mse", dtype="float64")
        found["expected"] = {"norms": hesse.hessian(cost).norms, "value": hesse.value(cost)}
    return found


class _Written:
    """A standard output, and what was written to it."""

    encoding = "ascii"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_command_is_one_document(documents: dict[str, dict[str, Any]], line: list[str]) -> None:
    document = documents[" ".join(line)]
    assert document["hesse"] == hesse.__version__ and document["command"] == line[0]
    listed = set(re.findall(r"`([\w.]+)`", PAGE.read_text()))

    def unlisted(part: Any, within: str = "") -> list[str]:
        if isinstance(part, list):
            return [name for one in part for name in unlisted(one, within)]
        if not isinstance(part, dict) or within in ("parameters", "steps", "refused"):
            return []
        return [
            name
            for key, value in part.items()
            for name in [*([] if key in listed else [key]), *unlisted(value, key)]
        ]

    # Names of parameters and calls of steps are the user's, and so is what stands below them.
    assert unlisted(document) == []


def test_they_say_what_the_library_says(documents: dict[str, dict[str, Any]]) -> None:
    norms = documents["expected"]["norms"]
    blocks = documents[" ".join(LINES[2])]["hessian"]["blocks"]
    assert {(b["rows"], b["columns"]): b["norm"] for b in blocks} == norms
    assert documents[" ".join(LINES[5])]["quadratic"]["value"] == documents["expected"]["value"]
    assert documents["status h.zarr"]["status"]["finished"] is True
    steps = documents[" ".join(LINES[5])]["quadratic"]["steps"]
    assert steps["newton()"]["actual"] == pytest.approx(steps["newton()"]["predicted"])
    assert documents["derive x @ A @ x --wrt x"]["blocks"][0]["matrix"] == "A + Aᵀ"
    assert "jacobians" in documents["derive A @ x --wrt x --html d.html"]


def test_the_users_own_words_go_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.py").write_text(OWN)
    assert main(["plan", *QUESTION, "--json"]) == 0
    printed = capsys.readouterr()
    json.loads(printed.out)
    assert "I was run" in printed.err


def test_an_error_is_a_message_beside_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "model.py:nett", *QUESTION[1:], "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("hesse: MODEL: ")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_lacks_are_texts_that_python_reads(number: float) -> None:
    again = json.loads(json.dumps(plain({"a": (torch.tensor(number),)})))["a"][0]
    assert str(float(again)) == str(number)
