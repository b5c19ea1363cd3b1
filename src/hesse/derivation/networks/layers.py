"""Rules for embedding, normalisation, softmax and attention's masks."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.capture.rewrites import causal, masked, scale_shift, standardise
from hesse.derivation.algebra import add, scale, total
from hesse.derivation.expression import Entry, Index, constant, of
from hesse.derivation.networks.registry import Call, rule
from hesse.derivation.networks.view import View, length, number, power, times
from hesse.derivation.program import Leaf
from hesse.graph.graph import Ref

# ---------------------------------------------------------------- embedding


@rule("embedding")
def _embedding(call: Call) -> View | None:
    """z[t,d] = Σ_w W[w,d] [w = x_t]"""
    weight, ids, padding = call.arguments(("weight", None), ("indices", None), ("padding_idx", -1))
    given = call.value(ids.name)
    build, W = call.build, call.operand(weight)
    words = W.shape[0]
    if given is None or padding >= 0:  # the row of a padding word has a value and, by PyTorch's rule, no derivative
        return None
    shape = call.node.shape[:-1]
    sizes = [size for size in shape if size > 1]
    label = ids.name if ids.name not in build.leaves else f"{ids.name}′"
    at = "_{0}" if len(sizes) == 1 else f"[{','.join(f'{{{k}}}' for k in range(len(sizes)))}]" if sizes else ""
    leaf = Leaf(
        build.name(f"onehot({label})"),
        (*sizes, words),
        "data",
        sums_to=1,
        per_sample=True,
        shown=f"[{{{len(sizes)}}} = {label}{at}]",
    )
    hot = build.leaf(leaf, [*_token_kinds(len(sizes)), "word"], lambda values: F.one_hot(given(values).reshape(sizes), words))
    letters = iter(hot.axes)
    axes = tuple(next(letters) if size > 1 else () for size in shape)
    hot = View(hot.expression, (*axes, *letters))
    lead = list(range(len(shape)))
    return build.slot(build.contract([W, hot], [["w", "d"], [*lead, "w"]], [*lead, "d"]))


def _token_kinds(rank: int) -> list[str]:
    return [*["part"] * (rank - 1), "token"] if rank else []


# ---------------------------------------------------------------- normalisation


def _standardised(call: Call, view: View, axes: Sequence[int], eps: float) -> View:
    """(x − μ) / √(σ² + ε) with μ and σ² over some axes."""
    build = call.build
    view = build.settled(view)
    label = build.label(call.node.name)

    def mean(value: Any) -> Any:
        count = Fraction(1, math.prod(length(view.axes[axis]) for axis in axes))
        return scale(total(value, [index for axis in axes for index in view.axes[axis]]), count)

    kept = tuple(() if k in axes else axis for k, axis in enumerate(view.axes))
    centre = build.named(View(mean(view.expression), kept), build.name(f"μ({label})"), note="the mean")
    apart = View(add(view.expression, scale(centre.expression, -1)), view.axes)
    apart = build.named(apart, build.name(f"c({label})"), note="the distance from the mean")
    squares = mean(power(apart.expression, constant(2)))
    spread = build.named(View(add(squares, number(eps)), kept), build.name(f"v({label})"), note="the variance, and ε")
    normal = View(times(apart.expression, power(spread.expression, constant(Fraction(-1, 2)))), view.axes)
    return build.named(normal, build.name(f"n({label})"), note="mean 0, variance 1")


@rule("layer_norm")
def _layer_norm(call: Call) -> View | None:
    x, normalised, weight, bias, eps = call.arguments(
        ("input", None), ("normalized_shape", None), ("weight", None), ("bias", None), ("eps", 1e-5)
    )
    if weight is not None or bias is not None:
        return None
    view = call.operand(x)
    return _standardised(call, view, range(len(view.axes) - len(normalised), len(view.axes)), eps)


@rule("instance_norm")
def _instance_norm(call: Call) -> View | None:
    x, weight, bias, *_, eps = call.arguments(
        ("input", None), ("weight", None), ("bias", None), ("running_mean", None), ("running_var", None),
        ("use_input_stats", True), ("momentum", 0.1), ("eps", 1e-5),
    )  # fmt: skip
    use = call.node.args[5] if len(call.node.args) > 5 else True
    if weight is not None or bias is not None or not use:
        return None
    view = call.operand(x)
    return _standardised(call, view, range(2, len(view.axes)), eps)


@rule("group_norm")
def _group_norm(call: Call) -> View | None:
    from hesse.derivation.networks.maps import reshaped

    x, groups, weight, bias, eps = call.arguments(("input", None), ("groups", 1), ("weight", None), ("bias", None), ("eps", 1e-5))
    if weight is not None or bias is not None:
        return None
    view = call.operand(x)
    batch, channels, *rest = view.shape
    parted = reshaped(call.build, view, (batch, groups, channels // groups, *rest))
    return reshaped(call.build, _standardised(call, parted, range(2, len(parted.axes)), eps), view.shape)


@rule(standardise)
def _running(call: Call) -> View:
    """BatchNorm with its running statistics: numbers, so that this is a scale and a shift."""
    x, mean, variance, eps = call.node.args[:4]
    view = call.operand(x)
    channels = [list(range(len(view.axes))), [1]]
    spread = call.known(variance.name) if isinstance(variance, Ref) else None
    assert spread is not None, "running statistics are fixed"
    slope = (spread.double() + eps).rsqrt()
    rate = of(Entry(call.build.constant(f"1/σ({call.build.label(call.node.name)})", slope), (Index("*rate", len(slope)),)))
    (value, centre), along = call.build.unified([view, call.operand(mean)], channels)
    apart = View(add(value, scale(centre, -1)), tuple(along[k] for k in range(len(view.axes))))
    (value, factor), along = call.build.unified([apart, View(rate, ((Index("*rate", len(slope)),),))], channels)
    result = View(times(factor, value), tuple(along[k] for k in range(len(view.axes))))
    return call.build.named(
        result, call.build.name(f"n({call.build.label(call.node.name)})"), note="by the running mean and variance"
    )


@rule(scale_shift)
def _scale_shift(call: Call) -> View:
    x, weight, bias, axis = call.node.args
    view = call.build.operand(call.operand(x))
    rank = len(view.axes)
    labels = list(range(rank))
    if weight is not None:
        gamma = call.operand(weight)
        own = labels[axis % rank : axis % rank + len(gamma.axes)]
        (value, factor), along = call.build.unified([view, gamma], [labels, own])
        view = View(times(factor, value), tuple(along[k] for k in labels))
    if bias is not None:
        beta = call.operand(bias)
        own = labels[axis % rank : axis % rank + len(beta.axes)]
        (value, added), along = call.build.unified([view, beta], [labels, own])
        view = View(add(value, added), tuple(along[k] for k in labels))
    return call.build.slot(view)


# ---------------------------------------------------------------- softmax and masks

# exp of this is zero in float64, as exp(−∞) is, and differences of it are not undefined.
_NEVER = -1e5


@rule("softmax _softmax")
def _softmax(call: Call) -> View:
    view = call.operand(call.node.args[0])
    return call.build.whole("softmax", view, call.node.args[1] % len(view.axes), base="p")


@rule("log_softmax _log_softmax")
def _log_softmax(call: Call) -> View:
    view = call.operand(call.node.args[0])
    return call.build.whole("log_softmax", view, call.node.args[1] % len(view.axes))


@rule("logsumexp")
def _logsumexp(call: Call) -> View | None:
    x, dims, keep = call.arguments(("self", None), ("dim", None), ("keepdim", False))
    view = call.operand(x)
    if len(dims) != 1:
        return None
    axis = dims[0] % len(view.axes)
    result = call.build.whole("logsumexp", view, axis)
    return View(result.expression, (*result.axes[:axis], (), *result.axes[axis:])) if keep else result


@rule(causal)
def _causal(call: Call) -> View:
    """Scores of later keys are as good as −∞."""
    view = call.operand(call.node.args[0])
    return _added(call, view, torch.full(view.shape[-2:], _NEVER, dtype=torch.float64).triu(1))


def _added(call: Call, view: View, mask: Tensor) -> View:
    name = call.build.constant("mask", mask)
    at = [Index(f"*mask{k}", size) for k, size in enumerate(mask.shape)]
    (value, added), axes = call.build.aligned([view, View(of(Entry(name, tuple(at))), tuple((index,) for index in at))])
    return View(add(value, added), axes)


@rule(masked)
def _masked(call: Call) -> View | None:
    scores, mask = call.node.args[:2]
    return _under(call, scores, mask, lambda m: (~m).double() * _NEVER if m.dtype == torch.bool else m.double().clamp(min=_NEVER))


@rule("masked_fill")
def _masked_fill(call: Call) -> View | None:
    x, mask, fill = call.node.args[:3]
    if isinstance(fill, Ref):
        return None
    if fill == -math.inf or fill <= _NEVER:
        return _under(call, x, mask, lambda m: m.double() * _NEVER)
    (value, m), axes = call.build.aligned([call.operand(x), call.operand(mask)])
    kept = add(constant(1), scale(m, -1))
    return View(add(times(kept, value), times(number(fill), m)), axes)


def _under(call: Call, scores: Any, mask: Ref, added: Any) -> View | None:
    known, given = call.known(mask.name), call.value(mask.name)
    if known is not None:
        return _added(call, call.operand(scores), added(known))
    if given is None:
        return None
    sizes = [size for size in call.shape(mask.name) if size > 1]
    leaf = Leaf(call.build.name("mask"), tuple(sizes), "data", per_sample=True)
    view = call.build.leaf(leaf, ["token"] * len(sizes), lambda values: added(given(values)).reshape(sizes))
    letters = iter(view.axes)
    view = view.over(next(letters) if size > 1 else () for size in call.shape(mask.name))
    (value, more), axes = call.build.aligned([call.operand(scores), view])
    return View(add(value, more), axes)
