"""The rows of a large matrix that are not zeros, as stretches of rows side by side: those of the
words that a batch has, and of all that is no embedding."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from hesse.process.memory import zeros
from hesse.words.shapes import Float

# Where more than this part of all is left, vectors have all rows. There are no more stretches than
# so many: the fewest zeros side by side are taken along.
_NEARLY_ALL, _MOST = 0.9, 4000


@final
@dataclass(frozen=True)
class Rows:
    """Rows of a matrix, in order.

    Attributes:
        size: how many rows the matrix has.
        stretches: those that are meant, each from where to where.
    """

    size: int
    stretches: tuple[tuple[int, int], ...]

    @staticmethod
    def of_product(product: Float[Tensor, " P"], k: int) -> "Rows | None":
        """The rows that are not zeros, as a product with a random vector shows them, of those that
        are the first so many, and short gaps where there are many; ``None`` where that is nearly
        all.

        Examples:
            >>> import torch
            >>> Rows.of_product(torch.tensor([0.0] * 5000 + [1.0] * 1000 + [0.0] * 4000), 2)
            Rows(size=10000, stretches=((0, 2), (5000, 6000)))
        """
        size, kept = len(product), product != 0
        if int(kept.sum()) + k > _NEARLY_ALL * size:
            return None
        kept[kept.logical_not().nonzero()[:k, 0]] = True
        ends = torch.nn.functional.pad(kept.byte(), (1, 1)).diff().nonzero()[:, 0]
        starts, ends = ends[::2], ends[1::2]
        gaps = starts[1:] - ends[:-1]
        apart = gaps.topk(min(len(gaps), _MOST - 1)).indices.sort().values
        starts, ends = (
            torch.cat([starts[:1], starts[1 + apart]]),
            torch.cat([ends[apart], ends[-1:]]),
        )
        if int((ends - starts).sum()) > _NEARLY_ALL * size:
            return None
        return Rows(size, tuple(zip(starts.tolist(), ends.tolist(), strict=True)))

    def taken(self, whole: Float[Tensor, "*K P"]) -> Float[Tensor, "*K S"]:
        """Of vectors, or of the rows of a tensor, these entries alone."""
        return torch.cat([whole[..., start:end] for start, end in self.stretches], -1)

    def laid(self, some: Float[Tensor, "K S"]) -> Float[Tensor, "K P"]:
        """And back, among zeros, which take no memory where the system gives it as zeros."""
        whole = zeros(len(some), self.size, some.dtype, some.device)
        place = 0
        for start, end in self.stretches:
            whole[:, start:end] = some[:, place : place + end - start]
            place += end - start
        return whole
