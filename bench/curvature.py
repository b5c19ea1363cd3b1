"""Gauss–Newton: its dense matrix beside JᵀSJ, and one product with it in gradients, beside
curvlinops. Agreement first, then time. ``python -m bench.curvature``."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import hesse
from bench import report
from bench.cases import CASES, Case, Problem
from bench.measure import interleaved, timed

TOLERANCE = 1e-4
ROUNDS = 5
# The dense matrix is at least so many times as fast, where that is asked; a product takes at most
# so many gradients.
LEAST, MOST = {"64-32-10, digits": 20.0}, 1.3
DENSE = [case for case in CASES if case.name in ("64-32-10, digits", "64-32-32-10, digits")]
# So many samples have their Jacobians at once.
CHUNK = 512


def outer_products(problem: Problem) -> Tensor:
    """Σ Jᵀ S J from the Jacobian of each sample's scores, as libraries of Laplace approximations
    make it, and S = diag(p) − p pᵀ; by one matrix product for many samples."""
    theta = {name: value.detach() for name, value in problem.model.named_parameters()}

    def scores(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(problem.model, theta, (x[None],))[0]

    total = torch.zeros(problem.size, problem.size)
    for x in problem.x.split(CHUNK):
        by_name = vmap(jacrev(scores), (None, 0))(theta, x)
        J = torch.cat([part.flatten(2) for part in by_name.values()], 2)
        p = problem.model(x).detach().softmax(1)
        S = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
        total.addmm_(J.flatten(0, 1).mT, (S @ J).flatten(0, 1))
    return total / len(problem.x)


def curvlinops_product(problem: Problem, v: Tensor) -> Callable[[], Tensor]:
    """Theirs, as one flat vector."""
    from curvlinops import GGNLinearOperator

    parameters = [p for p in problem.model.parameters() if p.requires_grad]
    data = [(problem.x, problem.y)]
    theirs = GGNLinearOperator(
        problem.model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False
    )
    return lambda: theirs @ v


def gradient(problem: Problem) -> Tensor:
    """∇J, as one flat vector."""
    loss = nn.functional.cross_entropy(problem.model(problem.x), problem.y)
    parts = torch.autograd.grad(loss, list(problem.model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def measure(case: Case) -> dict[str, Any]:
    """Agreement, then time in turn."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    v = torch.randn(problem.size, generator=torch.Generator().manual_seed(1))
    first, G = timed(lambda: hesse.hessian(cost, curvature="gauss_newton", certify=False))
    op = hesse.operator(cost, curvature="gauss_newton", certify=False)
    theirs, product = outer_products(problem), curvlinops_product(problem, v)
    errors = [
        float((ours - other).norm() / other.norm())
        for ours, other in ((G.dense(), theirs), (op @ v, theirs @ v), (product(), theirs @ v))
    ]
    if not max(errors) <= TOLERANCE:
        raise SystemExit(f"{case.name}: they differ by {max(errors):.1e} relative")
    dense = interleaved(
        {
            "hesse": lambda: hesse.hessian(cost, curvature="gauss_newton", certify=False),
            "hessian": lambda: hesse.hessian(cost, certify=False),
            "theirs": lambda: outer_products(problem),
        },
        ROUNDS,
    )
    single = interleaved(
        {
            "gradient": lambda: gradient(problem),
            "hesse": lambda: op @ v,
            "curvlinops": product,
        },
        9 * ROUNDS,
    )
    return {
        "case": case.name, "samples": len(problem.x), "P": problem.size, "first": first,
        "error": max(errors), "dense": dense, "product": single,
    }  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    dense = {name: min(seconds) for name, seconds in measured["dense"].items()}
    single = {name: statistics.median(seconds) for name, seconds in measured["product"].items()}
    ratio, bound = dense["theirs"] / dense["hesse"], LEAST.get(measured["case"])
    verdict = (
        "" if bound is None else f" ({report.target(ratio, bound, f'{bound:g}×', least=True)})"
    )
    ours, theirs = (single[name] / single["gradient"] for name in ("hesse", "curvlinops"))
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
            report.seconds(dense["hesse"]), report.seconds(dense["hessian"]),
            report.seconds(dense["theirs"]), f"{ratio:.3g}×{verdict}",
            report.seconds(single["gradient"]),
            f"{ours:.2f}× ({report.target(ours, MOST, f'{MOST:g}×', least=False)})",
            f"{theirs:.2f}×", f"{measured['error']:.1e}"]  # fmt: skip


def main() -> None:
    """Measure, print and record."""
    measured = [measure(case) for case in DENSE]
    result = report.Report(
        name="curvature",
        title=f"Gauss–Newton, {torch.get_num_threads()} threads",
        header=[
            *("case", "samples", "P", "G", "H", "JᵀSJ", "ratio", "gradient", "a product G v"),
            *("curvlinops", "error"),
        ],
        rows=[row(m) for m in measured],
        notes=[
            (
                f"The dense matrices: the best of {ROUNDS} rounds taken in turn. JᵀSJ is from each"
                " sample's Jacobian by `vmap(jacrev)`, and one matrix product."
            ),
            f"Products in gradients: medians of {9 * ROUNDS} rounds taken in turn.",
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
