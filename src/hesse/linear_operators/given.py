"""Operators of what a user has: a matrix, a Hessian in blocks, a product of one's own."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from hesse.errors import (
    HesseError,
    HesseTypeError,
    HesseValueError,
    in_a_line,
    require_instance,
)
from hesse.layout import Layout
from hesse.linear_operators.linear_operator import LinearOperator, SymmetricOperator
from hesse.linear_operators.vectors import layout_of_vector
from hesse.matrix.block_hessian import BlockHessian
from hesse.words.shapes import Float


@final
class MatrixOperator(LinearOperator):
    """A matrix that is there, as an operator.

    Args:
        matrix: (M, N); it is not copied.
        rows: the parts of its rows; one, ``"x"``, by default.
        columns: the parts of its columns; those of its rows by default where it is square.

    Raises:
        HesseValueError: no matrix of finite numbers, or a layout that does not fit.
    """

    def __init__(
        self, matrix: Tensor, rows: Layout | None = None, columns: Layout | None = None
    ) -> None:
        if matrix.ndim != 2 or not matrix.is_floating_point() or matrix.layout != torch.strided:
            raise HesseValueError(
                f"what: expected a dense matrix of real numbers, got {matrix.dtype} of shape"
                f" {tuple(matrix.shape)}, {str(matrix.layout).removeprefix('torch.')}"
            )
        if not matrix.numel() or matrix.is_meta:
            raise HesseValueError(
                f"what: expected a matrix with entries, got one of shape {tuple(matrix.shape)} on"
                f" {matrix.device}"
            )
        if not bool(matrix.isfinite().all()):
            raise HesseValueError("what: has entries that are not finite (nan or inf)")
        M, N = matrix.shape
        rows = rows or layout_of_vector(M)
        columns = columns or (rows if M == N else layout_of_vector(N))
        if (rows.size, columns.size) != (M, N):
            raise HesseValueError(
                f"rows, columns: expected layouts of {M} and {N} entries, got {rows.size} and"
                f" {columns.size}"
            )
        super().__init__(rows, columns, matrix.dtype, matrix.device)
        self.matrix = matrix.detach()
        self._is_symmetric = rows == columns and torch.equal(matrix, matrix.T)

    @property
    def is_symmetric(self) -> bool:
        """Whether every entry equals the one across the diagonal."""
        return self._is_symmetric

    def dense(self) -> Float[Tensor, "M N"]:
        """A copy of the matrix."""
        return self.matrix.clone()

    def _product(self, v: Tensor) -> Tensor:
        return self.matrix @ v

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.matrix.T @ u


@final
class BlocksOperator(SymmetricOperator):
    """A Hessian that is held in blocks, all or those on the diagonal, in memory or on a disk.

    Args:
        hessian: it is not copied, and of one on a disk a product reads every tile.

    Raises:
        HesseValueError: it holds some other blocks.
    """

    def __init__(self, hessian: BlockHessian) -> None:
        if not (hessian.is_complete or hessian.is_block_diagonal):
            raise HesseValueError(
                f"what: this Hessian holds {len(hessian.pairs)} blocks, neither all nor the"
                " diagonal ones; hesse.hessian(cost) without pairs= holds all"
            )
        super().__init__(hessian.layout, hessian.dtype, hessian.device)
        self.hessian = hessian

    def _product(self, v: Tensor) -> Tensor:
        return (self.hessian @ v).detach()


@final
class FunctionOperator(LinearOperator):
    """An operator of a user's own products.

    Args:
        product: v -> A v, for (N, K) matrices.
        rows: the parts of A v.
        columns: the parts of v; those of the rows by default.
        transposed: u -> Aᵀ u, for (M, K) matrices; by default there is none. A symmetric operator
            is given its product twice.
        dtype: of vectors.
        device: of vectors.

    Examples:
        >>> import torch, hesse
        >>> layout = hesse.Layout(("w",), ((3,),))
        >>> twice = lambda v: 2 * v
        >>> hesse.FunctionOperator(twice, layout, transposed=twice) @ {"w": torch.ones(3)}
        {'w': tensor([2., 2., 2.])}
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        rows: Layout,
        columns: Layout | None = None,
        *,
        transposed: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        require_instance(rows, Layout, "rows", "hesse.Layout(names, shapes)")
        if columns is not None:
            require_instance(columns, Layout, "columns", "hesse.Layout(names, shapes)")
        optional = {} if transposed is None else {"transposed": transposed}
        for name, function in {"product": product, **optional}.items():
            if not callable(function):
                raise HesseTypeError(
                    f"{name}: expected a function of a (N, K) matrix, got {type(function).__name__}"
                )
        if not isinstance(dtype, torch.dtype):
            raise HesseTypeError(f"dtype: expected torch.float64 or such, got {dtype!r}")
        try:
            where = torch.device(device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise HesseValueError(f"device: {in_a_line(error)}") from error
        super().__init__(rows, columns or rows, dtype, where)
        self._products = product, transposed

    @property
    def is_symmetric(self) -> bool:
        """Whether the two products are one function."""
        return self._products[0] is self._products[1] and self.rows == self.columns

    def _product(self, v: Tensor) -> Tensor:
        return self._called(self._products[0], "product", v, self.rows)

    def _transposed_product(self, u: Tensor) -> Tensor:
        transposed = self._products[1]
        if transposed is None:
            raise HesseValueError(
                "this operator has no transpose: give transposed= to hesse.FunctionOperator, the"
                " product itself where the operator is symmetric"
            )
        return self._called(transposed, "transposed", u, self.columns)

    def _called(
        self, function: Callable[[Tensor], Tensor], name: str, v: Tensor, parts: Layout
    ) -> Tensor:
        columns = v.unsqueeze(1) if v.ndim == 1 else v
        try:
            # Its own to write over.
            found = function(columns.clone())
        except HesseError:
            # It says already what to do.
            raise
        except Exception as error:
            raise HesseValueError(f"{name}: failed with {in_a_line(error)}") from error
        expected = (parts.size, columns.shape[1])
        if not isinstance(found, Tensor) or tuple(found.shape) != expected:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise HesseValueError(
                f"{name}: expected a tensor of shape {expected} for a matrix of"
                f" {columns.shape[1]} columns, got {got}"
            )
        # A sum is finite only where every entry is; it may overflow where they are.
        if not bool(found.sum().isfinite()) and not bool(found.isfinite().all()):
            bad = int((~found.isfinite()).sum())
            raise HesseValueError(
                f"{name}: gave {bad} entries that are not finite (nan or inf), of a matrix of"
                " finite ones"
            )
        # Never the memory of what it was given, or of what the user keeps.
        found = found.detach().to(self.device, self.dtype, copy=True)
        return found.reshape(parts.size) if v.ndim == 1 else found
