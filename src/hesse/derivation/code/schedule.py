"""A formula as a straight list of statements: what is needed and nothing else, each thing once,
each product in a good order."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from hesse.derivation.calculus.deltas import expanded_around_deltas, merged
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
    freshened,
    grouped,
    indices,
    of,
)
from hesse.derivation.calculus.functions import closed_form
from hesse.derivation.calculus.normal_form import contract
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program
from hesse.derivation.code.products import product_of
from hesse.derivation.code.ranges import Ranges
from hesse.derivation.code.statements import (
    Applied,
    Argument,
    Combination,
    NamedMap,
    Part,
    Product,
    Raised,
    Scale,
    Schedule,
    Selection,
    Value,
    is_fresh,
    operands,
)
from hesse.derivation.code.value_numbering import Statements
from hesse.errors import HesseValueError

_ZERO = Part(Scale(Fraction(0)), None)


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
        HesseValueError: a derivative in the expression has not been carried out, or has no closed
            form.
    """
    return _Scheduler(program, Statements(sizes or {}), functions or {}).schedule(expression, free)


class _Scheduler:
    def __init__(
        self, program: Program, statements: Statements, functions: Mapping[str, str]
    ) -> None:
        self._program = program
        self._statements = statements
        self._functions = functions
        self._quantities: dict[str, Part] = {}
        self._ranges = Ranges(program)

    def schedule(self, expression: Expression, free: tuple[Index, ...]) -> Schedule:
        """All statements, the result last and nothing that it does not need."""
        parts = self._parts(expression, free)
        every = self._statements.all
        match parts:
            case [Part(Scale(is_one=True), Value(result, axes), ())] if axes == free and is_fresh(
                every[result].node, self._program.unknown
            ):
                pass
            case _:
                # A result of its own, never the caller's array.
                result = self._statements.append(Combination(tuple(parts)), free)
        # Backwards from the result: what was computed on the way to a zero is not needed.
        needed, todo = set(), [result]
        while todo:
            number = todo.pop()
            if number not in needed:
                needed.add(number)
                todo.extend(value.id for value in operands(every[number].node))
        before = [every[number] for number in sorted(needed - {result})]
        return Schedule((*before, every[result]), free)

    # ---------------------------------------------------------------- names

    def _entry(self, entry: Entry) -> Part:
        if entry.name in self._program.leaves:
            axes = self._axes(entry.name)
            part = Part(Scale(), self._statements.add(Argument(entry.name), axes, entry.name))
        else:
            if entry.name not in self._quantities:
                self._quantities[entry.name] = self._quantity(entry.name)
            axes, part = self._axes(entry.name), self._quantities[entry.name]
        if part.value is None:
            return part
        to = dict(zip(axes, entry.indices, strict=True))
        value = Value(part.value.id, tuple(to[index] for index in part.value.axes))
        if len(set(value.axes)) < len(value.axes):  # the diagonal, as of W[i,i]
            value = self._statements.add(Selection(value), tuple(dict.fromkeys(value.axes)))
        return replace(part, value=value)

    def _quantity(self, name: str) -> Part:
        quantity = self._program.by_name[name]
        axes, add = quantity.indices, self._statements.add
        match quantity.definition:
            case ArrayCall(operation, argument):
                return Part(Scale(), add(Applied(operation, 0, self._filled(argument)), axes, name))
            case BlackBox(operation, arguments, function):
                values = (self._filled(Entry(leaf, self._axes(leaf))) for leaf in arguments)
                node = NamedMap(name, operation, function, tuple(values))
                return Part(Scale(), add(node, axes, name))
            case definition:
                part = self._sum(self._parts(definition, axes), axes)
        if part.value is None:
            return part
        # A named quantity is an array of its own, its scale within.
        value = self._statements.times(part)
        statement = self._statements.all[value.id]
        if statement.name is None:
            self._statements.all[value.id] = replace(statement, name=name)
        return Part(Scale(), value)

    def _axes(self, name: str) -> tuple[Index, ...]:
        """Indices for the axes of a leaf or quantity."""
        if name in self._program.by_name:
            return self._program.by_name[name].indices
        return tuple(Index(f"_{k}", size) for k, size in enumerate(self._program.shape(name)))

    def _filled(self, entry: Entry) -> Value:
        """The array with just the axes of an entry, in that order: what a function of whole arrays
        sees."""
        value = self._statements.times(self._entry(entry))
        if value.axes == entry.indices:
            return value
        return self._statements.add(Combination((Part(Scale(), value),)), entry.indices)

    # ---------------------------------------------------------------- factors

    def _factor(self, factor: Factor) -> Part:
        match factor:
            case Entry():
                return self._entry(factor)
            case Count(size):
                return Part(_extent(size), None)
            case Group(body):
                return self._sum(self._parts(body, indices(body)), indices(body))
            case Delta():
                return self._sum(self._parts(of(factor), indices(factor)), indices(factor))
            case Apply():
                return self._apply(factor)
            case Power(base, exponent):
                return self._power(self._factor(base), exponent)
            case Partial(inner, by):
                names = ", ".join(entry.name for entry in by)
                raise HesseValueError(
                    f"the derivative of {getattr(inner, 'name', 'an expression')} by {names} has"
                    " not been carried out, so it has no formula to compute: evaluate the last"
                    " line of the derivation instead"
                )

    def _apply(self, factor: Apply) -> Part:
        function = self._functions.get(factor.function, factor.function)
        known = factor.function in self._functions or factor.function not in self._program.unknown
        closed = closed_form(function, factor.order, factor.argument) if known else None
        if closed is not None:
            return self._factor(Group(closed))
        if known and factor.order:
            raise HesseValueError(
                f"the derivative of order {factor.order} of {function} has no closed form in the"
                " table of functions"
            )
        value = self._statements.times(self._factor(factor.argument))
        node = Applied(function, factor.order, value)
        return Part(Scale(), self._statements.add(node, value.axes))

    def _power(self, base: Part, exponent: Expression) -> Part:
        power, scale = exponent.number, base.scale
        if base.value is None and power is not None:
            if base.is_zero and power > 0:
                return base
            # A number stays exact where its power is rational.
            if scale.number == 1 or (scale.number != 0 and power.denominator == 1):
                sizes = tuple((size, degree * power) for size, degree in scale.sizes)
                return Part(Scale(scale.number ** int(power), sizes), None)
        below = self._statements.times(base)
        above = power
        if above is None:
            above = self._statements.times(self._factor(grouped(exponent)))
        node = Raised(below, above)
        axes = dict.fromkeys(index for value in operands(node) for index in value.axes)
        return Part(Scale(), self._statements.add(node, tuple(axes)))

    # ---------------------------------------------------------------- sums

    def _sum(self, parts: list[Part], axes: tuple[Index, ...]) -> Part:
        """The parts as one array, with those of the axes that it depends on."""
        if not parts:
            return _ZERO
        if len(parts) == 1 and not parts[0].equal:
            return parts[0]
        held = {index for part in parts for index in (part.value.axes if part.value else ())}
        held |= {index for part in parts for pair in part.equal for index in pair}
        kept = tuple(index for index in axes if index in held)
        return Part(Scale(), self._statements.add(Combination(tuple(parts)), kept))

    def _parts(self, expression: Expression, free: tuple[Index, ...]) -> list[Part]:
        parts: dict[object, Part] = {}
        # A sum may run over a letter that is another axis beside it.
        apart = freshened(expression, {index.name for index in free})
        terms = [part for term in apart.terms for part in expanded_around_deltas(term)]
        for term in terms:
            part = self._term(term, free, alone=len(terms) == 1)
            if part is None:
                continue
            # Terms that came to the same array, such as A + Aᵀ of a symmetric intermediate, are
            # one.
            key = (part.value, part.equal, part.scale.sizes)
            if key in parts:
                number = part.scale.number + parts[key].scale.number
                part = replace(part, scale=replace(part.scale, number=number))
            parts[key] = part
        # One that is added first: then no sign has to be changed.
        return sorted(
            (part for part in parts.values() if part.scale.number),
            key=lambda part: part.scale.number < 0,
        )

    def _term(self, term: Term, free: tuple[Index, ...], alone: bool) -> Part | None:
        simplified = contract(term)
        if simplified.coefficient == 0:
            return None
        factors, equal = merged(simplified.factors, free)
        scale, made = Scale(simplified.coefficient), list[tuple[Factor, Value]]()
        for factor in factors:
            part = self._factor(factor)
            if part.is_zero:
                return None
            scale *= part.scale
            if part.value is not None:
                made.append((factor, part.value))
        held = {index for _, value in made for index in value.axes}
        for index in simplified.bound:
            if index not in held:
                # Nothing depends on it: the sum over it is its length times what is summed.
                scale *= _extent(index.size)
        wanted = tuple(index for index in free if index in held)
        # A sign of a factor is in the scale, and no more in its array.
        sign = 1 if scale.number * simplified.coefficient > 0 else -1
        values = self._square(made, sign, wanted) or [value for _, value in made]
        return Part(*product_of(self._statements, values, wanted, scale, alone), equal)

    def _square(
        self, made: list[tuple[Factor, Value]], sign: int, wanted: tuple[Index, ...]
    ) -> list[Value]:
        """Σ w X_i X_k with weights that are not negative as the two factors of (√w X)ᵀ (√w X), of
        which libraries compute half; nothing where it is something else.

        Args:
            made: the factors, and the array of each up to a number.
            sign: of all those numbers.
            wanted: the indices of the result.
        """
        inner = [pair for pair in made if set(pair[1].axes).isdisjoint(wanted)]
        match [value for _, value in made if not set(value.axes).isdisjoint(wanted)], wanted:
            case [Value(left, rows) as first, Value(right, columns)], (i, k) if inner:
                if left != right or columns != tuple(k if n == i else n for n in rows):
                    return []
            case _:
                return []
        factors, weights = zip(*inner, strict=True)
        if any(not set(value.axes) < set(rows) for value in weights):
            return []
        if self._ranges.of(Term(Fraction(sign), factors))[0] < 0:
            return []
        axes = tuple(index for index in rows if any(index in value.axes for value in weights))
        scale, product = product_of(self._statements, list(weights), axes, Scale(), False)
        add = self._statements.add
        # Rounding may leave what is zero below it.
        weight = add(Applied("abs", 0, self._statements.times(Part(scale, product))), axes)
        root = add(Raised(weight, Fraction(1, 2)), axes)
        factor = add(Product((root, first)), rows)
        other = tuple(k if index == i else index for index in factor.axes)
        return [factor, replace(factor, axes=other)]


def _extent(size: Size) -> Scale:
    return Scale(Fraction(size)) if isinstance(size, int) else Scale(sizes=((size, Fraction(1)),))
