"""Losses of which PyTorch has no second derivatives."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import _reduction

from hesse.decompositions.decomposition import MISSING, Decomposition

aten = torch.ops.aten
# By PyTorch's codes for them, as kernels take it.
_REDUCTIONS = ("none", "mean", "sum")


def _multi_margin(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`torch.nn.functional.multi_margin_loss`: w_y / C Σ_{i ≠ y} max(0, margin − x_y + x_i)ᵖ."""
    label = target.unsqueeze(-1)
    excess = (margin - input.gather(-1, label) + input).clamp(min=0)
    others = torch.arange(input.shape[-1], device=input.device) != label
    each = torch.where(others, excess if p == 1 else excess.square(), 0.0).sum(-1) / input.shape[-1]
    each = each if weight is None else each * weight[target]
    return _reduced(each, size_average, reduce, reduction)


def _multi_margin_kernel(
    self: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    return _multi_margin(self, target, p, margin, weight, reduction=_REDUCTIONS[reduction])


def _multilabel_margin(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`torch.nn.functional.multilabel_margin_loss`: 1 / C Σ_j Σ_i max(0, 1 − x_{y_j} + x_i).

    The y_j are those before the first −1, and i is none of them.
    """
    listed, classes = (
        (target >= 0).cumprod(-1).bool(),
        torch.arange(input.shape[-1], device=input.device),
    )
    others = ~((target.unsqueeze(-1) == classes) & listed.unsqueeze(-1)).any(-2)
    # The places after the first −1 gather class 0; `listed` takes them out below.
    scores = input.gather(-1, target.clamp(min=0)).unsqueeze(-1)
    excess = (1 - scores + input.unsqueeze(-2)).clamp(min=0)
    each = (
        torch.where(listed.unsqueeze(-1) & others.unsqueeze(-2), excess, 0.0).sum((-2, -1))
        / input.shape[-1]
    )
    return _reduced(each, size_average, reduce, reduction)


def _multilabel_margin_kernel(self: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _multilabel_margin(self, target, reduction=_REDUCTIONS[reduction])


def _reduced(
    each: Tensor, size_average: bool | None, reduce: bool | None, reduction: str
) -> Tensor:
    # The two options that came before ``reduction`` and still win over it.
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce, emit_warning=False)
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()


_MULTI_MARGIN_KERNELS = (
    torch._C._nn.multi_margin_loss,  # type: ignore[attr-defined]
    aten.multi_margin_loss,
    aten.multi_margin_loss.default,
)

_MULTILABEL_MARGIN_KERNELS = (
    torch._C._nn.multilabel_margin_loss,  # type: ignore[attr-defined]
    aten.multilabel_margin_loss,
    aten.multilabel_margin_loss.default,
)

LOSSES: dict[Any, Decomposition] = {
    F.multi_margin_loss: Decomposition(_multi_margin, MISSING),
    **dict.fromkeys(_MULTI_MARGIN_KERNELS, Decomposition(_multi_margin_kernel, MISSING)),
    F.multilabel_margin_loss: Decomposition(_multilabel_margin, MISSING),
    **dict.fromkeys(_MULTILABEL_MARGIN_KERNELS, Decomposition(_multilabel_margin_kernel, MISSING)),
}
