"""A formula as a straight list of statements: what is needed and nothing else, each thing once,
each product in a good order."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import prod

from hesse.derivation.calculus.algebra import contract
from hesse.derivation.calculus.deltas import merged, opened
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
    grouped,
    indices,
    of,
)
from hesse.derivation.calculus.functions import closed_form
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program
from hesse.derivation.code.paths import pairs
from hesse.derivation.code.statements import (
    Argument,
    Combination,
    Contraction,
    Elementwise,
    NamedMap,
    Node,
    Part,
    Product,
    Raised,
    Scale,
    Schedule,
    Selection,
    Statement,
    Value,
    WholeArray,
    is_fresh,
    operands,
)
from hesse.errors import HesseValueError

# What a symbolic size is taken to be where none is given: only the order of the products hangs on
# it.
TYPICAL_SIZE = 32

# A number times an array, or a number alone; None stands for zero.
Scaled = tuple[Scale, Value | None] | None


def schedule(
    expression: Expression,
    free: tuple[Index, ...],
    program: Program,
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, str] | None = None,
) -> Schedule:
    """The statements that compute an expression.

    Quantities that the expression does not need are left out, equal intermediates are made once,
    and each product of several arrays is taken in the order that opt-einsum finds cheapest. A
    Kronecker delta of two free indices becomes a diagonal that is written to.

    Args:
        expression: what to compute.
        free: its free indices, in the order of the result's axes. An index that the expression does
            not have is repeated along.
        program: the leaves and quantities that it names.
        sizes: numbers for symbolic sizes.
        functions: for unknown functions, the names of known ones that they stand for.

    Raises:
        HesseValueError: a derivative in the expression has not been carried out.
    """
    builder = _Builder(program, sizes or {}, functions or {})
    return builder.finished(expression, free)


class _Builder:
    def __init__(
        self, program: Program, sizes: Mapping[str, int], functions: Mapping[str, str]
    ) -> None:
        self._program = program
        self._functions = functions
        self._sizes = sizes
        self._statements: list[Statement] = []
        self._known: dict[object, int] = {}
        self._labels: list[
            tuple[int, ...]
        ] = []  # of each statement: its axes, as the first of its key, the second, ...
        self._quantities: dict[str, tuple[tuple[Index, ...], Scaled]] = {}

    def finished(self, expression: Expression, free: tuple[Index, ...]) -> Schedule:
        """All statements, the result last and nothing that it does not need."""
        parts = self._parts(expression, free)
        whole = None
        if len(parts) == 1 and parts[0].scale.is_one and not parts[0].equal:
            whole = parts[0].value
        if (
            whole is not None
            and whole.axes == free
            and is_fresh(self._statements[whole.id].node, self._program.unknown)
        ):
            result = whole.id
        else:
            # A result of its own, never the caller's array.
            self._statements.append(
                Statement(len(self._statements), free, Combination(tuple(parts)))
            )
            result = len(self._statements) - 1
        needed, todo = set(), [result]
        while todo:
            k = todo.pop()
            if k not in needed:
                needed.add(k)
                todo.extend(value.id for value in operands(self._statements[k].node))
        kept = [
            statement
            for statement in self._statements
            if statement.id in needed and statement.id != result
        ]
        return Schedule((*kept, self._statements[result]), free)

    # ---------------------------------------------------------------- statements, each once

    def _add(self, node: Node, axes: tuple[Index, ...], name: str | None = None) -> Value:
        """The value of a node; the statement that made it already, if there is one."""
        labels: dict[Index, int] = {}
        label = lambda at: tuple([labels.setdefault(index, len(labels)) for index in at])  # noqa: E731
        match node:
            case Product(factors):
                what: object = tuple(
                    (value.id, label(value.axes))
                    for value in sorted(factors, key=lambda value: value.id)
                )
            case Contraction(left, right):
                pair = sorted((left, right), key=lambda value: value.id)
                what = tuple((value.id, label(value.axes)) for value in pair)
            case Combination(parts):
                values = (part.value and (part.value.id, label(part.value.axes)) for part in parts)
                what = tuple(
                    (part.scale, value, tuple(map(label, part.equal)))
                    for part, value in zip(parts, values, strict=True)
                )
            case Elementwise(function, order, argument):
                what = (function, order, argument.id, label(argument.axes))
            case WholeArray(operation, argument):
                what = (operation, argument.id, label(argument.axes))
            case Raised(base, exponent):
                power = (
                    (exponent.id, label(exponent.axes)) if isinstance(exponent, Value) else exponent
                )
                what = (base.id, label(base.axes), power)
            case NamedMap(own, _, arguments):
                what = (own, tuple(value.id for value in arguments))
            case Selection(operand):
                what = (operand.id, label(operand.axes))
            case Argument(leaf):
                what = leaf
        key = (type(node), what, frozenset(label(axes)))
        if key not in self._known:
            self._known[key] = len(self._statements)
            self._statements.append(Statement(len(self._statements), axes, node, name))
            self._labels.append(label(axes))
        back = {number: index for index, number in labels.items()}
        return Value(
            self._known[key], tuple(back[number] for number in self._labels[self._known[key]])
        )

    def _size(self, size: Size) -> int:
        return size if isinstance(size, int) else self._sizes.get(size, TYPICAL_SIZE)

    def _count(self, axes: tuple[Index, ...]) -> int:
        return prod(self._size(index.size) for index in axes)

    def _times(self, scale: Scale, value: Value | None) -> Value:
        """A number times an array, as an array."""
        if value is not None and scale.is_one:
            return value
        return self._add(
            Combination((Part(scale, value),)), value.axes if value is not None else ()
        )

    # ---------------------------------------------------------------- names

    def _entry(self, entry: Entry) -> Scaled:
        if entry.name in self._program.leaves:
            axes = self._natural(entry.name)
            scale, value = Scale(), self._add(Argument(entry.name), axes, entry.name)
        else:
            if entry.name not in self._quantities:
                self._quantities[entry.name] = self._quantity(entry.name)
            axes, found = self._quantities[entry.name]
            if found is None or found[1] is None:
                return found
            scale, value = found[0], found[1]
        to = dict(zip(axes, entry.indices, strict=True))
        value = Value(value.id, tuple(to[index] for index in value.axes))
        if len(set(value.axes)) < len(value.axes):
            value = self._add(Selection(value), tuple(dict.fromkeys(value.axes)))
        return scale, value

    def _quantity(self, name: str) -> tuple[tuple[Index, ...], Scaled]:
        quantity = self._program.by_name[name]
        match quantity.definition:
            case ArrayCall(operation, argument):
                value = self._filled(argument)
                result: Scaled = (
                    Scale(),
                    self._add(WholeArray(operation, value), quantity.indices, name),
                )
            case BlackBox(_, arguments, function):
                values = tuple(
                    self._filled(Entry(argument, self._natural(argument))) for argument in arguments
                )
                result = (
                    Scale(),
                    self._add(NamedMap(name, function, values), quantity.indices, name),
                )
            case definition:
                result = self._sum(self._parts(definition, quantity.indices), quantity.indices)
        if result and result[1]:
            # A named quantity is an array of its own, its scale within.
            value = self._times(*result)
            made = self._statements[value.id]
            if made.name is None:
                self._statements[value.id] = replace(made, name=name)
            result = (Scale(), value)
        return quantity.indices, result

    def _natural(self, name: str) -> tuple[Index, ...]:
        if name in self._program.by_name:
            return self._program.by_name[name].indices
        return tuple(Index(f"_{k}", size) for k, size in enumerate(self._program.shape(name)))

    def _filled(self, entry: Entry) -> Value:
        """The array with just the axes of an entry, in that order: what a function of whole arrays
        sees."""
        found = self._entry(entry)
        value = self._times(*found) if found else None
        if value is not None and value.axes == entry.indices:
            return value
        return self._add(Combination((Part(Scale(), value),) if value else ()), entry.indices)

    # ---------------------------------------------------------------- factors

    def _factor(self, factor: Factor) -> Scaled:
        match factor:
            case Entry():
                return self._entry(factor)
            case Count(size):
                return Scale(Fraction(1), ((size, Fraction(1)),)), None
            case Group(body):
                return self._sum(self._parts(body, indices(body)), indices(body))
            case Delta():
                return self._sum(self._parts(of(factor), indices(factor)), indices(factor))
            case Apply(function, order, argument):
                known = function in self._functions or function not in self._program.unknown
                function = self._functions.get(function, function)
                closed = closed_form(function, order, argument) if known else None
                if closed is not None:
                    return None if closed.is_zero else self._factor(Group(closed))
                if known and order:
                    raise HesseValueError(
                        f"the derivative of order {order} of {function} has no closed form in the"
                        " table of functions"
                    )
                value = self._number_or_array(self._factor(argument))
                return Scale(), self._add(Elementwise(function, order, value), value.axes)
            case Power(base, exponent):
                return self._power(self._factor(base), exponent)
            case Partial(inner, by):
                names = ", ".join(entry.name for entry in by)
                raise HesseValueError(
                    f"the derivative of {getattr(inner, 'name', 'an expression')} by {names} has"
                    " not been carried out, so it has no formula to compute: evaluate the last"
                    " line of the derivation instead"
                )

    def _number_or_array(self, found: Scaled) -> Value:
        return self._times(*(found or (Scale(Fraction(0)), None)))

    def _power(self, base: Scaled, exponent: Expression) -> Scaled:
        power = exponent.number
        if power is None:
            below, above = (
                self._number_or_array(base),
                self._number_or_array(self._factor(grouped(exponent))),
            )
            axes = tuple(dict.fromkeys((*below.axes, *above.axes)))
            return Scale(), self._add(Raised(below, above), axes)
        if base is None and power > 0:
            return None
        if (
            base is not None
            and base[1] is None
            and (base[0].number == 1 or power.denominator == 1)
            and base[0].number != 0
        ):
            scale = base[0]
            return (
                Scale(
                    scale.number ** int(power) if power.denominator == 1 else Fraction(1),
                    _powers(scale, power),
                ),
                None,
            )
        value = self._number_or_array(base)
        return Scale(), self._add(Raised(value, power), value.axes)

    # ---------------------------------------------------------------- sums

    def _sum(self, parts: list[Part], axes: tuple[Index, ...]) -> Scaled:
        """The parts as one array, with those of the axes that it depends on."""
        if not parts:
            return None
        if len(parts) == 1 and not parts[0].equal:
            return parts[0].scale, parts[0].value
        held = {index for part in parts for index in (part.value.axes if part.value else ())}
        held |= {index for part in parts for pair in part.equal for index in pair}
        return Scale(), self._add(
            Combination(tuple(parts)), tuple(index for index in axes if index in held)
        )

    def _parts(self, expression: Expression, free: tuple[Index, ...]) -> list[Part]:
        parts: dict[object, Part] = {}
        terms = [part for term in expression.terms for part in opened(term)]
        for term in terms:
            part = self._term(term, free, alone=len(terms) == 1)
            if part is None:
                continue
            # Terms that came to the same array, such as A + Aᵀ of a symmetric intermediate, are
            # one.
            key = (part.value, part.equal, part.scale.sizes)
            if key in parts:
                part = replace(
                    part, scale=Scale(part.scale.number + parts[key].scale.number, part.scale.sizes)
                )
            parts[key] = part
        # One that is added first: then no sign has to be changed.
        return sorted(
            (part for part in parts.values() if part.scale.number),
            key=lambda part: part.scale.number < 0,
        )

    def _term(self, term: Term, free: tuple[Index, ...], alone: bool) -> Part | None:
        contracted = contract(term)
        if contracted is None or contracted.coefficient == 0:
            return None
        factors, equal = merged(contracted.factors, free)
        scale, found = Scale(contracted.coefficient), []
        for factor in factors:
            scaled = self._factor(factor)
            if scaled is None:
                return None
            scale *= scaled[0]
            if scaled[1] is not None:
                found.append(scaled[1])
        held = {index for value in found for index in value.axes}
        for index in contracted.bound:
            if index not in held:
                size = index.size
                scale *= (
                    Scale(Fraction(size))
                    if isinstance(size, int)
                    else Scale(Fraction(1), ((size, Fraction(1)),))
                )
        wanted = tuple(index for index in free if index in held)
        return Part(*self._contracted(found, wanted, scale, alone), equal)

    # ---------------------------------------------------------------- products

    def _contracted(
        self, found: list[Value], wanted: tuple[Index, ...], scale: Scale, alone: bool
    ) -> tuple[Scale, Value | None]:
        """The product of arrays, summed over all but the wanted indices; what is left of the
        scale."""
        if not found:
            return scale, None
        found = self._gathered(found, wanted)
        for left, right, last in pairs(found, wanted, self._size):
            a, b = found[left], found[right]
            if not last:
                others = {
                    index
                    for k, value in enumerate(found)
                    if k not in (left, right) and value
                    for index in value.axes
                }
                out = tuple(
                    index
                    for index in dict.fromkeys((*a.axes, *b.axes))
                    if index in others or index in wanted
                )
            else:
                out = wanted
                number = (
                    abs(scale.number) != 1 or bool(scale.sizes) or (alone and scale.number != 1)
                )
                small, large = sorted((a, b), key=lambda value: self._count(value.axes))
                if number and 2 * self._count(small.axes) <= self._count(out):
                    # The number goes to the small factor, not over the large result.
                    a, b, scale = self._times(scale, small), large, Scale()
            for k in sorted((left, right), reverse=True):
                del found[k]
            found.append(self._pair(a, b, out))
        (value,) = found
        if set(value.axes) != set(wanted):
            value = self._add(Selection(value), wanted)
        return scale, value

    def _summed_alone(self, k: int, found: list[Value], wanted: tuple[Index, ...]) -> Value:
        """An array summed over what no other has."""
        others = {index for j, value in enumerate(found) if j != k for index in value.axes}
        kept = tuple(index for index in found[k].axes if index in others or index in wanted)
        return found[k] if kept == found[k].axes else self._add(Selection(found[k]), kept)

    def _gathered(self, found: list[Value], wanted: tuple[Index, ...]) -> list[Value]:
        """Arrays of the same axes multiplied, and summed where no other has the index; numbers go
        to the smallest."""
        found = [self._summed_alone(k, found, wanted) for k in range(len(found))]
        groups: dict[frozenset[Index], list[Value]] = {}
        for value in found:
            groups.setdefault(frozenset(value.axes), []).append(value)
        numbers = groups.pop(frozenset(), [])
        if not groups:
            return [self._product(numbers)]
        if all(len(group) == 1 for group in groups.values()):
            if not numbers:
                return found
            smallest = min(groups, key=lambda axes: self._count(tuple(axes)))
            groups[smallest] = [self._product([*numbers, *groups[smallest]])]
            return [value for (value,) in groups.values()]
        gathered = []
        for axes, group in groups.items():
            others = frozenset[Index]().union(*(other for other in groups if other != axes))
            kept = tuple(index for index in group[0].axes if index in others or index in wanted)
            first, last = group[:-1], group[-1]
            gathered.append(self._pair(self._product(first), last, kept) if first else last)
        # A sum may leave arrays of axes that others have.
        return self._gathered([*numbers, *gathered], wanted)

    def _product(self, group: list[Value]) -> Value:
        if len(group) == 1:
            return group[0]
        return self._add(Product(tuple(group)), max(group, key=lambda value: len(value.axes)).axes)

    def _pair(self, a: Value, b: Value, out: tuple[Index, ...]) -> Value:
        shared = set(a.axes) & set(b.axes)
        if shared <= set(out):
            larger, smaller = (a, b) if self._count(a.axes) >= self._count(b.axes) else (b, a)
            axes = out if set(out) != set(larger.axes) else larger.axes
            assert set(axes) == {*a.axes, *b.axes}, "a product sums over nothing"
            return self._add(Product((smaller, larger)), axes)
        if out and out[0] in b.axes and out[0] not in a.axes:
            a, b = b, a
        batch = tuple(index for index in out if index in shared)
        rows, columns = (
            tuple(index for index in value.axes if index in out and index not in shared)
            for value in (a, b)
        )
        return self._add(Contraction(a, b), (*batch, *rows, *columns))


def _powers(scale: Scale, power: Fraction) -> tuple[tuple[str, Fraction], ...]:
    return tuple((size, own * power) for size, own in scale.sizes)
