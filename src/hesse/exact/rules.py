"""What the sweep knows of each operation: how its Jacobian's transpose is applied, and its own second derivative.

Structure is declared in `hesse.exact.operations`. It is a fast path, never a condition of being right: an operation in no
table is pulled back by automatic differentiation, and its second derivative is taken by reverse over reverse, per sample.
(Not by `torch.func.hessian`: with torch 2.13 its forward-over-`jacrev` is silently wrong for normalisation layers.)

Index letters: n sample, k column, then the axes of the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jacrev, vjp, vmap
from torch.nn.grad import conv2d_input

from hesse.capture.graph import Node
from hesse.exact.operations import (
    ELEMENTWISE_FLAT,
    ENTRYWISE_LOSSES,
    PIECEWISE_LINEAR,
    RELABEL,
    is_elementwise,
    packet,
    second_derivative_is_zero,
)
from hesse.exact.structures import Columns, Curvature, Diagonal, RankOne, reshaped, transposed

aten = torch.ops.aten
Values = Mapping[str, Any]


def is_costly(node: Node, active: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether Jᵀ differs from sample to sample and is neither diagonal nor written out below."""
    constant = (
        second_derivative_is_zero(node, active) and packet(node) not in PIECEWISE_LINEAR and len(node.inputs) == len(active)
    )
    return not constant and packet(node) not in _PULLS and not is_elementwise(node, active, shapes)


