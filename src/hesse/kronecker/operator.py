"""Operators that are made of blocks which do not mix, each a Kronecker product or known by its
eigenvectors: products, dense blocks, determinants and inverses."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from hesse.errors import HesseValueError, require_number, require_word
from hesse.kronecker.block import Block, KroneckerBlock
from hesse.layout import Layout
from hesse.linear_operators.algebra import ENTRIES
from hesse.linear_operators.linear_operator import SymmetricOperator
from hesse.process.memory import require_free
from hesse.process.undisturbed import undisturbed
from hesse.words import DampedInverse
from hesse.words.shapes import Float


class BlockwiseOperator(SymmetricOperator):
    """M = Σ_b block_b + λ I, blocks over different entries of the parameters.

    Attributes:
        blocks: the blocks; every entry is in one.
        shift: λ.
    """

    def __init__(
        self,
        layout: Layout,
        blocks: Sequence[Block],
        shift: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(layout, dtype, device)
        self.blocks, self.shift = tuple(blocks), shift

    def _product(self, v: Tensor) -> Tensor:
        columns = v.unsqueeze(1) if v.ndim == 1 else v
        product = columns * self.shift
        for block in self.blocks:
            product[block.index] += block.times(columns[block.index])
        return product.reshape(v.shape)

    @undisturbed()
    def block(self, a: str, b: str | None = None) -> Float[Tensor, "A B"]:
        """The block of two parameters, or of one with itself, as a matrix (entries of a, entries of
        b). ``M[a, b]`` is the same as an operator.

        Raises:
            HesseKeyError: no such parameter.
            HesseMemoryError: it does not fit.
        """
        b = a if b is None else b
        rows, columns = self.layout.slice(a), self.layout.slice(b)
        shape = rows.stop - rows.start, columns.stop - columns.start
        require_free(math.prod(shape) * self.dtype.itemsize, f"the block of {a!r} and {b!r}")
        matrix = torch.zeros(shape, dtype=self.dtype, device=self.device)
        if a == b:
            matrix.fill_diagonal_(self.shift)
        for block in self.blocks:
            if a in block.names and b in block.names:
                _add(block, rows, columns, matrix)
        return matrix

    @undisturbed()
    def eigenvalues(self) -> Float[Tensor, " P"]:
        """All of them, in ascending order."""
        return torch.cat(list(self._eigenvalues())).sort().values

    def _eigenvalues(self) -> Iterator[Tensor]:
        for block in self.blocks:
            yield block.eigenvalues.reshape(-1) + self.shift

    @undisturbed()
    def trace(self) -> float:
        """The sum of the eigenvalues."""
        return float(sum(values.double().sum() for values in self._eigenvalues()))

    @undisturbed()
    def logdet(self, damping: float = 0.0) -> float:
        """log det (M + damping I), summed in float64; −inf where it is singular.

        Raises:
            HesseTypeError, HesseValueError: the damping is no number >= 0.
        """
        added = require_damping(damping)
        return float(sum((values.double() + added).log().sum() for values in self._eigenvalues()))

    def det(self) -> float:
        """det M; 0 or inf where float64 holds no such number, for which there is `logdet`."""
        logarithm = self.logdet()
        return math.exp(logarithm) if logarithm < math.log(1.7e308) else math.inf

    @undisturbed()
    def inverse(self, damping: float, how: DampedInverse | str = "exact") -> "BlockwiseOperator":
        """(M + damping I)⁻¹, or what is taken for it, as an operator.

            exact     (B ⊗ A + δ I)⁻¹, by the eigenvectors of A and B
            pi        (B + √δ/π I)⁻¹ ⊗ (A + π √δ I)⁻¹,  π² = (tr A / i) / (tr B / o)
            factors   (B + δ I)⁻¹ ⊗ (A + δ I)⁻¹

        A penalty λ is part of M, so that δ = damping + λ in all three. A block that is not a
        product is inverted exactly in all three.

        Args:
            damping: a number >= 0.
            how: ``"exact"``, ``"pi"`` or ``"factors"``.

        Raises:
            HesseTypeError: no number.
            HesseValueError: a negative or infinite damping, none where M is singular, an unknown
                word, or damped factors of EKFAC, which has none.

        Source: for ``"pi"`` J. Martens, R. Grosse, Optimizing neural networks with
            Kronecker-factored approximate curvature (2015), section 6.3.
        """
        added = require_damping(damping) + self.shift
        require_word(how, "how", get_args(DampedInverse))
        blocks = [_inverse_of(block, added, how) for block in self.blocks]
        return BlockwiseOperator(self.layout, blocks, 0.0, self.dtype, self.device)


def _add(block: Block, rows: slice, columns: slice, matrix: Tensor) -> None:
    """Add what a block has of some rows and columns of the whole, some columns at a time."""
    of_row, of_column = (
        ((block.index >= part.start) & (block.index < part.stop)).nonzero().flatten()
        for part in (rows, columns)
    )
    places = block.index[of_row] - rows.start
    for some in of_column.split(max(1, ENTRIES // len(block.index))):
        units = matrix.new_zeros(len(block.index), len(some))
        units[some, torch.arange(len(some), device=some.device)] = 1
        at = places.unsqueeze(1), block.index[some] - columns.start
        matrix[at] += block.times(units)[of_row]


def _inverse_of(block: Block, damping: float, how: str) -> Block:
    if how != "exact" and isinstance(block, KroneckerBlock) and not block.is_single:
        left, right = _damping_of_factors(block, damping, how)
        _require_regular(block.left.eigenvalues + left.unsqueeze(1))
        _require_regular(block.right.eigenvalues + right.unsqueeze(1))
        return block.inverse_of_damped_factors(left, right)
    if how != "exact" and not isinstance(block, KroneckerBlock):
        raise HesseValueError(
            f"how: {how!r} damps the factors of a Kronecker product, and EKFAC's eigenvalues"
            " are of no product; use how='exact'"
        )
    _require_regular(block.eigenvalues + damping)
    return block.damped_inverse(damping)


def _damping_of_factors(block: KroneckerBlock, damping: float, how: str) -> tuple[Tensor, Tensor]:
    """What is added to B and to A, for each group."""
    left, right = (factor.diagonal.mean(1) for factor in (block.left, block.right))
    if how == "factors":
        return torch.full_like(left, damping), torch.full_like(right, damping)
    # A factor of zeros has no size to share by.
    ratio = torch.where(
        (left > 0) & (right > 0), right / left.clamp(min=torch.finfo(left.dtype).tiny), 1.0
    ).sqrt()
    return damping**0.5 / ratio, damping**0.5 * ratio


def _require_regular(values: Tensor) -> None:
    largest = float(values.max()) if values.numel() else 1.0
    smallest = float(values.min()) if values.numel() else 1.0
    if not smallest > largest * torch.finfo(values.dtype).eps:
        raise HesseValueError(
            f"damping: more is needed, for eigenvalues go from {smallest:.2g} to {largest:.2g}, and"
            " the inverse would be of rounding"
        )


def require_damping(damping: Any) -> float:
    """A damping, checked."""
    value = require_number(damping, "damping")
    if value < 0:
        raise HesseValueError(f"damping: expected a number >= 0, got {value:g}")
    return value
