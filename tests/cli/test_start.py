"""What one command wrote flows into the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import hesse
from hesse.cli.app import main
from hesse.cli.inputs.cost import build_cost
from hesse.cli.inputs.data import load_data
from hesse.process.files import read_tensors
from hesse.taylor.points import Evaluator

QUESTION = ["model.py:net", "--data", "data.npz", "--loss", "mse", "--dtype", "float64"]
MORE = """
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.linear.bias.requires_grad_(False)
        self.eval()
    def forward(self, x):
        return self.norm(self.linear(x))

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
    def forward(self, prediction, target):
        return self.scale * ((prediction - target) ** 2).mean()

scaled = Scaled()
small = nn.Linear(3, 2)
"""


def document(capsys: pytest.CaptureFixture[str], *line: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_minimum_flows_into_every_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "model.py").open("a") as file:
        file.write(MORE)
    question, out = ["model.py:small", *QUESTION[1:], "--penalty", "0.1"], "m.safetensors"
    found = document(capsys, "minimize", *question, "--out", out)
    started = [*question, "--start", out]
    q = document(capsys, "quadratic", *started)["quadratic"]
    assert q["value"] == found["value"] and q["gradient_norm"] < 1e-6
    assert q["stationary_point"]["kind"] == "minimum"
    cost = build_cost("model.py:small", "data.npz", "mse", penalty=0.1, dtype="float64")
    H = hesse.hessian(cost.at(read_tensors(out, "load")[0]))
    again = document(capsys, "hessian", *started)["hessian"]
    assert [block["norm"] for block in again["blocks"]] == pytest.approx(list(H.norms.values()))
    trace = document(capsys, "spectrum", *started)["trace"]["value"]
    assert trace == pytest.approx(float(H.dense().trace()))
    whole = document(capsys, "layers", *started)["whole"]["trace"]["value"]
    assert whole == pytest.approx(trace)
    assert document(capsys, "plan", *started)["plan"]["captured"]
    d = document(capsys, "derive", *question[:5], "--start", out, "--block", "bias,bias")
    assert len(d["blocks"]) == 1
    assert document(capsys, "minimize", *started)["iterations"] == found["iterations"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_state_dict_with_buffers_and_what_does_not_train(folder: Path, suffix: str) -> None:
    with (folder / "model.py").open("a") as file:
        file.write(MORE)
    torch.manual_seed(1)
    net = torch.nn.ModuleDict({"linear": torch.nn.Linear(3, 2), "norm": torch.nn.BatchNorm1d(2)})
    net["norm"](torch.randn(9, 2) * 3 + 1)  # its running mean moves
    state = net.state_dict()
    path = folder / f"m{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    cost = build_cost("model.py:Whole", "data.npz", "mse", start=path)
    net.eval()
    X, y = load_data("data.npz", torch.float32)
    expected = torch.nn.functional.mse_loss(net["norm"](net["linear"](X)), y)
    assert hesse.value(cost) == pytest.approx(expected.item(), rel=1e-6)
    assert "linear.bias" not in cost.layout.names


def test_parameters_of_a_loss(folder: Path) -> None:
    with (folder / "model.py").open("a") as file:
        file.write(MORE)
    before = build_cost("model.py:net", "data.npz", "model.py:scaled")
    moved = {name: value + 1 for name, value in before.parameters.items()}
    save_file(moved, "m.safetensors")
    cost = build_cost("model.py:make", "data.npz", "model.py:scaled", start=Path("m.safetensors"))
    assert "loss.scale" in cost.layout.names
    assert all(torch.equal(cost.parameters[name], moved[name]) for name in moved)


def _of(change: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    state = net.state_dict()
    if change == "shape":
        state["0.weight"] = torch.zeros(4, 5)
    elif change == "nan":
        state["0.bias"] = torch.full((4,), torch.nan)
    elif change == "complex":
        state["0.bias"] = torch.zeros(4, dtype=torch.complex64)
    elif change == "missing":
        del state["2.bias"]
    elif change == "unknown":
        state["2.bais"] = state.pop("2.bias")
    return dict(state)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("shape", "--start: '0.weight' has shape (4, 5), and (4, 3) in model.py:net"),
        ("complex", "--start: '0.bias' has shape (4,) and complex numbers"),
        ("nan", "0.bias"),
        ("missing", "--start: 'm.pt' lacks '2.bias', which is differentiated"),
        ("unknown", "has '2.bais', which the model has not; the nearest names in it: '2.bias'"),
        ("list", "--start: 'm.pt' holds a list, no tensors by name; save model.state_dict()"),
        ("nested", "--start: 'm.pt' holds a dict at 'state_dict', where a state_dict has tensors"),
        ("module", "--start: 'm.pt' holds other objects than tensors, and is not read"),
        ("junk", "--start: 'm.pt' cannot be read as what torch.save wrote"),
        ("none", "--start: there is no file 'm.pt'"),
    ],
)
def test_another_state_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], held: str, said: str
) -> None:
    others = {
        "list": [1],
        "nested": {"state_dict": _of("")},
        "module": torch.nn.Linear(2, 1),
    }
    if held == "junk":
        Path("m.pt").write_text("junk")
    elif held != "none":
        torch.save(others.get(held) or _of(held), "m.pt")
    for command in ("plan", "minimize"):
        assert main([command, *QUESTION, "--start", "m.pt"]) == 1
        printed = capsys.readouterr()
        assert said in printed.err and printed.out == ""


def test_python_starts_from_the_same_files(folder: Path) -> None:
    cost = build_cost("model.py:net", "data.npz", "mse", penalty=0.1, dtype="float64")
    state = {name: value + 1 for name, value in cost.parameters.items()}
    torch.save(state, "m.pt")
    result = hesse.minimize(cost, start="m.pt", maxiter=0)
    assert all(torch.equal(result.parameters[name], state[name]) for name in state)


@pytest.mark.parametrize("out", ["m.safetensors", ""])
@pytest.mark.parametrize("method", ["trust-exact", "Newton-CG"])
def test_ctrl_c_leaves_the_best_point(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    method: str,
) -> None:
    calls, at = [], Evaluator.at

    def stopped(self: Evaluator, theta: torch.Tensor) -> Any:
        calls.append(theta)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return at(self, theta)

    cost = build_cost("model.py:net", "data.npz", "mse", dtype="float64")
    line = ["minimize", *QUESTION, "--method", method]
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "at", stopped)
        assert main([*line, *(["--out", out] if out else [])]) == 130
    said = capsys.readouterr().err
    assert said.startswith("hesse: interrupted after ") and "Traceback" not in said
    assert ", at a cost of " in said
    if not out:
        assert "the parameters are lost, as no --out names a file for them" in said
        return
    assert "; the best parameters so far are in m.safetensors: --start m.safetensors" in said
    reached = hesse.value(cost.at(read_tensors(out, "load")[0]))
    assert reached < hesse.value(cost) and f"at a cost of {reached:.9g};" in said
    assert main([*line, "--start", out, "--maxiter", "0"]) == 0


def test_ctrl_c_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.py").write_text("def net(): raise KeyboardInterrupt\n")
    assert main(["plan", "own.py:net", *QUESTION[1:]]) == 130
    assert capsys.readouterr().err == "hesse: interrupted\n"
