"""Slots: where parameters enter the network through operations linear in them.

A *site* is one value z of the graph together with the parameters that enter there, for instance a dense layer's
weight and bias. Every site, whatever its operation, is brought to one form. Its value is arranged on three axes,

    g  groups that do not mix      t  positions that share the parameter      o  outputs

and a slot's parameter, arranged as (g, o, i), enters as

    z[g, t, o] = Σ_i  W[g, o, i] · a[g, t, i]  +  (what does not depend on W)

with a the slot's *features* of the site's input: the input itself (dense), its patches (convolution), a one-hot row
(embedding), the normalised value (scale), or 1 (shift, bias, and a parameter that is its own slot).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.capture.graph import Graph, Node, Ref
from hesse.capture.rewrites import scale_shift

aten = torch.ops.aten

# A parameter that enters in no linear way is its own slot, one tangent for each entry, up to this many entries.
LARGEST_LEAF = 256


@dataclass(frozen=True)
class Arrangement:
    """How a value's axes become (g, t, o).

    Attributes:
        split: the shape that the value is brought to first.
        order: for each of g, t and o the axes of ``split`` that it is made of.
    """

    split: tuple[int, ...]
    order: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """The lengths of g, t and o."""
        g, t, o = (math.prod(self.split[axis] for axis in axes) for axes in self.order)
        return g, t, o

    def __call__(self, value: Tensor, lead: int, tail: int = 0) -> Tensor:
        """(*lead, *z, *tail) -> (*lead, g, t, o, *tail), for ``lead`` leading and ``tail`` trailing axes; a view where possible."""
        head, rest = value.shape[:lead], value.shape[value.ndim - tail :]
        width = len(self.split)
        flat = [axis for axes in self.order for axis in axes]
        axes = (*range(lead), *(lead + axis for axis in flat), *range(lead + width, lead + width + tail))
        moved = value.reshape(*head, *self.split, *rest).permute(axes)
        return moved.reshape(*head, *self.sizes, *rest)

    @property
    def is_plain(self) -> bool:
        """One group and one position: z is the outputs."""
        return self.sizes[:2] == (1, 1)


# A value whose axes already are (g, t, o).
_PLAIN = ((0,), (1,), (2,))


@dataclass(frozen=True)
class Slot:
    """One parameter at one site.

    Attributes:
        parameter: its name.
        kind: dense, convolution, embedding, scale, shift or leaf.
        index: flat entries of the parameter in the order (g, o, i); ``None`` where that is its own order.
        shape: (g, o, i).
        features: (B, *input) -> (B, g, t, i); ``None`` where a = 1.
        parts: for a slot made by `joined`, the two that it stands for.
    """

    parameter: str
    kind: str
    index: Tensor | None
    shape: tuple[int, int, int]
    features: Callable[[Tensor], Tensor] | None
    parts: "tuple[Slot, ...]" = ()

    @property
    def own(self) -> "tuple[Slot, ...]":
        """The slots of single parameters that this one is made of."""
        return self.parts or (self,)

    @property
    def size(self) -> int:
        """Number of parameter entries that enter here."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Site:
    """A value z and the slots that end in it.

    Attributes:
        value: name of z.
        input: name of the value that the features are made of; ``None`` where every slot is a shift.
        arrange: z -> (g, t, o).
        slots: the parameters that enter.
    """

    value: str
    input: str | None
    arrange: Arrangement
    slots: tuple[Slot, ...]

    @property
    def signals(self) -> int:
        """Positions × outputs: how many tangents the site's S takes."""
        return math.prod(self.arrange.sizes)


def joined(site: Site) -> Site:
    """The site with a weight and its bias as one slot, the bias as the weight's last input, which is always 1.

    Worth it where the slots share positions: one contraction instead of two, four with another such site.
    """
    if site.arrange.is_plain or [slot.features is not None for slot in site.slots] != [True, False]:
        return site
    weight, bias = site.slots
    features = weight.features
    assert features is not None
    (g, o, i), name = weight.shape, f"{weight.parameter}, {bias.parameter}"
    both = Slot(name, weight.kind, None, (g, o, i + 1), lambda x: F.pad(features(x), (0, 1)), (weight, bias))
    return Site(site.value, site.input, site.arrange, (both,))


