"""Softmax and its relatives, and attention, which is brought to them: its fused kernels have no
second derivatives."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, product, scale
from hesse.derivation.calculus.expression import Delta, Entry, Expression, Index, constant, of
from hesse.derivation.calculus.program import Leaf
from hesse.derivation.sources.networks.view import View, number, times
from hesse.graph.graph import Node, Ref
from hesse.graph.local import Local
from hesse.operations.normalisation import along_rows
from hesse.operations.positions import on_first
from hesse.operations.record import ArrayFunction, NameOfValue, Operation, Shapes, Structure

if TYPE_CHECKING:
    from hesse.derivation.sources.networks.builder import Given
    from hesse.derivation.sources.networks.call import Call

aten = torch.ops.aten

# ---------------------------------------------------------------- attention


def causal(scores: Tensor) -> Tensor:
    """Scores of later keys are taken out."""
    keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~keep, -math.inf)


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores under a mask: kept where it is true, or added to."""
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def _attention(node: Node, shapes: dict[str, tuple[int, ...]]) -> list[Node]:
    """softmax(q kᵀ / √d + mask) v, in operations that can be differentiated twice."""
    options = dict(
        zip(
            ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"),
            node.args[3:],
            strict=False,
        ),
        **node.kwargs,
    )
    q, k, v = node.args[:3]
    if options.get("dropout_p"):  # random: there is no function to write out
        return [node]
    name, length, width = node.name, *shapes[q.name][-2:]
    # Grouped queries: several heads share keys and values, which are repeated for them.
    nodes = []
    if options.get("enable_gqa"):
        (more, k), (others, v) = (
            _for_each_head(f"{name}__{part}", shared, shapes[q.name][-3], shapes)
            for part, shared in (("keys", k), ("values", v))
        )
        nodes += [*more, *others]
    *lead, keys, _ = shapes[k.name]
    square = (*torch.broadcast_shapes(lead, shapes[q.name][:-2]), length, keys)
    factor = options.get("scale") or 1 / math.sqrt(width)
    nodes += [
        Node(f"{name}__q", aten.mul.Scalar, (q, factor), {}, shapes[q.name]),
        Node(f"{name}__k", aten.transpose.int, (k, -2, -1), {}, (*lead, width, keys)),
        Node(
            f"{name}__scores",
            aten.matmul.default,
            (Ref(f"{name}__q"), Ref(f"{name}__k")),
            {},
            square,
        ),
    ]
    mask = options.get("attn_mask")
    if options.get("is_causal"):
        nodes.append(Node(f"{name}__masked", causal, (Ref(nodes[-1].name),), {}, square))
    elif mask is not None:
        nodes.append(Node(f"{name}__masked", masked, (Ref(nodes[-1].name), mask), {}, square))
    nodes.append(Node(f"{name}__weights", aten.softmax.int, (Ref(nodes[-1].name), -1), {}, square))
    nodes.append(Node(name, aten.matmul.default, (Ref(nodes[-1].name), v), {}, node.shape))
    return nodes


