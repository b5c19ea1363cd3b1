"""The exact diagonal of the Hessian: hesse.diagonal beside BackPACK's DiagHessian, and beside the
Hessian of the same parameters; and that of a whole ResNet-18. ``python -m bench.diagonal``."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import DIAGONAL_CASES, POSITION_CASES, Case, Problem
from bench.measure import interleaved, timed
from bench.networks import images, minilm, resnet18, sentences
from bench.peers import hessian_products

TOLERANCE = 1e-5
ROUNDS = 7
# A case, and the parameters asked about; all of them where none are named.
BESIDE_HESSIAN: list[tuple[Case, list[str] | None]] = [
    (DIAGONAL_CASES[0], None),
    *((case, None) for case in POSITION_CASES),
    (
        Case("MiniLM-like, its last LayerNorm", minilm, lambda: sentences(32)),
        ["layers.5.norm2.weight", "layers.5.norm2.bias"],
    ),
    (
        Case("ResNet-18 of width 16, a convolution", lambda: resnet18(16), lambda: images(32)),
        ["3.first.weight"],
    ),
]
WHOLE = Case("ResNet-18 of width 16, all of it", lambda: resnet18(16), lambda: images(32))


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


def beside_hessian(case: Case, params: list[str] | None) -> dict[str, Any]:
    """Seconds of the diagonal and of the Hessian of the same parameters; the two agree, and with
    float64 products."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y), params=params)
    planned = hesse.plan(cost, diagonal=True).seconds
    runs: dict[str, Callable[[], Tensor]] = {
        "diagonal": lambda: cost.layout.flatten(hesse.diagonal(cost, certify=False)),
        "hessian": lambda: hesse.hessian(cost, certify=False).dense().diagonal(),
    }
    found = {name: run() for name, run in runs.items()}
    scale = found["hessian"].abs().max()
    errors = [float((found["diagonal"] - found["hessian"]).abs().max() / scale)]
    if params is None:
        errors.append(agreement(problem, found["diagonal"]))
    assert max(errors) <= TOLERANCE, f"{case.name}: off by {max(errors):.2g}"
    best = {name: min(taken) for name, taken in interleaved(runs, 3).items()}
    return {
        "case": case.name,
        "samples": len(problem.x),
        "P": cost.layout.size,
        "best": best,
        "planned": planned,
        "ratio": best["hessian"] / best["diagonal"],
        "error": max(errors),
    }


def whole() -> dict[str, Any]:
    """The diagonal of a whole network, beside as many products as it has parameters."""
    problem = WHOLE.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    planned = hesse.plan(cost, diagonal=True).seconds
    seconds, diagonal = timed(lambda: hesse.diagonal(cost, certify=False))
    product, v = hesse.operator(cost), torch.zeros(cost.layout.size)
    error = 0.0
    for entry in range(0, cost.layout.size, cost.layout.size // 24):
        v[entry] = 1.0
        exact = (product @ v)[entry]
        v[entry] = 0.0
        error = max(error, float((cost.layout.flatten(diagonal)[entry] - exact).abs()))
    one = min(timed(lambda: product @ v)[0] for _ in range(3))
    return {
        "case": WHOLE.name,
        "samples": len(problem.x),
        "P": cost.layout.size,
        "best": {"diagonal": seconds, "hessian": cost.layout.size * one},
        "planned": planned,
        "ratio": cost.layout.size * one / seconds,
        "error": error / float(cost.layout.flatten(diagonal).abs().max()),
    }


def beside() -> report.Report:
    """The table of both, the worst ratio last."""
    measured = [beside_hessian(case, params) for case, params in BESIDE_HESSIAN]
    measured = [whole(), *sorted(measured, key=lambda m: -m["ratio"])]
    return report.Report(
        name="diagonal_beside_hessian",
        title=f"The diagonal and the Hessian of the same, {torch.get_num_threads()} threads",
        header=["network", "samples", "P", "diagonal", "planned", "Hessian", "ratio", "error"],
        rows=[
            [
                m["case"],
                str(m["samples"]),
                str(m["P"]),
                report.seconds(m["best"]["diagonal"]),
                report.seconds(m["planned"]),
                report.seconds(m["best"]["hessian"]),
                f"{m['ratio']:.3g}× ({report.target(m['ratio'], 1.0, '1×', least=True)})",
                f"{m['error']:.1e}",
            ]
            for m in measured
        ],
        notes=[
            "Both without their certificates, the best of 3 rounds taken in turn. Of all of the"
            " ResNet-18 the Hessian, which does not fit, is P times one product.",
            "The error is the largest of the two against each other, and against float64 products"
            " where all parameters are asked about.",
        ],
        measurements=measured,
    )


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
    for table in (result, beside()):
        print(table.markdown())
        table.save()


if __name__ == "__main__":
    main()
