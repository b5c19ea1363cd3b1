"""A schedule carried out statement by statement, by functions of the arrays before: no code is
generated."""

from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce, singledispatch
from math import prod
from operator import add, mul
from typing import Any

import numpy
import torch

from hesse.derivation.calculus.expression import Index
from hesse.derivation.calculus.program import Program
from hesse.derivation.code.array_code import callable_of
from hesse.derivation.code.binding import Arrays, Derivatives, derivative_of
from hesse.derivation.code.statements import (
    Argument,
    Combination,
    Contraction,
    Elementwise,
    Layout,
    Matmul,
    NamedMap,
    Node,
    Part,
    Product,
    Raised,
    Scale,
    Schedule,
    Selection,
    Statement,
    Tensordot,
    Value,
    WholeArray,
    diagonals,
    is_fresh,
    layout,
    letters,
    lowered,
    operands,
    spelled,
)
from hesse.errors import HesseMemoryError, HesseValueError, readable_bytes
from hesse.process.memory import available_bytes

Array = Any  # numpy.ndarray or torch.Tensor
Made = list[Array]  # the arrays so far, by position
Step = Callable[[Made], Array]

# Arrays of more entries than this are let go as soon as nothing needs them.
_LARGE = 1 << 20


class Plan:
    """A schedule as functions of the arrays before, made once for one set of shapes."""

    def __init__(
        self,
        made: Schedule,
        program: Program,
        sizes: Mapping[str, int],
        arrays: Arrays,
        functions: Mapping[str, Derivatives],
    ) -> None:
        self.backend, self.sizes = arrays.backend, sizes
        like = arrays.like
        self.one: Array = (
            numpy.ones((), like.dtype) if self.backend == "numpy" else like.new_ones(())
        )
        self.functions, self.program = functions, program
        self.place = {statement.id: k for k, statement in enumerate(made.statements)}
        self._check_memory(made)
        uses = Counter(
            value.id for statement in made.statements for value in operands(statement.node)
        )
        # Arrays that may be written over by the one statement that takes them.
        self.spent = {
            s.id for s in made.statements if uses[s.id] == 1 and is_fresh(s.node, program.unknown)
        }
        last = {
            self.place[value.id]: k
            for k, s in enumerate(made.statements)
            for value in operands(s.node)
        }
        large = {k for k, s in enumerate(made.statements) if self.count(s.axes) > _LARGE}
        done = [tuple(k for k in large if last.get(k) == at) for at in range(len(made.statements))]
        self._blank: Made = [None] * len(made.statements)
        self._arguments: list[tuple[int, str]] = []
        self._steps: list[tuple[int, Step, tuple[int, ...]]] = []
        for k, statement in enumerate(made.statements):
            match statement.node:
                case Argument(name) if program.leaves[name].value is not None:
                    self._blank[k] = arrays.constant(program.leaves[name].value)
                case Argument(name):
                    self._arguments.append((k, name))
                case node:
                    self._steps.append((k, step(node, statement, self), done[k]))
        self._scalar = not made.free and self.backend == "numpy"

    def __call__(self, arrays: Arrays) -> Array:
        made = self._blank.copy()
        for k, name in self._arguments:
            made[k] = arrays.values[name]
        with torch.no_grad():
            for k, run, done in self._steps:
                made[k] = run(made)
                for gone in done:
                    made[gone] = None
        return numpy.asarray(made[-1]) if self._scalar else made[-1]

    def _check_memory(self, made: Schedule) -> None:
        each, device = (
            self.one.dtype.itemsize,
            torch.device("cpu" if self.backend == "numpy" else self.one.device),
        )
        most = max(self.count(statement.axes) for statement in made.statements) * each
        if most > 1 << 28 and most > (free := available_bytes(device)):
            shape = tuple(self.size(index) for index in made.free)
            raise HesseMemoryError(
                f"the result of shape {shape} needs an array of {readable_bytes(most)}, and"
                f" {readable_bytes(free)} are free: give fewer or smaller arrays"
            )

    # ---------------------------------------------------------------- what the steps are made of

    def size(self, index: Index) -> int:
        """How far an index runs."""
        if isinstance(index.size, int):
            return index.size
        return self.length(index.size)

    def length(self, size: str) -> int:
        """A symbolic size as a number."""
        if size not in self.sizes:
            holders = [name for name, leaf in self.program.leaves.items() if size in leaf.sizes]
            raise HesseValueError(
                f"the size {size} is not known: give"
                f" {' or '.join(holders) or 'an array that has it'} as well"
            )
        return self.sizes[size]

    def count(self, axes: tuple[Index, ...]) -> int:
        """The entries of an array."""
        return prod(map(self.size, axes))

    def number(self, scale: Scale) -> int | float:
        """A scale as a number."""
        value = scale.number
        for size, power in scale.sizes:
            value = value * self.length(size) ** (
                int(power) if power.denominator == 1 else float(power)
            )
        return (
            int(value) if isinstance(value, Fraction) and value.denominator == 1 else float(value)
        )

    def read(self, value: Value, axes: tuple[Index, ...] | None = None) -> Step:
        """An array, its axes arranged as asked."""
        return self.arranged(value, layout(value, axes if axes is not None else value.axes))

    def arranged(self, value: Value, at: Layout) -> Step:
        """An array, its axes arranged as a layout says."""
        k = self.place[value.id]
        order = tuple(axis for axis in at if axis is not None)
        new = tuple(None if axis is None else slice(None) for axis in at)
        permute = order != tuple(sorted(order))
        if permute and len(order) == 2 and None not in new:
            return lambda made: made[k].T
        if permute and None in new:
            if self.backend == "numpy":
                return lambda made: made[k].transpose(order)[new]
            return lambda made: made[k].permute(order)[new]
        if permute:
            return (
                (lambda made: made[k].transpose(order))
                if self.backend == "numpy"
                else (lambda made: made[k].permute(order))
            )
        if None in new:
            return lambda made: made[k][new]
        return lambda made: made[k]

    def zeros(self, axes: tuple[Index, ...]) -> Step:
        """An array of zeros."""
        shape, one = tuple(map(self.size, axes)), self.one
        if self.backend == "numpy":
            return lambda made: numpy.zeros(shape, one.dtype)
        return lambda made: torch.zeros(shape, dtype=one.dtype, device=one.device)


