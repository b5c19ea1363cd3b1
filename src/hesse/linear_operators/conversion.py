"""An operator of whatever can be one."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.curvatures.curvature import Curvature, curvature_named
from hesse.errors import HesseTypeError, HesseValueError
from hesse.linear_operators.given import BlocksOperator, FunctionOperator, MatrixOperator
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.linear_operators.vectors import layout_of_vector
from hesse.matrix.block_hessian import BlockHessian
from hesse.products.hessian_operator import operator

# What an array's numbers are called in PyTorch.
_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def as_operator(what: Any, *, curvature: str | Curvature | None = None) -> LinearOperator:
    """An operator of a cost, a Hessian, a matrix, or what SciPy has.

    Args:
        what: a cost, whose Hessian it is; a `BlockHessian`, whole or block diagonal; a matrix, as a
            tensor, an array or a table of pandas or xarray; SciPy's ``LinearOperator`` or sparse
            matrix; or an operator, which is returned.
        curvature: of a cost, what of its second derivatives; all of them by default.

    Raises:
        HesseTypeError: none of these.
        HesseValueError: a matrix that is not finite, a Hessian with some blocks only, or a
            curvature of what is no cost.

    Examples:
        >>> import torch, hesse
        >>> A = hesse.as_operator(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> A.is_symmetric, torch.tensor([1.0, 2.0]) @ A
        (True, tensor([2., 1.]))
    """
    if isinstance(what, Cost):
        return operator(what, curvature="hessian" if curvature is None else curvature)
    if curvature is not None:
        raise HesseValueError(
            f"curvature: {curvature_named(curvature).name!r} can be asked for of a cost; this"
            f" {type(what).__name__} is a matrix already"
        )
    if isinstance(what, LinearOperator):
        return what
    if isinstance(what, BlockHessian):
        whole = what.matrix
        return BlocksOperator(what) if whole is None else MatrixOperator(whole, what.layout)
    if isinstance(what, Tensor):
        return MatrixOperator(what)
    if hasattr(what, "to_numpy"):
        what = what.to_numpy()
    if isinstance(what, np.ndarray) and what.dtype.kind == "f":
        return MatrixOperator(_tensor(what))
    if all(hasattr(what, part) for part in ("shape", "dtype", "__matmul__")) and hasattr(what, "T"):
        return _of_scipy(what)
    raise HesseTypeError(
        "what: expected a cost, an operator, a Hessian, a matrix of real numbers or SciPy's"
        f" LinearOperator, got {type(what).__name__}; for a product of your own there is"
        " hesse.FunctionOperator"
    )


def _of_scipy(what: Any) -> LinearOperator:
    if len(what.shape) != 2 or np.dtype(what.dtype).newbyteorder("=") not in _DTYPES:
        raise HesseTypeError(
            "what: expected a matrix of real numbers, float32 or float64, got"
            f" {np.dtype(what.dtype)} of shape {tuple(what.shape)}"
        )
    M, N = what.shape
    product = partial(_through_numpy, what)
    return FunctionOperator(
        product,
        layout_of_vector(M),
        layout_of_vector(N),
        transposed=product if _is_symmetric(what) else partial(_through_numpy, what.T),
        dtype=_DTYPES[np.dtype(what.dtype).newbyteorder("=")],
    )


def _is_symmetric(what: Any) -> bool:
    """Of a sparse matrix it can be seen; SciPy's operators do not say."""
    # Loading it takes a tenth of a second, and what is sparse has loaded it.
    from scipy.sparse import issparse

    return issparse(what) and what.shape[0] == what.shape[1] and (what != what.T).nnz == 0


def _through_numpy(matrix: Any, v: Tensor) -> Tensor:
    return _tensor(np.asarray(matrix @ v.numpy()))


def _tensor(array: np.ndarray) -> Tensor:
    native = array.dtype.newbyteorder("=")
    if native not in _DTYPES:
        raise HesseTypeError(f"what: expected an array of float32 or float64, got {array.dtype}")
    # PyTorch reads neither backwards nor in the other order of bytes, and warns of what it may not
    # write.
    as_it_can = np.require(array, native, ["C", "W"])
    return torch.from_numpy(as_it_can)
