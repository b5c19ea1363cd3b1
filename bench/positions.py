"""The dense Hessian where positions meet again and where weights are used at many times: hesse
beside columns, and what its plan says beside what it takes. ``python -m bench.positions``."""

import sys
from typing import Any

import torch
from torch import Tensor

import hesse
from bench import report
from bench.cases import POSITION_CASES, Case, Problem
from bench.measure import interleaved, timed
from bench.peers import hessian_products

TOLERANCE = 1e-4
# As the peers' authors would: so many tangents at once, wider ones fall out of the caches.
CHUNK = 64
# Of slow cases only so many columns are taken, and multiplied.
MOST = 512
ROUNDS = 3


def columns(problem: Problem, count: int) -> Tensor:
    """The first rows of H by ``vmap(jvp(grad))``."""
    units = torch.eye(problem.size)[:count]
    return torch.cat([hessian_products(problem, part.T).T for part in units.split(CHUNK)])


def measure(case: Case) -> dict[str, Any]:
    """Agreement, then time in turn."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    count = min(problem.size, MOST)
    first, H = timed(lambda: hesse.hessian(cost, certify=False))
    plan = hesse.plan(cost)
    theirs = columns(problem, count)
    ours = H.dense()[:count]
    error = float((ours - theirs).norm() / theirs.norm())
    if not error <= TOLERANCE:
        raise SystemExit(f"{case.name}: H differs by {error:.1e} relative; nothing is timed")
    times = interleaved(
        {
            "hesse": lambda: hesse.hessian(cost, certify=False),
            "certified": lambda: hesse.hessian(cost),
            "columns": lambda: columns(problem, count),
        },
        ROUNDS,
    )
    best = {name: min(seconds) for name, seconds in times.items()}
    best["columns"] *= problem.size / count
    one_sided = sum(cost.layout.sizes[name] for name in plan.by_columns)
    return {"case": case.name, "samples": len(problem.x), "P": problem.size, "error": error,
            "first": first, "said": plan.seconds, "one-sided": one_sided, "seconds": times,
            "best": best, "targets": case.targets}  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    best, bound = measured["best"], measured["targets"]["columns"]
    ratio = best["columns"] / best["hesse"]
    verdict = report.target(ratio, bound, f"{bound:g}×", least=True)
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
            f"{measured['one-sided']}", report.seconds(best["hesse"]),
            f"{measured['said'] / best['hesse']:.2f}×", report.seconds(best["columns"]),
            f"{ratio:.3g}× ({verdict})", f"{best['columns'] / best['certified']:.3g}×",
            f"{measured['error']:.1e}"]  # fmt: skip


def main() -> None:
    """Measure, print and record; cases by name are not recorded."""
    torch.backends.mha.set_fastpath_enabled(False)
    asked = sys.argv[1:]
    cases = [case for case in POSITION_CASES if not asked or any(a in case.name for a in asked)]
    measured = [measure(case) for case in cases]
    result = report.Report(
        name="positions",
        title=f"Positions that meet and weights over time, {torch.get_num_threads()} threads",
        header=[
            *("network", "samples", "P", "of them one-sided", "hesse", "said before", "columns"),
            *("ratio", "with certificate", "error"),
        ],
        rows=[row(m) for m in measured],
        notes=[
            (
                f"Seconds are the best of {ROUNDS} rounds taken in turn. Columns are"
                f" `vmap(jvp(grad))`, {CHUNK} at a time, on at most {MOST} of them, multiplied by P"
                f" / {MOST}."
            ),
            "Said before: the plan's seconds over those that it took.",
        ],
        measurements=measured,
    )
    print(result.markdown())
    if not asked:
        result.save()


if __name__ == "__main__":
    main()
