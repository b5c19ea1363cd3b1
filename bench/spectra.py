"""Eigenpairs and traces in products. ``python -m bench.spectra``: the 20 largest eigenpairs of an
encoder, and of one of MiniLM's size in 2 GB beyond the model, beside SciPy's eigsh; and traces to
1 % beside Hutch++ and XTrace. Agreement first.

``--traces`` and ``--eigenpairs`` run one part alone.
"""

import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hesse
from bench import report
from bench.measure import forget_peak, peak_memory, timed
from bench.networks import Encoder

COUNT, TOLERANCE, MOST = 20, 1e-6, 2 * 10**9
# What of it vectors may take, and what products keep; the rest is what a product takes by itself.
VECTORS, KEPT = 1_660_000_000, 10**8
SEEDS = 20


def beside_scipy(
    shape: tuple[int, int, int, int, int], sentences: int, vectors: int | None
) -> dict[str, Any]:
    """Ours and SciPy's of an encoder, the last of whose shape is its vocabulary, on short sentences
    of two classes; and the most bytes that each took beyond the model."""
    torch.manual_seed(0)
    model, words = Encoder(*shape), torch.randint(1, shape[-1], (sentences, 16))
    cost = hesse.Cost(model, "cross_entropy", (words, torch.arange(sentences) % 2))
    forget_peak()
    before = peak_memory()
    operator = hesse.operator(cost, memory=KEPT, certify=False)
    seconds, found = timed(
        lambda: hesse.eigenpairs(operator, COUNT, tolerance=TOLERANCE, memory=vectors)
    )
    row: dict[str, Any] = {
        "parameters": cost.layout.size,
        "products": found.products,
        "bytes": peak_memory() - before,
        "seconds": seconds,
        "residual": float(found.residuals.max() / found.values[0]),
        "largest": found.values.tolist(),
    }
    converged = found.converged
    del found
    forget_peak()
    seconds, theirs = timed(lambda: scipy_eigenpairs(operator))
    row |= {**theirs, "eigsh bytes": peak_memory() - before, "eigsh seconds": seconds}
    apart = max(abs(a - b) for a, b in zip(row["largest"], row["eigsh largest"], strict=True))
    if not (converged and apart <= 1e-4 * row["largest"][0]):
        raise SystemExit(f"they differ by {apart:.1e}")
    print(row, flush=True)
    return row


def scipy_eigenpairs(operator: hesse.LinearOperator) -> dict[str, Any]:
    """By SciPy, at its default size of the basis."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    count = 0
    theirs = operator.to_scipy()

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return theirs.matvec(v)

    counted = LinearOperator(theirs.shape, matvec=product, dtype=theirs.dtype)  # type: ignore[call-arg]
    options: dict[str, Any] = {"which": "LA", "tol": TOLERANCE, "return_eigenvectors": False}
    values: Any = eigsh(counted, COUNT, **options)
    return {
        "eigsh products": count,
        "eigsh largest": sorted(values.tolist(), reverse=True),
    }


def hutch_plus_plus(A: Tensor, products: int, random: torch.Generator) -> float:
    """R. A. Meyer et al. (2021), algorithm 1."""
    third = products // 3
    S, G = (torch.randint(2, (2, len(A), third), generator=random) * 2 - 1).to(A)
    Q = torch.linalg.qr(A @ S).Q
    G = G - Q @ (Q.T @ G)
    return float((Q.T @ A @ Q).trace() + (G * (A @ G)).sum() / third)


def xtrace(A: Tensor, products: int, random: torch.Generator) -> float:
    """E. N. Epperly, J. A. Tropp and R. J. Webber, XTrace: making the most of every sample in
    stochastic trace estimation, SIAM J. Matrix Anal. Appl. 45 (2024): every vector is left out
    once, of what the others span, which is what all span but for one direction (section 2.1)."""
    size, count = len(A), products // 2
    G = torch.randn(size, count, generator=random, dtype=torch.float64).to(A)
    Y = A @ G
    Q, R = torch.linalg.qr(Y)
    Z = A @ Q
    H = Q.T @ Z
    identity = torch.eye(count, dtype=A.dtype)
    # In Q's coordinates the direction that one vector alone has, as columns.
    S = torch.linalg.solve_triangular(R.T, identity, upper=False)
    S /= S.norm(dim=0)
    along = Q.T @ G
    along -= S * (S * along).sum(0)
    left, multiplied = G - Q @ along, Y - Z @ along
    weights = (size - count + 1) / left.square().sum(0)
    found = H.trace() - (S * (H @ S)).sum(0) + weights * (left * multiplied).sum(0)
    return float(found.mean())


def traces() -> list[dict[str, Any]]:
    """Products to a root mean square error of 1 % over some seeds."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 20), torch.nn.Tanh(),
        torch.nn.Linear(20, 5),
    ).double()  # fmt: skip
    data = torch.randn(128, 20).double(), torch.randint(5, (128,))
    cost = hesse.Cost(model, "cross_entropy", data)
    order = torch.arange(1000, dtype=torch.float64)
    spectra = {
        "ten outliers, 1/i": torch.cat([torch.linspace(100, 20, 10).double(), 1 / (1 + order)]),
        "1/i": 1 / (1 + order),
        "1/√i": 1 / (1 + order).sqrt(),
        "0.98^i": 0.98**order,
    }
    matrices = {
        "Gauss-Newton, 20-30-20-5": hesse.hessian(cost, curvature="gauss_newton").dense(),
        "Hessian, 20-30-20-5": hesse.hessian(cost).dense(),
        **{name: rotated(values) for name, values in spectra.items()},
    }
    return [traced(name, A) for name, A in matrices.items()]


