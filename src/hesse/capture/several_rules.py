"""What the operations of a program that is linear in v become for several v at once."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from hesse.capture.overwriting import columns_added, rows_added
from hesse.capture.several_values import SeveralValues, is_moving
from hesse.capture.simplification.graph import arguments, form
from hesse.operations.pooling import averages, spread

aten = torch.ops.aten

# What stands for a value; ``None`` where the rule does not serve the arguments.
Rule = Callable[[SeveralValues, fx.Node], Any]


def rule_of(node: fx.Node) -> Rule | None:
    """That of an operation, if there is one."""
    rule = _RULES.get(node.target)
    return _entry_by_entry if rule is None and _is_entry_by_entry(node) else rule


def is_turned(value: Any) -> bool:
    """Whether a matrix is another one's transpose, which is not to be laid anew."""
    return isinstance(value, fx.Node) and value.target in _TURNS


def _is_entry_by_entry(node: fx.Node) -> bool:
    return (
        isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    )


def _entry_by_entry(several: SeveralValues, node: fx.Node) -> Any:
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


def _matrix_product(several: SeveralValues, node: fx.Node) -> Any:
    """total + a @ b, or without total; one product of matrices where b does not move."""
    if node.kwargs:
        return None
    *total, left, right = arguments(node)
    shape = several.shape(node)
    placed = _placed(several, node)
    if placed is not None:
        return placed
    if is_moving(left) and not is_turned(left):
        folded = several.folded(left), several.known[right]
        to = several.folded(total[0], shape) if total else None
        product = several.product((-1, shape[1]), aten.mm.default, folded, to)
        return several.unfolded(product, node)
    pair = several.stacked(left), several.stacked(right)
    to = several.stacked(total[0], shape) if total else None
    return several.product((-1, *shape), aten.bmm.default, pair, to)


def _placed(several: SeveralValues, node: fx.Node) -> Any:
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
            to = several.new((-1, *shape), aten.new_zeros.default, several.known[kept], sizes)
        return several.new((-1, *shape), place, to, several.known[kept], *ones)
    return None


def _batched_product(several: SeveralValues, node: fx.Node) -> Any:
    """Likewise of many matrices."""
    if node.kwargs:
        return None
    *total, left, right = arguments(node)
    shape = several.shape(node)
    pair = several.folded(left), several.folded(right)
    to = several.folded(total[0], shape) if total else None
    product = several.product((-1, *shape[1:]), aten.bmm.default, pair, to)
    return several.unfolded(product, node)


def _triangular_system(several: SeveralValues, node: fx.Node) -> Any:
    """One system for all right-hand sides, where the triangle does not move: as X L = B, whose
    rows are the sides, and lie one after another."""
    triangle, sides = arguments(node)
    if is_moving(triangle) or len(several.shape(triangle)) + len(several.shape(sides)) != 4:
        return None
    options = {"left": True, **node.kwargs}
    known, rows, columns = several.known[triangle], *several.shape(node)
    if not options["left"]:
        system = several.new((-1, columns), node.target, known, several.folded(sides), **options)
        return several.unfolded(system, node)
    options.update(left=False, upper=not options["upper"])
    turned = several.call(aten.transpose.int, several.known[sides], 1, 2)
    folded = several.call(aten.reshape.default, turned, [-1, rows])
    known = several.call(aten.transpose.int, known, 0, 1)
    system = several.new((-1, rows), node.target, known, folded, **options)
    unfolded = several.call(aten.reshape.default, system, [several.count, columns, rows])
    return several.call(aten.transpose.int, unfolded, 1, 2)


def _last_axes(several: SeveralValues, node: fx.Node) -> Any:
    """What is done with the last axes alone."""
    value, *rest = arguments(node)
    size = (-1, *several.shape(node))
    return several.new(size, node.target, several.known[value], *rest, **node.kwargs)


def _behind(axis: int) -> int:
    """An axis, behind that of v."""
    return axis + 1 if axis >= 0 else axis


def _transposed(several: SeveralValues, node: fx.Node) -> Any:
    value, *axes = arguments(node)
    if node.target is aten.t.default:
        if len(several.shape(node)) < 2:
            return several.known[value]
        axes = [0, 1]
    return several.call(aten.transpose.int, several.known[value], *map(_behind, axes))


def _permuted(several: SeveralValues, node: fx.Node) -> Any:
    value, axes = arguments(node)
    behind = [axis % len(axes) + 1 for axis in axes]
    return several.call(aten.permute.default, several.known[value], [0, *behind])


