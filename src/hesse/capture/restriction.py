"""A traced product H v restricted to the v that move one parameter and to the parts of H v of some:
what all the others need is left out.

Where v moves the parameters of one layer only, nothing below the layer moves with it; and where no
more is asked of H v than the layers above it, the way back ends at the layer. For a product with
every unit vector of every layer, of symmetric H, that is all that is needed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from hesse.capture.recording import Program, copied
from hesse.capture.simplification import fuse_sums
from hesse.capture.simplification.graph import arguments, drop_unused, form

aten = torch.ops.aten


def restricted(apply: Program, parameters: int, moving: int, outputs: Sequence[int]) -> Program:
    """The linear part of a product for some v, and some parts of its result.

    Args:
        apply: (*kept, *v) -> H v, as `hesse.capture.straight_line` makes it.
        parameters: how many there are, at the end of its arguments.
        moving: the place of the parameter that v moves.
        outputs: the places of the parameters whose parts are asked for.

    Returns:
        (*kept, that part of v) -> those parts of H v. Arguments that it does not use are kept.
    """
    return _Restriction(apply, parameters, moving).asked_for(outputs)


# In place of a value.
_ZERO = object()


class _Restriction:
    """The program, copied without what is zero and without what is not asked for.

    Attributes:
        graph: the copy.
    """

    def __init__(self, apply: Program, parameters: int, moving: int) -> None:
        self._apply, self.graph = apply, fx.Graph()
        self._known: dict[fx.Node, fx.Node] = {}
        self._zero, self._part = set[fx.Node](), dict[fx.Node, fx.Node]()
        places = apply.graph.find_nodes(op="placeholder")
        tangents = places[len(places) - parameters :]
        self._zero.update(node for place, node in enumerate(tangents) if place != moving)
        for node in apply.graph.nodes:
            self._look_at(node)

    def asked_for(self, outputs: Sequence[int]) -> Program:
        """With these parts of the result."""
        every = self._apply.graph.output_node().args[0]
        assert isinstance(every, Sequence)
        asked = [every[place] for place in outputs]
        needed = self._needed_for(asked)
        for node in self._apply.graph.nodes:
            if node in self._part:
                if node in needed:
                    self._known[node] = self.value(self._part[node])
            elif node in needed or (node.op == "placeholder" and node not in self._zero):
                self._copy(node)
        self.graph.output([self.value(part) for part in asked])
        drop_unused(self.graph)
        _narrow(self.graph)
        fuse_sums(self.graph)
        return Program(self.graph, self._apply.constants)

    def _needed_for(self, asked: Sequence[Any]) -> set[fx.Node]:
        """What some values are made of and is not zero."""
        needed = {part for part in asked if isinstance(part, fx.Node)} - self._zero
        for node in reversed(self._apply.graph.nodes):
            if node in needed:
                sources = [self._part[node]] if node in self._part else node.all_input_nodes
                needed.update(source for source in sources if source not in self._zero)
        return needed

    def is_zero(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value in self._zero

    def value(self, value: Any) -> Any:
        """What stands for a value of the program; zeros where it is zero."""
        if not isinstance(value, fx.Node):
            return value
        if value in self._zero and value not in self._known:
            shape, dtype, device, _ = form(value)
            options = {"dtype": dtype, "device": device}
            zeros = self.graph.call_function(aten.zeros.default, (list(shape),), options)
            zeros.meta = {"val": value.meta["val"], "moves": False}
            self._known[value] = zeros
        return self._known[value]

    def made(self, like: fx.Node, target: Any, *args: Any) -> fx.Node:
        """An operation of the copy, whose result has the form of another's."""
        copy = self.graph.call_function(target, args)
        copy.meta = like.meta
        return copy

    def _selected(self, node: fx.Node) -> Any:
        """What a selection gives of what was joined, or of what holds another among zeros; ``None``
        where it is neither."""
        source, axis, place = arguments(node)
        while isinstance(source, fx.Node) and source.target is aten.transpose.int:
            shape = form(source)[0]
            first, second, axis = (each % len(shape) for each in (*arguments(source)[1:], axis))
            # The axes that are left stay in their order.
            if axis not in (first, second) or abs(first - second) != 1:
                return None
            axis, source = first + second - axis, arguments(source)[0]
        if not isinstance(source, fx.Node):
            return None
        size = form(source)[0][axis] if form(source) is not None else 0
        if source.target is aten.stack.default:
            parts, *along = arguments(source)
            return parts[place % size] if (along or [0])[0] % len(form(source)[0]) == axis else None
        if source.target is aten.select_backward.default:
            value, _, along, back = arguments(source)
            if along % len(form(source)[0]) != axis:
                return None
            return value if back % size == place % size else _ZERO
        return None

    def _look_at(self, node: fx.Node) -> None:
        """Whether it is zero, or part of what was joined."""
        # Every operation is linear in all that moves, taken together.
        moves = [source for source in node.all_input_nodes if source.meta["moves"]]
        if moves and self._zero.issuperset(moves):
            self._zero.add(node)
        elif node.target is aten.select.int and (part := self._selected(node)) is not None:
            if part is _ZERO or part in self._zero:
                self._zero.add(node)
            else:
                self._part[node] = part

    def _copy(self, node: fx.Node) -> None:
        has_zeros = not self._zero.isdisjoint(node.all_input_nodes)
        simpler = _WITHOUT.get(node.target) if has_zeros else None
        copy = simpler(self, node) if simpler is not None else None
        if copy is None:
            copy = copied(self.graph, node, self.value)
        self._known[node] = copy


