"""Rules for arithmetic, elementwise functions, sums and index maps."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from hesse.derivation.algebra import add, scale, total
from hesse.derivation.expression import ONE, Apply, Expression, constant, grouped, of
from hesse.derivation.functions import FUNCTIONS
from hesse.derivation.networks import maps
from hesse.derivation.networks.registry import Call, rule
from hesse.derivation.networks.view import View, length, number, power, times
from hesse.graph.graph import Ref

aten = torch.ops.aten

# ---------------------------------------------------------------- arithmetic


def combined(call: Call, a: Any, b: Any, how: Callable[[Expression, Expression], Expression]) -> View:
    """Two operands with broadcasting."""
    (left, right), axes = call.build.aligned([call.operand(a), call.operand(b)])
    return View(how(left, right), axes)


@rule("add sub")
def _add(call: Call) -> View:
    a, b, alpha = call.arguments(("self", None), ("other", None), ("alpha", 1))
    sign = -1 if "sub" in str(call.node.op) else 1
    return combined(call, a, b, lambda left, right: add(left, times(number(sign * alpha), right)))


@rule("rsub")
def _rsub(call: Call) -> View:
    a, b, alpha = call.arguments(("self", None), ("other", None), ("alpha", 1))
    return combined(call, b, a, lambda left, right: add(left, times(number(-alpha), right)))


@rule("neg")
def _negative(call: Call) -> View:
    view = call.operand(call.node.args[0])
    return View(scale(view.expression, -1), view.axes)


@rule("mul")
def _product(call: Call) -> View:
    return combined(call, call.node.args[0], call.node.args[1], times)


@rule("div")
def _quotient(call: Call) -> View | None:
    if call.node.kwargs.get("rounding_mode"):
        return None
    a, b = call.node.args[:2]
    if not isinstance(b, Ref):
        view = call.operand(a)
        return View(times(_reciprocal(b), view.expression), view.axes)
    return combined(call, a, b, lambda left, right: times(left, power(right, constant(-1))))


def _reciprocal(value: float) -> Expression:
    return constant(Fraction(1, int(value))) if float(value).is_integer() and value else number(1 / value)


@rule("pow")
def _power(call: Call) -> View:
    base, exponent = call.node.args[:2]
    if isinstance(exponent, Ref):
        return combined(call, base, exponent, power)
    view = call.operand(base)
    return View(power(view.expression, number(exponent)), view.axes)


# Functions that are powers, or sums with a function in them.
_POWERS = {"square": Fraction(2), "sqrt": Fraction(1, 2), "rsqrt": Fraction(-1, 2), "reciprocal": Fraction(-1)}


@rule(*_POWERS)
def _named_power(call: Call) -> View:
    view = call.operand(call.node.args[0])
    exponent = _POWERS[_operation(call)]
    if exponent != 2:
        view = call.build.operand(view)
    return View(power(view.expression, constant(exponent)), view.axes)


@rule("gt lt ge le")
def _comparison(call: Call) -> View:
    """[a > b] as a step of a − b."""
    a, b = call.node.args[:2]
    name = _operation(call)
    if name in ("lt", "ge"):
        a, b = b, a
    difference = call.build.settled(combined(call, a, b, lambda left, right: add(left, scale(right, -1))))
    step = of(Apply("step", 0, grouped(difference.expression)))
    return View(step if name in ("gt", "lt") else add(ONE, scale(step, -1)), difference.axes)


@rule("where")
def _where(call: Call) -> View | None:
    if len(call.node.args) != 3:
        return None
    (m, a, b), axes = call.build.aligned([call.operand(argument) for argument in call.node.args])
    return View(add(times(m, a), times(add(ONE, scale(m, -1)), b)), axes)


# ---------------------------------------------------------------- elementwise functions

# ATen's name for a function that hesse's table has by another, and in which form.
_TABLE = {name: name for name in FUNCTIONS if name not in ("step", "normcdf", "normpdf", "sign")}
# Functions without a row: f' and f'' stay symbols, and automatic differentiation gives their values.
_WITHOUT_ROW = (
    "elu selu celu leaky_relu relu6 hardtanh hardswish hardsigmoid hardshrink softshrink threshold mish log_sigmoid tanhshrink "
    "clamp clamp_min clamp_max cosh sinh tan asin acos atan asinh acosh atanh expm1 log1p log2 log10 exp2 erfc erfinv logit "
    "lgamma digamma softplus gelu i0 sinc special_ndtr special_log_ndtr rrelu"
)


@rule(*_TABLE, _WITHOUT_ROW)
def _elementwise(call: Call) -> View | None:
    name = _operation(call)
    first, *options = call.node.args
    if any(isinstance(option, Ref) for option in (*options, *call.node.kwargs.values())) or (
        name == "rrelu" and options[2:3] == [True]
    ):
        return None
    standard = (name == "softplus" and options in ([], [1.0, 20.0], [1, 20])) or (
        name == "gelu" and call.node.kwargs.get("approximate", "none") == "none"
    )
    if name in _TABLE and (standard or not (options or call.node.kwargs)):
        return call.build.apply(name, call.operand(first))
    op, keywords = call.node.op, dict(call.node.kwargs)

    def value(z: Tensor) -> Tensor:
        return op(z, *options, **keywords)

    return call.build.apply(_variant(call, name, (tuple(options), tuple(keywords.items()))), call.operand(first), value)


def _variant(call: Call, name: str, options: Any) -> str:
    """A name for a function with options: the plain one, or with a number where other options have it already."""
    known = call.build.variants.setdefault(name, [])
    if repr(options) not in known:
        known.append(repr(options))
    place = known.index(repr(options)) + 1
    return name if place == 1 and name not in FUNCTIONS else f"{name}{place + (name in FUNCTIONS)}"


def _operation(call: Call) -> str:
    return str(call.node.op).split(".")[1].rstrip("_")


# ---------------------------------------------------------------- sums


@rule("sum mean")
def _sum(call: Call) -> View:
    view = call.operand(call.node.args[0])
    dims, keep = call.arguments(("self", None), ("dim", None), ("keepdim", False))[1:]
    axes = _axes(dims, view)
    factor = Fraction(1, math.prod(length(view.axes[axis]) for axis in axes)) if "mean" in str(call.node.op) else Fraction(1)
    return View(scale(_summed(view, axes), factor), _left(view, axes, keep))


@rule("linalg_vector_norm norm")
def _norm(call: Call) -> View | None:
    if "linalg" in str(call.node.op):
        _, order, dims, keep = call.arguments(("self", None), ("ord", 2), ("dim", None), ("keepdim", False))
    else:
        _, order, dims, keep = call.arguments(("self", None), ("p", 2), ("dim", None), ("keepdim", False))
    if order not in (2, 2.0):
        return None
    view = call.build.operand(call.operand(call.node.args[0]))
    axes = _axes(dims, view)
    squares = call.build.settled(
        View(_summed(View(power(view.expression, constant(2)), view.axes), axes), _left(view, axes, keep))
    )
    return View(power(squares.expression, constant(Fraction(1, 2))), squares.axes)


def _axes(dims: Any, view: View) -> list[int]:
    rank = len(view.axes)
    if dims is None or dims == []:
        return list(range(rank))
    return [axis % rank for axis in ([dims] if isinstance(dims, int) else dims)] if rank else []


def _summed(view: View, axes: Sequence[int]) -> Expression:
    return total(view.expression, [index for axis in axes for index in view.axes[axis]])


def _left(view: View, axes: Sequence[int], keep: bool) -> tuple[Any, ...]:
    return tuple(() if k in axes else axis for k, axis in enumerate(view.axes) if keep or k not in axes)


# ---------------------------------------------------------------- index maps


@rule("clone contiguous alias detach_copy lift_fresh_copy to _to_copy type_as dropout feature_dropout")
def _same(call: Call) -> View | None:
    x, rate, training = call.arguments(("self", None), ("p", 0.0), ("train", False))
    return None if "dropout" in _operation(call) and training and rate > 0 else call.operand(x)


@rule("view reshape flatten unflatten view_as _unsafe_view")
def _reshape(call: Call) -> View:
    return maps.reshaped(call.build, call.operand(call.node.args[0]), call.node.shape)


@rule("permute")
def _permute(call: Call) -> View:
    view = call.operand(call.node.args[0])
    return maps.moved(view, [axis % len(view.axes) for axis in call.node.args[1]])


@rule("transpose t mT numpy_T swapaxes")
def _transpose(call: Call) -> View:
    view = call.operand(call.node.args[0])
    rank = len(view.axes)
    if rank < 2:
        return view
    if _operation(call) == "numpy_T":
        return maps.moved(view, range(rank)[::-1])
    first, second = call.node.args[1:3] if len(call.node.args) > 2 else (-2, -1)
    return maps.swapped(view, first % rank, second % rank)


@rule("movedim")
def _movedim(call: Call) -> View | None:
    a, source, to = call.node.args
    view = call.operand(a)
    pairs = list(zip(*(([a] if isinstance(a, int) else a) for a in (source, to)), strict=True))
    rank = len(view.axes)
    order: list[int | None] = [None] * rank
    for a, b in pairs:
        order[b % rank] = a % rank
    rest = iter(axis for axis in range(rank) if axis not in order)
    return maps.moved(view, [next(rest) if axis is None else axis for axis in order])


@rule("unsqueeze")
def _unsqueeze(call: Call) -> View:
    return maps.with_axis(call.operand(call.node.args[0]), call.node.args[1])


@rule("squeeze")
def _squeeze(call: Call) -> View:
    view = call.operand(call.node.args[0])
    chosen = _axes(call.node.args[1] if len(call.node.args) > 1 else None, view)
    return maps.without_axes(view, [axis for axis in chosen if length(view.axes[axis]) == 1])


@rule("expand expand_as")
def _expand(call: Call) -> View:
    return maps.expanded(call.build, call.operand(call.node.args[0]), call.node.shape)


@rule("broadcast_tensors")
def _broadcast(call: Call) -> View:
    return maps.expanded(call.build, call.operand(call.node.args[0][call.pick]), call.node.shape)


@rule("select")
def _select(call: Call) -> View:
    view, axis, at = call.operand(call.node.args[0]), *call.node.args[1:3]
    axis %= len(view.axes)
    return maps.picked(call.build, view, axis, at % view.shape[axis])


@rule("slice")
def _slice(call: Call) -> View:
    a, axis, start, _, step = call.arguments(("self", None), ("dim", 0), ("start", None), ("end", None), ("step", 1))
    view = call.operand(a)
    axis %= len(view.axes)
    size = view.shape[axis]
    start = max(0, start + size if (start or 0) < 0 else (start or 0))
    return maps.sliced(call.build, view, axis, start, step, call.node.shape[axis])


@rule("narrow")
def _narrow(call: Call) -> View:
    view, axis, start, size = call.operand(call.node.args[0]), *call.node.args[1:4]
    axis %= len(view.axes)
    return maps.sliced(call.build, view, axis, start % view.shape[axis] if start else 0, 1, size)


@rule("split split_with_sizes chunk")
def _split(call: Call) -> View:
    a, sizes, axis = call.arguments(("self", None), ("sizes", None), ("dim", 0))
    view = call.operand(a)
    axis %= len(view.axes)
    start, size = maps.chunk_starts(view.shape[axis], sizes, "chunk" in str(call.node.op))[call.pick]
    return maps.sliced(call.build, view, axis, start, 1, size)


@rule("unbind")
def _unbind(call: Call) -> View:
    a, axis = call.arguments(("self", None), ("dim", 0))
    view = call.operand(a)
    return maps.picked(call.build, view, axis % len(view.axes), call.pick)


@rule("cat")
def _cat(call: Call) -> View:
    parts, axis = call.arguments(("tensors", None), ("dim", 0))
    views = [view for view in map(call.operand, parts) if 0 not in view.shape]
    return maps.joint(call.build, views, axis % len(views[0].axes)) if len(views) > 1 else views[0]


@rule("stack")
def _stack(call: Call) -> View:
    parts, axis = call.arguments(("tensors", None), ("dim", 0))
    views = [call.operand(part) for part in parts]
    axis %= len(views[0].axes) + 1
    views = [maps.with_axis(view, axis) for view in views]
    return maps.joint(call.build, views, axis) if len(views) > 1 else views[0]


@rule("diagonal")
def _diagonal(call: Call) -> View | None:
    a, offset, first, second = call.arguments(("self", None), ("offset", 0), ("dim1", 0), ("dim2", 1))
    view = call.operand(a)
    first, second = first % len(view.axes), second % len(view.axes)
    return None if offset or view.shape[first] != view.shape[second] else maps.diagonal(call.build, view, first, second)
