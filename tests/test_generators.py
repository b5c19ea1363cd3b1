"""A model, a loss or data that draw random numbers leave the caller's generators where they
stood."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hesse
from certificates.kinds import Formula, x
from hesse.process.generators import States
from networks import dense


def drawn(value: Any) -> Any:
    """The same, after draws that do not enter it."""
    _ = torch.rand(3), np.random.rand(2), random.random()
    return value


def seeded(value: Tensor) -> Tensor:
    """Numbers that are the same each time, by a seed that is set for all."""
    torch.manual_seed(0)
    return value + torch.randn(value.shape, dtype=value.dtype)


def of_parameters(p: dict[str, Tensor]) -> Tensor:
    return drawn(p["w"].exp().sum() ** 2)


X, Y, W = x(6, 3), x(6, 2), x(3)
NET = dense(3, 2, 2).double()
COSTS: dict[str, Callable[[], hesse.Cost]] = {
    "model": lambda: hesse.Cost(Formula(lambda m, z: drawn(m.net(z)), net=NET), "mse", (X, Y)),
    "model with a seed": lambda: hesse.Cost(
        Formula(lambda m, z: m.net(seeded(z)), net=NET), "mse", (X, Y)
    ),
    "loss": lambda: hesse.Cost(NET, lambda p, y: drawn((p - y).square().mean()), (X, Y)),
    "count": lambda: hesse.Cost(
        NET, lambda p, y: (drawn(p - y).square().sum(), drawn(len(y))), [(X, Y), (X, 2 * Y)]
    ),
    "penalty": lambda: hesse.Cost(
        NET, "mse", (X, Y), penalty=lambda p: drawn(p["0.weight"].square().sum())
    ),
    "function": lambda: hesse.Cost.from_function(of_parameters, {"w": W}),
}

WAYS: dict[str, Callable[[hesse.Cost], Any]] = {
    "value": hesse.value,
    "gradient": hesse.gradient,
    "plan": hesse.plan,
    "hessian": hesse.hessian,
    "diagonal": hesse.diagonal,
    "operator": lambda cost: hesse.operator(cost) @ cost.theta,
    "products without room": lambda cost: hesse.operator(cost, memory=0) @ cost.theta,
    "quadratic": lambda cost: hesse.quadratic(cost, dense=False).saddle_free(0.1).actual(),
    "minimize": lambda cost: hesse.minimize(cost, maxiter=2),
}


@pytest.mark.parametrize("make", COSTS.values(), ids=COSTS)
def test_generators_stay(make: Callable[[], hesse.Cost]) -> None:
    before = States.read()
    cost = make()
    assert States.read().same_as(before)
    for name, way in WAYS.items():
        way(cost)
        assert States.read().same_as(before), name


def test_what_draws_is_right_and_costs_nothing_else() -> None:
    plain = hesse.Cost(Formula(lambda m, z: m.net(z), net=NET), "mse", (X, Y))
    H = hesse.hessian(COSTS["model"]())
    assert torch.allclose(H.dense(), hesse.hessian(plain).dense())


def test_what_is_random_is_still_refused() -> None:
    for rate in (0.5, 0.01):
        model = Formula(lambda m, z, p=rate: nn.functional.dropout(m.net(z), p), net=NET)
        before = States.read()
        with pytest.raises(hesse.HesseError, match="the cost is random"):
            for _ in range(400):  # a rate of 1 % drops nothing most of the time
                hesse.Cost(model, "mse", (X, Y))
                torch.rand(1)
                before = States.read()
        assert States.read().same_as(before)


def test_errors_leave_them_too() -> None:
    def failing(p: dict[str, Tensor]) -> Tensor:
        raise RuntimeError(str(drawn("no")))

    before = States.read()
    with pytest.raises(hesse.HesseError, match="no"):
        hesse.Cost.from_function(failing, {"w": W})
    assert States.read().same_as(before)
