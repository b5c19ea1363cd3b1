"""An operator of whatever can be one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.errors import HesseTypeError, HesseValueError
from hesse.linear_operators.given import FunctionOperator, MatrixOperator, layout_of_vector
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.matrix.block_hessian import BlockHessian
from hesse.products.hessian_operator import operator


def as_operator(what: Any) -> LinearOperator:
    """An operator of a cost, a Hessian, a matrix, or what SciPy has.

    Args:
        what: a cost, whose Hessian it is; a `BlockHessian`, whole or block diagonal; a matrix, as a
            tensor or an array; SciPy's ``LinearOperator`` or sparse matrix; or an operator, which
            is returned.

    Raises:
        HesseTypeError: none of these.
        HesseValueError: a matrix that is not finite, or a Hessian with some blocks only.

    Example:
        >>> import torch, hesse
        >>> A = hesse.as_operator(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> A.is_symmetric, torch.tensor([1.0, 2.0]) @ A
        (True, tensor([2., 1.]))
    """
    if isinstance(what, LinearOperator):
        return what
    if isinstance(what, Cost):
        return operator(what)
    if isinstance(what, BlockHessian):
        return _of_hessian(what)
    if isinstance(what, Tensor):
        return MatrixOperator(what)
    if isinstance(what, np.ndarray) and what.dtype.kind == "f":
        return MatrixOperator(torch.from_numpy(what))
    if all(hasattr(what, part) for part in ("shape", "dtype", "__matmul__")) and hasattr(what, "T"):
        return _of_scipy(what)
    raise HesseTypeError(
        "what: expected a cost, an operator, a Hessian, a matrix of real numbers or SciPy's"
        f" LinearOperator, got {type(what).__name__}; for a product of your own there is"
        " hesse.FunctionOperator"
    )


def _of_hessian(H: BlockHessian) -> LinearOperator:
    if H.matrix is not None:
        return MatrixOperator(H.matrix, H.layout)
    if not (H.is_complete or H.is_block_diagonal):
        raise HesseValueError(
            f"what: this Hessian holds {len(H.pairs)} blocks, neither all nor the diagonal ones;"
            " hesse.hessian(cost) without pairs= holds all"
        )

    def product(v: Tensor) -> Tensor:
        return H @ v

    return FunctionOperator(product, H.layout, transposed=product, dtype=H.dtype, device=H.device)


def _of_scipy(what: Any) -> LinearOperator:
    if len(what.shape) != 2 or np.dtype(what.dtype).kind != "f":
        raise HesseTypeError(
            f"what: expected a matrix of real numbers, got {what.dtype} of shape {what.shape}"
        )

    def through_numpy(matrix: Any) -> Any:
        return lambda v: torch.from_numpy(np.asarray(matrix @ v.numpy()))

    M, N = what.shape
    product = through_numpy(what)
    return FunctionOperator(
        product,
        layout_of_vector(M),
        layout_of_vector(N),
        # SciPy's operators do not say whether they are symmetric.
        transposed=through_numpy(what.T),
        dtype=torch.from_numpy(np.zeros(0, what.dtype)).dtype,
    )
