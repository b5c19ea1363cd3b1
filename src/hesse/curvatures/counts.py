"""How much the labels that are drawn count: by the weights of their samples, data=(X, y, w), and of
their entries, `BCELoss(weight=...)`. What counts w times adds w times its u uᵀ."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch
from hesse.errors import HesseValueError
from hesse.losses.loss import Loss
from hesse.losses.weighed import of_each

# Losses whose weight is of the entries of the prediction; that of others is of classes, which their
# slopes know.
_BY_ENTRY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


def counts(
    loss: Loss, name: str, options: Mapping[str, Any], prediction: Any, batch: Batch
) -> tuple[Tensor, list[Tensor] | None]:
    """The targets without weights, and what every entry of each tensor of a prediction counts, that
    broadcasts with it; ``None`` where all count as one.

    Args:
        loss: one of PyTorch's.
        name: what it is called.
        options: its own.
        prediction: of the batch.
        batch: the batch.

    Raises:
        HesseValueError: a weight is below zero.
    """
    leaves, each, weight = pytree.tree_leaves(prediction), of_each(loss), options.get("weight")
    of_entries = weight if name in _BY_ENTRY else None
    if each is None and of_entries is None:
        return batch.targets, None
    target = batch.targets
    found: Any = 1.0
    if of_entries is not None:
        found = of_entries
        if loss.by_samples:  # the mean over the entries of a sample, too
            found = found * (len(leaves[0]) / leaves[0].numel())
    if each is None:
        times = [found.expand_as(leaf) for leaf in leaves]
    else:
        target, weights = target
        # Of a sample with several numbers their mean is weighed.
        weights = weights * (len(weights) / each(prediction, target).numel())
        times = [found * weights.reshape(-1, *(1,) * (leaf.ndim - 1)) for leaf in leaves]
    if any(bool((count < 0).any()) for count in times):
        raise HesseValueError(
            "curvature: a weight is below zero, and no label is drawn less than never; ask for"
            " curvature='gauss_newton'"
        )
    return target, times
