"""Processes that work together, against one: ``python tests/distributed/ranks.py`` asks ten costs
everything by 1, 2, 3 and 4 of them, and kills one of two and of three at random moments; the tests
ask a pair of them less."""

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def run(count: int, work: str, folder: Path, seconds: float = 0.0) -> list[tuple[int, str]]:
    """So many processes with what `torchrun` tells them; their exit statuses and what they
    printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", work, "--folder", folder, "--after", str(seconds)],
            env={**os.environ, **group, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    printed = [process.communicate(timeout=600)[0] for process in started]
    return [(p.returncode, text) for p, text in zip(started, printed, strict=True)]


def work(what: str, folder: Path, seconds: float) -> None:
    """What one process does; prints how much of it."""
    from distributed import failures, problems
    from hesse.distributed.group import joined

    group, counts = joined(), Counter[str]()
    if what == "quick":
        counts["answers"] += problems.check("ragged")
        for name in ("weighted", "batch_norm", "without_data", "wrapped"):
            counts["answers"] += problems.check(name, problems.asked_little)
    if what == "long":
        for name in problems.CASES:
            if group is None and name == "wrapped":
                continue  # DistributedDataParallel is of several
            counts["answers"] += problems.check(name)
        for name in ("one_batch", "ragged", "many_batches"):
            counts["answers"] += problems.check(name, problems.asked_of_curvatures)
    if group is not None and what in ("quick", "long"):
        for name in failures.FAILURES:
            failures.check(name)
            counts["failures"] += 1
    if what in ("quick", "kill"):
        failures.check_killed(folder, None if what == "quick" else seconds)
        counts["kills"] += 1
    print(*(f"{number} {name}" for name, number in counts.items()), flush=True)


def main(arguments: argparse.Namespace) -> None:
    """All of it, with counts."""
    draw, total, start = random.Random(0), Counter[str](), time.monotonic()
    for count in (1, 2, 3, 4):
        every = run(count, "long", Path("."))
        for status, text in every:
            assert status == 0, text
        print(f"{count} processes: {every[0][1].strip().splitlines()[-1]}", flush=True)
        total["processes"] += count
    for kill in range(arguments.kills):
        with tempfile.TemporaryDirectory() as folder:
            every = run(2 + kill % 2, "kill", Path(folder), draw.uniform(0.0, 3.0))
            for status, text in every[:-1]:
                assert status == 0, text
            total["killed" if every[-1][0] < 0 else "had ended"] += 1
    print(dict(total), f"in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--work", default="")
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--after", type=float, default=0.0)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.folder, given.after)
    else:
        main(given)
