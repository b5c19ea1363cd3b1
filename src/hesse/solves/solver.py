"""Solves systems with one matrix: a method's solutions, held against the matrix and improved until
that shows no more."""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from hesse.process.progress import StatusLine
from hesse.solves.conjugate_gradients import ConjugateGradients
from hesse.solves.direct import CholeskyFactor, ClosedForm
from hesse.solves.iteration import Found, Iteration, dots, norms
from hesse.solves.lsmr import Lsmr
from hesse.solves.minres import Minres
from hesse.solves.neumann import Neumann
from hesse.solves.solution import Endings, Verdict
from hesse.solves.system import System

ITERATIONS: dict[str, type[Iteration]] = {
    kind.name: kind for kind in (ConjugateGradients, Minres, Lsmr, Neumann)
}


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
    direct: CholeskyFactor | ClosedForm | None
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
        r, sizes = b, norms(b)
        residuals = torch.zeros_like(sizes)
        verdicts = torch.full_like(sizes, Verdict.CONVERGED, dtype=torch.int64)
        details, left = torch.zeros_like(sizes), self.limit
        places = sizes.nonzero().squeeze(1)
        residuals[places] = 1.0
        with StatusLine(self.progress) as line:
            while len(places):
                before = residuals[places]
                found = self._found(r[:, places], float(self.tolerance / before.max()), left, line)
                left -= found.iterations
                candidate = x[:, places] + found.vectors
                r_there = b[:, places] - self.system.product(candidate)
                there = norms(r_there) / sizes[places]
                # The first is taken as it comes: a residual need not fall where least squares or a
                # direction of negative curvature end the search.
                better = (there < before) | (before == 1)
                x[:, places] = torch.where(better, candidate, x[:, places])
                residuals[places] = torch.where(better, there, before)
                r = r.index_copy(1, places, torch.where(better, r_there, r[:, places]))
                verdict = torch.where(
                    residuals[places] <= self.tolerance, int(Verdict.CONVERGED), found.verdicts
                )
                claimed = (verdict == Verdict.CONVERGED) & (residuals[places] > self.tolerance)
                again = claimed & (there <= before / 2) & (left > 0)
                verdicts[places] = torch.where(claimed, int(Verdict.ROUNDING), verdict)
                details[places] = found.details
                places = places[again]
        if self.method == Minres.name and self.system.preconditioner is None:
            x = _shortest(x, r, verdicts)
        eps = self.system.eps
        precision = f" than about {eps:.1g} of its terms ({b.dtype})"
        endings = Endings(verdicts, details, self.system.damping, self.limit, precision)
        return Solved(x, residuals, endings)

    def _found(self, b: Tensor, tolerance: float, limit: int, line: StatusLine) -> Found:
        if self.direct is None:
            return ITERATIONS[self.method](self.system, b, tolerance).run(limit, line)
        K = b.shape[1]
        verdicts = torch.full((K,), Verdict.CONVERGED, device=b.device)
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
