"""`hesse quadratic`: what it prints is what the library says, and what it draws is there."""

import functools
from pathlib import Path

import pytest

import hesse
from hesse.cli.app import main
from hesse.cli.inputs.cost import build_cost
from hesse.cli.quadratic import pictures, scale_of, step_calls, steps_within

QUESTION = ["model.py:net", "--data", "data.npz", "--loss", "mse", "--dtype", "float64"]


@pytest.fixture
def q(folder: Path) -> hesse.QuadraticModel:
    return hesse.quadratic(
        build_cost("model.py:net", "data.npz", "mse", params=None, penalty=None, dtype="float64")
    )


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few points, which is enough to see that they are there."""
    for display in (hesse.Slice, hesse.Plane):
        few = functools.partial(display.from_model, points=5)
        monkeypatch.setattr(display, "from_model", staticmethod(few))


def rows(table: str) -> dict[str, list[str]]:
    """By the name of the step: its numbers."""
    return {
        line.split()[0]: line.split()[1:5]
        for line in table.splitlines()
        if ")" in line.partition(" ")[0]
    }


def test_it_prints_the_model_its_trust_and_the_steps(
    folder: Path, q: hesse.QuadraticModel, coarse: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quadratic", *QUESTION, "--figure", "q.png"]) == 0
    printed = capsys.readouterr().out
    trust = q.trust()
    head = str(q).splitlines()[0]  # the second line says how much memory is free, which changes
    for part in (
        head,
        f"stationary point: {q.stationary_point()}",
        str(trust),
        steps_within(q, trust).table(trust),
        "wrote q.png",
    ):
        assert part in printed
    assert (folder / "q.png").read_bytes().startswith(b"\x89PNG")
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")], (
        "nothing half-written is left"
    )


def test_each_line_is_the_step_that_it_names(q: hesse.QuadraticModel) -> None:
    trust = q.trust(tolerance=0.05)
    scale = scale_of(q, trust)
    along = q.trust(q.trust_region(trust.radius), 0.05)
    assert scale.radius == min(trust.radius, along.radius) and scale.damping >= 0 and scale.M > 0
    assert ("the steps here keep to it" in steps_within(q, trust).table(trust)) == (
        along.radius < trust.radius
    )
    found = rows(steps_within(q, trust).table(trust))
    step = q.trust_region(scale.radius)
    ratio = f"{step.actual() / step.predicted:.3f}"
    numbers = [f"{step.norm:.4g}", f"{step.predicted:.4g}", f"{step.actual():.4g}", ratio]
    assert found[f"trust_region(radius={scale.radius:.3g})"] == numbers
    refused = [
        line for line in steps_within(q, trust).table(trust).splitlines() if " refused: " in line
    ]
    assert len(found) == len(step_calls(scale)) and 0 < len(refused) < len(found)


def test_a_step_that_is_refused_says_why(q: hesse.QuadraticModel) -> None:
    assert q.stationary_point().negative, (
        "the network of the folder is at a place where H is indefinite"
    )
    table = steps_within(q, q.trust()).table(q.trust())
    assert "newton() refused: H is indefinite: " in table and "newton(damping=" in table


def test_an_exact_model_is_asked_for_no_cubic_step() -> None:
    import torch

    cost = hesse.Cost.from_function(
        lambda p: (p["x"] - 1).square().sum(), {"x": torch.zeros(2).double()}
    )
    q = hesse.quadratic(cost)
    trust = q.trust()
    table = steps_within(q, trust).table(trust)
    assert rows(table)["newton()"] == ["1.414", "2", "2", "1.000"]
    assert "cubic" not in table and "negative_curvature" in table and "inf" not in table


def test_without_the_matrix_there_is_no_spectrum(q: hesse.QuadraticModel, coarse: None) -> None:
    free = hesse.quadratic(q.cost, dense=False)
    trust = free.trust()
    assert len(pictures(free, trust)) == 3 and len(pictures(q, trust)) == 4
    assert "trust_region(" in steps_within(free, trust).table(trust)


def test_what_is_wrong_is_told_before_the_model_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "loud.py").write_text("print('I was run')\n")
    assert main(["quadratic", "loud.py:net", *QUESTION[1:], "--figure", "q.gif"]) == 1
    printed = capsys.readouterr()
    assert (
        "I was run" not in printed.out
        and "--figure: 'q.gif' should end with .png or .pdf or .svg" in printed.err
    )
    assert main(["quadratic", *QUESTION, "--tolerance", "0"]) == 1
    assert "tolerance: expected a finite number > 0, got 0" in capsys.readouterr().err


def test_the_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "quadratic" in capsys.readouterr().out
    main(["quadratic", "--help"])
    printed = capsys.readouterr().out
    assert "--tolerance" in printed and "--figure" in printed and "--block-diagonal" not in printed
