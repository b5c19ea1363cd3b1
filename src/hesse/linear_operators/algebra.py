"""What operators are made of: sums, multiples, products, transposes and blocks of others.

Each is a record of its parts and of how a product with it is taken; `LinearOperator` makes an
operator of it.
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.layout import Layout
from hesse.linear_operators.vectors import layout_of_vector, picked, spread

if TYPE_CHECKING:
    from hesse.linear_operators.linear_operator import LinearOperator

# The letters of operators that another is made of, and how deep it is followed, to be shown.
_LETTERS, _DEEP = "ABCDEF", 12
# Entries of the vectors that are multiplied with at once where many are known before.
ENTRIES = 2**22


class Composition(abc.ABC):
    """An operator that is made of another, A, and of more.

    Attributes:
        of: A, with which it shares dtype and device.
        rows: the parts of its rows.
        columns: those of its columns.
        binds: how closely what it is written as holds together: a sum 0, a product 1, a name 2.
    """

    binds = 2

    def __init__(
        self, of: "LinearOperator", rows: Layout | None = None, columns: Layout | None = None
    ) -> None:
        self.of = of
        self.rows, self.columns = rows or of.rows, columns or of.columns

    @property
    def is_symmetric(self) -> bool:
        """Whether it is known to be its own transpose."""
        return self.of.is_symmetric

    @property
    def made_of(self) -> "tuple[LinearOperator, ...]":
        """A, and what else there is."""
        return (self.of,)

    @abc.abstractmethod
    def written(self, *parts: str) -> str:
        """It as a formula, of those of what it is made of."""

    @abc.abstractmethod
    def product(self, v: Tensor) -> Tensor:
        """Its product with (N,) or (N, K), in new memory."""

    @abc.abstractmethod
    def transposed_product(self, u: Tensor) -> Tensor:
        """That of its transpose with (M,) or (M, K), in new memory."""

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype of one part in a dictionary."""
        return self.of._dtype_of(name)


@final
class Transposed(Composition):
    """Aᵀ."""

    def __init__(self, of: "LinearOperator") -> None:
        super().__init__(of, of.columns, of.rows)

    def written(self, *parts: str) -> str:
        return f"{parts[0]}ᵀ"

    def product(self, v: Tensor) -> Tensor:
        return self.of._transposed_product(v)

    def transposed_product(self, u: Tensor) -> Tensor:
        return self.of._product(u)


@final
class Multiple(Composition):
    """factor · A."""

    binds = 1

    def __init__(self, factor: float, of: "LinearOperator") -> None:
        super().__init__(of)
        self.factor = factor

    def written(self, *parts: str) -> str:
        return f"−{parts[0]}" if self.factor == -1 else f"{self.factor:g} {parts[0]}"

    def product(self, v: Tensor) -> Tensor:
        return self.of._product(v).mul_(self.factor)

    def transposed_product(self, u: Tensor) -> Tensor:
        return self.of._transposed_product(u).mul_(self.factor)


@final
class Damped(Composition):
    """A + damping I.

    Raises:
        HesseValueError: the rows of A have other parts than its columns.
    """

    binds = 0

    def __init__(self, of: "LinearOperator", damping: float) -> None:
        super().__init__(of)
        self.damping = damping
        _require_square(of, "damped(damping)")

    def written(self, *parts: str) -> str:
        return f"{parts[0]} + {self.damping:g} I"

    def product(self, v: Tensor) -> Tensor:
        return self.of._product(v).add_(v, alpha=self.damping)

    def transposed_product(self, u: Tensor) -> Tensor:
        return self.of._transposed_product(u).add_(u, alpha=self.damping)


@final
class Sum(Composition):
    """A + B.

    Raises:
        HesseValueError: they differ in their parts, dtype or device.
    """

    binds = 0

    def __init__(self, of: "LinearOperator", other: "LinearOperator") -> None:
        _require_alike(of, other, "A + B")
        super().__init__(
            of,
            _joined(of.rows, other.rows, "A + B"),
            _joined(of.columns, other.columns, "A + B"),
        )
        self.other = other

    @property
    def made_of(self) -> "tuple[LinearOperator, ...]":
        return self.of, self.other

    def written(self, *parts: str) -> str:
        return f"{parts[0]} + {parts[1]}".replace("+ −", "− ")

    @property
    def is_symmetric(self) -> bool:
        return self.of.is_symmetric and self.other.is_symmetric

    def product(self, v: Tensor) -> Tensor:
        return self.of._product(v).add_(self.other._product(v))

    def transposed_product(self, u: Tensor) -> Tensor:
        return self.of._transposed_product(u).add_(self.other._transposed_product(u))


@final
class Product(Composition):
    """A B.

    Raises:
        HesseValueError: the columns of A have other parts than the rows of B, or the two differ in
            dtype or device.
    """

    binds = 1

    def __init__(self, of: "LinearOperator", other: "LinearOperator") -> None:
        _require_alike(of, other, "A @ B")
        _joined(of.columns, other.rows, "A @ B")
        super().__init__(of, columns=other.columns)
        self.other = other

    @property
    def made_of(self) -> "tuple[LinearOperator, ...]":
        return self.of, self.other

    def written(self, *parts: str) -> str:
        return " ".join(parts)

    @property
    def is_symmetric(self) -> bool:
        # AᵀA, and the square of a symmetric one.
        return self.of is self.other.T or self.other is self.of.T

    def product(self, v: Tensor) -> Tensor:
        return self.of._product(self.other._product(v))

    def transposed_product(self, u: Tensor) -> Tensor:
        return self.other._transposed_product(self.of._transposed_product(u))

    def dtype_of(self, name: str) -> torch.dtype:
        return (self.of if name in self.rows.names else self.other)._dtype_of(name)


