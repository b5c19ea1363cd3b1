"""A traced product in fewer passes over memory.

    g ⊙ a ⊙ b, a and b without v        ->  g ⊙ (a ⊙ b)      the bracket is computed once, not per v
    f'(z) of g, as PyTorch's backward   ->  g ⊙ f'(z)
    c + a @ b, c + g ⊙ a                ->  one operation each
    c + (a @ b + d @ e)                 ->  (c + a @ b) + d @ e, one accumulator
    c + 0, 0 a tangent that is none     ->  c
    parts among zeros, added up         ->  the parts side by side
    s (a @ b), (s a) @ b, s a number    ->  a @ (s b)        likewise

Most of what a product with the Hessian does beside matrix products passes over activations, so that
it takes as long as there are passes.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, fx

from hesse.capture.forms import known_by, made_of
from hesse.capture.recording import COPIES, called

aten = torch.ops.aten

# Linear in their first argument, entry by entry, with a factor that is finite and smooth. One that
# selects is not among them: what it leaves out may be infinite.
_SMOOTH: set[Any] = {
    aten.elu_backward.default,
    aten.gelu_backward.default,
    aten.log_sigmoid_backward.default,
    aten.mish_backward.default,
    aten.sigmoid_backward.default,
    aten.silu_backward.default,
    aten.softplus_backward.default,
    aten.tanh_backward.default,
}
_ZEROS: set[Any] = {
    aten._efficientzerotensor.default,
    aten.new_zeros.default,
    aten.zeros.default,
    aten.zeros_like.default,
}
# Zero where their first argument is.
_OF_ZERO: set[Any] = {
    *COPIES,
    *_SMOOTH,
    aten.convolution.default,
    aten.div.Tensor,
    aten.mean.dim,
    aten.neg.default,
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.sum.dim_IntList,
    aten.t.default,
    aten.threshold_backward.default,
    aten.transpose.int,
    aten.unsqueeze.default,
}
# Where any argument is.
_PRODUCTS: set[Any] = {aten.bmm.default, aten.mm.default, aten.mul.Tensor}
# Where all are.
_OF_ALL: set[Any] = {aten.add.Tensor, aten.cat.default, aten.stack.default, aten.sub.Tensor}
# Those that a rule looks at.
_ADDITIONS: set[Any] = {aten.add.Tensor, aten.sub.Tensor}
_TURNS: set[Any] = {aten.reshape.default, aten.t.default, aten.transpose.int}
_VIEWS: set[Any] = {
    aten.expand.default,
    aten.permute.default,
    aten.reshape.default,
    aten.t.default,
    aten.transpose.int,
}
_FACTORS: set[Any] = {*_SMOOTH, aten.div.Tensor, aten.mul.Tensor, aten.neg.default}
# a + b @ c in one pass over the result.
FUSED: dict[Any, Any] = {
    aten.mm.default: aten.addmm.default,
    aten.bmm.default: aten.baddbmm.default,
}
_OF_FUSED: dict[Any, Any] = {fused: product for product, fused in FUSED.items()}


def form(node: Any) -> Any:
    """Shape, dtype, device and strides of a node's value."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return (
        (value.shape, value.dtype, value.device, value.stride())
        if isinstance(value, Tensor)
        else None
    )


def arguments(node: fx.Node) -> list[Any]:
    """Those by position, as what they are in each operation."""
    return list(node.args)


def moving(graph: fx.Graph, tangents: Sequence[fx.Node]) -> set[fx.Node]:
    """What depends on the tangents."""
    moves = set(tangents)
    for node in graph.nodes:
        if not moves.isdisjoint(node.all_input_nodes):
            moves.add(node)
    return moves


def simplify(graph: fx.Graph, tangents: Sequence[fx.Node]) -> None:
    """Fewer operations with the same result, to rounding, for values that are finite.

    Args:
        graph: a product, every operation of it pure, with the values of its nodes as shapes and
            without repetitions.
        tangents: its placeholders for v, in which it is linear.
    """
    _Simplification(graph, moving(graph, tangents)).run(
        (_side_by_side, {aten.add.Tensor}),
        (_without_zeros, _ADDITIONS),
        (_without_turns, _TURNS),
        (_of_factors, _FACTORS),
        # Before what scales a sum of products, and after, for what such a sum is added to.
        (_accumulated, {aten.add.Tensor}),
        (_scaled, {aten.mul.Tensor}),
        (_of_scaled, {*FUSED, *_OF_FUSED}),
        *_SUMS,
    )
    _merge_equal(graph)
    drop_unused(graph)


