"""Orders of contraction for uses with positions or groups: convolutions, tokens, scales.

Index letters as in `hesse.exact.contraction.choice`, and of D's rows h u c: group, place and
channel of m's input, see `hesse.graph.sites.Gather`. Both terms have one form,

    H[(g,o,i),(h,q,j)] = Σ_{t,s} a[g,t,i] C[h,s,q; g,t,o] b[h,s,j]

with C = S, q = p and b = b for the curvature from above; C = D, s = u, q = c and b = δ'[h,u,(w,p)]
for the product rule. C are the `coefficients` of the functions below.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from hesse.exact.contraction.aligned_products import add_product
from hesse.exact.contraction.grid import Grid
from hesse.exact.contraction.pair import Estimate, Form, Pair, Sizes, ThroughBottleneck, dense
from hesse.graph.structures import Diagonal

# Numbers of an intermediate that are made at once, 4 MB in float64. They are written over again and
# again: memory fresh from the system costs more time at its first touch than the product that fills
# it.
_AT_ONCE = 2**19
# Tiles of a symmetric product: more of them save operations, (1 + 1/4)/2 of all are left with four,
# and each runs further below the rate of a large product.
_TILES = 4
# From so many entries of l on there is a product for each output of m: the sum that it is added to,
# slice by slice, stays in the caches, where one for all outputs does not.
_WIDE = 512


def over_positions(coefficients: Tensor, a: Tensor) -> Tensor:
    """Σ_t coefficients[n, ..., g, o, t] a[n, g, t, i] -> (n, ..., g, o, i)."""
    n, g, t, i = a.shape
    if g == 1:
        return torch.bmm(coefficients.reshape(n, -1, t), a.reshape(n, t, i)).reshape(
            *coefficients.shape[:-1], i
        )
    split = coefficients.reshape(n, -1, *coefficients.shape[-3:])
    # A product of matrices starts too slowly for one position.
    products = split * a.unsqueeze(1) if t == 1 else torch.matmul(split, a.unsqueeze(1))
    return products.reshape(*coefficients.shape[:-1], i)


def _in_slices(samples: int, numbers: int) -> Iterator[slice]:
    """The samples in slices of as many as may be worked on at once, ``numbers`` for each."""
    step = max(1, _AT_ONCE // max(1, numbers))
    yield from (slice(low, min(low + step, samples)) for low in range(0, samples, step))


def _products(left: Tensor, right: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """left[n] @ right[n], some samples at a time, each time in the same memory."""
    (n, rows, _), columns = left.shape, right.shape[2]
    buffer = None
    for part in _in_slices(n, rows * columns):
        size = part.stop - part.start
        # Of the size of the first slice, the largest; each next one is written over the last.
        buffer = left.new_empty(size, rows, columns) if buffer is None else buffer
        yield part, torch.bmm(left[part], right[part], out=buffer[:size])


def _summed(coefficients: Tensor, a: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Σ_t of C, (n, h, s, q, g, o, t), with a, some samples at a time: (k, h, s, q, goi)."""
    n, g, t, i = a.shape
    lead = coefficients.shape[1:4]
    if g == 1:
        for part, products in _products(coefficients.reshape(n, -1, t), a[:, 0]):
            yield part, products.view(len(products), *lead, -1)
    else:
        for part in _in_slices(n, coefficients[0].numel() * i // t):
            yield part, over_positions(coefficients[part], a[part]).flatten(4)


def _through(coefficients: Tensor, left: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Coefficients (n, h, s, q, v) of a bottleneck times its Jacobian summed with a, (n, v, g, o,
    i): likewise."""
    for part, products in _products(coefficients.flatten(1, 3), left.flatten(2)):
        yield part, products.view(len(products), *coefficients.shape[1:4], -1)


# Some samples, and for these a tensor already summed over the positions of l.
Summed = Iterator[tuple[slice, Tensor]]


def first_l(pair: Pair, grid: Grid) -> None:
    hessian, jacobian, target = dense(pair.hessian), dense(pair.jacobian), grid.matrix
    if hessian is not None:
        _add_hessian(pair, _summed(hessian, pair.a), target)
    if jacobian is not None:
        _add_jacobian(pair, _summed(jacobian, pair.a), jacobian.shape[3], target)


def _add_hessian(pair: Pair, summed: Summed, target: Tensor) -> None:
    """The term of S, with the positions of l summed over already."""
    blocks = target.view(pair.left.size, *pair.right.shape)
    if pair.same and pair.right.shape[0] == 1:
        _add_upper(pair, summed, blocks[:, 0])
    else:
        _add_weighed(summed, pair.b, blocks)


def _add_upper(pair: Pair, summed: Summed, blocks: Tensor) -> None:
    """Of a use with itself, one group, the half o <= p is enough: blocks (l, p, j). What is below
    is mirrored at the end."""
    rows, p, j = blocks.shape
    step = -(-p // _TILES)
    for part, sums in summed:
        outputs, features = sums.view(-1, p, rows).permute(1, 2, 0), pair.b[part].reshape(-1, j)
        for low in range(0, p, step):
            high = min(low + step, p)
            upper = high * rows // p
            tile = blocks[:upper, low:high].transpose(0, 1)  # (p, l, j)
            tile.baddbmm_(outputs[low:high, :upper], features.expand(high - low, -1, -1))


def _add_jacobian(pair: Pair, summed: Summed, channels: int, target: Tensor) -> None:
    """The product-rule term, with the positions of l summed over already."""
    weights, blocks = scattered_delta(pair), target.view(pair.left.size, *pair.right.shape)
    _add_weighed(summed, weights.flatten(3), _laid(blocks, channels, weights.shape[3]))


def scattered_delta(pair: Pair) -> Tensor:
    """The weights δ' of D, (n, h, u, w, p)."""
    scatter = None if pair.right.gather is None else pair.right.gather.scatter
    return pair.delta.unsqueeze(3) if scatter is None else scatter(pair.delta)


def _laid(blocks: Tensor, channels: int, window: int) -> Tensor:
    """Blocks (..., p, j) as (..., c, w, p), the order that D is contracted in; without a joined
    bias, which D does not reach."""
    return blocks[..., : channels * window].unflatten(-1, (channels, window)).movedim(-3, -1)


def _add_weighed(summed: Summed, weights: Tensor, blocks: Tensor) -> None:
    """Σ_{n,s} summed[n,h,s,q,l] weights[n,h,s,j], added to blocks (l, h, q, ...j)."""
    (rows, h, q), rest = blocks.shape[:3], blocks.shape[3:]
    by_output, total = h == 1 and rows >= _WIDE, None
    for part, sums in summed:
        k, s, j = len(sums), sums.shape[2], weights.shape[-1]
        right = weights[part].transpose(0, 1).reshape(h, k * s, j).mT
        left = sums.transpose(0, 1).reshape(h, k * s, q * rows)
        if by_output:
            right, left = right.expand(q, -1, -1), left.view(k * s, q, rows).transpose(0, 1)
        total = torch.bmm(right, left) if total is None else total.baddbmm_(right, left)
    if total is not None and by_output:
        blocks[:, 0].add_(total.view(q, *rest, rows).movedim(-1, 0))
    elif total is not None:
        blocks.add_(total.view(h, *rest, q, rows).movedim(-1, 0).movedim(-1, 2))


def through_bottleneck(pair: Pair, grid: Grid) -> None:
    target = grid.matrix
    if isinstance(pair.hessian, ThroughBottleneck):
        if pair.hessian.right is not None:
            _bottleneck_self(pair, pair.hessian, pair.hessian.right, target)
        else:
            _add_hessian(pair, _through(pair.hessian.coefficients, pair.hessian.left), target)
    if isinstance(pair.jacobian, ThroughBottleneck):
        coefficients = pair.jacobian.coefficients
        _add_jacobian(
            pair, _through(coefficients, pair.jacobian.left), coefficients.shape[3], target
        )


def _bottleneck_self(pair: Pair, hessian: ThroughBottleneck, right: Tensor, target: Tensor) -> None:
    """Σ_n leftᵀ K right for the Hessian K of the bottleneck, and the one that is added below it."""
    rows = hessian.left.flatten(2).flatten(0, 1).mT
    through = torch.bmm(hessian.coefficients, right.flatten(2)).flatten(0, 1)
    # Of a use with itself the tiles above the diagonal are enough.
    if pair.same:
        step = -(-len(target) // _TILES)
        for low in range(0, len(target), step):
            add_product(target[low : low + step, low:], rows[low : low + step], through[:, low:])
    else:
        add_product(target, rows, through)
    if isinstance(hessian.local, Diagonal):
        _add_local(pair, hessian.local.values, target)
    elif hessian.local is not None:
        _add_hessian(pair, _summed(hessian.local, pair.a), target)


def _add_local(pair: Pair, local: Tensor, target: Tensor) -> None:
    """A diagonal S of a site with itself, (n, g, t, o): Σ_{n,t} a[g,t,i] S[g,t,o] b[g,t,j]."""
    (g, o, i), j = pair.left.shape, pair.right.shape[2]
    blocks, total = (
        target.view(g, o, i, g, o, j).diagonal(dim1=0, dim2=3).diagonal(dim1=0, dim2=2),
        None,
    )
    for part in _in_slices(len(local), local[0].numel() * i):
        weighed = pair.a[part].unsqueeze(3) * local[part].unsqueeze(4)  # (k, g, t, o, i)
        left = weighed.transpose(0, 1).reshape(g, -1, o * i).mT
        right = pair.b[part].transpose(0, 1).reshape(g, -1, j)
        total = torch.bmm(left, right) if total is None else total.baddbmm_(left, right)
    if total is not None:
        blocks.add_(total.view(g, o, i, j).permute(2, 3, 0, 1))


def first_m(pair: Pair, grid: Grid) -> None:
    hessian, jacobian, a = dense(pair.hessian), dense(pair.jacobian), pair.a
    n, g, t, i = a.shape
    o, right = pair.left.shape[1], pair.right.shape
    weights = None if jacobian is None else scattered_delta(pair)
    blocks, total = grid.matrix.view(g, o, i, -1), None
    for part in _in_slices(n, g * t * o * pair.right.size):
        mixed = a.new_empty(part.stop - part.start, t, g, o, *right)
        if hessian is not None:
            mixed.copy_(_over_places(hessian[part], pair.b[part]))
        else:
            mixed.zero_()
        if jacobian is not None and weights is not None:
            moved = _over_places(jacobian[part], weights[part].flatten(3)).unflatten(
                -1, weights.shape[3:]
            )
            _laid(mixed, jacobian.shape[3], weights.shape[3]).add_(moved)
        features = a[part].transpose(0, 1).reshape(g, -1, i).mT
        sums = mixed.permute(2, 0, 1, 3, 4, 5, 6).reshape(g, features.shape[2], -1)
        total = torch.bmm(features, sums) if total is None else total.baddbmm_(features, sums)
    if total is not None:
        blocks.add_(total.view(g, i, o, -1).transpose(1, 2))


def _over_places(coefficients: Tensor, weights: Tensor) -> Tensor:
    """Σ_s coefficients[n,h,s,q,g,o,t] weights[n,h,s,j] -> (n, t, g, o, h, q, j)."""
    n, h, s, q, g, o, t = coefficients.shape
    rows = coefficients.permute(0, 1, 6, 4, 5, 3, 2).reshape(n * h, t * g * o * q, s)
    products = torch.bmm(rows, weights.reshape(n * h, s, -1))
    return products.view(n, h, t, g, o, q, -1).movedim(1, 4)


# ---------------------------------------------------------------- what they cost

# What a number costs that is written and read again, beside one in fresh memory: in memory used
# again, as in a product's result; where it is moved about besides; and where groups make the
# products small.
_AGAIN, _MOVED, _GROUPED = 0.5, 1.5, 1.0


def _in_memory(
    operations: float,
    moved: float,
    held: float,
    numbers: float,
    laid: float,
    total: float,
    copies: float = 1,
) -> Estimate:
    """The estimate of an order that makes ``numbers`` for each sample in parts, a few times over,
    and holds ``total`` beside them."""
    most = copies * max(_AT_ONCE, numbers)
    return Estimate(operations, moved, held, 10, laid, total, copies * numbers, most)


def estimate_first_l(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    hessian, jacobian = z.hessian != Form.ZERO, z.jacobian != Form.ZERO
    half = (1 + 1 / min(_TILES, z.p)) / 2 if z.same and z.h == 1 else 1
    operations = 2 * hessian * (z.h * z.s * z.p * z.t * left + half * left * z.s * right)
    operations += 2 * jacobian * (z.x * z.t * left + left * z.s * right)
    moved = left * (hessian * z.h * z.s * z.p + jacobian * z.x)
    laid = left * right * (hessian * (not (z.same and z.h == 1)) + jacobian)
    weight = _AGAIN if z.g == z.h == 1 else _GROUPED
    # Groups make a product of matrices copy a for every row, and S beside it.
    copies = 1 if z.g == 1 else 2 + z.t * (z.i + z.o) / (z.o * z.i)
    numbers = max(z.h * z.s * z.p, z.x) * left
    return _in_memory(operations, weight * moved, 0, numbers, laid, left * right, copies)


def estimate_first_m(z: Sizes) -> Estimate:
    left, right, rows = z.g * z.o * z.i, z.h * z.p * z.j, z.g * z.t * z.o
    hessian, jacobian = z.hessian != Form.ZERO, z.jacobian != Form.ZERO
    operations = 2 * (hessian + jacobian) * rows * z.s * right + 2 * z.t * left * right
    moved = (1 + jacobian) * rows * right
    # S and the products moved into their order, and what they are added to.
    return _in_memory(operations, _MOVED * moved, 0, rows * right, left * right, left * right, 6)


def estimate_through_bottleneck(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    hessian, jacobian = z.hessian == Form.THROUGH_BOTTLENECK, z.jacobian == Form.THROUGH_BOTTLENECK
    if z.same:
        operations = (
            left * z.bottleneck * (2 * z.bottleneck + left * (1 + 1 / _TILES))
            + 2 * z.t * left * z.j
        )
        return _in_memory(
            operations,
            z.bottleneck * left + z.t * left,
            2 * z.bottleneck * left,
            2 * z.t * left,
            0,
            0,
        )
    operations = (
        2
        * left
        * (
            hessian * (z.h * z.s * z.p * z.bottleneck + z.s * right)
            + jacobian * (z.x * z.bottleneck + z.s * right)
        )
    )
    moved = left * (hessian * z.h * z.s * z.p + jacobian * z.x)
    laid = left * right * (hessian + jacobian)
    weight = _AGAIN if z.h == 1 else _GROUPED
    numbers = max(z.h * z.s * z.p, z.x) * left
    return _in_memory(operations, weight * moved, z.bottleneck * left, numbers, laid, left * right)
