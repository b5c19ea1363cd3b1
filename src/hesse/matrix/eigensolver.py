"""The eigenvalues and eigenvectors of a symmetric matrix of any size, with what they take said
before they are begun.

For eigenvectors LAPACK's divide and conquer, which PyTorch calls, asks for a workspace of
1 + 6 P + 2 P² numbers, and counts them in 32 bits: from P = 32,767 it ends the process. NumPy's
counts in 64 bits where NumPy was built so, as it comes from the package index. Elsewhere SciPy's
relatively robust representations take its place, which need no such workspace but leave
eigenvectors orthogonal to some thousand roundings only; one step of Newton and Schulz makes them
as orthogonal as the others. In single precision they may fail, and LAPACK goes on by inverse
iteration, which takes hours where eigenvalues lie close together.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hesse.errors import readable_bytes
from hesse.matrix.spectrum import Eigen
from hesse.process.memory import require_free
from hesse.process.price import Price
from hesse.process.progress import announced
from hesse.process.rates import rates
from hesse.words.shapes import Float

# The most rows for which 1 + 6 P + 2 P² is a whole number of 32 bits.
_MOST_ROWS = 32_766
# From so many rows it takes seconds, and is worth a look before it is begun.
_LARGE = 4096
# What is beside the matrix at once, in copies of it: for eigenvalues one that is reduced to three
# diagonals; LAPACK's workspace makes them three, and NumPy's result four.
_COPIES_OF_VALUES, _COPIES_OF_VECTORS, _COPIES_OF_NUMPY, _COPIES_OF_ROBUST = 1, 3, 4, 2
# Operations of a matrix product that take as long, in P³: for 2,000 to 4,000 rows, of float32 and
# float64, 2.5 to 3.2 and 9 to 16 were measured.
_OPERATIONS_OF_VALUES, _OPERATIONS_OF_VECTORS = 3.0, 13.0
# Rows of the eigenvectors that are made orthogonal at once.
_ROWS = 256


def eigh(matrix: Float[Tensor, "P P"]) -> Eigen:
    """The eigenvalues of a symmetric matrix in ascending order, and its eigenvectors.

    Raises:
        HesseMemoryError: there is not the memory for it.

    Examples:
        >>> import torch
        >>> eigh(torch.tensor([[0.0, 2.0], [2.0, 0.0]])).values
        tensor([-2.,  2.])
    """
    way, copies = _solver(matrix)
    with _said(matrix, "eigenvectors", copies, _OPERATIONS_OF_VECTORS):
        return way(matrix)


def _solver(matrix: Tensor) -> tuple[Callable[[Tensor], Eigen], int]:
    """What takes a matrix of so many rows, and what it holds beside it, in copies of it."""
    if matrix.device.type != "cpu" or len(matrix) <= _MOST_ROWS:
        return _by_torch, _COPIES_OF_VECTORS
    if _numpy_counts_in_64_bits():
        return _by_numpy, _COPIES_OF_NUMPY
    return _relatively_robust, _COPIES_OF_ROBUST


def eigvalsh(matrix: Float[Tensor, "P P"]) -> Float[Tensor, " P"]:
    """The eigenvalues of a symmetric matrix in ascending order.

    Raises:
        HesseMemoryError: there is not the memory for it.
    """
    with _said(matrix, "eigenvalues", _COPIES_OF_VALUES, _OPERATIONS_OF_VALUES):
        return torch.linalg.eigvalsh(matrix)


def _said(
    matrix: Tensor, what: str, copies: int, operations: float
) -> AbstractContextManager[None]:
    """Before large work: whether there is the memory for it, and how long it takes."""
    rows = len(matrix)
    if rows < _LARGE:
        return nullcontext()
    count, what = copies * rows**2 * matrix.itemsize, f"{what} of {rows:,} rows"
    if matrix.device.type == "cpu":
        require_free(count, what)
    seconds = rates(matrix.dtype, matrix.device).seconds(Price(operations * rows**3))
    return announced(f"{what}, in {readable_bytes(count)}", seconds)


def _by_torch(matrix: Tensor) -> Eigen:
    return Eigen(*torch.linalg.eigh(matrix))


def _by_numpy(matrix: Tensor) -> Eigen:
    # `numpy.linalg.eigh` solves in double precision whatever it is given, in twice the memory; this
    # is what it calls. The lower triangle is read, as PyTorch reads it.
    signature = "d->dd" if matrix.dtype == torch.float64 else "f->ff"
    with np.errstate(invalid="ignore"):
        values, vectors = _of_numpy("eigh_lo")(matrix.detach().numpy(), signature=signature)
    # It says so by a nan, of which NumPy's function makes this error.
    if np.isnan(values).any():
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return Eigen(*map(torch.from_numpy, (values, vectors)))


def _numpy_counts_in_64_bits() -> bool:
    # As NumPy's own tests ask it.
    return bool(_of_numpy("_ilp64")) and _of_numpy("eigh_lo") is not None


def _of_numpy(name: str) -> Any:
    """What NumPy's linear algebra is made of, which is no promise of NumPy's; ``None`` where it is
    not there."""
    return getattr(getattr(np.linalg, "_umath_linalg", None), name, None)


def _relatively_robust(matrix: Tensor) -> Eigen:
    # Imported here: loading it takes as long as a small Hessian.
    from scipy.linalg import eigh as solved

    # Written over, and gone when the step begins. A symmetric matrix is its own transpose, which
    # lies as Fortran wants it.
    values, vectors = map(
        torch.from_numpy,
        solved(
            matrix.detach().clone(memory_format=torch.contiguous_format).numpy().T,
            overwrite_a=True,
            check_finite=False,
            driver="evr",
        ),
    )
    # V (3 - VᵀV) / 2, in place: nearly orthogonal, V becomes so to the square of what it lacks.
    step = (vectors.mT @ vectors).mul_(-0.5)
    step.diagonal().add_(1.5)
    for rows in vectors.split(_ROWS):
        rows.copy_(rows @ step)
    return Eigen(values, vectors)
