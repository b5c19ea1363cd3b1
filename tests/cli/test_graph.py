"""`hesse graph`: the steps that it prints, the picture that it writes, and what it refuses."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from hesse.cli.app import main

MODEL = ["graph", "model.py:net", "--data", "data.npz", "--loss", "mse"]


def test_the_steps_are_printed_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MODEL, "--figure", "graph.svg"]) == 0
    printed = capsys.readouterr().out
    for line in ("4  Their δ, backward", "δ(0) = δa(0) ∘ tanh'(z(0))", "Hv_0.bias = dδ(0)ᵀ 1"):
        assert line in printed
    assert printed.endswith("wrote graph.svg\n")
    assert ElementTree.parse(folder / "graph.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--figure", "graph.png"], ".svg"), (["--seed", "-1"], "seed: expected a whole number")],
)
def test_what_is_refused_is_said_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main([*MODEL, *options]) == 1
    assert words in capsys.readouterr().err
    assert not (folder / "graph.png").exists()
