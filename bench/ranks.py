"""A Hessian onto the disk, and products with it, by one process, by two and by four, beside what
the plan says. ``python -m bench.ranks --folder DIR``.

Times are on the processor, not on the clock, which shows what else the machine does, and each
process has one thread: the busiest of two, on a core each, is held against half of what one takes.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import hesse
from bench import report
from bench.scale import cost
from hesse.distributed.group import gathered, of_first

WIDTHS = ((100, 30, 20, 10), (200, 35, 20, 10), (320, 38, 20, 10))
SAMPLES, PRODUCTS = 1000, 20
# Of what one process takes, by each of several.
EFFICIENCY = 0.9


def work(widths: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """What one of the processes does; seconds of the busiest, and what the plan says of all."""
    asked, store = cost(widths, SAMPLES), folder / f"{widths[0]}.zarr"
    processes = int(os.environ["WORLD_SIZE"])
    planned = of_first("a plan", lambda: hesse.plan(asked, out=store, processes=processes))
    operator = hesse.operator(asked)
    v = torch.ones(asked.layout.size)

    def dense() -> object:
        of_first("a place", lambda: shutil.rmtree(store, ignore_errors=True))
        return hesse.hessian(asked, out=store)

    def products() -> object:
        return [operator @ v for _ in range(PRODUCTS)]

    taken = {}
    for name, run in (("dense", dense), ("products", products)):
        run()  # what is traced once
        before = time.process_time()
        run()
        mine = time.process_time() - before
        taken[name] = max(gathered("seconds", lambda mine=mine: mine))
    return {**taken, "P": asked.layout.size, "planned": planned.seconds, "sent": planned.network}


def by(processes: int, folder: Path) -> list[dict[str, Any]]:
    """The same by so many processes, for all sizes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    own = {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.ranks", "--folder", folder, "--child"],
            env={**os.environ, **group, **own, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    printed = [process.communicate()[0] for process in started]
    return json.loads(printed[0].splitlines()[-1])


def main(folder: Path, save: bool) -> None:
    """The table."""
    found = {}
    for processes in (1, 2, 4):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            found[processes] = by(processes, Path(place))
    rows = [
        [
            f"{its['P']:,}",
            str(processes),
            report.seconds(its["planned"]),
            report.seconds(processes * its["dense"]),
            f"{one['dense'] / (processes * its['dense']):.2f}",
            report.seconds(processes * its["products"]),
            f"{one['products'] / (processes * its['products']):.2f}",
        ]
        for processes, every in found.items()
        for one, its in zip(found[1], every, strict=True)
    ]
    result = report.Report(
        name="ranks",
        title=f"A Hessian onto the disk by many processes, N = {SAMPLES}",
        header=["P", "processes", "planned", "took", "of one", f"{PRODUCTS} products", "of one"],
        rows=sorted(rows, key=lambda row: float(row[0].replace(",", ""))),
        notes=[
            f"Target by two processes: {EFFICIENCY} of one.",
            "Seconds on the processor: the number of processes times what the busiest took.",
        ],
        measurements=[{"processes": n, **its} for n, every in found.items() for its in every],
    )
    print(result.markdown())
    if save:
        result.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    if given.child:
        print(json.dumps([work(widths, given.folder) for widths in WIDTHS]))
    else:
        main(given.folder, given.save)
