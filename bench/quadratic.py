"""Steps of the quadratic model without the Hessian, in units of one gradient of the same batch.
Agreement first, then time.

``python -m bench.quadratic``. hesse's matrix-free Newton and trust-region steps from start to end
(cost, gradient, linearisation, 20 products, the step, the cost at its end) beside SciPy's conjugate
gradients and Steihaug's method on the same products.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg
from torch import Tensor

import hesse
from bench import report
from bench.cases import Case, dense, gaussian
from bench.measure import timed
from bench.operator import Setting, in_turn

PRODUCTS = 20
# λ_min is near −0.45 here, so that neither step converges before its products are used up.
DAMPING, RADIUS = 0.47, 50.0
# Relative, in float32.
TOLERANCE = 1e-3

CASE = Case("784-512-512-10", dense(784, 512, 512, 10), gaussian(512, 784, 10), {"gradient": 60})


def model(cost: hesse.Cost) -> hesse.QuadraticModel:
    """The model, anew, so that nothing is left from the last step."""
    return hesse.quadratic(cost, dense=False, products=PRODUCTS)


def damped(op: hesse.HessianOperator) -> LinearOperator:
    """H + damping I for SciPy."""
    H: Any = op.to_scipy()
    return H + np.float32(DAMPING) * aslinearoperator(
        scipy.sparse.identity(op.layout.size, dtype=H.dtype)
    )


def by_conjugate_gradients(cost: hesse.Cost) -> Tensor:
    """So many steps of SciPy's conjugate gradients on (H + damping I) s = −g."""
    g = cost.layout.flatten(hesse.gradient(cost)).numpy()
    s, _ = cg(damped(hesse.operator(cost)), -g, rtol=0.0, atol=0.0, maxiter=PRODUCTS)
    return torch.from_numpy(np.asarray(s, dtype=np.float32))


def by_steihaug(cost: hesse.Cost) -> Tensor:
    """SciPy's Steihaug step, which ends at the boundary or where it first meets negative
    curvature."""
    g = cost.layout.flatten(hesse.gradient(cost)).numpy()
    H: Any = hesse.operator(cost).to_scipy()
    value = hesse.value(cost)
    problem = CGSteihaugSubproblem(
        np.zeros_like(g), lambda x: value, lambda x: g, hessp=lambda x, v: H @ v.astype(g.dtype)
    )
    return torch.from_numpy(np.asarray(problem.solve(RADIUS)[0], dtype=np.float32))


STEPS: dict[str, tuple[Callable[[hesse.Cost], Any], Callable[[hesse.Cost], Tensor]]] = {
    "newton": (lambda cost: model(cost).newton(DAMPING), by_conjugate_gradients),
    "trust_region": (lambda cost: model(cost).trust_region(RADIUS), by_steihaug),
}


def check(name: str, cost: hesse.Cost, step: hesse.Step, peer: Tensor) -> float:
    """By what part the model, damped for newton, falls more at the peer's step: nothing, for
    hesse's is the best of its space.

    Raises:
        AssertionError: it does, or the step is not what it should be.
    """
    assert f"{PRODUCTS} products" in step.reason, step.reason
    assert name == "newton" or step.norm <= RADIUS * (1 + TOLERANCE)
    q, damping = model(cost), DAMPING if name == "newton" else 0.0
    ours, theirs = (-q.change(s) - damping / 2 * float(s.norm()) ** 2 for s in (step.vector, peer))
    assert abs(step.predicted + q.change(step.vector)) < TOLERANCE * step.predicted
    off = max(0.0, theirs / ours - 1)
    assert off < TOLERANCE, f"{name}: off by {off:.2g}"
    return off


def main() -> None:
    """Measure both steps, print the table and record it."""
    setting = Setting(CASE.build())
    problem = setting.problem
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    first, _ = timed(lambda: model(cost).newton(DAMPING))
    rows, measured = [], []
    for name, (ours, peer) in STEPS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        step = ours(cost)
        off = check(name, cost, step, peer(cost))
        ways = {"hesse": lambda ours=ours: ours(cost), "SciPy": lambda peer=peer: peer(cost)}
        rounds = in_turn({"gradient": setting.gradient, **ways})
        seconds = {way: statistics.median(taken) for way, taken in rounds.items()}
        ratios = {
            way: statistics.median(np.divide(rounds[way], rounds["gradient"])) for way in ways
        }
        bound = CASE.targets["gradient"]
        met = "met" if ratios["hesse"] <= bound else "MISSED"
        rows.append(
            [
                name,
                str(len(problem.x)),
                str(problem.size),
                report.seconds(seconds["gradient"]),
                f"{ratios['hesse']:.3g}×",
                f"{ratios['SciPy']:.3g}×",
                f"≤ {bound}×: {met}",
                f"{step.predicted:.4g}",
                f"{off:.1e}",
            ]
        )
        measured.append(
            {
                "step": name,
                "P": problem.size,
                "seconds": seconds,
                "ratios": ratios,
                "rounds": len(rounds["gradient"]),
                "off": off,
                "predicted": step.predicted,
                "first": first,
                "reason": step.reason,
            }
        )
    result = report.Report(
        name="quadratic",
        title=(
            f"A step of the quadratic model, matrix-free, {PRODUCTS} products, in gradients,"
            f" {torch.get_num_threads()} threads"
        ),
        header=["step", "samples", "P", "gradient", "hesse", "SciPy", "target", "predicted", "off"],
        rows=rows,
        notes=[
            (
                f"{CASE.name}, tanh, cross entropy, float32; medians of rounds taken in turn."
                " hesse: everything from the cost to the step, its cost included; not counted is"
                " the trace, which later steps find done (the first step took"
                f" {report.seconds(first)}, with imports)."
            ),
            (
                "SciPy, on hesse's products and their linearisation: for newton, with damping"
                f" {DAMPING}, conjugate gradients; for trust_region, with radius {RADIUS:g},"
                " Steihaug's step, which stops where it first meets negative curvature."
            ),
            (
                "Off: how much more the model falls at SciPy's step, relative; 0 where hesse's is"
                " the better one."
            ),
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
