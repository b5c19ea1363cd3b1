"""The commands as a user gives them, in this process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import hesse
from hesse.cli.app import main
from hesse.cli.inputs.cost import build_cost

QUESTION = ["model.py:net", "--data", "data.npz", "--loss", "mse"]


def test_hessian_prints_saves_and_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "hessian",
        *QUESTION,
        "--penalty",
        "0.1",
        "--dtype",
        "float64",
        "--out",
        "h.safetensors",
        "--figure",
        "h.png",
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Cost(Sequential, mse_loss, 6 samples, penalty 0.1, P = 26)" in printed
    assert "0.weight" in printed and "wrote h.safetensors" in printed and "wrote h.png" in printed
    assert (folder / "h.png").read_bytes().startswith(b"\x89PNG")
    H = hesse.load("h.safetensors")
    assert H.dtype == torch.float64 and H.dense().shape == (26, 26)
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == [], (
        "nothing half-written is left"
    )


def test_block_diagonal_of_chosen_parameters(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "hessian",
                *QUESTION,
                "--params",
                "*.bias",
                "--block-diagonal",
                "--memory",
                "1GB",
                "--out",
                "h.safetensors",
            ]
        )
        == 0
    )
    H = hesse.load("h.safetensors")
    assert H.pairs == (("0.bias", "0.bias"), ("2.bias", "2.bias"))


def test_a_curvature(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--curvature", "gauss_newton"]
    assert main(["hessian", *QUESTION, *asked, "--out", "g.safetensors"]) == 0
    assert "the gauss_newton in" in capsys.readouterr().out
    cost = build_cost("model.py:net", "data.npz", "mse", params=None, penalty=None, dtype=None)
    G = hesse.hessian(cost, curvature="gauss_newton").dense()
    assert torch.equal(hesse.load("g.safetensors").dense(), G)
    assert torch.linalg.eigvalsh(G.double()).min() > -1e-5
    assert main(["plan", *QUESTION, *asked]) == 0 and main(["quadratic", *QUESTION, *asked]) == 0
    assert main(["minimize", *QUESTION, *asked, "--maxiter", "2"]) in (0, 1)
    capsys.readouterr()
    assert main(["hessian", *QUESTION, "--curvature", "gaus"]) == 1
    assert "did you mean 'gauss_newton'" in capsys.readouterr().err


def test_the_name_says_the_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hessian", *QUESTION, "--out", "h.npz"]) == 0
    with np.load("h.npz") as arrays:
        assert arrays["0.weight,2.bias"].shape == (4, 3, 2)
    assert main(["hessian", *QUESTION, "--out", "h.csv"]) == 0
    assert pd.read_csv("h.csv", header=[0, 1], index_col=[0, 1]).shape == (26, 26)
    capsys.readouterr()
    # Before any work: nothing is printed of a Hessian.
    assert main(["hessian", *QUESTION, "--block-diagonal", "--out", "some.csv"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "--out: a .csv file is a table of the whole" in printed.err


def test_an_older_result_is_replaced(folder: Path) -> None:
    (folder / "h.safetensors").write_text("old")
    assert main(["hessian", *QUESTION, "--out", "h.safetensors"]) == 0
    assert hesse.load("h.safetensors").layout.size == 26


def test_a_store_is_computed_gone_on_with_and_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *QUESTION, "--out", "h.zarr"]) == 0
    assert "disk  " in capsys.readouterr().out and not Path("h.zarr").exists()
    for _ in range(2):
        assert main(["hessian", *QUESTION, "--out", "h.zarr", "--memory", "1MB"]) == 0
        assert "wrote h.zarr" in capsys.readouterr().out
    assert main(["status", "h.zarr"]) == 0
    assert "(100%)" in capsys.readouterr().out
    assert hesse.load("h.zarr").certificate is not None
    assert main(["status", "nope.zarr"]) == 1
    assert "status: there is no store" in capsys.readouterr().err


def test_plan_prints_and_computes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = build_cost("model.py:net", "data.npz", "mse", params=None, penalty=None, dtype=None)
    assert main(["plan", *QUESTION, "--memory", "1GB"]) == 0
    assert (
        capsys.readouterr().out.strip()
        == str(hesse.plan(cost, block_diagonal=False, memory=10**9)).strip()
    )


def test_an_error_is_one_message_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "model.py:nett", *QUESTION[1:]]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        "hesse: MODEL: model.py has no 'nett'; the nearest names in it: 'net'"
    )
    assert "Traceback" not in printed.err


def test_a_bad_output_is_told_before_the_model_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "loud.py").write_text("print('I was run')\n")
    assert main(["hessian", "loud.py:net", *QUESTION[1:], "--out", "no/h.safetensors"]) == 1
    printed = capsys.readouterr()
    assert "I was run" not in printed.out
    assert "there is no folder 'no'" in printed.err


def test_text_from_a_model_is_not_read_as_markup(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hesse.cli.output import Output

    Output("plan", json=False).say("[bold red]a[/] :smile: [link=x]b[/link]")
    assert capsys.readouterr().out == "[bold red]a[/] :smile: [link=x]b[/link]\n"


@pytest.mark.parametrize("missing", ["--data", "--loss"])
def test_an_incomplete_command_line_exits_with_two(
    folder: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    at = QUESTION.index(missing)
    with pytest.raises(SystemExit) as caught:
        main(["hessian", *QUESTION[:at], *QUESTION[at + 2 :]])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert missing in printed.out + printed.err


def test_help_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("demo", "plan", "hessian"))
    main(["hessian", "--help"])
    printed = capsys.readouterr().out
    options = (
        "--data",
        "--loss",
        "--params",
        "--penalty",
        "--dtype",
        "--block-diagonal",
        "--memory",
        "--out",
        "--figure",
    )
    assert all(option in printed for option in options)


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("hesse.cli.commands", "hesse.cli.application"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert main(["--help"]) == 1
    assert (
        capsys.readouterr().err
        == "hesse: the command line needs cyclopts; install it with: pip install 'hesse[cli]'\n"
    )


def test_it_runs_as_a_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "hesse", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ran.stdout.strip() == hesse.__version__
