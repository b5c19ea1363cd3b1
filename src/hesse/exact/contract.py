"""Contractions: from the signals at two slots to the block of the Hessian, by large matrix products.

For one sample, with slot l at or before slot m in the network,

    H[(g,o,i),(h,p,j)] = Σ_{t,s} a[g,t,i] ( S[h,s,p; g,t,o] b[h,s,j]  +  δ[h,s,p] D[h,s,j; g,t,o] )
                                            curvature from above         product-rule term

and the block is the sum over samples. There are several orders to do it in, each best somewhere; `Order.estimate` says what
each costs, and the cheapest runs. Those for plain slots (one group, one position: dense layers) are

    pairs      [(o,p) × n]·[n × (i,j)]; halves of both symmetric pairs on a diagonal block, a quarter of the work
    gram       for each o ≤ p: (a ∘ S[:,o,p])ᵀ a, upper tiles only, straight into the block
    rows       for each o: aᵀ · [n × (p,j)], straight into the block
    diagonal   S diagonal, or diagonal minus rank one (softmax at the last layer): [o × n]·[n × (i,j)] and one Gram matrix

and for slots with positions or groups

    first l    contract the positions of l, then those of m        first m    the other way about
    narrow     where S and D pass through a value with fewer entries than z_l: contract the positions of that value's Jacobian first

Index letters, for the whole module: n sample; g t o i group, position, output, input of l; h s p j those of m; x the entries of m's input.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.capture.slots import Slot
from hesse.exact.rules import Curvature, Diagonal, RankOne

# One number written and read again, and starting one call, cost as much time as this many operations of a matrix product.
_MOVE = 150.0
_CALL = 3e6
_TILES = 8


@dataclass(frozen=True)
class Factored:
    """Signals that reach z_l through one value v with fewer entries: columns = coefficients · ∂v/∂z_l.

    Attributes:
        coefficients: (n, h, s, p, v) for S of another site, (n, x, v) for D, and (n, v, v), the curvature of v, for a site with itself.
        left: Σ_t ∂v/∂z_l[g,t,o] a[g,t,i], (n, v, g, o, i).
        right: likewise with the features of the other slot, for a site with itself.
        local: for a site with itself, what the operations below v add to S: (n, g, t, o) as a diagonal, or dense; ``None`` where nothing.
    """

    coefficients: Tensor
    left: Tensor
    right: Tensor | None = None
    local: Tensor | Diagonal | None = None


@dataclass(frozen=True)
class Pair:
    """The signals of one chunk at two slots, arranged.

    Attributes:
        left, right: the slots l and m; m is the same site or one that the sweep passed before.
        a: features of l, (n, g, t, i).
        b: features of m, (n, h, s, j).
        signal: S, (n, h, s, p, g, o, t); for a plain site also a structure; ``None`` where zero.
        delta: δ of m, (n, h, s, p).
        transport: D as columns on m's input, (n, x, g, o, t); `Diagonal` where it is one; ``None`` where zero or not needed.
        input_shape: the shape of m's input for one sample.
        same: both slots are the same use of the same parameter.
    """

    left: Slot
    right: Slot
    a: Tensor
    b: Tensor
    signal: Tensor | Diagonal | RankOne | Factored | None
    delta: Tensor
    transport: Tensor | Diagonal | Factored | None
    input_shape: tuple[int, ...]
    same: bool

    @property
    def sizes(self) -> "Sizes":
        """The lengths behind the index letters."""
        _, g, t, i = self.a.shape
        _, h, s, j = self.b.shape
        x = torch.Size(self.input_shape).numel()
        # A plain slot's features are its input as it stands, so D needs no mapping to features.
        factored = isinstance(self.signal, Factored) or isinstance(self.transport, Factored)
        plain = not factored and g == t == h == s == 1 and self.right.kind in ("dense", "shift", "leaf")
        narrow = next((part.left.shape[1] for part in (self.signal, self.transport) if isinstance(part, Factored)), 0)
        return Sizes(g, t, self.left.shape[1], i, h, s, self.right.shape[1], j, x, *_structure(self), plain, narrow)


@dataclass(frozen=True)
class Sizes:
    """The lengths of the axes of a pair, and the structure of its S and D: what the estimates of cost are made from."""

    g: int
    t: int
    o: int
    i: int
    h: int
    s: int
    p: int
    j: int
    x: int
    signal: str  # "dense", "diagonal", "rank one", "factored" or "zero"
    transport: str  # "dense", "diagonal", "factored" or "zero"
    same: bool
    plain: bool  # neither slot has groups or positions
    narrow: int  # entries of the value that factored signals pass through; 0 where they are not factored


def _structure(pair: Pair) -> tuple[str, str, bool]:
    kinds: dict[type, str] = {Tensor: "dense", Diagonal: "diagonal", RankOne: "rank one", Factored: "factored", type(None): "zero"}
    return kinds[type(pair.signal)], kinds[type(pair.transport)], pair.same


@dataclass(frozen=True)
class Estimate:
    """What an order costs: the first three for each sample, the last two once for a chunk.

    Attributes:
        operations: floating point operations, two for a multiply-add.
        moved: numbers written and read again in intermediates.
        held: numbers of intermediates alive at once.
        calls: how many matrix products or passes are started.
        laid: numbers of the result that are written and read again on their way into the block.
    """

    operations: float
    moved: float
    held: float
    calls: float = 1
    laid: float = 0

    def time(self, samples: int) -> float:
        """For a chunk of samples, in units of one operation of a matrix product."""
        return samples * (self.operations + _MOVE * self.moved) + _CALL * self.calls + _MOVE * self.laid


@dataclass(frozen=True)
class Order:
    """One way to contract a pair.

    Attributes:
        name: what a plan calls it.
        applies: whether it can contract a pair of these sizes.
        estimate: what it costs.
        run: adds the chunk's contribution to the target, (|l|, |m|) in the slots' own order.
        finish: completes the target after the last chunk.
    """

    name: str
    applies: Callable[[Sizes], bool]
    estimate: Callable[[Sizes], Estimate]
    run: Callable[[Pair, Tensor], None]
    finish: Callable[[Pair | Sizes, Tensor], None] = lambda sizes, target: None


def choose(sizes: Sizes, samples: int) -> tuple[Order, Estimate]:
    """The cheapest order for a pair and so many samples."""
    estimates = [(order, order.estimate(sizes)) for order in ORDERS if order.applies(sizes)]
    return min(estimates, key=lambda made: made[1].time(samples))


# ---------------------------------------------------------------- plain slots: one block of one layer with itself


def _half(n: int) -> float:
    return n * (n + 1) / 2


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(n, n, device=device)
    return rows, columns


def _products(features: Tensor) -> Tensor:
    """a_i a_j for i <= j, (pairs, n), rows contiguous."""
    rows = features.mT.contiguous()
    first, second = _triangle(len(rows), rows.device)
    return rows.index_select(0, first).mul_(rows.index_select(0, second))


def _spread(pairs: Tensor, size: int) -> Tensor:
    """(k, i ≤ j) -> (k, i, j), both halves."""
    first, second = _triangle(size, pairs.device)
    place = torch.empty(size, size, dtype=torch.long, device=pairs.device)
    place[first, second] = place[second, first] = torch.arange(len(first), device=pairs.device)
    return pairs.index_select(1, place.reshape(-1)).reshape(-1, size, size)


def _flat(pair: Pair) -> tuple[Tensor, Tensor]:
    return pair.a[:, 0, 0], pair.b[:, 0, 0]


def _pairs_self(pair: Pair, target: Tensor) -> None:
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


def _gram_self(pair: Pair, target: Tensor) -> None:
    a, _ = _flat(pair)
    assert isinstance(pair.signal, Tensor)
    o, i = pair.left.shape[1], a.shape[1]
    signal = pair.signal.reshape(len(a), o, o)
    blocks = target.view(o, i, o, i)
    rows = a.mT
    edges = _edges(i)
    for column in range(o):
        for row in range(column + 1):
            weighed = a * signal[:, row, column].unsqueeze(1)
            for low, high in edges:
                blocks[row, low:high, column, low:].addmm_(rows[low:high], weighed[:, low:])


def _gram_finish(sizes: "Pair | Sizes", target: Tensor) -> None:
    assert isinstance(sizes, Sizes)
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


def _diagonal_self(pair: Pair, target: Tensor) -> None:
    a, _ = _flat(pair)
    n, o, i = len(a), pair.left.shape[1], a.shape[1]
    own = _diagonal_weights(pair, o).mT.contiguous() @ _products(a).mT
    target.view(o, i, o, i).diagonal(dim1=0, dim2=2).add_(_spread(own, i).permute(1, 2, 0))
    if isinstance(pair.signal, RankOne):
        outer = (pair.signal.factor.reshape(n, o, 1) * a.unsqueeze(1)).reshape(n, o * i)
        rows = outer.mT
        for low, high in _edges(o * i):
            target[low:high, low:].addmm_(rows[low:high], outer[:, low:], alpha=-1)


def _diagonal(pair: Pair, target: Tensor) -> None:
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


def _pairs(pair: Pair, target: Tensor) -> None:
    a, b = _flat(pair)
    n, o, i, p, j = len(a), pair.left.shape[1], a.shape[1], pair.right.shape[1], b.shape[1]
    blocks = target.view(o, i, p, j)
    signal = _dense(pair.signal)
    if signal is not None:
        both = (a.unsqueeze(2) * b.unsqueeze(1)).reshape(n, i * j)
        blocks.add_((signal.reshape(n, p * o).mT @ both).view(p, o, i, j).permute(1, 2, 0, 3))
    if isinstance(pair.transport, Diagonal):
        _add_diagonal_transport(pair, blocks)
    elif pair.transport is not None:
        both = (a.unsqueeze(2) * pair.delta.reshape(n, 1, p)).reshape(n, i * p)
        blocks.add_((pair.transport.reshape(n, j * o).mT @ both).view(j, o, i, p).permute(1, 2, 3, 0))


def _rows(pair: Pair, target: Tensor) -> None:
    a, b = _flat(pair)
    n, o, i, p, j = len(a), pair.left.shape[1], a.shape[1], pair.right.shape[1], b.shape[1]
    signal = _dense(pair.signal)
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


# ---------------------------------------------------------------- slots with positions or groups


def _dense(signal: Curvature | Factored | None) -> Tensor | None:
    assert not isinstance(signal, Factored)
    return signal if signal is None or isinstance(signal, Tensor) else signal.dense()


def over_positions(columns: Tensor, a: Tensor) -> Tensor:
    """Σ_t columns[n, ..., g, o, t] a[n, g, t, i] -> (n, ..., g, o, i)."""
    n, g, t, i = a.shape
    if g == 1:
        return torch.bmm(columns.reshape(n, -1, t), a.reshape(n, t, i)).reshape(*columns.shape[:-1], i)
    return torch.einsum("nkgot,ngti->nkgoi", columns.reshape(n, -1, *columns.shape[-3:]), a).reshape(*columns.shape[:-1], i)


def _features_of(pair: Pair, columns: Tensor) -> Tensor:
    """Features of m of columns on its input: (k, n, x) -> (k, n, h, s, j)."""
    assert pair.right.features is not None
    made = pair.right.features(columns.reshape(-1, *pair.input_shape))
    return made.reshape(*columns.shape[:2], *made.shape[1:])


def _first_l(pair: Pair, target: Tensor) -> None:
    signal, transport = _dense(pair.signal), _dense(pair.transport)
    if signal is not None:
        _add_signal(pair, over_positions(signal, pair.a), target)
    if transport is not None:
        _add_transport(pair, over_positions(transport, pair.a), target)


def _add_signal(pair: Pair, summed: Tensor, target: Tensor) -> None:
    """Contract m, that of l done: ``summed`` is (n, h, s, p, g, o, i)."""
    h, p, j = pair.right.shape
    rows = pair.left.size
    blocks = target.view(rows, h, p, j)
    if pair.same and h == 1:  # the upper half is enough: o <= p
        outputs, features = summed.reshape(-1, p, rows), pair.b.reshape(-1, j)
        for column in range(p):
            upper = (column + 1) * rows // p
            blocks[:upper, 0, column].addmm_(outputs[:, column, :upper].mT, features)
    elif h == 1:
        made = summed.reshape(-1, p * rows).mT @ pair.b.reshape(-1, j)
        blocks[:, 0].add_(made.view(p, rows, j).transpose(0, 1))
    else:
        blocks.add_(torch.einsum("nhspl,nhsj->lhpj", summed.reshape(*summed.shape[:4], rows), pair.b))


def _add_transport(pair: Pair, summed: Tensor, target: Tensor) -> None:
    """The product-rule term, that of l done: ``summed`` is (n, x, g, o, i)."""
    h, p, j = pair.right.shape
    rows = pair.left.size
    blocks = target.view(rows, h, p, j)
    moved = _features_of(pair, summed.flatten(2).permute(2, 0, 1))  # (goi, n, h, s, j)
    if h == 1:
        made = moved.permute(1, 3, 2, 0, 4).reshape(-1, rows * j).mT @ pair.delta.reshape(-1, p)
        blocks[:, 0].add_(made.view(rows, j, p).transpose(1, 2))
    else:
        blocks.add_(torch.einsum("lnhsj,nhsp->lhpj", moved, pair.delta))


def _narrow(pair: Pair, target: Tensor) -> None:
    if isinstance(pair.signal, Factored):
        left = pair.signal.left
        if pair.signal.right is not None:
            _narrow_self(pair, pair.signal, pair.signal.right, target)
        else:
            through = torch.bmm(pair.signal.coefficients.flatten(1, 3), left.flatten(2))
            _add_signal(pair, through.view(*pair.signal.coefficients.shape[:4], *left.shape[2:]), target)
    if isinstance(pair.transport, Factored):
        left = pair.transport.left
        through = torch.bmm(pair.transport.coefficients, left.flatten(2))
        _add_transport(pair, through.view(*through.shape[:2], *left.shape[2:]), target)


def _narrow_self(pair: Pair, signal: Factored, right: Tensor, target: Tensor) -> None:
    through = torch.bmm(signal.coefficients, right.flatten(2))
    target.add_(signal.left.flatten(2).flatten(0, 1).mT @ through.flatten(0, 1))
    (g, o, i), (_, _, j) = pair.left.shape, pair.right.shape
    if isinstance(signal.local, Diagonal):
        weighed = pair.a.unsqueeze(3) * signal.local.values.unsqueeze(4)  # (n, g, t, o, i)
        made = torch.einsum("ngtoi,ngtj->goij", weighed, pair.b)
        target.view(g, o, i, g, o, j).diagonal(dim1=0, dim2=3).diagonal(dim1=0, dim2=2).add_(made.permute(2, 3, 0, 1))
    elif signal.local is not None:
        _add_signal(pair, over_positions(signal.local, pair.a), target)


def _first_m(pair: Pair, target: Tensor) -> None:
    signal, transport, a, b = _dense(pair.signal), _dense(pair.transport), pair.a, pair.b
    n, g, t, _ = a.shape
    (_, o, i), (h, p, j) = pair.left.shape, pair.right.shape
    # Rows are the signals of l in the order (t, g, o), so that (n, t) is one axis to sum over.
    mixed = None
    if signal is not None:
        if h == 1:
            rows = signal.permute(0, 6, 4, 5, 1, 3, 2).reshape(n, -1, b.shape[2])  # (n, t g o p, s)
            mixed = torch.bmm(rows, b.reshape(n, -1, j)).view(n, t, g, o, p * j)
        else:
            mixed = torch.einsum("nhspgot,nhsj->ntgohpj", signal, b).flatten(4)
    if transport is not None:
        columns = _features_of(pair, transport.permute(4, 2, 3, 0, 1).flatten(0, 2))  # (t g o, n, h, s, j)
        product_rule = torch.einsum("knhsj,nhsp->nkhpj", columns, pair.delta).reshape(n, t, g, o, -1)
        mixed = product_rule if mixed is None else mixed.add_(product_rule)
    if mixed is None:
        return
    if g == 1:
        made = a.reshape(n * t, i).mT @ mixed.reshape(n * t, -1)
        target.view(o, i, -1).add_(made.view(i, o, -1).transpose(0, 1))
    else:
        target.view(g, o, i, -1).add_(torch.einsum("ngti,ntgom->goim", a, mixed))


# ---------------------------------------------------------------- the table


def _estimate_pairs_self(z: Sizes) -> Estimate:
    moved = _half(z.o) + z.o**2 + 3 * _half(z.i)
    return Estimate(2 * _half(z.o) * _half(z.i), moved, moved, 3 * z.o + 5, 3 * _half(z.o) * z.i**2)


def _estimate_gram(z: Sizes) -> Estimate:
    tiles = len(_edges(z.i))
    operations = _half(z.o) * z.i**2 * (1 + 1 / tiles)
    return Estimate(operations, _half(z.o) * z.i, z.i, _half(z.o) * (1 + tiles), _half(z.o) * z.i**2 / 2)


def _estimate_diagonal_self(z: Sizes) -> Estimate:
    tiles = len(_edges(z.o * z.i))
    rank_one = z.signal == "rank one"
    operations = 2 * z.o * _half(z.i) + rank_one * (z.o * z.i) ** 2 * (1 + 1 / tiles)
    moved = z.o + 3 * _half(z.i) + rank_one * z.o * z.i
    return Estimate(operations, moved, moved, 5 + tiles)


def _estimate_diagonal(z: Sizes) -> Estimate:
    rank_one = z.signal == "rank one"
    moved = z.o + z.i * z.j + rank_one * z.o * (z.i + z.j)
    return Estimate(2 * z.o * z.i * z.j + 2 * rank_one * z.o**2 * z.i * z.j, moved, moved, 5)


def _estimate_pairs(z: Sizes) -> Estimate:
    terms = (z.signal != "zero") + (z.transport == "dense")
    moved = (z.signal != "zero") * (z.o * z.p + z.i * z.j) + (z.transport == "dense") * (z.j * z.o + z.i * z.p)
    diagonal = 2 * z.i * z.o * z.p * (z.transport == "diagonal")
    return Estimate(2 * z.o * z.p * z.i * z.j * terms + diagonal, moved, moved, 4 * terms, terms * z.o * z.p * z.i * z.j)


def _estimate_rows(z: Sizes) -> Estimate:
    diagonal = 2 * z.i * z.o * z.p * (z.transport == "diagonal")
    passes = 1 + (z.transport == "dense")
    return Estimate(2 * z.o * z.p * z.i * z.j + diagonal, z.o * z.p * z.j * passes, z.p * z.j, z.o * (1 + passes))


def _estimate_first_l(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    signal, transport = z.signal != "zero", z.transport != "zero"
    half = (z.p + 1) / (2 * z.p) if z.same and z.h == 1 else 1
    operations = 2 * signal * (z.h * z.s * z.p * z.t * left + half * left * z.s * right)
    operations += 2 * transport * (z.x * z.t * left + left * z.s * right)
    moved = signal * z.h * z.s * z.p * left + transport * (z.x + z.h * z.s * z.j) * left
    return Estimate(operations, 2 * moved, 2 * moved, 10)


def _estimate_first_m(z: Sizes) -> Estimate:
    left, right, rows = z.g * z.o * z.i, z.h * z.p * z.j, z.g * z.t * z.o
    signal, transport = z.signal != "zero", z.transport != "zero"
    operations = 2 * (signal + transport) * rows * z.s * right + 2 * z.t * left * right
    moved = (1 + transport) * rows * right + transport * rows * z.h * z.s * z.j
    return Estimate(operations, 2 * moved, 2 * moved, 10)


def _estimate_narrow(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    signal, transport = z.signal == "factored", z.transport == "factored"
    operations = 2 * left * (signal * (z.h * z.s * z.p * z.narrow + z.s * right) + transport * (z.x * z.narrow + z.s * right))
    moved = left * (signal * z.h * z.s * z.p + transport * (z.x + z.h * z.s * z.j) + z.narrow)
    return Estimate(operations, moved, 2 * moved, 10)


def _is_factored(z: Sizes) -> bool:
    return z.narrow > 0


def _structured(z: Sizes) -> bool:
    return z.signal in ("diagonal", "rank one") and z.transport == "zero"


ORDERS = (
    Order("pairs", lambda z: z.plain and z.same and z.signal == "dense", _estimate_pairs_self, _pairs_self),
    Order("gram", lambda z: z.plain and z.same and z.signal == "dense", _estimate_gram, _gram_self, _gram_finish),
    Order("diagonal", lambda z: z.plain and z.same and _structured(z), _estimate_diagonal_self, _diagonal_self),
    Order("diagonal", lambda z: z.plain and not z.same and _structured(z), _estimate_diagonal, _diagonal),
    Order("pairs", lambda z: z.plain and not z.same and not _structured(z), _estimate_pairs, _pairs),
    Order("rows", lambda z: z.plain and not z.same and not _structured(z), _estimate_rows, _rows),
    Order("first l", lambda z: not z.plain and not _is_factored(z), _estimate_first_l, _first_l),
    Order("first m", lambda z: not z.plain and not _is_factored(z), _estimate_first_m, _first_m),
    Order("narrow", _is_factored, _estimate_narrow, _narrow),
)
