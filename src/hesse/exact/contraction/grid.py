"""Where a contraction goes: the blocks of the Hessian that a pair of parameter uses brings, as
matrices to be added to, and mirrored."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The blocks of a pair of uses. A use that joins a weight and a bias has two members, and so
    its pairs several blocks.

    Attributes:
        rows: for each member of l, which of the inputs i it has.
        columns: for each member of m, which of the inputs j it has.
        matrices: by (member of l, member of m) the block, (|member of l|, |member of m|) with rows
            (g, o, i) and columns (h, p, j), to be added to. Those that nobody asked for are left
            out; of a use with itself, those below the diagonal.
    """

    rows: tuple[slice, ...]
    columns: tuple[slice, ...]
    matrices: Mapping[tuple[int, int], Tensor]

    @staticmethod
    def of(matrix: Tensor, i: int, j: int) -> "Grid":
        """One matrix (|l|, |m|) for uses with i and j inputs, whatever they join."""
        return Grid((slice(0, i),), (slice(0, j),), {(0, 0): matrix})

    @property
    def matrix(self) -> Tensor:
        """(|l|, |m|), where there is one only."""
        return self.matrices[0, 0]

    def blocks(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Every block with the inputs i and j that it has."""
        for (x, y), matrix in self.matrices.items():
            yield self.rows[x], self.columns[y], matrix


def mirror(matrix: Tensor, complete: Iterable[slice] = (), step: int = 192) -> None:
    """Copy the upper triangle onto the lower, so that the matrix is exactly symmetric.

    Args:
        matrix: (P, P).
        complete: where blocks on the diagonal are symmetric already, in order.
        step: the most rows at a time: a tile and its mirror image stay in the cache.
    """
    edges = [0, *(edge for part in complete for edge in (part.start, part.stop)), len(matrix)]
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        for low in range(start, stop, step):
            high = min(low + step, stop)
            # The edges alternate: every second stretch is a complete block. Of it only what lies
            # below the block is copied.
            is_complete = place % 2 == 1
            below = stop if is_complete else high
            if not is_complete:
                corner = matrix[low:high, low:high]
                corner.copy_(corner.triu() + corner.triu(1).mT)
            matrix[below:, low:high].copy_(matrix[low:high, below:].mT)
