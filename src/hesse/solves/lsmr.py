"""LSMR: least squares, for a matrix of any shape and rank."""

from typing import final

import torch
from torch import Tensor

from hesse.solves.columns import divided, norms
from hesse.solves.iteration import Iteration
from hesse.solves.solution import Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float


@final
class Lsmr(Iteration):
    """x in the Krylov space of Aᵀb and AᵀA with the smallest ‖Aᵀr‖, one product with A and one with
    Aᵀ a step: MINRES for AᵀA x = Aᵀb, without AᵀA. From x = 0 it comes to the shortest of all
    least-squares solutions.

    Golub and Kahan's vectors make A bidiagonal; two rotations a step turn what it is into a
    triangle, and that into another, along whose columns x grows.

    Source:
        D. C.-L. Fong and M. Saunders, LSMR: an iterative algorithm for sparse least-squares
        problems, SIAM J. Sci. Comput. 33 (2011), 2950, section 2; the residual is carried along
        here.
    """

    name = "lsmr"

    def __init__(self, system: System, b: Float[Tensor, "M K"], tolerance: float) -> None:
        super().__init__(system, b, tolerance)
        zero, one = torch.zeros_like(self.target), torch.ones_like(self.target)
        beta = norms(b)
        self.u = divided(b, beta)
        w = system.transposed_product(self.u)
        self.alpha = norms(w)
        self.v = divided(w, self.alpha)
        # α and ζ of what is not rotated yet; the last rotation; ρ and ρ̄ of the step before.
        self.alpha_bar, self.zeta_bar = self.alpha, self.alpha * beta
        self.cosine, self.sine = one, zero
        self.rho, self.rho_bar, self.theta = one, one, zero
        # Directions, and A of them.
        self.h, self.h_bar = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.Ah, self.Ah_bar = torch.zeros_like(b), torch.zeros_like(b)
        self.conclude(Verdict.LEAST_SQUARES, self.alpha == 0)

    def step(self) -> None:
        """One more vector on each side, two rotations, and one more part of x."""
        v, Av, alpha = self.v, self.system.product(self.v), self.alpha
        w = Av - self.u * alpha
        beta = norms(w)
        self.u = divided(w, beta)
        w = self.system.transposed_product(self.u) - v * beta
        self.alpha = norms(w)
        self.v = divided(w, self.alpha)

        # h of the last step becomes this one's.
        share = divided(self.theta, self.rho)
        self.h, self.Ah = v - self.h * share, Av - self.Ah * share
        before, before_bar = self.rho, self.rho_bar
        self.rho = torch.hypot(self.alpha_bar, beta)
        cosine, sine = divided(self.alpha_bar, self.rho), divided(beta, self.rho)
        self.theta, self.alpha_bar = sine * self.alpha, cosine * self.alpha

        turned = self.cosine * self.rho
        share = divided(self.sine * self.rho * self.rho, before * before_bar)
        self.h_bar, self.Ah_bar = self.h - self.h_bar * share, self.Ah - self.Ah_bar * share
        self.rho_bar = torch.hypot(turned, self.theta)
        self.cosine, self.sine = (
            divided(turned, self.rho_bar),
            divided(self.theta, self.rho_bar),
        )
        zeta, self.zeta_bar = self.cosine * self.zeta_bar, -self.sine * self.zeta_bar
        going = self.verdict == Verdict.RUNNING
        far = torch.where(going, divided(zeta, self.rho * self.rho_bar), 0)
        self.x = self.x + self.h_bar * far
        self.residual = self.residual - self.Ah_bar * far
        self.conclude_solved()
        gradient = self.zeta_bar.abs()
        self.conclude(
            Verdict.LEAST_SQUARES, gradient <= self.least * self.system.norm * norms(self.residual)
        )
