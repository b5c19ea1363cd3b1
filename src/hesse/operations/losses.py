"""Losses: of entries that are compared one by one, and of classes."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.graph.structures import Diagonal, RankOne
from hesse.operations import loss_formulas
from hesse.operations.loss_formulas import MEAN, SUM
from hesse.operations.record import (
    SUMMED,
    Axes,
    Formula,
    LossFunction,
    Operation,
    Positions,
    Shapes,
)

# ---------------------------------------------------------------- numbers


def _entrywise_second(op: Local, delta: Tensor) -> list[list[Diagonal]] | None:
    """Of a sum over entries: the diagonal is H·1, one product for all entries at once."""
    prediction = op.node.args[0].name
    # With a parameter in the targets, or without reduction, it is not this simple.
    if op.active != (prediction,) or op.node.shape != ():
        return None
    names = list(op.node.inputs)

    def diagonal(*inputs: Any) -> Tensor:
        given = dict(zip(names, inputs, strict=True))
        z = given[prediction]
        slope = grad(lambda z: op.function(given)(z).sum())
        return grad(lambda z: slope(z).sum())(z)

    # Each sample's own; what all samples share is not mapped over.
    axes = tuple(0 if op.is_batched(name) else None for name in names)
    entries = vmap(diagonal, in_dims=axes)(*(op.value(name) for name in names))
    return [[Diagonal(entries * delta.reshape(-1, *(1,) * (entries.ndim - 1)))]]


def _one_class(op: Local) -> tuple[Tensor, Tensor, Tensor] | None:
    """p, weight as wide as it, (n, 1, classes, ...ones), and class, (n,), of a cross entropy with
    one class for each sample."""
    logits, target, weight, reduction, ignore, smoothing = op.node.arguments(
        None, None, None, MEAN, -100, 0.0
    )
    z, y = op.value(logits.name), op.value(target.name)
    single = z.ndim >= 3 and z[0].numel() == z.shape[2] and y[0].numel() == 1
    if op.active != (logits.name,) or not single or not op.is_batched(target.name):
        return None
    # A mean divides by the class weight again; only a sum keeps it.
    if y.is_floating_point() or smoothing or (weight is not None and reduction != SUM):
        return None
    kept, y = (y != ignore).to(z.dtype), y.clamp(min=0)
    kept = kept if weight is None else kept * op.value(weight.name)[y]
    # PyTorch is five times as fast along the first axis where there are few classes.
    p = F.softmax(z.flatten(1).T, 0).T.contiguous().reshape(z.shape)
    return p, kept.reshape(-1, *(1,) * (z.ndim - 1)), y.flatten()


def _pull_cross_entropy(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """w (p − e_y): the derivative in the logits of one class target."""
    known = op.once(_one_class)
    if known is None:
        return None
    p, weight, y = known
    slope = weight * (p - F.one_hot(y, p.shape[2]).reshape(p.shape))
    return (columns.reshape(*columns.shape[:2], *(1,) * (p.ndim - 1)) * slope.unsqueeze(1),)


def _cross_entropy_second(op: Local, delta: Tensor) -> list[list[RankOne]] | None:
    """w (diag(p) − p pᵀ) in the logits of one class target; w is the class weight.

    Source: Bishop (2006), eq. 4.106, for one sample.
    """
    # √δ is taken below; δ < 0 goes the general way.
    known = op.once(_one_class)
    if known is None or bool((delta < 0).any()):
        return None
    # diag(w δ p) minus the outer product of √(w δ) p with itself: rank one, never built.
    p, weight, _ = known
    factor = weight * delta.reshape(weight.shape)
    return [[RankOne(factor * p, factor.sqrt() * p)]]


def _positions_over_classes(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Over the class axis; the target, a class for every position, lacks that axis."""
    logits, target, _, reduction, *_ = node.arguments(None, None, None, MEAN)
    axis, width = axes.get(logits.name), len(shapes[logits.name])
    classes = 1 if width > 1 else 0
    if set(axes) != {logits.name} or axis in (None, SUMMED, classes) or reduction != SUM:
        return None
    if len(shapes[target.name]) != width - 1:
        return None
    return {node.name: SUMMED, target.name: axis - (axis > classes)}


