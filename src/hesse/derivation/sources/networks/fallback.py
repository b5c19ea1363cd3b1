"""Operations without a rule: a linear one as the array of its coefficients, any other as a named
map."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, total
from hesse.derivation.calculus.expression import Entry, of
from hesse.derivation.calculus.program import BlackBox
from hesse.derivation.sources.networks.call import Call
from hesse.derivation.sources.networks.view import Axis, View, times
from hesse.graph.graph import Node, Pick
from hesse.operations.record import Structure

# A linear operation is written with its coefficients up to this many.
LARGEST_ARRAY = 1 << 20


def without_rule(call: Call) -> View:
    """The value of an operation that no rule knows."""
    moving = [name for name in call.node.inputs if call.value(name) is None]
    if (
        call.record.has(Structure.LINEAR)
        and len(moving) == 1
        and all(call.known(n) is not None for n in call.node.inputs if n not in moving)
    ):
        view = call.build.operand(call.view(moving[0]))
        if math.prod(view.shape) * call.node.size <= LARGEST_ARRAY:
            return _linear(call, moving[0], view)
    return _named(call, moving)


def _linear(call: Call, name: str, view: View) -> View:
    """out = A · in + (the value at zero)"""
    shape, sizes = view.shape, [int(index.size) for index in view.indices]
    fixed = {other: call.known(other) for other in call.node.inputs if other != name}
    fixed = {other: _in_float64(known) for other, known in fixed.items() if known is not None}

    def function(x: Tensor) -> Tensor:
        return call.node.evaluate({**fixed, name: x.reshape(shape)}).reshape(call.node.shape)

    count = math.prod(shape)
    # Linear up to a shift: the columns are what the basis gives beyond it.
    at_zero = function(torch.zeros(shape, dtype=torch.float64))
    columns = (
        torch.stack([function(row) for row in torch.eye(count, dtype=torch.float64)]) - at_zero
    )
    axes = _axes(call, {index.name for index in view.indices})
    out = [index for axis in axes for index in axis]
    array = columns.movedim(0, -1).reshape(*(int(index.size) for index in out), *sizes)
    letter = call.build.constant(f"A({_operation(call)})", array)
    value = total(times(of(Entry(letter, (*out, *view.indices))), view.expression), view.indices)
    if bool(at_zero.any()):
        start = call.build.constant(
            f"c({_operation(call)})", at_zero.reshape([int(index.size) for index in out])
        )
        value = add(value, of(Entry(start, tuple(out))))
    return View(value, axes)


def _in_float64(known: Tensor) -> Tensor:
    """Formulas are valued in float64; some operations take no two types together."""
    return known.double() if known.is_floating_point() else known


def _named(call: Call, moving: list[str]) -> View:
    """A quantity whose derivatives stay symbols."""
    build = call.build
    names = list(call.node.inputs)
    views, arguments, readers = {}, [], {}
    fixed = {name: _in_float64(known) for name in names if (known := call.known(name)) is not None}
    for name in names:
        if name in fixed:
            continue
        view = build.settled(call.view(name))
        entry = view.entry
        assert entry is not None
        views[name] = entry.name
        # The same quantity in two places is one argument, moved in both at once.
        if entry.name not in arguments:
            arguments.append(entry.name)
        readers[name] = _reader(call, name, entry, view)
    operation = _operation(call)
    axes = _axes(call, set())
    out = [index for axis in axes for index in axis]
    sizes = [int(index.size) for index in out]
    places = {name: arguments.index(used) for name, used in views.items()}

    function = _NodeMap(call.node, fixed, readers, places, sizes)
    # Where it is piecewise linear its second derivative is zero and gets no symbol.
    curved = not call.record.has(Structure.PIECEWISE_LINEAR | Structure.LINEAR)
    name = build.name(f"{operation}({arguments[0]})")
    definition = BlackBox(operation, tuple(arguments), function, curved=curved)
    entry = build.define(name, out, definition, note=f"{operation}, by automatic differentiation")
    return View(of(entry), axes)


# Classes, for functions within functions could not be pickled.
@dataclass(frozen=True, eq=False)
class _NodeMap:
    """A node as a map of arrays of quantities.

    Attributes:
        node: the operation.
        fixed: its values that do not move.
        readers: from the array of a quantity to the value that goes in.
        places: which of the arrays is read for a value.
        sizes: of the result.
    """

    node: Node
    fixed: Mapping[str, Tensor]
    readers: "Mapping[str, _Reader]"
    places: Mapping[str, int]
    sizes: list[int]

    def __call__(self, *arrays: Tensor) -> Tensor:
        values = {name: self.readers[name](arrays[place]) for name, place in self.places.items()}
        return self.node.evaluate({**self.fixed, **values}).reshape(self.sizes).double()


@dataclass(frozen=True)
class _Reader:
    order: list[int]
    shape: tuple[int, ...]
    kind: torch.dtype | None

    def __call__(self, array: Tensor) -> Tensor:
        tensor = (array.permute(self.order) if self.order else array).reshape(self.shape)
        return (
            tensor.to(self.kind)
            if self.kind is not None and not self.kind.is_floating_point
            else tensor
        )


def _reader(call: Call, name: str, entry: Entry, view: View) -> _Reader:
    """From the array of a quantity to the tensor that the operation takes."""
    order = [entry.indices.index(index) for index in view.indices]
    shape = call.shape(name)
    exact = call.value(name) is not None  # class numbers and masks go in as what they were
    return _Reader(order, shape, call.dtype(name) if exact else None)


def _axes(call: Call, taken: set[str]) -> tuple[Axis, ...]:
    """New indices for the axes of a result that are longer than one."""
    shape = call.node.shape
    kinds = {1: ("output",), 2: ("token", "output"), 3: ("channel", "row", "column")}.get(
        sum(size > 1 for size in shape), ()
    )
    letters = iter(kinds)
    axes: list[Axis] = []
    for size in shape:
        axes.append(
            (call.build.letters.known(next(letters, "part"), size, taken),) if size > 1 else ()
        )
        taken |= {index.name for index in axes[-1]}
    return tuple(axes)


def _operation(call: Call) -> str:
    op = call.node.op
    name = str(getattr(op.op if isinstance(op, Pick) else op, "overloadpacket", op))
    base = name.removeprefix("aten.") if "aten." in name else getattr(op, "__name__", name)
    return f"{base}[{op.index}]" if isinstance(op, Pick) and op.index else base