def _reshaped(several: SeveralValues, node: fx.Node) -> Any:
    return several.unfolded(several.known[arguments(node)[0]], node)


def _expanded(several: SeveralValues, node: fx.Node) -> Any:
    return several.stacked(node.args[0], several.shape(node))


def _copied(several: SeveralValues, node: fx.Node) -> Any:
    return several.known[arguments(node)[0]]


def _along_an_axis(several: SeveralValues, node: fx.Node) -> Any:
    value, *rest = arguments(node)
    axis, *others = rest or [0]
    return several.call(node.target, several.known[value], _behind(axis), *others, **node.kwargs)


def _split(several: SeveralValues, node: fx.Node) -> Any:
    value, sizes, *axis = arguments(node)
    return several.call(node.target, several.known[value], sizes, _behind(*axis or [0]))


def _summed(several: SeveralValues, node: fx.Node) -> Any:
    value, axes, *rest = arguments(node)
    axes = axes or list(range(len(several.shape(value))))
    if not axes:
        return None
    size = (-1, *several.shape(node))
    behind = list(map(_behind, axes))
    return several.new(size, node.target, several.known[value], behind, *rest, **node.kwargs)


def _joined(several: SeveralValues, node: fx.Node) -> Any:
    parts, *axis = arguments(node)
    stacked = [several.stacked(part) for part in parts]
    return several.new((-1, *several.shape(node)), node.target, stacked, _behind(*axis or [0]))


def _selected_back(several: SeveralValues, node: fx.Node) -> Any:
    value, sizes, axis, *rest = arguments(node)
    size = (-1, *several.shape(node))
    inner = [several.count, *sizes]
    return several.new(size, node.target, several.known[value], inner, _behind(axis), *rest)


def _part(several: SeveralValues, node: fx.Node) -> Any:
    whole, place = arguments(node)
    parts = several.known[whole]
    return parts[place] if isinstance(parts, list) else several.call(operator.getitem, parts, place)


def back_through_convolution(
    places: Sequence[int | None], tensors: Sequence[Tensor], options: Sequence[Any]
) -> list[Tensor | None]:
    """The way back through one by PyTorch's vmap; what is not asked for is no tensor, which `vmap`
    would not return."""
    *_, mask = options

    def asked(*given: Tensor) -> list[Tensor]:
        results = aten.convolution_backward.default(*given, *options)
        return [result for result in results if result is not None]

    found = iter(torch.func.vmap(asked, tuple(places))(*tensors))
    return [next(found) if wanted else None for wanted in mask]


