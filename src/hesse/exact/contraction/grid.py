"""Where a contraction goes: the blocks of the Hessian that a pair of slots brings, as matrices to
be added to, and mirrored."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The blocks of a pair of slots. A slot that joins a weight and a bias has two parts, and so
    its pairs several blocks.

    Attributes:
        rows: for each part of l, which of the inputs i it has.
        columns: for each part of m, which of the inputs j it has.
        matrices: by (part of l, part of m) the block, (|part of l|, |part of m|) with rows (g, o,
            i) and columns (h, p, j), to be added to. Those that nobody asked for are left out; of a
            slot with itself, those below the diagonal.
    """

    rows: tuple[slice, ...]
    columns: tuple[slice, ...]
    matrices: Mapping[tuple[int, int], Tensor]

    @staticmethod
    def of(matrix: Tensor, i: int, j: int) -> "Grid":
        """One matrix (|l|, |m|) for slots with i and j inputs, whatever parts they have."""
        return Grid((slice(0, i),), (slice(0, j),), {(0, 0): matrix})

    @property
    def whole(self) -> Tensor:
        """(|l|, |m|), of slots with one part."""
        return self.matrices[0, 0]

    def parts(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Every block with the inputs i and j that it has."""
        for (x, y), matrix in self.matrices.items():
            yield self.rows[x], self.columns[y], matrix


def mirror(matrix: Tensor, complete: Iterable[slice] = (), step: int = 512) -> None:
    """Copy the upper triangle onto the lower, so that the matrix is exactly symmetric.

    Args:
        matrix: (P, P).
        complete: where blocks on the diagonal are symmetric already, in order.
        step: the most rows at a time, for the sake of the cache.
    """
    edges = [0, *(edge for part in complete for edge in (part.start, part.stop)), len(matrix)]
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        for low in range(start, stop, step):
            high = min(low + step, stop)
            is_complete = place % 2 == 1  # every second stretch
            below = stop if is_complete else high
            if not is_complete:
                corner = matrix[low:high, low:high]
                corner.copy_(corner.triu() + corner.triu(1).mT)
            matrix[below:, low:high].copy_(matrix[low:high, below:].mT)
