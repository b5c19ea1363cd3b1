"""A matrix that is known by its products, and the algebra of such matrices."""

import abc
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn, final, overload

import torch
from torch import Tensor

from hesse.display import Display, Displayed, Fact, facts
from hesse.errors import HesseTypeError, HesseValueError, require_number
from hesse.layout import Layout
from hesse.linear_operators.absent import NoArithmetic, absent_of_array, refuse_scipy
from hesse.linear_operators.algebra import (
    ENTRIES,
    Block,
    BlockDiagonal,
    Composition,
    Damped,
    Multiple,
    Product,
    Sum,
    Transposed,
    written_out,
)
from hesse.linear_operators.scipy_products import scipy_operator
from hesse.linear_operators.vectors import alike, flat_vector, require_columns, require_vector
from hesse.process.memory import require_free
from hesse.process.undisturbed import undisturbed
from hesse.words import Part
from hesse.words.shapes import Float

if TYPE_CHECKING:
    import scipy.sparse.linalg


_NO_ARRAY = "an operator is known by its products alone"


class LinearOperator(NoArithmetic, Displayed):
    """A: an (M, N) matrix, by its products A v and Aᵀ u, with names for parts of its rows and
    columns.

    ``A @ v`` takes a flat vector (N,), a matrix (N, K), a dictionary {name: Tensor} or a list of
    tensors in the layout's order, and returns the same kind. ``u @ A`` is Aᵀ u. ``A + B``,
    ``A - B``, ``2 * A``, ``A @ B`` and ``A.T`` are operators; so are ``A["a", "b"]``, the block
    of the parts of two names, ``A.block_diagonal()`` and ``A.damped(0.1)``, A + 0.1 I. Nothing is
    computed before a product is. A matrix without names fits between any parts of its size.

    Examples:
        >>> import torch, hesse
        >>> A = hesse.as_operator(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
        >>> (2 * A + A @ A) @ torch.tensor([1.0, 0.0])
        tensor([9., 7.])
    """

    _no_number = (
        f"A: {_NO_ARRAY}; take the whole matrix, A.dense(), or a number of it, hesse.trace(A)"
    )

    def __init__(
        self, rows: Layout, columns: Layout, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._rows, self._columns, self._dtype, self._device = rows, columns, dtype, device

    @property
    def rows(self) -> Layout:
        """The parts of A v."""
        return self._rows

    @property
    def columns(self) -> Layout:
        """The parts of v."""
        return self._columns

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of flat vectors and matrices."""
        refuse_scipy("A")
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where vectors are expected, and results lie."""
        return self._device

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
        return self if self.is_symmetric else Composed(Transposed(self))

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
            return Composed(Product(self, v))
        if isinstance(v, Mapping | list | tuple):
            flat = flat_vector(v, self.columns, self._dtype_of, self.device)
            # Of parts in several dtypes the flat vector has the widest.
            return alike(self._product(flat.detach()), v, self.rows, self._dtype_of)
        v = require_columns(v, self.columns)
        require_vector(v, "v", self.dtype, self.device)
        # Of no columns there is nothing to ask.
        return self._product(v.detach()) if v.numel() else v.new_zeros(self.shape[0], *v.shape[1:])

    def __rmatmul__(self, u: Any) -> Any:
        """u A = (Aᵀ uᵀ)ᵀ, for a vector (M,), a matrix (K, M), or a vector in parts."""
        if isinstance(u, Tensor) and u.ndim == 2:
            return (self.T @ u.T).T
        return self.T @ u

    def __add__(self, other: Any) -> "LinearOperator":
        return Composed(Sum(self, _operator(other)))

    def __radd__(self, other: Any) -> "LinearOperator":
        # What `sum` begins with; of anything else that is no operator, in the words of this class.
        return self if isinstance(other, int) and other == 0 else self + other

    def __rsub__(self, other: Any) -> "LinearOperator":
        return _operator(other) - self

    def __sub__(self, other: Any) -> "LinearOperator":
        return self + -_operator(other)

    def __mul__(self, factor: Any) -> "LinearOperator":
        return Composed(Multiple(require_number(factor, "A * factor"), self))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "LinearOperator":
        divisor = require_number(divisor, "A / divisor")
        if divisor == 0:
            raise HesseValueError("A / divisor: expected a number that is not zero, got 0")
        return self * (1 / divisor)

    def __neg__(self) -> "LinearOperator":
        return self * -1.0

    def __getitem__(self, names: Any) -> "LinearOperator":
        """The block of the parts of one name, ``A["a"]``, or of two, ``A["a", "b"]``; a name may be
        a pattern (``"2.*"``).

        Raises:
            HesseTypeError: neither a text nor two.
            HesseKeyError: no part has the name, or matches.
        """
        if isinstance(names, tuple) and len(names) != 2:
            raise HesseTypeError(
                f"A[...]: expected one name or two, A['a', 'b'], got {len(names)}; the square block"
                " of several is A[['a', 'b', 'c']]"
            )
        a, b = names if isinstance(names, tuple) else (names, names)
        return Composed(Block(self, self.rows.matching(a), self.columns.matching(b)))

    def block_diagonal(self, by: Part | str = "parameter") -> "LinearOperator":
        """A with every block left out that joins two different parts, by ``"parameter"``, or parts
        of two different layers, by ``"layer"``. A product takes one with A for each of them.

        Raises:
            HesseValueError: the rows have other parts than the columns, or an unknown ``by``.
        """
        return Composed(BlockDiagonal(self, by))

    def damped(self, damping: Any) -> "LinearOperator":
        """A + damping I.

        Raises:
            HesseValueError: the rows have other parts than the columns.

        Examples:
            >>> import torch, hesse
            >>> hesse.as_operator(torch.eye(2)).damped(0.5) @ torch.ones(2)
            tensor([1.5000, 1.5000])
        """
        return Composed(Damped(self, require_number(damping, "damping")))

    @undisturbed()
    def dense(self) -> Float[Tensor, "M N"]:
        """The matrix, by products with unit vectors, some at a time; of a symmetric operator
        exactly symmetric. `hesse.hessian` has that of a cost sooner.

        Raises:
            HesseMemoryError: it does not fit.

        Examples:
            >>> import torch, hesse
            >>> A = hesse.as_operator(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
            >>> (A @ A).dense()
            tensor([[1., 0.],
                    [0., 1.]])
        """
        M, N = self.shape
        if self.device.type == "cpu":
            require_free(2 * M * N * self.dtype.itemsize, f"a dense matrix ({M} x {N})")
        matrix = torch.zeros(M, N, dtype=self.dtype, device=self.device)
        count = max(1, ENTRIES // max(N, 1))
        for start in range(0, N, count):
            stop = min(start + count, N)
            units = matrix.new_zeros(N, stop - start)
            units[start:stop].fill_diagonal_(1)
            matrix[:, start:stop] = self._product(units)
        return matrix.add(matrix.mT).mul_(0.5) if self.is_symmetric else matrix

    def to_scipy(self) -> "scipy.sparse.linalg.LinearOperator":
        """The operator for SciPy's iterative solvers: NumPy arrays in and out, of the operator's
        dtype. They take no operator as it is, for its dtype is PyTorch's.

        Examples:
            >>> import torch, hesse
            >>> from scipy.sparse.linalg import eigsh
            >>> cost = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum() / 12,
            ...     {"x": torch.tensor([1.0, 2.0, 3.0]).double()})
            >>> values = eigsh(hesse.operator(cost).to_scipy(), k=1, return_eigenvectors=False)
            >>> round(float(values[0]), 6)
            9.0
        """
        return scipy_operator(self)

    def _dtype_of(self, name: str) -> torch.dtype:
        """The dtype of one part in a dictionary."""
        return self.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise HesseTypeError(
            f"A: {_NO_ARRAY}; take the whole matrix, A.dense().numpy(), or give SciPy A.to_scipy()"
        )

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        # What has an array, or a number of NumPy's, on its left is left to this class.
        names = {"matmul": "__rmatmul__", "multiply": "__rmul__"}
        names |= {"add": "__radd__", "subtract": "__rsub__"}
        if method == "__call__" and function.__name__ in names and inputs[0] is not self:
            return getattr(self, names[function.__name__])(inputs[0])
        self.__array__()

    def __dlpack__(self, **options: Any) -> NoReturn:
        self.__array__()

    def __dlpack_device__(self) -> NoReturn:
        self.__array__()

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        # A tensor's own operators, v @ A, are left to those of this class.
        if hasattr(function, "__objclass__"):
            return NotImplemented
        raise HesseTypeError(
            f"{function.__name__}: {_NO_ARRAY}; take the whole matrix, A.dense(), or ask"
            " hesse: hesse.eigenpairs(A, k), hesse.trace(A), hesse.logdet(A), hesse.solve(A, b)"
        )

    if not TYPE_CHECKING:  # which is to see what is not there

        def __getattr__(self, name: str) -> NoReturn:
            raise absent_of_array(self, name, "A.dense()")

    def __str__(self) -> str:
        shown = self._display()
        return f"{shown.kind}({shown.summary})"

    def _display(self) -> Display:
        return Display(type(self).__name__, self._size, self._parts_of_it(), next=self._calls())

    @property
    def _size(self) -> str:
        M, N = self.shape
        return f"{M} x {N}, {str(self.dtype).removeprefix('torch.')}"

    def _parts_of_it(self) -> tuple[Fact, ...]:
        """The names of its rows and columns, once where they are the same."""
        rows, columns = (", ".join(layout.names) for layout in (self.rows, self.columns))
        same = self.rows == self.columns
        return facts(
            parts=rows if same else None,
            rows=None if same else rows,
            columns=None if same else columns,
            symmetric="yes" if self.is_symmetric else "not known to be",
            device=str(self.device),
        )

    def _calls(self) -> tuple[str, ...]:
        asked = ("hesse.eigenpairs(A)", "hesse.trace(A)", "hesse.solve(A, b, damping=1e-3)")
        return ("A @ v", "A.dense()", "A.T", *(asked if self.is_symmetric else ()))


class SymmetricOperator(LinearOperator):
    """A = Aᵀ, by its products A v; the parts of v are those of A v."""

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layout, layout, dtype, device)

    @property
    def is_symmetric(self) -> bool:
        """It is."""
        return True

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self._product(u)


def _operator(given: Any) -> LinearOperator:
    if isinstance(given, LinearOperator):
        return given
    advice = (
        f"A.damped({given}) adds it to the diagonal"
        if isinstance(given, Real)
        else "hesse.as_operator makes one of a cost, of a Hessian, of a matrix or of SciPy's"
    )
    raise HesseTypeError(f"expected an operator, got {type(given).__name__}; {advice}")


@final
class Composed(LinearOperator):
    """An operator that is made of others."""

    def __init__(self, made: Composition) -> None:
        super().__init__(made.rows, made.columns, made.of.dtype, made.of.device)
        self.made = made

    @property
    def is_symmetric(self) -> bool:
        """Whether what it is made of shows it."""
        return self.made.is_symmetric

    @property
    def T(self) -> LinearOperator:
        """The transpose; that of a transpose is what it was made of."""
        return self.made.of if isinstance(self.made, Transposed) else super().T

    def _product(self, v: Tensor) -> Tensor:
        return self.made.product(v)

    def _transposed_product(self, u: Tensor) -> Tensor:
        return self.made.transposed_product(u)

    def _dtype_of(self, name: str) -> torch.dtype:
        return self.made.dtype_of(name)

    def _display(self) -> Display:
        named: dict[int, tuple[str, LinearOperator]] = {}
        written = written_out(self, named)
        made = [Fact("is", written), *(Fact(name, str(one)) for name, one in named.values())]
        return Display(
            type(self.made).__name__,
            self._size,
            (*made, *self._parts_of_it()),
            next=("M @ v", "M.dense()", "M.T"),
        )
