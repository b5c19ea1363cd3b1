"""The dense Hessian: hesse beside its peers in one process. Agreement first, then time.

``python -m bench.dense [--quick] [CASE ...]``. ``--quick`` times the peers that can be asked for
some columns on 512 of them and multiplies by P / 512; everything else stays. A run of chosen cases
prints its table and records nothing.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import hesse
from bench import report
from bench.cases import CASES, Case, Problem
from bench.measure import DEVICE, interleaved, product_rate, timed, where
from bench.peers import CHUNK, PEERS, Peer, Skipped, double_backward_products, hessian_products

TOLERANCE = 1e-5
ROUNDS = 5
# What takes longer than this is timed twice only.
SLOW = 10.0
SAMPLED_COLUMNS = 512


@dataclass
class Timing:
    """How long one way took: every run, what those seconds are to be multiplied by where only a
    part was run, or why none was."""

    seconds: list[float] = field(default_factory=list)
    scale: float = 1.0
    preparation: float = 0.0
    skipped: str = ""

    @property
    def best(self) -> float:
        return min(self.seconds) * self.scale


def relative_error(part: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest entry; in slices, because these matrices fill much of
    the memory."""
    largest = max(float(reference.abs().max()), 1e-300)
    slices = zip(part.split(512), reference.split(512), strict=True)
    return max(float((a.to(b.dtype) - b).abs().max()) for a, b in slices) / largest


def agreement(problem: Problem, matrix: Tensor) -> float:
    """The larger relative error of 64 columns and of 8 products, in float64, by two ways of
    differentiating twice.

    Two, because one way can be wrong: see README.md on the peers' Hessian of a LayerNorm.
    """
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(problem.size, generator=generator)[:64]
    units = torch.zeros(problem.size, len(chosen), dtype=torch.float64)
    units[chosen, torch.arange(len(chosen))] = 1.0
    units, chosen = units.to(DEVICE), chosen.to(DEVICE)
    columns = torch.cat([hessian_products(problem, part) for part in units.split(16, dim=1)], dim=1)
    directions = torch.randn(problem.size, 8, dtype=torch.float64, generator=generator)
    directions = directions.to(DEVICE)
    products = torch.cat([part.double() @ directions for part in matrix.split(512)])
    reference = double_backward_products(problem, directions)
    return max(relative_error(matrix[:, chosen], columns), relative_error(products, reference))


def measure(case: Case, quick: bool) -> dict[str, Any]:
    """Everything about one case. A wrong answer of ours ends the run; a peer's is not timed and the
    table says so."""
    problem = case.build()
    cost = hesse.Cost(problem.model, "cross_entropy", (problem.x, problem.y))
    first, matrix = timed(lambda: hesse.hessian(cost).dense())
    errors = {"float64": agreement(problem, matrix)}
    if not errors["float64"] <= TOLERANCE:
        raise SystemExit(
            f"{case.name}: hesse is wrong by {errors['float64']:.2e} relative in float32; nothing"
            " is timed"
        )

    timings = {"hesse": Timing(preparation=first)}
    runs: dict[str, Callable[[], object]] = {"hesse": lambda: hesse.hessian(cost).dense()}
    for peer in PEERS:
        timings[peer.name], run, error = _first_run(peer, problem, matrix, quick)
        if run is not None:
            runs[peer.name], errors[peer.name] = run, error
        gc.collect()
    del matrix
    rate = product_rate()
    rounds = [interleaved(runs, 1)]
    quick_runs = {name: run for name, run in runs.items() if rounds[0][name][0] <= SLOW}
    rounds.append(interleaved(quick_runs, ROUNDS - 1))
    for turn in rounds:
        for name, times in turn.items():
            timings[name].seconds += times
    rate = max(rate, product_rate())
    best = {name: timing.best for name, timing in timings.items() if timing.seconds}
    plan = hesse.plan(cost)
    return {
        "case": case.name,
        "samples": len(problem.x),
        "P": problem.size,
        "operations": plan.operations,
        "matrix product rate": rate,
        "fraction of the rate": plan.operations / best["hesse"] / rate,
        "errors": errors,
        "targets": case.targets,
        "timings": {name: vars(timing) for name, timing in timings.items()},
        "best": best,
    }


