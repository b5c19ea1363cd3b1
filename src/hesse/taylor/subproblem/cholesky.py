"""Steps from Cholesky factors of H + λ I, to the accuracy that a minimiser can use.

All eigenvectors take some 25 times as long as one factorisation, and a minimiser needs its step's
length to a tenth only. So λ is sought as Moré and Sorensen do: with A = H + λ I = L Lᵀ, s = −A⁻¹ g
and w = L⁻¹ s,

    d/dλ 1/‖s‖ = ‖w‖² / ‖s‖³

gives Newton's step towards the λ at which ‖s‖ is the length wanted, the radius or 2 λ / M. Where s
is too short, a vector z with a small ρ = zᵀ A z / zᵀ z may fill it up to its length: the hard case.
For steps to all digits there is `spectral`.

Source:
    J. J. Moré and D. C. Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4
    (1983), 553; A. R. Conn, N. I. M. Gould and P. L. Toint, Trust-Region Methods, SIAM (2000),
    section 7.3.
"""

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from hesse.taylor.subproblem.space import random_unit
from hesse.words.shapes import Float

# How far the length may be off, relative, and which part of the model's decrease the hard case may
# miss: κ_easy and κ_hard of Conn, Gould and Toint, section 7.3.
_LENGTH = 0.1
_DECREASE = 0.2
# Where inside its bounds the next λ is tried when Newton's step is of no use.
_INSIDE = 0.01
# Factorisations of one step: beyond so many the bounds on λ close in on rounding.
_MOST_FACTORS = 40
# Of inverse iteration for the lowest eigenvector, two triangular solves each.
_INVERSE_ITERATIONS = 3
# What a λ for which H + λ I was indefinite is multiplied by for the next trial.
_INCREASE = 4


class Bound(abc.ABC):
    """What keeps a step short: the length that it should have at each multiplier λ."""

    @abc.abstractmethod
    def length(self, shift: float) -> float:
        """‖s‖ as wanted at λ."""

    @abc.abstractmethod
    def limits(self, slope: float, norm: float) -> tuple[float, float]:
        """λ lies between these, for ‖g‖ and a bound on ‖H‖."""

    @abc.abstractmethod
    def next(self, shift: float, step: float, change: float) -> float:
        """Newton's next λ, from ‖s‖ and d(1/‖s‖)/dλ."""

    @abc.abstractmethod
    def penalty(self, step: float) -> float:
        """What the bound adds to the model at ‖s‖."""

    # How much of λ ‖s‖² belongs to the model's decrease, the bound's own term counted in.
    weight: float


@final
@dataclass(frozen=True)
class Ball(Bound):
    """‖s‖ <= radius."""

    radius: float
    weight = 1.0

    def length(self, shift: float) -> float:
        return self.radius

    def limits(self, slope: float, norm: float) -> tuple[float, float]:
        return max(0.0, slope / self.radius - norm), slope / self.radius + norm

    def next(self, shift: float, step: float, change: float) -> float:
        return shift + (1 / self.radius - 1 / step) / change

    def penalty(self, step: float) -> float:
        return 0.0


@final
@dataclass(frozen=True)
class Cubic(Bound):
    """M/6 ‖s‖³ in the model, whose minimiser has ‖s‖ = 2 λ / M."""

    M: float
    weight = 1 / 3

    def length(self, shift: float) -> float:
        return 2 * shift / self.M

    def limits(self, slope: float, norm: float) -> tuple[float, float]:
        root = math.hypot(norm, math.sqrt(2 * self.M * slope))
        return 2 * self.M * slope / (norm + root) / 2 if slope else 0.0, (norm + root) / 2

    def next(self, shift: float, step: float, change: float) -> float:
        if shift == 0:
            return self.M * step / 2
        return shift + (self.M / (2 * shift) - 1 / step) / (change + self.M / (2 * shift**2))

    def penalty(self, step: float) -> float:
        return self.M * step**3 / 6


class Guess(NamedTuple):
    """What one step knows that shortens the search for the next: its λ, and a vector near the
    lowest eigenvector."""

    multiplier: float = 0.0
    lowest: Tensor | None = None


class BoundedStep(NamedTuple):
    """A step, its λ, and a guess for the next one."""

    vector: Tensor
    multiplier: float
    guess: Guess


_NO_GUESS = Guess()


