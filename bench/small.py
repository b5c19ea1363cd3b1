"""The Hessian of small problems, of at most 500 parameters and 64 samples, where fixed costs rule:
hesse beside ``torch.func.hessian``, both warm, and the first in a process. ``python -m
bench.small``."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import hesse
from bench import report
from bench.cases import (
    Arrays,
    Attention,
    LastStep,
    Mean,
    NormedResidual,
    dense,
    gaussian,
    images,
    sequences,
)
from bench.child import figures
from bench.measure import interleaved, timed

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
ROUNDS = 20
# Fresh processes for each first Hessian.
PROCESSES = 3
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
}


@dataclass(frozen=True)
class Case:
    """A row of the table: how to make a model and its data, and the most seconds that its first
    Hessian in a process may take, where that is measured."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], Arrays]
    loss: str = "cross_entropy"
    first: float | None = None

    def build(self) -> "Problem":
        """The problem, the same in every run and every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, (x, y) = self.model(), self.data()
            return Problem(model, x, y, self.loss)


@dataclass(frozen=True)
class Problem:
    """A small model with its data."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: str

    def flat(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """J as a function of the flat vector of parameters, and that vector."""
        parameters = {name: value.detach() for name, value in self.model.named_parameters()}
        sizes, loss = [value.numel() for value in parameters.values()], LOSSES[self.loss]

        def cost(theta: Tensor) -> Tensor:
            pieces = zip(parameters.items(), theta.split(sizes), strict=True)
            values = {name: piece.reshape(value.shape) for (name, value), piece in pieces}
            return loss(torch.func.functional_call(self.model, values, (self.x,)), self.y)

        return cost, torch.cat([value.reshape(-1) for value in parameters.values()])


class Bidirectional(nn.Module):
    """An LSTM in both directions, and scores from its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """One encoder layer of width 4 with 2 heads, and scores from the mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(tokens)).mean(1))


def convolutional() -> nn.Module:
    """A convolution with pooling, and a layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(16, 4)),
    )


def transposed() -> nn.Module:
    """From a vector to an image."""
    return nn.Sequential(
        *(nn.Linear(4, 16), nn.Tanh(), nn.Unflatten(1, (4, 2, 2))),
        *(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Tanh()),
        nn.ConvTranspose2d(3, 1, 2, stride=2),
    )


def normalised() -> nn.Module:
    """A layer norm between two layers."""
    return nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.GELU(), nn.Linear(10, 4))


def at_rest() -> nn.Module:
    """Batch norms in evaluation mode, of one convolution and of one layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)),
    ).eval()


def residual() -> nn.Module:
    """Two blocks of width 8 with a way around each."""
    return nn.Sequential(nn.Linear(4, 8), NormedResidual(8), NormedResidual(8), nn.Linear(8, 3))


def embedded() -> nn.Module:
    """The mean of embedded words, and a layer."""
    return nn.Sequential(nn.Embedding(20, 8), Mean(1), nn.Linear(8, 5))


def tokens(samples: int, count: int, vocabulary: int, classes: int, each: bool = False):
    """Words, each sentence or each word with a label."""
    labels = (samples, count) if each else (samples,)
    return lambda: (
        torch.randint(vocabulary, (samples, count)),
        torch.randint(classes, labels),
    )


def values(samples: int, features: int, *shape: int, dtype: torch.dtype = torch.float32):
    """Standard normal inputs and targets."""
    return lambda: (
        torch.randn(samples, features, dtype=dtype),
        torch.randn(samples, *shape, dtype=dtype),
    )


CASES = [
    Case("softmax regression", dense(16, 10), gaussian(64, 16, 10)),
    Case("2-3-1, squares", dense(2, 3, 1), values(8, 2, 1), "mse", first=2.0),
    Case("8-12-4", dense(8, 12, 4), gaussian(64, 8, 4)),
    Case("10-12-12-5, float64", lambda: dense(10, 12, 12, 5)().double(),
         values(32, 10, 5, dtype=torch.float64), "mse"),
    Case("convolutions, pooling", convolutional, images(16, 8, 4)),
    Case("transposed convolutions", transposed, values(16, 4, 1, 8, 8), "mse"),
    Case("layer norm", normalised, gaussian(32, 6, 4)),
    Case("batch norms at rest", at_rest, images(16, 6, 3)),
    Case("residual blocks", residual, gaussian(32, 4, 3)),
    Case("embedding, mean", embedded, tokens(32, 6, 20, 5)),
    Case("RNN, 8 steps", lambda: LastStep(nn.RNN(2, 8, batch_first=True), 3),
         sequences(16, 8, 2, 3)),
    Case("GRU, 6 steps", lambda: LastStep(nn.GRU(2, 5, batch_first=True), 3),
         sequences(12, 6, 2, 3)),
    Case("LSTM, 6 steps", lambda: LastStep(nn.LSTM(2, 4, batch_first=True), 3),
         sequences(12, 6, 2, 3)),
    Case("LSTM, both directions", Bidirectional, sequences(8, 5, 2, 3)),
    Case("attention", lambda: Attention(4, 5, 6), tokens(12, 5, 6, 6, each=True)),
    Case("transformer layer", Encoder, tokens(12, 5, 8, 3), first=5.0),
]  # fmt: skip


def double_backward(problem: Problem) -> Tensor:
    """H one row after another, in plain autograd."""
    cost, theta = problem.flat()
    theta.requires_grad_()
    (slope,) = torch.autograd.grad(cost(theta), theta, create_graph=True)
    return torch.stack([torch.autograd.grad(entry, theta, retain_graph=True)[0] for entry in slope])


