"""The entries on the diagonal of the Hessian that a pair of parameter uses brings, without its
block.

Index letters as in `hesse.exact.contraction.choice`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.grid import Grid
from hesse.exact.contraction.pair import Pair, ThroughBottleneck, dense
from hesse.exact.contraction.shared_positions import scattered_delta
from hesse.graph.structures import Diagonal, RankOne, in_pieces

# Fewer samples at once make products that run slower.
_LEAST = 128


def add_entries(pair: Pair, total: Tensor) -> None:
    """Add to a parameter's diagonal what a pair of its uses brings; a pair of two different uses
    meets in both orders."""
    if pair.same:
        _add(_self_entries(pair), 1, pair, total)
        return
    for alignment in _ALIGNMENTS if _is_laid_out(pair) else ():
        if alignment.matches(pair):
            _add(alignment.entries(pair), 2, pair, total)
            return
    # Any other order of the entries: the block itself, of which the fitting ones are taken.
    block = torch.zeros(pair.left.size, pair.right.size, dtype=total.dtype, device=total.device)
    choose(pair.sizes, len(pair.a))[0].run(pair, Grid.of(block, pair.sizes.i, pair.sizes.j))
    left, right = _entries(pair.left.index, total), _entries(pair.right.index, total)
    same = left.unsqueeze(1) == right
    total.index_add_(0, left, 2 * (block * same).sum(1))


def _add(entries: Tensor, times: int, pair: Pair, total: Tensor) -> None:
    """Add entries of the left use where they belong."""
    if pair.left.index is None:
        total.add_(entries.reshape(-1), alpha=times)
    else:
        total.index_add_(0, _entries(pair.left.index, total), entries.reshape(-1), alpha=times)


def _is_laid_out(pair: Pair) -> bool:
    """Whether S has its seven axes; two uses on vectors at one site have it as the sweep brought
    it."""
    if isinstance(pair.jacobian, ThroughBottleneck):
        return False
    if pair.hessian is None:
        return True
    (_, g, t, _), (_, h, s, _) = pair.a.shape, pair.b.shape
    axes = (h, s, pair.right.shape[1], g, pair.left.shape[1], t)
    return isinstance(pair.hessian, Tensor) and tuple(pair.hessian.shape[1:]) == axes


def _entries(index: Tensor | None, total: Tensor) -> Tensor:
    return (
        torch.arange(len(total), device=total.device) if index is None else index.to(total.device)
    )


def _self_entries(pair: Pair) -> Tensor:
    """Σ_n Σ_ts a[g,t,i] S[g,s,o; g,t,o] a[g,s,i], shape (g, o, i)."""
    n, g, t, _ = pair.a.shape
    o = pair.left.shape[1]
    if isinstance(pair.hessian, ThroughBottleneck):
        return _entries_through(pair.hessian, pair.a)
    if isinstance(pair.hessian, Diagonal | RankOne):
        weights = (
            pair.hessian.values
            if isinstance(pair.hessian, Diagonal)
            else pair.hessian.diagonal - pair.hessian.factor.square()
        )
        if (g, t) == (1, 1):
            return _weighed_squares(weights.reshape(n, o), pair)
    hessian = pair.hessian if isinstance(pair.hessian, Tensor) else pair.hessian.dense()  # type: ignore[union-attr]
    if (g, t) == (1, 1):
        return _weighed_squares(hessian.reshape(n, o, o).diagonal(dim1=1, dim2=2), pair)
    return _aligned_hessian(hessian, pair.a, pair.b)


def _weighed_squares(weights: Tensor, pair: Pair) -> Tensor:
    """Σ_n s[n,o] a[n,i]², (1, o, i), of vectors."""
    if pair.left.features is None:
        return weights.sum(0).reshape(1, -1, 1)
    return _squares(weights, pair.a[:, 0, 0]).unsqueeze(0)


def _squares(weights: Tensor, a: Tensor) -> Tensor:
    """The same of features (n, i)."""
    n, size = a.shape
    step = in_pieces(n, size, _LEAST)
    if step >= n:
        return weights.mT @ a.square()
    # Some samples at a time, so that their squares stay in the caches.
    buffer, total = a.new_empty(step, size), a.new_empty(weights.shape[1], size)
    for start in range(0, n, step):
        some = slice(start, min(start + step, n))
        squares = torch.mul(a[some], a[some], out=buffer[: some.stop - start])
        total.addmm_(weights[some].mT, squares, beta=int(start > 0))
    return total


def _entries_through(through: ThroughBottleneck, a: Tensor) -> Tensor:
    """Σ_n Σ_vw L[n,v,·] K[n,v,w] L[n,w,·] of a bottleneck, and of what is added below it."""
    left, right = through.left, through.right
    assert right is not None
    weighed = torch.bmm(through.coefficients, right.flatten(2)).view_as(right)
    # Two passes over what is in memory; as products of matrices it would be laid out anew.
    total = weighed.mul_(left).flatten(0, 1).sum(0)
    if isinstance(through.local, Diagonal):
        total += torch.einsum("ngto,ngti->goi", through.local.values, a.square())
    elif through.local is not None:
        total += _aligned_hessian(through.local, a, a)
    return total


def _aligned_hessian(hessian: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Entries with the same group, output and input on both sides."""
    aligned = hessian.diagonal(dim1=1, dim2=4).diagonal(dim1=2, dim2=3)  # (n, s, t, g, o)
    return torch.einsum("nsgoi,ngsi->goi", torch.einsum("nstgo,ngti->nsgoi", aligned, a), b)


