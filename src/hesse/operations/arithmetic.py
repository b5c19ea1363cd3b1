"""Sums, products, quotients and powers of entries; comparison and choice; and the scales and shifts
that enter through them."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, scale
from hesse.derivation.calculus.expression import ONE, Apply, Expression, constant, grouped, of
from hesse.derivation.sources.networks.view import View, number, power, times
from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.graph.parameter_view import ParameterView, Views, input_of, view_of
from hesse.graph.sites import Arrangement, Gather, Site
from hesse.graph.structures import Diagonal
from hesse.operations.positions import along_all
from hesse.operations.record import SUMMED, Axes, Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

aten = torch.ops.aten

# ---------------------------------------------------------------- scales and shifts


def scale_shift_site(
    node: Node,
    x: Any,
    scale: ParameterView | None,
    shift: ParameterView | None,
    views: Views,
    entries: Tensor,
    shapes: Shapes,
) -> Site | None:
    """z = x ∘ scale + shift, both laid along the axes of z as ``entries`` is."""
    source = input_of(x, views)
    fits = all(
        n in (1, m) for n, m in zip(reversed(entries.shape), reversed(node.shape), strict=False)
    )
    if not fits or entries.ndim > len(node.shape):
        return None
    arrange = _along(node.shape, entries)
    uses = []
    if scale is not None and source is not None:

        def aligned(a: Tensor) -> Tensor:
            wide = a.reshape(len(a), *(1,) * (len(node.shape) - a.ndim + 1), *a.shape[1:]).expand(
                len(a), *node.shape
            )
            return arrange(wide, 1)

        gather = Gather(arrange) if shapes[source] == node.shape else None
        uses.append(scale.use("scale", scale.entries.reshape(-1, 1, 1), aligned, gather))
    if shift is not None:
        uses.append(shift.use("shift", shift.entries.reshape(-1, 1, 1), None))
    return Site(node.name, source, arrange, tuple(uses)) if uses else None


def _along(shape: tuple[int, ...], entries: Tensor) -> Arrangement:
    """Arrange z by the axes that a broadcast parameter has: those are groups, the others
    positions."""
    full = (1,) * (len(shape) - entries.ndim) + tuple(entries.shape)
    groups = [axis for axis, n in enumerate(full) if n > 1]
    shared = [axis for axis, n in enumerate(full) if n == 1]
    return Arrangement(shape, (tuple(groups), tuple(shared), ()))


def _scaled(node: Node, views: Views, shapes: Shapes) -> Site | None:
    left, right = node.args[:2]
    # Either factor may be the parameter.
    for x, weight in ((left, right), (right, left)):
        view = view_of(weight, views)
        if view is not None and input_of(x, views) is not None:
            return scale_shift_site(node, x, view, None, views, view.entries, shapes)
    return None


def _shifted(node: Node, views: Views, shapes: Shapes) -> Site | None:
    left, right = node.args[:2]
    # x + alpha b: the shift would be a multiple of the parameter.
    if node.kwargs.get("alpha", 1) != 1:
        return None
    for x, weight in ((left, right), (right, left)):
        view = view_of(weight, views)
        if view is not None and view_of(x, views) is None:
            return scale_shift_site(node, x, None, view, views, view.entries, shapes)
    return None


# ---------------------------------------------------------------- numbers


def _summed(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(n, k, *value) -> (n, k, *shape), along the axes that an input was repeated along."""
    full = (1,) * (columns.ndim - 2 - len(shape)) + shape
    axes = [axis for axis, n in enumerate(full, start=2) if n != columns.shape[axis]]
    columns = columns.sum(axes) if axes else columns
    return columns.reshape(*columns.shape[:2], *shape)


def _pull_sum(op: Local, columns: Tensor) -> tuple[Tensor, ...] | None:
    """x + αy, or x − αy: the same columns go to both."""
    x, *others = op.node.args
    if others == [x] or len(others) != 1:
        return None
    alpha = op.node.kwargs.get("alpha", 1)
    factor = -alpha if op.node.kind is aten.sub else alpha
    return tuple(
        _summed(
            columns if x == Ref(name) or factor == 1 else columns * factor,
            tuple(op.value(name).shape[1:]),
        )
        for name in op.active
    )


