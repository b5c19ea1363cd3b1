"""Minimising a network's cost by second-order steps: hesse beside pytorch-minimize and SciPy.
Agreement first, then time.

``python -m bench.minimize [--limit SECONDS]``. All start at the same weights and stop at the same
‖g‖∞. A peer takes some 10 s for one H, so it is timed on its first iterations only, for so many
seconds, with the H that it makes itself. Where it ends up is found by a second run of the same
method that is given hesse's H, and whose first costs must be those of the timed one. With a limit
of one's own the table is printed and nothing is recorded.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

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
LIMIT, LIMIT_OF_THE_REST = 60.0, 900.0
# However short the limit: fewer tell nothing of the time of one.
LEAST_ITERATIONS = 3
MOST_ITERATIONS = 500
AGREEMENT = 1e-10
# Between the costs of a peer's two runs, over the cost.
SAME_PATH = 1e-8
FASTER = 20
# Ends of the same minimum differ by less.
SAME_COST = 1e-6

Curvature = Callable[[Tensor], Tensor]


class Stopped(Exception):
    """The run has what was wanted, or has had its time; pytorch-minimize knows no other way to be
    stopped."""


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
        return self.costs[-1] if self.costs else float("nan")

    @property
    def each(self) -> float:
        """Seconds per iteration."""
        return self.seconds / max(1, self.iterations)


@dataclass
class Problem:
    """The mean cross entropy of a tanh network on the digits with a penalty, in float64, from
    Glorot's weights."""

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
        layers = [
            nn.utils.skip_init(nn.Linear, n, m, dtype=torch.float64) for n, m in pairwise(WIDTHS)
        ]
        net = nn.Sequential(layers[0], nn.Tanh(), layers[1])
        for p in net.parameters():
            nn.init.xavier_uniform_(p, generator=generator) if p.ndim == 2 else nn.init.zeros_(p)
        return Problem(net, x.double(), y)

    def J(self, theta: Tensor) -> Tensor:
        """The cost as a function of the flat vector, in torch alone."""
        values = self.cost.layout.unflatten(theta)
        return (
            F.cross_entropy(torch.func.functional_call(self.net, values, (self.x,)), self.y)
            + PENALTY / 2 * theta @ theta
        )


Minimiser = Callable[[Problem, float, Curvature | None], Run]


def peer(run: Callable[[Problem, Callable[[Tensor], None], Curvature | None], None]) -> Minimiser:
    """A minimiser that is watched from outside: after every iteration the stopping rule, off its
    clock."""

    def watched(problem: Problem, limit: float, curvature: Curvature | None) -> Run:
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
            elif (
                result.seconds > limit and result.iterations >= LEAST_ITERATIONS
            ) or result.iterations >= MOST_ITERATIONS:
                result.end = f"stopped after {result.seconds:.0f} s"
            if result.end:
                raise Stopped

        try:
            run(problem, after, curvature)
            result.end = "ended by itself"
        except Stopped:
            pass
        return result

    return watched


def torchmin(method: str) -> Minimiser:
    """pytorch-minimize, which takes H by P double-backward products under vmap."""

    @peer
    def run(problem: Problem, after: Callable[[Tensor], None], curvature: Curvature | None) -> None:
        from torchmin import minimize
        from torchmin.function import ScalarFunction, sf_value

        def closure(function: Any, theta: Tensor) -> Any:
            assert curvature is not None
            slopes, value = torch.func.grad_and_value(function.fun)(theta)
            return sf_value(f=value, grad=slopes, hessp=None, hess=curvature(theta))

        tolerance = {"trust-exact": "gtol", "newton-exact": "xtol"}[method]
        options = {"max_iter": MOST_ITERATIONS, "options": {tolerance: 0.0}, "callback": after}
        with patch.object(
            ScalarFunction, "closure", closure if curvature is not None else ScalarFunction.closure
        ):
            minimize(problem.J, problem.cost.theta, method, **options)

    return run


@peer
def scipy(problem: Problem, after: Callable[[Tensor], None], curvature: Curvature | None) -> None:
    """SciPy with the gradient and Hessian of torch.func: reverse over reverse, faster here than
    torch.func.hessian."""
    from scipy.optimize import minimize

    slopes = torch.func.grad(problem.J)
    curvature = torch.func.jacrev(slopes) if curvature is None else curvature

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


def ours(method: str) -> Callable[[Problem], Run]:
    """hesse, whose stopping rule is that of this bench. It may go on where the gradient is small
    and H indefinite."""

    def run(problem: Problem) -> Run:
        costs: list[float] = []
        options: dict[str, Any] = {
            "tolerance": TOLERANCE,
            "maxiter": MOST_ITERATIONS,
            "progress": False,
        }
        begin = time.perf_counter()
        found = hesse.minimize(
            problem.cost, method, callback=lambda iterate: costs.append(iterate.value), **options
        )
        seconds = time.perf_counter() - begin
        end = "reached" if found.success else found.message
        return Run(seconds, found.nit, costs, float(np.abs(found.jac).max()), end)

    return run


OURS = {
    name: ours(name.removeprefix("hesse "))
    for name in ("hesse trust-exact", "hesse cubic", "hesse trust-krylov")
}
MAIN = "hesse trust-exact"
PEERS: dict[str, Minimiser] = {
    "pytorch-minimize trust-exact": torchmin("trust-exact"),
    "pytorch-minimize newton-exact": torchmin("newton-exact"),
    "SciPy trust-exact, torch.func": scipy,
}


