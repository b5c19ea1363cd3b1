"""One Hessian-vector product after the first, in units of one gradient of the same batch. Agreement
first, then time.

``python -m bench.operator``. hesse's operator beside `torch.func.linearize`, autograd's graph kept
(double backward), ``jvp(grad)`` anew for every v, and curvlinops where it is installed.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import hesse
from bench import report
from bench.cases import Arrays, Case, Problem, dense, gaussian
from bench.measure import DEVICE, interleaved, timed, where
from bench.networks import gpt2, minilm, resnet18, resnet50, sentences, texts
from bench.networks import images as large_images
from bench.peers import Skipped, double_backward_products
from hesse.products import operator

TOLERANCE = 1e-5
ROUNDS = 25
# On a busy machine fewer rounds are taken, and never fewer than three.
PATIENCE = 25.0

Product = Callable[[], Tensor]


def convolutional() -> nn.Module:
    """Two convolutions of 8 and 16 channels on a 28 × 28 image, with average pooling."""
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
    return nn.Sequential(
        first,
        nn.Tanh(),
        nn.AvgPool2d(2),
        second,
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(784, 10),
    )


class Transformer(nn.Module):
    """Two encoder layers of width 64 with 4 heads, over 32 tokens from a vocabulary of 50; it
    scores every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.position = nn.Parameter(torch.randn(32, 64))
        layers = [
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(2)
        ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(64, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of shape (samples, vocabulary, tokens), as cross entropy wants them."""
        return self.head(self.layers(self.embedding(tokens) + self.position)).transpose(1, 2)


def images() -> Arrays:
    """64 images of noise, each with a label."""
    return torch.randn(64, 1, 28, 28), torch.randint(10, (64,))


def tokens() -> Arrays:
    """16 sentences of 32 tokens, each with a label."""
    return torch.randint(50, (16, 32)), torch.randint(50, (16, 32))


CASES = [
    Case("784-512-512-10", dense(784, 512, 512, 10), gaussian(512, 784, 10), {"gradient": 1.5}),
    Case("convolutional, 28 × 28", convolutional, images, {"gradient": 1.5}),
    Case("transformer, two layers", Transformer, tokens, {"gradient": 1.5}),
    # Near zero a ReLU selects another entry in float32 than in float64.
    Case(
        "ResNet-18, 32 × 32",
        lambda: resnet18(64),
        lambda: large_images(16),
        {"gradient": 2.0, "error": 1e-3},
    ),
    Case("MiniLM-like, padded", minilm, lambda: sentences(8), {"gradient": 2.0}),
]
# What takes a GPU.
LARGE_CASES = [
    Case(
        "ResNet-50, 224 × 224",
        resnet50,
        lambda: large_images(64, 224, 1000),
        {"gradient": 2.0, "error": 3e-3},
    ),
    Case("GPT of 124 M, 1,024 tokens", gpt2, lambda: texts(4, 1024), {"gradient": 2.8}),
]
# As many columns at once are to be so many times as fast as one by one.
COLUMNS, LEAST = 64, 3.0
COLUMN_CASES = [
    Case("6-8-4", dense(6, 8, 4), gaussian(32, 6, 4)),
    Case("20-50-10", dense(20, 50, 10), gaussian(100, 20, 10)),
    *CASES[:3],
]


@dataclass(frozen=True)
class Ready:
    """One way to the products of a problem: ``run()`` is H v as a flat vector."""

    run: Product
    seconds: float


class Setting:
    """A problem, a direction, and the gradient that the ratios are measured by."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.parameters = {
            name: p.detach().clone().requires_grad_()
            for name, p in problem.model.named_parameters()
        }
        self.flat = normal(1, problem.size)
        sizes = [p.numel() for p in self.parameters.values()]
        pieces = zip(self.parameters.items(), self.flat.split(sizes), strict=True)
        self.direction = {name: piece.reshape(p.shape) for (name, p), piece in pieces}

    def cost(self, parameters: dict[str, Tensor]) -> Tensor:
        """J, the mean cross entropy."""
        return F.cross_entropy(
            torch.func.functional_call(self.problem.model, parameters, (self.problem.x,)),
            self.problem.y,
        )

    def gradient(self) -> list[Tensor]:
        """∇J by `torch.autograd.grad`, the fastest plain gradient."""
        return list(torch.autograd.grad(self.cost(self.parameters), list(self.parameters.values())))

    def reference(self) -> Tensor:
        """H v in float64, by double backward."""
        wide = {name: p.detach().double().requires_grad_() for name, p in self.parameters.items()}
        fixed = {
            name: held.double() if held.is_floating_point() else held
            for name, held in self.problem.model.named_buffers()
        }
        x = self.problem.x.double() if self.problem.x.is_floating_point() else self.problem.x
        cost = F.cross_entropy(
            torch.func.functional_call(self.problem.model, {**fixed, **wide}, (x,)), self.problem.y
        )
        gradient = torch.autograd.grad(cost, list(wide.values()), create_graph=True)
        directions = [v.double() for v in self.direction.values()]
        return flat(torch.autograd.grad(gradient, list(wide.values()), directions))


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def flat(parts: Any) -> Tensor:
    """One vector of many tensors."""
    return torch.cat([part.reshape(-1) for part in parts])


def by_hesse(setting: Setting) -> Product:
    """``hesse.operator(cost) @ v``."""
    made = operator(
        hesse.Cost(setting.problem.model, "cross_entropy", (setting.problem.x, setting.problem.y))
    )
    return lambda: made @ setting.flat


def by_linearize(setting: Setting) -> Product:
    """`torch.func.linearize` of the gradient."""
    detached = {name: p.detach() for name, p in setting.parameters.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own graph
        linear = torch.func.linearize(torch.func.grad(setting.cost), detached)[1]
    return lambda: flat(linear(setting.direction).values())


def by_graph(setting: Setting) -> Product:
    """The gradient's graph, kept: each product is one more backward."""
    leaves = list(setting.parameters.values())
    gradient = torch.autograd.grad(setting.cost(setting.parameters), leaves, create_graph=True)
    return lambda: flat(
        torch.autograd.grad(gradient, leaves, list(setting.direction.values()), retain_graph=True)
    )


def by_jvp(setting: Setting) -> Product:
    """Forward over reverse, all of it for every v."""
    detached = {name: p.detach() for name, p in setting.parameters.items()}
    return lambda: flat(
        torch.func.jvp(torch.func.grad(setting.cost), (detached,), (setting.direction,))[1].values()
    )


def by_curvlinops(setting: Setting) -> Product:
    """curvlinops' ``HessianLinearOperator @ v``."""
    try:
        from curvlinops import HessianLinearOperator  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Skipped(str(error)) from error
    problem = setting.problem
    parameters = list(problem.model.parameters())
    data = [(problem.x, problem.y)]
    made = HessianLinearOperator(
        problem.model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False
    )
    return lambda: (made @ setting.flat).detach()


WAYS: dict[str, Callable[[Setting], Product]] = {
    "hesse": by_hesse,
    "linearize": by_linearize,
    "graph kept": by_graph,
    "jvp(grad)": by_jvp,
    "curvlinops": by_curvlinops,
}


def measure(case: Case) -> dict[str, Any]:
    """Every number of one row.

    Raises:
        AssertionError: hesse's product is not H v. A peer's that is not is shown, and not timed.
    """
    setting = Setting(case.build())
    ready: dict[str, Ready] = {}
    skipped: dict[str, str] = {}
    errors: dict[str, float] = {}
    # Attention's fused kernels have no second derivative; the gradient has the same form, so that
    # the units are the same.
    with sdpa_kernel(SDPBackend.MATH):
        expected = setting.reference()
        for name, way in WAYS.items():
            try:
                seconds, run = timed(lambda way=way: way(setting))
                found = run()
            except Skipped as reason:
                skipped[name] = f"not here: {reason}"
                continue
            # A model that looks at values is more than some ways can trace, a large one more than
            # they can keep.
            except Exception as reason:
                if name == "hesse":
                    raise
                skipped[name] = f"fails: {type(reason).__name__}"
                continue
            errors[name] = float((found.double() - expected).abs().max() / expected.abs().max())
            allowed = case.targets.get("error", TOLERANCE)
            assert errors[name] < allowed or name != "hesse", (
                f"hesse on {case.name}: off by {errors[name]:.2g}"
            )
            if errors[name] < allowed:
                ready[name] = Ready(run, seconds)
            else:
                skipped[name] = f"off by {errors[name]:.1g}"
        runs: dict[str, Callable[[], object]] = {
            "gradient": setting.gradient,
            **{name: made.run for name, made in ready.items()},
        }
        rounds = in_turn(runs)
    seconds = {name: statistics.median(taken) for name, taken in rounds.items()}
    return {
        "case": case.name,
        "P": setting.problem.size,
        "samples": len(setting.problem.x),
        "seconds": seconds,
        "rounds": len(rounds["gradient"]),
        "ratios": {name: seconds[name] / seconds["gradient"] for name in ready},
        "preparation": {name: made.seconds for name, made in ready.items()},
        "errors": errors,
        "skipped": skipped,
        "bound": case.targets["gradient"],
    }


def in_turn(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of every run in every round."""
    start = time.perf_counter()
    rounds = interleaved(runs, 3)
    while len(rounds["gradient"]) < ROUNDS and time.perf_counter() - start < PATIENCE:
        for name, taken in interleaved(runs, 1).items():
            rounds[name] += taken
    return rounds


def row(measured: dict[str, Any]) -> list[str]:
    """The cells of one measurement."""
    ratios = measured["ratios"]
    met = "met" if ratios["hesse"] <= measured["bound"] else "MISSED"
    return [
        measured["case"],
        str(measured["samples"]),
        str(measured["P"]),
        report.seconds(measured["seconds"]["gradient"]),
        *[f"{ratios[name]:.2f}×" if name in ratios else measured["skipped"][name] for name in WAYS],
        f"≤ {measured['bound']}×: {met}",
        report.seconds(measured["preparation"]["hesse"]),
        f"{measured['errors']['hesse']:.1e}",
    ]


def measure_columns(case: Case) -> dict[str, Any]:
    """H V for many columns at once, and one by one; against float64 double backward first.

    Raises:
        AssertionError: it is not H V.
    """
    problem = case.build()
    made = operator(hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y)))
    V = normal(2, problem.size, COLUMNS)
    expected = double_backward_products(problem, V[:, :3].double())
    error = float(((made @ V)[:, :3].double() - expected).abs().max() / expected.abs().max())
    assert error < TOLERANCE, f"hesse on {case.name}: off by {error:.2g}"
    rounds = interleaved(
        {
            "together": lambda: made @ V,
            "one by one": lambda: torch.stack([made @ v for v in V.T.contiguous()], 1),
        },
        5,
    )
    seconds = {name: statistics.median(taken) for name, taken in rounds.items()}
    return {
        "case": case.name,
        "P": problem.size,
        "samples": len(problem.x),
        "seconds": seconds,
        "ratio": seconds["one by one"] / seconds["together"],
        "error": error,
    }


def columns() -> report.Report:
    """The table of many columns at once, the worst ratio last."""
    measured = sorted(map(measure_columns, COLUMN_CASES), key=lambda m: -m["ratio"])
    return report.Report(
        name="columns",
        title=f"H V for {COLUMNS} columns, {where()}",
        header=["case", "samples", "P", "together", "one by one", "ratio", "target", "error"],
        rows=[
            [
                m["case"],
                str(m["samples"]),
                str(m["P"]),
                report.seconds(m["seconds"]["together"]),
                report.seconds(m["seconds"]["one by one"]),
                f"{m['ratio']:.2f}×",
                report.target(m["ratio"], LEAST, f"{LEAST:g}×", least=True),
                f"{m['error']:.1e}",
            ]
            for m in measured
        ],
        notes=[
            "Medians of 5 rounds taken in turn. Matrix products of a large network are as fast for"
            " one column: there the ratio is that of the rest.",
            "The error is against float64 double backward of three columns.",
        ],
        measurements=measured,
    )


def main() -> None:
    """Measure all cases, print the tables and record them."""
    measured = []
    for case in CASES if DEVICE == "cpu" else CASES + LARGE_CASES:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        measured.append(measure(case))
    result = report.Report(
        name="operator",
        title=f"One product H v in gradients, {where()}",
        header=["case", "samples", "P", "gradient", *WAYS, "target", "prepared in", "error"],
        rows=[row(m) for m in measured],
        notes=[
            (
                f"Medians of up to {ROUNDS} rounds taken in turn; tanh or GELU, cross entropy,"
                " float32; each gives a flat vector."
            ),
            (
                "The error is hesse's, against a float64 double backward, relative to the largest"
                f" entry of H v. A way that is off by more than {TOLERANCE:g} is not timed (1e-3"
                " where ReLUs near zero select another entry in float32)."
            ),
            (
                "Prepared in: hesse's cost, the trace of its product and what is computed once, not"
                " part of the ratios. The next operator of the same cost, also at other parameters,"
                " does not trace again. The first time holds imports."
            ),
        ],
        measurements=measured,
    )
    for table in (result, columns()):
        print(table.markdown())
        table.save()


if __name__ == "__main__":
    main()
