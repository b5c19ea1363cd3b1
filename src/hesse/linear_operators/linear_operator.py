"""A matrix that is known by its products, and the algebra of such matrices."""

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final, overload

import torch
from torch import Tensor

from hesse.errors import HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.linear_operators.vectors import alike, flat_vector, require_columns, require_vector
from hesse.process.undisturbed import undisturbed

if TYPE_CHECKING:
    import scipy.sparse.linalg


class LinearOperator(abc.ABC):
    """A: an (M, N) matrix, by its products A v and Aᵀ u, with names for parts of its rows and
    columns.

    ``A @ v`` takes a flat vector (N,), a matrix (N, K), a dictionary {name: Tensor} or a list of
    tensors in the layout's order, and returns the same kind. ``u @ A`` is Aᵀ u. ``A + B``,
    ``A - B``, ``2 * A``, ``A @ B`` and ``A.T`` are operators; so are ``A["a", "b"]``, the block
    of the parts of two names, and ``A.block_diagonal()``. Nothing is computed before a product is.

    Example:
        >>> import torch, hesse
        >>> A = hesse.as_operator(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
        >>> (2 * A + A @ A) @ torch.tensor([1.0, 0.0])
        tensor([9., 7.])
    """

    # NumPy leaves products with an array to this class, which refuses them in its own words.
    __array_ufunc__ = None

    @property
    @abc.abstractmethod
    def rows(self) -> Layout:
        """The parts of A v."""

    @property
    @abc.abstractmethod
    def columns(self) -> Layout:
        """The parts of v."""

    @property
    @abc.abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of flat vectors and matrices."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where vectors are expected, and results lie."""

    @abc.abstractmethod
    def _product(self, v: Tensor) -> Tensor:
        """A v for (N,) or (N, K), checked; the result is new memory."""

    @abc.abstractmethod
    def _transposed_product(self, u: Tensor) -> Tensor:
        """Aᵀ u for (M,) or (M, K), checked; the result is new memory."""

    @property
    def is_symmetric(self) -> bool:
        """Whether A = Aᵀ is known."""
        return False

    @property
    def layout(self) -> Layout:
        """The order of the parts in flat vectors that A is multiplied with."""
        return self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N)."""
        return self.rows.size, self.columns.size

    @property
    def T(self) -> "LinearOperator":
        """The transpose; A itself where that is known to be symmetric."""
        return self if self.is_symmetric else Transposed(self)

    @overload
    def __matmul__(self, v: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, v: Mapping[str, Tensor]) -> dict[str, Tensor]: ...
    @overload
    def __matmul__(self, v: "LinearOperator") -> "LinearOperator": ...
    @overload
    def __matmul__(self, v: Sequence[Tensor]) -> list[Tensor]: ...
    @undisturbed()
    def __matmul__(self, v: Any) -> Any:
        """A v, or the product of two operators.

        Raises:
            HesseTypeError: neither of these, or another dtype than the operator's.
            HesseValueError: a wrong shape, another device, or entries that are not finite.
            HesseKeyError: a dictionary with missing or unknown names.
        """
        if isinstance(v, LinearOperator):
            return Product(self, v)
        if isinstance(v, Mapping | list | tuple):
            flat = flat_vector(v, self.columns, self._dtype_of, self.device)
            # Of parts in several dtypes the flat vector has the widest.
            return alike(self._product(flat.detach()), v, self.rows, self._dtype_of)
        v = require_columns(v, self.columns)
        require_vector(v, "v", self.dtype, self.device)
        return self._product(v.detach())

    def __rmatmul__(self, u: Any) -> Any:
        """u A = (Aᵀ uᵀ)ᵀ, for a vector (M,), a matrix (K, M), or a vector in parts."""
        if isinstance(u, Tensor) and u.ndim == 2:
            return (self.T @ u.T).T
        return self.T @ u

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, other)

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, -_operator(other))

    def __mul__(self, factor: float) -> "LinearOperator":
        return Multiple(factor, self)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "LinearOperator":
        return Multiple(1 / _number(divisor), self)

    def __neg__(self) -> "LinearOperator":
        return Multiple(-1.0, self)

    def __getitem__(self, names: Any) -> "LinearOperator":
        """The block of the parts of one name, ``A["a"]``, or of two, ``A["a", "b"]``; a name may be
        a pattern (``"2.*"``).

        Raises:
            HesseTypeError: neither a text nor two.
            HesseKeyError: no part has the name, or matches.
        """
        a, b = names if isinstance(names, tuple) and len(names) == 2 else (names, names)
        return Block(self, self.rows.matching(a), self.columns.matching(b))

    def block_diagonal(self) -> "LinearOperator":
        """A with every block left out that joins two different parts.

        Raises:
            HesseValueError: the rows have other parts than the columns.
        """
        return BlockDiagonal(self)

    def to_scipy(self) -> "scipy.sparse.linalg.LinearOperator":
        """The operator for SciPy's iterative solvers: NumPy arrays in and out, of the operator's
        dtype.

        Example:
            >>> import torch, hesse
            >>> from scipy.sparse.linalg import eigsh
            >>> cost = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum() / 12,
            ...     {"x": torch.tensor([1.0, 2.0, 3.0]).double()})
            >>> values = eigsh(hesse.operator(cost).to_scipy(), k=1, return_eigenvectors=False)
            >>> round(float(values[0]), 6)
            9.0
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def product_of(operator: "LinearOperator") -> Any:
            def product(x: Any) -> Any:
                # A conversion would drop the imaginary part with a warning only.
                if x.dtype.kind == "c":
                    raise HesseTypeError(
                        "v: expected real numbers, got complex ones; multiply real and imaginary"
                        " parts apart"
                    )
                # SciPy gives vectors of shape (P,) and (P, 1), and expects what it gave.
                v = torch.tensor(
                    x.reshape(x.shape[0], -1), dtype=operator.dtype, device=operator.device
                )
                found = (operator @ (v[:, 0] if v.shape[1] == 1 else v)).cpu().numpy()
                return found.reshape(-1, *x.shape[1:])

            return product

        forward, backward = product_of(self), product_of(self.T)
        products: dict[str, Any] = {
            **{"matvec": forward, "matmat": forward},
            **{"rmatvec": backward, "rmatmat": backward},
        }
        return ScipyOperator(
            shape=self.shape,
            dtype=torch.empty((), dtype=self.dtype, device="cpu").numpy().dtype,
            **products,
        )

    def _dtype_of(self, name: str) -> torch.dtype:
        """The dtype of one part in a dictionary."""
        return self.dtype

    def __repr__(self) -> str:
        M, N = self.shape
        return f"{type(self).__name__}({M} x {N}, {str(self.dtype).removeprefix('torch.')})"


