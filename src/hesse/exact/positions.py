"""Orders of contraction for slots with positions or groups: convolutions, tokens, scales.

Index letters as in `hesse.exact.contract`.
"""

import torch
from torch import Tensor

from hesse.exact.pair import Estimate, Factored, Pair, Sizes, dense
from hesse.exact.structures import Diagonal


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


def first_l(pair: Pair, target: Tensor) -> None:
    signal, transport = dense(pair.signal), dense(pair.transport)
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


def narrow(pair: Pair, target: Tensor) -> None:
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


def first_m(pair: Pair, target: Tensor) -> None:
    signal, transport, a, b = dense(pair.signal), dense(pair.transport), pair.a, pair.b
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


# ---------------------------------------------------------------- what they cost


def estimate_first_l(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    signal, transport = z.signal != "zero", z.transport != "zero"
    half = (z.p + 1) / (2 * z.p) if z.same and z.h == 1 else 1
    operations = 2 * signal * (z.h * z.s * z.p * z.t * left + half * left * z.s * right)
    operations += 2 * transport * (z.x * z.t * left + left * z.s * right)
    moved = signal * z.h * z.s * z.p * left + transport * (z.x + z.h * z.s * z.j) * left
    return Estimate(operations, 2 * moved, 2 * moved, 10)


def estimate_first_m(z: Sizes) -> Estimate:
    left, right, rows = z.g * z.o * z.i, z.h * z.p * z.j, z.g * z.t * z.o
    signal, transport = z.signal != "zero", z.transport != "zero"
    operations = 2 * (signal + transport) * rows * z.s * right + 2 * z.t * left * right
    moved = (1 + transport) * rows * right + transport * rows * z.h * z.s * z.j
    return Estimate(operations, 2 * moved, 2 * moved, 10)


def estimate_narrow(z: Sizes) -> Estimate:
    left, right = z.g * z.o * z.i, z.h * z.p * z.j
    signal, transport = z.signal == "factored", z.transport == "factored"
    operations = 2 * left * (signal * (z.h * z.s * z.p * z.narrow + z.s * right) + transport * (z.x * z.narrow + z.s * right))
    moved = left * (signal * z.h * z.s * z.p + transport * (z.x + z.h * z.s * z.j) + z.narrow)
    return Estimate(operations, moved, 2 * moved, 10)
