"""The numeric value of any expression, derivatives not carried out included: what every check
stands on.

Derivatives are taken here by automatic differentiation alone, of the values of the program. None of
the rules under test is used.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial, reduce
from math import prod
from typing import Any

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Power,
    Size,
    Term,
    freshen,
    indices,
)
from hesse.derivation.calculus.functions import nth_derivative, sample_function
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program
from hesse.derivation.calculus.sizes import number
from hesse.derivation.check.contraction import contracted
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

# Up to so many gradients are taken one by one.
_ONE_BY_ONE = 8
# Entries of what goes through automatic differentiation together, per step of it: all rows at once
# take the square of the number of values.
_TOGETHER = 2**20
_AT_ONCE = 2**24  # entries of all the values on the way, for all rows that are taken at once


class Valuation:
    """Arrays for the leaves of a program, and what follows from them.

    Args:
        program: the quantities and their definitions.
        arrays: a float64 tensor for each leaf that is not a constant.
        functions: what stands for each unknown function.
        resized: other numbers for some sizes that the program gives as numbers: what holds for 784
            inputs holds for three.
    """

    def __init__(
        self,
        program: Program,
        arrays: Mapping[str, Tensor],
        functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        resized: Mapping[int, int] | None = None,
    ) -> None:
        self.program = program
        self.resized = dict(resized or {})
        self.arrays = dict(arrays)
        given = functions or {}
        self.functions = {
            name: given.get(name) or sample_function(k)
            for k, name in enumerate(sorted(program.unknown))
        }
        self.sizes: dict[str, int] = {}
        for name, array in self.arrays.items():
            for size, length in zip(program.shape(name), array.shape, strict=True):
                if isinstance(size, str):
                    self.sizes[size] = length
        for name, leaf in program.leaves.items():
            if not leaf.is_given:
                constant = leaf.constant(self.sizes.__getitem__)
                array = torch.as_tensor(constant, dtype=torch.float64)
                self.arrays[name] = _folded(array, [self.size(size) for size in leaf.sizes])
        self._values: dict[str, Tensor] = {}
        self._kept: dict[object, Tensor] = {}
        # Derivatives that will be asked for, by their order.
        self._asked: dict[int, _Asked] = {}
        # The same values with a zero added to each, to be differentiated in.
        self._movable: _Movable | None = None

    def __copy__(self) -> "Valuation":
        other = object.__new__(Valuation)
        vars(other).update(vars(self))
        return other

    # What was worked out is worked out again: it has graphs, which nothing copies.
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_values": {}, "_kept": {}, "_movable": None}

    def size(self, size: Size) -> int:
        """A size as a number."""
        if isinstance(size, int):
            return self.resized.get(size, size)
        return number(size, self.sizes.__getitem__)

    def extended(self, program: Program) -> "Valuation":
        """The same arrays and what is known of them, for a program with more names."""
        other = copy.copy(self)
        other.program = program
        return other

    def stays(self, name: str) -> bool:
        """Whether nothing moves it, and it may be large: a constant, or the slope of what is linear
        in pieces, as a pooling is, which has an entry for each two positions."""
        if name in self.program.leaves:
            return not self.program.leaves[name].is_given
        definition = self.program.by_name[name].definition
        return isinstance(definition, BlackBox) and definition.order == 1 and not definition.curved

    def value(self, name: str) -> Tensor:
        """The array of a leaf or quantity."""
        if name not in self._values:
            self._values[name] = self._compute(name)
        return self._values[name]

    def _compute(self, name: str) -> Tensor:
        if name in self.arrays:
            value = self.arrays[name]
        else:
            quantity = self.program.by_name[name]
            match quantity.definition:
                case ArrayCall(operation, argument):
                    value = ARRAY_FUNCTIONS[operation].value(self.value(argument.name))
                case BlackBox(_, arguments, function):
                    value = function(*map(self.value, arguments))
                case definition:
                    value = self.array(definition, quantity.indices)
        return value

    # ---------------------------------------------------------------- expressions

    def array(self, value: Expression | Term | Factor, free: tuple[Index, ...]) -> Tensor:
        """The array with one axis for each free index, in that order."""
        match value:
            case Expression(terms):
                pass
            case Term():
                terms = (value,)
            case _:
                terms = (Term(_ONE, (value,)),)
        parts = [self._term(term, free) for term in terms]
        there = [part for part in parts if not _is_nothing(part)]
        shape = [self.size(index.size) for index in free]
        return reduce(torch.add, there) if there else _nothing(*shape)

    def _term(self, term: Term, free: tuple[Index, ...]) -> Tensor:
        # A free index that the term does not have is not the bound one of the same name.
        term = freshen(term, {index.name for index in free})
        operands = [self._factor(factor) for factor in term.factors]
        if any(_is_nothing(array) for array, _ in operands):
            return _nothing(*(self.size(index.size) for index in free))
        present = {index for _, axes in operands for index in axes}
        # Along an index that no factor has, the product is repeated, or added up.
        for index in (*free, *term.bound):
            if index not in present:
                operands.append((torch.ones(self.size(index.size), dtype=torch.float64), (index,)))
        coefficient = float(term.coefficient)
        if not operands:
            return torch.tensor(coefficient, dtype=torch.float64)
        result = contracted(operands, free)
        return result if coefficient == 1 else coefficient * result

    def _factor(self, factor: Factor) -> tuple[Tensor, tuple[Index, ...]]:
        """The array of a factor, and the index of each of its axes: one may stand twice."""
        match factor:
            case Entry(name, axes):
                return self.value(name), axes
            case Delta(left, right):
                return torch.eye(self.size(left.size), dtype=torch.float64), (left, right)
            case Count(size):
                return torch.tensor(float(self.sizes[size]), dtype=torch.float64), ()
            case Group(body):
                return self.array(body, indices(body)), indices(body)
            case Partial(inner, by):
                moving = (index for entry in by for index in entry.indices)
                return self.derivative(factor), (*indices(inner), *moving)
            case Apply(name, order, argument):
                value, axes = self._factor(argument)
                key = (name, order, argument.name if isinstance(argument, Entry) else argument)
                # The slope of one function at one quantity stands in many lines.
                if key not in self._kept:
                    function = self.functions.get(name) or FUNCTIONS[name].value
                    self._kept[key] = nth_derivative(function, order, value)
                return self._kept[key], axes
            case Power(base, exponent):
                number, axes = exponent.number, indices(factor)
                if number is None:
                    return self.array(base, axes) ** self.array(exponent, axes), axes
                value, axes = self._factor(base)
                return value ** (int(number) if number.denominator == 1 else float(number)), axes

    # ---------------------------------------------------------------- derivatives not carried out

    def asks(self, partials: Iterable[Partial]) -> None:
        """What will be asked for, so that it is differentiated together."""
        for one in partials:
            key = _key(one)
            if key not in self._kept:
                asked = self._asked.setdefault(len(one.by), {})
                asked.setdefault(key[:-1], {})[one.by[-1].name] = one

    def derivative(self, value: Partial) -> Tensor:
        """The array of ∂ of/∂ by, by automatic differentiation, one gradient for each entry; its
        axes those of what is differentiated and then those of each in ``by``."""
        key = _key(value)
        if key not in self._kept:
            self.asks([value])
            self._kept |= self._derivatives(self._portion(self._asked[len(value.by)], key[:-1]))
        return self._kept[key]

    def _portion(self, asked: "_Asked", first: "_Key") -> "_Asked":
        """What goes in one go, taken out of what is asked for: a value with its derivatives, and as
        many more as are small together."""
        portion, room = _Asked(), _AT_ONCE // self._all_entries
        for key in (first, *(key for key in asked if key != first)):
            value = _undifferentiated(asked[key])
            room -= prod(self.size(i.size) for part in (value.of, *value.by) for i in indices(part))
            if room < 0 and portion:
                break
            portion[key] = asked[key]
        for key in portion:
            del asked[key]
        return portion

    def _derivatives(self, asked: "_Asked") -> dict[object, Tensor]:
        """The derivatives that are asked for, together."""
        values = {key: _undifferentiated(by_names) for key, by_names in asked.items()}
        names = list({name: None for by_names in asked.values() for name in by_names})
        with torch.enable_grad():
            moved = self._moved()
            moved.asks(value for value in values.values() if value.by)
            arrays = [
                moved.derivative(value) if value.by else moved.array(value.of, indices(value.of))
                for value in values.values()
            ]
            # Inside another derivative the result is differentiated again.
            found = _gradients(
                torch.cat([array.reshape(-1) for array in arrays]),
                [moved.shift(name) for name in names],
                create_graph=moved is self,
            )
        sizes = [array.numel() for array in arrays]
        return {
            (*key, name): _apart(rows, len(asked)).reshape((*array.shape, *rows.shape[1:]))
            for name, gradients in zip(names, found, strict=True)
            for key, array, rows in zip(values, arrays, gradients.split(sizes), strict=True)
            if name in asked[key]
        }

    @property
    def _all_entries(self) -> int:
        """How many all leaves and quantities have, which each row goes through."""
        shapes = map(self.program.shape, self.program.names)
        return sum(prod(map(self.size, shape)) for shape in shapes)

    def _moved(self) -> "_Movable":
        if self._movable is None:
            self._movable = _Movable(self)
        # `extended` shares it: the program may have got names since.
        self._movable.program = self.program
        return self._movable


class _Movable(Valuation):
    """The values of a valuation, a zero added to each: ∂/∂z is the gradient in the zero of z, for z
    moves alone and what is made from it follows. One graph serves all derivatives.

    Args:
        still: the valuation.
    """

    def __init__(self, still: Valuation) -> None:
        vars(self).update(vars(still))
        self._still = still
        self._values, self._kept, self._asked = {}, {}, {}
        self._zeros: dict[str, Tensor] = {}

    def _moved(self) -> "_Movable":
        return self

    def shift(self, name: str) -> Tensor:
        """The zero that is added to a leaf or quantity."""
        if name not in self._zeros:
            shape = [self.size(size) for size in self.program.shape(name)]
            self._zeros[name] = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        return self._zeros[name]

    def _compute(self, name: str) -> Tensor:
        if self._still.stays(name):
            return self._still.value(name)
        return super()._compute(name) + self.shift(name)


_Key = tuple[Factor | str, ...]
# Of each value the derivatives, by the name that they are taken by last.
_Asked = dict[_Key, dict[str, Partial]]


def _undifferentiated(by_names: Mapping[str, Partial]) -> Partial:
    """What derivatives by several names are derivatives of."""
    one = next(iter(by_names.values()))
    return Partial(one.of, one.by[:-1])


def _key(value: Partial) -> _Key:
    """What a derivative is of, an array's own entry whatever its letters, and by what."""
    inner = value.of
    if isinstance(inner, Entry) and len(set(inner.indices)) == len(inner.indices):
        inner = Entry(inner.name)
    return (inner, *(entry.name for entry in value.by))


