"""Published figures, found again: each with the figure, hesse's, and the seconds that it took.
``python -m bench.papers``; everything in float64."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import Problem
from bench.measure import timed
from bench.peers import hessian_products

PARTS = ("hessian", "gauss_newton", "functional")


class Figure(NamedTuple):
    """One published figure.

    Attributes:
        source: who published it.
        what: of which network.
        published: the figure.
        found: computes hesse's.
        within: how far the two may be apart, relatively; 0 for whole numbers.
        quick: whether it takes less than a second, and so is a test as well.
    """

    source: str
    what: str
    published: tuple[float, ...]
    found: Callable[[], Sequence[float]]
    within: float = 0.0
    quick: bool = True

    def agrees(self, found: Sequence[float]) -> bool:
        """Whether every number is near enough."""
        return len(found) == len(self.published) and all(
            abs(ours - theirs) <= self.within * abs(theirs)
            for ours, theirs in zip(found, self.published, strict=True)
        )


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, by: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=by, dtype=torch.float64)


# Ranks of deep linear networks


RANKS = "Singh, Bachmann, Hofmann 2021"


def deep_linear(widths: Sequence[int], seed: int) -> nn.Sequential:
    """A product of matrices of full rank."""
    by, layers = _random(seed), []
    for n, m in itertools.pairwise(widths):
        layer = nn.Linear(n, m, bias=False, dtype=torch.float64)
        layer.weight.data = _normal(m, n, by=by) / math.sqrt(n)
        layers.append(layer)
    return nn.Sequential(*layers)


def ranks(widths: Sequence[int], loss: str, samples: int, r: int, seed: int = 0) -> list[int]:
    """The ranks of H, of its Gauss–Newton part and of the functional part, where the inputs' second
    moment has rank r."""
    by = _random(seed + 1)
    X = _normal(samples, r, by=by) @ _normal(r, widths[0], by=by) / math.sqrt(r)
    y = (
        torch.randint(widths[-1], (samples,), generator=by)
        if loss == "cross_entropy"
        else _normal(samples, widths[-1], by=by)
    )
    cost = hesse.Cost(deep_linear(widths, seed), loss, (X, y))
    found = []
    for part in PARTS:
        inertia = hesse.hessian(cost, curvature=part).inertia()
        found.append(inertia.negative + inertia.positive)
    return found


def rank_formulas(widths: Sequence[int], loss: str, r: int) -> tuple[int, ...]:
    """What they give for the same network: K outputs count for K − 1 where they are scores."""
    K = widths[-1] - (loss == "cross_entropy")
    hidden, L = widths[1:-1], len(widths) - 1
    q, s = min(r, K, *hidden), min(r, K)
    outer = q * (r + K - q)
    functional = 2 * q * sum(hidden) + 2 * q * s - L * q**2
    whole = 2 * q * sum(hidden) - L * q**2 + q * (r + K)
    return whole, outer, functional


def rank_figures() -> Iterator[Figure]:
    """Those printed, those of the formulas, and random networks."""
    yield Figure(
        RANKS, "25-5-10-10 linear, squared error, 50 samples: ranks of H, H_o, H_f",
        (250, 150, 175), lambda: ranks((25, 5, 10, 10), "half_sse", 50, 25),
    )  # fmt: skip
    printed = {4: (216, 184, 88), 8: (464, 336, 208), 12: (639, 369, 351), 16: (783, 369, 495)}
    more = {20: (927, 639), 24: (1071, 783), 28: (1215, 927), 32: (1359, 1071), 36: (1503, 1215)}
    printed |= {w: (whole, 369, functional) for w, (whole, functional) in more.items()}
    for w, published in printed.items():
        yield Figure(
            RANKS, f"64-{w}-{w}-10 linear, cross entropy, 100 samples, inputs of rank 41",
            published, lambda w=w: ranks((64, w, w, 10), "cross_entropy", 100, 41),
            quick=w <= 4,
        )  # fmt: skip
    by = _random(0)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=by))

    for index in range(20):
        widths = tuple(whole(2, 8) for _ in range(whole(1, 4) + 2))
        r = whole(1, widths[0])
        yield Figure(
            RANKS,
            f"{'-'.join(map(str, widths))} linear, squared error, inputs of rank {r}",
            rank_formulas(widths, "half_sse", r),
            lambda widths=widths, r=r, index=index: ranks(widths, "half_sse", 40, r, index),
        )


# Attention


ATTENTION = "Ormaniec, Dangel, Singh 2025"


class SelfAttention(nn.Module):
    """softmax(X Q Kᵀ Xᵀ / √d) X V."""

    def __init__(self, d: int, by: torch.Generator) -> None:
        super().__init__()
        self.Q, self.K, self.V = (nn.Parameter(_normal(d, d, by=by)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = (x @ self.Q) @ (x @ self.K).mT / math.sqrt(len(self.Q))
        return scores.softmax(-1) @ (x @ self.V)


def attention_growth(name: str, part: str) -> list[float]:
    """The exponent k of ‖block‖ ~ σᵏ for inputs scaled by a small σ; 0 for a block that is zero."""
    by = _random(0)
    d, tokens, samples = 4, 5, 8
    model, X = SelfAttention(d, by), _normal(samples, tokens, d, by=by)
    y = _normal(samples, tokens, d, by=by)
    norms = []
    for sigma in (1e-2, 2e-2):
        cost = hesse.Cost(model, "half_sse", (sigma * X, y), params=[name])
        norms.append(float(hesse.hessian(cost, curvature=part).dense().norm()))
    return [0.0 if norms[0] == 0 else math.log2(norms[1] / norms[0])]


class SmallTransformer(nn.Module):
    """One layer, one head, d = 16, an MLP of 64 units with ReLU, a vocabulary of 12, 18 positions;
    scores at the last 6: 3,836 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(12, 16), nn.Embedding(18, 16)
        self.Q, self.K, self.V, self.O = (nn.Linear(16, 16, bias=False) for _ in range(4))
        self.up, self.down, self.scores = nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions.weight
        scores = self.Q(h) @ self.K(h).mT / 4
        h = h + self.O(scores.softmax(-1) @ self.V(h))
        h = h + self.down(torch.relu(self.up(h)))
        return self.scores(h[:, -6:]).mT


