"""Orthonormal vectors that are added one by one, in pieces of memory that can be let go of one by
one."""

from typing import final

import torch
from torch import Tensor

from hesse.linear_operators.inner_products import inner_products
from hesse.words.shapes import Float

# Bytes of a piece: several small vectors, or a single large one. And of a strip of all vectors that
# is turned at once.
_PIECE = 2**26
_STRIP = 2**24


@final
class Basis:
    """The rows of a matrix, orthonormal; more can be appended, and all be turned into fewer.

    Args:
        like: a vector of their size, dtype and device.
        expected: how many there will be, about; no memory is taken before they come.
    """

    def __init__(self, like: Float[Tensor, " P"], expected: int) -> None:
        self.like, self.count = like, 0
        bytes_each = max(1, like.numel() * like.itemsize)
        self._rows = max(1, min(expected, _PIECE // bytes_each))
        self._strip = max(1, _STRIP // (like.itemsize * max(1, expected)))
        self._pieces: list[Tensor] = []

    def __getitem__(self, place: int) -> Float[Tensor, " P"]:
        """One vector: a view."""
        return self._pieces[place // self._rows][place % self._rows]

    def append(self, v: Float[Tensor, " P"]) -> None:
        """One more, orthogonal to the others already."""
        if self.count // self._rows == len(self._pieces):
            self._pieces.append(self.like.new_empty(self._rows, len(self.like)))
        self._pieces[self.count // self._rows][self.count % self._rows] = v
        self.count += 1

    def _filled(self) -> list[Tensor]:
        return [
            piece[: max(0, self.count - place * self._rows)]
            for place, piece in enumerate(self._pieces)
        ]

    def orthogonalized(self, y: Float[Tensor, "*K P"]) -> Float[Tensor, "*K n"]:
        """Take from y, or from every row, in place, what it has along the vectors; how much that
        was. Twice, which is enough for orthogonality to rounding.

        Source: L. Giraud et al., The loss of orthogonality in the Gram-Schmidt orthogonalization
        process, Computers & Mathematics with Applications 50 (2005), 1069.
        """
        total = torch.zeros(*y.shape[:-1], self.count, dtype=torch.float64)
        for _ in range(2):
            start = 0
            # Piece by piece, each from what is left: the modified process, by blocks.
            for piece in self._filled():
                exact = inner_products(y, piece)
                along = exact.to(y.dtype)
                if y.ndim == 1:
                    y.addmv_(piece.T, along, alpha=-1)
                else:
                    y.addmm_(along, piece, alpha=-1)
                total[..., start : start + len(piece)] += exact.cpu()
                start += len(piece)
        return total

    def turn(self, S: Float[Tensor, "n m"], kept: int) -> None:
        """Of the first n vectors make the m columns of Q S, and keep the last ``kept`` after
        them."""
        n, m = S.shape
        turned = S.T.to(self.like)
        pieces = self._filled()
        for start in range(0, len(self.like), self._strip):
            strip = slice(start, start + self._strip)
            rows = torch.cat([piece[:, strip] for piece in pieces])
            made = torch.cat([turned @ rows[:n], rows[self.count - kept :]])
            begin = 0
            for piece in pieces:
                part = made[begin : begin + len(piece)]
                piece[: len(part), strip] = part
                begin += len(piece)
        self.count = m + kept
        del self._pieces[-(-self.count // self._rows) :]

    def taken(self, count: int) -> Float[Tensor, "count P"]:
        """The first of them as a matrix; here nothing is left, and at no time are both held."""
        taken = self.like.new_empty(count, len(self.like))
        for start in range(0, count, self._rows):
            part = taken[start : start + self._rows]
            part.copy_(self._pieces.pop(0)[: len(part)])
        self.count, self._pieces = 0, []
        return taken

    def swap(self, one: int, other: int) -> None:
        """Two of them in each other's place."""
        held = self[one].clone()
        self[one].copy_(self[other])
        self[other].copy_(held)