def fuse_sums(graph: fx.Graph) -> None:
    """Likewise, by the rules that make nothing new without v, for a product cut in two."""
    _Simplification(graph, {node for node in graph.nodes if node.meta.get("moves")}).run(*_SUMS)


def drop_unused(graph: fx.Graph) -> None:
    """Take out what nothing uses; as `torch.fx.Graph.eliminate_dead_code`, which looks through the
    whole graph for mistakes first."""
    for node in reversed(graph.nodes):
        if not node.users and not node.is_impure():
            graph.erase_node(node)


def _merge_equal(graph: fx.Graph) -> None:
    """The same operation on the same arguments is done once."""
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op not in ("call_function", "get_attr"):
            continue
        key = node.target, known_by(node.args), known_by(tuple(node.kwargs.items()))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _is_of_zeros(node: fx.Node, zero: set[fx.Node]) -> bool:
    """Whether a value is zero where some others are."""
    if node.target in _ZEROS:
        return True
    if node.target in _OF_ZERO:
        # But for a bias of its own.
        biased = node.target is aten.convolution.default and arguments(node)[2] is not None
        return arguments(node)[COPIES.get(node.target, 0)] in zero and not biased
    if node.target in _PRODUCTS:
        return not zero.isdisjoint(node.all_input_nodes)
    numbers = any(isinstance(argument, int | float) for argument in node.args[:2])
    return node.target in _OF_ALL and not numbers and zero.issuperset(node.all_input_nodes)


@final
class _Simplification:
    """The rules that know what depends on v.

    Args:
        graph: changed in place.
        moves: its nodes that depend on v; those that are made are added.
    """

    def __init__(self, graph: fx.Graph, moves: set[fx.Node]) -> None:
        self._graph, self._moves = graph, moves

    @cached_property
    def _zero(self) -> set[fx.Node]:
        zero = set[fx.Node]()
        for node in self._graph.nodes:
            if _is_of_zeros(node, zero):
                zero.add(node)
        return zero

    def is_zero(self, value: Any) -> bool:
        """Whether a value is known to be zero, whatever v is."""
        return isinstance(value, fx.Node) and value in self._zero

    def run(self, *rules: "tuple[Rule, set[Any]]") -> None:
        """Each rule at the operations that it knows, from the top down."""
        for rule, targets in rules:
            for node in [node for node in self._graph.nodes if node.target in targets]:
                # What another rule has taken away has no users.
                if node.users and (self.moves(node) or rule is _without_turns):
                    with self._graph.inserting_before(node):
                        simpler = rule(self, node)
                    if simpler is not None:
                        node.replace_all_uses_with(simpler)
                        self._erase(node)

    def moves(self, value: Any) -> bool:
        """Whether a value depends on v."""
        return isinstance(value, fx.Node) and value in self._moves

    def call(self, target: Any, *args: Any, **options: Any) -> fx.Node:
        """A new operation, here."""
        node = called(self._graph, target, args, options)
        values, named = fx.map_arg((args, options), lambda source: source.meta["val"])
        node.meta["val"] = made_of(target, values, named)
        if any(map(self.moves, node.all_input_nodes)):
            self._moves.add(node)
            node.meta["moves"] = True
        return node

    def _erase(self, node: fx.Node) -> None:
        """A node without users, and what it alone used."""
        sources = node.all_input_nodes
        self._graph.erase_node(node)
        for source in sources:
            if not source.users and source.op == "call_function":
                self._erase(source)

    def factor(self, node: fx.Node) -> tuple[fx.Node, Any] | None:
        """What is scaled entry by entry and by what, a number or a node without v; ``None`` where
        nothing is."""
        target, args = node.target, arguments(node)
        if target in (aten.mul.Tensor, aten.div.Tensor):
            first, second = args
            if target is aten.mul.Tensor and self.moves(second):
                first, second = second, first
            if not self.moves(first) or self.moves(second) or node.kwargs:
                return None
            if target is aten.mul.Tensor:
                return first, second
            return first, 1 / second if not isinstance(second, fx.Node) else self.call(
                aten.reciprocal.default, second
            )
        if target is aten.neg.default:
            return args[0], -1
        if target in _SMOOTH and self.moves(args[0]) and not any(map(self.moves, args[1:])):
            kept = next(argument for argument in args[1:] if isinstance(argument, fx.Node))
            ones = self.call(aten.new_ones.default, kept, list(form(node)[0]))
            return args[0], self.call(target, ones, *args[1:], **node.kwargs)
        return None

    def times(self, first: Any, second: Any) -> Any:
        """The product of two factors."""
        if not isinstance(first, fx.Node) and not isinstance(second, fx.Node):
            return first * second
        if not isinstance(first, fx.Node):
            first, second = second, first
        return first if second == 1 else self.call(aten.mul.Tensor, first, second)

    def products(self, node: Any) -> list[tuple[Any, Any]] | None:
        """The pairs of which a value that depends on v, used once, is the sum of matrix
        products."""
        if not self.moves(node) or len(node.users) > 1 or node.kwargs:
            return None
        if node.target in FUSED:
            return [(arguments(node)[0], arguments(node)[1])]
        if node.target not in _OF_FUSED:
            return None
        before = self.products(arguments(node)[0])
        return None if before is None else [*before, (arguments(node)[1], arguments(node)[2])]


