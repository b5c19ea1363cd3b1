"""Neumann's series: for a matrix whose eigenvalues are all positive."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.solves.columns import norms
from hesse.solves.iteration import Iteration
from hesse.solves.solution import Verdict
from hesse.solves.system import System

# What Lanczos' largest eigenvalue may lack, relative: with so much more every eigenvalue of the
# scaled matrix is below 2, and the series converges.
_LACKING = 0.05
# Of eps: growth of a residual that is more than its own rounding.
_ROUNDING = 1000


@final
class Neumann(Iteration):
    """x = α Σ (I − α A)ᵏ b with α = 1 / λ, λ the eigenvalue that is largest in magnitude, one
    product a step.

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
    """The eigenvalue of the largest magnitude, and a little more.

    Raises:
        HesseValueError: it is not positive.
    """
    size = system.size
    like = {"dtype": system.operator.dtype, "device": system.operator.device}

    def product(v: np.ndarray) -> np.ndarray:
        column = torch.from_numpy(v.reshape(-1, 1)).to(**like)
        return system.product(column).squeeze(1).double().cpu().numpy()

    if size == 1:
        largest = float(product(np.ones(1))[0])
    else:
        # Loading it takes a tenth of a second.
        from scipy.sparse import linalg

        random = torch.Generator().manual_seed(0)
        start = torch.randn(size, generator=random, dtype=torch.float64, device="cpu").numpy()
        settings: dict[str, Any] = {"v0": start, "tol": _LACKING / 5}
        made: dict[str, Any] = {"shape": (size, size), "matvec": product, "dtype": np.float64}
        operator = linalg.LinearOperator(**made)
        largest = float(linalg.eigsh(operator, 1, return_eigenvectors=False, **settings)[0])
    if not largest > 0:
        raise HesseValueError(
            "method: 'neumann' needs positive eigenvalues, and that of the largest magnitude is"
            f" {largest:.3g}; with a damping of more than {system.damping - largest:.3g} they are,"
            " or use method='minres'"
        )
    return largest * (1 + _LACKING)
