"""Parameters that do not fit, given to a cost: the error names the one, what it is and what was
expected, before PyTorch meets it. Wrong arguments of every other kind are in `arguments`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import hesse

X, Y = torch.linspace(-1, 1, 12).reshape(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
NUMBERS = "this cost computes in torch.float32, and its function failed: "


@pytest.fixture(scope="module")
def costs() -> dict[str, hesse.Cost]:
    torch.manual_seed(0)
    return {
        "module": hesse.Cost(nn.Linear(2, 2), "cross_entropy", (X, Y), penalty=0.1),
        "function": hesse.Cost(
            lambda p, x: torch.nn.functional.linear(x, p["w"], p["b"]),
            "mse",
            (X, X),
            params={"w": torch.eye(2), "b": torch.ones(2)},
        ),
        "scalar": hesse.Cost.from_function(
            lambda p: torch.mv(p["A"], p["u"]).sum(), {"A": torch.eye(2), "u": torch.ones(2)}
        ),
    }


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "another shape": (lambda t: torch.ones(7), r"has shape (7,); this cost expects (2, 2)"),
    "one axis more": (lambda t: t.unsqueeze(0), r"has shape (1, 2, 2); this cost expects (2, 2)"),
    "one that broadcasts": (lambda t: torch.ones(()), "has shape (); this cost expects (2, 2)"),
    "whole numbers": (lambda t: t.long(), f"is torch.int64; {NUMBERS}"),
    "float64": (lambda t: t.double(), f"is torch.float64; {NUMBERS}"),
    "complex": (lambda t: t.to(torch.complex64), f"is torch.complex64; {NUMBERS}"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", ["module", "function", "scalar"])
def test_one_that_does_not_fit_is_named(
    costs: dict[str, hesse.Cost], kind: str, wrong: str
) -> None:
    cost, (make, said) = costs[kind], WRONG[wrong]
    first = next(iter(cost.parameters))
    given = {**cost.parameters, first: make(cost.parameters[first])}
    batch = next(cost.batches())
    asked = [cost.total, cost.batch_cost]
    if cost.predict is not None and cost.predict_and_total is not None:
        asked += [cost.predict, cost.predict_and_total]
    for ask in asked:
        with pytest.raises(hesse.HesseError) as raised:
            ask(given, batch)  # type: ignore[arg-type]
        assert isinstance(raised.value, TypeError if NUMBERS in said else ValueError)
        assert str(raised.value).startswith(f"parameters: {first!r} {said}")


@pytest.mark.parametrize("kind", ["function", "scalar"])
def test_one_that_a_function_misses_is_named(costs: dict[str, hesse.Cost], kind: str) -> None:
    cost = costs[kind]
    first, last = cost.parameters
    with pytest.raises(KeyError, match=f"takes '{first}', '{last}', and '{last}' is not") as raised:
        cost.total({first: cost.parameters[first]}, next(cost.batches()))
    assert isinstance(raised.value, hesse.HesseError)


def test_what_a_function_raises_of_right_parameters_stays() -> None:
    def f(params: dict[str, Tensor]) -> Tensor:
        if params["u"][0] > 1:
            raise RuntimeError("mine")
        return params["u"].sum()

    cost = hesse.Cost.from_function(f, {"u": torch.ones(2)})
    with pytest.raises(RuntimeError, match=r"^mine$"):
        cost.total({"u": torch.full((2,), 2.0)}, None)


def test_parts_on_different_devices_are_refused(costs: dict[str, hesse.Cost]) -> None:
    cost = costs["module"]
    parts = {**cost.parameters, "bias": cost.parameters["bias"].to("meta")}
    for ask in (cost.at, cost.layout.flatten):
        with pytest.raises(hesse.HesseError, match="different devices, cpu, meta"):
            ask(parts)


def test_a_pair_that_is_none_is_not_held(costs: dict[str, hesse.Cost]) -> None:
    H = hesse.hessian(costs["scalar"])
    for pair in (torch.ones(2), ("u", torch.ones(2)), ["A", "u"], None):
        assert pair not in H
