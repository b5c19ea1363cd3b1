"""What is known of an array besides its shape: that it is symmetric, orthogonal or positive; or all
of it, of a constant that is as large as the data ask, such as the differences D of ``x[1:] -
x[:-1]`` and the sums L of ``cumsum(x)``."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.sizes import multiplied, number, shifted


@dataclass(frozen=True)
class Structure:
    """A property of an array that is declared.

    Attributes:
        fact: the property as an equation of A.
        drawn: an array that has it, made of any: a check is at arrays that are what they are said
            to be.
        holds: whether an array has it, up to rounding.
        symmetric: whether A[i,j] = A[j,i].
        orthogonal: whether Σ_k A[k,i] A[k,j] and Σ_k A[i,k] A[j,k] are [i = j].
        positive: whether every entry is.
    """

    fact: str
    drawn: Callable[[Tensor], Tensor] = field(compare=False)
    holds: Callable[[Tensor], bool] = field(compare=False)
    symmetric: bool = False
    orthogonal: bool = False
    positive: bool = False


def _definite(array: Tensor) -> Tensor:
    return array @ array.mT + torch.eye(len(array), dtype=array.dtype)


def _near(array: Tensor, other: Tensor) -> bool:
    return torch.allclose(array, other, rtol=1e-6, atol=1e-6 * float(array.abs().max()))


def _is_symmetric(array: Tensor) -> bool:
    return _near(array, array.mT)


SYMMETRIC = Structure("A = Aᵀ", lambda array: (array + array.mT) / 2, _is_symmetric, symmetric=True)
DEFINITE = Structure(
    "A = Aᵀ, positive definite",
    _definite,
    lambda array: _is_symmetric(array) and not int(torch.linalg.cholesky_ex(array).info),
    symmetric=True,
)
DIAGONAL = Structure(
    "A = diag(diag(A))",
    lambda array: array.diagonal().diag(),
    lambda array: _near(array, array.diagonal().diag()),
    symmetric=True,
)
ORTHOGONAL = Structure(
    "AᵀA = I",
    lambda array: torch.linalg.qr(array)[0],
    lambda array: _near(array.mT @ array, torch.eye(len(array), dtype=array.dtype)),
    orthogonal=True,
)
POSITIVE = Structure("A > 0", torch.abs, lambda array: bool((array > 0).all()), positive=True)

Window = tuple[int | None, int | None]  # of a slice, the start and the stop


@dataclass(frozen=True)
class Pattern:
    """An array that is made of a unit matrix.

    Attributes:
        name: what it is called, unless that is taken.
        code: how it is made, in Python, of a ``unit`` matrix and its own ``shape``.
        fact: what it does, with ``{}`` for its name.
        items: of the rows that it takes, what stands in brackets: ``1:``; each with its number in
            ``times``.
        windows: the same as slices, where it takes several rows.
        square: whether it has as many rows as columns.
        least: the smallest unit matrix that it can be made of.
        unit: the size of the unit matrix, where it is known.
        sizes: those of the array, where they are known.
    """

    name: str
    code: str
    fact: str
    items: tuple[str, ...] = ()
    times: tuple[Fraction, ...] = ()
    windows: tuple[Window, ...] = ()
    square: bool = False
    least: int = 1
    unit: Size = 1
    sizes: tuple[Size, ...] = ()

    def of_size(self, size: Size) -> "Pattern":
        """The pattern that acts along an axis of this size."""
        return replace(self, unit=size, sizes=(*self.rows(size), size))

    def rows(self, size: Size) -> tuple[Size, ...]:
        """The axis that is left of one of this size; none where it takes one entry."""
        if self.windows:
            return (length(self.windows[0], size),)
        return (size,) if self.square else ()

    @property
    def isometric(self) -> frozenset[int]:
        """The axes along which the rows of the unit matrix stay whole, so that their products are
        ones and zeros."""
        if not self.items:
            return frozenset() if self.square else frozenset({0})
        return frozenset({len(self.windows)}) if self.times == (1,) else frozenset()

    @property
    def is_unit_vector(self) -> bool:
        """Whether it takes one entry."""
        return bool(self.items) and not self.windows

    @property
    def keeps(self) -> bool:
        """Whether an axis is left of the one that it acts along."""
        return bool(self.windows) or self.square

    def sum_of(self, parts: Sequence[str]) -> str:
        """Its rows, as they are written, each with its number."""
        return _sum(parts, self.times)

    def value(self, letters: Callable[[str], int]) -> Tensor:
        """The array, for numbers of its sizes."""
        unit = torch.eye(number(self.unit, letters), dtype=torch.float64)
        shape = tuple(number(size, letters) for size in self.sizes)
        # Code of this module, with whole numbers in it.
        return eval(self.code, {"__builtins__": {}}, {"unit": unit, "shape": shape})


def length(window: Window, size: Size) -> Size:
    """How long a slice of an axis is.

    Examples:
        >>> [length(window, "n") for window in ((1, None), (-2, None), (1, -1), (1, 3))]
        ['n-1', 2, 'n-2', 2]
    """
    start, stop = window[0] or 0, window[1]
    if stop is None:
        return shifted(size, -start) if start >= 0 else -start
    return shifted(size, stop - start) if stop < 0 <= start else stop - start


def is_possible(window: Window) -> bool:
    """Whether a slice has a length that is known and not zero: not x[-2:5]."""
    start, stop = window[0] or 0, window[1]
    return stop is None or stop < 0 <= start or (stop > start and (start < 0) == (stop < 0))


def _least(window: Window) -> int:
    """The smallest axis of which a slice has two entries, or as many as it always has."""
    long = length(window, "n")
    if isinstance(long, int):
        return max(abs(end) for end in window if end is not None)
    return 2 - number(long, lambda _: 0)


def windows(terms: Iterable[tuple[Window, Fraction]]) -> Pattern:
    """x[1:], or a sum of slices of one length, x[1:] − x[:-1]."""
    slices, times = zip(*terms, strict=True)
    items = tuple(
        f"{'' if start is None else start}:{'' if stop is None else stop}" for start, stop in slices
    )
    return Pattern(
        "S" if len(slices) == 1 else "D",
        _sum([f"unit[{item}]" for item in items], times),
        f"{{}} x = {_sum([f'x[{item}]' for item in items], times)}",
        items,
        times,
        slices,
        least=max(map(_least, slices)),
    )


def _sum(parts: Sequence[str], times: Sequence[Fraction]) -> str:
    text = ""
    for part, by in zip(parts, times, strict=True):
        sign = (" - " if by < 0 else " + ") if text else "-" * (by < 0)
        text += f"{sign}{'' if abs(by) == 1 else f'{abs(by)}*'}{part}"
    return text


def unit_vector(place: int) -> Pattern:
    """x[0] and x[-1]: the product with a unit vector."""
    return Pattern(
        f"e_{place}" if place >= 0 else "e_last",
        f"unit[{place}]",
        f"{{}}ᵀx = x[{place}]",
        (str(place),),
        (Fraction(1),),
        least=place + 1 if place >= 0 else -place,
    )


SUMS = Pattern("L", "unit.cumsum(0)", "{} x = cumsum(x)", square=True)


def pairs(first: Size, second: Size) -> Pattern:
    """P[o,i,k] = [o = p·i + k]: where the entries of a Kronecker product stand."""
    both = multiplied(first, second)
    return Pattern(
        "P",
        "unit.reshape(shape)",
        f"{{}}[o,i,k] = [o = {second} i + k]",
        unit=both,
        sizes=(both, first, second),
    )
