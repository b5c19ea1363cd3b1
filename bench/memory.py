"""Peak memory of a process that takes one dense Hessian, over P, and beside what its plan says.
``python -m bench.memory``; ``python -m bench.memory --plans`` for the second alone.

Each figure is the peak resident memory of a fresh process, which reads its data from a file and
imports torch and hesse only.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import CASES, Case, Problem
from bench.child import figures
from bench.measure import forget_peak, peak_memory
from hesse.certificates.soundness import require_sound
from hesse.exact.planning import diagonal_plan
from hesse.products.hessian_operator import allowed_memory
from hesse.products.planning import OperatorPlan, operator_plan

ALLOWANCE = 300e6
FACTOR = 2.2


# What is measured may be so much more than what was planned: a share of it, and bytes.
SLACK, MORE = 1.1, 20e6


class Recurrent(nn.Module):
    """The last step of a recurrent layer, and a dense one."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.last = kind(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[0][:, -1])


class Attentive(nn.Module):
    """The first token behind a layer of a transformer, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[:, 0])


def dense(*widths: int) -> nn.Module:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def pooled(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


# Models, the shape of their data, and bytes to work in, where they are asked for.
PLANNED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float | None]] = {
    "dense 64-32-10": (lambda: dense(64, 32, 10), (2000, 64), None),
    "dense 200-20-10": (lambda: dense(200, 20, 10), (5000, 200), None),
    "dense 200-20-10 in 50 MB": (lambda: dense(200, 20, 10), (5000, 200), 50e6),
    "deep": (lambda: dense(20, 24, 24, 24, 24, 10), (5000, 20), None),
    "deep in 50 MB": (lambda: dense(20, 24, 24, 24, 24, 10), (5000, 20), 50e6),
    "normalised": (
        lambda: nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.GELU(), nn.Linear(40, 5)),
        (1500, 30),
        None,
    ),
    "convolution": (
        lambda: pooled(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh()),
        (300, 1, 12, 12),
        None,
    ),
    "convolution in 50 MB": (
        lambda: pooled(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh()),
        (300, 1, 12, 12),
        50e6,
    ),
    "transposed": (
        lambda: pooled(
            nn.ConvTranspose2d(1, 6, (3, 2), 2), nn.ReLU(), nn.ConvTranspose2d(6, 3, (2, 3), 3)
        ),
        (12, 1, 18, 18),
        None,
    ),
    "upsampled": (
        lambda: pooled(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 5, 3, padding=1),
        ),
        (4, 1, 16, 16),
        None,
    ),
    "recurrent": (lambda: Recurrent(nn.GRU), (100, 6, 6), None),
    "transformer": (Attentive, (400, 6, 8), None),
}


# An operator is for data so many times as large; where memory is asked for, in batches of the sizes
# above, and a product with so many columns follows the one with a single v.
TIMES, COLUMNS = 20, 64


def planned_child(name: str, what: str) -> None:
    """One fresh process: what a Hessian, a diagonal or an operator takes beyond what was there, and
    what its plan says."""
    model, (samples, *shape), memory = PLANNED[name]
    memory = None if memory is None else int(memory)
    warm = hesse.Cost(dense(2, 3, 2), "mse", (torch.randn(4, 2), torch.randn(4, 2)))
    _ = hesse.hessian(warm), hesse.diagonal(warm)
    _ = hesse.operator(warm) @ warm.theta
    torch.manual_seed(0)
    network, times = model(), TIMES if what == "operator" else 1
    batches = [torch.randn(samples, *shape) for _ in range(times)]
    if memory is None:
        batches = [torch.cat(batches)]
    cost = hesse.Cost(network, "mse", [(x, torch.randn_like(network(x).detach())) for x in batches])
    plan, run = {
        "hessian": (partial(hesse.plan, cost, memory=memory), hesse.hessian),
        "diagonal": (partial(diagonal_plan, cost, memory), hesse.diagonal),
        "operator": (partial(planned_operator, cost, memory), multiplied),
    }[what]
    planned = plan().peak_bytes
    forget_peak()
    before = peak_memory()
    held = run(cost, memory=memory)
    taken = peak_memory() - before
    figure = {"case": name, "what": what, "taken": taken, "planned": planned, "memory": memory}
    print(json.dumps(figure))
    del held


def planned_operator(cost: hesse.Cost, memory: int | None) -> OperatorPlan:
    """The plan for `operator`, of a function that was examined as for every plan."""
    require_sound(cost)
    return operator_plan(cost, allowed_memory(memory, cost.device))


def multiplied(cost: hesse.Cost, memory: int | None) -> Any:
    """An operator and its product with a vector, which its plan is of; and with a matrix, for which
    there is what memory leaves, where that is asked for."""
    made, random = hesse.operator(cost, memory=memory), torch.Generator().manual_seed(0)
    v = torch.randn(cost.layout.size, COLUMNS, generator=random)
    return made, made @ v[:, 0], None if memory is None else made @ v


def plans() -> None:
    """What is taken beside what was planned, for every case."""
    rows, measured = [], []
    cases = list(product(PLANNED, ("hessian", "diagonal", "operator")))
    # As many at once as there are cores: most of each is what a fresh process imports and traces,
    # and what one takes the others do not change.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, what), figure in zip(
            cases, pool.map(lambda case: figures("bench.memory", "plan", *case), cases), strict=True
        ):
            allowed = figure["planned"]
            # The work of the other two is beyond their result.
            if what == "operator" and figure["memory"] is not None:
                allowed = min(allowed, figure["memory"])
            limit = SLACK * allowed + MORE
            verdict = report.target(figure["taken"], limit, f"{limit / 1e6:.0f} MB", least=False)
            cells = [f"{figure[key] / 1e6:.0f} MB" for key in ("planned", "taken")]
            rows.append([name, what, *cells, verdict])
            measured.append(figure)
            print(rows[-1], flush=True)
    result = report.Report(
        name="plans",
        title="What is taken beside what was planned, float32",
        header=["case", "what", "planned", "taken", "target"],
        rows=rows,
        notes=[
            (
                "Each figure is of a fresh process, beyond what it held before. An operator has"
                f" {TIMES} times the data, and is multiplied with; where it is given memory, which"
                f" is not exceeded either, with {COLUMNS} columns too."
            )
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


def child(name: str, what: str, file: str) -> None:
    """One fresh process: take the Hessian of a case, or only what comes before it, and print the
    peak as JSON."""
    case = next(case for case in CASES if case.name == name)
    arrays = np.load(file)
    problem = Problem(case.model(), torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]))
    found: dict[str, Any] = {"case": name, "samples": len(problem.x), "P": problem.size}
    if what == "hessian":
        cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
        dense = hesse.hessian(cost).dense()
        found.update(
            peak=peak_memory(),
            held=dense.numel() * dense.element_size(),
            planned=hesse.plan(cost).peak_bytes,
        )
    else:

        class Objective(nn.Module):
            """What an export needs: one module that gives the cost."""

            def __init__(self) -> None:
                super().__init__()
                self.model, self.loss = problem.model, nn.CrossEntropyLoss()

            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return self.loss(self.model(x), y)

        torch.export.export(Objective(), (problem.x, problem.y))
        found["peak"] = peak_memory()
    print(json.dumps(found))


def fresh(case: Case, what: str) -> dict[str, Any]:
    """The child's figures."""
    problem = case.build()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        np.savez(file, x=problem.x.numpy(), y=problem.y.numpy())
        return figures("bench.memory", case.name, what, str(file))


