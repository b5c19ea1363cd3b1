"""A program that is linear in v, for several v at once: every value that moves with v has them
along a first axis.

`torch.func.vmap` does the same, operation by operation, whenever it is called. Here it is done
once, for the whole program, which is then written with what vmap cannot know: what is used no more
is written over, sums of products go to one accumulator, and a product with unit vectors copies
entries.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx

from hesse.capture.overwriting import columns_added, overwrite, rows_added
from hesse.capture.recording import Program
from hesse.capture.simplification import FUSED, arguments, form

aten = torch.ops.aten


def several(program: Program, units: bool = False) -> Program:
    """(*kept, *v) -> parts for one v, for many: (*kept, *V) -> parts, V and parts with a first axis
    of the same length.

    Args:
        program: with ``meta``: ``moves`` and ``val`` for each node.
        units: it has one v, a unit vector always; the places of its ones, a tensor of whole
            numbers, are given after V.

    Raises:
        RuntimeError: when it is run, where an operation has no rule for several at once.
    """
    return _Several(program, units).program


def vmapped(operation: Any, places: Sequence[int | None], args: Sequence[Any], options: Any) -> Any:
    """An operation that has no rule here, by PyTorch's."""
    moving = [place for place, axis in enumerate(places) if axis is not None]

    def one(*parts: Tensor) -> Any:
        given = list(args)
        for place, part in zip(moving, parts, strict=True):
            given[place] = part
        return operation(*given, **options)

    return torch.func.vmap(one)(*(args[place] for place in moving))


def back_through_convolution(
    places: Sequence[int | None], tensors: Sequence[Tensor], options: Sequence[Any]
) -> list[Tensor | None]:
    """Likewise; what is not asked for is no tensor, which `vmap` would not return."""
    *_, mask = options

    def asked(*given: Tensor) -> list[Tensor]:
        results = aten.convolution_backward.default(*given, *options)
        return [result for result in results if result is not None]

    found = iter(torch.func.vmap(asked, tuple(places))(*tensors))
    return [next(found) if wanted else None for wanted in mask]


