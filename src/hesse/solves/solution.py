"""What a solve found, and how it ended."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar, final

from torch import Tensor

from hesse.display import Display, Displayed, facts
from hesse.solves.system import System
from hesse.words.shapes import Float

# A vector, or several, as a right-hand side can be.
Vector = TypeVar("Vector")


class Verdict(IntEnum):
    """How the search for one column's solution stands, or ended."""

    RUNNING = 0
    CONVERGED = 1
    ROUNDED = 2
    LEAST_SQUARES = 3
    STUCK = 4
    NEGATIVE_CURVATURE = 5
    FLAT = 6
    GROWING = 7
    INDEFINITE_PRECONDITIONER = 8
    LIMIT = 9


# After which there is no better solution in these numbers.
SOLVED = {Verdict.CONVERGED, Verdict.ROUNDED, Verdict.LEAST_SQUARES}


# Columns that are named in a reason.
_SHOWN = 5
# What was seen in each case, and what to do; {lowest} and {largest} are of the numbers noted.
_SENTENCES = {
    Verdict.CONVERGED: "converged, the residual is within the tolerance",
    Verdict.ROUNDED: "converged to rounding, {dtype} holds no smaller residual",
    Verdict.STUCK: (
        "stopped where the residual fell no further: the matrix is too ill-conditioned for this"
        " method in {dtype}; give a damping, or a preconditioner, or use float64"
    ),
    Verdict.LEAST_SQUARES: (
        "a least-squares solution: what is left of b, r, is orthogonal to the range of the matrix,"
        " ‖Aᵀr‖ <= {largest:.0g} ‖A‖ ‖r‖, and to that accuracy no x does better"
    ),
    Verdict.NEGATIVE_CURVATURE: (
        "stopped at a direction p of negative curvature, pᵀ(A + damping I)p = {lowest:.3g} pᵀp: the"
        " matrix is not positive definite; a damping of more than {enough:.3g} is needed,"
        " method='minres' needs none"
    ),
    Verdict.FLAT: (
        "stopped at a direction without curvature: the matrix is singular to rounding; give a"
        " damping, or use method='minres'"
    ),
    Verdict.GROWING: (
        "stopped where the residual grew: the matrix has an eigenvalue below 0 or beyond"
        " {largest:.3g}, the largest that was found, and the series diverges; give a damping, or"
        " use method='minres'"
    ),
    Verdict.INDEFINITE_PRECONDITIONER: (
        "stopped: the preconditioner M is not positive definite, rᵀMr = {lowest:.3g} rᵀr"
    ),
    Verdict.LIMIT: "stopped after maxiter={limit:.0f} iterations",
}


@final
@dataclass(frozen=True, eq=False, repr=False)
class Solution(Displayed, Generic[Vector]):
    """A solution x of (A + damping I) x = b, made by `hesse.solve`.

    Attributes:
        vector: x, of the kind that b was: flat, a matrix, by name or a list.
        residual: ‖b − (A + damping I) x‖ / ‖b‖, from a product with x itself; of several columns
            the largest.
        residuals: of each column, (K,); of one vector (1,).
        converged: whether every column's residual is within the tolerance, or is what rounding
            leaves, or that of a least-squares solution.
        reason: how it ended, column by column where they differ.
        products: with how many vectors A, or its transpose, was multiplied.
        method: how it was found.
    """

    vector: Vector
    residual: float
    residuals: Float[Tensor, " K"]
    converged: bool
    reason: str
    products: int
    method: str

    def _display(self) -> Display:
        columns = len(self.residuals)
        several = f"{columns} columns, " if columns > 1 else ""
        state = "converged" if self.converged else "not converged"
        return Display(
            "Solution",
            f"{several}{state}, by {self.method}",
            facts(
                residual=f"{self.residual:.3g}{' at the most' if columns > 1 else ''}",
                products=f"{self.products:,}",
                reason=self.reason,
            ),
            next=("s.vector", "s.residuals"),
        )


@final
@dataclass(frozen=True)
class Endings:
    """How the columns ended.

    Attributes:
        verdicts: of each, as whole numbers.
        details: the number that goes with it: a curvature, a growth.
        system: what was solved.
        limit: the most iterations.
    """

    verdicts: Tensor
    details: Tensor
    system: System
    limit: int

    @property
    def are_solutions(self) -> bool:
        """Whether every column has one."""
        return set(self.verdicts.tolist()) <= SOLVED

    @property
    def reason(self) -> str:
        """In words, one sentence for each kind of ending."""
        verdicts, details = self.verdicts.tolist(), self.details.tolist()
        said = []
        for verdict in sorted(set(verdicts)):
            columns = [k for k, found in enumerate(verdicts) if found == verdict]
            lowest = min(details[k] for k in columns)
            sentence = _SENTENCES[Verdict(verdict)].format(
                lowest=lowest,
                largest=max(details[k] for k in columns),
                enough=self.system.damping - lowest,
                limit=self.limit,
                dtype=str(self.system.operator.dtype).removeprefix("torch."),
            )
            alone = len(columns) == len(verdicts)
            said.append(sentence if alone else f"{_listed(columns)}: {sentence}")
        return "; ".join(said) or "there are no columns"


def _listed(columns: list[int]) -> str:
    """Their numbers, or the first of them.

    Examples:
        >>> _listed([0, 2]), _listed([1])
        ('columns 0, 2', 'column 1')
    """
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return f"column{'s' * (len(columns) > 1)} {', '.join(map(str, columns[:_SHOWN]))}{more}"
