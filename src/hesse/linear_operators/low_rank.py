"""Operators that are solved in closed form: a diagonal, and a few directions beside one."""

import abc
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from hesse.errors import HesseTypeError, HesseValueError, require_instance, require_number
from hesse.layout import Layout
from hesse.linear_operators.linear_operator import SymmetricOperator
from hesse.linear_operators.vectors import layout_of_vector, require_vector
from hesse.process.undisturbed import undisturbed
from hesse.words.shapes import Float


class ClosedFormOperator(SymmetricOperator):
    """A symmetric operator that has its inverse as another."""

    @abc.abstractmethod
    def inverse(self, damping: float = 0.0) -> "ClosedFormOperator":
        """(A + damping I)⁻¹."""


@final
class DiagonalOperator(ClosedFormOperator):
    """diag(d).

    Args:
        entries: d, by name as `hesse.diagonal` gives it, or as a flat vector.
        layout: the parts of a flat vector; one, ``"x"``, by default.

    Raises:
        HesseTypeError, HesseValueError: no vector of finite real numbers, or a layout of another
            size.

    Examples:
        >>> import torch, hesse
        >>> D = hesse.DiagonalOperator({"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(4.0)})
        >>> D.inverse() @ torch.ones(3)
        tensor([1.0000, 0.5000, 0.2500])
    """

    def __init__(
        self, entries: Mapping[str, Tensor] | Float[Tensor, " P"], layout: Layout | None = None
    ) -> None:
        self.entries, layout = _flat(entries, "entries", layout)
        super().__init__(layout, self.entries.dtype, self.entries.device)

    def trace(self) -> float:
        """Σ d."""
        return float(self.entries.sum())

    def logdet(self) -> float:
        """Σ log d.

        Raises:
            HesseValueError: an entry is not positive.
        """
        _require_positive(self.entries, "logdet()", "")
        return float(self.entries.log().sum())

    def damped(self, damping: float) -> "DiagonalOperator":
        """diag(d + damping)."""
        return DiagonalOperator(self.entries + require_number(damping, "damping"), self.rows)

    def inverse(self, damping: float = 0.0) -> "DiagonalOperator":
        """diag(1 / (d + damping)).

        Raises:
            HesseValueError: an entry of it would not be finite.
        """
        inverse = 1 / (self.entries + require_number(damping, "damping"))
        if not bool(inverse.isfinite().all()):
            raise HesseValueError(
                f"inverse(): {int((~inverse.isfinite()).sum())} of the {len(inverse)} entries are"
                f" zero, with damping {damping:g}; give another damping"
            )
        return DiagonalOperator(inverse, self.rows)

    def _product(self, v: Tensor) -> Tensor:
        return _scaled(self.entries, v)


class _Factored(NamedTuple):
    """D^½ (I + Q diag(t) Qᵀ) D^½, with orthonormal columns Q."""

    root: Tensor
    values: Tensor
    vectors: Tensor