def find_sites(graph: Graph) -> tuple[Graph, tuple[Site, ...], dict[str, str]]:
    """The graph's sites, the graph with leaves made explicit, and the parameters that go by columns with the reason."""
    views = _parameter_views(graph)
    sites, claimed, refused = [], _Claims(), {}
    for node in graph.nodes:
        if node.op in _RECOGNISE:
            site = _RECOGNISE[node.op](node, views, graph.shapes)
            if site is not None:
                sites.append(site)
                claimed.add(node, site)
    # Uses outside any site: the parameter becomes its own slot where it is small, and goes by columns elsewhere.
    leaves: list[Node] = []
    replaced: dict[str, str] = {}
    for value, name in graph.parameters.items():
        stray = [node for node in graph.nodes if _uses_outside_sites(node, value, views, claimed)]
        if not stray:
            continue
        size = math.prod(graph.shapes[value])
        if size > LARGEST_LEAF:
            refused[name] = f"enters through {_op_name(stray[0].op)}, which has no slot"
            continue
        leaf = Node(f"{value}__leaf", aten.clone.default, (Ref(value),), {}, graph.shapes[value])
        graph.shapes[leaf.name] = leaf.shape
        leaves.append(leaf)
        replaced[value] = leaf.name
        arrange = Arrangement((1, 1, size), _PLAIN)
        sites.insert(len(leaves) - 1, Site(leaf.name, None, arrange, (Slot(name, "leaf", None, (1, size, 1), None),)))
    if leaves:
        # A parameter is either a leaf or enters through slots, never both: its other sites dissolve.
        gone = {graph.parameters[value] for value in replaced}
        nodes = tuple(_redirect(node, replaced) for node in graph.nodes)
        graph = Graph((*leaves, *nodes), graph.parameters, graph.fixed, graph.constants, graph.data, graph.output, graph.shapes)
        sites = [kept for site in sites if (kept := _without(site, gone)) is not None]
    return graph, tuple(sites), refused


class _Claims:
    """Which uses of parameters are accounted for by a site."""

    def __init__(self) -> None:
        self._nodes: dict[str, set[str]] = {}

    def add(self, node: Node, site: Site) -> None:
        self._nodes.setdefault(node.name, set()).update(slot.parameter for slot in site.slots)

    def has(self, node: Node, parameter: str) -> bool:
        return parameter in self._nodes.get(node.name, ())


def _without(site: Site, parameters: set[str]) -> Site | None:
    if site.slots[0].kind == "leaf":
        return site
    slots = tuple(slot for slot in site.slots if slot.parameter not in parameters)
    return Site(site.value, site.input, site.arrange, slots) if slots else None


def _redirect(node: Node, replaced: dict[str, str]) -> Node:
    def swap(argument: Any) -> Any:
        return Ref(replaced.get(argument.name, argument.name)) if isinstance(argument, Ref) else argument

    args, kwargs = torch.utils._pytree.tree_map(swap, (node.args, dict(node.kwargs)), is_leaf=lambda a: isinstance(a, Ref))
    return Node(node.name, node.op, args, kwargs, node.shape)


def _op_name(op: Any) -> str:
    return str(getattr(op, "overloadpacket", getattr(op, "__name__", op)))


# ---------------------------------------------------------------- views of parameters

# Operations that only move the entries of a parameter about.
_MOVES = {
    aten.t.default, aten.numpy_T.default, aten.transpose.int, aten.permute.default, aten.view.default, aten.reshape.default,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.select.int, aten.slice.Tensor, aten.flatten.using_ints,
    aten.clone.default, aten.contiguous.default, aten.alias.default, aten.mT.default, aten.detach_.default, aten.movedim.int,
}  # fmt: skip
_SPLITS = {aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int}


@dataclass(frozen=True)
class _View:
    parameter: str
    entries: Tensor  # flat entry of the parameter behind each entry of the view


def _parameter_views(graph: Graph) -> dict[str, _View]:
    views = {
        value: _View(name, torch.arange(math.prod(graph.shapes[value])).reshape(graph.shapes[value]))
        for value, name in graph.parameters.items()
    }
    for node in graph.nodes:
        base = getattr(node.op, "op", node.op)
        if len(node.inputs) == 1 and node.inputs[0] in views and (node.op in _MOVES or base in _SPLITS):
            source = views[node.inputs[0]]
            views[node.name] = _View(source.parameter, node.evaluate({node.inputs[0]: source.entries}))
    return views


