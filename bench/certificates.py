"""What certificates add: hesse.hessian, its block diagonal, hesse.diagonal and hesse.operator with
them and without.

``python -m bench.certificates [CASE ...]``. A run of chosen cases prints its table and records
nothing.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch

import hesse
from bench import report
from bench.cases import CASES, Case
from bench.measure import interleaved

ROUNDS = 9
# What may be added, whichever is more; and at P = 12,730.
SHARE, GRADIENTS = 0.15, 6.0
LARGE, LARGE_SHARE = 12_730, 0.05
WHAT: dict[str, Callable[[hesse.Cost, bool], Any]] = {
    "hessian": lambda cost, certify: hesse.hessian(cost, certify=certify),
    "block diagonal": lambda cost, certify: hesse.hessian(
        cost, block_diagonal=True, certify=certify
    ),
    "diagonal": lambda cost, certify: hesse.diagonal(cost, certify=certify),
    "operator": lambda cost, certify: hesse.operator(cost, certify=certify),
}


def measure(case: Case) -> dict[str, Any]:
    """Each with and without in turn, beside one gradient of the whole data; the certificates must
    say that all agrees."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    found = {name: make(cost, True).certificate for name, make in WHAT.items()}
    runs: dict[str, Callable[[], object]] = {"gradient": lambda: hesse.gradient(cost)}
    taken: dict[str, list[float]] = {name: [] for name in WHAT}

    def certified(name: str) -> None:
        taken[name].append(WHAT[name](cost, True).certificate.seconds)

    for name, make in WHAT.items():
        # Both follow the same work, so that caches and memory are as warm for one as for the other.
        runs[f"{name}, before"] = lambda make=make: make(cost, False)
        runs[f"{name}, certified"] = lambda name=name: certified(name)
        runs[name] = lambda make=make: make(cost, False)
    interleaved(runs, 1)
    seconds = interleaved(runs, ROUNDS)
    best = {name: min(times) for name, times in seconds.items()}
    added = {name: min(taken[name]) for name in WHAT}
    return {
        "case": case.name,
        "samples": len(problem.x),
        "P": problem.size,
        "best": best,
        "added": added,
        "compared": {name: certificate.compared for name, certificate in found.items()},
        "deviation": {name: certificate.deviation for name, certificate in found.items()},
    }


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    best, added = measured["best"], measured["added"]
    cells = [
        measured["case"],
        f"{measured['samples']}",
        f"{measured['P']}",
        report.seconds(best["gradient"]),
    ]
    for name in WHAT:
        share, gradients = added[name] / best[name], added[name] / best["gradient"]
        bound = LARGE_SHARE if measured["P"] == LARGE and name == "hessian" else SHARE
        met = share <= bound or (gradients <= GRADIENTS and bound == SHARE)
        off, on = report.seconds(best[name]), report.seconds(best[f"{name}, certified"])
        cells.append(f"{off}, {on}: {share:.1%}, {gradients:.1f} g" + ("" if met else " (missed)"))
    return [*cells, f"{max(measured['deviation'].values()):.0e}"]


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases; all by default")
    chosen = parser.parse_args().cases
    measured = [measure(case) for case in CASES if not chosen or case.name in chosen]
    result = report.Report(
        name="certificates",
        title=(
            f"What certificates add, tanh, cross entropy, float32, {torch.get_num_threads()}"
            " threads"
        ),
        header=["network", "samples", "P", "gradient g", *WHAT, "largest deviation"],
        rows=[row(m) for m in measured],
        notes=[
            (
                "Seconds without a certificate and with one; what it takes by itself, as it says,"
                f" as a share of the former and in gradients of the whole data; best of {ROUNDS}"
                " each."
            ),
            (
                f"It may add {SHARE:.0%} or {GRADIENTS:g} gradients, whichever is more, and to the"
                f" Hessian at P = {LARGE:,} less than {LARGE_SHARE:.0%}."
            ),
        ],
        measurements=measured,
    )
    print(result.markdown())
    if not chosen:
        result.save()


if __name__ == "__main__":
    main()
