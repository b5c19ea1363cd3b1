"""How often 95 % error bars hold the exact answer, over many runs of each estimate: it has to be
90 to 99 % of them. A script: `python tests/spectra/coverage.py`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import hesse
from operators_of_spectra import by_products, turned

F64 = torch.float64
DECAYING = 1 / (1 + torch.arange(120, dtype=F64))
OUTLIERS = torch.cat([torch.tensor([9.0, 5, 3], dtype=F64), DECAYING[:117] / 3])
INDEFINITE = torch.cat([OUTLIERS[:60], -DECAYING[:60] / 2])
# So few values that the quadrature is exact after as many steps.
FEW = torch.tensor([1.0, 8.0], dtype=F64).repeat_interleave(20)
Exact = Callable[[torch.Tensor], torch.Tensor]
CASES: dict[str, tuple[Callable[..., Any], Exact, torch.Tensor, float]] = {
    "trace": (hesse.trace, torch.sum, OUTLIERS, 0.05),
    "trace, indefinite": (hesse.trace, torch.sum, INDEFINITE, 0.05),
    "squared norm": (hesse.squared_norm, lambda v: v.square().sum(), OUTLIERS, 0.05),
    "squared norm, indefinite": (
        hesse.squared_norm,
        lambda v: v.square().sum(),
        INDEFINITE,
        0.05,
    ),
    "logdet": (
        partial(hesse.logdet, damping=0.1),
        lambda v: (v + 0.1).log().sum(),
        FEW,
        0.2,
    ),
    "effective dimension": (
        partial(hesse.effective_dimension, damping=1.0),
        lambda v: (v / (v + 1)).sum(),
        FEW,
        0.2,
    ),
}


def coverage(
    runs: int, ask: Callable[..., Any], exact: Exact, values: torch.Tensor, target: float
) -> float:
    """Which part of the runs' bars hold the exact answer."""
    A, truth, within = by_products(turned(values)), float(exact(values)), 0
    for seed in range(runs):
        found = ask(A, method="estimate", seed=seed, relative_error=target)
        assert not found.exact and found.error <= target * abs(found.value)
        within += abs(found.value - truth) <= 1.96 * found.error
    return within / runs


def main() -> int:
    """The command: the parts, and whether one is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    found = {name: coverage(runs, *case) for name, case in CASES.items()}
    print(found)
    return int(not all(0.9 <= part <= 0.99 for part in found.values()))


if __name__ == "__main__":
    sys.exit(main())
