"""How the time of hesse.hessian grows: a curve over P and one over N, and their figure. ``python -m
bench.scaling``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import hesse
from bench import report
from bench.cases import Case, dense, gaussian
from bench.measure import product_rate, timed

FIGURE = Path(__file__).parents[1] / "docs" / "scaling.png"
WIDTHS = [4, 8, 16, 32, 64, 128, 170]
SAMPLES = [250, 500, 1000, 2000, 4000, 8000, 16000, 32000]
FIXED_WIDTH, FIXED_SAMPLES = 32, 1000
ROUNDS = 5
# The exponents that N P² gives, and what the clock may add to them.
EXPONENTS = {"P": 2.0, "N": 1.0}
SLACK = 0.15

Point = dict[str, float]


def point(width: int, samples: int) -> Point:
    """One network 64-width-10 on random data: best time, and the operations that its plan
    counts."""
    problem = Case(f"64-{width}-10", dense(64, width, 10), gaussian(samples, 64, 10)).build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    hesse.hessian(cost)
    seconds = min(timed(lambda: hesse.hessian(cost).dense())[0] for _ in range(ROUNDS))
    return {
        "P": problem.size,
        "N": samples,
        "seconds": seconds,
        "operations": float(hesse.plan(cost).operations),
    }


def exponent(points: Sequence[Point], axis: str) -> float:
    """The slope of log seconds over log P or log N, over the upper half of the curve, where fixed
    costs no longer show."""
    upper = points[len(points) // 2 :]
    slope, _ = np.polyfit(
        np.log([p[axis] for p in upper]), np.log([p["seconds"] for p in upper]), 1
    )
    return float(slope)


def draw(curves: dict[str, list[Point]], rate: float) -> Figure:
    """Time over P and over N on logarithmic axes, with the slope that N P² has and the bound of the
    matrix-product rate."""
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    titles = {
        "P": f"over P, the parameters (N = {FIXED_SAMPLES})",
        "N": f"over N, the samples (64-{FIXED_WIDTH}-10, P = {int(curves['N'][0]['P'])})",
    }
    for axes, (axis, points) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        _panel(axes, axis, points, rate)
        axes.set_title(titles[axis])
    return figure


def _panel(axes: Axes, axis: str, points: list[Point], rate: float) -> None:
    at, seconds = np.array([p[axis] for p in points]), np.array([p["seconds"] for p in points])
    reference = seconds[-1] * (at / at[-1]) ** EXPONENTS[axis]
    axes.loglog(
        at, reference, "--", color="0.55", label={"P": "slope of P²", "N": "slope of N"}[axis]
    )
    bound = [p["operations"] / rate for p in points]
    axes.loglog(at, bound, ":", color="#c44e52", label="the plan's operations at the product rate")
    axes.loglog(
        at,
        seconds,
        "o-",
        color="#2a5d9f",
        label=f"hesse.hessian (grows as {axis}^{exponent(points, axis):.2f})",
    )
    axes.set_xlabel(axis)
    axes.set_ylabel("seconds")
    axes.grid(True, which="major", color="0.9")
    axes.legend(frameon=False, fontsize=9)


def main() -> None:
    """Measure, print, record and draw."""
    curves = {
        "P": [point(width, FIXED_SAMPLES) for width in WIDTHS],
        "N": [point(FIXED_WIDTH, samples) for samples in SAMPLES],
    }
    rate = product_rate()
    rows = []
    for axis, points in curves.items():
        slope, bound = exponent(points, axis), EXPONENTS[axis] + SLACK
        verdict = f"{axis}^{slope:.2f} ({report.target(slope, bound, f'{bound:g}', least=False)})"
        for p in points:
            fraction = p["operations"] / p["seconds"] / rate
            cells = [
                f"over {axis}",
                f"{p['P']:.0f}",
                f"{p['N']:.0f}",
                report.seconds(p["seconds"]),
                f"{fraction:.0%}",
            ]
            rows.append([*cells, verdict if p is points[-1] else ""])
    measurements: dict[str, Any] = {"curves": curves, "matrix product rate": rate}
    result = report.Report(
        name="scaling",
        title=(
            f"Growth with P and N, 64-h-10, tanh, cross entropy, {torch.get_num_threads()} threads"
        ),
        header=["curve", "P", "N", "seconds", "of the rate", "upper half grows as"],
        rows=rows,
        notes=[
            (
                f"Best of {ROUNDS}. The exponent is fitted over the upper half of each curve;"
                f" {SLACK} is allowed for the clock."
            ),
            (
                f"Of the rate: the plan's operations over the seconds, beside {rate / 1e9:.0f}"
                " GFLOP/s of a float32 matrix product."
            ),
        ],
        measurements=measurements,
    )
    print(result.markdown())
    result.save()
    part = FIGURE.with_suffix(".part.png")
    draw(curves, rate).savefig(part)
    os.replace(part, FIGURE)


if __name__ == "__main__":
    main()
