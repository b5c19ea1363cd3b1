"""A fresh process: what an operator and its products take of it, beside what was said before, as
JSON. ``python tests/products/resident.py``"""

import ctypes
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import hesse
from hesse.products.planning import operator_plan

SAMPLES, BATCHES, COLUMNS = 2500, 8, 64


def question(samples: int, batches: int) -> hesse.Cost:
    """Numbers of columns that do not go side by side in a processor's caches, by tensors that are
    less than what the allocator asks the system for one by one."""
    torch.manual_seed(0)
    widths = [nn.Linear(20, 24), nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 10)]
    model = nn.Sequential(*[part for layer in widths for part in (layer, nn.Tanh())])
    data = [(torch.randn(samples, 20), torch.randn(samples, 10)) for _ in range(batches)]
    return hesse.Cost(model, "mse", data)


def taken(work: Callable[[], Any]) -> int:
    """Bytes at the peak of some work, beyond what there are."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    work()
    return _peak() - before


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def figures(cost: hesse.Cost, memory: int | None) -> dict[str, Any]:
    """What is said, and what is taken."""
    planned = operator_plan(cost, 10**12 if memory is None else memory)
    v, made = torch.randn(cost.layout.size, COLUMNS), list[hesse.HessianOperator]()
    return {
        "planned": planned.peak_bytes,
        "memory": memory,
        "holds": planned.holds,
        "made": taken(lambda: made.append(hesse.operator(cost, memory=memory))),
        "product": taken(lambda: made[0] @ v[:, 0]),
        "matrix": taken(lambda: made[0] @ v),
    }


def main() -> None:
    # What is loaded for the first time takes memory of its own.
    figures(question(4, 2), None)
    found = {
        "whole": figures(question(SAMPLES * BATCHES, 1), None),
        "batches": figures(question(SAMPLES, BATCHES), 30 * 10**6),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
