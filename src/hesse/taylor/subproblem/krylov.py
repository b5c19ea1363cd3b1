"""The Krylov space of H and a start vector, from products alone.

Lanczos' recurrence gives Qᵀ H Q = T, tridiagonal, one product for each column of Q. The model
restricted to the space is solved as the whole one is, by its spectrum: Newton's step is then that
of conjugate gradients, and the trust-region step that of Gould, Lucidi, Roma and Toint. One space
serves every damping and every radius.
"""

import math
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.process.progress import Progress
from hesse.taylor.subproblem.space import SearchSpace, Solver, StepInSpace, reduced_model
from hesse.words.shapes import Float

# Columns of Q that memory is taken for at once: how many there will be is not known before.
_ROOM = 16
# Of eps: the relative error of T, and what is left of a product in an exhausted space.
_ROUNDING = 100


@final
class KrylovSpace(SearchSpace):
    """span {v, H v, H² v, ...}, grown until a step in it is found to the tolerance or the products
    are used up.

    The basis is kept orthogonal in full: rounding makes no second copies of an eigenvalue. The
    space only shows what v has a part of: with v = g a direction at right angles to g in which H
    curves down (the hard case) can stay unseen. Where the space is exhausted, or g is zero, it
    grows on from a random vector to the last product.

    Args:
        product: v -> H v, which raises where that is not finite.
        gradient: g.
        start: v; by default g, or a random vector where g is zero.
        limit: the most products.
        whole: whether a space of so few dimensions is seen whole before a step is believed: what g
            has no part of, or one that is rounding, is in no smaller one.
        reach: as for `FullSpace`.
        progress: as for `hesse.hessian`.

    Source:
        N. I. M. Gould, S. Lucidi, M. Roma and P. L. Toint, Solving the trust-region subproblem
        using the Lanczos method, SIAM J. Optim. 9 (1999), 504.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        gradient: Float[Tensor, " P"],
        limit: int,
        *,
        start: Float[Tensor, " P"] | None = None,
        whole: bool = False,
        reach: float = 0.0,
        progress: bool | None = None,
    ) -> None:
        self._product, self._gradient, self._reach, self._progress = (
            product,
            gradient,
            reach,
            progress,
        )
        self.limit = min(limit, len(gradient))
        self._least = self.limit if whole and self.limit == len(gradient) else 1
        self._rounding = _ROUNDING * torch.finfo(gradient.dtype).eps
        self._random = torch.Generator().manual_seed(0)
        self._rooms: list[Tensor] = []  # Q, as rows
        self._diagonal: list[float] = []
        self._off: list[float] = []  # the last entry couples the space to what lies outside it
        self._along: list[float] = []  # Qᵀ g
        self._is_random_start = start is not None
        start = gradient if start is None else start
        size = float(torch.linalg.vector_norm(start))
        self._next = start / size if size else self._fresh()
        # Then the equation for the step, which any space solves, says nothing of where H curves
        # down.
        self._exhausted = not size

    @property
    def products(self) -> int:
        """How many products have been taken: the dimension of the space."""
        return len(self._diagonal)

    def solve(self, solver: Solver) -> StepInSpace:
        """The solver's step in the smallest of the spaces, looked at as they grow, that has it to
        √eps.

        What is left is β |y|, y the step's last coefficient in Lanczos' basis and β what couples it
        to the next: exactly ‖(H + λ I) s + g‖ for a step that is optimal in the space.
        """
        with Progress("products", self.limit, self._progress) as bar:
            bar.advance(self.products)
            self._grow_to(self._least, bar)
            while True:
                # SciPy's linear algebra takes a tenth of a second to import.
                from scipy.linalg import eigh_tridiagonal

                values, vectors = eigh_tridiagonal(
                    np.array(self._diagonal), np.array(self._off[:-1])
                )
                along = vectors.T @ np.array(self._along)
                complete = self.products == len(self._gradient)
                reduced = reduced_model(values, along, self._rounding, self._reach, complete)
                try:
                    solution = solver(reduced)
                except HesseValueError:
                    # What is not definite here is not in a larger space either; there the refusal
                    # knows more.
                    if self.products == self.limit:
                        raise
                    self._grow_to(self.limit, bar)
                    continue
                inner = vectors @ solution.coefficients
                scale = float(np.linalg.norm(along)) or float(np.abs(values).max()) * float(
                    np.linalg.norm(inner)
                )
                left = self._off[-1] * abs(float(inner[-1])) / scale if scale else 0.0
                converged = (
                    left <= math.sqrt(torch.finfo(self._gradient.dtype).eps) and not self._exhausted
                )
                if converged or self.products == self.limit:
                    break
                # A tenth more each time: looking at a space costs an eigenproblem of its dimension.
                self._grow_to(min(self.products + 1 + self.products // 10, self.limit), bar)
        vector = self._lift(torch.from_numpy(inner).to(self._gradient))
        count = f"{self.products} product{'s' * (self.products != 1)}"
        reason = f"{solution.reason}; in the Krylov space of {count}" + (
            ""
            if complete
            else f", residual {left:.1e} of g; how H curves at right angles to it was not seen"
        )
        return StepInSpace.of(vector, solution, reduced, reason)

    def _grow_to(self, count: int, bar: Progress) -> None:
        while self.products < count:
            self._grow(bar)

    def _grow(self, bar: Progress) -> None:
        """One product, one more column of Q."""
        count, q = self.products, self._next
        w = self._product(q)  # first: where it is refused, nothing has changed
        if count == len(self._rooms) * _ROOM:
            self._rooms.append(q.new_empty(_ROOM, len(q)))
        self._rooms[-1][count % _ROOM] = q
        # Where g spans the space the others are at right angles to it; to compute that would bring
        # rounding.
        self._along.append(float(q @ self._gradient) if self._is_random_start or not count else 0.0)
        self._diagonal.append(float(q @ w))
        # The products may share memory with what the operator keeps.
        w = torch.sub(w, q, alpha=self._diagonal[-1])
        if count and self._off[-1]:
            w.sub_(self._rooms[(count - 1) // _ROOM][(count - 1) % _ROOM], alpha=self._off[-1])
        self._project_out(w)
        beta = float(torch.linalg.vector_norm(w))
        largest = max(map(abs, (*self._diagonal, *self._off, 0.0)))
        if beta > self._rounding * largest:
            self._off.append(beta)
            self._next = w / beta
        else:
            self._off.append(0.0)
            self._exhausted = True
            if count + 1 < self.limit:
                self._next = self._fresh()
        bar.advance(1)

    def _fresh(self) -> Tensor:
        """A random unit vector at right angles to the basis."""
        v = torch.randn(
            len(self._gradient), generator=self._random, dtype=torch.float64, device="cpu"
        ).to(self._gradient)
        for _ in range(2):  # once leaves what rounding made of the first projection
            self._project_out(v)
        return v / torch.linalg.vector_norm(v)

    def _held(self) -> list[Tensor]:
        count = self.products
        return [
            room[: count - place * _ROOM]
            for place, room in enumerate(self._rooms)
            if count > place * _ROOM
        ]

    def _project_out(self, w: Tensor) -> None:
        """w becomes w − Q Qᵀ w."""
        for room in self._held():
            w.addmv_(room.T, room @ w, alpha=-1)

    def _lift(self, coefficients: Tensor) -> Tensor:
        """Q c."""
        lifted, held = torch.zeros_like(self._gradient), self._held()
        for room, part in zip(held, coefficients.split([len(room) for room in held]), strict=True):
            lifted.addmv_(room.T, part)
        return lifted
