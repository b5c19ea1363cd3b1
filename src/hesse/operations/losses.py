"""Losses."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from hesse.derivation.calculus.algebra import add, scale, total
from hesse.derivation.calculus.expression import ONE, Apply, constant, grouped, of
from hesse.derivation.calculus.program import Leaf
from hesse.derivation.sources.networks.view import View, power, times
from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.graph.structures import Diagonal, RankOne
from hesse.operations.record import (
    SUMMED,
    Axes,
    Formula,
    LossFunction,
    Operation,
    Positions,
    Shapes,
)

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

# PyTorch's codes of a reduction.
MEAN, SUM = 1, 2

# ---------------------------------------------------------------- numbers


def _entrywise_second(op: Local, delta: Tensor) -> list[list[Diagonal]] | None:
    """Of a sum over entries: the diagonal is H·1, one product for all entries at once."""
    prediction = op.node.args[0].name
    if op.active != (prediction,) or op.node.shape != ():
        return None
    names = list(op.node.inputs)

    def diagonal(*inputs: Any) -> Tensor:
        given = dict(zip(names, inputs, strict=True))
        z = given[prediction]
        slope = grad(lambda z: op.function(given)(z).sum())
        return grad(lambda z: slope(z).sum())(z)

    axes = tuple(0 if op.is_batched(name) else None for name in names)
    entries = vmap(diagonal, in_dims=axes)(*(op.value(name) for name in names))
    return [[Diagonal(entries * delta.reshape(-1, *(1,) * (entries.ndim - 1)))]]


def _one_class(op: Local) -> tuple[Tensor, Tensor, Tensor] | None:
    """p, and weight and class as wide as it, (n, 1, classes, ...ones), of a cross entropy with one
    class for each sample."""
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
    one_hot = F.one_hot(y.flatten(), z.shape[2]).reshape(z.shape)
    return F.softmax(z, dim=2), kept.reshape(-1, *(1,) * (z.ndim - 1)), one_hot


def _pull_cross_entropy(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """w (p − e_y): the derivative in the logits of one class target."""
    known = _one_class(op)
    if known is None:
        return None
    p, weight, one_hot = known
    slope = weight * (p - one_hot)
    return (columns.reshape(*columns.shape[:2], *(1,) * (p.ndim - 1)) * slope.unsqueeze(1),)


def _cross_entropy_second(op: Local, delta: Tensor) -> list[list[RankOne]] | None:
    """w (diag(p) − p pᵀ) in the logits of one class target; w is the class weight.

    Source: Bishop (2006), eq. 4.106, for one sample.
    """
    known = _one_class(op)
    if known is None or bool((delta < 0).any()):
        return None
    p, weight, _ = known
    factor = weight * delta.reshape(weight.shape)
    return [[RankOne(factor * p, factor.sqrt() * p)]]


def _classes_apart(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Over the class axis; the target, a class for every position, lacks that axis."""
    logits, target, _, reduction, *_ = node.arguments(None, None, None, MEAN)
    axis, width = axes.get(logits.name), len(shapes[logits.name])
    classes = 1 if width > 1 else 0
    if set(axes) != {logits.name} or axis in (None, SUMMED, classes) or reduction != SUM:
        return None
    if len(shapes[target.name]) != width - 1:
        return None
    return {node.name: SUMMED, target.name: axis - (axis > classes)}


