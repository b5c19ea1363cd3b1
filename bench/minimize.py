"""Minimising a network's cost by second-order steps: hesse beside pytorch-minimize and SciPy. Agreement first, then time.

``python -m bench.minimize [--quick] [--limit SECONDS]``. All start at the same weights and stop at the same ‖g‖∞; what has not
got there within the limit is stopped, and the table says so. ``--quick`` gives each peer a minute and compares costs after as
many iterations, under a heading of its own. With a limit of one's own the table is printed and nothing is recorded.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import digits

WIDTHS = (64, 32, 10)
PENALTY = 1e-3
TOLERANCE = 1e-6
LIMIT, QUICK = 1200.0, 60.0
# However short the limit: fewer tell nothing of the time of one.
LEAST_ITERATIONS = 3
MOST_ITERATIONS = 500
AGREEMENT = 1e-10
FASTER = 20
# Ends of the same minimum differ by less.
SAME_COST = 1e-6


class Stopped(Exception):
    """The run has what was wanted, or has had its time; pytorch-minimize knows no other way to be stopped."""


@dataclass
class Run:
    """What one minimiser did. The gradient that the stopping rule looks at is not on its clock."""

    seconds: float = 0.0
    iterations: int = 0
    costs: list[float] = field(default_factory=list)
    gradient: float = float("nan")
    end: str = ""

    @property
    def cost(self) -> float:
        """After the last iteration."""
        return self.after(self.iterations)

    def after(self, iterations: int) -> float:
        """The cost after so many iterations, or at the end of fewer; ``costs`` has one for each."""
        return self.costs[min(iterations, len(self.costs)) - 1] if self.costs and iterations else float("nan")

    @property
    def each(self) -> float:
        """Seconds per iteration."""
        return self.seconds / max(1, self.iterations)


@dataclass
class Problem:
    """The mean cross entropy of a tanh network on the digits with a penalty, in float64, from Glorot's weights."""

    net: nn.Sequential
    x: Tensor
    y: Tensor
    cost: hesse.Cost = field(init=False)

    def __post_init__(self) -> None:
        self.cost = hesse.Cost(self.net, "cross_entropy", (self.x, self.y), penalty=PENALTY)

    @staticmethod
    def build() -> "Problem":
        """The same in every run."""
        x, y = digits()
        generator = torch.Generator().manual_seed(0)
        layers = [nn.utils.skip_init(nn.Linear, n, m, dtype=torch.float64) for n, m in pairwise(WIDTHS)]
        net = nn.Sequential(layers[0], nn.Tanh(), layers[1])
        for p in net.parameters():
            nn.init.xavier_uniform_(p, generator=generator) if p.ndim == 2 else nn.init.zeros_(p)
        return Problem(net, x.double(), y)

    def J(self, theta: Tensor) -> Tensor:
        """The cost as a function of the flat vector, in torch alone."""
        values = self.cost.layout.unflatten(theta)
        return F.cross_entropy(torch.func.functional_call(self.net, values, (self.x,)), self.y) + PENALTY / 2 * theta @ theta


def peer(run: Callable[[Problem, Callable[[Tensor], None]], None]) -> Callable[[Problem, float], Run]:
    """A minimiser that is watched from outside: after every iteration the stopping rule, off its clock."""

    def watched(problem: Problem, limit: float) -> Run:
        result = Run()
        begin = time.perf_counter()
        aside = 0.0

        def after(theta: Tensor) -> None:
            nonlocal aside
            now = time.perf_counter()
            slopes, value = torch.func.grad_and_value(problem.J)(theta)
            result.iterations, result.seconds = result.iterations + 1, now - begin - aside
            result.costs.append(float(value))
            result.gradient = float(slopes.abs().max())
            aside += time.perf_counter() - now
            if result.gradient <= TOLERANCE:
                result.end = "reached"
            elif (result.seconds > limit and result.iterations >= LEAST_ITERATIONS) or result.iterations >= MOST_ITERATIONS:
                result.end = f"stopped after {result.seconds:.0f} s"
            if result.end:
                raise Stopped

        try:
            run(problem, after)
            result.end = "ended by itself"
        except Stopped:
            pass
        return result

    return watched


def torchmin(method: str) -> Callable[[Problem, float], Run]:
    """pytorch-minimize, which takes H by P double-backward products under vmap."""

    @peer
    def run(problem: Problem, after: Callable[[Tensor], None]) -> None:
        from torchmin import minimize

        tolerance = {"trust-exact": "gtol", "newton-exact": "xtol"}[method]
        options = {tolerance: 0.0}
        minimize(problem.J, problem.cost.theta, method, max_iter=MOST_ITERATIONS, options=options, callback=after)

    return run


@peer
def scipy(problem: Problem, after: Callable[[Tensor], None]) -> None:
    """SciPy with the gradient and Hessian of torch.func: reverse over reverse, faster here than torch.func.hessian."""
    from scipy.optimize import minimize

    slopes = torch.func.grad(problem.J)
    curvature = torch.func.jacrev(slopes)

    def given(function: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], Any]:
        return lambda x: function(torch.from_numpy(x.copy())).numpy()

    minimize(
        lambda x: float(problem.J(torch.from_numpy(x.copy()))),
        problem.cost.theta.numpy(),
        jac=given(slopes),
        hess=given(curvature),
        method="trust-exact",
        callback=lambda x: after(torch.from_numpy(x.copy())),
        options={"gtol": 0.0, "maxiter": MOST_ITERATIONS},
    )


