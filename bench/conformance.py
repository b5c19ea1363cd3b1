"""Second derivatives of every operation that a network may hold: by torch's ways, and by hesse.
``python -m bench.conformance``.

``python -m bench.conformance [--without torch|hesse] [PART ...]``. A run of the operations whose
names hold one of the parts prints its tables and records nothing. The exit status is 1 where hesse
gave a wrong number.
"""

import argparse
import contextlib
import logging
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import hesse
from bench.findings import QUANTITIES, Finding, Point, needless, summary, wrong
from bench.operations import Problem, Skipped, points, problems, take
from bench.second_derivatives import (
    CIRCUMSTANCES,
    NAMES,
    WAYS,
    Circumstance,
    Reference,
    Way,
    by_differences,
    by_torch,
)

# Besides the point itself, a batch holds two samples near the generic point; the cost weighs its
# samples so.
NEARBY, TARGETS = 2, (1.0, 0.7, -0.5)
PATIENCE = 60


class TooLong(BaseException):
    """What took longer than PATIENCE seconds; no Exception, so that hesse does not take it for a
    way that failed."""


class Network(nn.Module):
    """The operation with a parameter: x + p, x * p before it, or the operation of the parameter
    itself, multiplied by x."""

    base: Tensor

    def __init__(self, problem: Problem, kind: str) -> None:
        super().__init__()
        self.problem, self.kind = problem, kind
        self.register_buffer("base", problem.start.clone())
        self.p = nn.Parameter(torch.zeros(problem.embedding.shape[1]).double())

    def move(self, z: Tensor) -> None:
        """Stand at a point."""
        self.base = z.clone()
        self.p.data = torch.ones_like(z) if self.kind == "x * p" else torch.zeros_like(self.p)
        if self.kind == "p" and self.problem.whole:
            self.p.data = z.clone()

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "p":
            return x[:, 0] * (
                self.problem.value(self.p)
                if self.problem.whole
                else self.problem.shifted(self.base, self.p)
            )
        if self.kind == "x * p":
            return torch.stack([self.problem.value(z * self.p) for z in x.unbind(0)])
        return torch.stack([self.problem.shifted(z, self.p) for z in x.unbind(0)])


@dataclass(frozen=True)
class Question:
    """A cost that holds the operation, how to build it, and the Hessian that the differences give
    for it."""

    kind: str
    build: Callable[[], hesse.Cost]
    reference: Reference


def questions(
    networks: dict[str, Network], samples: Tensor, references: list[Reference]
) -> Iterator[Question]:
    """The costs at one point. The networks move from point to point, as a network that is trained
    does."""
    y = torch.tensor(TARGETS).double()
    weights, factors = y.tolist(), torch.tensor([[1.0], [0.6], [0.9]]).double()
    data = {"x + p": samples, "x * p": samples, "p": factors}
    totals = {
        "x + p": _sum(references, weights),
        "p": _sum(references[:1], [float(y @ factors[:, 0])]),
    }
    if "x * p" in networks:
        totals["x * p"] = _sum(
            [_scaled(r, z) for r, z in zip(references, samples, strict=True)], weights
        )
    for kind, network in networks.items():
        network.move(samples[0])
        yield Question(
            kind, lambda n=network, x=data[kind]: hesse.Cost(n, weighed, (x, y)), totals[kind]
        )


def weighed(prediction: Tensor, target: Tensor) -> Tensor:
    """The loss: linear, so that nothing but the operation bends."""
    return (prediction * target).sum()


def _scaled(reference: Reference, z: Tensor) -> Reference:
    """The Hessian in p of F(z * p)."""
    largest = float(z.abs().max())
    return Reference(
        reference.hessian * torch.outer(z, z),
        reference.error * largest**2,
        reference.slope * largest,
    )


def _sum(references: list[Reference], weights: list[float]) -> Reference:
    terms = [
        weight * reference.hessian for weight, reference in zip(weights, references, strict=True)
    ]
    errors, slopes = sum(r.error for r in references), max(r.slope for r in references)
    return Reference(torch.stack(terms).sum(0), errors, slopes)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raise TooLong in what does not come back in time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"longer than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ask_torch(problem: Problem, samples: Tensor, references: list[Reference]) -> Iterator[Finding]:
    """Every way in every circumstance. A sample of a batch that is wrong is asked alone as well: it
    may not be the batch."""
    for way in WAYS:
        for circumstance in CIRCUMSTANCES:
            try:
                got = by_torch(problem, samples, way, circumstance)
            except Exception as error:
                yield Finding(
                    way.name, "raises", words(way, circumstance), error=_first_line(error)
                )
                continue
            if got is None:
                continue
            deviations = [reference.judge(h) for h, reference in zip(got, references, strict=False)]
            worst = max(
                filter(None, deviations), key=lambda deviation: deviation.size, default=None
            )
            yield Finding(way.name, "wrong" if worst else "right", words(way, circumstance), worst)
            for i in [i for i, deviation in enumerate(deviations) if i and deviation]:
                alone = replace(circumstance, batched=False)
                same = by_torch(problem, samples[i : i + 1], way, alone)
                if same is not None and (deviation := references[i].judge(same[0])):
                    yield Finding(way.name, "wrong", words(way, alone), deviation)


