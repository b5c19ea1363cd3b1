"""What may stand for H in a quadratic model: for each name, how to build it and how to multiply with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from hesse.certificates import Certificate
from hesse.cost import Cost
from hesse.errors import HesseValueError, nearest
from hesse.exact.diagonal import diagonal
from hesse.exact.hessian import hessian
from hesse.matrix.block_hessian import BlockHessian
from hesse.products.hessian_operator import operator


@runtime_checkable
class Operator(Protocol):
    """A symmetric matrix known by its products."""

    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def certificate(self) -> Certificate | None: ...
    def __matmul__(self, v: Any) -> Any: ...


@dataclass(frozen=True)
class Curvature:
    """One choice of H.

    Attributes:
        dense: (cost, progress) -> the matrix.
        operator: (cost, memory) -> its products.
        diagonal: cost -> its diagonal, without the matrix.
    """

    dense: Callable[[Cost, bool | None], BlockHessian]
    operator: Callable[[Cost, int | None], Operator]
    diagonal: Callable[[Cost], dict[str, Tensor]]


CURVATURES = {
    "hessian": Curvature(
        lambda cost, progress: hessian(cost, progress=progress), lambda cost, memory: operator(cost, memory=memory), diagonal
    ),
}


def curvature_named(name: Any) -> Curvature:
    """The curvature of a name.

    Raises:
        HesseValueError: no such curvature.
    """
    if name not in CURVATURES:
        raise HesseValueError(f"curvature: expected one of {nearest(str(name), list(CURVATURES))}, got {name!r}")
    return CURVATURES[name]