def _entries_apart(place: int) -> Positions:
    """Of a loss summed over entries, its reduction the argument at a place."""

    def follow(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
        refs = [argument.name for argument in node.args if isinstance(argument, Ref)]
        found = set(axes.values())
        if (
            len(node.args) <= place
            or node.args[place] != SUM
            or len(found) != 1
            or found == {SUMMED}
        ):
            return None
        alike = len({shapes[name] for name in refs}) == 1
        return {node.name: SUMMED, **dict.fromkeys(refs, found.pop())} if alike else None

    return follow


# ---------------------------------------- formulas, of losses that compare entry by entry


def _reduced(view: View, reduction: int) -> View:
    """The entries themselves, their mean or their sum."""
    if reduction not in (MEAN, SUM):
        return view
    return View(
        scale(
            total(view.expression, view.indices),
            Fraction(1, math.prod(view.shape)) if reduction == MEAN else 1,
        )
    )


def _difference(call: "Call", named: bool) -> View:
    """ŷ − y, each with a name or given."""
    view = call.combined(call.node.args[0], call.node.args[1], lambda a, b: add(a, scale(b, -1)))
    return call.build.settled(view) if named else view


def _squares(call: "Call") -> View:
    apart = _difference(call, named=False)
    return _reduced(
        View(power(apart.expression, constant(2)), apart.axes), call.option(2, "reduction", MEAN)
    )


def _absolute(call: "Call") -> View:
    apart = _difference(call, named=True)
    return _reduced(
        View(of(Apply("abs", 0, grouped(apart.expression))), apart.axes),
        call.option(2, "reduction", MEAN),
    )


def _rounded(name: str, option: str, loss: Callable[..., Tensor]) -> Formula:
    """A parabola that goes over into straight lines: a function of the difference."""

    def formula(call: "Call") -> View:
        *_, reduction, width = call.arguments(("", 0), ("", 0), ("reduction", MEAN), (option, 1.0))

        def value(u: Tensor) -> Tensor:
            return loss(u, torch.zeros_like(u), reduction="none", **{option: width})

        apart = _difference(call, named=True)
        call.build.functions[name] = value
        return _reduced(View(of(Apply(name, 0, grouped(apart.expression))), apart.axes), reduction)

    return formula


def _binary_of_logits(call: "Call") -> View | None:
    """Σ softplus(z) − y z"""
    z, y, weight, positive, reduction = call.arguments(
        ("self", None),
        ("target", None),
        ("weight", None),
        ("pos_weight", None),
        ("reduction", MEAN),
    )
    if weight is not None or positive is not None:
        return None
    logits = call.build.settled(call.operand(z))
    (a, target), axes = call.build.aligned([logits, call.operand(y)])
    return _reduced(
        View(add(of(Apply("softplus", 0, grouped(a))), scale(times(target, a), -1)), axes),
        reduction,
    )


def _binary_of_probabilities(call: "Call") -> View | None:
    """−Σ y log p + (1 − y) log(1 − p)"""
    p, y, weight, reduction = call.arguments(
        ("self", None), ("target", None), ("weight", None), ("reduction", MEAN)
    )
    if weight is not None:
        return None
    build = call.build
    chance = build.settled(call.operand(p))
    other = build.settled(View(add(ONE, scale(chance.expression, -1)), chance.axes))
    (a, b, target), axes = build.aligned([chance, other, call.operand(y)])
    log, log_other = (of(Apply("log", 0, grouped(value))) for value in (a, b))
    value = add(times(target, log), times(add(ONE, scale(target, -1)), log_other))
    return _reduced(View(scale(value, -1), axes), reduction)


def _poisson(call: "Call") -> View | None:
    """Σ exp z − y z"""
    z, y, log_input, full, _, reduction = call.arguments(
        ("input", None),
        ("target", None),
        ("log_input", True),
        ("full", False),
        ("eps", 1e-8),
        ("reduction", MEAN),
    )
    if not log_input or full:
        return None
    rate = call.build.settled(call.operand(z))
    (a, target), axes = call.build.aligned([rate, call.operand(y)])
    return _reduced(
        View(add(of(Apply("exp", 0, grouped(a))), scale(times(target, a), -1)), axes), reduction
    )


def _soft_margin(call: "Call") -> View:
    """Σ softplus(−y z)"""
    margin = call.build.settled(
        call.combined(call.node.args[0], call.node.args[1], lambda z, y: scale(times(y, z), -1))
    )
    loss = View(of(Apply("softplus", 0, grouped(margin.expression))), margin.axes)
    return _reduced(loss, call.option(2, "reduction", MEAN))


# ---------------------------------------- formulas, of losses that compare classes


def _cross_entropy(call: "Call") -> View | None:
    """Σ_t logsumexp(z_t) − Σ_tk y[t,k] z[t,k]"""
    z, target, weight, reduction, ignored, smoothing = call.arguments(
        ("self", None),
        ("target", None),
        ("weight", None),
        ("reduction", MEAN),
        ("ignore_index", -100),
        ("label_smoothing", 0.0),
    )
    if reduction not in (MEAN, SUM):
        return None
    logits = call.build.settled(call.operand(z))
    axis = 1 if len(logits.axes) > 1 else 0
    y = _targets(call, logits, axis, target, weight, reduction, ignored, smoothing)
    if y is None:
        return None
    above = call.build.whole("logsumexp", logits, axis, keeps=False)
    labels = list(range(len(logits.axes)))
    (value, shares), along = call.build.unified([logits, y], [labels, labels])
    kept = [k for k in labels if k != axis]
    (shares_too, level), beside = call.build.unified([y, above], [labels, kept])
    every = [index for k in labels for index in along[k]]
    if call.build.leaves[_leaf_name(y)].sums_to == 1:
        first = total(above.expression, above.indices)
    else:
        first = total(times(shares_too, level), [index for k in labels for index in beside[k]])
    return View(add(first, scale(total(times(shares, value), every), -1)))


def _negative_log_likelihood(call: "Call") -> View | None:
    """−Σ_tk y[t,k] log p[t,k]"""
    z, target, weight, reduction, ignored = call.arguments(
        ("self", None),
        ("target", None),
        ("weight", None),
        ("reduction", MEAN),
        ("ignore_index", -100),
    )
    if reduction not in (MEAN, SUM):
        return None
    log_p = call.build.operand(call.operand(z))
    axis = 1 if len(log_p.axes) > 1 else 0
    y = _targets(call, log_p, axis, target, weight, reduction, ignored, 0.0)
    if y is None:
        return None
    labels = list(range(len(log_p.axes)))
    (value, shares), along = call.build.unified([log_p, y], [labels, labels])
    return View(
        scale(total(times(shares, value), [index for k in labels for index in along[k]]), -1)
    )


def _leaf_name(view: View) -> str:
    entry = view.entry
    assert entry is not None
    return entry.name


def _targets(
    call: "Call",
    logits: View,
    axis: int,
    target: Ref,
    weight: Any,
    reduction: int,
    ignored: int,
    smoothing: float,
) -> View | None:
    """How much each class counts at each place: one-hot targets, or those with weights, smoothing
    and what is ignored put in."""
    given, weights = call.value(target.name), None
    if given is None or (isinstance(weight, Ref) and (weights := call.known(weight.name)) is None):
        return None
    classes = logits.shape[axis]
    rest = [size for k, size in enumerate(logits.shape) if k != axis]
    numbers = len(call.shape(target.name)) < len(logits.axes)
    plain = (
        numbers and weights is None and not smoothing and call.plain_targets(target.name, ignored)
    )
    alone = math.prod(rest) == 1

    def shares(values: dict[str, Any]) -> Tensor:
        y = given(values)
        if numbers:
            y = y.reshape(rest)
            there = y != ignored
            hot = F.one_hot(torch.where(there, y, 0), classes).double()
        else:
            there, hot = torch.ones(rest, dtype=torch.bool), y.double().movedim(axis, -1)
        w = torch.ones(classes, dtype=torch.float64) if weights is None else weights.double()
        # PyTorch smooths a class number to (1 − ε) [k = y] w_y + ε/K w_k, and class probabilities
        # before they are weighed.
        full = ((1 - smoothing) * hot + smoothing / classes) * w * there[..., None]
        if reduction == MEAN:
            count = (
                (hot * w).sum(-1)[there].sum() if numbers else torch.tensor(float(math.prod(rest)))
            )
            full = full / count
        return full.reshape(*(size for size in rest if size > 1), classes)

    sums = 1 if plain and (reduction == SUM or alone) else None
    sizes = [size for size in rest if size > 1]
    leaf = Leaf(call.build.name("y"), (*sizes, classes), "data", sums_to=sums, per_sample=True)
    # The letters of the logits, so that the formula needs no others.
    view = call.build.leaf(leaf, [*["token"] * len(sizes), "output"], shares)
    letters = iter(view.axes)
    axes = [next(letters) if size > 1 else () for size in rest]
    return View(view.expression, (*axes[:axis], *letters, *axes[axis:]))


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
    _entrywise("mse_loss", nn.MSELoss, _squares, word="mse", positions=_entries_apart(2)),
    Operation(
        name="cross_entropy",
        aten="cross_entropy_loss",
        pull=_pull_cross_entropy,
        second=_cross_entropy_second,
        positions=_classes_apart,
        formula=_cross_entropy,
        loss=LossFunction(
            function=F.cross_entropy,
            module=nn.CrossEntropyLoss,
            word="cross_entropy",
            divisor="class weights",
        ),
    ),
    _entrywise("l1_loss", nn.L1Loss, _absolute),
    _entrywise("huber_loss", nn.HuberLoss, _rounded("huber", "delta", F.huber_loss)),
    _entrywise("smooth_l1_loss", nn.SmoothL1Loss, _rounded("smooth_l1", "beta", F.smooth_l1_loss)),
    _entrywise("binary_cross_entropy", nn.BCELoss, _binary_of_probabilities),
    _entrywise(
        "binary_cross_entropy_with_logits",
        nn.BCEWithLogitsLoss,
        _binary_of_logits,
        word="bce",
        positions=_entries_apart(4),
    ),
    _entrywise("poisson_nll_loss", nn.PoissonNLLLoss, _poisson),
    _entrywise("soft_margin_loss", nn.SoftMarginLoss, _soft_margin),
    _entrywise("kl_div", nn.KLDivLoss),
    _entrywise("hinge_embedding_loss", nn.HingeEmbeddingLoss),
    _by_samples("multi_margin_loss", nn.MultiMarginLoss),
    _by_samples("multilabel_margin_loss", nn.MultiLabelMarginLoss),
    _by_samples("multilabel_soft_margin_loss", nn.MultiLabelSoftMarginLoss),
    Operation(
        name="nll_loss",
        aten="nll_loss nll_loss_nd nll_loss2d",
        formula=_negative_log_likelihood,
        loss=LossFunction(function=F.nll_loss, module=nn.NLLLoss, divisor="class weights"),
    ),
]
