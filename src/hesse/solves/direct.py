"""Solutions in one go: by Cholesky's factor of a dense matrix, by its eigenvectors, or in closed
form. ``verdict`` is what a solution is, as far as each of them knows."""

from typing import final

import torch
from torch import Tensor

from hesse.errors import rounded_up
from hesse.linear_operators.low_rank import ClosedFormOperator
from hesse.matrix import eigensolver
from hesse.solves.solution import Verdict
from hesse.words.shapes import Float

# From so many rows on the eigenvalues, for the text of an error, are not worth their time.
_SMALL = 2048
# Of √P eps max|λ|: an eigenvalue of this size is as likely zero. A bound that holds for sure, with
# P in place of the root, would take many that are not for zero.
_ROUNDING = 4


@final
class NotDefinite(Exception):
    """A matrix without a Cholesky factor.

    Args:
        damped: the matrix, its damping added.
        damping: what that is.
    """

    def __init__(self, damped: Float[Tensor, "P P"], damping: float) -> None:
        super().__init__()
        self._damped, self._damping = damped, damping

    def explained(self) -> tuple[str, str]:
        """What the matrix lacks, and the damping that makes up for it: by its eigenvalues, where
        they are few."""
        damped, damping = self._damped, self._damping
        text = f"the matrix{' with this damping' * (damping != 0)} is not positive definite"
        if len(damped) > _SMALL:
            return text, f"a damping of more than {damping:g}"
        values = torch.linalg.eigvalsh(damped)
        lowest, largest = float(values[0]), float(values.abs().max())
        rounding = len(damped) * torch.finfo(damped.dtype).eps * largest
        shown = "0 to rounding" if abs(lowest) <= rounding else f"{lowest:.3g}"
        # Ten percent more than is needed, or where next to nothing is a small part of the largest.
        enough = rounded_up(damping + max(-1.1 * lowest, 1e-4 * largest) or 1.0)
        return f"{text}, its smallest eigenvalue is {shown}", f"damping={enough:g}"


@final
class CholeskyFactor:
    """A + damping I = L Lᵀ.

    Args:
        matrix: A, symmetric.
        damping: what is added to its diagonal.

    Raises:
        NotDefinite: it is not positive definite.
    """

    verdict = Verdict.CONVERGED

    def __init__(self, matrix: Float[Tensor, "P P"], damping: float) -> None:
        damped = matrix.clone()
        damped.diagonal().add_(damping)
        self.factor, info = torch.linalg.cholesky_ex(damped)
        # A factor of a singular matrix comes of rounding.
        diagonal = self.factor.diagonal()
        largest = damped.diagonal().abs().max() if len(damped) else diagonal.new_zeros(())
        rounding = len(damped) * torch.finfo(damped.dtype).eps
        if int(info) or bool((diagonal.square() <= rounding * largest).any()):
            raise NotDefinite(damped, damping)

    def solve(self, b: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        """(A + damping I)⁻¹ b."""
        return torch.cholesky_solve(b, self.factor)

    def inverse(self) -> Float[Tensor, "P P"]:
        """(A + damping I)⁻¹, exactly symmetric."""
        inverse = torch.cholesky_inverse(self.factor)
        return inverse.add(inverse.mT).mul_(0.5)


@final
class Eigenvectors:
    """A + damping I = V diag(λ) Vᵀ, definite or not.

    Args:
        matrix: A, symmetric.
        damping: what is added to its diagonal.
    """

    verdict = Verdict.LEAST_SQUARES

    def __init__(self, matrix: Float[Tensor, "P P"], damping: float) -> None:
        values, self._vectors = eigensolver.eigh(matrix)
        values = values + damping
        rounding = _ROUNDING * len(values) ** 0.5 * torch.finfo(values.dtype).eps
        sizes = values.abs()
        zero = sizes <= rounding * (float(sizes.max()) if len(sizes) else 0.0)
        self._inverse = torch.where(zero, 0, 1 / torch.where(zero, 1, values))

    def solve(self, b: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        """V diag(1/λ) Vᵀ b without what is zero to rounding: the shortest least-squares
        solution."""
        return self._vectors @ (self._inverse.unsqueeze(1) * (self._vectors.mT @ b))


@final
class ClosedForm:
    """The inverse that an operator knows.

    Raises:
        HesseValueError: it has none.
    """

    verdict = Verdict.CONVERGED

    def __init__(self, operator: ClosedFormOperator, damping: float) -> None:
        self._inverse = operator.inverse(damping)

    def solve(self, b: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        """(A + damping I)⁻¹ b."""
        return self._inverse._product(b)
