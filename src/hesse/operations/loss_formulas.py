"""The formulas of losses, as records of `hesse.operations.losses` have them."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.derivation.calculus.algebra import add, scale, total
from hesse.derivation.calculus.expression import ONE, Apply, constant, grouped, of
from hesse.derivation.calculus.program import Leaf
from hesse.derivation.sources.networks.view import View, number, power, times
from hesse.graph.graph import Ref
from hesse.operations.record import Formula

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.builder import Given
    from hesse.derivation.sources.networks.call import Call

# PyTorch's codes of a reduction.
MEAN, SUM = 1, 2

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


def squares(call: "Call") -> View:
    difference = _difference(call, named=False)
    return _reduced(
        View(power(difference.expression, constant(2)), difference.axes),
        call.option(2, "reduction", MEAN),
    )


def absolute(call: "Call") -> View:
    difference = _difference(call, named=True)
    return _reduced(
        View(of(Apply("abs", 0, grouped(difference.expression))), difference.axes),
        call.option(2, "reduction", MEAN),
    )


def parabola_then_lines(option: str, relative: bool) -> Formula:
    """A parabola that goes over into straight lines where |u| reaches a width w, u = ŷ − y:
    s u²/2 + (1 − s) (w |u| − w²/2) with s = [|u| < w]; its slope is s u + (1 − s) w sign u, its
    second derivative s. Divided by w where it is ``relative``, as smooth L1 is."""

    def formula(call: "Call") -> View:
        *_, reduction, width = call.arguments(("", 0), ("", 0), ("reduction", MEAN), (option, 1.0))
        difference = _difference(call, named=True)
        u, w = difference.expression, number(width)
        size = of(Apply("abs", 0, grouped(u)))
        if not width:  # smooth L1 of width 0 is L1
            return _reduced(View(size, difference.axes), reduction)
        margin = call.build.settled(View(add(w, scale(size, -1)), difference.axes))
        inside = of(Apply("step", 0, grouped(margin.expression)))
        outside = add(ONE, scale(inside, -1))
        parabola = scale(power(u, constant(2)), Fraction(1, 2))
        line = add(times(w, size), scale(times(w, w), Fraction(-1, 2)))
        value = add(times(inside, parabola), times(outside, line))
        share = number(1 / width if relative else 1)
        return _reduced(View(times(share, value), difference.axes), reduction)

    return formula


def binary_of_logits(call: "Call") -> View | None:
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
    (a, target), axes = call.build.axes.broadcast([logits, call.operand(y)])
    return _reduced(
        View(add(of(Apply("softplus", 0, grouped(a))), scale(times(target, a), -1)), axes),
        reduction,
    )


def binary_of_probabilities(call: "Call") -> View | None:
    """−Σ y log p + (1 − y) log(1 − p)"""
    p, y, weight, reduction = call.arguments(
        ("self", None), ("target", None), ("weight", None), ("reduction", MEAN)
    )
    if weight is not None:
        return None
    build = call.build
    chance = build.settled(call.operand(p))
    other = build.settled(View(add(ONE, scale(chance.expression, -1)), chance.axes))
    (a, b, target), axes = build.axes.broadcast([chance, other, call.operand(y)])
    log, log_other = (of(Apply("log", 0, grouped(value))) for value in (a, b))
    value = add(times(target, log), times(add(ONE, scale(target, -1)), log_other))
    return _reduced(View(scale(value, -1), axes), reduction)


def poisson(call: "Call") -> View | None:
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
    (a, target), axes = call.build.axes.broadcast([rate, call.operand(y)])
    return _reduced(
        View(add(of(Apply("exp", 0, grouped(a))), scale(times(target, a), -1)), axes), reduction
    )


# What gives a leaf its array is a function of a module, with what it needs: one within a function
# could not be pickled with the derivation.
def _entropy(given: "Given", log_target: bool, values: dict[str, Any]) -> Tensor:
    """Σ y log y"""
    target = given(values).double()
    return (target.exp() * target if log_target else torch.xlogy(target, target)).sum()


def divergence(call: "Call") -> View | None:
    """Σ y (log y − z), of log-probabilities z"""
    z, y, reduction, log_target = call.arguments(
        ("self", None), ("target", None), ("reduction", MEAN), ("log_target", False)
    )
    given = call.value(y.name) if isinstance(y, Ref) else None
    if given is None or reduction not in (MEAN, SUM):
        return None
    log_p = call.build.settled(call.operand(z))
    share = Fraction(1, math.prod(log_p.shape)) if reduction == MEAN else 1
    # It does not move, and 0 log 0 is 0: a number for each sample.
    entropy = Leaf(call.build.name("h"), (), "data", per_sample=True)
    leaf = call.build.leaf(entropy, [], partial(_entropy, given, log_target))
    weights = call.operand(y)
    if log_target:
        weights = View(of(Apply("exp", 0, grouped(weights.expression))), weights.axes)
    (value, weight), axes = call.build.axes.broadcast([log_p, weights])
    crossed = View(times(weight, value), axes)
    whole = add(leaf.expression, scale(total(crossed.expression, crossed.indices), -1))
    return View(scale(whole, share))


def soft_margin(call: "Call") -> View:
    """Σ softplus(−y z)"""
    margin = call.build.settled(
        call.combined(call.node.args[0], call.node.args[1], lambda z, y: scale(times(y, z), -1))
    )
    loss = View(of(Apply("softplus", 0, grouped(margin.expression))), margin.axes)
    return _reduced(loss, call.option(2, "reduction", MEAN))


# ---------------------------------------- formulas, of losses that compare classes


def cross_entropy(call: "Call") -> View | None:
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
    (value, shares), along = call.build.axes.unified([logits, y], [labels, labels])
    kept = [k for k in labels if k != axis]
    (shares_too, level), beside = call.build.axes.unified([y, above], [labels, kept])
    every = [index for k in labels for index in along[k]]
    # Targets that add to one over the classes leave logsumexp alone: Σ_k y_k lse = lse.
    if call.build.leaves[_leaf_name(y)].sums_to == 1:
        first = total(above.expression, above.indices)
    else:
        first = total(times(shares_too, level), [index for k in labels for index in beside[k]])
    return View(add(first, scale(total(times(shares, value), every), -1)))


def negative_log_likelihood(call: "Call") -> View | None:
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
    axis = 1 if len(log_p.axes) > 1 else 0  # of the classes, as PyTorch has it
    y = _targets(call, log_p, axis, target, weight, reduction, ignored, 0.0)
    if y is None:
        return None
    labels = list(range(len(log_p.axes)))
    (value, shares), along = call.build.axes.unified([log_p, y], [labels, labels])
    return View(
        scale(total(times(shares, value), [index for k in labels for index in along[k]]), -1)
    )


def _leaf_name(view: View) -> str:
    entry = view.entry
    assert entry is not None
    return entry.name


def _shares(
    given: "Given",
    weights: Tensor | None,
    rest: Sequence[int],
    axis: int,
    classes: int,
    numbers: bool,
    ignored: int,
    smoothing: float,
    mean: bool,
    values: dict[str, Any],
) -> Tensor:
    """How much each class counts at each place, for the targets of one sample."""
    y = given(values)
    if numbers:
        y = y.reshape(rest)
        counted = y != ignored
        hot = F.one_hot(torch.where(counted, y, 0), classes).double()
    else:
        counted, hot = torch.ones(rest, dtype=torch.bool), y.double().movedim(axis, -1)
    w = torch.ones(classes, dtype=torch.float64) if weights is None else weights.double()
    # PyTorch smooths a class number to (1 − ε) [k = y] w_y + ε/K w_k, and class probabilities
    # before they are weighed.
    full = ((1 - smoothing) * hot + smoothing / classes) * w * counted[..., None]
    if mean:
        count = (
            (hot * w).sum(-1)[counted].sum() if numbers else torch.tensor(float(math.prod(rest)))
        )
        full = full / count
    return full.reshape(*(size for size in rest if size > 1), classes)


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
    # Targets that depend on a parameter, and class weights that do, have no such leaf.
    given, weights = call.value(target.name), None
    if given is None or (isinstance(weight, Ref) and (weights := call.known(weight.name)) is None):
        return None
    classes = logits.shape[axis]
    rest = [size for k, size in enumerate(logits.shape) if k != axis]
    numbers = len(call.shape(target.name)) < len(logits.axes)
    one_hot = (
        numbers and weights is None and not smoothing and call.plain_targets(target.name, ignored)
    )
    single = math.prod(rest) == 1

    shares = partial(
        _shares, given, weights, rest, axis, classes, numbers, ignored, smoothing, reduction == MEAN
    )
    # Only where it is known that every sample's targets add to one; else Σ_k y_k stays in the
    # formula.
    sums = 1 if one_hot and (reduction == SUM or single) else None
    sizes = [size for size in rest if size > 1]
    leaf = Leaf(call.build.name("y"), (*sizes, classes), "data", sums_to=sums, per_sample=True)
    # The letters of the logits, so that the formula needs no others.
    view = call.build.leaf(leaf, [*["token"] * len(sizes), "output"], shares)
    letters = iter(view.axes)
    axes = [next(letters) if size > 1 else () for size in rest]
    return View(view.expression, (*axes[:axis], *letters, *axes[axis:]))