def _for_each_head(
    name: str, shared: Ref, heads: int, shapes: dict[str, tuple[int, ...]]
) -> tuple[list[Node], Ref]:
    """Keys or values that several heads of queries share, (*lead, groups, s, d) -> (*lead, heads,
    s, d)."""
    *lead, groups, length, width = shapes[shared.name]
    if groups == heads:
        return [], shared
    # (groups, 1) -> (groups, heads of a group) -> (heads): as expand and reshape do it.
    with_axis, repeated = (
        (*lead, groups, 1, length, width),
        (*lead, groups, heads // groups, length, width),
    )
    shapes[name] = (*lead, heads, length, width)
    nodes = [
        Node(f"{name}__one", aten.unsqueeze.default, (shared, -3), {}, with_axis),
        Node(
            f"{name}__several",
            aten.expand.default,
            (Ref(f"{name}__one"), list(repeated)),
            {},
            repeated,
        ),
        Node(
            name,
            aten.reshape.default,
            (Ref(f"{name}__several"), list(shapes[name])),
            {},
            shapes[name],
        ),
    ]
    return nodes, Ref(name)


# ---------------------------------------------------------------- numbers


def _pull_softmax(op: Local, columns: Tensor) -> tuple[Tensor] | None:
    """w ∘ (c − Σ w c) along the axis."""
    axis = op.node.args[1] % len(op.node.shape) + 2
    # In place, on the product just made: columns are the largest arrays there are.
    weighed = columns * op.value(op.node.name).unsqueeze(1)
    return (
        weighed.addcmul_(
            weighed.sum(axis, keepdim=True), op.value(op.node.name).unsqueeze(1), value=-1
        ),
    )


def _softmax_second(op: Local, delta: Tensor) -> list[list[Tensor | None]] | None:
    """diag(w (δ − m)) − w wᵀ ∘ (δ_i + δ_j − 2 m) along the axis, m = Σ w δ; here the last one."""
    if op.node.args[1] % len(op.node.shape) != len(op.node.shape) - 1:
        return None
    n, width = len(delta), delta.shape[-1]
    w, slope = (part.reshape(n, -1, width) for part in (op.value(op.node.name), delta))
    # With b = w (δ − m): diag(b) − w bᵀ − b wᵀ, the same matrix in fewer terms.
    bent = w * (slope - (w * slope).sum(-1, keepdim=True))
    blocks = (
        torch.diag_embed(bent)
        - w.unsqueeze(-1) * bent.unsqueeze(-2)
        - bent.unsqueeze(-1) * w.unsqueeze(-2)
    )
    return [[along_rows(blocks, delta.shape[1:])]]


def _beside_the_axis(node: Node, axis: int, shapes: Shapes) -> int | None:
    return axis if axis != node.args[1] % len(node.shape) else None


# ---------------------------------------------------------------- formulas

# exp of this is zero in float64, as exp(−∞) is, and differences of it are not undefined.
_NEVER = -1e5


def _slope_of_softmax(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂p_i/∂z_j = p_i ([i = j] − p_j)"""
    twin = Entry(out.name, (*out.indices[:-1], by[0]))
    return add(product((out, Delta(out.indices[-1], by[0]))), scale(product((out, twin)), -1))


def _slope_of_logsumexp(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂ log Σ exp(z) / ∂z_j = softmax(z)_j"""
    return of(other("softmax", (*out.indices, by[0])))


def _slope_of_log_softmax(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: NameOfValue
) -> Expression:
    """∂ log softmax(z)_i / ∂z_j = [i = j] − softmax(z)_j"""
    p = other("softmax", (*out.indices[:-1], by[0]))
    return add(of(Delta(out.indices[-1], by[0])), scale(of(p), -1))


def _along_an_axis(call: "Call") -> View:
    view = call.operand(call.node.args[0])
    array = call.record.array
    assert array is not None
    return call.build.whole(
        call.record.name, view, call.node.args[1] % len(view.axes), base=array.base
    )


def _logsumexp(call: "Call") -> View | None:
    x, dims, keep = call.arguments(("self", None), ("dim", None), ("keepdim", False))
    view = call.operand(x)
    if len(dims) != 1:
        return None
    axis = dims[0] % len(view.axes)
    result = call.build.whole("logsumexp", view, axis, keeps=False)
    return (
        View(result.expression, (*result.axes[:axis], (), *result.axes[axis:])) if keep else result
    )


def _without_later(call: "Call") -> View:
    """Scores of later keys are as good as −∞."""
    view = call.operand(call.node.args[0])
    return _added(call, view, torch.full(view.shape[-2:], _NEVER, dtype=torch.float64).triu(1))


def _added(call: "Call", view: View, mask: Tensor) -> View:
    name = call.build.constant("mask", mask)
    indices = [Index(f"*mask{k}", size) for k, size in enumerate(mask.shape)]
    (value, added), axes = call.build.axes.broadcast(
        [view, View(of(Entry(name, tuple(indices))), tuple((index,) for index in indices))]
    )
    return View(add(value, added), axes)


def _under_a_mask(call: "Call") -> View | None:
    scores, mask = call.node.args[:2]
    return _under(call, scores, mask, _unless)


# Functions of the module, so that a derivation that has them can be pickled.
def _unless(mask: Tensor) -> Tensor:
    """What is added where a mask says what is seen, or itself is what is added."""
    if mask.dtype == torch.bool:
        return (~mask).double() * _NEVER
    return mask.double().clamp(min=_NEVER)


def _where(mask: Tensor) -> Tensor:
    """What is added where a mask says what is not seen."""
    return mask.double() * _NEVER


def _array(
    added: Callable[[Tensor], Tensor], sizes: list[int], given: "Given", values: dict[str, Any]
) -> Tensor:
    """What is added under a mask, of one sample."""
    return added(given(values)).reshape(sizes)


def _filled(call: "Call") -> View | None:
    x, mask, fill = call.node.args[:3]
    if isinstance(fill, Ref):
        return None
    if fill == -math.inf or fill <= _NEVER:
        return _under(call, x, mask, _where)
    (value, m), axes = call.build.axes.broadcast([call.operand(x), call.operand(mask)])
    kept = add(constant(1), scale(m, -1))
    return View(add(times(kept, value), times(number(fill), m)), axes)


def _under(call: "Call", scores: Any, mask: Ref, added: Callable[[Tensor], Tensor]) -> View | None:
    known, given = call.known(mask.name), call.value(mask.name)
    if known is not None:
        return _added(call, call.operand(scores), added(known))
    if given is None:
        return None
    sizes = [size for size in call.shape(mask.name) if size > 1]
    leaf = Leaf(call.build.name("mask"), tuple(sizes), "data", per_sample=True)
    view = call.build.leaf(leaf, ["token"] * len(sizes), partial(_array, added, sizes, given))
    letters = iter(view.axes)
    view = view.over(next(letters) if size > 1 else () for size in call.shape(mask.name))
    (value, more), axes = call.build.axes.broadcast([call.operand(scores), view])
    return View(add(value, more), axes)


_MASKS = Structure.ENTRYWISE | Structure.LINEAR
RECORDS = [
    Operation(
        name="softmax", aten="softmax _softmax", pull=_pull_softmax, costly=True,
        second=_softmax_second, positions=on_first(_beside_the_axis), formula=_along_an_axis,
        array=ArrayFunction(
            value=lambda z: torch.softmax(z, -1), derivative=_slope_of_softmax, axes=1, keeps=1,
            base="p", distribution=True, range=(0, 1),
            reason="∂p_i/∂z_j = p_i ([i = j] − p_j): raising one entry lowers the others",
            numpy="numpy.exp(z - numpy.logaddexp.reduce(z, axis=-1, keepdims=True))",
            torch="torch.softmax(z, -1)")),
    Operation(
        name="log_softmax", aten="log_softmax _log_softmax", formula=_along_an_axis,
        array=ArrayFunction(
            value=lambda z: torch.log_softmax(z, -1), derivative=_slope_of_log_softmax, axes=1,
            keeps=1, companion="softmax", range=(-math.inf, 0),
            reason="log softmax(z) = z − logsumexp(z), whose slope is softmax",
            numpy="z - numpy.logaddexp.reduce(z, axis=-1, keepdims=True)",
            torch="torch.log_softmax(z, -1)")),
    Operation(
        name="logsumexp", aten="logsumexp", formula=_logsumexp,
        array=ArrayFunction(
            value=lambda z: torch.logsumexp(z, -1), derivative=_slope_of_logsumexp, axes=1, keeps=0,
            companion="softmax", reason="the slope of logsumexp is softmax",
            numpy="numpy.logaddexp.reduce(z, axis=-1)", torch="torch.logsumexp(z, -1)")),
    Operation(name="scaled_dot_product_attention", aten="scaled_dot_product_attention",
        rewrite=_attention),
    Operation(name="causal", stands_for=(causal,), structure=_MASKS, formula=_without_later),
    Operation(name="masked", stands_for=(masked,), structure=_MASKS, formula=_under_a_mask),
    Operation(name="masked_fill", aten="masked_fill", structure=_MASKS, formula=_filled),
]  # fmt: skip