Rule = Callable[[_Simplification, fx.Node], fx.Node | None]


def _side_by_side(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """The sum of what ways back from selections make, each its part among zeros, where the parts
    are all there is: a value that is taken apart into steps, or into queries, keys and values."""
    parts: list[tuple[Any, int, int, fx.Node]] = []
    left: list[Any] = [node]
    while left:
        part = left.pop()
        if not isinstance(part, fx.Node) or (part is not node and len(part.users) > 1):
            return None
        if part.target is aten.add.Tensor and not part.kwargs:
            left += part.args
        elif (among := _among_zeros(part)) is not None:
            parts.append(among)
        else:
            return None
    parts.sort(key=lambda part: part[1])
    joins, starts, ends, values = map(list, zip(*parts, strict=True))
    join, axis, size = joins[0]
    if any(other != joins[0] for other in joins) or [*starts, size] != [0, *ends]:
        return None
    return graph.call(join, values, axis)


def _among_zeros(part: fx.Node) -> tuple[Any, int, int, fx.Node] | None:
    """A value and where it lies among zeros: what joins it with others, along which axis of which
    size, and from where to where."""
    if part.target not in (aten.select_backward.default, aten.slice_backward.default):
        return None
    value, sizes, axis, *place = arguments(part)
    axis, size = axis % len(sizes), sizes[axis]
    if part.target is aten.select_backward.default:
        start = place[0] % size
        return (aten.stack.default, axis, size), start, start + 1, value
    start, end, step = slice(*place).indices(size)
    return ((aten.cat.default, axis, size), start, end, value) if step == 1 else None


def _without_zeros(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """What is left of a sum with zeros."""
    if node.kwargs:
        return None
    first, second = arguments(node)
    if not graph.is_zero(second) and node.target is aten.add.Tensor:
        first, second = second, first
    if not graph.is_zero(second) or form(first) is None or form(first)[1:3] != form(node)[1:3]:
        return None
    whole, part = form(node)[0], form(first)[0]
    return first if part == whole else graph.call(aten.expand.default, first, list(whole))


def _without_turns(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """The transpose of a transpose, the reshape of a reshape."""
    source = arguments(node)[0] if arguments(node) else None
    if not isinstance(source, fx.Node) or source.target is not node.target:
        return None
    if node.target is aten.reshape.default:
        return graph.call(aten.reshape.default, arguments(source)[0], arguments(node)[1])
    turns_back = node.target is aten.t.default or (
        node.target is aten.transpose.int and arguments(node)[1:] == arguments(source)[1:]
    )
    return arguments(source)[0] if turns_back else None


def _of_factors(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """g ⊙ a ⊙ b by one factor, which does not depend on v."""
    found = graph.factor(node)
    if found is None:
        return None
    source, factor = found
    if len(source.users) == 1 and source.target is aten.mul.Tensor:
        inner = graph.factor(source)
        if inner is not None:
            source, factor = inner[0], graph.times(inner[1], factor)
    # Most are there already as they would be made.
    if node.target is aten.mul.Tensor and arguments(node) == [source, factor]:
        return None
    return graph.call(aten.mul.Tensor, source, factor)


def _scaled(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """A number times matrix products, which may be laid otherwise: of each the side without v has
    the number."""
    if isinstance(arguments(node)[1], fx.Node):
        return None
    source, number = arguments(node)
    source, views = _without_views(source, alone=True)
    products = graph.products(source)
    if products is None:
        return None
    total: fx.Node | None = None
    for left, right in products:
        if graph.moves(left):
            right = graph.call(aten.mul.Tensor, right, number)
        else:
            left = graph.call(aten.mul.Tensor, left, number)
        total = _sum(graph, source, total, left, right)
    return _viewed(graph, total, views)


def _of_scaled(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """A matrix product of what has a number for a factor: the side without v has it."""
    *total, left, right = arguments(node)
    pair = [left, right]
    place = int(not graph.moves(left))
    if node.kwargs or graph.moves(pair[1 - place]):
        return None
    scaled, views = _without_views(pair[place], alone=False)
    if scaled.target is not aten.mul.Tensor or scaled.kwargs:
        return None
    source, number = arguments(scaled)
    if isinstance(number, fx.Node) or not graph.moves(source):
        return None
    if form(source)[:3] != form(scaled)[:3]:
        return None
    pair[place] = _viewed(graph, source, views)
    pair[1 - place] = graph.call(aten.mul.Tensor, pair[1 - place], number)
    return graph.call(node.target, *total, *pair)


def _without_views(node: fx.Node, alone: bool) -> tuple[fx.Node, list[fx.Node]]:
    """What is laid otherwise, and by which operations in a row, the last first; as far as each is
    used once, or whatever else uses them."""
    views: list[fx.Node] = []
    while node.target in _VIEWS and not (alone and len(node.users) > 1):
        views.append(node)
        node = arguments(node)[0]
    return node, views


def _viewed(graph: _Simplification, node: Any, views: Sequence[fx.Node]) -> fx.Node:
    """A value laid by the operations that another one was laid by."""
    for view in reversed(views):
        node = graph.call(view.target, node, *arguments(view)[1:], **view.kwargs)
    return node


def _accumulated(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """c + a @ b + d @ e, one accumulator."""
    if node.kwargs or len(node.args) != 2:
        return None
    # The later of two is added to the other one.
    first, second = arguments(node)
    for addend, summed in ((first, second), (second, first)):
        products = graph.products(summed)
        if products is None or not isinstance(addend, fx.Node) or addend is summed:
            continue
        if form(addend) is None or form(node)[:3] != form(summed)[:3]:
            continue
        # It may be smaller.
        if form(addend)[1:3] != form(summed)[1:3]:
            continue
        total = addend
        for left, right in products:
            total = _sum(graph, summed, total, left, right)
        return total
    return None


def _sum(
    graph: _Simplification, like: Any, total: fx.Node | None, left: Any, right: Any
) -> fx.Node:
    """total + left @ right, of the kind of another product."""
    product = _OF_FUSED.get(like.target, like.target)
    if total is None:
        return graph.call(product, left, right)
    return graph.call(FUSED[product], total, left, right)


def _with_factor(graph: _Simplification, node: fx.Node) -> fx.Node | None:
    """c ± g ⊙ a in one pass."""
    if node.kwargs:
        return None
    sign = 1 if node.target is aten.add.Tensor else -1
    first, second = arguments(node)
    for addend, scaled in ((first, second), (second, first))[: 1 + (sign == 1)]:
        if not isinstance(addend, fx.Node) or not isinstance(scaled, fx.Node) or addend is scaled:
            continue
        if scaled.target is not aten.mul.Tensor or len(scaled.users) > 1:
            continue
        if not graph.moves(scaled) or len({form(x)[:3] for x in (node, addend, scaled)}) > 1:
            continue
        source, factor = arguments(scaled)
        if not isinstance(factor, fx.Node):
            return graph.call(node.target, addend, source, alpha=factor)
        return graph.call(aten.addcmul.default, addend, source, factor, value=sign)
    return None


_SUMS: tuple[tuple[Rule, set[Any]], ...] = (
    (_accumulated, {aten.add.Tensor}),
    (_with_factor, _ADDITIONS),
)