def _pull_product(op: Local, columns: Tensor) -> tuple[Tensor, ...] | None:
    """x ∘ y: to each go the columns times the other."""
    x, y = op.node.args
    if not isinstance(x, Ref) or not isinstance(y, Ref) or x == y:
        return None
    pulled = []
    for name in op.active:
        beside = y.name if x.name == name else x.name
        factor = op.value(beside)
        if factor.is_floating_point() and factor.dtype != columns.dtype:
            return None
        if op.is_batched(beside):
            repeated = columns.ndim - 1 - factor.ndim
            factor = factor.reshape(len(factor), *(1,) * (1 + repeated), *factor.shape[1:])
        pulled.append(_summed(columns * factor, tuple(op.value(name).shape[1:])))
    return tuple(pulled)


def _second_of_product(op: Local, delta: Tensor) -> list[list[Diagonal | None]] | None:
    """∂²(Σ δ x y)/∂x∂y = diag δ, where neither is repeated."""
    shapes = [tuple(op.value(name).shape) for name in op.active]
    return [[None, Diagonal(delta)], [None, None]] if shapes == [tuple(delta.shape)] * 2 else None


def _square(node: Node, shapes: Shapes) -> list[Node]:
    """x**2 as a square, which has a record of its own."""
    return (
        [Node(node.name, aten.square.default, node.args[:1], {}, node.shape)]
        if node.args[1:] == (2,)
        else [node]
    )


def _prelu(node: Node, shapes: Shapes) -> list[Node]:
    """x where x > 0, else w x: a scale use and a selection."""
    x, weight = node.args
    if not isinstance(x, Ref) or not isinstance(weight, Ref):
        return [node]
    # One slope for each channel, axis 1, or one for all.
    slope = (
        (*shapes[weight.name], *(1,) * max(0, len(node.shape) - 2))
        if shapes[weight.name] != (1,)
        else (1,)
    )
    names = [f"{node.name}__{part}" for part in ("slope", "scaled", "positive")]
    return [
        Node(names[0], aten.view.default, (weight, list(slope)), {}, slope),
        Node(names[1], aten.mul.Tensor, (x, Ref(names[0])), {}, node.shape),
        Node(names[2], aten.gt.Scalar, (x, 0), {}, node.shape),
        Node(node.name, aten.where.self, (Ref(names[2]), x, Ref(names[1])), {}, node.shape),
    ]


def _glu(node: Node, shapes: Shapes) -> list[Node]:
    """a ∘ sigmoid(b), a and b the halves along an axis."""
    x, axis = node.arguments(None, -1)
    size = node.shape[axis]
    names = [f"{node.name}__{part}" for part in ("value", "gate", "open")]
    return [
        Node(names[0], aten.slice.Tensor, (x, axis, 0, size), {}, node.shape),
        Node(names[1], aten.slice.Tensor, (x, axis, size, 2 * size), {}, node.shape),
        Node(names[2], aten.sigmoid.default, (Ref(names[1]),), {}, node.shape),
        Node(node.name, aten.mul.Tensor, (Ref(names[0]), Ref(names[2])), {}, node.shape),
    ]


def _multiple(node: Node, axes: Axes, shapes: Shapes) -> Axes | None:
    """Also a multiple of what has been summed over positions."""
    if set(axes.values()) != {SUMMED}:
        return along_all(node, axes, shapes)
    single = len(node.inputs) == 1 and node.takes_once(node.inputs[0])
    return (
        {node.name: SUMMED}
        if single and (node.kind is not aten.div or node.takes_first(node.inputs[0]))
        else None
    )


# ---------------------------------------------------------------- formulas


def _sum(call: "Call") -> View:
    a, b, alpha = call.arguments(("self", None), ("other", None), ("alpha", 1))
    sign = -1 if call.record.name == "sub" else 1
    return call.combined(a, b, lambda left, right: add(left, times(number(sign * alpha), right)))


def _reversed_difference(call: "Call") -> View:
    a, b, alpha = call.arguments(("self", None), ("other", None), ("alpha", 1))
    return call.combined(b, a, lambda left, right: add(left, times(number(-alpha), right)))