class Operation:
    """A node at the values of some samples, ready to be pulled back.

    Args:
        node: the operation.
        active: its inputs that derivatives flow through.
        values: every value by name, with a leading sample axis where it is in ``batched``.
        batched: the names of the values that have a sample axis.
    """

    def __init__(self, node: Node, active: tuple[str, ...], values: Values, batched: set[str]) -> None:
        self.node, self.active, self._values, self._batched = node, active, values, batched
        self.kind = packet(node)
        shapes = {name: tuple(values[name].shape)[name in batched :] for name in node.inputs}
        self.elementwise = is_elementwise(node, active, shapes)
        self.linear = second_derivative_is_zero(node, active)
        varying = [name for name in node.inputs if name in batched and name not in active]
        # One Jacobian serves all samples.
        self.constant = self.linear and not varying and self.kind not in PIECEWISE_LINEAR and self.kind not in ELEMENTWISE_FLAT
        self._slopes: tuple[Tensor, Tensor] | None = None
        self._jacobian: tuple[Tensor, ...] | None = None

    @property
    def is_light(self) -> bool:
        """Whether a pull costs little to start, so that columns need not be joined for it."""
        return self.elementwise or self.kind in _PULLS

    def local(self, inputs: dict[str, Any]) -> Callable[..., Any]:
        """The node as a function of its active inputs, its other inputs given."""

        def function(*actives: Any) -> Any:
            return self.node.evaluate({**inputs, **dict(zip(self.active, actives, strict=True))})

        return function

    def slopes(self) -> tuple[Tensor, Tensor]:
        """f'(x) and f''(x) of an elementwise operation, by differentiating Σ f(x) once and twice."""
        if self._slopes is None:
            f = self.local({name: self._values[name] for name in self.node.inputs})
            x = self._values[self.active[0]]
            first = grad(lambda x: f(x).sum())
            if self.linear:
                self._slopes = first(x), torch.zeros_like(x)
            else:
                slope, back, *_ = vjp(first, x)
                self._slopes = slope, back(torch.ones_like(x))[0]
        return self._slopes

    def pull(self, columns: Tensor) -> tuple[Tensor, ...]:
        """Jᵀ on columns: (n, k, *value) -> (n, k, *input), one for each active input."""
        if self.elementwise:
            return (columns * self.slopes()[0].unsqueeze(1),)
        if self.kind in _PULLS:
            pulled = _PULLS[self.kind](self, columns)
            if pulled is not None:
                return pulled
        if self.constant:
            return self._pull_constant(columns)
        return self._pull_by_sample(columns)

    def _pull_constant(self, columns: Tensor) -> tuple[Tensor, ...]:
        """One Jacobian for all samples: the columns of all samples are one batch."""
        given = {name: self._values[name] for name in self.node.inputs if name not in self.active}
        at = [self._values[name][0] for name in self.active]
        _, back, *_ = vjp(self.local(given), *at)
        n, k = columns.shape[:2]
        return tuple(part.reshape(n, k, *part.shape[1:]) for part in vmap(back)(columns.flatten(0, 1)))

    def _pull_by_sample(self, columns: Tensor) -> tuple[Tensor, ...]:
        names = list(self.node.inputs)
        axes = tuple(0 if name in self._batched else None for name in names)

        def one(columns: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
            given = dict(zip(names, inputs, strict=True))
            _, back, *_ = vjp(self.local(given), *(given[name] for name in self.active))
            return vmap(back)(columns)

        return vmap(one, in_dims=(0, *axes))(columns, *(self._values[name] for name in names))

    def pull_diagonal(self, columns: Diagonal) -> tuple[Columns, ...]:
        """Jᵀ on diagonal columns; diagonal again where the operation allows."""
        if self.elementwise:
            return (Diagonal(columns.values * self.slopes()[0]),)
        if self.kind in RELABEL:
            return (Diagonal(columns.values.reshape(self._values[self.active[0]].shape)),)
        if not self.constant:
            return self.pull(columns.dense())
        n = len(columns.values)
        rows = columns.values.reshape(n, -1)
        return tuple(rows.reshape(n, -1, *(1,) * (j.ndim - 2)) * j for j in self.jacobian())

    def jacobian(self) -> tuple[Tensor, ...]:
        """J of a constant operation, (1, entries, *input), one for each active input."""
        if self._jacobian is None:
            self._jacobian = self.pull(Diagonal(torch.ones_like(self._values[self.node.name][:1])).dense())
        return self._jacobian

    def pull_curvature(
        self, own: Curvature, halves: bool, thin: bool = False
    ) -> "tuple[tuple[Columns, ...], list[list[Curvature | None]]]":
        """Jᵀ S J of the value's curvature S.

        Args:
            own: S, (n, entries, *value) or its structure.
            halves: whether the columns S J, (n, entries, *input), are wanted too.
            thin: of the block of a single input only the diagonal will be used.

        Returns:
            The halves, one for each active input (empty if not wanted), and the blocks, (n, |input i|, *input j) for i <= j.
        """
        single = len(self.active) == 1
        if single and not halves and self.kind in RELABEL:
            return (), [[reshaped(own, self._values[self.active[0]].shape)]]
        if single and self.elementwise and (not halves or isinstance(own, Diagonal)):
            slope = self.slopes()[0]
            if isinstance(own, Diagonal):
                half = Diagonal(own.values * slope)
                return (half,), [[Diagonal(half.values * slope)]]
            if isinstance(own, RankOne):
                return (), [[RankOne(own.diagonal * slope.square(), own.factor * slope)]]
            n = len(own)
            return (), [[(own * slope.unsqueeze(1)).mul_(slope.reshape(n, -1, *(1,) * (own.ndim - 2)))]]
        if thin and self.constant and not halves:
            return (), [[self._pull_thin(own)]]
        pulled = self._pull_half(own)
        shape = self._values[self.node.name].shape[1:]
        blocks: list[list[Curvature | None]] = [[None] * len(self.active) for _ in self.active]
        for i, half in enumerate(pulled):
            rows = self.pull(transposed(half if isinstance(half, Tensor) else half.dense(), shape))
            # Each block is its own tensor, to be added to.
            blocks[i][i:] = [row if j == i or row is not rows[i] else row.clone() for j, row in enumerate(rows[i:], start=i)]
        return pulled if halves else (), blocks

    def _pull_thin(self, own: Curvature) -> Diagonal:
        """The diagonal of Jᵀ S J alone, J being the same for all samples: Σ_kl J_k S_kl J_l."""
        x = self._values[self.active[0]]
        jacobian = self.jacobian()[0].reshape(-1, x[0].numel())
        n = len(x)
        if isinstance(own, Tensor):
            entries = (own.reshape(n, -1, len(jacobian)) @ jacobian).mul_(jacobian).sum(1)
        else:
            weights = own.values if isinstance(own, Diagonal) else own.diagonal
            entries = weights.reshape(n, -1) @ jacobian.square()
            if isinstance(own, RankOne):
                entries -= (own.factor.reshape(n, -1) @ jacobian).square()
        return Diagonal(entries.reshape(x.shape))

    def _pull_half(self, own: Curvature) -> tuple[Columns, ...]:
        if isinstance(own, Diagonal):
            return self.pull_diagonal(own)
        if isinstance(own, RankOne):
            n = len(own.factor)
            straight, factor = self.pull_diagonal(Diagonal(own.diagonal)), self.pull(own.factor.unsqueeze(1))
            flat = own.factor.reshape(n, -1)
            dense = [part if isinstance(part, Tensor) else part.dense() for part in straight]
            return tuple(s - flat.reshape(n, -1, *(1,) * (s.ndim - 2)) * f for s, f in zip(dense, factor, strict=True))
        return self.pull(own)

    def curvature(self, delta: Tensor) -> "list[list[Curvature | None]]":
        """Σ δ · ∂²value/∂inputs², blocks (n, entries of one active input, *other active input).

        Args:
            delta: (n, *value), the loss's first derivative in the value.
        """
        if self.linear:
            return [[None] * len(self.active) for _ in self.active]
        if self.elementwise:
            return [[Diagonal(self.slopes()[1] * delta)]]
        if self.kind in _CURVATURES:
            known = _CURVATURES[self.kind](self, delta)
            if known is not None:
                return known
        names = list(self.node.inputs)
        axes = tuple(0 if name in self._batched else None for name in names)
        places = tuple(range(len(self.active)))

        def one(delta: Tensor, *inputs: Any) -> Any:
            given = dict(zip(names, inputs, strict=True))
            scalar = self.local(given)
            return jacrev(grad(lambda *a: (scalar(*a) * delta).sum(), argnums=places), argnums=places)(
                *(given[name] for name in self.active)
            )

        blocks = vmap(one, in_dims=(0, *axes))(delta, *(self._values[name] for name in names))
        sizes = [math.prod(self._values[name].shape[1:]) for name in self.active]
        return [
            [blocks[i][j].reshape(len(delta), sizes[i], *self._values[self.active[j]].shape[1:]) for j in places] for i in places
        ]

    def value(self, name: str) -> Any:
        """One of the operation's inputs."""
        return self._values[name]

    def is_batched(self, name: str) -> bool:
        """Whether an input has a sample axis."""
        return name in self._batched


# ---------------------------------------------------------------- pulls worth writing out


def _pull_linear(op: Operation, columns: Tensor) -> tuple[Tensor] | None:
    x, weight = op.node.args[0], op.node.args[1]
    if op.active != (x.name,) or op.is_batched(weight.name):
        return None
    # One large product; matmul would split a strided batch into many small ones.
    matrix = op.value(weight.name)
    return ((columns.reshape(-1, len(matrix)) @ matrix).reshape(*columns.shape[:-1], -1),)


def _pull_relabel(op: Operation, columns: Tensor) -> tuple[Tensor]:
    return (columns.reshape(*columns.shape[:2], *op.value(op.active[0]).shape[1:]),)


def _pull_add(op: Operation, columns: Tensor) -> tuple[Tensor, Tensor] | None:
    """x + y of one shape: the same columns go to both."""
    same = len(op.active) == 2 and all(tuple(op.value(name).shape[1:]) == op.node.shape for name in op.active)
    return (columns, columns) if same and not op.node.kwargs and len(op.node.args) == 2 else None


def _pull_transpose(op: Operation, columns: Tensor) -> tuple[Tensor]:
    first, second = (axis % len(op.node.shape) for axis in op.node.args[1:3])
    return (columns.transpose(first + 2, second + 2),)


def _pull_permute(op: Operation, columns: Tensor) -> tuple[Tensor]:
    axes = [axis % len(op.node.shape) for axis in op.node.args[1]]
    return (columns.permute(0, 1, *(2 + axes.index(place) for place in range(len(axes)))),)


def _pull_conv2d(op: Operation, columns: Tensor) -> tuple[Tensor] | None:
    """The transposed convolution, for all samples and columns in one call."""
    x, weight, _, stride, padding, dilation, groups = op.node.arguments(None, None, None, [1], [0], [1], 1)
    if op.active != (x.name,) or op.is_batched(weight.name) or isinstance(padding, str):
        return None
    shape = op.value(x.name).shape[1:]
    images = columns.reshape(-1, *columns.shape[-3:])
    pulled = conv2d_input(
        (len(images), *shape[-3:]),
        op.value(weight.name),
        images,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return (pulled.reshape(*columns.shape[:2], *shape),)


def _pull_avg_pool2d(op: Operation, columns: Tensor) -> tuple[Tensor] | None:
    """Windows that tile the image: every entry goes to its window, divided by the window's size."""
    shape = op.value(op.active[0]).shape[1:]
    window = _pair(op.node.args[1])
    stride = _pair(op.node.args[2]) if len(op.node.args) > 2 and op.node.args[2] else window
    tiled = stride == window and len(op.node.args) <= 3 and all(n % w == 0 for n, w in zip(shape[-2:], window, strict=True))
    if not tiled:
        return None
    *lead, rows, across = columns.shape
    spread = (columns / (window[0] * window[1]))[..., :, None, :, None].expand(*lead, rows, window[0], across, window[1])
    return (spread.reshape(*columns.shape[:2], *shape),)


def _pair(option: Any) -> tuple[int, int]:
    values = tuple(option) if isinstance(option, list | tuple) else (option, option)
    return (values[0], values[-1])


def _pull_cross_entropy(op: Operation, columns: Tensor) -> tuple[Tensor] | None:
    """w (p − e_y): the derivative in the logits of one class target."""
    known = _one_class(op)
    if known is None:
        return None
    p, weight, y = known
    slope = weight * (p - F.one_hot(y, p.shape[-1]))
    return (columns[:, :, None, None] * slope.unsqueeze(1),)


def _one_class(op: Operation) -> tuple[Tensor, Tensor, Tensor] | None:
    """p (n, 1, classes), weight (n, 1, 1) and class (n, 1) of a cross entropy with one class target for each sample."""
    logits, target, weight, reduction, ignore, smoothing = op.node.arguments(None, None, None, 1, -100, 0.0)
    if op.active != (logits.name,) or op.value(logits.name).ndim != 3 or not op.is_batched(target.name):
        return None
    z, y = op.value(logits.name), op.value(target.name)
    # A mean divides by the class weight again; only a sum keeps it.
    if y.is_floating_point() or smoothing or (weight is not None and reduction != 2):
        return None
    kept, y = (y != ignore).to(z.dtype), y.clamp(min=0)
    kept = kept if weight is None else kept * op.value(weight.name)[y]
    return F.softmax(z, dim=-1), kept.unsqueeze(-1), y


_PULLS: dict[Any, Callable[[Operation, Tensor], tuple[Tensor, ...] | None]] = {
    aten.linear: _pull_linear,
    aten.cross_entropy_loss: _pull_cross_entropy,
    aten.add: _pull_add,
    aten.transpose: _pull_transpose,
    aten.permute: _pull_permute,
    aten.conv2d: _pull_conv2d,
    aten.avg_pool2d: _pull_avg_pool2d,
    **dict.fromkeys(RELABEL, _pull_relabel),
}


# ---------------------------------------------------------------- second derivatives worth writing out


def _cross_entropy(op: Operation, delta: Tensor) -> "list[list[Curvature | None]] | None":
    """w (diag(p) − p pᵀ) in the logits of one class target; w is the class weight.

    Source: Bishop (2006), eq. 4.106, for one sample.
    """
    known = _one_class(op)
    if known is None or bool((delta < 0).any()):
        return None
    p, weight, _ = known
    scale = weight * delta.reshape(-1, 1, 1)
    return [[RankOne(scale * p, scale.sqrt() * p)]]


def _entrywise_loss(op: Operation, delta: Tensor) -> "list[list[Curvature | None]] | None":
    """The diagonal is H·1, one product for all entries at once."""
    prediction = op.node.args[0].name
    if op.active != (prediction,) or op.node.shape != ():
        return None
    names = list(op.node.inputs)

    def diagonal(*inputs: Any) -> Tensor:
        given = dict(zip(names, inputs, strict=True))
        z = given[prediction]
        slope = grad(lambda z: op.local(given)(z).sum())
        return grad(lambda z: slope(z).sum())(z)

    axes = tuple(0 if op.is_batched(name) else None for name in names)
    entries = vmap(diagonal, in_dims=axes)(*(op.value(name) for name in names))
    return [[Diagonal(entries * delta.reshape(-1, *(1,) * (entries.ndim - 1)))]]


_CURVATURES: dict[Any, Callable[[Operation, Tensor], Any]] = {
    aten.cross_entropy_loss: _cross_entropy,
    **dict.fromkeys(ENTRYWISE_LOSSES, _entrywise_loss),
}
