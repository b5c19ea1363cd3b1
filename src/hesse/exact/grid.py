"""Where a contraction goes: the blocks of the Hessian that a pair of slots brings, as matrices to be added to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The blocks of a pair of slots. A slot that joins a weight and a bias has two parts, and so its pairs several blocks.

    Attributes:
        rows: for each part of l, which of the inputs i it has.
        columns: for each part of m, which of the inputs j it has.
        matrices: by (part of l, part of m) the block, (|part of l|, |part of m|) with rows (g, o, i) and columns (h, p, j), to be
            added to. Those that nobody asked for are left out; of a slot with itself, those below the diagonal.
    """

    rows: tuple[slice, ...]
    columns: tuple[slice, ...]
    matrices: Mapping[tuple[int, int], Tensor]

    @property
    def whole(self) -> Tensor:
        """(|l|, |m|), of slots with one part."""
        return self.matrices[0, 0]

    def parts(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Every block with the inputs i and j that it has."""
        for (x, y), matrix in self.matrices.items():
            yield self.rows[x], self.columns[y], matrix
