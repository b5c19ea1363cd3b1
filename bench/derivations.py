"""How long a derivation takes, every line certified. ``python -m bench.derivations``.

Beside the derivations that are named here, the slowest row of the tests' table of expressions, of
which each has to take a second at most.
"""

import sys
import time
from dataclasses import replace
from functools import reduce
from pathlib import Path
from statistics import median

import hesse
from bench import report

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from derivation.expressions import CASES, Case

REPEATS = 5
ROW_BOUND = 1.0
HEADER = ["derivation", "lines", "largest deviation", "best", "median", "target"]
LOGISTIC = "-sum(y*log(sigmoid(X @ w)) + (1 - y)*log(1 - sigmoid(X @ w)))"
CROSS_ENTROPY = "-sum(y*log(softmax(z)))"
FACTORS = "sum((Omega*(T - U @ V.T))**2)"


def deep(name: str, layers: int) -> Case:
    """½ Σ (y − tanh(W_L tanh(… W_1 x)))²."""
    names = [f"W{layer}" for layer in range(1, layers + 1)]
    inner = reduce(lambda inner, W: f"tanh({W} @ {inner})", names, "x")
    return Case(name, f"1/2*sum((y - {inner})**2)", " ".join(names))


# What is derived, and the target in seconds.
LINES: list[tuple[Case, float]] = [
    (Case("two-layer network", "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1 W2"), 1),
    (deep("three layers, written out", 3), 3),
    (deep("four layers", 4), 3),
    (deep("sixteen layers, stage by stage", 16), 5),
    (Case("xᵀAx", "x.T @ A @ x", "x"), 2),
    (Case("least squares", "1/2*sum((y - X @ w)**2)", "w"), 2),
    (Case("logistic regression", LOGISTIC, "w"), 2),
    (Case("cross entropy in the logits", CROSS_ENTROPY, "z", given=("sum(y) == 1",)), 2),
    (Case("matrix factorisation", FACTORS, "U V", given=("Omega == 1",)), 2),
    (Case("logsumexp", "logsumexp(A @ x)", "x"), 2),
    (Case("logdet", "logdet(X)", "X"), 2),
    (Case("linear two-layer network", "1/2*sum((y - W2 @ W1 @ x)**2)", "W1 W2"), 2),
    (Case("output block, samples", "1/2*sum((Y - f(X @ W1.T) @ W2.T)**2)", "W1 W2"), 2),
]


def timed(case: Case) -> tuple[float, hesse.Derivation]:
    """The seconds of one derivation, and what it gives."""
    begin = time.perf_counter()
    d = hesse.derive(case.text, wrt=case.parameters, shapes=case.shapes, given=case.given)
    return time.perf_counter() - begin, d


def slowest() -> Case:
    """The row of the table of expressions that takes longest, what happens once aside."""
    row = max(CASES, key=lambda case: min(timed(case)[0] for _ in range(2)))
    return replace(row, name=f"slowest of {len(CASES)} expressions: {row.name}")


def main() -> None:
    """Measure, print and record."""
    hesse.derive("x @ x", wrt="x")  # what is imported at the first call
    rows, measurements = [], []
    for case, bound in [*LINES, (slowest(), ROW_BOUND)]:
        runs = [timed(case) for _ in range(REPEATS)]
        seconds, certificate = [taken for taken, _ in runs], runs[-1][1].certificate
        assert certificate is not None
        verdict = report.target(median(seconds), bound, report.seconds(bound), least=False)
        times = [report.seconds(f(seconds)) for f in (min, median)]
        rows.append(
            [case.name, f"{certificate.lines}", f"{certificate.deviation:.0e}", *times, verdict]
        )
        measurements.append({"name": case.name, "seconds": seconds, "lines": certificate.lines})
    result = report.Report(
        name="derivations",
        title="Deriving, every line certified",
        header=HEADER,
        rows=rows,
        notes=[
            f"One process, {REPEATS} times each after a first derivation; targets are for the"
            " median."
        ],
        measurements=measurements,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
