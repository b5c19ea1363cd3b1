"""`minimize`: it ends where it should, goes SciPy's ways where they are SciPy's, says why it
stopped, and changes nothing."""

import copy
import inspect
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor, nn

import hesse
from hesse.errors import (
    HesseError,
    HesseKeyError,
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
)
from hesse.taylor import Iterate
from hesse.taylor.points import Evaluator, Point
from hesse.taylor.proposals import METHODS, HessianForm
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.cholesky import Ball, Bound, Cubic, Guess, ShiftedCholesky, step

Function = Callable[[dict[str, Tensor]], Tensor]
HOW = [
    (name, dense)
    for name, choice in METHODS.items()
    for dense in (True, False)
    if dense or choice.form is not HessianForm.BUILT
]


def cost_of(f: Function, *x: float, dtype: torch.dtype = torch.float64) -> hesse.Cost:
    return hesse.Cost.from_function(f, {"x": torch.tensor(x, dtype=dtype)})


def rosenbrock(p: dict[str, Tensor]) -> Tensor:
    x = p["x"]
    return (1 - x[:-1]).square().sum() + 100 * (x[1:] - x[:-1].square()).square().sum()


def saddle(p: dict[str, Tensor]) -> Tensor:
    """Saddle at 0, where the gradient is zero; minima at (0, ±1) of value −1/4."""
    x, y = p["x"]
    return x.square() / 2 + y**4 / 4 - y.square() / 2


def barrier(p: dict[str, Tensor]) -> Tensor:
    """Finite for x > 0 only, with its minimum at 1/2; from 3 a step of Newton's goes far below
    zero."""
    return (2 * p["x"] - torch.log(p["x"])).sum()


def network(seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
            )
    return model


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 3, generator=generator, dtype=torch.float64), torch.randint(
        3, (40,), generator=generator
    )


def network_cost(**options: Any) -> hesse.Cost:
    return hesse.Cost(network(), "cross_entropy", samples(), penalty=1e-2, **options)


def is_finite(result: OptimizeResult) -> bool:
    return math.isfinite(result.fun) and bool(
        np.isfinite(result.x).all() and np.isfinite(result.jac).all()
    )


# Where it ends.


@pytest.mark.parametrize(("method", "dense"), HOW)
def test_rosenbrock(method: str, dense: bool) -> None:
    result = hesse.minimize(cost_of(rosenbrock, 0.8, 0.5, 0.3), method, dense=dense, tolerance=1e-8)
    assert result.success and result.status == 0, result.message
    np.testing.assert_allclose(result.x, 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "dense"), [how for how in HOW if how[0] != "dogleg"]
)  # H is indefinite on the way
def test_network_ends_at_a_stationary_point(method: str, dense: bool) -> None:
    cost = network_cost()
    result = hesse.minimize(cost, method, dense=dense)
    assert result.success, result.message
    there = cost.at(result.parameters)
    assert max(float(part.abs().max()) for part in hesse.gradient(there).values()) <= 1e-6
    assert result.fun == pytest.approx(hesse.value(there), rel=1e-14) and result.fun < hesse.value(
        cost
    )
    assert hesse.value(result.cost) == hesse.value(there)
    assert torch.equal(cost.layout.flatten(result.parameters), torch.from_numpy(result.x))
    assert float(hesse.hessian(there).eigvalsh()[0]) > 0
    first, last = result.certificates
    assert (
        max(first.deviation, last.deviation) < 1e-9
        and first.samples == last.samples == cost.samples
    )


def test_without_certificates() -> None:
    result = hesse.minimize(network_cost(), certify=False)
    assert result.success and result.certificates == ()


