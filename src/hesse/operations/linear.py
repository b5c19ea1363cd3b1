"""Dense layers and products of matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add
from hesse.derivation.sources.networks.view import View
from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.graph.parameter_view import ParameterView, Views, input_of, view_of
from hesse.graph.sites import AXES_IN_ORDER, Arrangement, Gather, Site
from hesse.operations.positions import on_first
from hesse.operations.record import Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.call import Call

aten = torch.ops.aten

# ---------------------------------------------------------------- how parameters enter


def _dense(
    node: Node, x: Any, weight: ParameterView | None, bias: ParameterView | None, views: Views
) -> Site | None:
    """z = x Wᵀ + b over the last axis; ``weight`` views W as (o, i)."""
    source = input_of(x, views)
    o = node.shape[-1]
    positions = torch.Size(node.shape[:-1]).numel()
    arrange = Arrangement((1, positions, o), AXES_IN_ORDER)
    uses = []
    if weight is not None and source is not None:
        i = weight.entries.shape[-1]
        gather = Gather(Arrangement((1, positions, i), AXES_IN_ORDER))
        uses.append(
            weight.use(
                "dense",
                weight.entries.unsqueeze(0),
                lambda a: a.reshape(len(a), 1, positions, i),
                gather,
            )
        )
    if bias is not None and bias.entries.numel() != o:  # one number for all outputs
        return None
    if bias is not None:
        uses.append(bias.shift((1, o)))
    return Site(node.name, source, arrange, tuple(uses)) if uses else None


def _linear_site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    x, weight, bias = node.arguments(None, None, None)
    return _dense(node, x, view_of(weight, views), view_of(bias, views), views)


def _matmul_site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    left, right = node.args[:2]
    # x W with the parameter on the right is a dense layer of Wᵀ.
    weight = view_of(right, views)
    if weight is not None and weight.transposed is not None:
        return _dense(node, left, weight.transposed, None, views)
    weight, x = view_of(left, views), input_of(right, views)
    if weight is None or x is None or weight.entries.ndim != 2 or len(shapes[x]) != 2:
        return None
    # z = W x with x (i, t): the outputs are the rows of z.
    (o, i), t = weight.entries.shape, node.shape[-1]
    arrange = Arrangement((1, o, t), ((0,), (2,), (1,)))
    gather = Gather(Arrangement((1, i, t), ((0,), (2,), (1,))))
    use = weight.use("dense", weight.entries[None], lambda a: a.mT.reshape(len(a), 1, t, i), gather)
    return Site(node.name, x, arrange, (use,))


def _addmm_site(node: Node, views: Views, shapes: Shapes) -> Site | None:
    bias, x, weight = node.args[:3]
    seen, matrix = view_of(bias, views), view_of(weight, views)
    return _dense(
        node,
        x,
        matrix and matrix.transposed,
        seen if seen and seen.entries.ndim == 1 else None,
        views,
    )


# ---------------------------------------------------------------- numbers


def _addmm(node: Node, shapes: dict[str, tuple[int, ...]]) -> list[Node]:
    """beta b + alpha x w, its factors as operations of their own."""
    factors = {"beta": node.kwargs.get("beta", 1), "alpha": node.kwargs.get("alpha", 1)}
    if not node.kwargs:
        return [node]
    bias, x, weight = node.args
    product, scaled, shift = (f"{node.name}__{part}" for part in ("product", "scaled", "shift"))
    return [
        Node(product, aten.mm.default, (x, weight), {}, node.shape),
        Node(scaled, aten.mul.Scalar, (Ref(product), factors["alpha"]), {}, node.shape),
        Node(shift, aten.mul.Scalar, (bias, factors["beta"]), {}, shapes[bias.name]),
        Node(node.name, aten.add.Tensor, (Ref(scaled), Ref(shift)), {}, node.shape),
    ]


def _pull_linear(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    x, weight = op.node.args[0], op.node.args[1]
    if op.active != (x.name,) or op.is_batched(weight.name):
        return None
    matrix = op.value(weight.name)
    # A Hessian's rows come transposed, sample by sample, and to lay them out would take as long as
    # the product of each.
    if columns.ndim == 3 and not columns.is_contiguous():
        return (torch.bmm(columns, matrix.expand(len(columns), *matrix.shape)),)
    # One large product; matmul would split a strided batch into many small ones.
    return ((columns.reshape(-1, len(matrix)) @ matrix).reshape(*columns.shape[:-1], -1),)


def _pull_matmul(op: Local, columns: Tensor) -> tuple[Tensor, ...] | None:
    """x y with the same leading axes: columns yᵀ for x and xᵀ columns for y, all columns in one
    product for each matrix."""
    names = [argument.name for argument in op.node.args]
    x, y = (op.value(name) for name in names)
    if (
        not all(op.is_batched(name) for name in names)
        or names[0] == names[1]
        or x.shape[:-2] != y.shape[:-2]
        or x.ndim < 3
    ):
        return None
    (n, k), lead, (t, d), s = columns.shape[:2], x.shape[1:-2], columns.shape[-2:], x.shape[-1]
    lefts, rights = (matrix.reshape(-1, *matrix.shape[-2:]).mT for matrix in (x, y))
    pulled = []
    for name in op.active:
        if name == names[0]:
            rows = columns.movedim(1, -3).reshape(-1, k * t, d)
            pulled.append(torch.bmm(rows, rights).view(n, *lead, k, t, s).movedim(-3, 1))
        else:
            rows = columns.movedim(1, -2).reshape(-1, t, k * d)
            pulled.append(torch.bmm(lefts, rows).view(n, *lead, s, k, d).movedim(-2, 1))
    return tuple(pulled)


def _matmul_second(op: Local, delta: Tensor) -> list[list[Tensor | None]] | None:
    """x y with the same leading axes: δ[b,t,d] at x[b,t,s] and y[b,s,d], between the two alone."""
    names = [argument.name for argument in op.node.args]
    x, y = (op.value(name) for name in names)
    if (
        op.active not in (tuple(names), tuple(names[::-1]))
        or x.shape[:-2] != y.shape[:-2]
        or x.ndim < 3
    ):
        return None
    n, (t, s), d = len(delta), x.shape[-2:], y.shape[-1]
    parts = delta.reshape(n, -1, t, d)
    b = parts.shape[1]
    # Only entries that are multiplied meet: one batch index b, and one summed index s.
    blocks = delta.new_zeros(n, b, t, s, b, s, d)
    along = blocks.diagonal(dim1=1, dim2=4).diagonal(dim1=2, dim2=3)  # (n, t, d, b, s)
    along.copy_(parts.permute(0, 2, 3, 1).unsqueeze(-1).expand_as(along))
    cross = blocks.reshape(n, b * t * s, *y.shape[1:])
    if op.active[0] != names[0]:
        cross = blocks.reshape(n, b * t * s, b * s * d).mT.reshape(n, b * s * d, *x.shape[1:])
    return [[None, cross], [None, None]]


def _positions_of_rows(node: Node, axis: int, shapes: Shapes) -> int | None:
    """A dense layer keeps all axes but the last apart."""
    return axis if axis < len(node.shape) - 1 else None


# ---------------------------------------------------------------- formulas


def _contracted(
    call: "Call", views: Sequence[View], labels: Sequence[Sequence[Any]], out: Sequence[Any]
) -> View:
    """A product of operands, each an entry up to constants."""
    return call.build.axes.contract([call.build.operand(view) for view in views], labels, out)


def _linear(call: "Call") -> View:
    a, weight, bias = call.arguments(("input", None), ("weight", None), ("bias", None))
    W, x = call.operand(weight), call.operand(a)
    lead = list(range(len(x.axes) - 1))
    out = [*lead, "o"] if len(W.axes) == 2 else lead
    z = _contracted(call, [W, x], [["o", "i"] if len(W.axes) == 2 else ["i"], [*lead, "i"]], out)
    return call.build.slot(_plus(call, z, bias))


def _plus(call: "Call", view: View, bias: Any) -> View:
    """A bias added to the last axis."""
    if bias is None:
        return view
    rank = len(view.axes)
    b = call.operand(bias)
    labels = [list(range(rank)), list(range(rank - len(b.axes), rank))]
    (z, added), along = call.build.axes.unified([view, b], labels)
    return View(add(z, added), tuple(along[k] for k in range(rank)))


def _matmul(call: "Call") -> View:
    return _product(call, call.operand(call.node.args[0]), call.operand(call.node.args[1]))


def _product(call: "Call", a: View, b: View) -> View:
    left = [*range(-len(a.axes) + 2, 0), *(["row"] if len(a.axes) > 1 else []), "k"]
    right = [*range(-len(b.axes) + 2, 0), "k", *(["column"] if len(b.axes) > 1 else [])]
    lead = [
        label for label in (left if len(a.axes) >= len(b.axes) else right) if isinstance(label, int)
    ]
    out = [*lead, *(["row"] if "row" in left else []), *(["column"] if "column" in right else [])]
    # A parameter gives its letters, wherever it stands.
    if call.build.parameters_in(b.expression) and not call.build.parameters_in(a.expression):
        return _contracted(call, [b, a], [right, left], out)
    return _contracted(call, [a, b], [left, right], out)


def _sum_of_product(call: "Call") -> View | None:
    start, a, b, beta, alpha = call.arguments(
        ("self", None), ("mat1", None), ("mat2", None), ("beta", 1), ("alpha", 1)
    )
    if beta != 1 or alpha != 1:
        return None
    return _plus(call, _product(call, call.operand(a), call.operand(b)), start)


def _outer(call: "Call") -> View:
    a, b = (call.operand(argument) for argument in call.node.args[:2])
    return _contracted(call, [a, b], [["row"], ["column"]], ["row", "column"])


def _einsum(call: "Call") -> View | None:
    equation, operands = call.node.args[:2]
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    if (
        "." in equation
        or not arrow
        or any(len(set(term)) < len(term) for term in inputs.split(","))
    ):
        return None
    return _contracted(
        call,
        [call.operand(operand) for operand in operands],
        [list(term) for term in inputs.split(",")],
        list(out),
    )


def _bilinear(call: "Call") -> View:
    a, b, weight, bias = call.arguments(
        ("input1", None), ("input2", None), ("weight", None), ("bias", None)
    )
    x, y, W = call.operand(a), call.operand(b), call.operand(weight)
    lead = list(range(len(x.axes) - 1))
    z = _contracted(call, [W, x, y], [["o", "i", "j"], [*lead, "i"], [*lead, "j"]], [*lead, "o"])
    return call.build.slot(_plus(call, z, bias))


_EACH = Structure.MULTILINEAR
RECORDS = [
    Operation(
        name="linear", aten="linear", structure=_EACH, site=_linear_site, pull=_pull_linear,
        positions=on_first(_positions_of_rows), formula=_linear),
    # A Jacobian of its own for every sample, through which many columns are better not carried.
    Operation(
        name="matmul", aten="matmul", structure=_EACH, site=_matmul_site, pull=_pull_matmul,
        costly=True, second=_matmul_second, formula=_matmul),
    Operation(name="mm", aten="mm", structure=_EACH, site=_matmul_site, formula=_matmul),
    *(Operation(name=name, aten=name, structure=_EACH, formula=_matmul) for name in ("bmm", "mv",
        "dot")),
    Operation(name="addmm", aten="addmm", structure=_EACH, rewrite=_addmm, site=_addmm_site,
        formula=_sum_of_product),
    Operation(name="baddbmm", aten="baddbmm", structure=_EACH, formula=_sum_of_product),
    Operation(name="addmv", aten="addmv", formula=_sum_of_product),
    Operation(name="outer", aten="outer ger", structure=_EACH, formula=_outer),
    Operation(name="einsum", aten="einsum", structure=_EACH, formula=_einsum),
    Operation(name="bilinear", aten="bilinear", structure=_EACH, formula=_bilinear),
]  # fmt: skip
