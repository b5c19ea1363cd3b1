"""Processes killed while they compute a Hessian into a store: what they leave is gone on with, and
in the end equals, byte by byte, what nobody interrupted.

`python tests/store/kills.py --count 60` kills many; the tests a few.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

import hesse

# Bytes to work in: some hundred tiles.
MEMORY = 60_000


def cost() -> hesse.Cost:
    """P = 118."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 3), nn.Tanh(), nn.Linear(3, 1))
    X, y = torch.randn(12, 8).double(), torch.randn(12, 1).double()
    return hesse.Cost(net.double(), "half_sse", (X, y))


def tiles(store: Path) -> dict[str, bytes]:
    """The bytes of every tile."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        # One in a folder of its own is being written.
        if path.is_file() and path.parent.name.isdigit()
    }


def check_kills(count: int, seed: int = 0) -> Counter[str]:
    """Kill so many processes, each of which goes on where the last one was killed; how many of them
    had begun, and how often all was done.

    Raises:
        AssertionError: a tile differs, or something was left behind.
    """
    draw, outcomes, asked = random.Random(seed), Counter[str](), cost()
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder, "whole.zarr"), Path(folder, "cut.zarr")
        start = time.monotonic()
        hesse.hessian(asked, out=whole, memory=MEMORY)
        # The first call has traced the model; a second store is the time of one.
        hesse.hessian(asked, out=cut, memory=MEMORY)
        once = (time.monotonic() - start) / 2
        expected = tiles(whole)
        assert tiles(cut) == expected
        _remove(cut)
        for _ in range(count):
            before = len(tiles(cut)) if cut.exists() else 0
            process = os.fork()
            if process == 0:
                _compute(asked, cut)
            time.sleep(draw.uniform(0.0, once / 3))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            found = tiles(cut) if cut.exists() else {}
            assert len(found) >= before, "tiles were lost"
            assert all(expected[name] == held for name, held in found.items())
            outcomes["before the store" if not found else "with some of the tiles"] += 1
            if cut.exists() and hesse.status(cut).is_finished:
                outcomes["finished"] += 1
                _remove(cut)
        H = hesse.hessian(asked, out=cut, memory=MEMORY)
        assert tiles(cut) == expected
        assert torch.equal(H.dense(), hesse.load(whole).dense())
        left = [path for path in Path(folder).rglob("*") if path.name.endswith(".partial")]
        assert not left, left
    return outcomes


def _remove(store: Path) -> None:
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()


def _compute(asked: hesse.Cost, store: Path) -> NoReturn:
    try:
        torch.set_num_threads(1)  # a fork has no other threads
        hesse.hessian(asked, out=store, memory=MEMORY)
        os._exit(0)
    finally:  # not on with what the parent does
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="killed processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"hesse {hesse.__version__}, seed {options.seed}")
    print("kills:", dict(check_kills(options.count, options.seed)))


if __name__ == "__main__":
    main()
