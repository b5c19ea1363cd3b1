"""Operations without a rule: a linear one as the array of its coefficients, any other as a named
map."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import add, total
from hesse.derivation.calculus.expression import Entry, of
from hesse.derivation.calculus.program import BlackBox
from hesse.derivation.sources.networks.call import Call
from hesse.derivation.sources.networks.view import Axis, View, times
from hesse.graph.graph import Pick
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


def _named(call: Call, moving: list[str]) -> View:
    """A quantity whose derivatives stay symbols."""
    build = call.build
    names = list(call.node.inputs)
    views, arguments, readers = {}, [], {}
    fixed = {name: known for name in names if (known := call.known(name)) is not None}
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

    def function(*arrays: Tensor) -> Tensor:
        values = {name: readers[name](arrays[place]) for name, place in places.items()}
        return call.node.evaluate({**fixed, **values}).reshape(sizes).double()

    # Where it is piecewise linear its second derivative is zero and gets no symbol.
    curved = not call.record.has(Structure.PIECEWISE_LINEAR | Structure.LINEAR)
    name = build.name(f"{operation}({arguments[0]})")
    definition = BlackBox(operation, tuple(arguments), function, curved=curved)
    entry = build.define(name, out, definition, note=f"{operation}, by automatic differentiation")
    return View(of(entry), axes)


def _reader(call: Call, name: str, entry: Entry, view: View) -> Callable[[Tensor], Tensor]:
    """From the array of a quantity to the tensor that the operation takes."""
    order = [entry.indices.index(index) for index in view.indices]
    shape = call.shape(name)
    exact = call.value(name) is not None  # class numbers and masks go in as what they were
    kind = call.dtype(name) if exact else None

    def read(array: Tensor) -> Tensor:
        tensor = array.permute(order).reshape(shape) if order else array.reshape(shape)
        return tensor.to(kind) if kind is not None and not kind.is_floating_point else tensor

    return read


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