def _same_order(pair: Pair) -> bool:
    left, right = pair.left, pair.right
    same_index = left.index is right.index or (
        left.index is not None and right.index is not None and torch.equal(left.index, right.index)
    )
    return same_index and left.shape == right.shape


def _aligned(pair: Pair) -> Tensor:
    """Two uses of a parameter in the same order: the entries of their block where (g, o, i) = (h,
    p, j)."""
    parts = list[Tensor]()
    if isinstance(pair.hessian, Tensor):
        parts.append(_aligned_hessian(pair.hessian, pair.a, pair.b))
    if pair.jacobian is not None:
        jacobian, weights = jacobian_and_weights(pair)
        a = pair.a.unflatten(3, (jacobian.shape[3], -1))
        parts.append(
            torch.einsum(
                "nucotg,nguwo,ngtcw->gocw", jacobian.diagonal(dim1=1, dim2=4), weights, a
            ).flatten(2)
        )
    return _sum(parts, pair)


def _is_crossed(pair: Pair) -> bool:
    """One use has the parameter as (o, i), the other as (i, o): an embedding tied to the last
    layer."""
    (g, o, i), (h, p, j) = pair.left.shape, pair.right.shape
    if (g, h) != (1, 1) or (o, i) != (j, p):
        return False
    size = o * i
    in_order = torch.arange(size, device="cpu")
    left = in_order if pair.left.index is None else pair.left.index.cpu()
    right = in_order if pair.right.index is None else pair.right.index.cpu()
    return torch.equal(left.reshape(o, i), right.reshape(p, j).T)


def _crossed(pair: Pair) -> Tensor:
    """The entries of the block where (o, i) = (j, p)."""
    parts = list[Tensor]()
    if isinstance(pair.hessian, Tensor):
        parts.append(
            torch.einsum(
                "nsiot,nti,nso->oi", pair.hessian[:, 0, :, :, 0], pair.a[:, 0], pair.b[:, 0]
            ).unsqueeze(0)
        )
    if pair.jacobian is not None:
        jacobian, weights = jacobian_and_weights(pair)
        crossed = jacobian[:, 0, :, :, 0].unflatten(3, (jacobian.shape[3], -1))  # o as (c, w)
        each = torch.einsum("nuccwt,nuwi,nti->cwi", crossed, weights[:, 0], pair.a[:, 0])
        parts.append(each.flatten(0, 1).unsqueeze(0))
    return _sum(parts, pair)


def _sum(parts: list[Tensor], pair: Pair) -> Tensor:
    """Of what S and D bring, where there are any, entries as the left use has them."""
    return sum(parts[1:], parts[0]) if parts else pair.a.new_zeros(pair.left.shape)


def jacobian_and_weights(pair: Pair) -> tuple[Tensor, Tensor]:
    """D, (n, h, u, c, g, o, t), and the weights δ' that it is summed with, (n, h, u, w, p)."""
    jacobian = dense(pair.jacobian)
    assert jacobian is not None
    if jacobian.ndim != 7:  # a diagonal between dense layers on vectors
        jacobian = jacobian.reshape(len(jacobian), 1, 1, jacobian.shape[1], 1, -1, 1)
    return jacobian, scattered_delta(pair)


@dataclass(frozen=True)
class _Alignment:
    """How the entries of two uses of one parameter lie to each other.

    Attributes:
        matches: whether a pair's do so.
        entries: of such a pair's block those with the same entry of the parameter on both sides.
    """

    matches: Callable[[Pair], bool]
    entries: Callable[[Pair], Tensor]


_ALIGNMENTS = (_Alignment(_same_order, _aligned), _Alignment(_is_crossed, _crossed))
