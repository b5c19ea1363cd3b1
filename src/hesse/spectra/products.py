"""Products with a symmetric matrix, counted and looked at."""

import math
from typing import final

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.spectra.rows import Rows
from hesse.words.shapes import Float

# Bytes of vectors that are multiplied together.
_TOGETHER = 2**26


@final
class Products:
    """v -> A v, counted.

    Attributes:
        count: how many were taken.
        like: an empty tensor of A's dtype and device.
        kept: the rows and columns of A that vectors have, where that is not all.
        unit: what products are divided by, a power of two, as large as the first of them: squares
            of what is very large or very small are no numbers.
    """

    kept: Rows | None

    def __init__(self, operator: LinearOperator, most: int | None = None) -> None:
        self._operator, self._most = operator, most
        self.count, self.kept, self.unit, self._measured = 0, None, 1.0, False
        self.like = torch.empty(0, dtype=operator.dtype, device=operator.device)

    @property
    def left(self) -> float:
        """How many more may be taken."""
        return float("inf") if self._most is None else self._most - self.count

    def __call__(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """A v.

        Raises:
            HesseValueError: the product has entries that are not finite.
        """
        self.count += 1
        kept = self.kept
        product = self._operator @ (v if kept is None else kept.laid(v[None])[0])
        self._look_at(product)
        return self._in_units(product if kept is None else kept.taken(product))

    def matrix(self, V: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        """A V."""
        self.count += V.shape[1]
        product = self._operator @ V
        self._look_at(product)
        return self._in_units(product)

    def rows(self, V: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """A v for each row, as rows: small ones together, large ones one by one."""
        together = _TOGETHER // max(1, V.shape[1] * V.itemsize)
        if together <= 1:
            return torch.stack([self(v) for v in V])
        pieces = [self.matrix(piece.T.contiguous()).T for piece in V.split(together)]
        return torch.cat(pieces).contiguous()

    def _look_at(self, product: Tensor) -> None:
        # The extremes carry any nan or inf along; sizes would be a copy of a large vector.
        extremes = torch.stack(product.aminmax()) if product.numel() else product.new_zeros(1)
        largest = float(extremes.abs().max())
        if not largest < math.inf:
            raise HesseValueError(
                "what: its product with a vector of finite numbers has entries that are not finite"
            )
        if not self._measured:
            self._measured = True
            self.unit = 2.0 ** math.frexp(largest)[1] if largest > 0 else 1.0

    def _in_units(self, product: Tensor) -> Tensor:
        # Not in place: it may be the operator's own. In two steps: one over a very small unit is no
        # number.
        exponent = math.frexp(self.unit)[1] - 1
        half = exponent // 2
        return product.mul(2.0**-half).mul_(2.0 ** (half - exponent))
