"""Solves systems with one matrix: a method's solutions, held against the matrix and improved until
that shows no more."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from hesse.process.progress import StatusLine
from hesse.solves.columns import divided, dots, norms
from hesse.solves.conjugate_gradients import ConjugateGradients
from hesse.solves.direct import CholeskyFactor, ClosedForm, Eigenvectors
from hesse.solves.iteration import Found, Iteration
from hesse.solves.lsmr import Lsmr
from hesse.solves.minres import Minres
from hesse.solves.neumann import Neumann
from hesse.solves.solution import Endings, Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float

ITERATIONS: dict[str, type[Iteration]] = {
    kind.name: kind for kind in (ConjugateGradients, Minres, Lsmr, Neumann)
}

# Of eps: what rounding leaves of a residual, beside its terms; of √eps, and in any case: ‖Aᵀr‖
# beside ‖A‖ ‖r‖ of a least-squares solution.
_ROUNDING, _FLAT, _FLATTEST = 10, 10, 1e-4


class Solved(NamedTuple):
    """Solutions of several systems.

    Attributes:
        vectors: (N, K).
        residuals: ‖b − A x‖ / ‖b‖ of each, of a product with x itself.
        endings: how each ended.
    """

    vectors: Tensor
    residuals: Tensor
    endings: Endings


@final
@dataclass(frozen=True)
class Solver:
    """A system, and how it is solved.

    Attributes:
        system: the matrix.
        method: what the method is called.
        direct: what solves in one go; ``None`` for an iteration.
        tolerance: the relative residual that is wanted.
        limit: the most iterations.
        progress: as for `hesse.hessian`.
        note: what to say beside the reason.
    """

    system: System
    method: str
    direct: CholeskyFactor | Eigenvectors | ClosedForm | None
    tolerance: float
    limit: int
    progress: bool | None = None
    note: str = ""

    def solve(self, b: Float[Tensor, "M K"]) -> Solved:
        """Solutions for the columns of b.

        The recurrences of an iteration drift from the truth by rounding, and a factor has its own:
        b − A x is formed anew and solved for again, as long as each turn halves it.
        """
        x = b.new_zeros(self.system.size, b.shape[1])
        r, sizes = b.clone(), norms(b)
        residuals = (sizes > 0).to(b.dtype)
        verdicts = torch.full_like(sizes, Verdict.CONVERGED, dtype=torch.int64)
        details, left = torch.zeros_like(sizes), self.limit
        places = sizes.nonzero().squeeze(1)
        with StatusLine(self.progress) as line:
            while len(places):
                before = residuals[places]
                found = self._found(r[:, places], self.tolerance / float(before.max()), left, line)
                left -= found.iterations
                candidate = x[:, places] + found.vectors
                r_there = b[:, places] - self.system.product(candidate)
                there = norms(r_there) / sizes[places]
                # Before a direction of negative curvature the residual need not have fallen.
                taken = (there < before) | (found.verdicts == Verdict.NEGATIVE_CURVATURE)
                there = torch.where(taken, there, before)
                x[:, places] = torch.where(taken, candidate, x[:, places])
                r[:, places] = torch.where(taken, r_there, r[:, places])
                residuals[places] = there
                verdicts[places], details[places] = self._judged(
                    found, there, x[:, places], r[:, places], sizes[places]
                )
                # Only a method that came to its own end may find more in what is left.
                ended = (found.verdicts == Verdict.CONVERGED) | (
                    found.verdicts == Verdict.LEAST_SQUARES
                )
                more = ended & (there <= before / 2) & (there > self.tolerance)
                places = places[more] if left > 0 else places[:0]
        if self.method == Minres.name and self.system.preconditioner is None:
            x = _shortest(x, r, verdicts)
        return Solved(x, residuals, Endings(verdicts, details, self.system, self.limit))

    def _judged(
        self, found: Found, residuals: Tensor, x: Tensor, r: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What a method says of its columns, held against the residuals as they are; and the
        numbers that go with it."""
        eps, verdicts, details = self.system.eps, found.verdicts, found.details
        # What is no more is made by rounding of the terms of b − A x.
        rounding = _ROUNDING * eps * (self.system.norm * norms(x) + sizes)
        least = verdicts == Verdict.LEAST_SQUARES
        if bool(least.any()):
            gradient = self.system.gradient(r)
            details = torch.where(least, divided(gradient, self.system.norm * norms(r)), details)
            seen = (details <= min(_FLAT * eps**0.5, _FLATTEST)) & (norms(r) > rounding)
            verdicts = torch.where(least & ~seen, int(Verdict.STUCK), verdicts)
        solved = residuals <= self.tolerance
        claimed = (verdicts == Verdict.CONVERGED) & ~solved
        verdicts = torch.where(claimed, int(Verdict.STUCK), verdicts)
        rounded = (verdicts == Verdict.STUCK) & (norms(r) <= rounding) & (residuals <= eps**0.5)
        verdicts = torch.where(rounded, int(Verdict.ROUNDED), verdicts)
        return torch.where(solved, int(Verdict.CONVERGED), verdicts), details

    def _found(self, b: Tensor, tolerance: float, limit: int, line: StatusLine) -> Found:
        if self.direct is None:
            return ITERATIONS[self.method](self.system, b, tolerance).run(limit, line)
        K = b.shape[1]
        verdicts = torch.full((K,), self.direct.verdict, device=b.device)
        return Found(self.direct.solve(b), verdicts, b.new_zeros(K), 0)


def _shortest(x: Tensor, r: Tensor, verdicts: Tensor) -> Tensor:
    """The shortest of the least-squares solutions: what MINRES's has of the null space lies along
    what is left of b.

    Source:
        Y. Liu, A. Milzarek and F. Roosta, Obtaining pseudo-inverse solutions with MINRES (2023),
        theorem 3.
    """
    least = verdicts == Verdict.LEAST_SQUARES
    along = torch.where(least, dots(r, x) / dots(r, r), 0)
    return torch.where(least, x - r * along, x)
