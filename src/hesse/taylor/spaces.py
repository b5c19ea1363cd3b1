"""The spaces in which a quadratic model's steps are sought: all of it where H is built, Krylov
spaces where H is known by its products."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, final

import torch
from torch import Tensor

from hesse.exact.diagonal import diagonal
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.eigensolver import eigh
from hesse.taylor import checks
from hesse.taylor.subproblem.krylov import KrylovSpace
from hesse.taylor.subproblem.space import FullSpace, SearchSpace, random_unit

if TYPE_CHECKING:
    from hesse.taylor.model import QuadraticModel


class ScaledSpace(NamedTuple):
    """The model in other units of the parameters, s' = scale ∘ s."""

    space: SearchSpace
    scale: Tensor


@final
class Spaces:
    """The spaces of one model, each made when it is first asked for and then kept: a Krylov space
    serves every damping and every radius.

    Args:
        model: the model.
        products: the most products with H for one Krylov space.
        progress: as for `hesse.hessian`.
    """

    def __init__(self, model: "QuadraticModel", products: int, progress: bool | None) -> None:
        self._model, self._products, self._progress = model, products, progress

    @cached_property
    def of_gradient(self) -> SearchSpace:
        """Where steps are sought: all of the space, or the Krylov space of g."""
        if self._model.dense:
            return FullSpace(*self._model.eigh(), self._model.gradient, self._reach)
        return self._krylov()

    @cached_property
    def of_random_vector(self) -> SearchSpace:
        """Where extreme eigenvectors are sought: all of the space, or the Krylov space of a random
        vector, which has a part along every one of them."""
        if self._model.dense:
            return self.of_gradient
        return self._krylov(start=random_unit(self._model.gradient, seed=1))

    @cached_property
    def scaled_by_diagonal(self) -> ScaledSpace:
        """The model in the units of its own diagonal, √D s with D = |diag H|."""
        model, H = self._model, self._model.hessian
        if isinstance(H, BlockHessian):
            entries = H.dense().diagonal().abs()
        else:
            by_name = diagonal(model.cost, curvature=model.cost.curvature)
            entries = model.layout.flatten(by_name).abs().to(model.gradient)
            checks.require_finite_hessian(entries, "H")
        # A parameter with no curvature of its own gets the largest: it is held back as the stiffest
        # is.
        largest = torch.where(entries.any(), entries.max(), torch.ones_like(entries.max()))
        rounding = torch.finfo(entries.dtype).eps * largest
        scale = torch.where(entries > rounding, entries, largest).sqrt()
        if isinstance(H, BlockHessian):
            values, vectors = eigh(H.dense() / scale / scale.unsqueeze(1))
            return ScaledSpace(FullSpace(values, vectors, model.gradient / scale), scale)
        return ScaledSpace(self._krylov(scale), scale)

    def _krylov(self, scale: Tensor | None = None, start: Tensor | None = None) -> KrylovSpace:
        product, g = self._model.product, self._model.gradient
        if scale is not None:
            product, g = lambda v: self._model.product(v / scale) / scale, g / scale
        return KrylovSpace(
            product,
            g,
            self._products,
            start=start,
            whole=True,
            reach=self._reach,
            progress=self._progress,
        )

    @property
    def _reach(self) -> float:
        return float(torch.linalg.vector_norm(self._model.cost.theta))