def attention_exact() -> list[float]:
    """The parameters of their Figure 1, and how far H is from its columns by differentiation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SmallTransformer().double()
    by = _random(1)
    x = torch.randint(12, (64, 18), generator=by)
    y = torch.randint(12, (64, 6), generator=by)
    cost = hesse.Cost(model, "cross_entropy", (x, y))
    H = hesse.hessian(cost).dense()
    chosen = torch.randperm(len(H), generator=by)[:128]
    unit = torch.zeros(len(H), len(chosen), dtype=H.dtype)
    unit[chosen, torch.arange(len(chosen))] = 1
    theirs = hessian_products(Problem(model, x, y), unit)
    error = float((H[:, chosen] - theirs).abs().max() / theirs.abs().max())
    return [len(H), float(error < 1e-12)]


def attention_figures() -> Iterator[Figure]:
    """Growth of the blocks, and the network of their first figure."""
    for name, part, exponent in (
        ("V", "gauss_newton", 2), ("V", "functional", 0),
        ("Q", "gauss_newton", 6), ("Q", "functional", 5),
        ("K", "gauss_newton", 6), ("K", "functional", 5),
    ):  # fmt: skip
        yield Figure(
            ATTENTION, f"self-attention, inputs times σ: {part} block of {name} grows as σ^",
            (exponent,), lambda name=name, part=part: attention_growth(name, part), within=1e-3,
        )  # fmt: skip
    yield Figure(
        ATTENTION, "their Figure 1: parameters; H within 1e-12 of columns", (3836, 1),
        attention_exact, quick=False,
    )  # fmt: skip


# Softmax


def block_ratio(C: int) -> list[float]:
    """Off-diagonal over diagonal blocks of a linear model with p = 1/C."""
    by = _random(0)
    model = nn.Linear(3, C, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    X, y = _normal(50, 3, by=by), torch.randint(C, (50,), generator=by)
    H = hesse.hessian(hesse.Cost(model, "cross_entropy", (X, y)))["weight", "weight"]
    return [float(H[0, :, 1, :].norm() / H[0, :, 0, :].norm())]


def outliers(K: int) -> list[float]:
    """After how many eigenvalues of a classifier of the digits below K, trained for fifty steps,
    the spectrum drops most."""
    images, labels = load_digits(return_X_y=True)
    X, y = torch.from_numpy(images[labels < K] / 16), torch.from_numpy(labels[labels < K])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, K)).double()
    descent = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(50):
        descent.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        descent.step()
    H = hesse.hessian(hesse.Cost(model, "cross_entropy", (X, y)))
    values = H.eigvalsh().flip(0)[: 2 * K]
    return [int((values[:-1] / values[1:]).argmax()) + 1]


def softmax_figures() -> Iterator[Figure]:
    """Blocks at the start, outliers at the end."""
    for C in (3, 10, 30, 100):
        yield Figure(
            "softmax curvature", f"off-diagonal over diagonal blocks at p = 1/{C}",
            (1 / (C - 1),), lambda C=C: block_ratio(C), within=1e-9, quick=C <= 30,
        )  # fmt: skip
    for K in (5, 10):
        yield Figure(
            "outliers of trained classifiers", f"{K} digits: the largest gap comes after K − 1",
            (K - 1,), lambda K=K: outliers(K), quick=K == 5,
        )  # fmt: skip


# K-FAC and random matrices


def kronecker_error() -> list[float]:
    """How far the Gauss–Newton blocks of a deep linear network are from G ⊗ A, with its factors
    written out; 1 where within 1e-13."""
    model, X = deep_linear((5, 4, 3, 2), 0), _normal(30, 5, by=_random(1))
    cost = hesse.Cost(model, "half_sse", (X, _normal(30, 2, by=_random(2))))
    G = hesse.hessian(cost, curvature="gauss_newton", block_diagonal=True)
    weights = [layer.weight.detach() for layer in model.children() if isinstance(layer, nn.Linear)]
    worst = 0.0
    for place, name in enumerate(cost.layout.names):
        above = torch.eye(2, dtype=torch.float64)
        for W in reversed(weights[place + 1 :]):
            above = above @ W
        a = X
        for W in weights[:place]:
            a = a @ W.T
        expected = torch.kron(above.T @ above, a.T @ a)
        worst = max(worst, float((G.flat(name, name) - expected).norm() / expected.norm()))
    return [float(worst < 1e-13)]


def edges() -> list[float]:
    """The extreme eigenvalues of the Hessian of one linear unit."""
    N, P = 4000, 1000
    X = _normal(N, P, by=_random(0))
    model = nn.Linear(P, 1, bias=False, dtype=torch.float64)
    cost = hesse.Cost(model, "mse", (X, torch.zeros(N, 1, dtype=torch.float64)))
    values = hesse.hessian(cost).eigvalsh() / 2
    return [float(values[0]), float(values[-1])]


def other_figures() -> Iterator[Figure]:
    """Kronecker factors that are exact, and edges of a random spectrum."""
    yield Figure(
        "K-FAC", "deep linear network, squared error: each block is G ⊗ A to 1e-13", (1,),
        kronecker_error,
    )  # fmt: skip
    yield Figure(
        "Marchenko, Pastur 1967", "one linear unit, N = 4,000, P = 1,000: (1 ± √(P/N))²",
        (0.25, 2.25), edges, within=0.05, quick=False,
    )  # fmt: skip


def figures() -> Iterator[Figure]:
    """All of them."""
    for of in (rank_figures, attention_figures, softmax_figures, other_figures):
        yield from of()


def _text(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


def main() -> None:
    """Find each again, print and record."""
    rows: list[list[str]] = []
    measured: list[dict[str, Any]] = []
    for figure in figures():
        seconds, found = timed(figure.found)
        verdict = "met" if figure.agrees(found) else "MISSED"
        rows.append(
            [figure.source, figure.what, _text(figure.published), _text(found), verdict,
             report.seconds(seconds)]
        )  # fmt: skip
        print(*rows[-1], sep=" | ", flush=True)
        measured.append({"what": figure.what, "found": [*found], "seconds": seconds})
    result = report.Report(
        name="papers",
        title="Published figures, found again",
        header=["source", "what", "published", "hesse's", "agree", "seconds"],
        rows=rows,
        notes=["In float64; ranks count the eigenvalues above P ε max|λ|."],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