def check(problem: Problem) -> float:
    """The largest relative difference of cost, gradient and 8 products with H, between hesse and
    torch; ends the bench if any."""
    theta, cost = problem.cost.theta, problem.cost
    V = torch.randn(len(theta), 8, dtype=theta.dtype, generator=torch.Generator().manual_seed(1))
    slopes = torch.func.grad(problem.J)
    products = torch.func.vmap(
        lambda v: torch.func.jvp(slopes, (theta,), (v,))[1], in_dims=1, out_dims=1
    )(V)
    pairs = [
        (torch.tensor(hesse.value(cost), dtype=theta.dtype), problem.J(theta)),
        (cost.layout.flatten(hesse.gradient(cost)), slopes(theta)),
        (hesse.hessian(cost) @ V, products),
    ]
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    if not error <= AGREEMENT:
        raise SystemExit(
            f"hesse and torch differ by {error:.1e} in the cost or its derivatives; nothing is"
            " timed"
        )
    return error


def apart(timed: Run, whole: Run) -> float:
    """How far the costs of a peer's two runs are apart, relative, over the iterations of the timed
    one."""
    both = zip(timed.costs, whole.costs, strict=False)
    return max((abs(a - b) / abs(b) for a, b in both), default=0.0)


def row(name: str, timed: Run, whole: Run, main: Run) -> list[str]:
    """One line of the table: the time of the timed run, the end of the whole one."""
    cells = [
        name,
        f"{whole.iterations}",
        report.seconds(timed.each),
        "",
        f"{whole.gradient:.1e}",
        f"{whole.cost:.9f}",
        whole.end,
    ]
    if name not in OURS:
        ratio = timed.each / main.each
        cells[2] += f" (of {timed.iterations})"
        cells[3] = f"{ratio:.3g}× ({report.target(ratio, FASTER, f'{FASTER}×', least=True)})"
        cells[5] += (
            f" ({report.target(main.cost, whole.cost * (1 + SAME_COST), 'this', least=False)})"
        )
    return cells


def main() -> None:
    """Check, measure, print and record."""
    parser = argparse.ArgumentParser(
        description="Minimising by second-order steps: hesse beside its peers."
    )
    parser.add_argument(
        "--limit",
        type=float,
        help=f"seconds for which a peer is timed, for {LIMIT:g}; nothing is recorded",
    )
    arguments = parser.parse_args()
    limit = LIMIT if arguments.limit is None else arguments.limit
    problem = Problem.build()
    error = check(problem)
    runs: dict[str, tuple[Run, Run]] = {}

    def show(name: str) -> list[str]:
        return row(name, *runs[name], runs[MAIN][1])

    for name, minimise in OURS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        runs[name] = (minimise(problem),) * 2
        print(" | ".join(show(name)), file=sys.stderr, flush=True)
    for name, minimise in PEERS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        timed = minimise(problem, limit, None)
        whole = minimise(
            problem,
            LIMIT_OF_THE_REST,
            lambda theta: hesse.hessian(problem.cost.at(theta), progress=False).dense(),
        )
        runs[name] = timed, whole
        print(" | ".join(show(name)), file=sys.stderr, flush=True)
    strays = {name: apart(*runs[name]) for name in PEERS}
    if not max(strays.values()) <= SAME_PATH:
        raise SystemExit(
            f"a peer takes another path with hesse's H than with its own ({strays}); nothing is"
            " recorded"
        )
    result = report.Report(
        name="minimize",
        title=(
            f"Minimising the digits network ({'-'.join(map(str, WIDTHS))}, P ="
            f" {problem.cost.layout.size}) to ‖g‖∞ ≤ {TOLERANCE:g}, float64,"
            f" {torch.get_num_threads()} threads"
        ),
        header=[
            "minimiser",
            "iterations",
            "per iteration",
            "over hesse trust-exact",
            "‖g‖∞",
            "final cost",
            "end",
        ],
        rows=[show(name) for name in runs],
        notes=[
            (
                f"Tanh, mean cross entropy over 1,797 digits, penalty {PENALTY:g}, one start;"
                " refused steps count as iterations."
            ),
            (
                "A peer is timed with the H that it makes itself, on its first iterations: for"
                f" {limit:g} s, and at least {LEAST_ITERATIONS} of them. The gradient that its"
                " stopping rule needs is not on its clock."
            ),
            (
                "Its iterations, final cost and end are of a run that is given hesse's H. The"
                " costs of the timed iterations are the same in both runs to"
                f" {max(strays.values()):.0e}, relative."
            ),
            (
                "Final cost: whether hesse's trust-exact ended no higher. There are many minima;"
                " which is found is chance."
            ),
            f"hesse and torch agree in cost, gradient and Hessian at the start to {error:.0e}.",
            "SciPy is given reverse over reverse, which is faster here than torch.func.hessian.",
        ],
        measurements={
            name: {"timed": vars(timed), "whole": vars(whole)}
            for name, (timed, whole) in runs.items()
        },
    )
    print(result.markdown())
    if arguments.limit is None:
        result.save()


if __name__ == "__main__":
    main()
