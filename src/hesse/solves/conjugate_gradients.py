"""Conjugate gradients: for a symmetric, positive definite matrix."""

from typing import final

import torch
from torch import Tensor

from hesse.solves.columns import divided, dots
from hesse.solves.iteration import Iteration
from hesse.solves.solution import Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float

# Of eps: a curvature that is no larger beside ‖A‖ is rounding.
_ROUNDING = 10


@final
class ConjugateGradients(Iteration):
    """x in the Krylov space of b with the smallest error in A's norm, one product a step.

    It looks at pᵀAp along every direction p that it takes, and stops where that is not positive: at
    a saddle there is no such x, and a column that ends so holds the last one before.

    Source:
        M. R. Hestenes and E. Stiefel, Methods of conjugate gradients for solving linear systems, J.
        Res. Nat. Bur. Standards 49 (1952), 409; with a preconditioner: Y. Saad, Iterative methods
        for sparse linear systems, SIAM (2003), algorithm 9.1.
    """

    name = "cg"

    def __init__(self, system: System, b: Float[Tensor, "N K"], tolerance: float) -> None:
        super().__init__(system, b, tolerance)
        self.direction = torch.zeros_like(b)
        self.before = torch.ones_like(self.target)  # rᵀMr

    def step(self) -> None:
        """Go along the next conjugate direction to the lowest point."""
        towards = self.system.preconditioned(self.residual)
        slope = dots(self.residual, towards)
        self.conclude(
            Verdict.INDEFINITE_PRECONDITIONER,
            slope <= 0,
            slope / dots(self.residual, self.residual),
        )
        self.direction = towards + self.direction * (slope / self.before)
        self.before = slope
        pushed = self.system.product(self.direction)
        length = dots(self.direction, self.direction)
        curvature = divided(dots(self.direction, pushed), length)
        flat = curvature.abs() <= _ROUNDING * self.system.eps * self.system.norm
        self.conclude(Verdict.FLAT, flat)
        self.conclude(Verdict.NEGATIVE_CURVATURE, curvature < 0, curvature)
        going = self.verdict == Verdict.RUNNING
        far = torch.where(going, divided(slope, curvature * length), 0)
        self.x = self.x + self.direction * far
        self.residual = self.residual - pushed * far
        self.conclude_solved()
