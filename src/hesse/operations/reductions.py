"""Sums, means, norms and extremes over axes."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hesse.derivation.calculus.algebra import product, scale, total
from hesse.derivation.calculus.expression import Entry, Expression, Index, Power, constant
from hesse.derivation.sources.networks.view import View, length, power
from hesse.graph.graph import Node
from hesse.operations.positions import on_first
from hesse.operations.record import (
    SUMMED,
    ArrayFunction,
    NameOfValue,
    Operation,
    Shapes,
    Structure,
)

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call


def axes_of(dims: Any, view: View) -> list[int]:
    """The axes that an argument names; all of them where it names none."""
    rank = len(view.axes)
    if dims is None or dims == []:
        return list(range(rank))
    return [axis % rank for axis in ([dims] if isinstance(dims, int) else dims)] if rank else []


def _summed(view: View, axes: Sequence[int]) -> Expression:
    return total(view.expression, [index for axis in axes for index in view.axes[axis]])


def _left(view: View, axes: Sequence[int], keep: bool) -> tuple[Any, ...]:
    return tuple(
        () if k in axes else axis for k, axis in enumerate(view.axes) if keep or k not in axes
    )


def _sum(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    dims, keep = call.arguments(("self", None), ("dim", None), ("keepdim", False))[1:]
    axes = axes_of(dims, view)
    count = math.prod(length(view.axes[axis]) for axis in axes) if call.record.name == "mean" else 1
    return View(scale(_summed(view, axes), Fraction(1, count)), _left(view, axes, keep))


def _norm(call: "Call") -> View | None:
    order_name = "ord" if call.record.name == "linalg_vector_norm" else "p"
    _, order, dims, keep = call.arguments(
        ("self", None), (order_name, 2), ("dim", None), ("keepdim", False)
    )
    if order not in (2, 2.0):
        return None
    view = call.build.operand(call.operand(call.node.args[0]))
    axes = axes_of(dims, view)
    squares = call.build.settled(
        View(
            _summed(View(power(view.expression, constant(2)), view.axes), axes),
            _left(view, axes, keep),
        )
    )
    return View(power(squares.expression, constant(Fraction(1, 2))), squares.axes)


def _slope_of_prod(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂ Π x / ∂x_j = Π x / x_j"""
    return product((out, Power(Entry(argument.name, (*argument.indices[:-1], *by)), constant(-1))))


def _over_all(node: Node, axis: int, shapes: Shapes) -> int | None:
    return SUMMED if len(node.args) == 1 else None


RECORDS = [
    Operation(
        name="sum",
        aten="sum",
        structure=Structure.LINEAR,
        positions=on_first(_over_all),
        formula=_sum,
    ),
    Operation(name="mean", aten="mean", structure=Structure.LINEAR, formula=_sum),
    # Its formula divides by each factor; the numbers of a network's do not, and need no record.
    Operation(
        name="prod",
        array=ArrayFunction(
            value=lambda z: z.prod(-1),
            derivative=_slope_of_prod,
            axes=1,
            keeps=0,
            reason="each factor in turn: Π x / x_j, where no factor is zero",
            numpy="z.prod(-1)",
            torch="z.prod(-1)",
        ),
    ),
    Operation(name="linalg_vector_norm", aten="linalg_vector_norm", formula=_norm),
    Operation(name="norm", aten="norm", formula=_norm),
    *(
        Operation(name=name, aten=name, structure=Structure.PIECEWISE_LINEAR)
        for name in ("amax", "amin", "max", "min")
    ),
    *(
        Operation(name=name, aten=name, structure=Structure.STEP)
        for name in ("argmax", "argmin", "any", "all")
    ),
]