def _uses_outside_sites(node: Node, value: str, views: dict[str, _View], claimed: _Claims) -> bool:
    if node.name in views:
        return False
    used = [name for name in node.inputs if name in views and views[name].parameter == views[value].parameter]
    return bool(used) and not claimed.has(node, views[value].parameter)


def _slot(kind: str, view: _View, entries: Tensor, features: Callable[[Tensor], Tensor] | None) -> Slot:
    """A slot whose entries (g, o, i) are given; they need an index unless they are the parameter in its own order."""
    g, o, i = entries.shape
    flat = entries.reshape(-1)
    start = int(flat[0])
    plain = start == 0 and bool((flat == torch.arange(flat.numel())).all())
    return Slot(view.parameter, kind, None if plain else flat, (g, o, i), features)


def _bias_slot(view: _View, shape: tuple[int, int]) -> Slot:
    return _slot("shift", view, view.entries.reshape(*shape, 1), None)


# ---------------------------------------------------------------- recognition, one function for each operation


def _name(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


def _input(argument: Any, views: dict[str, _View]) -> str | None:
    """The name of an input that is a value of the sample, not a parameter."""
    name = _name(argument)
    return None if name is None or name in views else name


def _dense(node: Node, x: Any, weight: _View | None, bias: _View | None, views: dict[str, _View]) -> Site | None:
    """z = x Wᵀ + b over the last axis; ``weight`` views W as (o, i)."""
    source = _input(x, views)
    o = node.shape[-1]
    positions = math.prod(node.shape[:-1])
    arrange = Arrangement((1, positions, o), _PLAIN)
    slots = []
    if weight is not None and source is not None:
        i = weight.entries.shape[-1]
        slots.append(_slot("dense", weight, weight.entries.unsqueeze(0), lambda a: a.reshape(len(a), 1, positions, i)))
    if bias is not None:
        slots.append(_bias_slot(bias, (1, o)))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _linear(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    x, weight, bias = (*node.args, None)[:3]
    return _dense(node, x, views.get(_name(weight) or ""), views.get(_name(bias) or ""), views)


def _transposed(view: _View | None) -> _View | None:
    return None if view is None or view.entries.ndim != 2 else _View(view.parameter, view.entries.T)


def _matmul(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    weight = views.get(_name(right) or "")
    if weight is not None and weight.entries.ndim == 2:
        return _dense(node, left, _transposed(weight), None, views)
    weight, x = views.get(_name(left) or ""), _input(right, views)
    if weight is None or x is None or weight.entries.ndim != 2 or len(shapes[x]) != 2:
        return None
    # z = W x with x (i, t): the outputs are the rows of z.
    (o, i), t = weight.entries.shape, node.shape[-1]
    arrange = Arrangement((1, o, t), ((0,), (2,), (1,)))
    return Site(
        node.name, x, arrange, (_slot("dense", weight, weight.entries[None], lambda a: a.mT.reshape(len(a), 1, t, i)),)
    )


def _addmm(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    bias, x, weight = node.args[:3]
    seen = views.get(_name(bias) or "")
    return _dense(node, x, _transposed(views.get(_name(weight) or "")), seen if seen and seen.entries.ndim == 1 else None, views)


def _embedding(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    table, tokens = views.get(_name(node.args[0]) or ""), _name(node.args[1])
    padding = node.args[2] if len(node.args) > 2 else -1
    if table is None or tokens is None or any(node.args[3:]):
        return None
    vocabulary, width = table.entries.shape
    positions = math.prod(node.shape[:-1])

    def one_hot(indices: Tensor) -> Tensor:
        rows = F.one_hot(indices.reshape(len(indices), 1, positions), vocabulary)
        if padding >= 0:  # the padding row takes no derivative
            rows = rows * (torch.arange(vocabulary, device=rows.device) != padding)
        return rows

    arrange = Arrangement((1, positions, width), _PLAIN)
    return Site(node.name, tokens, arrange, (_slot("embedding", table, table.entries.T.unsqueeze(0), one_hot),))


def _convolution(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    dims = len(node.shape) - 2
    defaults = (None, None, None, [1], [0], [1], 1)
    x, weight, bias, stride, padding, dilation, groups = (*node.args, *defaults[len(node.args) :])
    source, kernel, offset = _input(x, views), views.get(_name(weight) or ""), views.get(_name(bias) or "")
    if source is None or dims not in (1, 2) or len(shapes[source]) != dims + 2 or isinstance(padding, str):
        return None
    channels, positions = node.shape[1], math.prod(node.shape[2:])
    lead = node.shape[0]
    arrange = Arrangement((lead, groups, channels // groups, positions), ((1,), (0, 3), (2,)))
    slots = []
    if kernel is not None:
        window = tuple(kernel.entries.shape[2:])
        options = [_pad_to_2d(option, dims, fill) for option, fill in ((window, 1), (dilation, 1), (padding, 0), (stride, 1))]
        entries = kernel.entries.reshape(groups, channels // groups, -1)

        def patches(a: Tensor) -> Tensor:
            images = a.reshape(-1, *a.shape[-1 - dims :])
            columns = F.unfold(images if dims == 2 else images.unsqueeze(-2), *options)
            rows = columns.reshape(len(a), lead, groups, entries.shape[-1], positions)
            return rows.permute(0, 2, 1, 4, 3).reshape(len(a), groups, lead * positions, -1)

        slots.append(_slot("convolution", kernel, entries, patches))
    if offset is not None:
        slots.append(_bias_slot(offset, (groups, channels // groups)))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _pad_to_2d(option: Any, dims: int, fill: int) -> tuple[int, int]:
    values = tuple(option) if isinstance(option, tuple | list) else (option,)
    values = values * dims if len(values) == 1 else values
    return (fill, *values) if dims == 1 else values  # type: ignore[return-value]


def _along(shape: tuple[int, ...], entries: Tensor) -> Arrangement:
    """Arrange z by the axes that a broadcast parameter has: those are groups, the others positions."""
    full = (1,) * (len(shape) - entries.ndim) + tuple(entries.shape)
    own = [axis for axis, n in enumerate(full) if n > 1]
    shared = [axis for axis, n in enumerate(full) if n == 1]
    return Arrangement(shape, (tuple(own), tuple(shared), ()))


def _elementwise_site(node: Node, x: Any, scale: _View | None, shift: _View | None, views: dict[str, _View], entries: Tensor) -> Site | None:
    source = _input(x, views)
    if any(n not in (1, m) for n, m in zip(reversed(entries.shape), reversed(node.shape), strict=False)) or entries.ndim > len(node.shape):
        return None
    arrange = _along(node.shape, entries)
    slots = []
    if scale is not None and source is not None:

        def aligned(a: Tensor) -> Tensor:
            wide = a.reshape(len(a), *(1,) * (len(node.shape) - a.ndim + 1), *a.shape[1:]).expand(len(a), *node.shape)
            return arrange(wide, 1)

        slots.append(_slot("scale", scale, scale.entries.reshape(-1, 1, 1), aligned))
    if shift is not None:
        slots.append(_slot("shift", shift, shift.entries.reshape(-1, 1, 1), None))
    return Site(node.name, source, arrange, tuple(slots)) if slots else None


def _multiply(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    for x, weight in ((left, right), (right, left)):
        view = views.get(_name(weight) or "")
        if view is not None and _input(x, views) is not None:
            return _elementwise_site(node, x, view, None, views, view.entries)
    return None


def _add(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    left, right = node.args[:2]
    if node.kwargs.get("alpha", 1) != 1:
        return None
    for x, weight in ((left, right), (right, left)):
        view = views.get(_name(weight) or "")
        if view is not None and _name(x) not in views:
            return _elementwise_site(node, x, None, view, views, view.entries)
    return None


def _scale_shift(node: Node, views: dict[str, _View], shapes: dict[str, tuple[int, ...]]) -> Site | None:
    x, scale, shift, axis = node.args
    seen = [views.get(_name(vector) or "") for vector in (scale, shift)]
    given = next((view for view in seen if view is not None), None)
    if given is None:
        return None
    trailing = len(node.shape) - axis % len(node.shape) - given.entries.ndim
    entries = given.entries.reshape(tuple(given.entries.shape) + (1,) * trailing)
    return _elementwise_site(node, x, seen[0], seen[1], views, entries)


_RECOGNISE: dict[Any, Callable[[Node, dict[str, _View], dict[str, tuple[int, ...]]], Site | None]] = {
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.embedding.default: _embedding,
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.mul.Tensor: _multiply,
    aten.add.Tensor: _add,
    scale_shift: _scale_shift,
}