def test_a_wrong_h_at_the_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters found are kept; that H cannot be believed there is in the status."""
    certified, asked = Point.certify, list[Point]()

    def certify(point: Point) -> Any:
        asked.append(point)
        if len(asked) == 2:
            raise HesseValueError("no way of computing them agrees")
        return certified(point)

    monkeypatch.setattr(Point, "certify", certify)
    result = hesse.minimize(network_cost())
    assert (
        not result.success
        and result.status == 3
        and "H there is not to be believed: no way" in result.message
    )
    assert is_finite(result) and len(result.certificates) == 1


@pytest.mark.parametrize("method", METHODS)
def test_linear_least_squares_takes_one_step(method: str) -> None:
    X, _ = samples()
    cost = hesse.Cost(nn.Linear(3, 2).double(), "half_sse", (X, X[:, :2].sin()))
    result = hesse.minimize(cost, method, radius=1e9, tolerance=1e-9)
    exact = torch.linalg.lstsq(
        torch.cat([X, torch.ones(40, 1, dtype=torch.float64)], 1), X[:, :2].sin()
    ).solution
    found = torch.cat([result.parameters["weight"], result.parameters["bias"].unsqueeze(1)], 1).T
    assert torch.allclose(found, exact, atol=1e-8)
    if METHODS[method].form is HessianForm.BUILT:
        assert result.nit == 1


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_whole_are_one_cost(method: str) -> None:
    X, y = samples()
    batches = [(X[:7], y[:7]), (X[7:30], y[7:30]), (X[30:], y[30:])]
    model = nn.Linear(3, 3).double()
    whole, cut = (
        hesse.Cost(model, "cross_entropy", data, penalty=0.1) for data in ((X, y), batches)
    )
    np.testing.assert_allclose(
        hesse.minimize(whole, method).x, hesse.minimize(cut, method).x, atol=1e-6
    )


@pytest.mark.parametrize(
    ("method", "dense", "leaves"),
    [("trust-exact", True, True), ("cubic", True, True), ("trust-krylov", False, False)],
)
def test_a_saddle_is_left_where_h_is_built(method: str, dense: bool, leaves: bool) -> None:
    result = hesse.minimize(cost_of(saddle, 0.0, 0.0), method, dense=dense)
    assert result.success
    assert result.fun == pytest.approx(-0.25 if leaves else 0.0)
    assert ("no eigenvalue below -0.001" in result.message) is leaves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "size", "trained", "least"),
    [(8, 610, 100, 0.167), pytest.param(32, 2410, 400, 0.13, marks=pytest.mark.whole)],
)
def test_digits_reach_the_tolerance(
    hidden: int, size: int, trained: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    from hesse.cli import demo

    monkeypatch.setattr(demo, "WIDTHS", (64, hidden, 10))
    X, y = demo.digits()
    # From near the minimum: from the start it takes minutes, and `bench.minimize` does that.
    model = demo.train(X, y, trained)
    cost = hesse.Cost(model, "cross_entropy", (X, y), penalty=demo.PENALTY)
    result = hesse.minimize(cost, "trust-exact")
    assert cost.layout.size == size and result.success
    assert np.abs(result.jac).max() <= 1e-6 and result.fun < least


# SciPy's methods are SciPy's.


@pytest.mark.parametrize("method", ["trust-krylov", "trust-ncg", "dogleg"])
@pytest.mark.parametrize("dense", [True, False])
def test_the_iterates_are_scipys(method: str, dense: bool) -> None:
    if METHODS[method].form is HessianForm.BUILT and not dense:
        pytest.skip("needs H")
    # After a refused step SciPy's trust-krylov goes on in the space of the refused one: the same
    # only where that is everything.
    cost = network_cost() if method == "trust-ncg" else cost_of(rosenbrock, -1.2, 1.0)

    def at(x: np.ndarray) -> hesse.Cost:
        return cost.at(torch.from_numpy(x.copy()))

    for count in (1, 4, 8):
        ours = hesse.minimize(cost, method, dense=dense, maxiter=count, tolerance=0.0)
        theirs: Any = scipy_minimize(
            lambda x: hesse.value(at(x)),
            cost.theta.numpy(),
            jac=lambda x: cost.layout.flatten(hesse.gradient(at(x))).numpy(),
            hess=lambda x: hesse.hessian(at(x)).dense().numpy(),
            method=method,
            options={"maxiter": count, "gtol": 0.0, "max_trust_radius": 1e9},
        )
        assert ours.nit == theirs.nit == count
        np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-5, atol=1e-7)


def test_newton_cg_is_scipys() -> None:
    cost = cost_of(rosenbrock, 0.8, 0.5)
    ours: list[np.ndarray] = []
    result = hesse.minimize(
        cost,
        "Newton-CG",
        callback=lambda iterate: ours.append(iterate.parameters["x"].numpy().copy()),
    )
    theirs: list[np.ndarray] = []
    from scipy.optimize import rosen, rosen_der, rosen_hess

    scipy_minimize(
        rosen,
        [0.8, 0.5],
        jac=rosen_der,
        hess=rosen_hess,
        method="Newton-CG",
        callback=lambda x: theirs.append(x.copy()),
    )
    assert len(ours) == result.nit
    np.testing.assert_allclose(ours[:10], theirs[:10], rtol=1e-6)


def test_each_theta_is_evaluated_once_and_h_once_per_point(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []

    def watched(p: dict[str, Tensor]) -> Tensor:
        return rosenbrock(p)

    cost = cost_of(watched, -1.2, 1.0)
    from hesse.taylor import points

    original = points.hessian
    monkeypatch.setattr(
        points,
        "hessian",
        lambda cost, **options: (
            seen.append(tuple(cost.theta.tolist())),
            original(cost, **options),
        )[1],
    )
    result = hesse.minimize(cost, certify=False)
    assert len(seen) == len(set(seen)) == result.nhev
    assert result.nfev == result.njev == result.nit + 1


# The steps of trust-exact and cubic.

size = st.integers(1, 7)


@settings(max_examples=60, deadline=None)
@given(
    n=size,
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    hard=st.booleans(),
    cubic=st.booleans(),
)
def test_a_factored_step_is_nearly_the_exact_one(
    n: int, seed: int, scale: float, hard: bool, cubic: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    values, along = (torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
    values = values.sort().values
    if hard:
        along[0] = 0.0
    H = (Q * values) @ Q.T
    g = Q @ along
    bound: Bound = Cubic(1 / scale) if cubic else Ball(scale)
    solve = (
        (lambda: spectral.cubic(values.numpy(), along.numpy(), 1 / scale))
        if cubic
        else (lambda: spectral.trust_region(values.numpy(), along.numpy(), scale))
    )

    def model(s: Tensor) -> float:
        return float(g @ s + s @ H @ s / 2) + bound.penalty(float(s.norm()))

    best = model(Q @ torch.from_numpy(solve().coefficients))
    for guess in (Guess(), Guess(1.0, Q[:, 0])):
        found = step(ShiftedCholesky((H + H.T) / 2), g, bound, guess)
        assert found is not None
        assert model(found.vector) <= 0.75 * best + 1e-12
        assert found.multiplier >= 0
        if not cubic:
            assert float(found.vector.norm()) <= 1.1 * scale + 1e-12


@pytest.mark.parametrize("bound", [Ball(2.0), Cubic(0.5)])
def test_a_factored_step_where_the_gradient_is_zero(bound: Bound) -> None:
    found = step(
        ShiftedCholesky(torch.diag(torch.tensor([-1.0, 2.0, 3.0]).double())),
        torch.zeros(3).double(),
        bound,
    )
    assert found is not None and abs(float(found.vector[0])) == pytest.approx(
        float(found.vector.norm()), rel=0.05
    )
    assert float(found.vector.norm()) > 1.0


def test_rounding_hands_over_to_eigenvectors(monkeypatch: pytest.MonkeyPatch) -> None:
    from hesse.taylor import proposals

    monkeypatch.setattr(proposals, "step", lambda *arguments: None)
    for method in ("trust-exact", "cubic"):
        assert hesse.minimize(cost_of(rosenbrock, -1.2, 1.0), method, dense=True).success


# What is not finite.


@pytest.mark.parametrize(("method", "dense"), HOW)
def test_a_step_to_where_the_cost_is_not_finite_is_shortened(method: str, dense: bool) -> None:
    result = hesse.minimize(cost_of(barrier, 3.0, 4.0), method, dense=dense, radius=100.0)
    assert is_finite(result)
    assert result.success, result.message
    np.testing.assert_allclose(result.x, 0.5, atol=1e-4)
    assert result.shortened > 0
    assert f"shortened {result.shortened} step" in result.message


@pytest.mark.parametrize(("method", "dense"), HOW)
@pytest.mark.parametrize(
    "f", [lambda p: -p["x"].exp().sum(), lambda p: -p["x"].sum() - p["x"].square().sum()]
)
def test_a_cost_without_a_minimum_ends_in_numbers(method: str, dense: bool, f: Function) -> None:
    result = hesse.minimize(cost_of(f, 1.0, 2.0), method, dense=dense, maxiter=12)
    assert is_finite(result) and not result.success and result.message


@pytest.mark.parametrize(
    ("method", "dense"), [how for how in HOW if how[0] in ("trust-exact", "cubic", "dogleg")]
)
def test_a_kink_is_said(method: str, dense: bool) -> None:
    cost = cost_of(lambda p: (p["x"].abs() ** 1.5).sum() + p["x"].sum(), 0.0, 0.0)
    result = hesse.minimize(cost, method, dense=dense)
    assert is_finite(result) and result.status == 3
    assert "H is not finite here" in result.message


def test_an_eigenvalue_that_is_not_there_is_said_and_never_nan() -> None:
    cost = cost_of(lambda p: (p["x"].abs() ** 1.5).sum() + p["x"].sum(), 0.0)
    for dense in (True, False):
        point = Evaluator(cost, dense, None).at(cost.theta)
        assert point is not None
        iterate = Iterate(0, None, point)
        assert iterate.lowest == "no smallest eigenvalue, for H is not finite"
        with pytest.raises(HesseValueError, match="H is not finite here"):
            _ = iterate.smallest_eigenvalue


def test_numbers_of_numpy_are_numbers() -> None:
    unwrapped: Any = inspect.unwrap(
        hesse.minimize
    )  # as a user without runtime type checks calls it
    result = unwrapped(
        network_cost(), radius=np.float32(2), maxiter=np.int64(2), tolerance=np.float32(1e-3)
    )
    assert result.nit == 2


def test_dogleg_says_that_h_is_not_definite() -> None:
    result = hesse.minimize(cost_of(saddle, 0.3, 0.1), "dogleg")
    assert not result.success and result.status == 3
    assert "not positive definite" in result.message and "trust-exact" in result.message
    assert is_finite(result)


@pytest.mark.parametrize(("method", "dense"), HOW)
def test_the_end_of_precision_is_a_reason(method: str, dense: bool) -> None:
    cost = cost_of(
        lambda p: (p["x"] - 1 / 3).square().sum() + (p["x"] ** 4).sum() + 5,
        2.0,
        1.0,
        dtype=torch.float32,
    )
    result = hesse.minimize(cost, method, dense=dense, tolerance=0.0, maxiter=200)
    assert is_finite(result) and result.nit < 200
    if not result.success:  # a gradient that is exactly zero is reached sometimes
        assert result.status == 2
        assert "as far as float32 can tell" in result.message and "float64" in result.message
    assert result.x.dtype == np.float32 and np.abs(result.jac).max() < 1e-3


# Going on, watching, applying.


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dogleg"])
def test_a_resumed_run_is_the_run(method: str) -> None:
    cost = network_cost()
    whole = hesse.minimize(cost, method, maxiter=12, tolerance=0.0)
    part = hesse.minimize(cost, method, maxiter=5, tolerance=0.0)
    assert part.status == 1 and "start=result" in part.message and part.nit == 5
    rest = hesse.minimize(cost, method, maxiter=7, tolerance=0.0, start=part)
    assert rest.nit == whole.nit == 12
    if (
        method == "Newton-CG"
    ):  # its line search begins from the cost before, which SciPy does not let us hand over
        assert rest.fun < part.fun
        return
    assert (rest.radius, rest.guess.multiplier) == (whole.radius, whole.guess.multiplier)
    np.testing.assert_array_equal(rest.x, whole.x)


def test_a_start_is_used() -> None:
    cost = cost_of(rosenbrock, -1.2, 1.0)
    at = torch.tensor([1.0, 1.0]).double()
    for start in (at, {"x": at}):
        result = hesse.minimize(cost, start=start)
        assert result.nit == 0 and result.success and result.fun == 0.0
    assert cost.theta.tolist() == [-1.2, 1.0]


def test_the_callback_sees_every_iterate_and_may_stop() -> None:
    seen: list[Iterate] = []
    result = hesse.minimize(network_cost(), callback=seen.append)
    assert [iterate.iteration for iterate in seen] == list(range(1, result.nit + 1))
    assert (seen[-1].value, seen[-1].gradient_norm) == (result.fun, np.abs(result.jac).max())
    assert all(later.value <= earlier.value for earlier, later in pairwise(seen))
    values = hesse.hessian(network_cost().at(seen[2].parameters)).eigvalsh()
    assert seen[2].smallest_eigenvalue == pytest.approx(float(values[0]), rel=1e-8)
    assert str(seen[-1]).split()[:3] == [str(result.nit), "cost", f"{result.fun:.9g}"]

    def stop(iterate: Iterate) -> bool:
        if iterate.iteration == 3:
            raise StopIteration
        return False

    for method in ("trust-exact", "trust-ncg", "Newton-CG"):
        for callback in (stop, lambda iterate: iterate.iteration == 3):
            result = hesse.minimize(network_cost(), method, callback=callback)
            assert (result.nit, result.status, result.success) == (3, 4, False)
            assert result.message == "the callback asked to stop"


def test_an_error_in_the_callback_is_the_users() -> None:
    def fail(iterate: Iterate) -> None:
        raise RuntimeError("mine")

    for method in ("trust-exact", "Newton-CG"):
        with pytest.raises(RuntimeError, match="mine"):
            hesse.minimize(network_cost(), method, callback=fail)


def test_a_ritz_value_bounds_the_smallest_eigenvalue() -> None:
    seen: list[Iterate] = []
    hesse.minimize(network_cost(), "trust-krylov", callback=seen.append, maxiter=3)
    lowest = float(hesse.hessian(network_cost().at(seen[-1].parameters)).eigvalsh()[0])
    assert lowest - 1e-10 <= seen[-1].smallest_eigenvalue <= lowest + 1e-3


def test_the_progress_line(capsys: pytest.CaptureFixture[str]) -> None:
    hesse.minimize(network_cost(), progress=True)
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("cost", "‖g‖∞", "radius", "smallest eigenvalue"))
    hesse.minimize(network_cost())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("apply", [False, True])
def test_the_model_changes_only_where_that_is_asked(apply: bool) -> None:
    model = network()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    cost = hesse.Cost(model, "cross_entropy", samples(), penalty=1e-2)
    result = hesse.minimize(cost, apply=apply)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in model.parameters()
    )
    expected = {**before, **result.parameters} if apply else before
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert torch.equal(cost.theta, torch.cat([value.reshape(-1) for value in before.values()])), (
        "a cost is a value"
    )


def test_apply_to_chosen_and_narrow_parameters() -> None:
    model = network().to(torch.bfloat16)
    frozen = model.get_parameter("0.weight").detach().clone()
    X, y = samples()
    result = hesse.minimize(
        hesse.Cost(model, "cross_entropy", (X.bfloat16(), y), params="2.*", penalty=0.1),
        apply=True,
        tolerance=1e-3,
    )
    assert torch.equal(model.get_parameter("0.weight"), frozen)
    assert torch.equal(model.get_parameter("2.weight"), result.parameters["2.weight"].bfloat16())


# Bad input.


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"method": "newton"},
            HesseValueError,
            "method: expected one of 'trust-exact', 'cubic', .* got 'newton'",
        ),
        ({"tolerance": -1.0}, HesseValueError, "tolerance: expected a finite number >= 0"),
        ({"tolerance": math.nan}, HesseValueError, "tolerance: expected a finite number >= 0"),
        ({"maxiter": 1.5}, HesseValueError, "maxiter: expected a whole number >= 0, got 1.5"),
        ({"radius": 0.0}, HesseValueError, "radius: expected a finite number > 0, got 0.0"),
        ({"radius": math.inf}, HesseValueError, "radius: expected a finite number > 0, got inf"),
        ({"dense": "yes"}, HesseTypeError, "dense: expected True, False or None"),
        (
            {"dense": False},
            HesseValueError,
            "dense: trust-exact needs H itself; method='trust-krylov'",
        ),
        ({"callback": 3}, HesseTypeError, "callback: expected a function of an Iterate, got int"),
        (
            {"start": 3},
            HesseTypeError,
            "start: expected an earlier result, its file, {name: Tensor} or a flat tensor, got int",
        ),
        (
            {"start": OptimizeResult(x=np.zeros(2))},
            HesseValueError,
            "start: expected a result of hesse.minimize",
        ),
        ({"start": {"y": torch.zeros(2)}}, HesseKeyError, "missing"),
        (
            {"start": torch.zeros(3)},
            HesseValueError,
            "a flat vector for this layout has 2 entries, got 3",
        ),
        ({"start": torch.tensor([1.0, math.nan])}, HesseValueError, "not finite"),
        (
            {"apply": True},
            HesseTypeError,
            "apply: this cost is of a function, so there is no model to change",
        ),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[HesseError], text: str) -> None:
    minimize: Any = inspect.unwrap(hesse.minimize)
    with pytest.raises(error, match=text):
        minimize(cost_of(rosenbrock, -1.2, 1.0), **options)


def test_not_a_cost() -> None:
    minimize: Any = inspect.unwrap(hesse.minimize)
    with pytest.raises(HesseTypeError, match=r"cost: expected a hesse\.Cost, got Sequential"):
        minimize(network())


def test_a_start_that_is_not_finite() -> None:
    with pytest.raises(HesseValueError, match="its value or gradient is not finite at the start"):
        hesse.minimize(cost_of(barrier, 3.0), start=torch.tensor([-1.0]).double())


def test_apply_to_a_model_that_is_gone() -> None:
    cost = network_cost()
    with pytest.raises(HesseTypeError, match="model that is gone"):
        hesse.minimize(cost, apply=True)


def test_an_h_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module("hesse.taylor.minimization")
    monkeypatch.setattr(module, "available_bytes", lambda device: 1000)
    with pytest.raises(
        HesseMemoryError,
        match=r"trust-exact builds H: with P = 38 .* method='trust-ncg' needs only products",
    ):
        hesse.minimize(network_cost())
    assert hesse.minimize(network_cost(), "cubic", maxiter=2).nhev > 2, "products, one by one"
