"""Neumann's series: for a matrix whose eigenvalues are all positive."""

from typing import final

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.solves.columns import dots, norms
from hesse.solves.iteration import Iteration
from hesse.solves.solution import Verdict
from hesse.solves.system import System
from hesse.words.shapes import Float

# Of Lanczos, for the largest eigenvalue.
_STEPS = 20
# Of eps: growth of a residual that is more than its own rounding.
_ROUNDING = 1000


@final
class Neumann(Iteration):
    """x = α Σ (I − α A)ᵏ b with α = 1 / λ, λ the largest eigenvalue or a little more, one product a
    step.

    With every eigenvalue in (0, λ] each step takes the residual down; it takes some λ / λ_min
    steps, where conjugate gradients take the root of that. A residual that grows shows an
    eigenvalue that is not there.

    Source:
        As used for influence functions by N. Agarwal, B. Bullins and E. Hazan, Second-order
        stochastic optimization for machine learning in linear time, JMLR 18 (2017), equation 7,
        here on all the data.
    """

    name = "neumann"

    def __init__(self, system: System, b: Float[Tensor, "N K"], tolerance: float) -> None:
        super().__init__(system, b, tolerance)
        self.largest = _largest(system)

    def step(self) -> None:
        """One more term."""
        before = norms(self.residual)
        self.x = self.x + self.residual / self.largest
        self.residual = self.residual - self.system.product(self.residual) / self.largest
        grown = norms(self.residual) > before * (1 + _ROUNDING * self.system.eps)
        self.conclude_solved()
        self.conclude(Verdict.GROWING, grown, torch.full_like(self.detail, self.largest))


def _largest(system: System) -> float:
    """More than the largest eigenvalue, by a few steps of Lanczos: the largest Ritz value, and what
    it may lack.

    Raises:
        HesseValueError: a Ritz value shows an eigenvalue that is not positive.

    Source: Y. Zhou and R.-C. Li, Bounding the spectrum of large Hermitian matrices, Linear Algebra
    Appl. 435 (2011), 480, equation 13.
    """
    random = torch.Generator().manual_seed(0)
    v = torch.randn(system.size, 1, generator=random, dtype=torch.float64, device="cpu")
    v = v.to(system.operator.device, system.operator.dtype)
    before, v, beta = torch.zeros_like(v), v / norms(v), 0.0
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(min(system.size, _STEPS)):
        w = system.product(v) - before * beta
        diagonal.append(float(dots(v, w)))
        w = w - v * diagonal[-1]
        beta = float(norms(w))
        off.append(beta)
        # The space is exhausted.
        if beta <= system.eps * system.norm:
            break
        before, v = v, w / beta
    beyond = off.pop()
    T = _tridiagonal(diagonal, off)
    values, vectors = torch.linalg.eigh(T)
    lowest, largest = float(values[0]), float(values[-1])
    if largest <= 0 or lowest < -_ROUNDING * system.eps * largest:
        raise HesseValueError(
            "method: 'neumann' needs positive eigenvalues, and there is one of"
            f" {lowest:.3g} or below; give a damping of more than {system.damping - lowest:.3g}, or"
            " use method='minres'"
        )
    return largest + beyond * float(vectors[-1].abs().max())


def _tridiagonal(diagonal: list[float], off: list[float]) -> Tensor:
    beside = torch.tensor(off, dtype=torch.float64, device="cpu").diag(1)
    return torch.tensor(diagonal, dtype=torch.float64, device="cpu").diag() + beside + beside.T
