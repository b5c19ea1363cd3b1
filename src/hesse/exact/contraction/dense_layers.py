"""Orders of contraction between dense layers on vectors: uses with one group and one position.

Index letters as in `choice`. Features are laid (i, n), their products (i, j, n): long rows to
multiply and to sum over.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hesse.exact.contraction.aligned_products import add_product, aligned
from hesse.exact.contraction.grid import Grid, mirror
from hesse.exact.contraction.pair import Estimate, Form, Pair, Sizes, dense
from hesse.graph.structures import Diagonal, RankOne

# Tiles of a symmetric product: more of them save operations, and each runs further below the rate
# of a large product.
_TILES, _LEAST_TILE = 4, 64
# Numbers of an intermediate that are made at a time, 2 MB in float32: few enough to stay in a
# cache, and in memory that is used again.
_AT_ONCE = 2**19
# Numbers of a block in another order than its own, before they are laid into it.
_IN_THE_MAKING = 2**20
# Samples that are summed over at a time, at least: with fewer a product of matrices is slow.
_LEAST_SAMPLES = 256


def _half(n: int) -> float:
    return n * (n + 1) / 2


def _by_input(features: Tensor) -> Tensor:
    """(n, 1, 1, i) -> (i, n)."""
    return features[:, 0, 0].mT.contiguous()


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs o <= p as entries of (n, n) counted row by row, and where each entry's pair stands
    among them, (n, n)."""
    first, second = torch.triu_indices(n, n, device=device)
    place = torch.empty(n, n, dtype=torch.long, device=device)
    place[first, second] = place[second, first] = torch.arange(len(first), device=device)
    return first * n + second, place


def _squares(a: Tensor, products: Tensor) -> None:
    """a_i a_j for i <= j, (pairs, n), in the order of `_triangle`."""
    size, start = len(a), 0
    for i in range(size):
        torch.mul(a[i:], a[i], out=products[start : start + size - i])
        start += size - i


def _products(a: Tensor, b: Tensor, products: Tensor | None = None) -> Tensor:
    """a_i b_j, (i j, n)."""
    out = products if products is None else products.view(len(a), *b.shape)
    return torch.mul(a.unsqueeze(1), b, out=out).flatten(0, 1)


def _summed(weights: Tensor, width: int, make: Callable[[slice, Tensor], object]) -> Tensor:
    """Σ_n weights[n, k] products[w, n] -> (k, w), the products made for some samples at a time, in
    memory that is used again: the allocator would keep what it gave before.

    Args:
        weights: (n, k).
        width: how many products w there are.
        make: writes the products of some samples, (w, samples).
    """
    samples, total = len(weights), aligned(weights.shape[1], width, weights)
    step = _step(samples, width)
    memory = weights.new_empty(width * step)
    for low in range(0, samples, step):
        part = slice(low, min(low + step, samples))
        products = memory[: width * (part.stop - low)].view(width, -1)
        make(part, products)
        total.addmm_(weights[part].mT, products.mT, beta=1 if low else 0)
    return total


