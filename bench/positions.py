"""The dense Hessian where positions meet again and where weights are used at many times, and of
what `torch.export` refuses: hesse beside columns, and what its plan says beside what it takes.
``python -m bench.positions``."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

import hesse
from bench import report
from bench.cases import FALLBACK_CASES, LOSSES, POSITION_CASES, Case, Problem
from bench.measure import DEVICE, interleaved, timed, where
from bench.peers import double_backward_products, hessian_products

TOLERANCE = 1e-4
# As the peers' authors would: so many tangents at once, wider ones fall out of the caches.
CHUNK = 64
# Of slow cases only so many columns are taken, and multiplied.
MOST = 512
ROUNDS = 3


def columns(problem: Problem, count: int) -> Tensor:
    """The first rows of H by ``vmap(jvp(grad))``."""
    units = torch.eye(problem.size, device=DEVICE)[:count]
    return torch.cat([hessian_products(problem, part.T).T for part in units.split(CHUNK)])


def rows(problem: Problem, count: int) -> Tensor:
    """The same by double backward, row by row."""
    return double_backward_products(problem, torch.eye(problem.size, device=DEVICE)[:, :count]).T


def cost_of(problem: Problem, function: bool) -> hesse.Cost:
    """The cost as a user has it: a model with its data, or a function of the parameters."""
    if not function:
        return hesse.Cost(problem.model, problem.loss, (problem.x, problem.y))
    parameters = {name: value.detach() for name, value in problem.model.named_parameters()}

    def cost(parameters: dict[str, Tensor]) -> Tensor:
        prediction = functional_call(problem.model, parameters, (problem.x,))
        return LOSSES[problem.loss](prediction, problem.y)

    return hesse.Cost.from_function(cost, parameters)


def other_way(problem: Problem) -> Callable[[Problem, int], Tensor]:
    """Columns, or rows where `torch.func` does not take the model."""
    try:
        columns(problem, 1)
    except RuntimeError:
        return rows
    return columns


def measure(case: Case) -> dict[str, Any]:
    """Agreement, then time in turn."""
    problem = case.build()
    cost = cost_of(problem, case.function)
    count, other = min(problem.size, MOST), other_way(problem)
    first, H = timed(lambda: hesse.hessian(cost, certify=False))
    plan = hesse.plan(cost)
    theirs = other(problem, count)
    ours = H.dense()[:count]
    error = float((ours - theirs).norm() / theirs.norm())
    if not error <= TOLERANCE:
        raise SystemExit(f"{case.name}: H differs by {error:.1e} relative; nothing is timed")
    times = interleaved(
        {
            "hesse": lambda: hesse.hessian(cost, certify=False),
            "certified": lambda: hesse.hessian(cost),
            "columns": lambda: other(problem, count),
        },
        ROUNDS,
    )
    best = {name: min(seconds) for name, seconds in times.items()}
    best["columns"] *= problem.size / count
    one_sided = sum(cost.layout.sizes[name] for name in plan.by_columns) * plan.parts[0].traced
    return {"case": case.name, "samples": len(problem.x), "P": problem.size, "error": error,
            "first": first, "said": plan.seconds, "one-sided": one_sided, "seconds": times,
            "best": best, "targets": case.targets, "other": other.__name__}  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of a table."""
    best, bound = measured["best"], measured["targets"]["columns"]
    ratio = best["columns"] / best["hesse"]
    verdict = report.target(ratio, bound, f"{bound:g}×", least=True)
    mark = "" if measured["other"] == "columns" else " *"
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
            f"{measured['one-sided']}", report.seconds(best["hesse"]),
            f"{measured['said'] / best['hesse']:.2f}×", report.seconds(best["columns"]) + mark,
            f"{ratio:.3g}× ({verdict})", f"{best['columns'] / best['certified']:.3g}×",
            f"{measured['error']:.1e}"]  # fmt: skip


def table(name: str, title: str, measured: list[dict[str, Any]], *notes: str) -> report.Report:
    """The report of some cases."""
    return report.Report(
        name=name,
        title=f"{title}, {where()}",
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
            *notes,
        ],
        measurements=measured,
    )


def fallback_table(measured: list[dict[str, Any]]) -> report.Report:
    """That of what is not contracted."""
    return table(
        "fallback",
        "What `torch.export` refuses, or what couples samples",
        measured,
        "*: by double backward row by row, where `torch.func` does not take the model.",
    )


def asked(cases: list[Case]) -> list[Case]:
    """Those named on the command line, or all."""
    words = sys.argv[1:]
    return [case for case in cases if not words or any(word in case.name for word in words)]


def main() -> None:
    """Measure, print and record; cases by name are not recorded."""
    torch.backends.mha.set_fastpath_enabled(False)
    tables = [
        table(
            "positions",
            "Positions that meet and weights over time",
            [measure(case) for case in asked(POSITION_CASES)],
        ),
        fallback_table([measure(case) for case in asked(FALLBACK_CASES)]),
    ]
    for result in tables:
        if result.rows:
            print(result.markdown())
            if not sys.argv[1:]:
                result.save()


if __name__ == "__main__":
    main()
