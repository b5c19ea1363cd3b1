"""What iterative methods share: many systems at once, a column each, and what is left of them once
some are solved."""

import abc
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from hesse.process.progress import StatusLine
from hesse.solves.columns import norms
from hesse.solves.solution import Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float, Int

# Of eps: what rounding leaves of a residual, and of a gradient ‖Aᵀr‖ that is zero; below it
# recurrences build on nothing else.
_ROUNDING = 100


class Found(NamedTuple):
    """Solutions as a method sees them, before they are held against the system.

    Attributes:
        vectors: (N, K).
        verdicts: of each column.
        details: the number that goes with each verdict.
        iterations: how many were taken.
    """

    vectors: Tensor
    verdicts: Tensor
    details: Tensor
    iterations: int


class Iteration(abc.ABC):
    """Approximate solutions of K systems with one matrix, from x = 0, improved step by step.

    Every tensor that it keeps has the systems along its last axis, so that those that are solved
    can be left out and products are taken with the others only.

    Args:
        system: the matrix.
        b: right-hand sides, (M, K), none zero.
        tolerance: the norm of the residual, over that of b, at which each is solved.

    Attributes:
        x: (N, K).
        residual: b − A x as the recurrence has it, which rounding takes away from the truth.
        verdict: a `Verdict` for each.
        detail: the number that goes with it.
    """

    name: ClassVar[str]

    def __init__(self, system: System, b: Float[Tensor, "M K"], tolerance: float) -> None:
        rounding = _ROUNDING * system.eps
        self.system, self.target = system, norms(b) * max(tolerance, rounding)
        # What ‖Aᵀr‖ may be beside ‖A‖ ‖r‖ for r to be that of a least-squares solution.
        self.least = max(tolerance**2, rounding)
        self.x, self.residual = b.new_zeros(system.size, b.shape[1]), b.clone()
        self.verdict = torch.zeros_like(self.target, dtype=torch.int64)
        self.detail = torch.zeros_like(self.target)

    @abc.abstractmethod
    def step(self) -> None:
        """One step, after which `verdict` says of each column whether it goes on."""

    def conclude(self, verdict: Verdict, where: Tensor, detail: Tensor | None = None) -> None:
        """End those columns that no other verdict has ended."""
        where = where & (self.verdict == Verdict.RUNNING)
        self.verdict = torch.where(where, int(verdict), self.verdict)
        if detail is not None:
            self.detail = torch.where(where, detail, self.detail)

    def conclude_solved(self) -> None:
        """End the columns whose residual is small enough."""
        self.conclude(Verdict.CONVERGED, norms(self.residual) <= self.target)

    def keep(self, columns: Int[Tensor, " J"]) -> None:
        """Go on with these alone."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[..., columns])

    def run(self, limit: int, line: StatusLine) -> Found:
        """Take steps until every column has ended, or so many were taken."""
        K, done = self.x.shape[1], 0
        found = Found(
            self.x.clone(), self.verdict.new_full((K,), Verdict.LIMIT), self.detail.clone(), 0
        )
        places = torch.arange(K, device=self.x.device)
        while len(places) and done < limit:
            self.step()
            done += 1
            ended = self.verdict != Verdict.RUNNING
            if bool(ended.any()) or done == limit:
                found.vectors[:, places] = self.x
                found.verdicts[places] = torch.where(ended, self.verdict, int(Verdict.LIMIT))
                found.details[places] = self.detail
                going = (~ended).nonzero().squeeze(1)
                self.keep(going)
                places = places[going]
            if line.due and len(places):
                worst = float((norms(self.residual) / self.target).max())
                line.show(f"{self.name}: {done} iterations, residual {worst:.1g} of the tolerance")
        return found._replace(iterations=done)