def _negative(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    return View(scale(view.expression, -1), view.axes)


def _product(call: "Call") -> View:
    return call.combined(call.node.args[0], call.node.args[1], times)


def _quotient(call: "Call") -> View | None:
    if call.node.kwargs.get("rounding_mode"):
        return None
    a, b = call.node.args[:2]
    if not isinstance(b, Ref):
        view = call.operand(a)
        return View(times(_reciprocal(b), view.expression), view.axes)
    return call.combined(a, b, lambda left, right: times(left, power(right, constant(-1))))


# A fraction where it is exact: 1/3 stays 1/3.
def _reciprocal(value: float) -> Expression:
    return (
        constant(Fraction(1, int(value)))
        if float(value).is_integer() and value
        else number(1 / value)
    )


def _power(call: "Call") -> View:
    base, exponent = call.node.args[:2]
    if isinstance(exponent, Ref):
        return call.combined(base, exponent, power)
    view = call.operand(base)
    return View(power(view.expression, number(exponent)), view.axes)


def _to_the(exponent: Fraction) -> "Callable[[Call], View]":
    def formula(call: "Call") -> View:
        view = call.operand(call.node.args[0])
        if exponent != 2:
            view = call.build.operand(view)
        return View(power(view.expression, constant(exponent)), view.axes)

    return formula


def _comparison(call: "Call") -> View:
    """[a > b] as a step of a − b."""
    a, b = call.node.args[:2]
    name = call.record.name
    if name in ("lt", "ge"):
        a, b = b, a
    difference = call.build.settled(
        call.combined(a, b, lambda left, right: add(left, scale(right, -1)))
    )
    step = of(Apply("step", 0, grouped(difference.expression)))
    return View(step if name in ("gt", "lt") else add(ONE, scale(step, -1)), difference.axes)


def _where(call: "Call") -> View | None:
    if len(call.node.args) != 3:
        return None
    (m, a, b), axes = call.build.axes.broadcast(
        [call.operand(argument) for argument in call.node.args]
    )
    return View(add(times(m, a), times(add(ONE, scale(m, -1)), b)), axes)


def _steps(names: str) -> list[Operation]:
    return [Operation(name=name, aten=name, structure=Structure.STEP) for name in names.split()]


_ENTRYWISE = Structure.ENTRYWISE
RECORDS = [
    Operation(
        name="add", aten="add", structure=_ENTRYWISE | Structure.LINEAR, site=_shifted,
        pull=_pull_sum, positions=along_all, formula=_sum),
    Operation(
        name="sub", aten="sub", structure=_ENTRYWISE | Structure.LINEAR, pull=_pull_sum,
        positions=along_all, formula=_sum),
    Operation(
        name="rsub", aten="rsub", structure=_ENTRYWISE | Structure.LINEAR, positions=along_all,
        formula=_reversed_difference),
    Operation(
        name="neg", aten="neg", structure=_ENTRYWISE | Structure.LINEAR, positions=_multiple,
        formula=_negative),
    Operation(
        name="mul", aten="mul", structure=_ENTRYWISE | Structure.MULTILINEAR, site=_scaled,
        pull=_pull_product, costly=True, second=_second_of_product, positions=_multiple,
        formula=_product),
    Operation(
        name="div", aten="div", structure=Structure.ELEMENTWISE | Structure.LINEAR_IN_FIRST,
        positions=_multiple, formula=_quotient),
    Operation(
        name="pow", aten="pow", structure=Structure.ELEMENTWISE, rewrite=_square, formula=_power),
    *(
        Operation(
            name=name, aten=name, structure=Structure.ELEMENTWISE, positions=along_all,
            formula=_to_the(exponent))
        for name, exponent in (
            ("square", Fraction(2)), ("sqrt", Fraction(1, 2)), ("rsqrt", Fraction(-1, 2)),
            ("reciprocal", Fraction(-1)))
    ),
    Operation(name="prelu", aten="prelu", structure=Structure.LINEAR_IN_FIRST, rewrite=_prelu),
    Operation(name="glu", aten="glu", rewrite=_glu),
    *(
        Operation(name=name, aten=name, structure=Structure.STEP, formula=_comparison)
        for name in ("gt", "lt", "ge", "le")
    ),
    *_steps("eq ne logical_not logical_and logical_or logical_xor"),
    *_steps("bitwise_not bitwise_and bitwise_or"),
    *_steps("isnan isinf isfinite floor ceil round"),
    Operation(name="where", aten="where", structure=Structure.PIECEWISE_LINEAR, formula=_where),
    *(
        Operation(name=name, aten=name, structure=Structure.PIECEWISE_LINEAR)
        for name in ("maximum", "minimum")
    ),
]  # fmt: skip