def _first_run(
    peer: Peer, problem: Problem, matrix: Tensor, quick: bool
) -> tuple[Timing, Callable[[], object] | None, float]:
    """Prepare a peer, warm it up, time it, and compare its H (or its first columns) with ours."""
    try:
        prepared = peer.prepare(problem)
    except (Skipped, ImportError) as reason:
        return Timing(skipped=str(reason)), None, 0.0
    count = min(SAMPLED_COLUMNS, problem.size) if quick and peer.partial else problem.size
    if peer.partial:
        prepared.run(min(CHUNK, count))
    seconds, theirs = timed(lambda: prepared.run(count))
    error = relative_error(theirs, matrix[:, : theirs.shape[1]])
    if not error <= TOLERANCE:
        return Timing(skipped=f"wrong by {error:.1e}, not timed"), None, error
    timing = Timing([seconds], scale=problem.size / count, preparation=prepared.seconds)
    return timing, lambda: prepared.run(count), error


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    best, ours = measured["best"], measured["best"]["hesse"]
    cells = [measured["case"], f"{measured['samples']}", f"{measured['P']}", report.seconds(ours)]
    for peer in PEERS:
        timing = measured["timings"][peer.name]
        if timing["skipped"]:
            cells.append(timing["skipped"])
            continue
        ratio = best[peer.name] / ours
        cell = (
            f"{'~' if timing['scale'] > 1 else ''}{report.seconds(best[peer.name])} = {ratio:.3g}×"
        )
        if peer.name in measured["targets"]:
            bound = measured["targets"][peer.name]
            cell += f" ({report.target(ratio, bound, f'{bound:g}×', least=True)})"
        cells.append(cell)
    return [*cells, _fraction(measured), f"{max(measured['errors'].values()):.1e}"]


def _fraction(measured: dict[str, Any]) -> str:
    text = f"{measured['fraction of the rate']:.0%}"
    if measured["P"] >= 3000 and measured["samples"] >= 1000:
        text += f" ({report.target(measured['fraction of the rate'], 0.35, '35%', least=True)})"
    return text


def notes(measured: list[dict[str, Any]], quick: bool) -> list[str]:
    """What a reader must know to read the table."""
    rates = [m["matrix product rate"] / 1e9 for m in measured]
    firsts = [m["timings"]["hesse"]["preparation"] for m in measured]
    compiles = [
        m["timings"]["jax"]["preparation"] for m in measured if not m["timings"]["jax"]["skipped"]
    ]
    lines = [
        (
            f"Seconds are the best of a first run and {ROUNDS} rounds taken in turn; what takes"
            f" more than {SLOW:g} s has one round. A ratio is the peer's seconds over hesse's."
        ),
        (
            "The error is the largest of all comparisons: with float64 Hessian-vector products by"
            " two ways of differentiating, and with the result of each peer that was timed, entry"
            f" by entry, over the largest entry. What differs by more than {TOLERANCE:g} is not"
            " timed."
        ),
        (
            "Of the rate: the plan's floating point operations (a multiply-add is two) over"
            " hesse's seconds, as a part of what a 2048 × 2048 float32 matrix product reaches in"
            f" the same run ({min(rates):.0f} to {max(rates):.0f} GFLOP/s)."
        ),
        f"Not counted: hesse's first call with its capture ({min(firsts):.2g} to"
        f" {max(firsts):.2g} s)"
        + (
            f", jax's compilation ({min(compiles):.2g} to {max(compiles):.2g} s)."
            if compiles
            else "."
        ),
    ]
    if quick:
        lines.append(
            f"~: timed on the first {SAMPLED_COLUMNS} columns and multiplied by P /"
            f" {SAMPLED_COLUMNS}."
        )
    return lines


def main() -> None:
    """Measure, print, and record a run of all cases."""
    parser = argparse.ArgumentParser(description="The dense Hessian: hesse beside its peers.")
    parser.add_argument("cases", nargs="*", help="parts of case names; all cases by default")
    parser.add_argument(
        "--quick", action="store_true", help="time slow peers on 512 columns and multiply"
    )
    arguments = parser.parse_args()
    chosen = [
        case
        for case in CASES
        if not arguments.cases or any(part in case.name for part in arguments.cases)
    ]
    measured = []
    for case in chosen:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        measured.append(measure(case, arguments.quick))
        print(" | ".join(row(measured[-1])), file=sys.stderr, flush=True)
        gc.collect()
    result = report.Report(
        name="dense",
        title=f"The dense Hessian, {where()}",
        header=[
            "case",
            "samples",
            "P",
            "hesse",
            *[peer.name for peer in PEERS],
            "of the rate",
            "error",
        ],
        rows=[row(m) for m in measured],
        notes=notes(measured, arguments.quick),
        measurements=measured,
    )
    print(result.markdown())
    if chosen == CASES:
        result.save()


if __name__ == "__main__":
    main()