def _one_side(restriction: _Restriction, node: fx.Node) -> fx.Node:
    """a ± b, one of them zero."""
    first, second = node.args
    is_second = restriction.is_zero(first)
    kept = restriction.value(second if is_second else first)
    factor = node.kwargs.get("alpha", 1) if is_second else 1
    if is_second and node.target is aten.sub.Tensor:
        factor = -factor  # type: ignore[operator]
    if factor != 1:
        kept = restriction.made(kept, aten.mul.Tensor, kept, factor)
    return _as_large(restriction, kept, node)


def _sum_and_product(restriction: _Restriction, node: fx.Node) -> fx.Node | None:
    """a + b @ c, one of the two summands zero."""
    addend, *factors = node.args
    if node.kwargs:  # with factors of their own
        return None
    if any(map(restriction.is_zero, factors)):
        return _as_large(restriction, restriction.value(addend), node)
    product = aten.mm.default if node.target is aten.addmm.default else aten.bmm.default
    return restriction.made(node, product, *map(restriction.value, factors))


def _sum_and_factor(restriction: _Restriction, node: fx.Node) -> fx.Node:
    """a + s b ⊙ c, one of the two summands zero."""
    addend, *factors = node.args
    if any(map(restriction.is_zero, factors)):
        return _as_large(restriction, restriction.value(addend), node)
    product = restriction.made(node, aten.mul.Tensor, *map(restriction.value, factors))
    if (value := node.kwargs.get("value", 1)) == 1:
        return product
    return restriction.made(node, aten.mul.Tensor, product, value)


def _convolution(restriction: _Restriction, node: fx.Node) -> fx.Node:
    """a * w + bias, one of the two summands zero."""
    image, kernel, bias, *options = arguments(node)
    if restriction.is_zero(bias):
        given = (restriction.value(image), restriction.value(kernel), None, *options)
        return restriction.made(node, aten.convolution.default, *given)
    spread = [-1, *[1] * len(options[0])]
    along = restriction.made(node, aten.reshape.default, restriction.value(bias), spread)
    along.meta = dict(node.meta, val=bias.meta["val"].reshape(spread))
    return restriction.made(node, aten.expand.default, along, list(form(node)[0]))


def _only_part(restriction: _Restriction, node: fx.Node) -> fx.Node | None:
    """Parts side by side, all but one zero."""
    parts, *along = arguments(node)
    axis = (along or [0])[0]
    kept = [place for place, part in enumerate(parts) if not restriction.is_zero(part)]
    if len(kept) != 1:
        return None
    (place,) = kept
    given = restriction.value(parts[place]), list(form(node)[0]), axis
    if node.target is aten.stack.default:
        return restriction.made(node, aten.select_backward.default, *given, place)
    sizes = [form(part)[0][axis] for part in parts]
    start = sum(sizes[:place])
    return restriction.made(
        node, aten.slice_backward.default, *given, start, start + sizes[place], 1
    )


def _as_large(restriction: _Restriction, kept: fx.Node, node: fx.Node) -> fx.Node:
    """What is left of a sum, in the shape of the sum."""
    if form(kept)[0] == form(node)[0]:
        return kept
    return restriction.made(node, aten.expand.default, kept, list(form(node)[0]))


# What is simpler where something of it is zero; of everything else zeros are an argument.
_WITHOUT: dict[Any, Callable[[_Restriction, fx.Node], fx.Node | None]] = {
    aten.add.Tensor: _one_side,
    aten.sub.Tensor: _one_side,
    aten.addcmul.default: _sum_and_factor,
    aten.addmm.default: _sum_and_product,
    aten.baddbmm.default: _sum_and_product,
    aten.cat.default: _only_part,
    aten.convolution.default: _convolution,
    aten.stack.default: _only_part,
}


def _narrow(graph: fx.Graph) -> None:
    """Of the way back through a convolution only what is used."""
    for node in graph.find_nodes(op="call_function", target=aten.convolution_backward.default):
        used = {user.args[1] for user in node.users}
        *others, mask = node.args
        assert isinstance(mask, Sequence)
        wanted = [bool(asked) and place in used for place, asked in enumerate(mask)]
        node.args = (*others, wanted)