@final
class ShiftedCholesky:
    """H + λ I and its Cholesky factor, in memory that is taken once.

    Attributes:
        norm: more than ‖H‖, the Frobenius norm.
        factors: how many factorisations were tried.
    """

    def __init__(
        self, H: Float[Tensor, "P P"], predecessor: "ShiftedCholesky | None" = None
    ) -> None:
        self._H = H
        # The memory of the factor before it, for each H of a run has the same size.
        self._factor = predecessor._factor if predecessor is not None else torch.empty_like(H).mT
        # A tenth more, so that rounding of the norm itself cannot make the bound too small.
        self.norm = 1.1 * float(torch.linalg.vector_norm(H))
        self.factors = 0

    def factorise(self, shift: float) -> bool:
        """Factorise H + shift I; ``False`` where it is not positive definite."""
        self.factors += 1
        self._factor.copy_(self._H.mT)  # the same, and in the order of the memory
        self._factor.diagonal().add_(shift)
        # Into its own memory: LAPACK works in place on columns.
        info = torch.empty((), dtype=torch.int32, device=self._factor.device)
        torch.linalg.cholesky_ex(self._factor, out=(self._factor, info))
        return not int(info)

    def solve(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """(H + λ I)⁻¹ v."""
        return torch.linalg.solve_triangular(
            self._factor.mT, self.solve_lower(v).unsqueeze(1), upper=True
        ).squeeze(1)

    def solve_lower(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """L⁻¹ v."""
        return torch.linalg.solve_triangular(self._factor, v.unsqueeze(1), upper=False).squeeze(1)

    def inverse_iteration(self, z: Float[Tensor, " P"]) -> tuple[Float[Tensor, " P"], float]:
        """A unit vector z nearer to the lowest eigenvector, and its ρ = zᵀ (H + λ I) z, no less
        than the lowest eigenvalue."""
        quotient = math.inf
        for _ in range(_INVERSE_ITERATIONS):
            u = self.solve(z)
            size = float(torch.linalg.vector_norm(u))
            if not 0 < size < math.inf:
                break
            u = u / size
            z, quotient = u, float(u @ z) / size
        return z, quotient

    def least_shift(self, z: Float[Tensor, " P"]) -> float:
        """What λ must exceed, as far as the diagonal and a unit vector tell."""
        return max(0.0, -float(self._H.diagonal().min()), -float(z @ (self._H @ z)))


def step(
    shifted: ShiftedCholesky, gradient: Float[Tensor, " P"], bound: Bound, guess: Guess = _NO_GUESS
) -> BoundedStep | None:
    """The minimiser of gᵀs + ½ sᵀHs under a bound: its length to 10 %, or in the hard case the
    decrease to 20 %.

    A step inside a ball is Newton's, exactly.

    Args:
        shifted: H.
        gradient: g.
        bound: what keeps the step short.
        guess: that of the step before.

    Returns:
        ``None`` where rounding keeps the search from an end; `spectral` then has the step.
    """
    slope = float(torch.linalg.vector_norm(gradient))
    low, high = bound.limits(slope, shifted.norm)
    z = random_unit(gradient) if guess.lowest is None else guess.lowest
    low = max(low, shifted.least_shift(z))
    shift = min(max(guess.multiplier, low), high)
    before = shifted.factors
    # λ lies in [low, high]. A factorisation that fails, a step that is too long or too short, and ρ
    # each move one end; Newton's λ is taken where it falls between them.
    while shifted.factors - before < _MOST_FACTORS and low <= high:
        if not shifted.factorise(shift):
            low = max(low, shift)
            shift = min(_between(low, high), _INCREASE * low) if low else _between(low, high)
            continue
        s = -shifted.solve(gradient)
        size, length = float(torch.linalg.vector_norm(s)), bound.length(shift)
        if (shift == 0 and size <= length) or (size and abs(size - length) <= _LENGTH * length):
            return BoundedStep(s, shift, Guess(shift, z))
        z, lowest = shifted.inverse_iteration(z)
        if size < length:
            high = shift
            fill = _fill(s, z, length)
            decrease = -float(s @ gradient) + bound.weight * shift * length**2
            if fill**2 * lowest <= _DECREASE * decrease:
                return BoundedStep(s + fill * z, shift, Guess(shift, z))
        else:
            low = shift
        low = max(low, shift - lowest)
        change = (
            (float(torch.linalg.vector_norm(shifted.solve_lower(s))) / size) ** 2 / size
            if size
            else 0.0
        )
        following = bound.next(shift, size, change) if change else -math.inf
        shift = (
            following
            if low < following < high
            else 0.0
            if low == 0 and shift > 0
            else _between(low, high)
        )
    return None


def _between(low: float, high: float) -> float:
    return max(math.sqrt(max(low, 0.0) * high), low + _INSIDE * (high - low))


def _fill(s: Tensor, z: Tensor, length: float) -> float:
    """The smaller t with ‖s + t z‖ = length, for a unit z."""
    along, missing = float(s @ z), length**2 - float(s @ s)
    return missing / (along + math.copysign(math.sqrt(along**2 + missing), along))