@final
class Block(Composition):
    """The block of some parts of the rows and some of the columns, by their names."""

    def written(self, *parts: str) -> str:
        rows, columns = (list(layout.names[:3]) for layout in (self.rows, self.columns))
        return f"{parts[0]}[{rows}]" if rows == columns else f"{parts[0]}[{rows}, {columns}]"

    @property
    def is_symmetric(self) -> bool:
        return self.of.is_symmetric and self.rows == self.columns

    def product(self, v: Tensor) -> Tensor:
        whole = self.of._product(spread(v, self.columns, self.of.columns))
        return picked(whole, self.rows, self.of.rows)

    def transposed_product(self, u: Tensor) -> Tensor:
        whole = self.of._transposed_product(spread(u, self.rows, self.of.rows))
        return picked(whole, self.columns, self.of.columns)


@final
class BlockDiagonal(Composition):
    """The blocks of A that join a part, or the parts of a layer, with itself, and zeros.

    A product takes one with A for each of them, many of them as the columns of one matrix.

    Raises:
        HesseValueError: the rows of A have other parts than its columns, or an unknown ``by``.
    """

    def __init__(self, of: "LinearOperator", by: str) -> None:
        super().__init__(of)
        _require_square(of, "block_diagonal()")
        groups = {
            "parameter": [(name,) for name in of.rows.names],
            "layer": list(of.rows.layers.values()),
        }
        if not isinstance(by, str) or by not in groups:
            raise HesseValueError(f"by: expected 'parameter' or 'layer', got {by!r}")
        self._places = [[of.rows.slice(name) for name in group] for group in groups[by]]

    def written(self, *parts: str) -> str:
        return f"block_diagonal({parts[0]})"

    def product(self, v: Tensor) -> Tensor:
        return self._apart(self.of._product, v)

    def transposed_product(self, u: Tensor) -> Tensor:
        return self._apart(self.of._transposed_product, u)

    def _apart(self, product: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        columns = v.unsqueeze(-1) if v.ndim == 1 else v
        found, count = torch.zeros_like(columns), max(1, ENTRIES // max(columns.numel(), 1))
        for start in range(0, len(self._places), count):
            groups = self._places[start : start + count]
            apart = columns.new_zeros(len(columns), len(groups), columns.shape[1])
            own = [(index, place) for index, places in enumerate(groups) for place in places]
            for index, place in own:
                apart[place, index] = columns[place]
            several = product(apart.flatten(1)).reshape(apart.shape)
            for index, place in own:
                found[place] = several[place, index]
        return found.reshape(v.shape)


def written_out(
    operator: "LinearOperator", names: dict[int, tuple[str, "LinearOperator"]], depth: int = _DEEP
) -> str:
    """What an operator is made of, as a formula.

    Args:
        operator: the operator.
        names: by identity, the letters that stand for those that are not made of others, added to.
        depth: how deep it is followed.
    """
    made: Composition | None = getattr(operator, "made", None)
    if depth == 0 or (made is None and id(operator) not in names and len(names) == len(_LETTERS)):
        return "…"
    if made is None:
        return names.setdefault(id(operator), (_LETTERS[len(names) % len(_LETTERS)], operator))[0]
    parts = []
    for part in made.made_of:
        inner: Composition | None = getattr(part, "made", None)
        text = written_out(part, names, depth - 1)
        # A sum in a sum needs no brackets, and neither does a product in a product.
        loose = inner is not None and inner.binds < made.binds
        parts.append(f"({text})" if loose else text)
    return made.written(*parts)


def _require_square(of: "LinearOperator", what: str) -> None:
    if of.rows != of.columns:
        raise HesseValueError(
            f"{what}: expected an operator whose rows and columns have the same parts, got"
            f" {_described(of.rows)} and {_described(of.columns)}"
        )


def _require_alike(a: "LinearOperator", b: "LinearOperator", what: str) -> None:
    if (a.dtype, a.device) != (b.dtype, b.device):
        raise HesseValueError(
            f"{what}: expected operators of one dtype and on one device, got A of {a.dtype} on"
            f" {a.device} and B of {b.dtype} on {b.device}"
        )


def _joined(ours: Layout, theirs: Layout, what: str) -> Layout:
    """The parts of two layouts that belong together: those with names where one has none.

    Raises:
        HesseValueError: they do not.
    """
    nameless = layout_of_vector(ours.size)
    if ours != theirs and (ours.size != theirs.size or nameless not in (ours, theirs)):
        raise HesseValueError(
            f"{what}: expected operators whose parts fit, got {_described(ours)} of A and"
            f" {_described(theirs)} of B"
        )
    return theirs if ours == nameless else ours


def _described(layout: Layout) -> str:
    names = ", ".join(map(repr, layout.names[:3]))
    return f"{names}{', ...' * (len(layout.names) > 3)} ({layout.size} entries)"
