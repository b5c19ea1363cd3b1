"""The steps of a quadratic model: closed cases, optimality, and the properties that every step
has."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import hesse
from cases import dense

Q = hesse.QuadraticModel


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(f: Callable[[Tensor], Tensor], x: Tensor | list[float], **options: bool | int) -> Q:
    x = x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64)
    return hesse.quadratic(hesse.Cost.from_function(lambda p: f(p["x"]), {"x": x}), **options)  # type: ignore


def network_cost(seed: int = 0, penalty: float | None = None) -> hesse.Cost:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return hesse.Cost(
            dense(4, 6, 3).double(),
            "cross_entropy",
            (draw(40, 4), torch.randint(3, (40,))),
            penalty=penalty,
        )


def quadratic_form(H: Tensor, g: Tensor, **options: bool | int) -> Q:
    """The model of ½ xᵀHx + gᵀx at x = 0."""
    return of(lambda x: x @ (H @ x) / 2 + g @ x, torch.zeros_like(g), **options)


STEPS: dict[str, Callable[[Q], hesse.Step]] = {
    "newton": lambda q: q.newton(3.0),
    "levenberg_marquardt": lambda q: q.levenberg_marquardt(1e3),
    "trust_region": lambda q: q.trust_region(0.3),
    "trust_region, far": lambda q: q.trust_region(30.0),
    "cubic": lambda q: q.cubic(2.0),
    "saddle_free": lambda q: q.saddle_free(0.05),
    "negative_curvature": lambda q: q.negative_curvature(0.7),
}


# ---------------------------------------------------------------- what every step has


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_says_of_itself(name: str, dense: bool) -> None:
    q = hesse.quadratic(network_cost(), dense=dense)
    step = STEPS[name](q)
    assert step.method == name.split(",")[0]
    assert step.vector.shape == (51,) and step.vector.dtype == torch.float64
    assert step.predicted > 0
    assert step.predicted == pytest.approx(q.value - float(q(step)), rel=1e-9)
    after = hesse.value(q.cost.at(step.parameters()))
    assert step.actual() == pytest.approx(q.value - after, rel=1e-12) and step.cost == after
    assert torch.allclose(q.layout.flatten(step.parameters()), q.cost.theta + step.vector)
    assert float(q.gradient @ step.vector) <= 0
    assert str(step).startswith(
        f"{step.method}: ‖s‖ = {step.norm:.4g}, predicted decrease {step.predicted:.4g}, actual "
    )
    assert str(step).endswith(step.reason) and ("products" in step.reason) == (not dense)


@pytest.mark.parametrize("name", [name for name in STEPS if name != "levenberg_marquardt"])
def test_rotations_of_parameter_space_change_nothing(name: str) -> None:
    c = network_cost()
    theta = c.theta
    R = torch.linalg.qr(draw(51, 51))[0]
    (batch,) = c.batches()
    turned = of(lambda x: c.batch_cost(c.layout.unflatten(R @ x), batch), R.T @ theta)
    here, there = STEPS[name](hesse.quadratic(c)), STEPS[name](turned)
    for attribute in ("predicted", "multiplier", "norm", "cost"):
        assert getattr(there, attribute) == pytest.approx(
            getattr(here, attribute), rel=1e-7, abs=1e-12
        )
    assert torch.allclose(R @ there.vector, here.vector, atol=1e-8)
    assert turned.stationary_point().negative == hesse.quadratic(c).stationary_point().negative


def test_scales_of_single_parameters_change_nothing_for_levenberg_marquardt() -> None:
    H, g, scale = draw(6, 6), draw(6, seed=1), torch.logspace(-3, 3, 6, dtype=torch.float64)
    H = H @ H.T
    here = quadratic_form(H, g).levenberg_marquardt(0.1)
    there = quadratic_form(scale * H * scale.unsqueeze(1), scale * g).levenberg_marquardt(0.1)
    assert torch.allclose(scale * there.vector, here.vector, rtol=1e-9)
    expected = -torch.linalg.solve(H + 0.1 * H.diagonal().diag(), g)
    assert torch.allclose(here.vector, expected, rtol=1e-10) and here.multiplier == 0.1


@pytest.mark.parametrize("dense", [True, False])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 6), st.floats(1e-3, 1e3))
def test_predicted_decrease_is_never_negative(
    dense: bool, seed: int, size: int, rank: int, bound: float
) -> None:
    """Also where H is singular, zero, negative, and g has no part where it is lowest."""
    random = np.random.default_rng(seed)
    values = np.where(np.arange(size) < rank, random.normal(size=size), 0.0)
    vectors = np.linalg.qr(random.normal(size=(size, size)))[0]
    H = torch.tensor((vectors * values) @ vectors.T)
    g = torch.tensor(vectors @ (random.normal(size=size) * random.integers(0, 2, size)))
    q = quadratic_form((H + H.T) / 2, g, dense=dense)
    for step in (
        q.trust_region(bound),
        q.cubic(bound),
        q.newton(10 * bound + 10),
        q.saddle_free(bound),
    ):
        assert step.predicted >= 0 and bool(step.vector.isfinite().all())
        assert step.predicted == pytest.approx(step.actual(), rel=1e-6, abs=1e-9 * (1 + bound**2))
        assert step.multiplier >= -1e-12


@pytest.mark.parametrize("name", STEPS)
def test_float32_is_close_to_float64(name: str) -> None:
    c = network_cost()
    (batch,) = c.batches()
    assert batch is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        narrow = hesse.Cost(dense(4, 6, 3), "cross_entropy", (batch.x.float(), batch.y))
    narrow = narrow.at(c.theta.float())
    expected, step = STEPS[name](hesse.quadratic(c)), STEPS[name](hesse.quadratic(narrow))
    assert step.vector.dtype == torch.float32
    assert step.predicted == pytest.approx(expected.predicted, rel=1e-3)


# ---------------------------------------------------------------- closed cases


@pytest.mark.parametrize("dense", [True, False])
def test_one_newton_step_ends_a_linear_least_squares(dense: bool) -> None:
    x = torch.cat([draw(30, 4), torch.ones(30, 1).double()], dim=1)
    y = draw(30, 1, seed=1)
    c = hesse.Cost(nn.Linear(4, 1).double(), "mse", (x[:, :4], y))
    step = hesse.quadratic(c, dense=dense).newton()
    solution = torch.linalg.lstsq(x, y).solution.flatten()
    assert torch.allclose(c.theta + step.vector, solution, atol=1e-7 if not dense else 1e-11)
    assert step.actual() == pytest.approx(step.predicted, rel=1e-10)
    assert float(hesse.quadratic(c.at(step.parameters())).gradient.norm()) < 1e-7


def test_newton_is_iteratively_reweighted_least_squares_for_logistic_regression() -> None:
    x, y = (
        draw(50, 3),
        torch.randint(2, (50, 1), generator=torch.Generator().manual_seed(0)).double(),
    )
    c = hesse.Cost(nn.Linear(3, 1, bias=False).double(), "bce", (x, y), penalty=0.01)
    for _ in range(8):
        w = c.theta
        p = torch.sigmoid(x @ w)
        g = x.T @ (p - y.flatten()) / 50 + 0.01 * w
        H = (x * (p * (1 - p)).unsqueeze(1)).T @ x / 50 + 0.01 * torch.eye(3)
        q = hesse.quadratic(c)
        step = q.newton()
        assert torch.allclose(step.vector, -torch.linalg.solve(H, g), atol=1e-12)
        assert str(q.stationary_point()).startswith("minimum: 3 positive directions")
        c = c.at(step.parameters())
    assert float(hesse.quadratic(c).gradient.norm()) < 1e-12


def test_rosenbrock() -> None:
    def f(x: Tensor) -> Tensor:
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    q = of(f, [0.0, 0.0])
    # H = diag(2, 200), g = (-2, 0): Newton goes to (1, 0), where the cost is 100.
    newton = q.newton()
    assert torch.allclose(newton.vector, torch.tensor([1.0, 0.0]).double())
    assert (newton.predicted, newton.actual()) == pytest.approx((1.0, -99.0))
    inside = q.trust_region(0.25)
    assert torch.allclose(inside.vector, torch.tensor([0.25, 0.0]).double())
    assert inside.multiplier == pytest.approx(6.0) and inside.actual() > 0
    end = of(f, [1.0, 1.0])
    assert end.stationary_point().kind == "minimum" and end.trust_region(1.0).norm == 0


def test_a_walk_over_rosenbrock_reaches_the_minimum() -> None:
    q, radius, steps = (
        of(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, [-1.2, 1.0]),
        1.0,
        0,
    )
    while float(q.gradient.norm()) > 1e-10 and steps < 100:
        step = q.trust_region(radius)
        ratio, steps = step.actual() / step.predicted, steps + 1
        radius = radius / 4 if ratio < 0.25 else 2 * radius if ratio > 0.75 else radius
        q = hesse.quadratic(q.cost.at(step.parameters())) if ratio > 0 else q
    assert steps < 40 and torch.allclose(q.cost.theta, torch.ones(2).double())


@pytest.mark.parametrize("dense", [True, False])
def test_a_saddle(dense: bool) -> None:
    q = of(lambda x: (x[0] ** 2 - x[1] ** 2) / 2, [1.0, 0.5], dense=dense)
    # Newton's point is the saddle itself; saddle-free Newton mirrors the part that curves down.
    assert q.stationary_point().kind == "saddle"
    assert torch.allclose(q.saddle_free().vector, torch.tensor([-1.0, 0.5]).double())
    assert q.saddle_free().reason.startswith("1 negative direction turned round")
    along = q.negative_curvature(2.0)
    assert torch.allclose(
        along.vector, torch.tensor([0.0, 2.0]).double(), atol=1e-12
    ) and along.multiplier == pytest.approx(1.0)
    assert along.predicted == pytest.approx(3.0)
    boundary = q.trust_region(3.0)
    assert boundary.norm == pytest.approx(3.0) and boundary.multiplier > 1


@pytest.mark.parametrize("step", ["trust_region", "cubic", "negative_curvature"])
def test_sizes_without_a_square_are_refused(step: str) -> None:
    q = of(lambda x: (x[0] ** 2 - x[1] ** 2) / 2, [1.0, 0.0])
    for size in (1e308, 1e200, 1e-200, 5e-324):
        with pytest.raises(hesse.HesseError, match="from 1e-150 to 1e"):
            getattr(q, step)(size)
    for size in (1e150, 1e-150):
        assert bool(getattr(q, step)(size).vector.isfinite().all())


@pytest.mark.parametrize("dense", [True, False])
def test_the_hard_case(dense: bool) -> None:
    q = of(lambda x: (x[0] ** 2 - x[1] ** 2) / 2, [1.0, 0.0], dense=dense)
    step = q.trust_region(2.0)
    assert step.reason.startswith("hard case") and step.multiplier == pytest.approx(1.0)
    assert step.vector.abs().tolist() == pytest.approx([0.5, math.sqrt(3.75)])
    assert step.predicted == pytest.approx(2.25)
    bounded = q.cubic(1.0)
    assert bounded.reason.startswith("hard case") and bounded.norm == pytest.approx(2.0)
    inside = q.trust_region(0.1)
    assert inside.reason.startswith("on the boundary") and torch.allclose(
        inside.vector, torch.tensor([-0.1, 0.0]).double()
    )


@pytest.mark.parametrize("dense", [True, False])
def test_a_flat_valley(dense: bool) -> None:
    q = of(lambda x: x.sum() ** 2, [1.0, 1.0, 1.0], dense=dense)
    for step in (q.trust_region(10.0), q.minimizer()):
        assert torch.allclose(step.vector, -torch.ones(3).double()) and "flat valley" in step.reason


def test_at_rest() -> None:
    q = of(lambda x: (x**2).sum(), [0.0, 0.0])
    for step in (q.trust_region(1.0), q.cubic(1.0), q.newton(), q.minimizer(), q.saddle_free()):
        assert (step.norm, step.predicted, step.actual()) == (0, 0, 0)
    assert "no step" in q.trust_region(1.0).reason


@pytest.mark.parametrize(("M", "seed"), list(product([0.1, 10.0], range(3))))
def test_a_cubic_step_falls_at_least_as_it_promises(M: float, seed: int) -> None:
    """Nesterov and Polyak (2006), lemma 4: the model with its cubic falls by at least M ‖s‖³ /
    12."""
    q = hesse.quadratic(network_cost(seed))
    step = q.cubic(M)
    assert step.predicted - M / 6 * step.norm**3 >= M / 12 * step.norm**3 * (1 - 1e-9)
    assert step.multiplier == pytest.approx(M * step.norm / 2)


def test_each_bound_gives_the_other() -> None:
    """A damped Newton step of some length is the trust-region step of that radius, and a cubic one
    of M = 2 λ / length."""
    q = hesse.quadratic(network_cost())
    newton = q.newton(2.0)
    region, cubic = q.trust_region(newton.norm), q.cubic(4.0 / newton.norm)
    for step in (region, cubic):
        assert torch.allclose(
            step.vector, newton.vector, atol=1e-12
        ) and step.multiplier == pytest.approx(2.0)


def test_matrix_free_steps_agree_with_dense_ones() -> None:
    c = network_cost(penalty=0.01)
    exact, free = hesse.quadratic(c, dense=True), hesse.quadratic(c, dense=False)
    for name, take in STEPS.items():
        expected, step = take(exact), take(free)
        assert step.predicted == pytest.approx(expected.predicted, rel=1e-6), name
        assert torch.allclose(step.vector, expected.vector, atol=2e-6 * expected.norm), name


def test_one_krylov_space_serves_every_step() -> None:
    q = hesse.quadratic(network_cost(), dense=False, products=12)
    assert "12 products" in q.trust_region(100.0).reason
    before = q.spaces.of_gradient
    assert "12 products" in q.cubic(1e-3).reason and q.spaces.of_gradient is before


# ---------------------------------------------------------------- the end of the cost


def test_a_step_past_the_end_of_the_cost_is_shortened_and_says_so() -> None:
    q = of(lambda x: x.log().sum(), [2.0])  # to 0 and beyond, where the logarithm has no value
    step = q.trust_region(5.0)
    assert (
        step.norm == pytest.approx(1.25)
        and math.isfinite(step.cost)
        and math.isfinite(step.actual())
    )
    assert step.reason.endswith(
        "shortened to 0.25 of its length, beyond which the cost is not finite"
    )
    assert step.predicted == pytest.approx(q.value - float(q(step)))
    overflowing = of(lambda x: x.exp().sum() + (x**2).sum() * 1e-300, [600.0]).negative_curvature
    with pytest.raises(hesse.HesseError, match="no direction in which it curves down"):
        overflowing(1e9)


def test_nothing_is_nan_at_the_edge_of_the_numbers() -> None:
    q = of(lambda x: (300 * x).exp().sum(), [2.0])
    for step in (q.trust_region(5.0), q.cubic(1.0), q.newton(), q.saddle_free(1.0)):
        assert bool(step.vector.isfinite().all())
        assert all(
            math.isfinite(number) for number in (step.predicted, step.actual(), step.multiplier)
        )
