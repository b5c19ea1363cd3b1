"""MINRES: for a symmetric matrix, definite or not."""

from typing import final

import torch
from torch import Tensor

from hesse.solves.columns import divided, dots, norms
from hesse.solves.iteration import Iteration
from hesse.solves.solution import Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float

# Of √eps: a gradient ‖A r‖ that may be zero, beside ‖A‖ ‖r‖. Then a residual that falls falls to so
# much of itself within so many steps, or half of all before.
_NEAR, _FALLEN, _PATIENCE = 10, 0.5, 20


@final
class Minres(Iteration):
    """x in the Krylov space of b with the smallest residual, one product a step.

    Lanczos' vectors u, with z = M u, give AZ = U T, tridiagonal; plane rotations, one more a step,
    make T triangular, and x grows along the columns d of Z R⁻¹. ‖A r‖ tells where no x does better:
    then what is left, r, lies in the null space.

    Source:
        C. C. Paige and M. A. Saunders, Solution of sparse indefinite systems of linear equations,
        SIAM J. Numer. Anal. 12 (1975), 617; ‖A r‖ of the last step: S.-C. T. Choi, C. C. Paige and
        M. A. Saunders, MINRES-QLP, SIAM J. Sci. Comput. 33 (2011), 1810.
    """

    name = "minres"

    def __init__(self, system: System, b: Float[Tensor, "N K"], tolerance: float) -> None:
        super().__init__(system, b, tolerance)
        target = self.target
        zero = torch.zeros_like(target)
        self.before, self.u, self.z = torch.zeros_like(b), b, b
        self.beta, self.largest = zero, zero
        self._normalise(b)
        # What is left of b in the rotated basis, in M's norm.
        self.left = self.beta
        self.beta = zero
        # The last rotation, and what the last two make of T's next column.
        self.cosine, self.sine, self.above, self.corner = zero - 1, zero, zero, zero
        self.d_before, self.d = torch.zeros_like(b), torch.zeros_like(b)
        # The x that is nearest to a least-squares solution, once one is near.
        self.best, self.least_yet, self.grown = self.x, zero + torch.inf, zero > 0
        self.reference, self.waited, self.steps = norms(b), zero, 0

    def _normalise(self, w: Tensor) -> None:
        """The next Lanczos vector, w over its norm β."""
        towards = self.system.preconditioned(w)
        square = dots(w, towards)
        bad = (square < 0) | ((square == 0) & (dots(w, w) > 0))
        self.conclude(Verdict.INDEFINITE_PRECONDITIONER, bad, square / dots(w, w))
        self.beta = square.clamp(min=0).sqrt()
        self.before, self.u = self.u, divided(w, self.beta)
        self.z = divided(towards, self.beta)

    def step(self) -> None:
        """One more column of T, its rotation, and one more part of x."""
        beta = self.beta
        pushed = self.system.product(self.z) - self.before * beta
        alpha, z = dots(self.z, pushed), self.z
        self._normalise(pushed - self.u * alpha)
        self.largest = torch.maximum(
            self.largest, (alpha.square() + beta.square() + self.beta.square()).sqrt()
        )
        # Above the diagonal of the triangle, the corner first.
        second, first = self.corner, self.cosine * self.above + self.sine * alpha
        diagonal = self.sine * self.above - self.cosine * alpha
        self.corner, self.above = self.sine * self.beta, -self.cosine * self.beta
        self._look_for_least(torch.hypot(diagonal, self.above))
        going = self.verdict == Verdict.RUNNING
        size = torch.hypot(diagonal, self.beta)
        self.cosine, self.sine = divided(diagonal, size), divided(self.beta, size)
        d = divided(z - self.d_before * second - self.d * first, size)
        self.d_before, self.d = self.d, d
        self.x = self.x + d * torch.where(going, self.cosine * self.left, 0)
        self.left = self.sine * self.left
        self.residual = torch.where(
            going,
            self.residual * self.sine.square() - self.u * (self.left * self.cosine),
            self.residual,
        )
        self.conclude_solved()

    def _look_for_least(self, steepness: Tensor) -> None:
        """End where x, that of the step before, is a least-squares solution, from its ‖A r‖ / ‖r‖.

        Near the end of a singular system the recurrence divides by what rounding made of zero, and
        x grows without end while r stays; of a system that is merely ill-conditioned r goes on to
        fall, if slowly. So the best x is kept, and taken once r has not fallen for long.
        """
        size = norms(self.residual)
        fallen = (size < _FALLEN * self.reference) | self.least_yet.isinf()
        self.reference = torch.where(fallen, size, self.reference)
        self.waited = torch.where(fallen, 0, self.waited + 1)
        # Once it has grown, what follows is rounding, unless the residual falls again.
        near = steepness <= _NEAR * self.system.eps**0.5 * self.largest
        better = near & torch.where(fallen, True, (steepness < self.least_yet) & ~self.grown)
        self.grown = ~fallen & (self.grown | (steepness > self.least_yet))
        self.best = torch.where(better, self.x, self.best)
        self.least_yet = torch.where(
            better, steepness, torch.where(fallen, torch.inf, self.least_yet)
        )
        self.steps += 1
        ended = (steepness <= self.least * self.largest) | (
            self.waited > max(_PATIENCE, self.steps // 2)
        )
        self.x = torch.where(ended & self.least_yet.isfinite(), self.best, self.x)
        self.conclude(Verdict.LEAST_SQUARES, ended)