def kernels_placed(
    image: Tensor,
    ones: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolutions of an image with unit kernels, each with its one at a place: a channel of the
    image, moved, is a channel of what comes out, and all others are zero.

    Examples:
        >>> image, ones = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([1])
        >>> kernels_placed(image, ones, (1, 1, 2), [1], [0], [1], 1)
        tensor([[[[2., 3.]]]])
    """
    outputs, inputs, *window = kernel
    output, channel, *taps = torch.unravel_index(ones, tuple(kernel))
    channel = channel + output // (outputs // groups) * inputs
    windows = F.pad(image, [width for width in reversed(padding) for _ in range(2)])
    for axis, (size, step, apart) in enumerate(zip(window, stride, dilation, strict=True), 2):
        windows = windows.unfold(axis, apart * (size - 1) + 1, step)[..., ::apart]
    every = (slice(None),)
    moved = windows[(*every, channel, *every * len(window), *taps)]
    placed = image.new_zeros(len(ones), len(image), outputs, *moved.shape[2:])
    placed[torch.arange(len(ones), device=ones.device), :, output] = moved
    return placed


def _convolution(several: SeveralValues, node: fx.Node) -> Any:
    image, kernel, bias, *options = arguments(node)
    axes = len(options[0])
    if bias is not None or len(several.shape(image)) != axes + 2:
        return None
    if places_kernels(node, several.unit):
        stride, padding, dilation, _, _, groups = options
        placed = several.shape(kernel), stride, padding, dilation, groups
        size = (-1, *several.shape(node))
        return several.new(size, kernels_placed, several.known[image], several.ones, *placed)
    if is_moving(kernel):
        return None
    size = (-1, *several.shape(node)[1:])
    given = several.folded(image), several.known[kernel], None
    return several.unfolded(several.new(size, node.target, *given, *options), node)


def places_kernels(node: fx.Node, unit: fx.Node | None) -> bool:
    """Whether it is a convolution with kernels that are unit vectors."""
    if node.target is not aten.convolution.default:
        return False
    image, kernel, bias, *_, transposed, _, _ = arguments(node)
    return kernel is unit and bias is None and not is_moving(image) and not transposed


def padding_of_way_there(node: fx.Node) -> list[int] | None:
    """Of a way back to an image alone, of stride 1: how far a way there with the kernel turned
    about reaches beyond what comes back, which is the same; ``None`` of another."""
    grad, image, kernel, *options = arguments(node)
    _, stride, padding, dilation, transposed, _, groups, mask = options
    if [is_moving(value) for value in (grad, image, kernel)] != [True, False, False]:
        return None
    if mask != [True, False, False] or transposed or groups != 1 or set(stride) != {1}:
        return None
    sizes = form(kernel)[0][2:]
    around = [d * (n - 1) - p for d, n, p in zip(dilation, sizes, padding, strict=True)]
    return around if min(around) >= 0 else None


def _back_through_convolution(several: SeveralValues, node: fx.Node) -> Any:
    """To the image, of stride 1, it is a convolution with the kernel turned about, which PyTorch
    does in half the time where there are few channels."""
    grad, image, kernel, *options = arguments(node)
    around = padding_of_way_there(node)
    if around is not None:
        axes = list(range(2, 2 + len(around)))
        turned = several.call(aten.flip.default, several.known[kernel], axes)
        turned = several.call(aten.transpose.int, turned, 0, 1)
        turned = several.call(aten.contiguous.default, turned)
        _, stride, _, dilation, *_ = options
        forward = stride, around, dilation, False, [0] * len(around), 1
        given = several.folded(grad), turned, None
        size = (-1, *several.shape(image)[1:])
        to_image = several.new(size, aten.convolution.default, *given, *forward)
        return [several.unfolded(to_image, image)]
    values = (grad, image, kernel)
    places = [0 if is_moving(value) else None for value in values]
    return several.call(
        back_through_convolution, places, list(map(several.known.__getitem__, values)), options
    )


def _average(several: SeveralValues, node: fx.Node) -> Any:
    """Averages over windows that tile the images."""
    images, *options = arguments(node)
    window = _tiles(several.shape(images), several.shape(node), *options)
    if window is None or node.kwargs:
        return None
    return several.new((-1, *several.shape(node)), averages, several.known[images], window)


def _back_through_average(several: SeveralValues, node: fx.Node) -> Any:
    """Likewise."""
    grad, images, *options = arguments(node)
    window = _tiles(several.shape(node), several.shape(grad), *options)
    if window is None or is_moving(images):
        return None
    return several.new((-1, *several.shape(node)), spread, several.known[grad], window)


def _tiles(
    shape: Sequence[int],
    averages: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil: bool = False,
    include_padding: bool = True,
    divisor: int | None = None,
) -> list[int] | None:
    """The windows that images of a shape are cut into, to be averaged; ``None`` where they overlap,
    or leave something out."""
    window, stride = (list(each) * (2 // max(1, len(each))) for each in (window, stride))
    tiled = list(shape[-2:]) == [n * w for n, w in zip(averages[-2:], window, strict=True)]
    plain = stride in ([], window) and not any(padding) and divisor is None
    return window if tiled and plain else None


_TURNS: set[Any] = {aten.t.default, aten.transpose.int}
# Entry by entry for tensors of one shape only.
_OF_ONE_SHAPE: set[Any] = {aten.gelu_backward.default}
_RULES: dict[Any, Rule] = {
    aten.addmm.default: _matrix_product,
    aten.avg_pool2d.default: _average,
    aten.avg_pool2d_backward.default: _back_through_average,
    aten.baddbmm.default: _batched_product,
    aten.bmm.default: _batched_product,
    aten.cat.default: _joined,
    aten.clone.default: _copied,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _back_through_convolution,
    aten.expand.default: _expanded,
    aten.linalg_solve_triangular.default: _triangular_system,
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
    aten.tril.default: _last_axes,
    aten.triu.default: _last_axes,
    aten.unbind.int: _along_an_axis,
    aten.unsafe_split.Tensor: _split,
    aten.unsqueeze.default: _along_an_axis,
    operator.getitem: _part,
}
