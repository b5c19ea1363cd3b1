"""A root R of the loss's Hessian in the prediction, ∇²ℓ = Σ_k r_k r_kᵀ: the vectors whose
back-propagated signals add up to Gauss–Newton's matrix, Σ_k (Jᵀ r_k)(Jᵀ r_k)ᵀ.

Index letters: n sample, k row, z entry of the prediction; c entry of a piece of it that the loss
does not mix with others, such as the classes of one token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.graph.structures import Diagonal, LowRank, RankOne, ValueHessian, as_tensor, flat


@final
@dataclass(frozen=True)
class Rows:
    """Vectors r_k of every sample, made some at a time.

    Attributes:
        count: how many there are.
        some: of a slice of them, (n, rows, z).
    """

    count: int
    some: Callable[[slice], Tensor]

    @staticmethod
    def of(rows: Tensor) -> "Rows":
        """Those of a tensor (n, k, z)."""
        return Rows(rows.shape[1], lambda part: rows[:, part])


def root(hessian: ValueHessian | None, scale: float) -> Rows:
    """The rows of a root of a Hessian.

    Args:
        hessian: of the loss in the prediction; ``None`` where it is zero.
        scale: what the loss was multiplied by: where a loss is flat, as of scores far apart, the
            roundings of its Hessian are those of its terms, not of what is left of them.

    Raises:
        HesseValueError: it is not positive semidefinite.
    """
    if hessian is None:  # the loss is linear in the prediction
        return Rows(0, lambda part: torch.zeros(0, device="cpu"))
    if isinstance(hessian, Diagonal):
        return _of_diagonal(hessian.values.flatten(1), scale)
    if isinstance(hessian, RankOne):
        return Rows.of(_multinomial(hessian.diagonal.flatten(1), hessian.factor.flatten(1)))
    if isinstance(hessian, LowRank) and hessian.rest is None:
        above, along = root(hessian.core, scale), flat(hessian.jacobian)
        return Rows(above.count, lambda part: above.some(part) @ along)
    return _of_dense(flat(as_tensor(hessian)), scale)


def _of_diagonal(values: Tensor, scale: float) -> Rows:
    size = values.shape[1]
    roots = _non_negative(values, scale).sqrt()

    def some(part: slice) -> Tensor:
        picked = torch.arange(size, device=values.device)[part]
        rows = values.new_zeros(len(values), len(picked), size)
        rows[:, torch.arange(len(picked), device=values.device), picked] = roots[:, picked]
        return rows

    return Rows(size, some)


def _multinomial(diagonal: Tensor, factor: Tensor) -> Tensor:
    """diag(d) − u uᵀ where uᵀ diag(d)⁻¹ u = 1, as of a softmax: one row fewer than there are
    classes. With v = u / √d and q_j = Σ_{i>j} v_i², row j is √d_j √(q_j / q_{j−1}) at j and
    −u_i v_j / √(q_j q_{j−1}) at i > j.

    Source: K. Tanabe, M. Sagae, An exact Cholesky decomposition and the generalized inverse of the
    variance-covariance matrix of the multinomial distribution, Journal of the Royal Statistical
    Society B 54 (1992), 211; there for d = u = p.
    """
    tiny = torch.finfo(diagonal.dtype).tiny
    v = factor / diagonal.clamp(min=tiny).sqrt()
    # Σ_{i≥j} v_i², from the small end, so that what is left of 1 has digits.
    left = v.square().flip(1).cumsum(1).flip(1)
    before, after = left[:, :-1].clamp(min=tiny), left[:, 1:]
    # u_i / √q_j is at most √d_i, however small q_j is.
    along = v[:, :-1] / before.sqrt()
    rows = -(factor.unsqueeze(1) / after.clamp(min=tiny).sqrt().unsqueeze(2)).triu(1)
    rows = rows * along.unsqueeze(2)
    rows.diagonal(dim1=1, dim2=2).copy_(diagonal[:, :-1].sqrt() * (after / before).sqrt())
    return rows


def _of_dense(hessian: Tensor, scale: float) -> Rows:
    """By eigenvectors, piece by piece of the prediction."""
    n, size = hessian.shape[:2]
    order = _pieces(hessian)
    pieces, width = order.shape
    rows, columns = order.unsqueeze(2), order.unsqueeze(1)
    values, vectors = torch.linalg.eigh(hessian[:, rows, columns])
    values = _non_negative(values, scale)
    # Ascending: what is zero in every piece of every sample stands first.
    least = width * torch.finfo(values.dtype).eps * float(values.max()) if values.numel() else 0.0
    first = int((values <= least).flatten(0, 1).all(0).sum())
    kept = width - first
    # (n, pieces, rows of a piece, entries of a piece)
    roots = (vectors * values.sqrt().unsqueeze(2)).mT[:, :, first:]

    def some(part: slice) -> Tensor:
        chosen = torch.arange(pieces * kept, device=hessian.device)[part]
        piece, row = chosen // max(kept, 1), chosen % max(kept, 1)
        made = hessian.new_zeros(n, len(chosen), size)
        places = order[piece].expand(n, -1, -1)
        return made.scatter_(2, places, roots[:, piece, row])

    return Rows(pieces * kept, some)


def _pieces(hessian: Tensor) -> Tensor:
    """The entries of a value by the pieces that no sample's Hessian joins, (pieces, c); one piece
    where they are not of one size."""
    # Late: it takes a tenth of a second, and what imports hesse need not have it.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    size = hessian.shape[1]
    pattern = (hessian != 0).any(0).cpu().numpy()
    count, of_entry = connected_components(csr_array(pattern), directed=False)
    order = torch.from_numpy(of_entry).long().to(hessian.device).argsort(stable=True)
    sizes = torch.from_numpy(of_entry).long().bincount()
    alike = bool((sizes == sizes[0]).all())
    return order.reshape(count, -1) if alike else torch.arange(size, device=order.device)[None]


def _non_negative(values: Tensor, scale: float) -> Tensor:
    """Eigenvalues without what rounding left below zero."""
    if not values.numel():
        return values
    lowest, largest = float(values.min()), float(values.abs().max())
    # Of a Hessian by automatic differentiation some hundred roundings.
    if lowest < -1e3 * torch.finfo(values.dtype).eps * max(largest, scale):
        raise HesseValueError(
            "cost: the loss is not convex in the prediction (its Hessian there has the eigenvalue"
            f" {lowest:.2g} beside {largest:.2g}), so that Gauss-Newton's matrix has no Kronecker"
            " factors that are positive semidefinite; ask for curvature='empirical_fisher'"
        )
    return values.clamp(min=0)
