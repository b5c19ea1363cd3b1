"""The pictures of a quadratic model hold what the model and the cost say, and draw it."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.errors import HesseError, HesseImportError
from hesse.plot.section import Section, orthonormal
from hesse.plot.trajectories import METHODS, trajectory
from hesse.taylor import QuadraticModel

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")


def network(dtype: torch.dtype = torch.float64) -> hesse.Cost:
    weights = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=weights, dtype=torch.float64))
    X = torch.tensor([[3.0, 5.0], [5.0, 1.0], [10.0, 2.0]], dtype=dtype) / 10
    return hesse.Cost(
        net, "half_sse", (X, torch.tensor([[0.75], [0.82], [0.93]], dtype=dtype)), penalty=0.01
    )


def function(
    f: Callable[[Tensor], Tensor], *x: float, dtype: torch.dtype = torch.float64
) -> hesse.Cost:
    return hesse.Cost.from_function(lambda p: f(p["x"]), {"x": torch.tensor(x, dtype=dtype)})


def saddle(x: Tensor) -> Tensor:
    """A saddle at the origin, minima at (0, ±1)."""
    return x[0] ** 2 - x[1] ** 2 / 2 + x[1] ** 4 / 4


COSTS = {
    "network": network,
    "network in float32": lambda: network(torch.float32),
    "exact": lambda: function(lambda x: (x[0] - 1) ** 2 + x[1] ** 2 / 2, 3.0, 2.0),
    "saddle": lambda: function(saddle, 0.4, 0.1),
    "at rest": lambda: function(saddle, 0.0, 0.0),
    "flat": lambda: function(lambda x: 0 * x.sum() + 2, 1.0, 1.0),
    "a ramp": lambda: function(lambda x: x.sum(), 1.0, 1.0),
    "a kink": lambda: function(lambda x: x.abs().sum(), 1e-3, 0.0),
    "not finite far out": lambda: function(
        lambda x: -torch.log(1 - x).sum() + x.square().sum(), 0.5, -0.5
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_pictures_hold_what_the_model_and_the_cost_say(name: str) -> None:
    q = hesse.quadratic(COSTS[name]())
    close = 1e-12 if q.cost.dtype == torch.float64 else 1e-5
    trust = q.trust()

    line = hesse.Slice.from_model(q, points=21)
    u = trust.direction
    steps = u[:, None] * torch.from_numpy(line.distance).to(u)
    np.testing.assert_allclose(line.model, q(steps).double().numpy(), rtol=close, atol=close)
    true = np.array([q.true(step) for step in steps.T])
    np.testing.assert_array_equal(
        np.nan_to_num(line.true, nan=np.inf), np.where(np.isfinite(true), true, np.inf)
    )
    assert line.value == q.value == pytest.approx(line.true[10]) == pytest.approx(line.model[10])
    assert line.trusted == (-q.trust(-u).radius, trust.radius)

    plane = hesse.Plane.from_model(q, span=0.7, points=11)
    assert plane.true.shape == plane.model.shape == (len(plane.b), len(plane.a))
    assert plane.true[5, 5] == pytest.approx(q.value) and plane.a[0] == -0.7
    assert set(plane.paths) == set(METHODS) and all(
        (places[0] == 0).all() for places in plane.paths.values()
    )

    curve = hesse.ErrorCurve.from_trust(trust)
    kept = np.isfinite(trust.error)
    np.testing.assert_array_equal(curve.error, np.abs(trust.error[kept]))
    spectrum = hesse.Spectrum.from_hessian(q.hessian)  # pyright: ignore[reportArgumentType]
    figure, axes = pyplot.subplots(2, 2)
    for display, ax in zip((line, plane, curve, spectrum), axes.flat, strict=True):
        assert display.plot(ax) is display
        assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
    figure.canvas.draw()


def test_a_plane_of_given_directions_is_the_cost_at_each_place() -> None:
    cost = network()
    q = hesse.quadratic(cost)
    draws = torch.randn(
        2, cost.layout.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    plane = hesse.Plane.from_model(
        q, (cost.layout.unflatten(draws[0]), draws[1]), span=0.5, points=9
    )
    u = draws[0] / draws[0].norm()
    v = draws[1] - (u @ draws[1]) * u
    v = v / v.norm()
    for i, j in ((0, 0), (3, 8), (5, 1)):
        step = plane.a[j] * u + plane.b[i] * v
        assert plane.true[i, j] == pytest.approx(hesse.value(cost.at(cost.theta + step)), rel=1e-12)
        assert plane.model[i, j] == pytest.approx(float(q(step)), rel=1e-12)
    assert plane.axes == ("direction 1", "direction 2")


def test_the_default_plane_is_that_of_the_extreme_eigenvectors_or_of_newtons_step() -> None:
    q, free = hesse.quadratic(network()), hesse.quadratic(network(), dense=False)
    values = q.eigh().values
    dense = hesse.Plane.from_model(q, span=1e-3, points=3)
    h = dense.a[1] - dense.a[0]
    bend = (dense.model[1, 0] - 2 * dense.model[1, 1] + dense.model[1, 2]) / h**2
    assert bend == pytest.approx(float(values[-1]), rel=1e-3)
    assert "largest" in dense.axes[0] and "smallest" in dense.axes[1]
    steps = hesse.Plane.from_model(free, points=5)
    assert steps.axes == ("−g", "Newton's step, across −g")
    # The plane holds Newton's step, so that the first step in it is the whole one.
    newton = q.stationary_point().vector
    assert newton is not None
    assert np.linalg.norm(steps.paths["Newton"][1]) == pytest.approx(float(newton.norm()), rel=1e-6)


def test_newton_runs_to_the_saddle_and_the_others_away_from_it() -> None:
    plane = hesse.Plane.from_model(
        hesse.quadratic(function(saddle, 0.4, 0.1)), "eigenvectors", span=2.0, points=5
    )
    ends = {
        method: np.array([0.4, 0.1]) + np.array([-1, 1]) * places[-1]
        for method, places in plane.paths.items()
    }
    np.testing.assert_allclose(ends["Newton"], [0, 0], atol=1e-5)
    np.testing.assert_allclose(ends["trust region"], [0, 1], atol=1e-5)
    np.testing.assert_allclose(ends["gradient descent"], [0, 1], atol=1e-2)


@pytest.mark.parametrize("method", ["trust region", "gradient descent"])
def test_costs_never_rise_along_a_path_that_descends(method: str) -> None:
    q = hesse.quadratic(network(), dense=False)
    basis = orthonormal(q.gradient, torch.ones_like(q.gradient))
    assert basis is not None
    plane = Section(q, basis)
    costs = plane.true(trajectory(method, plane, 0.3, 1e3).T)
    assert len(costs) > 5 and (np.diff(costs) <= 0).all() and costs[-1] < costs[0]


def test_a_path_ends_where_the_cost_does() -> None:
    q = hesse.quadratic(function(lambda x: -torch.log(x).sum() + 5 * x.sum(), 1.0, 1.0))
    # Newton's first step leads to x < 0, where the logarithm is not a number.
    plane = hesse.Plane.from_model(q, span=8.0, points=9)
    assert len(plane.paths["Newton"]) == 2 and np.isfinite(plane.paths["trust region"]).all()
    assert np.isnan(plane.true).any()


def test_a_step_names_its_line() -> None:
    q = hesse.quadratic(network())
    line = hesse.Slice.from_model(q, q.trust_region(0.3), span=1.0)
    assert line.along == "trust region" and (line.distance[0], line.distance[-1]) == (-1, 1)
    step = q.trust_region(0.3)
    assert np.interp(step.norm, line.distance, line.true) == pytest.approx(step.cost, rel=1e-3)


def test_plot_draws_on_the_axes_given_and_what_it_computed() -> None:
    q = hesse.quadratic(network())
    figure, axes = pyplot.subplots(1, 3)
    line, plane = (
        hesse.Slice.from_model(q).plot(axes[0]),
        hesse.Plane.from_model(q, points=9).plot(axes[1]),
    )
    curve = hesse.ErrorCurve.from_trust(q.trust()).plot(axes[2])
    assert [display.ax for display in (line, plane, curve)] == list(axes) and line.figure is figure
    np.testing.assert_array_equal(line.artists["true"].get_ydata(), line.true)
    np.testing.assert_array_equal(line.artists["model"].get_ydata(), line.model)
    box = line.artists["trusted"]
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx(line.trusted)
    for method, places in plane.paths.items():
        np.testing.assert_array_equal(plane.artists["paths"][method].get_xydata(), places)
    assert plane.artists["circle"].radius == plane.radius
    np.testing.assert_array_equal(
        plane.artists["true"].levels[:], plane.artists["filled"].levels[1:-1]
    )
    drawn = sum(len(points.get_xdata()) for points in curve.artists["points"].values())
    assert drawn == (curve.error > 0).sum()
    norms = curve.artists["lines"]["cubic"].get_xdata()
    slope = np.polyfit(np.log(norms), np.log(curve.artists["lines"]["cubic"].get_ydata()), 1)[0]
    assert slope == pytest.approx(3) and curve.order == pytest.approx(3, abs=0.1)
    assert "3.0" in axes[2].get_title()


def test_texts_stay_inside_the_figure() -> None:
    q = hesse.quadratic(network())
    for display in (
        hesse.Slice.from_model(q),
        hesse.Plane.from_model(q, points=9),
        hesse.ErrorCurve.from_trust(q.trust()),
    ):
        figure = display.plot().figure
        assert figure is not None and display.ax is not None
        figure.canvas.draw()
        texts = [
            display.ax.title,
            display.ax.xaxis.label,
            display.ax.yaxis.label,
            display.artists["legend"],
        ]
        boxes = [text.get_window_extent() for text in texts]
        width, height = figure.bbox.size
        assert all(
            box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes
        )
        assert boxes[0].y0 >= boxes[3].y1 - 1, "the title stands above the legend"


def test_a_slice_shows_the_true_cost_where_the_model_leaves_the_picture() -> None:
    line = hesse.Slice.from_model(
        hesse.quadratic(function(lambda x: x.tanh().square().sum(), 0.1, 0.2)), span=4.0
    ).plot()
    assert line.ax is not None
    low, high = line.ax.get_ylim()
    assert low < line.true.min() and high > line.true.max() and high < line.model.max()


def test_nothing_global_changes() -> None:
    cost = network()
    before, state, theta = dict(matplotlib.rcParams), torch.get_rng_state(), cost.theta
    q = hesse.quadratic(cost)
    for display in (
        hesse.Slice.from_model(q),
        hesse.Plane.from_model(q, points=9),
        hesse.ErrorCurve.from_trust(q.trust()),
    ):
        display.plot()
    assert dict(matplotlib.rcParams) == before
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(cost.theta, theta)


def of(name: str) -> QuadraticModel:
    return hesse.quadratic(COSTS[name]())


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a short direction": (
        lambda: hesse.Slice.from_model(of("network"), torch.ones(3).double()),
        r"direction: expected shape \(13,\)",
    ),
    "a zero direction": (
        lambda: hesse.Slice.from_model(of("network"), torch.zeros(13).double()),
        "direction: expected one step",
    ),
    "a negative span": (
        lambda: hesse.Slice.from_model(of("saddle"), span=-1.0),
        "span: expected a finite number > 0, got -1",
    ),
    "no tolerance": (
        lambda: hesse.Plane.from_model(of("saddle"), tolerance=0.0),
        "tolerance: expected a finite number > 0",
    ),
    "an infinite span": (
        lambda: hesse.Plane.from_model(of("saddle"), span=np.inf),
        "span: expected a finite number > 0",
    ),
    "too few points": (
        lambda: hesse.Plane.from_model(of("saddle"), points=1),
        "points: expected a whole number >= 2, got 1",
    ),
    "no points": (
        lambda: hesse.Slice.from_model(of("saddle"), points=0),
        "points: expected a whole number >= 2, got 0",
    ),
    "an unknown plane": (
        lambda: hesse.Plane.from_model(of("saddle"), "gradients"),
        "directions: expected two directions or one of 'eigenvectors', 'newton'; got 'gradients'",
    ),
    "three directions": (
        lambda: hesse.Plane.from_model(of("saddle"), (1, 2, 3)),
        "expected two directions .* got a tuple of 3",
    ),
    "a matrix of directions": (
        lambda: inspect.unwrap(hesse.Plane.from_model)(of("saddle"), torch.eye(2).double()),
        "directions: expected two directions .* got a Tensor",
    ),
    "a cost, for a slice": (
        lambda: inspect.unwrap(hesse.Slice.from_model)(COSTS["saddle"]()),
        r"q: expected a hesse.QuadraticModel, got Cost: hesse.quadratic\(cost\)",
    ),
    "a cost, for a plane": (
        lambda: inspect.unwrap(hesse.Plane.from_model)(COSTS["saddle"]()),
        "q: expected a hesse.QuadraticModel, got Cost",
    ),
    "a model, for its error": (
        lambda: inspect.unwrap(hesse.ErrorCurve.from_trust)(of("saddle")),
        r"trust: expected a hesse.Trust, got QuadraticModel: q.trust\(\)",
    ),
    "parallel directions": (
        lambda: hesse.Plane.from_model(
            of("saddle"), (torch.ones(2).double(), -3 * torch.ones(2).double())
        ),
        "directions: they lie on one line; give two that span a plane",
    ),
    "a zero among two": (
        lambda: hesse.Plane.from_model(
            of("saddle"), (torch.ones(2).double(), torch.zeros(2).double())
        ),
        r"directions\[1\]: is zero",
    ),
    "a matrix among two": (
        lambda: hesse.Plane.from_model(
            of("saddle"), (torch.ones(2, 3).double(), torch.ones(2).double())
        ),
        r"directions\[0\]: expected one direction, got a matrix of 3",
    ),
    "one entry": (
        lambda: hesse.Plane.from_model(hesse.quadratic(function(torch.sum, 1.0))),
        "a plane needs two parameter entries, and this cost has one; draw a hesse.Slice",
    ),
    "eigenvectors without a matrix": (
        lambda: hesse.Plane.from_model(
            hesse.quadratic(function(saddle, 0.4, 0.1), dense=False), "eigenvectors"
        ),
        r"hesse.quadratic\(cost, dense=True\)",
    ),
    "a spectrum without a matrix": (
        lambda: hesse.Spectrum.from_hessian(hesse.operator(function(saddle, 0.4, 0.1))),
        "Spectrum: expected a BlockHessian, got HessianOperator",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_told(case: str) -> None:
    work, text = WRONG[case]
    with pytest.raises(HesseError, match=text):
        work()


def test_orders_are_written_as_they_are() -> None:
    curve = hesse.ErrorCurve.from_trust(of("network").trust())
    for order, words in ((np.inf, "exact to rounding near θ"), (1.98, "order 1.98")):
        display = replace(curve, order=order).plot()
        assert display.ax is not None and words in display.ax.get_title()
        assert ("cubic" in display.artists["lines"]) == np.isfinite(order)


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    q = of("saddle")
    displays = [
        hesse.Slice.from_model(q),
        hesse.Plane.from_model(q, points=9),
        hesse.ErrorCurve.from_trust(q.trust()),
    ]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for display in displays:
        with pytest.raises(HesseImportError, match=r"pip install 'hesse\[plot\]'"):
            display.plot()


def test_pictures_are_fetched_when_they_are_asked_for() -> None:
    code = (
        "import sys, hesse; early = 'hesse.plot' in sys.modules; hesse.Slice, hesse.Plane,"
        " hesse.Spectrum, hesse.ErrorCurve, hesse.HeatMap; sys.exit(early or 'matplotlib' in"
        " sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
    with pytest.raises(AttributeError, match="module 'hesse' has no attribute 'Slize'"):
        hesse.Slize  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
