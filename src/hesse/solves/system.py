"""The system that is solved: its products, counted and checked, and what comes near its inverse."""

import math
from typing import final

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.solves.columns import divided, norms
from hesse.words.shapes import Float


@final
class System:
    """A + damping I, of the vectors of one dtype and device.

    Args:
        operator: A.
        damping: what is added to its diagonal.
        preconditioner: an operator that comes near the inverse, symmetric and positive definite.

    Attributes:
        products: with how many vectors it was multiplied.
        norm: the largest ‖A v‖ / ‖v‖ seen, a bound from below for ‖A‖.
    """

    def __init__(
        self, operator: LinearOperator, damping: float, preconditioner: LinearOperator | None = None
    ) -> None:
        self.operator, self.damping, self.preconditioner = operator, damping, preconditioner
        self.products, self.norm = 0, 0.0

    @property
    def size(self) -> int:
        """How many entries a solution has."""
        return self.operator.shape[1]

    @property
    def eps(self) -> float:
        """The relative rounding of its numbers."""
        return torch.finfo(self.operator.dtype).eps

    def product(self, v: Float[Tensor, "N K"]) -> Float[Tensor, "M K"]:
        """(A + damping I) v.

        Raises:
            HesseValueError: it is not finite.
        """
        return self._counted(self.operator._product(v), v)

    def transposed_product(self, u: Float[Tensor, "M K"]) -> Float[Tensor, "N K"]:
        """(A + damping I)ᵀ u."""
        return self._counted(self.operator._transposed_product(u), u)

    def gradient(self, r: Float[Tensor, "M K"]) -> Float[Tensor, " K"]:
        """‖(A + damping I)ᵀ r‖."""
        return norms(self.product(r) if self.operator.is_symmetric else self.transposed_product(r))

    def preconditioned(self, r: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        """M r; r itself where there is no preconditioner."""
        return r if self.preconditioner is None else self.preconditioner._product(r)

    def _counted(self, found: Tensor, v: Tensor) -> Tensor:
        self.products += v.shape[1]
        found = found.add_(v, alpha=self.damping) if self.damping else found
        # A norm is finite only where every entry is.
        stretch = float(divided(norms(found), norms(v)).max()) if v.numel() else 0.0
        if not math.isfinite(stretch):
            raise HesseValueError(
                f"what: its product with a vector has {int((~found.isfinite()).sum())} entries that"
                " are not finite: a kink or a pole of the cost, or numbers that are too large"
            )
        self.norm = max(self.norm, stretch)
        return found

    def is_symmetric(self) -> bool:
        """Whether A is known to be symmetric, or shows it: uᵀ(A v) = vᵀ(A u) for random u and v to
        rounding, at two products."""
        if self.operator.is_symmetric:
            return True
        if self.operator.shape[0] != self.size:
            return False
        random = torch.Generator().manual_seed(0)
        like = {"dtype": self.operator.dtype, "device": self.operator.device}
        v = torch.randn(self.size, 2, generator=random, dtype=torch.float64, device="cpu").to(
            **like
        )
        forms = v.T @ self.product(v)
        scale = v.norm(dim=0).prod() * self.eps**0.5
        return bool((forms[0, 1] - forms[1, 0]).abs() <= scale * forms.abs().max() / self.size**0.5)
