"""A run that was stopped goes on from its file, to where it would have gone."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import hesse
from hesse.errors import HesseFileError, HesseValueError
from hesse.taylor import Iterate, checkpoint
from hesse.taylor.proposals import METHODS


def rosenbrock(p: dict[str, Tensor]) -> Tensor:
    x = p["x"]
    return (1 - x[:-1]).square().sum() + 100 * (x[1:] - x[:-1].square()).square().sum()


def convex(p: dict[str, Tensor]) -> Tensor:
    x = p["x"]
    return (x**4).sum() / 4 + x.exp().sum() + 0.3 * (x[:-1] * x[1:]).sum() + x.square().sum() / 2


def question(method: str = "") -> hesse.Cost:
    """One that takes more than nine steps; for dogleg with an H that is definite all the way."""
    if method == "dogleg":
        return hesse.Cost.from_function(convex, {"x": torch.tensor([9.0, -7, 5, 3]).double()})
    start = torch.tensor([-1.2, 1.0, 0.7, -0.5]).double()
    return hesse.Cost.from_function(rosenbrock, {"x": start})


class Stop(BaseException):
    """As Ctrl-C."""


def stopped_at(iteration: int, path: Path, method: str) -> None:
    def callback(iterate: Iterate) -> None:
        if iterate.iteration == iteration:
            raise Stop

    with pytest.raises(Stop):
        hesse.minimize(question(method), method, out=path, callback=callback, certify=False)


@pytest.mark.some(of=2)
# Newton-CG's line search is no matter of one iteration.
@pytest.mark.parametrize("method", [name for name in METHODS if name != "Newton-CG"])
@pytest.mark.parametrize("iteration", [1, 4, 9])
def test_goes_on_as_if_it_had_not_stopped(tmp_path: Path, method: str, iteration: int) -> None:
    path = tmp_path / "state.safetensors"
    stopped_at(iteration, path, method)
    whole = hesse.minimize(question(method), method, certify=False)
    rest = hesse.minimize(question(method), method, start=path, out=path, certify=False)
    assert whole.success and whole.nit >= iteration
    assert rest.nit == whole.nit and rest.status == whole.status
    assert abs(rest.x - whole.x).max() < 1e-12
    assert torch.equal(load_file(path)["x"], rest.parameters["x"])
    assert checkpoint.read(path, "start").nit == rest.nit
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_newton_cg_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    stopped_at(3, path, "Newton-CG")
    assert hesse.minimize(question(), "Newton-CG", start=str(path)).success


def test_a_full_disk_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise HesseFileError("out: no space")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    result = hesse.minimize(question(), out=tmp_path / "state.safetensors")
    assert result.success and "but it is in no file: out: no space" in result.message


def test_places_and_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(HesseValueError, match="ends with"):
        hesse.minimize(question(), out=tmp_path / "state.pt")
    with pytest.raises(HesseFileError, match="out: there is no folder"):
        hesse.minimize(question(), out=tmp_path / "none" / "state.safetensors")
    with pytest.raises(HesseFileError, match="start: there is no file"):
        hesse.minimize(question(), start=tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "text"),
    [("radius", "abc"), ("radius", "-1"), ("counts", "[]"), ("counts", '{"nit": -1}'),
     ("lowest", "%"), ("multiplier", "nan")],
)  # fmt: skip
def test_texts_that_are_not_hesses(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"x": torch.zeros(4).double()}, path, metadata={name: text})
    with pytest.raises(HesseFileError, match=f"start: the {name} in "):
        hesse.minimize(question(), start=path)


RUN = """
import sys, torch, hesse
sys.path[:0] = {paths!r}
from test_checkpoint import question
print("begins", flush=True)
while True:
    hesse.minimize(question(), "cubic", tolerance=0.0, maxiter=12, out=sys.argv[1], certify=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_run_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    script = RUN.format(paths=[str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begins\n"
    while not path.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with safe_open(path, framework="pt") as file:
        assert "radius" in file.metadata()
    assert hesse.minimize(question(), "cubic", start=path).success
