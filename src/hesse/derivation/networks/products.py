"""Rules for products: dense layers and products of matrices."""

from collections.abc import Sequence
from typing import Any

from hesse.derivation.algebra import add
from hesse.derivation.networks.registry import Call, rule
from hesse.derivation.networks.view import View


def _contracted(call: Call, views: Sequence[View], labels: Sequence[Sequence[Any]], out: Sequence[Any]) -> View:
    """A product of operands, each an entry up to constants."""
    return call.build.contract([call.build.operand(view) for view in views], labels, out)


@rule("linear")
def _linear(call: Call) -> View:
    a, weight, bias = call.arguments(("input", None), ("weight", None), ("bias", None))
    W, x = call.operand(weight), call.operand(a)
    lead = list(range(len(x.axes) - 1))
    out = [*lead, "o"] if len(W.axes) == 2 else lead
    z = _contracted(call, [W, x], [["o", "i"] if len(W.axes) == 2 else ["i"], [*lead, "i"]], out)
    return call.build.slot(_plus(call, z, bias))


def _plus(call: Call, view: View, bias: Any, axes: Sequence[Any] | None = None) -> View:
    """A bias added to the last axis, or to those named."""
    if bias is None:
        return view
    rank = len(view.axes)
    b = call.operand(bias)
    labels = [list(range(rank)), list(axes if axes is not None else range(rank - len(b.axes), rank))]
    (z, added), along = call.build.unified([view, b], labels)
    return View(add(z, added), tuple(along[k] for k in range(rank)))


@rule("matmul mm bmm mv dot")
def _matmul(call: Call) -> View:
    return _product_of(call, call.operand(call.node.args[0]), call.operand(call.node.args[1]))


def _product_of(call: Call, a: View, b: View) -> View:
    left = [*range(-len(a.axes) + 2, 0), *(["row"] if len(a.axes) > 1 else []), "k"]
    right = [*range(-len(b.axes) + 2, 0), "k", *(["column"] if len(b.axes) > 1 else [])]
    lead = [label for label in (left if len(a.axes) >= len(b.axes) else right) if isinstance(label, int)]
    out = [*lead, *(["row"] if "row" in left else []), *(["column"] if "column" in right else [])]
    # A parameter gives its letters, wherever it stands.
    if call.build.parameters_in(b.expression) and not call.build.parameters_in(a.expression):
        return _contracted(call, [b, a], [right, left], out)
    return _contracted(call, [a, b], [left, right], out)


@rule("addmm baddbmm addmv addbmm")
def _addmm(call: Call) -> View | None:
    start, a, b, beta, alpha = call.arguments(("self", None), ("mat1", None), ("mat2", None), ("beta", 1), ("alpha", 1))
    if beta != 1 or alpha != 1 or "addbmm" in str(call.node.op).split(".")[1][:6]:
        return None
    return _plus(call, _product_of(call, call.operand(a), call.operand(b)), start)


@rule("outer ger")
def _outer(call: Call) -> View:
    a, b = (call.operand(argument) for argument in call.node.args[:2])
    return _contracted(call, [a, b], [["row"], ["column"]], ["row", "column"])


@rule("einsum")
def _einsum(call: Call) -> View | None:
    equation, operands = call.node.args[:2]
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    if "." in equation or not arrow or any(len(set(term)) < len(term) for term in inputs.split(",")):
        return None
    return _contracted(
        call, [call.operand(operand) for operand in operands], [list(term) for term in inputs.split(",")], list(out)
    )


@rule("bilinear")
def _bilinear(call: Call) -> View:
    a, b, weight, bias = call.arguments(("input1", None), ("input2", None), ("weight", None), ("bias", None))
    x, y, W = call.operand(a), call.operand(b), call.operand(weight)
    lead = list(range(len(x.axes) - 1))
    z = _contracted(call, [W, x, y], [["o", "i", "j"], [*lead, "i"], [*lead, "j"]], [*lead, "o"])
    return call.build.slot(_plus(call, z, bias))