def _positions_over_entries(place: int) -> Positions:
    """Of a loss summed over entries, its reduction the argument at a place."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        refs = [argument.name for argument in node.args if isinstance(argument, Ref)]
        carried = set(axes.values())
        if (
            len(node.args) <= place
            or node.args[place] != SUM
            or len(carried) != 1
            or carried == {SUMMED}
        ):
            return None
        alike = len({shapes[name] for name in refs}) == 1
        return {node.name: SUMMED, **dict.fromkeys(refs, carried.pop())} if alike else None

    return follow


# ---------------------------------------------------------------- records


def _entrywise(
    name: str,
    module: type[nn.Module],
    formula: Formula | None = None,
    word: str = "",
    positions: Positions | None = None,
) -> Operation:
    """The record of a loss that is a sum over entries."""
    loss = LossFunction(function=getattr(F, name), module=module, word=word)
    return Operation(
        name=name,
        aten=name,
        second=_entrywise_second,
        positions=positions,
        formula=formula,
        loss=loss,
    )


def _by_samples(name: str, module: type[nn.Module]) -> Operation:
    """The record of a loss that goes the general way, and whose mean divides by the number of
    samples."""
    return Operation(
        name=name, loss=LossFunction(function=getattr(F, name), module=module, divisor="samples")
    )


RECORDS = [
    _entrywise(
        "mse_loss",
        nn.MSELoss,
        loss_formulas.squares,
        word="mse",
        positions=_positions_over_entries(2),
    ),
    Operation(
        name="cross_entropy",
        aten="cross_entropy_loss",
        pull=_pull_cross_entropy,
        second=_cross_entropy_second,
        positions=_positions_over_classes,
        formula=loss_formulas.cross_entropy,
        loss=LossFunction(
            function=F.cross_entropy,
            module=nn.CrossEntropyLoss,
            word="cross_entropy",
            divisor="class weights",
        ),
    ),
    _entrywise("l1_loss", nn.L1Loss, loss_formulas.absolute),
    _entrywise(
        "huber_loss", nn.HuberLoss, loss_formulas.parabola_then_lines("delta", relative=False)
    ),
    _entrywise(
        "smooth_l1_loss", nn.SmoothL1Loss, loss_formulas.parabola_then_lines("beta", relative=True)
    ),
    _entrywise("binary_cross_entropy", nn.BCELoss, loss_formulas.binary_of_probabilities),
    _entrywise(
        "binary_cross_entropy_with_logits",
        nn.BCEWithLogitsLoss,
        loss_formulas.binary_of_logits,
        word="bce",
        positions=_positions_over_entries(4),
    ),
    _entrywise("poisson_nll_loss", nn.PoissonNLLLoss, loss_formulas.poisson),
    # Of a mean and its variance, each of which the model may predict: it goes the general way.
    Operation(
        name="gaussian_nll_loss",
        loss=LossFunction(function=F.gaussian_nll_loss, module=nn.GaussianNLLLoss),
    ),
    _entrywise("soft_margin_loss", nn.SoftMarginLoss, loss_formulas.soft_margin),
    _entrywise("kl_div", nn.KLDivLoss, loss_formulas.divergence),
    _entrywise("hinge_embedding_loss", nn.HingeEmbeddingLoss),
    _by_samples("multi_margin_loss", nn.MultiMarginLoss),
    _by_samples("multilabel_margin_loss", nn.MultiLabelMarginLoss),
    _by_samples("multilabel_soft_margin_loss", nn.MultiLabelSoftMarginLoss),
    Operation(
        name="nll_loss",
        aten="nll_loss nll_loss_nd nll_loss2d",
        formula=loss_formulas.negative_log_likelihood,
        loss=LossFunction(function=F.nll_loss, module=nn.NLLLoss, divisor="class weights"),
    ),
]
