"""The order "gram" between some outputs of a dense layer on vectors and others, where every pair of
outputs has a symmetric product. Index letters as in `choice`."""

import itertools

import torch

from hesse.exact.contraction.grid import Grid
from hesse.exact.contraction.pair import Estimate, Pair, Sizes, dense

# Tiles of a symmetric product: more of them save operations, and each runs further below the rate
# of a large product.
_TILES, _LEAST_TILE = 4, 64


def gram_between(pair: Pair, grid: Grid) -> None:
    """For each o and p: (a ∘ S[:,o,p]) aᵀ, the tiles above the diagonal of (i, j)."""
    a, hessian = pair.a[:, 0, 0].mT.contiguous(), dense(pair.hessian)
    assert hessian is not None
    (inputs, n), o, p = a.shape, pair.left.shape[1], pair.right.shape[1]
    weights, weighed = hessian.reshape(n, p * o).mT.contiguous().view(p, o, n), torch.empty_like(a)
    block = grid.matrix.view(o, inputs, p, inputs)
    for row, column in itertools.product(range(o), range(p)):
        torch.mul(a, weights[column, row], out=weighed)
        for low, high in _tiles(inputs):
            block[row, low:high, column, low:].addmm_(a[low:high], weighed[low:].mT)


def finish(sizes: Sizes, grid: Grid) -> None:
    """Fill the tiles below the diagonal of (i, j) from those above. Those on it stay as they came,
    symmetric to rounding: between different outputs no symmetry of H is seen."""
    block = grid.matrix.view(sizes.o, sizes.i, sizes.p, sizes.j)
    for row, column in itertools.product(range(sizes.o), range(sizes.p)):
        for low, high in _tiles(sizes.i)[:-1]:
            block[row, high:, column, low:high] = block[row, low:high, column, high:].mT


def estimate(z: Sizes) -> Estimate:
    products, tiles = z.o * z.p, len(_tiles(z.i))
    return Estimate(
        products * z.i**2 * (1 + 1 / tiles),
        products * (1 + z.i),
        products + 2 * z.i,
        products * (1 + tiles),
        products * z.i * z.j,
    )


def _tiles(size: int) -> list[tuple[int, int]]:
    """Rows from low to high, which go from the column low on."""
    step = max(_LEAST_TILE, -(-size // _TILES))
    return [(low, min(size, low + step)) for low in range(0, size, step)]
