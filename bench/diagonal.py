"""The exact diagonal of the Hessian: hesse.diagonal beside BackPACK's DiagHessian. ``python -m
bench.diagonal``."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import DIAGONAL_CASES, Case, Problem
from bench.measure import interleaved, timed
from bench.peers import hessian_products

TOLERANCE = 1e-5
ROUNDS = 7


def backpack_diagonal(problem: Problem) -> Callable[[], Tensor]:
    """BackPACK's, as one flat vector. Its backward pass gives the gradient too; that is a small
    part of it."""
    from backpack import backpack, extend
    from backpack.extensions import DiagHessian

    # BackPACK hangs hooks on what it extends.
    model, loss = extend(copy.deepcopy(problem.model)), extend(nn.CrossEntropyLoss())

    def run() -> Tensor:
        model.zero_grad()
        with backpack(DiagHessian()):
            loss(model(problem.x), problem.y).backward()
        return torch.cat(
            [vars(parameter)["diag_h"].reshape(-1) for parameter in model.parameters()]
        )

    return run


def hesse_diagonal(problem: Problem) -> Callable[[], Tensor]:
    """Ours, as one flat vector; not certified, as theirs is not."""
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    return lambda: cost.layout.flatten(hesse.diagonal(cost, certify=False))


def agreement(problem: Problem, diagonal: Tensor) -> float:
    """The largest error on 256 entries drawn over all parameters, against float64 products, over
    their largest entry."""
    chosen = torch.randperm(problem.size, generator=torch.Generator().manual_seed(1))[:256]
    exact = []
    for part in chosen.split(64):
        units = torch.zeros(problem.size, len(part), dtype=torch.float64)
        units[part, torch.arange(len(part))] = 1.0
        exact.append(hessian_products(problem, units)[part].diagonal())
    reference = torch.cat(exact)
    return float((diagonal[chosen] - reference).abs().max() / reference.abs().max())


def measure(case: Case) -> dict[str, Any]:
    """Agreement of both with float64 products and with each other, then time in turn."""
    problem = case.build()
    runs = {"hesse": hesse_diagonal(problem), "BackPACK": backpack_diagonal(problem)}
    found = {name: run() for name, run in runs.items()}
    errors = {name: agreement(problem, diagonal) for name, diagonal in found.items()}
    errors["each other"] = float(
        (found["hesse"] - found["BackPACK"]).abs().max() / found["BackPACK"].abs().max()
    )
    if not max(errors.values()) <= TOLERANCE:
        raise SystemExit(
            f"{case.name}: the diagonals differ by more than {TOLERANCE:g} relative ({errors});"
            " nothing is timed"
        )
    for run in runs.values():
        timed(run)
    times = interleaved(runs, ROUNDS)
    best = {name: min(seconds) for name, seconds in times.items()}
    return {"case": case.name, "samples": len(problem.x), "P": problem.size, "errors": errors,
    "seconds": times, "best": best,
            "targets": case.targets}  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    best, bound = measured["best"], measured["targets"]["BackPACK"]
    ratio = best["BackPACK"] / best["hesse"]
    verdict = report.target(ratio, bound, f"{bound:g}×", least=True)
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
    report.seconds(best["hesse"]),
            report.seconds(best["BackPACK"]), f"{ratio:.3g}× ({verdict})",
            f"{max(measured['errors'].values()):.1e}"]  # fmt: skip


def main() -> None:
    """Measure, print and record."""
    measured = [measure(case) for case in DIAGONAL_CASES]
    result = report.Report(
        name="diagonal",
        title=f"The exact diagonal, tanh, cross entropy, {torch.get_num_threads()} threads",
        header=["network", "samples", "P", "hesse", "BackPACK DiagHessian", "ratio", "error"],
        rows=[row(m) for m in measured],
        notes=[
            (
                f"Seconds are the best of {ROUNDS} rounds taken in turn, hesse without its"
                " certificate (see the table of those). BackPACK's backward pass gives the"
                " gradient as well."
            ),
            (
                "The error is the largest of three: each against 256 entries by float64"
                " Hessian-vector products, and each other."
            ),
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