def ours(method: str) -> Callable[[Problem, float], Run]:
    """hesse, whose stopping rule is that of this bench. It may go on where the gradient is small and H indefinite."""

    def run(problem: Problem, limit: float) -> Run:
        costs: list[float] = []
        options: dict[str, Any] = {"tolerance": TOLERANCE, "maxiter": MOST_ITERATIONS, "progress": False}
        begin = time.perf_counter()
        found = hesse.minimize(problem.cost, method, callback=lambda iterate: costs.append(iterate.value), **options)
        seconds = time.perf_counter() - begin
        end = "reached" if found.success else found.message
        return Run(seconds, found.nit, costs, float(np.abs(found.jac).max()), end)

    return run


MINIMISERS: dict[str, Callable[[Problem, float], Run]] = {
    "hesse trust-exact": ours("trust-exact"),
    "hesse cubic": ours("cubic"),
    "hesse trust-krylov": ours("trust-krylov"),
    "pytorch-minimize trust-exact": torchmin("trust-exact"),
    "pytorch-minimize newton-exact": torchmin("newton-exact"),
    "SciPy trust-exact, torch.func": scipy,
}
MAIN = "hesse trust-exact"


def check(problem: Problem) -> float:
    """The largest relative difference of cost, gradient and 8 products with H, between hesse and torch; ends the bench if any."""
    theta, cost = problem.cost.theta, problem.cost
    V = torch.randn(len(theta), 8, dtype=theta.dtype, generator=torch.Generator().manual_seed(1))
    slopes = torch.func.grad(problem.J)
    products = torch.func.vmap(lambda v: torch.func.jvp(slopes, (theta,), (v,))[1], in_dims=1, out_dims=1)(V)
    pairs = [
        (torch.tensor(hesse.value(cost), dtype=theta.dtype), problem.J(theta)),
        (cost.layout.flatten(hesse.gradient(cost)), slopes(theta)),
        (hesse.hessian(cost) @ V, products),
    ]
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    if not error <= AGREEMENT:
        raise SystemExit(f"hesse and torch differ by {error:.1e} in the cost or its derivatives; nothing is timed")
    return error


def row(name: str, run: Run, main: Run, quick: bool) -> list[str]:
    """One line of the table. A peer's cost is judged by the main run's at the end; a quick bench only shows that, as far on."""
    cells = [name, f"{run.iterations}", report.seconds(run.each), "", f"{run.gradient:.1e}", f"{run.cost:.9f}", run.end]
    if not name.startswith("hesse"):
        ratio = run.each / main.each
        cells[3] = f"{ratio:.3g}× ({report.target(ratio, FASTER, f'{FASTER}×', least=True)})"
        met = report.target(main.cost, run.cost * (1 + SAME_COST), "this", least=False)
        cells[5] += f" (hesse: {main.after(run.iterations):.9f})" if quick else f" ({met})"
    return cells


def main() -> None:
    """Check, measure, print and record."""
    parser = argparse.ArgumentParser(description="Minimising by second-order steps: hesse beside its peers.")
    parser.add_argument("--quick", action="store_true", help=f"stop each peer after {QUICK:g} s, compare costs then")
    parser.add_argument("--limit", type=float, help=f"seconds after which a peer is stopped, for {LIMIT:g}; nothing is recorded")
    arguments = parser.parse_args()
    quick = arguments.quick
    limit = arguments.limit if arguments.limit is not None else QUICK if quick else LIMIT
    problem = Problem.build()
    error = check(problem)
    runs: dict[str, Run] = {}
    for name, minimise in MINIMISERS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        runs[name] = minimise(problem, limit)
        print(" | ".join(row(name, runs[name], runs[MAIN], quick)), file=sys.stderr, flush=True)
    what, name = ("The first iterations of minimising", "minimize-quick") if quick else ("Minimising", "minimize")
    end = (
        "after as many iterations, beside hesse's trust-exact after as many. Final costs are compared without --quick."
        if quick
        else "at the end, and whether hesse's trust-exact ended no higher. There are many minima; which is found is chance."
    )
    result = report.Report(
        name=name,
        title=f"{what} the digits network ({'-'.join(map(str, WIDTHS))}, P = {problem.cost.layout.size}) "
        f"to ‖g‖∞ ≤ {TOLERANCE:g}, float64, {torch.get_num_threads()} threads",
        header=["minimiser", "iterations", "per iteration", "over hesse trust-exact", "‖g‖∞", "cost then", "end"],
        rows=[row(name, run, runs[MAIN], quick) for name, run in runs.items()],
        notes=[
            f"Tanh, mean cross entropy over 1,797 digits, penalty {PENALTY:g}, one start; refused steps count as iterations.",
            f"Cost then: {end}",
            f"hesse and torch agree in cost, gradient and Hessian at the start to {error:.0e}.",
            f"A peer that takes more than {limit:g} s is stopped, but not before {LEAST_ITERATIONS} iterations. "
            "The gradient that a peer's stopping rule needs is not on its clock.",
            "SciPy is given reverse over reverse, which is faster here than torch.func.hessian.",
        ],
        measurements={name: vars(run) for name, run in runs.items()},
    )
    print(result.markdown())
    if arguments.limit is None:
        result.save()


if __name__ == "__main__":
    main()