def _apart(rows: Tensor, parts: int) -> Tensor:
    """Rows that were made beside others, by themselves: a part of an array keeps all of it."""
    return rows if parts == 1 or _is_nothing(rows) else rows.clone()


def _folded(array: Tensor, shape: Sequence[int]) -> Tensor:
    """A constant in smaller sizes, where the lines hold for any: the beginning of each axis but the
    first, which is laid upon itself, so that where ``[s = 2u + k]`` holds, it holds modulo the size
    of s."""
    for axis, size in enumerate(shape[1:], 1):
        array = array.narrow(axis, 0, size)
    if list(array.shape) == list(shape):
        return array
    return torch.stack([array[place :: shape[0]].sum(0) for place in range(shape[0])])


def _nothing(*shape: int) -> Tensor:
    """Zeros that take no memory: how the slope of a pooling moves has an entry for each three
    positions."""
    return torch.zeros((), dtype=torch.float64).expand(shape)


def _is_nothing(array: Tensor) -> bool:
    return (
        array.dim() > 0
        and array.numel() > 1
        and not any(array.stride())
        and not float(array[(0,) * array.dim()])
    )


def _gradients(values: Tensor, by: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """By each of some arrays, one row for each value: its gradient. Many rows go through automatic
    differentiation together."""
    if not values.requires_grad or len(values) == 0:
        return [_nothing(len(values), *one.shape) for one in by]
    slope = partial(
        torch.autograd.grad,
        inputs=tuple(by),
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    if len(values) > _ONE_BY_ONE:
        entries = max(len(values), sum(one.numel() for one in by))
        most = max(_ONE_BY_ONE, _TOGETHER // entries)
        parts = []
        for start in range(0, len(values), most):
            units = torch.zeros(min(most, len(values) - start), len(values), dtype=values.dtype)
            units.diagonal(start).fill_(1)
            found = slope(values, grad_outputs=units, is_grads_batched=True)
            parts.append(
                [
                    torch.zeros(len(units), *one.shape, dtype=one.dtype) if rows is None else rows
                    for rows, one in zip(found, by, strict=True)
                ]
            )
        return [torch.cat(rows) for rows in zip(*parts, strict=True)]
    each = [slope(value) for value in values]
    return [
        torch.stack([torch.zeros_like(one) if row is None else row for row in rows])
        for rows, one in zip(zip(*each, strict=True), by, strict=True)
    ]


_ONE = Fraction(1)


def relative(left: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest entry of either; below 1e-3, where terms may
    have cancelled, to that."""
    if left.numel() == 0 or (_is_nothing(left) and _is_nothing(right)):
        return 0.0
    size = max(_largest(left), _largest(right), 1e-3)
    return _largest(left - right) / size


def _largest(array: Tensor) -> float:
    """max |entry|, in one pass and whatever the order of the axes, without a copy."""
    return float(torch.linalg.vector_norm(array, float("inf")))