def rotated(values: Tensor) -> Tensor:
    """A matrix with these eigenvalues."""
    Q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64)).Q
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def traced(name: str, A: Tensor) -> dict[str, Any]:
    """Ours stops by itself; of the others the fewest products that do it."""
    layout = hesse.Layout(("x",), ((len(A),),))

    def product(v: Tensor) -> Tensor:
        return A @ v

    operator = hesse.FunctionOperator(product, layout, transposed=product, dtype=A.dtype)
    exact = float(A.trace())
    ours = [hesse.trace(operator, method="estimate", seed=seed) for seed in range(SEEDS)]
    row: dict[str, Any] = {
        "matrix": name,
        "products": statistics.mean(e.products for e in ours),
        "error": rms([float(e) / exact - 1 for e in ours]),
    }
    for peer, estimate in (("Hutch++", hutch_plus_plus), ("XTrace", xtrace)):
        row[peer] = fewest(lambda m, estimate=estimate: rms_of(estimate, A, m, exact))
    print(row, flush=True)
    return row


def fewest(error: Callable[[int], float]) -> int | None:
    """The fewest products, in steps of a tenth, with an error within 1 %."""
    products = 12
    while products <= 480:
        if error(products) <= 0.01:
            return products
        products = products + max(6, products // 8 // 6 * 6)
    return None


def rms_of(estimate: Callable[..., float], A: Tensor, products: int, exact: float) -> float:
    """The root mean square error over the seeds."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    return rms([estimate(A, products, random) / exact - 1 for random in seeds])


def rms(errors: list[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(statistics.mean(error**2 for error in errors))


def of_traces() -> report.Report:
    """The table of traces."""
    rows = traces()
    cells = [
        (
            row["matrix"],
            f"{row['products']:.0f}",
            f"{row['error']:.2%}",
            *(str(row[peer] or "> 480") for peer in ("Hutch++", "XTrace")),
        )
        for row in rows
    ]
    return report.Report(
        "traces",
        "A trace to 1 %, in products",
        ("matrix", "hesse", "its error", "Hutch++", "XTrace"),
        cells,
        (
            f"Root mean square errors over {SEEDS} seeds; hesse stops by its own error bar, of the"
            " others the fewest products that do it.",
        ),
        rows,
    )


def of_eigenpairs() -> report.Report:
    """The table of eigenpairs."""
    found = {
        "137 thousand": beside_scipy((64, 4, 2, 16, 500), 8, None),
        # With a vocabulary as BERT has.
        "of MiniLM's size": beside_scipy((384, 12, 6, 16, 30_522), 2, VECTORS),
    }
    cells, fewer = [], []
    for name, row in found.items():
        for by, of in (("hesse", ""), ("SciPy's eigsh", "eigsh ")):
            taken = f"{row[f'{of}products']}", f"{row[f'{of}bytes'] / 1e9:.2f} GB"
            seconds = report.seconds(row[f"{of}seconds"])
            cells.append((by, f"{row['parameters']:,}", *taken, seconds))
        target = report.target(row["products"], row["eigsh products"], "eigsh's", least=False)
        fewer.append(f"{name} {target}")
    within = report.target(found["of MiniLM's size"]["bytes"], MOST, "2 GB", least=False)
    return report.Report(
        "eigenpairs",
        f"The {COUNT} largest eigenpairs of an encoder, to {TOLERANCE:.0e}",
        ("by", "parameters", "products", "memory beyond the model", "seconds"),
        cells,
        (
            f"Products: {'; '.join(fewer)}; hesse's hold those of the residuals, and it looks for"
            " eigenvalues that are there more than once.",
            (
                f"Memory of MiniLM's size {within}: so many vectors are held there as that leaves;"
                " eigsh holds 41 of all entries."
            ),
        ),
        found,
    )


def keep(result: report.Report) -> None:
    """Shown and recorded."""
    print(result.markdown())
    result.save()


def main() -> None:
    """The command."""
    if "--eigenpairs" not in sys.argv:
        keep(of_traces())
    if "--traces" not in sys.argv:
        keep(of_eigenpairs())


if __name__ == "__main__":
    main()