@final
class LowRank(ClosedFormOperator):
    """U diag(s) Uᵀ + D, a few directions beside a diagonal, with its product, inverse, trace and
    logarithm of the determinant exactly.

    With D = δ I and eigenpairs, as of `hesse.eigenpairs`, it is the matrix that has these and is δ
    elsewhere; the columns of U need not be orthogonal. All that needs an inverse is found from W =
    D^-½ U = Q R and the eigenvalues t of R diag(s) Rᵀ: then A = D^½ (I + Q diag(t) Qᵀ) D^½ and

        A⁻¹ = D^-½ (I − Q diag(t / (1 + t)) Qᵀ) D^-½,    log det A = Σ log d + Σ log(1 + t)

    which is Woodbury's identity in coordinates in which nothing is lost.

    Args:
        values: s, (k,).
        vectors: U, (P, k).
        diagonal: δ, or D as a flat vector or by name.
        layout: the parts of a vector; one, ``"x"``, by default, or those that D has.

    Raises:
        HesseTypeError, HesseValueError: no finite real numbers of one dtype and device, or shapes
            that do not fit.

    Source:
        M. A. Woodbury, Inverting modified matrices, Memorandum Report 42, Statistical Research
        Group, Princeton (1950).

    Examples:
        >>> import torch, hesse
        >>> u = torch.tensor([[1.0], [0.0], [0.0]])
        >>> A = hesse.LowRank(torch.tensor([3.0]), u, diagonal=1.0)
        >>> A @ torch.ones(3), A.inverse() @ torch.ones(3), A.trace()
        (tensor([4., 1., 1.]), tensor([0.2500, 1.0000, 1.0000]), 6.0)
    """

    def __init__(
        self,
        values: Float[Tensor, " k"],
        vectors: Float[Tensor, "P k"],
        diagonal: float | Mapping[str, Tensor] | Float[Tensor, " P"] = 0.0,
        layout: Layout | None = None,
    ) -> None:
        if not isinstance(vectors, Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
            raise HesseTypeError(
                f"vectors: expected a (P, k) matrix of real numbers, got {_kind(vectors)}"
            )
        require_vector(vectors, "vectors", vectors.dtype, vectors.device)
        require_vector(values, "values", vectors.dtype, vectors.device)
        P, k = vectors.shape
        if tuple(values.shape) != (k,):
            raise HesseValueError(
                f"values: expected {k}, one for each column of vectors, got shape"
                f" {tuple(values.shape)}"
            )
        if isinstance(diagonal, Tensor | Mapping):
            if isinstance(diagonal, Tensor) and diagonal.ndim == 1 and len(diagonal) != P:
                raise _other_rows(P, len(diagonal))
            self.diagonal, layout = _flat(diagonal, "diagonal", layout)
            require_vector(self.diagonal, "diagonal", vectors.dtype, vectors.device)
            if len(self.diagonal) != P:
                raise _other_rows(P, len(self.diagonal))
        else:
            self.diagonal = vectors.new_full((P,), require_number(diagonal, "diagonal"))
        layout = _layout(layout, P)
        self.values, self.vectors = values.detach(), vectors.detach()
        super().__init__(layout, vectors.dtype, vectors.device)

    @undisturbed()
    def trace(self) -> float:
        """Σ d + Σ s ‖u‖²."""
        return float(self.diagonal.sum() + self.values @ self.vectors.square().sum(0))

    @undisturbed()
    def logdet(self) -> float:
        """log det A.

        Raises:
            HesseValueError: it is not positive definite.
        """
        root, values, _ = self._factored
        if not bool((values > -1).all()):
            raise HesseValueError(
                f"logdet(): the matrix is not positive definite: {int((values <= -1).sum())} of its"
                " eigenvalues are not positive; damped(damping) by more than they are below zero"
            )
        return float(2 * root.log().sum() + values.log1p().sum())

    def damped(self, damping: float) -> "LowRank":
        """A + damping I, of low rank too."""
        return LowRank(
            self.values, self.vectors, self.diagonal + require_number(damping, "damping"), self.rows
        )

    @undisturbed()
    def inverse(self, damping: float = 0.0) -> "LowRank":
        """(A + damping I)⁻¹, of low rank too.

        Raises:
            HesseValueError: D + damping I is not positive, or the matrix is singular.
        """
        if require_number(damping, "damping"):
            return self.damped(damping).inverse()
        root, values, vectors = self._factored
        rounding = len(values) * torch.finfo(self.dtype).eps
        if bool(((1 + values).abs() <= rounding * (1 + values.abs())).any()):
            raise HesseValueError(
                "inverse(): the matrix is singular to rounding; give a damping, or another one"
            )
        return LowRank(
            -values / (1 + values), vectors / root.unsqueeze(1), 1 / self.diagonal, self.rows
        )

    @cached_property
    def _factored(self) -> _Factored:
        _require_positive(self.diagonal, "diagonal", " of U diag(s) Uᵀ + D")
        root = self.diagonal.sqrt()
        Q, R = torch.linalg.qr(self.vectors / root.unsqueeze(1))
        values, turn = torch.linalg.eigh(R * self.values @ R.mT)
        return _Factored(root, values, Q @ turn)

    def _product(self, v: Tensor) -> Tensor:
        along = _scaled(self.values, self.vectors.mT @ v)
        return _scaled(self.diagonal, v).add_(self.vectors @ along)


def _other_rows(expected: int, got: int) -> HesseValueError:
    return HesseValueError(f"diagonal: expected {expected} entries, as vectors has rows, got {got}")


def _flat(given: Any, name: str, layout: Layout | None) -> tuple[Tensor, Layout]:
    """A flat vector, and its parts."""
    if isinstance(given, Mapping):
        layout = Layout.of(given, name) if layout is None else layout
        require_instance(layout, Layout, "layout", "hesse.Layout(names, shapes)")
        given = layout.flatten(given, name)
    if not isinstance(given, Tensor) or given.ndim != 1 or not given.is_floating_point():
        raise HesseTypeError(
            f"{name}: expected a flat vector of real numbers, or tensors by name, got"
            f" {_kind(given)}"
        )
    if not len(given):
        raise HesseValueError(f"{name}: expected at least one entry, got none")
    require_vector(given, name, given.dtype, given.device)
    return given.detach(), _layout(layout, len(given))


def _layout(layout: Layout | None, size: int) -> Layout:
    """The parts of a vector of so many entries."""
    layout = layout_of_vector(size) if layout is None else layout
    require_instance(layout, Layout, "layout", "hesse.Layout(names, shapes)")
    if layout.size != size:
        raise HesseValueError(f"layout: expected one of {size} entries, got {layout.size}")
    return layout


def _kind(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"{given.dtype} of shape {tuple(given.shape)}"
    return type(given).__name__


def _require_positive(entries: Tensor, what: str, of: str) -> None:
    if not bool((entries > 0).all()):
        raise HesseValueError(
            f"{what}: {int((entries <= 0).sum())} of the {len(entries)} entries of the diagonal{of}"
            " are not positive, and all have to be; give a damping"
        )


def _scaled(entries: Tensor, v: Tensor) -> Tensor:
    return v * (entries if v.ndim == 1 else entries.unsqueeze(1))
