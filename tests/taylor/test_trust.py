"""The order of a model's error and the radius of trust: smooth networks, kinks, exact models,
rounding."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hesse
from cases import dense


def network_cost(
    f: type[nn.Module], loss: str, seed: int, dtype: torch.dtype = torch.float64, **options: Any
) -> hesse.Cost:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, x = dense(5, 7, 6, 3, f=f).to(dtype), torch.randn(50, 5, dtype=dtype)
        y = torch.randint(3, (50,)) if loss == "cross_entropy" else torch.randn(50, 3, dtype=dtype)
        return hesse.Cost(net, loss, (x, y), **options)


def of(f: Any, x: list[float], dtype: torch.dtype = torch.float64) -> hesse.QuadraticModel:
    return hesse.quadratic(
        hesse.Cost.from_function(lambda p: f(p["x"]), {"x": torch.tensor(x, dtype=dtype)})
    )


@pytest.mark.some(of=2)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("f", [nn.Tanh, nn.Sigmoid, nn.GELU, nn.Softplus])
def test_smooth_networks_have_order_three(f: type[nn.Module], loss: str, seed: int) -> None:
    q = hesse.quadratic(network_cost(f, loss, seed))
    random = torch.randn(
        q.layout.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    for direction in (None, random):
        trust = q.trust(direction)
        assert trust.order == pytest.approx(3, abs=0.1)
        assert trust.reason.startswith("smooth, and g and H are right")


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_order_does_not_depend_on_units(scale: float) -> None:
    c = network_cost(nn.Tanh, "mse", 0)
    scaled = hesse.Cost.from_function(
        lambda p: scale * c.batch_cost(p, next(iter(c.batches()))), c.parameters
    )
    expected, trust = hesse.quadratic(c).trust(), hesse.quadratic(scaled).trust()
    assert trust.order == pytest.approx(3, abs=0.1)
    assert trust.radius == pytest.approx(expected.radius, rel=0.02)


def test_a_large_constant_is_only_rounding() -> None:
    c = network_cost(nn.Tanh, "mse", 0)
    lifted = hesse.Cost.from_function(
        lambda p: 1e6 + c.batch_cost(p, next(iter(c.batches()))), c.parameters
    )
    assert hesse.quadratic(lifted).trust().order == pytest.approx(3, abs=0.1)


def test_close_to_a_stationary_point() -> None:
    c = network_cost(nn.Tanh, "cross_entropy", 0, penalty=0.05)
    q, radius = hesse.quadratic(c), 1.0
    while float(q.gradient.norm()) > 1e-8:
        step = q.trust_region(radius)
        q, radius = (
            (hesse.quadratic(c.at(step.parameters())), 2 * radius)
            if step.actual() > 0
            else (q, radius / 2)
        )
    trust = q.trust()
    assert trust.order == pytest.approx(3, abs=0.1) and 0 < trust.radius < 100


KINKS = [
    ("|x| at 0", lambda x: x.abs().sum(), [0.0, 0.0], 1),
    ("|x| at 0, downhill", lambda x: x.abs().sum() + x.sum(), [0.0, 0.0], 1),
    ("ReLU at 0 where g is zero", lambda x: x.relu().sum(), [0.0, 1.0], 1),
    ("squared ReLU at 0", lambda x: x.relu().square().sum() + 0.1 * x.sum(), [0.0, 1.0], 2),
    ("Huber's bend", lambda x: torch.nn.functional.huber_loss(x, 0 * x), [1.0], 2),
]


@pytest.mark.parametrize(
    ("f", "x", "order"), [row[1:] for row in KINKS], ids=[row[0] for row in KINKS]
)
def test_kinks_have_order_one_or_two_and_it_is_said(f: Any, x: list[float], order: int) -> None:
    for dtype in (torch.float64, torch.float32):
        trust = of(f, x, dtype).trust()
        assert trust.order == pytest.approx(order, abs=0.1)
        assert (
            "the slope of the cost changes" if order == 1 else "the curvature of the cost changes"
        ) in trust.reason
        assert "kink" in trust.reason


def test_where_no_step_is_short_enough_there_is_no_radius() -> None:
    trust = of(lambda x: x.abs().sum(), [0.0, 0.0]).trust()
    assert trust.radius == 0
    assert str(trust).endswith(
        "no trust: the error is over 0.1 of the change, however short the step"
    )


def test_a_network_at_a_kink() -> None:
    c = network_cost(nn.ReLU, "mse", 0)
    dead = {
        **c.parameters,
        "0.bias": 0 * c.parameters["0.bias"],
        "0.weight": 0 * c.parameters["0.weight"],
    }
    trust = hesse.quadratic(c.at(dead)).trust()
    assert (
        trust.order == pytest.approx(1, abs=0.1)
        and "a kink, which g does not describe" in trust.reason
    )


def test_kinks_on_the_way_are_not_held_against_it() -> None:
    orders = [
        hesse.quadratic(network_cost(nn.ReLU, "mse", seed)).trust(-torch.ones(111).double())
        for seed in range(4)
    ]
    assert all(
        trust.order == pytest.approx(3, abs=0.1) or "kink" in trust.reason for trust in orders
    )


def test_a_wrong_gradient_has_order_one_and_a_wrong_hessian_two() -> None:
    def steep(x: Tensor) -> Tensor:  # the value of exp, and 1.01 times its slope
        return (1.01 * x.exp() - 0.01 * x.exp().detach()).sum()

    assert of(steep, [0.3, 0.7]).trust().order == pytest.approx(1, abs=0.1)

    def frozen(
        x: Tensor,
    ) -> (
        Tensor
    ):  # the derivative of x² with a factor held fixed is right at first order, half at second
        return (2 * x * x.detach() - x.detach() ** 2).sum() + x.exp().sum()

    assert of(frozen, [0.3, 0.7]).trust().order == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_exact_model_has_no_order_and_no_end(dtype: torch.dtype) -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    c = hesse.Cost.from_function(
        lambda p: ((x @ p["w"] - 1) ** 2).mean(), {"w": torch.ones(4, dtype=dtype)}
    )
    trust = hesse.quadratic(c).trust()
    assert (trust.order, trust.radius) == (math.inf, math.inf)
    assert trust.reason.startswith("no error stands clear of rounding: the model is exact")
    assert str(trust).endswith(
        "no end to the trust: the error is under 0.1 of the change as far as was looked"
    )


def test_a_vanishing_third_derivative_has_order_four() -> None:
    trust = of(lambda x: torch.cos(x).sum(), [0.0]).trust()
    assert trust.order == pytest.approx(4, abs=0.1) and "third derivative vanishes" in trust.reason


def test_the_radius_is_where_the_error_reaches_the_tolerance() -> None:
    # exp at 0: |error| = e^-t - 1 + t - t²/2 in size, against t + t²/2.
    trust = of(lambda x: x.exp().sum(), [0.0]).trust(tolerance=0.05)
    t = trust.radius
    assert abs(math.exp(-t) - 1 + t - t * t / 2) / (t + t * t / 2) == pytest.approx(0.05, rel=0.05)
    for tolerance in (0.01, 0.3):
        q = hesse.quadratic(network_cost(nn.Tanh, "mse", 1))
        trust = q.trust(tolerance=tolerance)
        s = trust.radius * trust.direction
        slope, bend = float(q.gradient @ s), float(s @ (q.hessian @ s))
        assert abs(float(q.error(s))) == pytest.approx(
            tolerance * (abs(slope) + abs(bend) / 2), rel=0.1
        )


def test_the_table_is_what_the_model_says() -> None:
    q = hesse.quadratic(network_cost(nn.GELU, "cross_entropy", 0))
    trust = q.trust()
    S = torch.outer(trust.direction, torch.tensor(trust.norms))
    assert np.all(np.diff(trust.norms) > 0) and float(trust.direction.norm()) == pytest.approx(1)
    assert np.allclose(trust.model, q(S).numpy(), rtol=1e-14)
    assert np.allclose(trust.true, [q.true(s) for s in S.T], rtol=1e-14)
    assert np.allclose(trust.error, q.error(S).numpy(), rtol=1e-3, atol=trust.rounding)
    text = str(trust)
    assert (
        text.count("\n") == len(trust.norms) + 2
        and "error of order 3: smooth" in text
        and "rounding" in text
    )
    assert text.endswith(
        f"radius {trust.radius:.4g}, within which the error is under 0.1 of the change"
    )


def test_any_form_of_direction_and_any_length() -> None:
    q = hesse.quadratic(network_cost(nn.Tanh, "mse", 0))
    step = q.trust_region(0.1)
    found = [
        q.trust(direction)
        for direction in (step, step.vector, 1e30 * step.vector, q.layout.unflatten(step.vector))
    ]
    assert len({round(trust.radius, 9) for trust in found}) == 1
    assert all("along the direction given" in trust.reason for trust in found)


def test_a_cost_that_ends_is_infinite_there_and_never_nan() -> None:
    trust = of(
        lambda x: -x.log().sum() + 3 * x.sum(), [1.0]
    ).trust()  # downhill is to the left, where the logarithm ends
    assert not np.isnan(np.concatenate([trust.true, trust.error, trust.model])).any()
    assert (
        np.isinf(trust.true).any()
        and trust.order == pytest.approx(3, abs=0.1)
        and 0 < trust.radius < 1
    )


def test_matrix_free_says_the_same() -> None:
    c = network_cost(nn.Tanh, "cross_entropy", 2)
    dense, free = hesse.quadratic(c, dense=True).trust(), hesse.quadratic(c, dense=False).trust()
    assert free.order == pytest.approx(dense.order, abs=0.01) and free.radius == pytest.approx(
        dense.radius, rel=1e-6
    )


def few(f: type[nn.Module], seed: int) -> hesse.Cost:
    """Of so few samples that errors clear of rounding lie far out in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = 3 + seed % 5
        net = dense(4, width, *(width,) * (f is nn.Tanh), 2, f=f)
        return hesse.Cost(net, "mse", (torch.randn(16, 4), torch.randn(16, 2)))


def test_float32_networks_are_not_accused() -> None:
    for seed in range(4):
        trust = hesse.quadratic(network_cost(nn.Tanh, "cross_entropy", seed, torch.float32)).trust()
        assert "kink" not in trust.reason and trust.order == pytest.approx(3, abs=0.5)
    # Whose errors far out follow no power.
    for seed in (2, 11):
        trust = hesse.quadratic(few(nn.Tanh, seed)).trust()
        assert "kink" not in trust.reason, trust.reason


def test_float32_networks_with_kinks_are() -> None:
    for seed in range(3):
        trust = hesse.quadratic(few(nn.ReLU, seed)).trust()
        assert "kink" in trust.reason, trust.reason
