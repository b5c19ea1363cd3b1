"""The numeric value of any expression, derivatives not carried out included: what every check
stands on.

Derivatives are taken here by automatic differentiation alone, of the values of the program. None of
the rules under test is used.
"""

import copy
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import opt_einsum
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
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

# Up to so many gradients are taken one by one.
_ONE_BY_ONE = 8
# Entries of what goes through automatic differentiation together, per step of it: all rows at once
# take the square of the number of values.
_TOGETHER = 2**20
_FEW = 4  # factors of one product


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
        for name, leaf in program.leaves.items():
            if leaf.value is not None:
                self.arrays[name] = torch.as_tensor(leaf.value, dtype=torch.float64)
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
        # Added to a quantity, or to a leaf, where it enters what is made from it: ∂/∂z moves z
        # alone.
        self._moved: dict[str, Tensor] = {}
        self._values: dict[str, Tensor] = {}
        self._kept: dict[object, Tensor] = {}
        self._shifts: dict[tuple[str, ...], tuple[Valuation, list[Tensor]]] = {}

    def __copy__(self) -> "Valuation":
        other = object.__new__(Valuation)
        vars(other).update(vars(self))
        return other

    # What was worked out is worked out again: it has graphs, which nothing copies.
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_values": {}, "_kept": {}, "_shifts": {}}

    def size(self, size: Size) -> int:
        """A size as a number."""
        return self.resized.get(size, size) if isinstance(size, int) else self.sizes[size]

    def extended(self, program: Program) -> "Valuation":
        """The same arrays and what is known of them, for a program with more names."""
        other = copy.copy(self)
        other.program = program
        return other

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
                case BlackBox(_, arguments, function, order, curved):
                    value = function(*map(self.value, arguments))
                    # The slope of what is linear in pieces moves with nothing; that of a pooling
                    # has an entry for each two positions, and a gradient each.
                    if order == 1 and not curved:
                        value = value.detach()
                case definition:
                    value = self.array(definition, quantity.indices)
        return value + self._moved[name] if name in self._moved else value

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
        result = torch.zeros([self.size(index.size) for index in free], dtype=torch.float64)
        for term in terms:
            result = result + self._term(term, free)
        return result

    def _term(self, term: Term, free: tuple[Index, ...]) -> Tensor:
        # A free index that the term does not have is not the bound one of the same name.
        term = freshen(term, {index.name for index in free})
        operands = [self._factor(factor) for factor in term.factors]
        present = {index for _, axes in operands for index in axes}
        # Along an index that no factor has, the product is repeated, or added up.
        for index in (*free, *term.bound):
            if index not in present:
                operands.append((torch.ones(self.size(index.size), dtype=torch.float64), (index,)))
        coefficient = torch.tensor(float(term.coefficient), dtype=torch.float64)
        if not operands:
            return coefficient
        # Finding the best order takes longer than any order of so many small arrays.
        order = "auto" if len(operands) <= _FEW else "greedy"
        return coefficient * opt_einsum.contract(
            *chain.from_iterable(operands), free, optimize=order
        )

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
                return self._partial(inner, by)
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

    def _partial(self, inner: Factor, by: tuple[Entry, ...]) -> tuple[Tensor, tuple[Index, ...]]:
        """The array of ∂ inner/∂ by, its axes those of ``inner`` and then one for each index in
        ``by``."""
        axes, names = indices(inner), tuple(entry.name for entry in by)
        key = (inner, names)
        if key not in self._kept:
            self._kept[key] = self.derivative(inner, axes, names)
        return self._kept[key], (*axes, *(index for entry in by for index in entry.indices))

    def derivative(self, inner: Factor, axes: tuple[Index, ...], names: tuple[str, ...]) -> Tensor:
        """∂ inner / ∂ names by automatic differentiation, one gradient for each entry; its axes
        those of ``inner`` and then those of the names."""
        with torch.enable_grad():
            moved, shifts = self._shifted(names)
            result = moved.array(inner, axes)
            for k, shift in enumerate(shifts):
                last = k == len(shifts) - 1
                # Inside another derivative the result is differentiated again.
                rows = _gradients(
                    result.reshape(-1), shift, create_graph=not last or bool(self._moved)
                )
                result = rows.reshape((*result.shape, *shift.shape))
        return result if self._moved else result.detach()

    def _shifted(self, names: tuple[str, ...]) -> tuple["Valuation", list[Tensor]]:
        """The same values with a zero added to each of the names, to be differentiated in; kept,
        for the next one who asks."""
        if names not in self._shifts:
            shapes = [tuple(self.size(size) for size in self.program.shape(name)) for name in names]
            shifts = [
                torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes
            ]
            moved = copy.copy(self)
            moved._values, moved._kept, moved._shifts, moved._moved = {}, {}, {}, dict(self._moved)
            for name, shift in zip(names, shifts, strict=True):
                moved._moved[name] = moved._moved[name] + shift if name in moved._moved else shift
            # What does not depend on the names keeps its value.
            program = self.program
            for name, value in self._values.items():
                if name not in names and not program.ancestors(name) & set(names):
                    moved._values[name] = value
            self._shifts[names] = moved, shifts
        moved, shifts = self._shifts[names]
        # `extended` shares this cache: the program may have got names since.
        moved.program = self.program
        return moved, shifts


def _gradients(values: Tensor, by: Tensor, create_graph: bool) -> Tensor:
    """One row for each value: its gradient. Many rows go through automatic differentiation
    together."""
    if not values.requires_grad or len(values) == 0:
        return torch.zeros(len(values), *by.shape, dtype=by.dtype)
    slope = partial(
        torch.autograd.grad,
        inputs=by,
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    if len(values) > _ONE_BY_ONE:
        most = max(_ONE_BY_ONE, _TOGETHER // max(len(values), by.numel()))
        parts: list[Tensor] = []
        for start in range(0, len(values), most):
            units = torch.zeros(min(most, len(values) - start), len(values), dtype=values.dtype)
            units.diagonal(start).fill_(1)
            (rows,) = slope(values, grad_outputs=units, is_grads_batched=True)
            if rows is None:
                return torch.zeros(len(values), *by.shape, dtype=by.dtype)
            parts.append(rows)
        return torch.cat(parts)
    rows = [slope(value)[0] for value in values]
    zero = torch.zeros_like(by)
    return torch.stack([zero if row is None else row for row in rows])


_ONE = Fraction(1)


def relative(left: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest entry of either; below 1e-3, where terms may
    have cancelled, to that."""
    if left.numel() == 0:
        return 0.0
    size = max(float(left.abs().max()), float(right.abs().max()), 1e-3)
    return float((left - right).abs().max()) / size
