"""What a Hessian is made of, wherever it is: its blocks, in pieces."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import final

import torch
from torch import Tensor

from hesse.layout import Layout

Pair = tuple[str, str]


@dataclass(frozen=True)
class Piece:
    """A part of a block.

    Attributes:
        pair: the parameters of the block, in layout order.
        rows, columns: its entries of each.
        values: (rows, columns).
    """

    pair: Pair
    rows: slice
    columns: slice
    values: Tensor

    @property
    def is_on_diagonal(self) -> bool:
        """Whether it is a square on the diagonal, which is its own transpose."""
        return self.pair[0] == self.pair[1] and self.rows == self.columns


class Entries(ABC):
    """The entries of a Hessian's upper triangle.

    Attributes:
        layout: the parameters, in order.
        pairs: the blocks that are held, a not after b in the layout.
        dtype: of the entries.
        device: where they come to lie.
        nbytes: what they take, in memory or on a disk.
        matrix: the whole matrix, where that is in memory.
    """

    layout: Layout
    pairs: tuple[Pair, ...]
    dtype: torch.dtype
    device: torch.device
    nbytes: int
    matrix: Tensor | None = None

    @property
    @abstractmethod
    def blocks(self) -> Mapping[Pair, Tensor]:
        """The blocks, each as a matrix; none where there is a ``matrix``."""

    @abstractmethod
    def part(self, pair: Pair, rows: slice, columns: slice) -> Tensor:
        """Some rows and columns of a block that is held."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """All of the upper triangle, each entry once, except in squares on the diagonal."""

    @abstractmethod
    def norms(self) -> dict[Pair, float]:
        """The Frobenius norm of every block."""

    @abstractmethod
    def column_norms(self, count: int, random: torch.Generator) -> tuple[dict[str, float], int]:
        """Of a complete Hessian, the norm of each parameter's columns over some ``count`` rows at
        random, or all; and over how many."""

    @abstractmethod
    def typical(self, count: int, random: torch.Generator) -> float:
        """The largest size of an entry of a block times a normal vector, from some ``count`` rows
        at random of each block, or all."""

    def is_surely_finite(self) -> bool:
        """Whether a quick look shows that every entry is a number; else `norms` tells."""
        return False

    def block(self, pair: Pair) -> Tensor:
        """One block that is held."""
        sizes = self.layout.sizes
        return self.part(pair, slice(0, sizes[pair[0]]), slice(0, sizes[pair[1]]))

    def diagonal(self, name: str) -> Tensor:
        """The diagonal of a parameter's own block."""
        return self.block((name, name)).diagonal().clone()

    def product(self, v: Tensor) -> Tensor:
        """H v, each piece serving twice, as itself and as its transpose."""
        product, offsets = torch.zeros_like(v), self.layout.offsets
        for piece in self.pieces():
            (a, b), values = piece.pair, piece.values
            rows = slice(offsets[a] + piece.rows.start, offsets[a] + piece.rows.stop)
            columns = slice(offsets[b] + piece.columns.start, offsets[b] + piece.columns.stop)
            product[rows] += values @ v[columns]
            if not piece.is_on_diagonal:
                product[columns] += values.mT @ v[rows]
        return product

    def block_product(self, a: str, b: str, v: Tensor) -> Tensor:
        """H[a, b] v, of a pair in either order."""
        if (a, b) in self.pairs:
            return self.block((a, b)) @ v
        return self.block((b, a)).mT @ v


@final
class InMemory(Entries):
    """A whole matrix, or some of its blocks.

    Args:
        layout: the parameters.
        matrix: (P, P).
        blocks: or some blocks.
    """

    def __init__(
        self, layout: Layout, matrix: Tensor | None, blocks: Mapping[Pair, Tensor]
    ) -> None:
        self.layout, self.matrix, self._blocks = layout, matrix, blocks
        every = combinations_with_replacement(layout.names, 2)
        self.pairs = tuple(every if matrix is not None else (p for p in every if p in blocks))
        held = [matrix] if matrix is not None else list(blocks.values())
        # All blocks have one dtype and lie on one device, which any of them tells.
        self.dtype, self.device = held[0].dtype, held[0].device
        self.nbytes = sum(t.nbytes for t in held)

    @property
    def blocks(self) -> Mapping[Pair, Tensor]:
        return self._blocks

    def part(self, pair: Pair, rows: slice, columns: slice) -> Tensor:
        """A view."""
        if self.matrix is None:
            return self._blocks[pair][rows, columns]
        a, b = (self.layout.slice(name) for name in pair)
        return self.matrix[a, b][rows, columns]

    def pieces(self) -> Iterator[Piece]:
        sizes = self.layout.sizes
        for a, b in self.pairs:
            yield Piece((a, b), slice(0, sizes[a]), slice(0, sizes[b]), self.block((a, b)))

    def product(self, v: Tensor) -> Tensor:
        return super().product(v) if self.matrix is None else self.matrix @ v

    def is_surely_finite(self) -> bool:
        # A sum is one pass, and finite only where every entry is.
        held = [self.matrix] if self.matrix is not None else self._blocks.values()
        return all(bool(part.sum().isfinite()) for part in held)

    def norms(self) -> dict[Pair, float]:
        norms = [torch.linalg.vector_norm(self.block(pair)) for pair in self.pairs]
        return dict(zip(self.pairs, torch.stack(norms).tolist(), strict=True))

    def column_norms(self, count: int, random: torch.Generator) -> tuple[dict[str, float], int]:
        if self.matrix is None:
            return column_norms(self.layout, self.norms()), self.layout.size
        rows = self.matrix[_some_of(self.matrix, count, random)]
        norms = {
            name: float(torch.linalg.vector_norm(rows[:, self.layout.slice(name)]))
            for name in self.layout.names
        }
        return norms, len(rows)

    def typical(self, count: int, random: torch.Generator) -> float:
        norms = []
        for pair in self.pairs:
            block = self.block(pair)
            rows = block[_some_of(block, count, random)]
            norms.append(
                torch.linalg.vector_norm(rows)
                * math.sqrt(len(block) / max(1, len(rows) * min(block.shape)))
            )
        return largest_finite(torch.stack(norms).tolist())


def column_norms(layout: Layout, norms: Mapping[Pair, float]) -> dict[str, float]:
    """The norm of each parameter's columns in all rows, from those of the blocks."""
    squares = dict.fromkeys(layout.names, 0.0)
    for (a, b), norm in norms.items():
        squares[b] += norm**2
        if a != b:
            squares[a] += norm**2
    return {name: math.sqrt(square) for name, square in squares.items()}


def largest_finite(values: list[float]) -> float:
    """The largest of some numbers; zero where none is finite."""
    return max((value for value in values if math.isfinite(value)), default=0.0)


def _some_of(matrix: Tensor, count: int, random: torch.Generator) -> Tensor | slice:
    """Some of its rows at random, or all of not many: to say how large its entries are, not all of
    it need be read."""
    if len(matrix) <= count:
        return slice(None)
    return torch.randint(len(matrix), (count,), generator=random, device="cpu").to(matrix.device)