def main() -> None:
    """Measure, print and record."""
    rows, measured = [], []
    for case in CASES:
        taken, baseline = fresh(case, "hessian"), fresh(case, "export")
        limit = FACTOR * taken["held"] + ALLOWANCE
        verdict = report.target(taken["peak"], limit, f"{limit / 1e6:.0f} MB", least=False)
        over = (taken["peak"] - baseline["peak"]) / taken["held"]
        cells = [
            f"{value / 1e6:.0f} MB"
            for value in (taken["held"], baseline["peak"], taken["peak"], taken["planned"])
        ]
        rows.append(
            [case.name, f"{taken['samples']}", f"{taken['P']}", *cells, f"{over:.2f}", verdict]
        )
        measured.append({**taken, "baseline": baseline["peak"], "limit": limit})
    result = report.Report(
        name="memory",
        title="Peak memory of a process that takes one Hessian, float32",
        header=[
            "case",
            "samples",
            "P",
            "H itself",
            "before",
            "with hessian",
            "planned",
            "over before, in H",
            "target",
        ],
        rows=rows,
        notes=[
            (
                "Each figure is the peak resident memory of a fresh process. `before`: torch and"
                " hesse imported, the model exported by torch.export, nothing else. `planned` is"
                " the plan's own peak, of tensors only."
            ),
            f"The target is {FACTOR} P² itemsize + {ALLOWANCE / 1e6:.0f} MB for the whole process.",
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    if sys.argv[1:3] == ["--child", "plan"]:
        planned_child(*sys.argv[3:5])
    elif "--child" in sys.argv:
        child(*sys.argv[2:5])
    else:
        if "--plans" not in sys.argv:
            main()
        plans()
