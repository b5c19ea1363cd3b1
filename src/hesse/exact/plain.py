"""Orders of contraction for plain slots, those with one group and one position: dense layers on vectors.

Index letters as in `hesse.exact.contract`. A block of one slot with itself is filled where o <= p; the rest is its mirror image.
"""

import torch
from torch import Tensor

from hesse.exact.pair import Estimate, Pair, Sizes, dense
from hesse.exact.structures import Diagonal, RankOne

# Tiles of a symmetric product: more of them save operations, and each runs further below the rate of a large product.
_TILES = 4


def _half(n: int) -> float:
    return n * (n + 1) / 2


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(n, n, device=device)
    return rows, columns


def _products(features: Tensor) -> Tensor:
    """a_i a_j for i <= j, (pairs, n), in the order of `_triangle`."""
    rows = features.mT.contiguous()
    size, samples = rows.shape
    made, start = rows.new_empty(size * (size + 1) // 2, samples), 0
    for i in range(size):
        torch.mul(rows[i:], rows[i], out=made[start : start + size - i])
        start += size - i
    return made


def _spread(pairs: Tensor, size: int) -> Tensor:
    """(k, i ≤ j) -> (k, i, j), both halves."""
    first, second = _triangle(size, pairs.device)
    place = torch.empty(size, size, dtype=torch.long, device=pairs.device)
    place[first, second] = place[second, first] = torch.arange(len(first), device=pairs.device)
    return pairs.index_select(1, place.reshape(-1)).reshape(-1, size, size)


def _flat(pair: Pair) -> tuple[Tensor, Tensor]:
    return pair.a[:, 0, 0], pair.b[:, 0, 0]


def pairs_self(pair: Pair, target: Tensor) -> None:
    a, _ = _flat(pair)
    assert isinstance(pair.signal, Tensor)
    n, o, i = len(a), pair.left.shape[1], a.shape[1]
    first, second = _triangle(o, a.device)
    signal = pair.signal.reshape(n, o * o).mT.contiguous().index_select(0, first * o + second)
    product = signal @ _products(a).mT
    blocks = target.view(o, i, o, i)
    start = 0
    for row in range(o):
        stop = start + o - row
        blocks[row, :, row:].add_(_spread(product[start:stop], i).permute(1, 0, 2))
        start = stop


def gram_self(pair: Pair, target: Tensor) -> None:
    """For each o <= p: (a ∘ S[:,o,p])ᵀ a, the tiles above the diagonal of (i, j)."""
    a, _ = _flat(pair)
    assert isinstance(pair.signal, Tensor)
    o, i = pair.left.shape[1], a.shape[1]
    signal = pair.signal.reshape(len(a), o, o).permute(1, 2, 0).contiguous().unsqueeze(-1)
    blocks, weighed = target.view(o, i, o, i), torch.empty_like(a)
    rows, edges = a.mT.contiguous(), _edges(i)
    for column in range(o):
        for row in range(column + 1):
            torch.mul(a, signal[row, column], out=weighed)
            for low, high in edges:
                blocks[row, low:high, column, low:].addmm_(rows[low:high], weighed[:, low:])


def gram_finish(sizes: Sizes, target: Tensor) -> None:
    """Fill the tiles below the diagonal of (i, j) from those above."""
    o, i = sizes.o, sizes.i
    blocks = target.view(o, i, o, i)
    for row in range(o):
        for column in range(row + 1, o):
            block = blocks[row, :, column]
            for low, high in _edges(i):
                block[high:, low:high] = block[low:high, high:].mT


def _edges(size: int) -> list[tuple[int, int]]:
    step = max(64, -(-size // _TILES))
    return [(low, min(size, low + step)) for low in range(0, size, step)]


def diagonal_self(pair: Pair, target: Tensor) -> None:
    a, _ = _flat(pair)
    n, o, i = len(a), pair.left.shape[1], a.shape[1]
    own = _diagonal_weights(pair, o).mT.contiguous() @ _products(a).mT
    target.view(o, i, o, i).diagonal(dim1=0, dim2=2).add_(_spread(own, i).permute(1, 2, 0))
    if isinstance(pair.signal, RankOne):
        outer = (pair.signal.factor.reshape(n, o, 1) * a.unsqueeze(1)).reshape(n, o * i)
        rows = outer.mT
        for low, high in _edges(o * i):
            target[low:high, low:].addmm_(rows[low:high], outer[:, low:], alpha=-1)


def diagonal(pair: Pair, target: Tensor) -> None:
    a, b = _flat(pair)
    n, o, i, j = len(a), pair.left.shape[1], a.shape[1], b.shape[1]
    own = _diagonal_weights(pair, o).mT @ (a.unsqueeze(2) * b.unsqueeze(1)).reshape(n, i * j)
    target.view(o, i, o, j).diagonal(dim1=0, dim2=2).add_(own.view(o, i, j).permute(1, 2, 0))
    if isinstance(pair.signal, RankOne):
        left, right = ((pair.signal.factor.reshape(n, o, 1) * side.unsqueeze(1)).reshape(n, -1) for side in (a, b))
        target.addmm_(left.mT, right, alpha=-1)


def _diagonal_weights(pair: Pair, o: int) -> Tensor:
    assert isinstance(pair.signal, Diagonal | RankOne)
    weights = pair.signal.values if isinstance(pair.signal, Diagonal) else pair.signal.diagonal
    return weights.reshape(-1, o)


# ---------------------------------------------------------------- plain slots: two layers, or two parameters of one


def pairs(pair: Pair, target: Tensor) -> None:
    a, b = _flat(pair)
    n, o, i, p, j = len(a), pair.left.shape[1], a.shape[1], pair.right.shape[1], b.shape[1]
    blocks = target.view(o, i, p, j)
    signal = dense(pair.signal)
    if signal is not None:
        both = (a.unsqueeze(2) * b.unsqueeze(1)).reshape(n, i * j)
        blocks.add_((signal.reshape(n, p * o).mT @ both).view(p, o, i, j).permute(1, 2, 0, 3))
    if isinstance(pair.transport, Diagonal):
        _add_diagonal_transport(pair, blocks)
    elif isinstance(pair.transport, Tensor):
        both = (a.unsqueeze(2) * pair.delta.reshape(n, 1, p)).reshape(n, i * p)
        blocks.add_((pair.transport.reshape(n, j * o).mT @ both).view(j, o, i, p).permute(1, 2, 3, 0))


def rows(pair: Pair, target: Tensor) -> None:
    a, b = _flat(pair)
    n, o, i, p, j = len(a), pair.left.shape[1], a.shape[1], pair.right.shape[1], b.shape[1]
    signal = dense(pair.signal)
    signal = signal.reshape(n, p, 1, o) if signal is not None else None
    delta, columns = pair.delta.reshape(n, p, 1), b.unsqueeze(1)
    transport = pair.transport.reshape(n, 1, j, o) if isinstance(pair.transport, Tensor) else None
    rows = a.mT
    for row in range(o):
        mixed = signal[..., row] * columns if signal is not None else torch.zeros(n, p, j, dtype=a.dtype, device=a.device)
        if transport is not None:
            mixed.addcmul_(delta, transport[..., row])
        target[row * i : (row + 1) * i].addmm_(rows, mixed.reshape(n, p * j))
    if isinstance(pair.transport, Diagonal):
        _add_diagonal_transport(pair, target.view(o, i, p, j))


def _add_diagonal_transport(pair: Pair, blocks: Tensor) -> None:
    """The product-rule term where m's input is f(z_l): D is diagonal, so it stands at j = o alone."""
    assert isinstance(pair.transport, Diagonal)
    a, _ = _flat(pair)
    n, o, p = len(a), blocks.shape[0], blocks.shape[2]
    weights = (pair.delta.reshape(n, p, 1) * pair.transport.values.reshape(n, 1, o)).reshape(n, p * o)
    blocks.diagonal(dim1=0, dim2=3).add_((a.mT @ weights).view(-1, p, o))


# ---------------------------------------------------------------- what they cost


def estimate_pairs_self(z: Sizes) -> Estimate:
    moved = _half(z.o) + z.o**2 + 3 * _half(z.i)
    return Estimate(2 * _half(z.o) * _half(z.i), moved, moved, 3 * z.o + 5, 3 * _half(z.o) * z.i**2)


def estimate_gram(z: Sizes) -> Estimate:
    tiles = len(_edges(z.i))
    operations = _half(z.o) * z.i**2 * (1 + 1 / tiles)
    return Estimate(operations, _half(z.o) * z.i, z.i, _half(z.o) * (1 + tiles), _half(z.o) * z.i**2 / 2)


def estimate_diagonal_self(z: Sizes) -> Estimate:
    tiles = len(_edges(z.o * z.i))
    rank_one = z.signal == "rank one"
    operations = 2 * z.o * _half(z.i) + rank_one * (z.o * z.i) ** 2 * (1 + 1 / tiles)
    moved = z.o + 3 * _half(z.i) + rank_one * z.o * z.i
    return Estimate(operations, moved, moved, 5 + tiles)


def estimate_diagonal(z: Sizes) -> Estimate:
    rank_one = z.signal == "rank one"
    moved = z.o + z.i * z.j + rank_one * z.o * (z.i + z.j)
    return Estimate(2 * z.o * z.i * z.j + 2 * rank_one * z.o**2 * z.i * z.j, moved, moved, 5)


def estimate_pairs(z: Sizes) -> Estimate:
    terms = (z.signal != "zero") + (z.transport == "dense")
    moved = (z.signal != "zero") * (z.o * z.p + z.i * z.j) + (z.transport == "dense") * (z.j * z.o + z.i * z.p)
    diagonal = 2 * z.i * z.o * z.p * (z.transport == "diagonal")
    return Estimate(2 * z.o * z.p * z.i * z.j * terms + diagonal, moved, moved, 4 * terms, terms * z.o * z.p * z.i * z.j)


def estimate_rows(z: Sizes) -> Estimate:
    diagonal = 2 * z.i * z.o * z.p * (z.transport == "diagonal")
    passes = 1 + (z.transport == "dense")
    return Estimate(2 * z.o * z.p * z.i * z.j + diagonal, z.o * z.p * z.j * passes, z.p * z.j, z.o * (1 + passes))