@final
class _Several:
    """The program, copied operation by operation.

    Attributes:
        program: the copy.
    """

    def __init__(self, program: Program, units: bool) -> None:
        self._graph, self._known = fx.Graph(), dict[fx.Node, fx.Node]()
        self._fresh, self._sizes = set[fx.Node](), dict[fx.Node, tuple[Any, ...]]()
        # Those that are a unit matrix, and whether transposed.
        self._units = dict[Any, bool]()
        places = program.graph.find_nodes(op="placeholder")
        for node in places:
            self._known[node] = self._graph.node_copy(node)
        (tangents, *_) = (node for node in reversed(places) if self.moves(node))
        if units:
            self._ones = self._graph.placeholder("ones")
            if len(self.shape(tangents)) == 2:
                self._units[tangents] = False
        self.count = self.call(aten.sym_size.int, self._known[tangents], 0)
        for node in program.graph.nodes:
            if node.op == "output":
                self._graph.output([self.stacked(part) for part in arguments(node)[0]])
            elif node.op != "placeholder":
                self._known[node] = self._copied(node)
        self._graph.eliminate_dead_code()
        overwrite(self._graph, self._fresh, self._sizes)
        self.program = Program(self._graph, program.constants)

    def _copied(self, node: fx.Node) -> Any:
        if not any(map(self.moves, node.all_input_nodes)):
            return self._graph.node_copy(node, self._known.__getitem__)
        self._note_unit(node)
        rule = _RULES.get(node.target)
        if rule is None and _is_entry_by_entry(node):
            rule = _entry_by_entry
        copy = rule(self, node) if rule is not None else None
        if copy is None:
            if any(
                self.moves(source) and source not in node.args for source in node.all_input_nodes
            ):
                raise RuntimeError(f"{node.target} has no rule for several v in a list")
            places = [0 if self.moves(argument) else None for argument in node.args]
            args, options = (
                fx.map_arg(part, self._known.__getitem__)
                for part in (list(node.args), dict(node.kwargs))
            )
            copy = self.call(vmapped, node.target, places, args, options)
        if form(node) is not None:
            self._sizes.setdefault(copy, (-1, *self.shape(node)))
        return copy

    def _note_unit(self, node: fx.Node) -> None:
        """The transpose of a unit matrix is one."""
        if node.target is aten.t.default and node.args[0] in self._units:
            self._units[node] = not self._units[node.args[0]]

    def moves(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and bool(value.meta.get("moves"))

    def shape(self, node: fx.Node) -> list[int]:
        """Of a value for one v."""
        return list(form(node)[0])

    def call(self, target: Any, *args: Any, **options: Any) -> fx.Node:
        return self._graph.call_function(target, args, options)

    def new(self, size: Sequence[int], target: Any, *args: Any, **options: Any) -> fx.Node:
        """An operation whose result is memory of its own, of a size; -1 for what grows with the
        number of v."""
        node = self.call(target, *args, **options)
        self._fresh.add(node)
        self._sizes[node] = tuple(size)
        return node

    def product(self, size: Sequence[int], kind: Any, pair: Any, total: fx.Node | None) -> fx.Node:
        """A product of matrices, `mm` or `bmm`; added to a total, where there is one."""
        if total is None:
            return self.new(size, kind, *pair)
        return self.new(size, FUSED[kind], total, *pair)

    def known(self, node: Any) -> Any:
        return self._known[node]

    def stacked(self, node: Any, shape: Sequence[int] | None = None) -> fx.Node:
        """A value with the axis of v, of this shape for each."""
        shape = self.shape(node) if shape is None else list(shape)
        if self.moves(node) and shape == self.shape(node):
            return self._known[node]
        return self.call(aten.expand.default, self.aligned(node, len(shape)), [self.count, *shape])

    def aligned(self, node: Any, rank: int) -> Any:
        """A value whose axes stand where they do for one v of so many axes."""
        if not self.moves(node) or len(self.shape(node)) == rank:
            return self._known[node] if isinstance(node, fx.Node) else node
        ones = [1] * (rank - len(self.shape(node)))
        sizes = [self.count, *ones, *self.shape(node)]
        return self.call(aten.reshape.default, self._known[node], sizes)

    def folded(self, node: Any, like: Sequence[int] | None = None) -> fx.Node:
        """A value with the axis of v in the first of its own."""
        shape = self.shape(node) if like is None else list(like)
        folded = self.call(aten.reshape.default, self.stacked(node, shape), [-1, *shape[1:]])
        self._sizes[folded] = (-1, *shape[1:])
        return folded

    def unfolded(self, value: fx.Node, node: fx.Node) -> fx.Node:
        return self.call(aten.reshape.default, value, [self.count, *self.shape(node)])

    def ones_in(self, node: Any) -> tuple[fx.Node, fx.Node] | None:
        """Row and column of the ones in a matrix that is a unit vector, or its transpose; ``None``
        for another."""
        if node not in self._units:
            return None
        rows, columns = self.shape(node)
        width = rows if self._units[node] else columns
        row = self.call(torch.floor_divide, self._ones, width)
        column = self.call(torch.remainder, self._ones, width)
        return (column, row) if self._units[node] else (row, column)


Rule = Callable[[_Several, fx.Node], Any]


def _is_entry_by_entry(node: fx.Node) -> bool:
    return (
        isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    )


def _entry_by_entry(several: _Several, node: fx.Node) -> Any:
    forms = [form(source) for source in (node, *node.all_input_nodes)]
    # What several dtypes give depends on how many axes they have.
    if len({found[1] for found in forms if found is not None} - {torch.bool}) > 1:
        return None
    if None in forms or node.target in _OF_ONE_SHAPE:
        return None
    shape = several.shape(node)
    args, options = fx.map_arg(
        (node.args, dict(node.kwargs)), lambda source: several.aligned(source, len(shape))
    )
    return several.new((-1, *shape), node.target, *args, **options)


def _matrix_product(several: _Several, node: fx.Node) -> Any:
    """total + a @ b, or without total; one product of matrices where b does not move."""
    if node.kwargs:
        return None
    *total, left, right = arguments(node)
    shape = several.shape(node)
    placed = _placed(several, node)
    if placed is not None:
        return placed
    turned = isinstance(left, fx.Node) and left.target is aten.t.default
    if several.moves(left) and not turned:
        folded = several.folded(left), several.known(right)
        to = several.folded(total[0], shape) if total else None
        product = several.product((-1, shape[1]), aten.mm.default, folded, to)
        return several.unfolded(product, node)
    pair = several.stacked(left), several.stacked(right)
    to = several.stacked(total[0], shape) if total else None
    return several.product((-1, *shape), aten.bmm.default, pair, to)


def _placed(several: _Several, node: fx.Node) -> Any:
    """A product with unit matrices."""
    *total, left, right = arguments(node)
    shape = several.shape(node)
    for place, unit, kept in ((columns_added, right, left), (rows_added, left, right)):
        ones = several.ones_in(unit)
        if ones is None:
            continue
        if total:
            to = several.stacked(total[0], shape)
        else:
            sizes = [several.count, *shape]
            to = several.new((-1, *shape), aten.new_zeros.default, several.known(kept), sizes)
        return several.new((-1, *shape), place, to, several.known(kept), *ones)
    return None


def _batched_product(several: _Several, node: fx.Node) -> Any:
    """Likewise of many matrices."""
    if node.kwargs:
        return None
    *total, left, right = arguments(node)
    shape = several.shape(node)
    pair = several.folded(left), several.folded(right)
    to = several.folded(total[0], shape) if total else None
    product = several.product((-1, *shape[1:]), aten.bmm.default, pair, to)
    return several.unfolded(product, node)


def _behind(axis: int) -> int:
    """An axis, behind that of v."""
    return axis + 1 if axis >= 0 else axis


def _transposed(several: _Several, node: fx.Node) -> Any:
    value, *axes = arguments(node)
    if node.target is aten.t.default:
        if len(several.shape(node)) < 2:
            return several.known(value)
        axes = [0, 1]
    return several.call(aten.transpose.int, several.known(value), *map(_behind, axes))


def _permuted(several: _Several, node: fx.Node) -> Any:
    value, axes = arguments(node)
    behind = [axis % len(axes) + 1 for axis in axes]
    return several.call(aten.permute.default, several.known(value), [0, *behind])


def _reshaped(several: _Several, node: fx.Node) -> Any:
    return several.unfolded(several.known(node.args[0]), node)


def _expanded(several: _Several, node: fx.Node) -> Any:
    return several.stacked(node.args[0], several.shape(node))


def _copied(several: _Several, node: fx.Node) -> Any:
    return several.known(node.args[0])


def _along_an_axis(several: _Several, node: fx.Node) -> Any:
    value, *rest = arguments(node)
    axis, *others = rest or [0]
    return several.call(node.target, several.known(value), _behind(axis), *others, **node.kwargs)


def _split(several: _Several, node: fx.Node) -> Any:
    value, sizes, *axis = arguments(node)
    return several.call(node.target, several.known(value), sizes, _behind(*axis or [0]))


def _summed(several: _Several, node: fx.Node) -> Any:
    value, axes, *rest = arguments(node)
    axes = axes or list(range(len(several.shape(value))))
    if not axes:
        return None
    size = (-1, *several.shape(node))
    behind = list(map(_behind, axes))
    return several.new(size, node.target, several.known(value), behind, *rest, **node.kwargs)


def _joined(several: _Several, node: fx.Node) -> Any:
    parts, *axis = arguments(node)
    stacked = [several.stacked(part) for part in parts]
    return several.new((-1, *several.shape(node)), node.target, stacked, _behind(*axis or [0]))


def _selected_back(several: _Several, node: fx.Node) -> Any:
    value, sizes, axis, *rest = arguments(node)
    size = (-1, *several.shape(node))
    inner = [several.count, *sizes]
    return several.new(size, node.target, several.known(value), inner, _behind(axis), *rest)


def _part(several: _Several, node: fx.Node) -> Any:
    whole, place = arguments(node)
    parts = several.known(whole)
    return parts[place] if isinstance(parts, list) else several.call(operator.getitem, parts, place)


def _convolution(several: _Several, node: fx.Node) -> Any:
    image, kernel, bias, *options = arguments(node)
    axes = len(options[0])
    if bias is not None or several.moves(kernel) or len(several.shape(image)) != axes + 2:
        return None
    size = (-1, *several.shape(node)[1:])
    given = several.folded(image), several.known(kernel), None
    return several.unfolded(several.new(size, node.target, *given, *options), node)


def _back_through_convolution(several: _Several, node: fx.Node) -> Any:
    """To the image, of stride 1, it is a convolution with the kernel turned about, which PyTorch
    does in half the time where there are few channels."""
    grad, image, kernel, *options = arguments(node)
    _, stride, padding, dilation, transposed, _, groups, mask = options
    moving = [several.moves(value) for value in (grad, image, kernel)]
    if moving == [True, False, False] and mask == [True, False, False]:
        sizes = several.shape(kernel)[2:]
        around = [d * (n - 1) - p for d, n, p in zip(dilation, sizes, padding, strict=True)]
        if not transposed and groups == 1 and set(stride) == {1} and min(around) >= 0:
            turned = several.call(
                aten.flip.default, several.known(kernel), list(range(2, 2 + len(sizes)))
            )
            turned = several.call(aten.transpose.int, turned, 0, 1)
            turned = several.call(aten.contiguous.default, turned)
            forward = stride, around, dilation, False, [0] * len(sizes), 1
            given = several.folded(grad), turned, None
            size = (-1, *several.shape(image)[1:])
            to_image = several.new(size, aten.convolution.default, *given, *forward)
            return [several.unfolded(to_image, image)]
    places = [0 if moves else None for moves in moving]
    tensors = list(map(several.known, (grad, image, kernel)))
    return several.call(back_through_convolution, places, tensors, options)


# Entry by entry for tensors of one shape only.
_OF_ONE_SHAPE: set[Any] = {aten.gelu_backward.default}
_RULES: dict[Any, Rule] = {
    aten.addmm.default: _matrix_product,
    aten.baddbmm.default: _batched_product,
    aten.bmm.default: _batched_product,
    aten.cat.default: _joined,
    aten.clone.default: _copied,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _back_through_convolution,
    aten.expand.default: _expanded,
    aten.mean.dim: _summed,
    aten.mm.default: _matrix_product,
    aten.permute.default: _permuted,
    aten.reshape.default: _reshaped,
    aten.select.int: _along_an_axis,
    aten.select_backward.default: _selected_back,
    aten.slice.Tensor: _along_an_axis,
    aten.slice_backward.default: _selected_back,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.squeeze.dim: _along_an_axis,
    aten.stack.default: _joined,
    aten.sum.dim_IntList: _summed,
    aten.t.default: _transposed,
    aten.transpose.int: _transposed,
    aten.unbind.int: _along_an_axis,
    aten.unsafe_split.Tensor: _split,
    aten.unsqueeze.default: _along_an_axis,
    operator.getitem: _part,
}
