"""`hesse minimize`, as a user gives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hesse
from hesse.cli.app import main
from hesse.cli.inputs.cost import build_cost

QUESTION = [
    "model.py:net",
    "--data",
    "data.npz",
    "--loss",
    "mse",
    "--penalty",
    "0.1",
    "--dtype",
    "float64",
]


def cost() -> hesse.Cost:
    return build_cost("model.py:net", "data.npz", "mse", params=None, penalty=0.1, dtype="float64")


def test_it_minimises_tells_and_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimize", *QUESTION, "--out", "net.safetensors"]) == 0
    printed = capsys.readouterr().out
    expected = hesse.minimize(cost())
    assert f"trust-exact, {expected.nit} iterations in" in printed
    assert (
        f"cost {hesse.value(cost()):.9g} -> {expected.fun:.9g}, ‖g‖∞" in printed
        and "smallest eigenvalue" in printed
    )
    assert "converged: ‖g‖∞ = " in printed and "wrote net.safetensors" in printed
    found = load_file("net.safetensors")
    assert all(torch.allclose(found[name], value) for name, value in expected.parameters.items())
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("method", ["trust-krylov", "Newton-CG"])
def test_a_later_run_goes_on(folder: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    arguments = ["minimize", *QUESTION, "--method", method]
    assert main([*arguments, "--maxiter", "2", "--out", "half.safetensors"]) == 0
    assert "not converged: stopped by maxiter after 2 iterations" in capsys.readouterr().out
    with safe_open("half.safetensors", framework="pt") as file:
        radius = file.metadata().get("radius")
    assert (radius is None) is (method == "Newton-CG")
    assert main([*arguments, "--start", "half.safetensors", "--out", "half.safetensors"]) == 0
    printed = capsys.readouterr().out
    assert "\nconverged" in printed and "<= " in printed, (
        "products bound the smallest eigenvalue from above"
    )
    assert hesse.value(cost().at(load_file("half.safetensors"))) == pytest.approx(
        hesse.minimize(cost()).fun, rel=1e-6
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--start", "none.safetensors"], "--start: there is no file 'none.safetensors'"),
        (["--start", "model.py"], "--start: 'model.py' cannot be read as tensors"),
        (
            ["--start", "other.safetensors"],
            "--start: 'other.safetensors' has 'v', which the model has not",
        ),
        (["--out", "net.pt"], "--out: 'net.pt' should end with .safetensors"),
        (["--tolerance", "-1"], "tolerance: expected a finite number >= 0"),
        (["--radius", "0"], "radius: expected a finite number > 0"),
    ],
)
def test_bad_input_is_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    save_file({"v": torch.zeros(2)}, "other.safetensors")
    assert main(["minimize", *QUESTION, *options]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("hesse: ") and text in printed.err and printed.out == ""


SLOW = """
import time
import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()

def slow(prediction, target):
    time.sleep(0.02)
    return ((prediction - target) ** 4).mean()
"""


# A job in the background of a shell that is no terminal ignores Ctrl-C, and so do its children,
# these tests among them.
HEARING = """
import runpy, signal

signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("hesse", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing there")
def test_ctrl_c_leaves_the_best_point_and_says_so(folder: Path) -> None:
    """By a signal to a process of its own, as a terminal sends it."""
    (folder / "slow.py").write_text(SLOW)
    asked = ["slow.py:net", "--data", "data.npz", "--loss", "slow.py:slow", "--dtype", "float64"]
    options = ["--method", "trust-ncg", "--tolerance", "0", "--out", "best.safetensors"]
    command = [sys.executable, "-c", HEARING, "minimize", *asked, *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        # As soon as there is something to leave.
        best, end = Path("best.safetensors"), time.monotonic() + 120
        while not best.exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "hesse: interrupted after " in said and "Traceback" not in said
    assert "--start best.safetensors goes on from them" in said
    slow = build_cost("slow.py:net", "data.npz", "slow.py:slow", params=None, dtype="float64")
    assert hesse.value(slow.at(load_file(best))) < hesse.value(slow)
