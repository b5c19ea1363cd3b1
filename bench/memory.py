"""Peak memory of a process that takes one dense Hessian, over P. ``python -m bench.memory``.

Each figure is the peak resident memory of a fresh process, which reads its data from a file and
imports torch and hesse only.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hesse
from bench import report
from bench.cases import CASES, Case, Problem
from bench.child import figures
from bench.measure import peak_memory

ALLOWANCE = 300e6
FACTOR = 2.2


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
    child(*sys.argv[2:5]) if "--child" in sys.argv else main()