def words(way: Way, circumstance: Circumstance) -> tuple[str, ...]:
    """What stands around the call."""
    there = {
        "vmap": way.columns_at_once,
        "no_grad": circumstance.no_grad,
        "batch": circumstance.batched,
    }
    return tuple(word for word, yes in there.items() if yes)


def ask_hesse(
    networks: dict[str, Network], samples: Tensor, references: list[Reference]
) -> Iterator[Finding]:
    """The Hessian, the diagonal and the operator of each model that holds the operation."""
    for question in questions(networks, samples, references):
        kind, reference = question.kind, question.reference
        try:
            with patience():
                cost = question.build()
        except (Exception, TooLong) as error:
            yield from (Finding(name, *_raised(error, kind)) for name in QUANTITIES)
            continue
        size = cost.layout.size
        runs: dict[str, Callable[[], Tensor]] = {
            "hessian": lambda cost=cost: hesse.hessian(cost).dense(),
            "diagonal": lambda cost=cost: torch.diag(cost.layout.flatten(hesse.diagonal(cost))),
            "operator": lambda cost=cost, size=size: (
                hesse.operator(cost) @ torch.eye(size).double()
            ),
        }
        for name, run in runs.items():
            try:
                with patience():
                    got = run()
            except (Exception, TooLong) as error:
                yield Finding(name, *_raised(error, kind))
                continue
            known = reference.hessian
            expected = (
                replace(reference, hessian=torch.diag(known.diagonal()))
                if name == "diagonal"
                else reference
            )
            deviation = expected.judge(got)
            yield Finding(name, "wrong" if deviation else "right", (kind,), deviation)


def _raised(error: BaseException, kind: str) -> tuple[str, tuple[str, ...], None, str]:
    verdict = "refuses" if isinstance(error, hesse.HesseError) else "raw"
    place = traceback.extract_tb(error.__traceback__)
    ours = [
        f"{frame.filename.rpartition('/hesse/')[2]}:{frame.lineno}"
        for frame in place
        if "/hesse/" in frame.filename
    ]
    return (
        verdict,
        (kind,),
        None,
        f"{_first_line(error)}{f' ({ours[-1]})' if ours and verdict == 'raw' else ''}",
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def examine(operation: Any, without: str) -> list[Point]:
    """All points of one operation.

    Raises:
        Skipped: the operation is not looked at.
    """
    found = []
    for problem in problems(operation):
        generators = [torch.Generator().manual_seed(seed) for seed in range(1, NEARBY + 1)]
        factors = [
            torch.empty_like(problem.start).uniform_(0.9, 1.1, generator=generator)
            for generator in generators
        ]
        nearby = [problem.start * factor for factor in factors]
        around = [by_differences(problem, z) for z in nearby]
        kinds = ("x + p", "x * p", "p") if problem.whole else ("x + p", "p")
        networks = {kind: Network(problem, kind) for kind in kinds}
        for name, z in points(problem).items():
            point = Point(problem.name, problem.words, name)
            found.append(point)
            try:
                reference = by_differences(problem, z)
            except Exception as error:
                point.doubt = f"no gradient: {_first_line(error)}"
                continue
            point.doubt = reference.doubt
            if reference.doubt:
                continue
            # A neighbour that cannot be told is the point once more.
            samples = [z, *[z if r.doubt else near for near, r in zip(nearby, around, strict=True)]]
            references = [reference, *[reference if r.doubt else r for r in around]]
            if without != "torch":
                point.findings += ask_torch(problem, torch.stack(samples), references)
            if without != "hesse":
                point.findings += ask_hesse(networks, torch.stack(samples), references)
    return found


def main() -> None:
    """Examine, print, and record a run of all operations."""
    parser = argparse.ArgumentParser(
        description="Second derivatives of every operation: torch's ways, and hesse."
    )
    parser.add_argument(
        "parts", nargs="*", help="parts of operation names; all operations by default"
    )
    parser.add_argument(
        "--without", choices=["torch", "hesse"], default="", help="leave out one side"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch._C._functorch._set_vmap_fallback_warning_enabled(False)
    start, found, skipped = time.perf_counter(), [], Counter()
    for _, operation in tqdm(take(arguments.parts).items(), disable=not sys.stderr.isatty()):
        try:
            found += examine(operation, arguments.without)
        except Skipped as reason:
            skipped[str(reason)] += 1
    result = summary(found, skipped, time.perf_counter() - start)
    tables = [
        wrong(found, NAMES, "wrong", "Where torch is wrong"),
        wrong(
            needless(found),
            QUANTITIES,
            "refuses",
            "Where hesse refuses, and double backward is right",
        ),
        wrong(found, QUANTITIES, "raw", "Where hesse raises what is not a HesseError"),
        wrong(found, QUANTITIES, "wrong", "Where hesse is wrong"),
        result,
    ]
    for table in tables:
        print(table.markdown() if table.rows else f"**{table.title}**: nowhere\n")
    if not arguments.parts and not arguments.without:
        result.save()
    if any(
        finding.verdict == "wrong"
        for point in found
        for finding in point.findings
        if finding.name in QUANTITIES
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