def error(H: Tensor, reference: Tensor) -> float:
    """Relative, of all entries together."""
    return float((H - reference).norm() / reference.norm())


def plain(problem: Problem, H: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A peer, with recurrent cells as it can differentiate them: oneDNN's have no forward mode."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in problem.model.modules())

    def run(theta: Tensor) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=not recurrent):
            return H(theta)

    return run


def measure(case: Case) -> dict[str, Any]:
    """Agreement, then time in turn, at another θ each time."""
    problem = case.build()
    flat, theta = problem.flat()
    reference, bound = double_backward(problem), TOLERANCE[theta.dtype]
    # PyTorch's is wrong behind a layer norm; jacfwd(grad) is right there, and takes as long.
    peers = {
        "hessian": plain(problem, torch.func.hessian(flat)),
        "jacfwd(grad)": plain(problem, torch.func.jacfwd(torch.func.grad(flat))),
    }
    peer = next(name for name, H in peers.items() if error(H(theta), reference) <= bound)
    cost = hesse.Cost(problem.model, problem.loss, (problem.x, problem.y))
    H = hesse.hessian(cost, certify=False).dense()
    if not (off := error(H, reference)) <= bound:
        raise SystemExit(f"{case.name}: H differs by {off:.1e} relative; nothing is timed")
    thetas = iter([theta * (1 + 0.001 * k) for k in range(4 * (ROUNDS + 1))])

    def renewed() -> Tensor:
        data = problem.x.clone(), problem.y.clone()
        made = hesse.Cost(problem.model, problem.loss, data)
        return hesse.hessian(made, certify=False).dense()

    runs: dict[str, Callable[[], Tensor]] = {
        "hesse": lambda: hesse.hessian(cost.at(next(thetas)), certify=False).dense(),
        "certified": lambda: hesse.hessian(cost.at(next(thetas))).dense(),
        "new": renewed,
        "torch": lambda: peers[peer](next(thetas)),
    }
    for run in runs.values():
        run()
    times = interleaved(runs, ROUNDS)
    first = [] if case.first is None else [
        figures("bench.small", case.name)["first"] for _ in range(PROCESSES)
    ]  # fmt: skip
    return {"case": case.name, "samples": len(problem.x), "P": len(theta), "error": off,
            "peer": peer, "seconds": times, "first": first, "bound": case.first,
            "best": {name: min(seconds) for name, seconds in times.items()},
            "by": sorted({block.strategy for block in hesse.plan(cost).blocks})}  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    best, first = measured["best"], measured["first"]
    ratio = best["hesse"] / best["torch"]
    at_first = ""
    if first:
        bound = measured["bound"]
        verdict = report.target(median(first), bound, report.seconds(bound), least=False)
        at_first = f"{report.seconds(median(first))} ({verdict})"
    wrong = "" if measured["peer"] == "hessian" else f" by {measured['peer']}"
    return [measured["case"], f"{measured['samples']}", f"{measured['P']}",
            ", ".join(measured["by"]), report.seconds(best["hesse"]),
            f"{report.seconds(best['torch'])}{wrong}",
            f"{ratio:.2f}× ({report.target(ratio, 1.0, '1×', least=False)})",
            report.seconds(best["certified"]), report.seconds(best["new"]),
            at_first, f"{measured['error']:.1e}"]  # fmt: skip


def child(name: str) -> None:
    """The first Hessian in a process, of a cost that is made for it."""
    problem = next(case for case in CASES if case.name == name).build()
    seconds, _ = timed(
        lambda: hesse.hessian(
            hesse.Cost(problem.model, problem.loss, (problem.x, problem.y)), certify=False
        ).dense()
    )
    print(json.dumps({"first": seconds}))


def main() -> None:
    """Measure, print and record; cases by name are not recorded."""
    torch.backends.mha.set_fastpath_enabled(False)
    asked = sys.argv[1:]
    cases = [case for case in CASES if not asked or any(a in case.name for a in asked)]
    with sdpa_kernel(SDPBackend.MATH):
        measured = [measure(case) for case in cases]
    ratios = {m["case"]: m["best"]["hesse"] / m["best"]["torch"] for m in measured}
    worst, least = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    result = report.Report(
        name="small",
        title=f"Small problems beside torch.func.hessian, {torch.get_num_threads()} threads",
        header=[
            *("network", "samples", "P", "by", "hesse", "torch.func.hessian", "ratio"),
            *("with certificate", "of a new cost", "the first in a process", "error"),
        ],
        rows=[row(m) for m in measured],
        notes=[
            f"Both warm: the best of {ROUNDS} rounds taken in turn, at another θ each time. A new"
            " cost is made of the same model and other data, and its making counts.",
            f"Of torch.func.hessian's time: {ratios[worst]:.2f} at worst ({worst}),"
            f" {ratios[least]:.2f} at best ({least}), {median(ratios.values()):.2f} in the median.",
            f"The first in a process: the median of {PROCESSES}, with tracing and without imports.",
            "Where torch.func.hessian is wrong (behind a layer norm), what is right is timed.",
        ],
        measurements=measured,
    )  # fmt: skip
    print(result.markdown())
    if not asked:
        result.save()


if __name__ == "__main__":
    child(sys.argv[2]) if sys.argv[1:2] == ["--child"] else main()
