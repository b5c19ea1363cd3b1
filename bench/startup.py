"""What a user waits for at first: importing hesse, and a small network's first Hessian. ``python -m
bench.startup``.

Every figure comes from fresh processes. Nothing heavy may be imported at the top of this file: the
child is this file too.
"""

import json
import os
import sys
import tempfile
import time
from statistics import median

from bench.child import figures

PROCESSES = 5
REPEATS = 20
HEADER = ["what", "best", "median", "worst", "target"]

# What is timed, in the child's words: the line of the table, and its target in seconds.
LINES = {
    "import torch": ("`import torch`", None),
    "import hesse": ("`import hesse` after it", 0.3),
    "cost": ("`Cost` of a 2-3-1 network, 8 samples", None),
    "first": ("its Hessian, the first time in the process", 2.5),
    "again": ("its Hessian, again", 0.010),
    "new cost": ("`Cost` and Hessian of the same network with other weights and data", None),
}


def child() -> None:
    """One fresh process: print the seconds of each step as JSON."""
    seconds = {}
    at = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal at
        now = time.perf_counter()
        seconds[name], at = now - at, time.perf_counter()

    import torch

    lap("import torch")
    import hesse

    lap("import hesse")
    torch.manual_seed(0)
    first, last = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    model = torch.nn.Sequential(first, torch.nn.Tanh(), last)
    x, y = torch.randn(8, 2), torch.randn(8, 1)
    lap("model")
    cost = hesse.Cost(model, "half_sse", (x, y))
    lap("cost")
    hesse.hessian(cost).dense()
    lap("first")
    again, new = list[float](), list[float]()
    for _ in range(REPEATS):
        hesse.hessian(cost).dense()
        lap("again")
        again.append(seconds["again"])
    for _ in range(REPEATS):
        with torch.no_grad():
            first.weight.mul_(1.01)
        hesse.hessian(hesse.Cost(model, "half_sse", (x + 1, y))).dense()
        lap("new cost")
        new.append(seconds["new cost"])
    # One of them waits for Python's collector, which walks all that PyTorch's tracer has loaded.
    print(json.dumps({**seconds, "again": median(again), "new cost": median(new)}))


def main() -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory() as kept:
        # Bytecode is kept, as it is where hesse is installed.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = kept
        # Files into the page cache, bytecode to disk: a first import after installing is not it.
        figures("bench.startup")
        runs = [figures("bench.startup") for _ in range(PROCESSES)]
    from bench import report

    rows = []
    for key, (text, bound) in LINES.items():
        values = [run[key] for run in runs]
        verdict = (
            ""
            if bound is None
            else report.target(median(values), bound, report.seconds(bound), least=False)
        )
        rows.append([text, *(report.seconds(f(values)) for f in (min, median, max)), verdict])
    result = report.Report(
        name="startup",
        title="Starting up",
        header=HEADER,
        rows=rows,
        notes=[f"{PROCESSES} fresh processes after one that warms the disk cache; "
               "targets are for the median. "
               f"`again` and `other weights` are medians over {REPEATS} in each process."],
        measurements=runs,
    )  # fmt: skip
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    child() if "--child" in sys.argv else main()
