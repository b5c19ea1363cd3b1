"""Embeddings: bags of vectors, which PyTorch differentiates once only, and gradients that are
sparse, which it does not either.

A vector that is renormalised as it is looked up (``max_norm``) is written into, and a gradient
scaled by frequency is none of the value's: such calls are left as they are.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.decompositions.decomposition import MISSING, Decomposition

aten = torch.ops.aten
# By PyTorch's codes for them, as kernels take it.
_MODES = ("sum", "mean", "max")


def _bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """`torch.nn.functional.embedding_bag`: the sum, mean or largest entries of the vectors of each
    bag, without the padding."""
    vectors = F.embedding(input, weight)
    if per_sample_weights is not None:
        vectors = vectors * per_sample_weights.unsqueeze(-1)
    kept = None if padding_idx is None else input != padding_idx % len(weight)
    if input.ndim == 2:
        return _of_rows(vectors, kept, mode)
    assert offsets is not None
    starts = offsets[:-1] if include_last_offset else offsets
    # The bag of each vector is the last one that starts at or before it; empty bags share a start.
    positions = torch.arange(len(input), device=input.device)
    bags = torch.searchsorted(starts.to(positions.dtype), positions, right=True) - 1
    if include_last_offset:  # what lies behind the last bag is in none
        kept = positions < offsets[-1] if kept is None else kept & (positions < offsets[-1])
    return _of_bags(vectors, bags, len(starts), kept, mode)


def _of_rows(vectors: Tensor, kept: Tensor | None, mode: str) -> Tensor:
    """(bags, length, width) -> (bags, width)."""
    if mode == "max":
        if vectors.shape[1] == 0:
            return vectors.sum(1)
        # The largest is picked by values alone and gathered by its index: amax would share its
        # slope among equal entries.
        shown = vectors.detach()
        shown = shown if kept is None else shown.masked_fill(~kept.unsqueeze(-1), -torch.inf)
        largest = vectors.gather(1, shown.argmax(1, keepdim=True)).squeeze(1)
        return largest if kept is None else torch.where(kept.any(1, keepdim=True), largest, 0.0)
    total = (vectors if kept is None else vectors.masked_fill(~kept.unsqueeze(-1), 0.0)).sum(1)
    if mode == "sum":
        return total
    count = vectors.shape[1] if kept is None else kept.sum(1, keepdim=True).clamp(min=1)
    return total / (count or 1) if isinstance(count, int) else total / count


def _of_bags(vectors: Tensor, bags: Tensor, number: int, kept: Tensor | None, mode: str) -> Tensor:
    """(length, width), the bag of each -> (bags, width)."""
    width = vectors.shape[1]
    kept = torch.ones_like(bags, dtype=torch.bool) if kept is None else kept
    if mode == "max":
        # The first place where a bag's largest entry stands; the length where the bag is empty.
        shown, index = (
            vectors.detach().masked_fill(~kept.unsqueeze(1), -torch.inf),
            bags.unsqueeze(1).expand_as(vectors),
        )
        largest = shown.new_full((number, width), -torch.inf).scatter_reduce(
            0, index, shown, "amax"
        )
        positions = torch.arange(len(bags), device=bags.device).unsqueeze(1)
        positions = torch.where((shown == largest[bags]) & kept.unsqueeze(1), positions, len(bags))
        first = positions.new_full((number, width), len(bags)).scatter_reduce(
            0, index, positions, "amin"
        )
        return torch.cat([vectors, vectors.new_zeros(1, width)]).gather(0, first)
    # Padding counts neither in the sum nor in the mean's divisor.
    total = vectors.new_zeros(number, width).index_add(
        0, bags, vectors.masked_fill(~kept.unsqueeze(1), 0.0)
    )
    if mode == "sum":
        return total
    count = kept.new_zeros(number, dtype=torch.long).index_add(0, bags, kept.long())
    return total / count.clamp(min=1).unsqueeze(1)


def _bag_kernel(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, ...]:
    """`torch.embedding_bag`, whose other results are about the bags and have no derivative."""
    given = (
        offsets,
        scale_grad_by_freq,
        mode,
        sparse,
        per_sample_weights,
        include_last_offset,
        padding_idx,
    )
    others = torch.embedding_bag(weight.detach(), indices, *given)[1:]
    options = {
        "per_sample_weights": per_sample_weights,
        "include_last_offset": include_last_offset,
        "padding_idx": padding_idx,
    }
    return _bag(indices, weight, offsets, mode=_MODES[mode], **options), *others


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """`torch.nn.functional.embedding` with a gradient that is not sparse."""
    return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)


def _embedding_kernel(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return torch.embedding(weight, indices, padding_idx, scale_grad_by_freq)


def _asks(name: str, place: int) -> Any:
    """Whether a call gives an argument, by name or place, that is not false."""
    return lambda *args, **kwargs: bool(
        kwargs.get(name, args[place] if len(args) > place else None)
    )


def _is_decomposable(*args: Any, **kwargs: Any) -> bool:
    return not any(
        asks(*args, **kwargs) for asks in (_asks("max_norm", 3), _asks("scale_grad_by_freq", 5))
    )


def _is_decomposable_kernel(*args: Any, **kwargs: Any) -> bool:
    return not _asks("scale_grad_by_freq", 3)(*args, **kwargs)


_BAG_KERNELS = (
    torch.embedding_bag,
    aten.embedding_bag,
    aten.embedding_bag.default,
    aten.embedding_bag.padding_idx,
)
_EMBEDDING_KERNELS = (torch.embedding, aten.embedding, aten.embedding.default)

EMBEDDINGS: dict[Any, Decomposition] = {
    F.embedding_bag: Decomposition(_bag, MISSING, _is_decomposable),
    **dict.fromkeys(_BAG_KERNELS, Decomposition(_bag_kernel, MISSING, _is_decomposable_kernel)),
    F.embedding: Decomposition(_embedding, MISSING, _asks("sparse", 6)),
    **dict.fromkeys(
        _EMBEDDING_KERNELS, Decomposition(_embedding_kernel, MISSING, _asks("sparse", 4))
    ),
}