class SymmetricOperator(LinearOperator):
    """A = Aᵀ, by its products A v."""

    @property
    def columns(self) -> Layout:
        """The parts of v, which are those of A v."""
        return self.rows

    @property
    def is_symmetric(self) -> bool:
        """It is."""
        return True

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self._product(u)


def _operator(given: Any) -> LinearOperator:
    if not isinstance(given, LinearOperator):
        raise HesseTypeError(
            f"expected an operator, got {type(given).__name__}; hesse.as_operator makes one of a"
            " cost, of a Hessian, of a matrix or of SciPy's"
        )
    return given


def _number(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise HesseTypeError(f"expected a number times an operator, got {type(given).__name__}")
    return float(given)


class _Composite(LinearOperator):
    """An operator that is made of another, with which it shares dtype and device."""

    def __init__(self, of: LinearOperator) -> None:
        self.of = _operator(of)

    @property
    def rows(self) -> Layout:
        return self.of.rows

    @property
    def columns(self) -> Layout:
        return self.of.columns

    @property
    def dtype(self) -> torch.dtype:
        return self.of.dtype

    @property
    def device(self) -> torch.device:
        return self.of.device

    @property
    def is_symmetric(self) -> bool:
        return self.of.is_symmetric


@final
class Transposed(_Composite):
    """Aᵀ."""

    @property
    def rows(self) -> Layout:
        return self.of.columns

    @property
    def columns(self) -> Layout:
        return self.of.rows

    @property
    def T(self) -> LinearOperator:
        return self.of

    def _product(self, v: Tensor) -> Tensor:
        return self.of._transposed_product(v)

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.of._product(u)


@final
class Multiple(_Composite):
    """α A."""

    def __init__(self, factor: float, of: LinearOperator) -> None:
        super().__init__(of)
        self.factor = _number(factor)

    def _product(self, v: Tensor) -> Tensor:
        return self.of._product(v).mul_(self.factor)

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.of._transposed_product(u).mul_(self.factor)


@final
class Sum(_Composite):
    """A + B.

    Raises:
        HesseValueError: they differ in their parts, dtype or device.
    """

    def __init__(self, of: LinearOperator, other: LinearOperator) -> None:
        super().__init__(of)
        self.other = _operator(other)
        _require_alike(of, other, of.rows == other.rows and of.columns == other.columns, "A + B")

    @property
    def is_symmetric(self) -> bool:
        return self.of.is_symmetric and self.other.is_symmetric

    def _product(self, v: Tensor) -> Tensor:
        return self.of._product(v).add_(self.other._product(v))

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.of._transposed_product(u).add_(self.other._transposed_product(u))


@final
class Product(_Composite):
    """A B.

    Raises:
        HesseValueError: the columns of A have other parts than the rows of B, or the two differ in
            dtype or device.
    """

    def __init__(self, of: LinearOperator, other: LinearOperator) -> None:
        super().__init__(of)
        self.other = _operator(other)
        _require_alike(of, other, of.columns == other.rows, "A @ B")

    @property
    def columns(self) -> Layout:
        return self.other.columns

    @property
    def is_symmetric(self) -> bool:
        # AᵀA, and the square of a symmetric one.
        return self.of is self.other.T or self.other is self.of.T

    @property
    def T(self) -> LinearOperator:
        return self if self.is_symmetric else Product(self.other.T, self.of.T)

    def _product(self, v: Tensor) -> Tensor:
        return self.of._product(self.other._product(v))

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.other._transposed_product(self.of._transposed_product(u))


@final
class Block(_Composite):
    """The block of some parts of the rows and some of the columns, by their names."""

    def __init__(self, of: LinearOperator, rows: Layout, columns: Layout) -> None:
        super().__init__(of)
        self._rows, self._columns = rows, columns

    @property
    def rows(self) -> Layout:
        return self._rows

    @property
    def columns(self) -> Layout:
        return self._columns

    @property
    def is_symmetric(self) -> bool:
        return self.of.is_symmetric and self._rows == self._columns

    def _product(self, v: Tensor) -> Tensor:
        whole = self.of._product(_spread(v, self._columns, self.of.columns))
        return _picked(whole, self._rows, self.of.rows)

    def _transposed_product(self, u: Tensor) -> Tensor:
        whole = self.of._transposed_product(_spread(u, self._rows, self.of.rows))
        return _picked(whole, self._columns, self.of.columns)


@final
class BlockDiagonal(_Composite):
    """The blocks of A that join a part with itself, and zeros.

    A product takes one with A for each part, all of them as the columns of one matrix.

    Raises:
        HesseValueError: the rows of A have other parts than its columns.
    """

    def __init__(self, of: LinearOperator) -> None:
        super().__init__(of)
        if of.rows != of.columns:
            raise HesseValueError(
                f"block_diagonal(): the rows have the parts {of.rows.names[:3]} and the columns"
                f" {of.columns.names[:3]}; a block diagonal has the same"
            )

    def _product(self, v: Tensor) -> Tensor:
        return self._apart(self.of._product, v)

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self._apart(self.of._transposed_product, u)

    def _apart(self, product: Any, v: Tensor) -> Tensor:
        layout = self.of.columns
        places = [layout.slice(name) for name in layout.names]
        columns = v.unsqueeze(-1) if v.ndim == 1 else v
        apart = columns.new_zeros(len(columns), len(places), columns.shape[1])
        for index, place in enumerate(places):
            apart[place, index] = columns[place]
        found = product(apart.flatten(1)).reshape(apart.shape)
        return torch.cat([found[place, k] for k, place in enumerate(places)]).reshape(v.shape)


def _require_alike(a: LinearOperator, b: LinearOperator, fits: bool, what: str) -> None:
    if not fits or (a.dtype, a.device) != (b.dtype, b.device):
        ours, theirs = (
            f"{' x '.join(map(str, each.shape))} of {each.dtype} on {each.device}"
            for each in (a, b)
        )
        raise HesseValueError(
            f"{what}: expected operators whose parts, dtype and device fit, got A {ours} and B"
            f" {theirs}"
        )


def _spread(v: Tensor, some: Layout, whole: Layout) -> Tensor:
    """The vector of all parts that has some of them, and zeros."""
    spread = v.new_zeros(whole.size, *v.shape[1:])
    for name in some.names:
        spread[whole.slice(name)] = v[some.slice(name)]
    return spread


def _picked(v: Tensor, some: Layout, whole: Layout) -> Tensor:
    """Some parts of a vector of all of them."""
    return torch.cat([v[whole.slice(name)] for name in some.names])