def _step(samples: int, width: int) -> int:
    """How many samples are summed over at a time, so many products being made of each: as often as
    it takes, alike many each time."""
    most = max(_LEAST_SAMPLES, _AT_ONCE // width)
    return -(-samples // -(-samples // most))


def _split(matrix: Tensor, o: int, p: int) -> Tensor:
    """A block as (o, i, p, j)."""
    return matrix.view(o, len(matrix) // o, p, matrix.shape[1] // p)


def pairs_self(pair: Pair, grid: Grid) -> None:
    a = _by_input(pair.a)
    assert isinstance(pair.hessian, Tensor)
    n, o = a.shape[1], pair.left.shape[1]
    upper, outputs = _triangle(o, a.device)
    _, inputs = _triangle(len(a), a.device)
    hessian = pair.hessian.reshape(n, o * o).index_select(1, upper)
    product = _summed(
        hessian, int(_half(len(a))), lambda part, out: _squares(a[:, part], out)
    )  # (o <= p, i <= j)
    for rows, columns, matrix in grid.blocks():
        block, chosen = _split(matrix, o, o), inputs[rows, columns]
        # A small block at once; a large one output by output, as what is laid out stays in a cache.
        if o**2 * chosen.numel() < _AT_ONCE:
            block.add_(
                product.index_select(1, chosen.reshape(-1))
                .view(-1, *chosen.shape)[outputs]
                .transpose(1, 2)
            )
            continue
        start = 0
        for row in range(o):
            # The same numbers for (o, p) and (p, o), while they are in the cache.
            outer = (
                product[start : start + o - row]
                .index_select(1, chosen.reshape(-1))
                .view(-1, *chosen.shape)
            )
            block[row, :, row:].add_(outer.transpose(0, 1))
            block[row + 1 :, :, row].add_(outer[1:])
            start += o - row


def gram_self(pair: Pair, grid: Grid) -> None:
    """For each o <= p: (a ∘ S[:,o,p]) aᵀ, the tiles above the diagonal of (i, j)."""
    a = _by_input(pair.a)
    assert isinstance(pair.hessian, Tensor)
    n, o = a.shape[1], pair.left.shape[1]
    hessian = pair.hessian.reshape(n, o * o)
    weights, weighed = hessian.mT.contiguous().view(o, o, n), torch.empty_like(a)
    for rows, columns, matrix in grid.blocks():
        block, left, right = _split(matrix, o, o), a[rows], a[columns]
        if rows != columns:
            for inputs, product in _by_inputs(hessian, left, right):
                block[:, inputs].add_(product.view(o, o, -1, len(right)).permute(1, 2, 0, 3))
            continue
        for row, column in itertools.combinations_with_replacement(range(o), 2):
            torch.mul(left, weights[row, column], out=weighed[rows])
            for tall, wide in _tiles(len(left), True):
                add_product(block[row, tall, column, wide], left[tall], weighed[rows][wide].mT)


def gram_finish(sizes: Sizes, grid: Grid) -> None:
    """Fill the tiles below the diagonal of (i, j) from those above, and the blocks o > p from those
    above."""
    for rows, columns, matrix in grid.blocks():
        if rows != columns:
            continue
        block = _split(matrix, sizes.o, sizes.o)
        for row, column in itertools.combinations_with_replacement(range(sizes.o), 2):
            mirror(block[row, :, column])
            if row < column:
                block[column, :, row] = block[row, :, column]


def _tiles(size: int, symmetric: bool) -> list[tuple[slice, slice]]:
    """Rows and columns that together make a matrix; of a symmetric one its upper half."""
    if not symmetric:
        return [(slice(0, size), slice(None))]
    step = max(_LEAST_TILE, -(-size // _TILES))
    return [(slice(low, min(size, low + step)), slice(low, size)) for low in range(0, size, step)]


def diagonal_self(pair: Pair, grid: Grid) -> None:
    a = _by_input(pair.a)
    o = pair.left.shape[1]
    _, inputs = _triangle(len(a), a.device)
    weights, factor = _diagonal_weights(pair, o), _factor(pair, o)
    # (o, i <= j), one matrix for each output: off that diagonal S is zero, or of rank one.
    diagonal = _summed(weights, int(_half(len(a))), lambda part, out: _squares(a[:, part], out))
    outer = (
        {rows.start: _products(factor, a[rows]) for rows in grid.rows} if factor is not None else {}
    )
    for rows, columns, matrix in grid.blocks():
        chosen = inputs[rows, columns]
        part = diagonal.index_select(1, chosen.reshape(-1)).view(o, *chosen.shape)
        _split(matrix, o, o).diagonal(dim1=0, dim2=2).add_(part.permute(1, 2, 0))
        if factor is not None:
            left, right = outer[rows.start], outer[columns.start]
            for tall, wide in _tiles(len(left), rows == columns):
                add_product(matrix[tall, wide], left[tall], right[wide].mT, -1)


def diagonal(pair: Pair, grid: Grid) -> None:
    a, b = _by_input(pair.a), _by_input(pair.b)
    o = pair.left.shape[1]
    weights, factor = _diagonal_weights(pair, o), _factor(pair, o)
    products = _summed(
        weights, len(a) * len(b), lambda part, out: _products(a[:, part], b[:, part], out)
    ).view(o, len(a), len(b))
    for rows, columns, matrix in grid.blocks():
        _split(matrix, o, o).diagonal(dim1=0, dim2=2).add_(
            products[:, rows, columns].permute(1, 2, 0)
        )
        if factor is not None:
            add_product(matrix, _products(factor, a[rows]), _products(factor, b[columns]).mT, -1)


def _diagonal_weights(pair: Pair, o: int) -> Tensor:
    assert isinstance(pair.hessian, Diagonal | RankOne)
    weights = pair.hessian.values if isinstance(pair.hessian, Diagonal) else pair.hessian.diagonal
    return weights.reshape(-1, o)


def _factor(pair: Pair, o: int) -> Tensor | None:
    """u, (o, n), of an S less u uᵀ; ``None`` where it is a diagonal."""
    return (
        pair.hessian.factor.reshape(-1, o).mT.contiguous()
        if isinstance(pair.hessian, RankOne)
        else None
    )


# ------------------------------------------------ two layers, or two parameters of one layer


def pairs(pair: Pair, grid: Grid) -> None:
    a, b, hessian, jacobian = (
        _by_input(pair.a),
        _by_input(pair.b),
        dense(pair.hessian),
        pair.jacobian,
    )
    n, o, p = a.shape[1], pair.left.shape[1], pair.right.shape[1]
    if hessian is not None:
        for inputs, product in _by_inputs(hessian.reshape(n, p * o), a, b):
            above = product.view(p, o, -1, len(b)).permute(1, 2, 0, 3)
            for rows, columns, matrix in grid.blocks():
                _add_inputs(_split(matrix, o, p), rows, inputs, above[..., columns])
    if isinstance(jacobian, Tensor):
        for inputs, product in _by_inputs(
            jacobian.reshape(n, -1), a, pair.delta.reshape(n, p).mT.contiguous()
        ):
            rule = product.view(-1, o, product.shape[1] // p, p).permute(1, 2, 3, 0)
            for rows, columns, matrix in grid.blocks():
                # D reaches the inputs of m that are features, not its bias, which stand first.
                if columns.start == 0:
                    _add_inputs(_split(matrix, o, p)[..., : rule.shape[3]], rows, inputs, rule)
    _add_diagonal_jacobian(pair, a, grid)


def _by_inputs(weights: Tensor, a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Σ_n weights[n, k] a[i, n] b[j, n], for so many of the inputs i at a time that what is in the
    making stays small."""
    step = max(1, _IN_THE_MAKING // (weights.shape[1] * len(b)))
    for low in range(0, len(a), step):
        some = a[low : low + step]
        product = _summed(
            weights,
            len(some) * len(b),
            lambda part, out, some=some: _products(some[:, part], b[:, part], out),
        )
        yield slice(low, low + len(some)), product


def _add_inputs(block: Tensor, rows: slice, inputs: slice, value: Tensor) -> None:
    """Add what is known for some inputs i, value (o, inputs, p, j), to a block that has the inputs
    ``rows``."""
    low, high = max(rows.start, inputs.start), min(rows.stop, inputs.stop)
    if low < high:
        block[:, low - rows.start : high - rows.start].add_(
            value[:, low - inputs.start : high - inputs.start]
        )


def rows(pair: Pair, grid: Grid) -> None:
    """For each o: a [n × (p, j)], the bracket of S and D made for one o at a time."""
    a, b, hessian, jacobian = (
        _by_input(pair.a),
        _by_input(pair.b),
        dense(pair.hessian),
        pair.jacobian,
    )
    n, o, p = a.shape[1], pair.left.shape[1], pair.right.shape[1]
    hessian = (
        hessian.reshape(n, p, o).permute(2, 1, 0).unsqueeze(2).contiguous()
        if hessian is not None
        else None
    )
    delta = pair.delta.reshape(n, p).mT.unsqueeze(1)
    moved = (
        jacobian.reshape(n, -1, o).permute(2, 1, 0).contiguous()
        if isinstance(jacobian, Tensor)
        else None
    )
    for y, columns in enumerate(grid.columns):
        features = b[columns]
        blocks = [
            (grid.rows[x], matrix) for (x, member), matrix in grid.matrices.items() if member == y
        ]
        for row in range(o):
            mixed = (
                hessian[row] * features if hessian is not None else a.new_zeros(p, len(features), n)
            )
            if moved is not None and columns.start == 0:
                mixed[:, : moved.shape[1]].addcmul_(delta, moved[row])
            for inputs, matrix in blocks:
                left = a[inputs]
                lines = matrix[row * len(left) : (row + 1) * len(left)]
                add_product(lines, left, mixed.flatten(0, 1).mT)
    _add_diagonal_jacobian(pair, a, grid)


def _add_diagonal_jacobian(pair: Pair, a: Tensor, grid: Grid) -> None:
    """The product-rule term where m's input is f(z_l): D is diagonal, so it stands at j = o
    alone."""
    if not isinstance(pair.jacobian, Diagonal):
        return
    n, o, p = a.shape[1], pair.left.shape[1], pair.right.shape[1]
    weights = (pair.delta.reshape(n, p, 1) * pair.jacobian.values.reshape(n, 1, o)).reshape(
        n, p * o
    )
    products = (a @ weights).view(-1, p, o)
    for rows, columns, matrix in grid.blocks():
        if columns.start == 0:
            _split(matrix, o, p).diagonal(dim1=0, dim2=3).add_(products[rows])


# ---------------------------------------------------------------- what they cost


def _parts(width: float) -> tuple[float, float]:
    """What `_summed` makes of products so wide: for each sample, and at most."""
    return width, max(_LEAST_SAMPLES * width, _AT_ONCE)


def estimate_pairs_self(z: Sizes) -> Estimate:
    packed = _half(z.o) * _half(z.i)
    moved = _half(z.o) + z.o**2 + 2 * _half(z.i)
    spread = z.o**2 * z.i**2
    # On their way into the block: all at once, or the rows of one output.
    laying = (_half(z.o) * z.i**2 + spread) if spread < _AT_ONCE else z.o * z.i**2
    return Estimate(
        2 * packed,
        moved,
        _half(z.o) + z.i,
        3 * z.i + 5,
        packed + 2 * (z.o * z.i) ** 2,
        packed + laying + _places(z.i) + _places(z.o),
        *_parts(_half(z.i)),
    )


def _places(n: int) -> float:
    """What `_triangle` makes, of whole numbers twice as long as a float32."""
    return 6 * n**2


def estimate_gram(z: Sizes) -> Estimate:
    tiles = len(_tiles(z.i, True))
    operations = _half(z.o) * z.i**2 * (1 + 1 / tiles)
    # Of a joined bias, whose block with the weight is made for some inputs at a time.
    inputs = min(z.i, max(1, _IN_THE_MAKING // z.o**2))
    return Estimate(
        operations,
        z.o**2 + _half(z.o) * z.i,
        z.o**2 + 2 * z.i,
        _half(z.o) * (1 + tiles),
        (z.o * z.i) ** 2,
        inputs * z.o**2,
        *_parts(inputs),
    )


def estimate_diagonal_self(z: Sizes) -> Estimate:
    tiles = len(_tiles(z.o * z.i, True))
    rank_one = z.hessian == Form.RANK_ONE
    operations = 2 * z.o * _half(z.i) + rank_one * (z.o * z.i) ** 2 * (1 + 1 / tiles)
    moved = z.o + 2 * _half(z.i) + rank_one * 2 * z.o * z.i
    return Estimate(
        operations,
        moved,
        z.o + z.i + rank_one * z.o * (z.i + 1),
        5 + tiles,
        0,
        z.o * _half(z.i) + z.o * z.i**2 + _places(z.i) + _places(z.o),
        *_parts(_half(z.i)),
    )


def estimate_diagonal(z: Sizes) -> Estimate:
    rank_one = z.hessian == Form.RANK_ONE
    moved = z.o + z.i * z.j + rank_one * z.o * (z.i + z.j)
    operations = 2 * z.o * z.i * z.j + 2 * rank_one * z.o**2 * z.i * z.j
    return Estimate(
        operations,
        moved,
        z.o + z.i + z.j + rank_one * z.o * (z.i + z.j),
        5,
        0,
        z.o * z.i * z.j,
        *_parts(z.i * z.j),
    )


def estimate_pairs(z: Sizes) -> Estimate:
    hessian, jacobian, size = (
        z.hessian != Form.ZERO,
        z.jacobian == Form.DENSE,
        z.o * z.p * z.i * z.j,
    )
    moved = hessian * (z.o * z.p + z.i * z.j) + jacobian * (z.j * z.o + z.i * z.p)
    diagonal = 2 * z.i * z.o * z.p * (z.jacobian == Form.DIAGONAL)
    terms = hessian + jacobian
    # S and D may have to be laid in order; of two products one is there while the other is made.
    inputs = min(z.i, max(1, _IN_THE_MAKING // (z.o * z.p * z.j)))
    copies = max(terms, 1 + (inputs < z.i))
    laid = max(hessian * z.o * z.p, jacobian * z.x * z.o) + z.o * z.p * (diagonal > 0)
    return Estimate(
        2 * size * terms + diagonal,
        moved,
        z.i + z.j + z.p + laid,
        4 * terms,
        2 * terms * size,
        copies * inputs * z.j * z.o * z.p + diagonal / 2,
        *_parts(inputs * max(z.j, z.p)),
    )


def estimate_rows(z: Sizes) -> Estimate:
    jacobian = z.jacobian == Form.DENSE
    diagonal = 2 * z.i * z.o * z.p * (z.jacobian == Form.DIAGONAL)
    moved = z.o * z.p * (z.j * (1 + jacobian) + 1)
    # The bracket of one output is there while the next one is made.
    held = z.i + z.j + 2 * z.p * z.j + z.p * z.o + (jacobian + (diagonal > 0)) * z.j * z.o
    return Estimate(
        2 * z.o * z.p * z.i * z.j + diagonal,
        moved,
        held,
        z.o * (2 + jacobian),
        0,
        diagonal / 2,
    )