# ---------------------------------------------------------------- one step for each kind of node


@singledispatch
def step(node: Node, statement: Statement, plan: Plan) -> Step:
    """What carries a node out."""
    raise NotImplementedError(f"no step for {type(node).__name__}")


@step.register
def _(node: Elementwise, statement: Statement, plan: Plan) -> Step:
    if node.function in plan.functions or node.function in plan.program.unknown:
        f = derivative_of(plan.functions, node.function, node.order)
        k = plan.place[node.argument.id]
        return lambda made: f(made[k])
    f, k = callable_of(plan.backend, node.function), plan.place[node.argument.id]
    return lambda made: f(made[k])


@step.register
def _(node: WholeArray, statement: Statement, plan: Plan) -> Step:
    f, k = callable_of(plan.backend, node.operation), plan.place[node.argument.id]
    return lambda made: f(made[k])


@step.register
def _(node: NamedMap, statement: Statement, plan: Plan) -> Step:
    # Such a map is PyTorch's, whatever the arrays are.
    f, places = node.function, [plan.place[value.id] for value in node.arguments]
    if plan.backend == "torch":
        return lambda made: f(*(made[k] for k in places))
    kind = plan.one.dtype
    return lambda made: (
        f(*(torch.as_tensor(made[k]) for k in places)).numpy(force=True).astype(kind, copy=False)
    )


@step.register
def _(node: Raised, statement: Statement, plan: Plan) -> Step:
    if isinstance(node.exponent, Value):
        base, exponent = (
            plan.read(node.base, statement.axes),
            plan.read(node.exponent, statement.axes),
        )
        return lambda made: base(made) ** exponent(made)
    k, power = plan.place[node.base.id], node.exponent
    sqrt = numpy.sqrt if plan.backend == "numpy" else torch.sqrt
    if power == Fraction(1, 2):
        return lambda made: sqrt(made[k])
    if power == Fraction(-1, 2):
        return lambda made: 1 / sqrt(made[k])
    if power == 2:
        return lambda made: made[k] * made[k]
    if power < 0:
        number = int(-power) if power.denominator == 1 else float(-power)
        return (lambda made: 1 / made[k]) if number == 1 else (lambda made: 1 / made[k] ** number)
    number = int(power) if power.denominator == 1 else float(power)
    return lambda made: made[k] ** number


@step.register
def _(node: Product, statement: Statement, plan: Plan) -> Step:
    first, second, *more = (plan.read(value, statement.axes) for value in node.factors)
    if not more:
        return lambda made: first(made) * second(made)
    return lambda made: reduce(mul, [read(made) for read in more], first(made) * second(made))


