"""`minimize` where the cost is refused on the way: the best point so far, and why; at the start it
is an error."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import hesse
from hesse.cli.minimize import run
from hesse.cli.output import Output
from hesse.taylor.checkpoint import write


class _OnceOnly(torch.autograd.Function):
    """The identity, which cannot be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("once only")
        return grad


def valley(p: dict[str, Tensor]) -> Tensor:
    """Rosenbrock's, with second derivatives on the left only."""
    x = p["x"] if float(p["x"].detach()) < -0.5 else _OnceOnly.apply(p["x"])
    return (1 - x) ** 2 + 100 * (p["y"] - x**2) ** 2


VALLEY = {"x": torch.tensor(-1.2).double(), "y": torch.tensor(1.0).double()}


@pytest.mark.parametrize("certify", [True, False])
@pytest.mark.parametrize(
    "method", ["trust-exact", "cubic", "trust-krylov", "trust-ncg", "Newton-CG"]
)
def test_refused_on_the_way_is_a_result(method: str, certify: bool) -> None:
    cost = hesse.Cost.from_function(valley, VALLEY)
    result = hesse.minimize(cost, method, certify=certify)
    assert not result.success and result.status == 3
    assert (
        result.message.startswith("the cost is refused here")
        and result.message.count("refused") == 1
    )
    assert (
        result.nit >= 3
        and result.fun < 0.8 * hesse.value(cost)
        and result.fun == hesse.value(cost.at(result.parameters))
    )
    assert float(result.parameters["x"]) >= -0.5 and len(result.certificates) == int(certify)


def test_refused_at_the_start_is_an_error() -> None:
    for start in (0.3, 0.5):
        cost = hesse.Cost.from_function(valley, {**VALLEY, "x": torch.tensor(start).double()})
        with pytest.raises(hesse.HesseError, match="once only"):
            hesse.minimize(cost)
        with pytest.raises(hesse.HesseError):
            hesse.minimize(cost, "trust-krylov", certify=False)


def test_what_a_callback_raises_is_the_callers() -> None:
    def stop(iterate: Any) -> None:
        if iterate.iteration == 2:
            raise hesse.HesseError("mine")

    with pytest.raises(hesse.HesseError, match="mine"):
        hesse.minimize(hesse.Cost.from_function(valley, VALLEY), callback=stop)


def test_its_smallest_eigenvalue_is_refused_in_words() -> None:
    seen: list[Any] = []
    hesse.minimize(
        hesse.Cost.from_function(valley, VALLEY), callback=lambda iterate: seen.append(iterate)
    )
    assert "H is refused" in seen[-1].lowest and "smallest eigenvalue" in seen[0].lowest


def test_the_command_line_writes_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(
        hesse.Cost.from_function(valley, VALLEY),
        "trust-exact",
        None,
        Output("minimize", json=False),
    )
    write(result, tmp_path / "found.safetensors", "out")
    printed = capsys.readouterr().out
    assert "not converged: the cost is refused here" in printed and "H is refused" in printed
    found = load_file(tmp_path / "found.safetensors")
    assert all(torch.equal(found[name], value) for name, value in result.parameters.items())
