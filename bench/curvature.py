"""Gauss–Newton: its dense matrix beside JᵀSJ, one product with it in gradients, beside curvlinops,
with what it takes of memory, and its diagonal beside BackPACK; and gradients of every sample beside
`vmap(grad)`. Agreement first, then time. ``python -m bench.curvature``."""

import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

import hesse
from bench import report
from bench.cases import CASES, DIAGONAL_CASES, Case, Problem, dense
from bench.measure import forget_peak, interleaved, peak_memory, timed

TOLERANCE = 1e-4
ROUNDS = 5
# The dense matrix is at least so many times as fast, where that is asked; a product takes at most
# so many gradients.
LEAST, MOST = {"64-32-10, digits": 20.0}, 1.3
DENSE = [case for case in CASES if case.name in ("64-32-10, digits", "64-32-32-10, digits")]
# So many samples have their Jacobians at once.
CHUNK = 512
# The diagonal is at least so many times as fast as BackPACK's; of every sample a gradient takes at
# most so many times as long as by `vmap(grad)`; a product takes at most so many gradients' memory.
LEAST_DIAGONAL, MOST_SAMPLES, MOST_MEMORY = 2.0, 1.1, 2.2
CONVOLUTIONAL = next(case for case in CASES if case.name == "convolutional, digits")
# Activations far above what any process takes here and there.
LARGE = Case(
    "784-512-512-10, 8192 samples",
    dense(784, 512, 512, 10),
    lambda: (torch.randn(8192, 784), torch.randint(10, (8192,))),
)


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


def backpack_diagonal(problem: Problem) -> Callable[[], Tensor]:
    """BackPACK's, as one flat vector; the gradient comes with it."""
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    # BackPACK hangs hooks on what it extends.
    model, loss = extend(copy.deepcopy(problem.model)), extend(nn.CrossEntropyLoss())

    def run() -> Tensor:
        model.zero_grad()
        with backpack(DiagGGNExact()):
            loss(model(problem.x), problem.y).backward()
        parts = [vars(parameter)["diag_ggn_exact"] for parameter in model.parameters()]
        return torch.cat([part.reshape(-1) for part in parts])

    return run


def sample_gradients(problem: Problem) -> Callable[[], dict[str, Tensor]]:
    """Those of every sample's loss by `vmap(grad)`."""
    theta = {name: value.detach() for name, value in problem.model.named_parameters()}

    def loss(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        scores = functional_call(problem.model, theta, (x[None],))
        return nn.functional.cross_entropy(scores, y[None])

    return lambda: vmap(grad(loss), (None, 0, 0))(theta, problem.x, problem.y)


def beside(case: Case) -> dict[str, Any]:
    """The diagonal and every sample's gradient: agreement, then time in turn."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    runs: dict[str, Callable[[], Any]] = {
        "diagonal": lambda: cost.layout.flatten(
            hesse.diagonal(cost, curvature="gauss_newton", certify=False)
        ),
        "BackPACK": backpack_diagonal(problem),
        "samples": lambda: hesse.per_sample(cost, certify=False).stack(),
        "vmap": sample_gradients(problem),
        "gradient": lambda: gradient(problem),
    }
    ours, theirs = runs["diagonal"](), runs["BackPACK"]()
    errors = [float((ours - theirs).abs().max() / theirs.abs().max())]
    mine, others = runs["samples"](), runs["vmap"]()
    errors += [
        float((mine[name] / cost.scale - part).norm() / part.norm())
        for name, part in others.items()
    ]
    if not max(errors) <= TOLERANCE:
        raise SystemExit(f"{case.name}: they differ by {max(errors):.1e} relative")
    best = {name: min(taken) for name, taken in interleaved(runs, 3 * ROUNDS).items()}
    return {"case": case.name, "samples": len(problem.x), "P": problem.size,
            "error": max(errors), "best": best}  # fmt: skip


def memory_of_a_product() -> dict[str, float]:
    """The most bytes beyond what was there, of a gradient and of a product by an operator that
    keeps nothing and by one that keeps what it can, the keeping included."""
    problem = LARGE.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    v = torch.randn(problem.size)
    made = {memory: hesse.operator(cost, curvature="gauss_newton", memory=memory, certify=False)
            for memory in (0, None)}  # fmt: skip
    runs: dict[str, Callable[[], Any]] = {
        "gradient": lambda: gradient(problem),
        "nothing kept": lambda: made[0] @ v,
        "kept": lambda: hesse.operator(cost, curvature="gauss_newton", certify=False) @ v,
    }
    del made[None]
    taken = {}
    for name, run in runs.items():
        run()
        forget_peak()
        before = peak_memory()
        run()
        taken[name] = float(peak_memory() - before)
    return taken


def row_beside(measured: dict[str, Any]) -> list[str]:
    """One line of the second table."""
    best = measured["best"]
    ratio, share = best["BackPACK"] / best["diagonal"], best["samples"] / best["vmap"]
    verdicts = (
        report.target(ratio, LEAST_DIAGONAL, f"{LEAST_DIAGONAL:g}×", least=True),
        report.target(share, MOST_SAMPLES, f"{MOST_SAMPLES:g}×", least=False),
    )
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
            report.seconds(best["gradient"]), report.seconds(best["diagonal"]),
            report.seconds(best["BackPACK"]), f"{ratio:.3g}× ({verdicts[0]})",
            report.seconds(best["samples"]), report.seconds(best["vmap"]),
            f"{share:.3g}× ({verdicts[1]})", f"{measured['error']:.1e}"]  # fmt: skip


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
    others = [beside(case) for case in (*DIAGONAL_CASES, CONVOLUTIONAL)]
    taken = memory_of_a_product()
    shares = {name: taken[name] / taken["gradient"] for name in ("nothing kept", "kept")}
    verdicts = {
        name: report.target(share, MOST_MEMORY, f"{MOST_MEMORY:g}×", least=False)
        for name, share in shares.items()
    }
    result = report.Report(
        name="curvature_diagonal",
        title=f"Gauss–Newton's diagonal, and samples, {torch.get_num_threads()} threads",
        header=[
            *("case", "samples", "P", "gradient", "diagonal", "BackPACK DiagGGNExact", "ratio"),
            *("gradients of samples", "vmap(grad)", "share", "error"),
        ],
        rows=[row_beside(m) for m in others],
        notes=[
            f"The best of {3 * ROUNDS} rounds taken in turn; BackPACK's gives the gradient too.",
            (
                f"Memory of a product, {LARGE.name}, in gradients:"
                f" {shares['nothing kept']:.2f} where nothing is kept"
                f" ({verdicts['nothing kept']}), {shares['kept']:.2f} with what is kept for the"
                f" next one ({verdicts['kept']})."
            ),
        ],
        measurements=[*others, taken],
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