@step.register
def _(node: Contraction, statement: Statement, plan: Plan) -> Step:
    match lowered(node, statement.axes):
        case Matmul(left, right, drop):
            a, b = plan.arranged(node.left, left), plan.arranged(node.right, right)
            if drop is None:
                return lambda made: a(made) @ b(made)
            at = (..., 0) if drop == -1 else (..., 0, slice(None))
            return lambda made: (a(made) @ b(made))[at]
        case Tensordot(first, second):
            j, k = plan.place[node.left.id], plan.place[node.right.id]
            if plan.backend == "numpy":
                return lambda made: numpy.tensordot(made[j], made[k], (first, second))
            return lambda made: torch.tensordot(made[j], made[k], (first, second))  # pyright: ignore[reportArgumentType]
        case other:
            j, k, subscripts = plan.place[node.left.id], plan.place[node.right.id], other.subscripts
            return _einsum(plan, subscripts, j, k)


@step.register
def _(node: Selection, statement: Statement, plan: Plan) -> Step:
    names = letters(node.operand.axes, statement.axes)
    subscripts = f"{spelled(node.operand.axes, names)}->{spelled(statement.axes, names)}"
    return _einsum(plan, subscripts, plan.place[node.operand.id])


def _einsum(plan: Plan, subscripts: str, *at: int) -> Step:
    if plan.backend == "numpy":
        return lambda made: numpy.einsum(subscripts, *(made[k] for k in at))
    return lambda made: torch.einsum(subscripts, *(made[k] for k in at))


@step.register
def _(node: Combination, statement: Statement, plan: Plan) -> Step:
    axes = statement.axes
    dense = [part for part in node.parts if not part.equal]
    placed = [_placed(part, axes, plan) for part in node.parts if part.equal]
    covered = {index for part in dense if part.value for index in part.value.axes}
    if not axes and not placed and all(part.value is None for part in dense):
        number, one = sum(plan.number(part.scale) for part in dense), plan.one
        return lambda made: one * number
    total = _total([_scaled(part, axes, plan) for part in dense])
    if not dense or covered != set(axes):
        start = _onto(plan.zeros(axes), total) if dense else plan.zeros(axes)
    elif (
        len(dense) == 1
        and dense[0].scale.is_one
        and dense[0].value
        and dense[0].value.id not in plan.spent
    ):
        start = (
            (lambda made: total(made).copy())
            if plan.backend == "numpy"
            else (lambda made: total(made).clone())
        )
    else:
        start = total
    for place in placed:
        start = _onto(start, *place)
    return start


def _total(terms: list[Step]) -> Step:
    first, *more = terms or [lambda made: 0]
    if not more:
        return first
    if len(more) == 1:
        second = more[0]
        return lambda made: first(made) + second(made)
    return lambda made: reduce(add, [term(made) for term in more], first(made))


def _onto(start: Step, value: Step, view: Callable[[Array], Array] = lambda array: array) -> Step:
    """An array, with a value added to a view of it."""
    return lambda made: _added(start(made), value(made), view)


def _added(array: Array, value: Array, view: Callable[[Array], Array]) -> Array:
    part = view(array)
    part += value
    return array


def _scaled(part: Part, axes: tuple[Index, ...], plan: Plan) -> Step:
    number = plan.number(part.scale)
    if part.value is None:
        return lambda made: number * plan.one
    read = plan.read(part.value, axes)
    if number == 1:
        return read
    return (lambda made: -read(made)) if number == -1 else (lambda made: number * read(made))


def _placed(
    part: Part, axes: tuple[Index, ...], plan: Plan
) -> tuple[Step, Callable[[Array], Array]]:
    """A part, and the view of the diagonals where its indices are equal."""
    stands = {index: first for first, index in part.equal}
    repeated = tuple(stands.get(index, index) for index in axes)
    if plan.backend == "numpy":
        names, own = letters(repeated), tuple(dict.fromkeys(repeated))
        subscripts = f"{spelled(repeated, names)}->{spelled(own, names)}"
        return _scaled(part, own, plan), lambda array: numpy.einsum(subscripts, array)
    pairs, own = diagonals(repeated)
    return _scaled(part, own, plan), lambda array: reduce(
        lambda a, pair: a.diagonal(dim1=pair[0], dim2=pair[1]), pairs, array
    )
