"""What stands right of a statement's ``=``, as a tree of Python's own syntax: a function for each
kind of node."""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce, singledispatch
from typing import Any

from hesse.derivation.calculus.expression import Index, Size
from hesse.derivation.calculus.sizes import parts
from hesse.derivation.code.backends import Backend
from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.lowering import Matmul, Tensordot, diagonals, layout, lowered, subscripts
from hesse.derivation.code.statements import (
    Applied,
    Argument,
    Combination,
    Contraction,
    NamedMap,
    Node,
    Part,
    Product,
    Raised,
    Scale,
    Selection,
    Value,
)
from hesse.derivation.code.syntax import literal, tree


class Outside(dict[Any, str]):
    """Identifiers of things that come from outside of a function, made when they are first read."""

    def __init__(self, names: Names, called: Callable[[Any], str]) -> None:
        self.names, self.called = names, called

    def __missing__(self, thing: Any) -> str:
        self[thing] = self.names.new(self.called(thing))
        return self[thing]


class CodeWriter:
    """What the code so far has named.

    Attributes:
        names: the identifiers taken.
        written_out: values of leaves that are no names, as nested lists.
        arrays: how each array is written, by its statement.
        spent: statements whose arrays nothing else takes: they may be written over.
        functions: the identifier of each function, by its name and its order as a derivative, that
            no record knows.
        maps: the maps that have no formula, by their identifiers.
        lengths: the identifier of each symbolic size.
    """

    def __init__(
        self,
        backend: Backend,
        names: Names,
        like: str | None,
        unknown: frozenset[str],
        written_out: Mapping[str, Any],
    ) -> None:
        self.backend, self.names = backend, names
        self.arrays: dict[int, ast.expr] = {}
        self.spent: set[int] = set()
        self.functions = Outside(names, lambda function: derivative_name(*function))
        self.maps: dict[str, Callable[..., Any]] = {}
        self.lengths = Outside(names, str)
        self.written_out = written_out
        self._like = like or backend.tree(backend.any_array)
        self._unknown = unknown

    def word(self, template: str, **places: Any) -> Any:
        """A word of the backend, its places filled."""
        return self.backend.tree(template, like=self._like, **places)

    def read(self, value: Value, axes: Sequence[Index | None]) -> ast.expr:
        """An array, its axes arranged as asked; for None a new one of length one."""
        array, places = self.arrays[value.id], layout(value, axes)
        order = [axis for axis in places if axis is not None]
        if order != sorted(order):
            permuted = "array.T" if len(order) == 2 else self.backend.permuted
            array = self.word(permuted, array=array, order=map(literal, order))
        if None in places:
            items = ", ".join("None" if axis is None else ":" for axis in places)
            array = tree(f"array[{items}]", array=array)
        return array

    def einsum(self, spelling: str, *values: Value) -> ast.expr:
        """One sum of products over any axes."""
        arrays = [self.arrays[value.id] for value in values]
        return self.word(self.backend.einsum, subscripts=literal(spelling), arrays=arrays)

    def constant(self, value: ast.expr) -> ast.expr:
        """A number, or nested lists of numbers, as an array."""
        return self.word(self.backend.constant, value=value)

    def zeros(self, axes: tuple[Index, ...]) -> ast.expr:
        """An array of zeros."""
        shape = self.shape(index.size for index in axes)
        return self.word(self.backend.zeros, shape=shape)

    def knows(self, function: str, order: int = 0) -> bool:
        """Whether a record says how a function is computed."""
        return not order and function not in self._unknown and self.backend.function(function) != ""

    def known(self, function: str, argument: ast.expr) -> ast.expr:
        """A function of the records."""
        return self.word(self.backend.function(function), z=argument)

    # ---------------------------------------------------------------- numbers

    def length(self, size: Size) -> ast.expr:
        """A size."""
        if isinstance(size, int):
            return literal(size)
        factors = (self._shifted(letter, by) for letter, by in parts(size))
        return reduce(lambda a, b: tree("a * b", a=a, b=b), factors)

    def _shifted(self, letter: str, by: int) -> ast.expr:
        if not letter or not by:
            return tree("n", n=self.lengths[letter]) if letter else literal(by)
        added = "n + by" if by > 0 else "n - by"
        return tree(added, n=self.lengths[letter], by=literal(abs(by)))

    def shape(self, sizes: Iterable[Size]) -> ast.expr:
        """A tuple of sizes."""
        return ast.Tuple([self.length(size) for size in sizes], ast.Load())

    def unit(self, size: Size) -> ast.expr:
        """The unit matrix."""
        return self.word(self.backend.unit_of_size, n=self.length(size))

    def number(self, scale: Scale) -> ast.expr:
        """A rational number times powers of sizes."""
        number, is_one = literal(scale.number), scale.number == 1
        for size, power in scale.sizes:
            raised = self.raised(self.length(size), abs(power))
            if power < 0:
                number = tree("a / b", a=number, b=raised)
            else:
                # No 1 stands before a size.
                number = raised if is_one else tree("a * b", a=number, b=raised)
            is_one = False
        return number

    def raised(self, base: ast.expr, power: Fraction) -> ast.expr:
        """A positive power."""
        return base if power == 1 else tree("base ** power", base=base, power=literal(power))

    # ---------------------------------------------------------------- sums

    def scaled(self, part: Part, axes: Sequence[Index | None]) -> ast.expr:
        """One part with its number."""
        if part.value is None:
            return self.number(part.scale)
        array = self.read(part.value, axes)
        if part.scale.is_one:
            return array
        if (-part.scale).is_one:
            return tree("-array", array=array)
        return tree("a * b", a=self.number(part.scale), b=array)

    def total(self, parts: tuple[Part, ...], axes: tuple[Index, ...]) -> ast.expr:
        """The sum of parts."""
        total = self.scaled(parts[0], axes)
        for part in parts[1:]:
            if part.scale.number < 0:
                opposite = Part(-part.scale, part.value)
                total = tree("a - b", a=total, b=self.scaled(opposite, axes))
            else:
                total = tree("a + b", a=total, b=self.scaled(part, axes))
        return total

    def fresh_total(self, parts: tuple[Part, ...], axes: tuple[Index, ...]) -> ast.expr:
        """The sum of parts as an array that nothing else holds."""
        total, value = self.total(parts, axes), parts[0].value
        # One array as it is: the caller's, a view, or what another statement needs as well.
        is_shared = (
            len(parts) == 1 and parts[0].scale.is_one and value and value.id not in self.spent
        )
        return self.word(self.backend.copied, array=total) if is_shared else total

    def onto_diagonals(self, array: str, part: Part, axes: tuple[Index, ...]) -> ast.stmt:
        """The statement that adds a part where its indices are equal."""
        first_of = {index: first for first, index in part.equal}
        repeated = tuple(first_of.get(index, index) for index in axes)
        pairs, left = diagonals(repeated)
        view: Any = array
        for pair in pairs:
            first, second = map(literal, pair)
            view = self.word(self.backend.diagonal, array=view, first=first, second=second)
        statement = self.word(
            self.backend.onto_diagonal,
            array=array,
            subscripts=literal(subscripts(repeated, out=left)),
            diagonal=view,
            spread=self._spread(array, part, axes),
            value=self.scaled(part, left),
        )
        return ast.Expr(statement) if isinstance(statement, ast.expr) else statement

    def _spread(self, array: str, part: Part, axes: tuple[Index, ...]) -> ast.expr:
        """A part on its diagonals, and zero elsewhere."""
        gone = {index for _, index in part.equal}
        spread = self.scaled(part, tuple(None if index in gone else index for index in axes))
        for pair in part.equal:
            unit = self.word(self.backend.unit, array=array, axis=literal(axes.index(pair[0])))
            new = [":" if index in pair else "None" for index in axes]
            if "None" in new:
                unit = tree(f"unit[{', '.join(new)}]", unit=unit)
            spread = tree("a * b", a=unit, b=spread)
        return spread


def derivative_name(function: str, order: int) -> str:
    """What code calls a derivative: f, df, d2f."""
    return f"{('', 'd', f'd{order}')[min(order, 2)]}{function}"


# ---------------------------------------- one for each kind of node


@singledispatch
def right_hand_side(node: Node, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    """The tree of a node whose result has these axes."""
    raise NotImplementedError(f"no code for {type(node).__name__}")


@right_hand_side.register
def _(node: Argument, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    return writer.constant(literal(writer.written_out[node.name]))


@right_hand_side.register
def _(node: Applied, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    argument = writer.arrays[node.argument.id]
    if writer.knows(node.function, node.order):
        return writer.known(node.function, argument)
    return tree("f(z)", f=writer.functions[node.function, node.order], z=argument)


@right_hand_side.register
def _(node: NamedMap, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    arrays = [writer.arrays[value.id] for value in node.arguments]
    identifier = writer.names.new(node.operation)
    writer.maps[identifier] = node.function
    return tree("f(*arrays)", f=identifier, arrays=arrays)


@right_hand_side.register
def _(node: Raised, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    base, power = writer.read(node.base, axes), node.exponent
    if isinstance(power, Value):
        return tree("base ** power", base=base, power=writer.read(power, axes))
    if abs(power) == Fraction(1, 2):
        # Roots are computed faster than powers.
        raised = writer.known("sqrt", base)
    else:
        raised = writer.raised(base, abs(power))
    return tree("1 / raised", raised=raised) if power < 0 else raised


@right_hand_side.register
def _(node: Product, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    factors = (writer.read(value, axes) for value in node.factors)
    return reduce(lambda product, factor: tree("a * b", a=product, b=factor), factors)


@right_hand_side.register
def _(node: Contraction, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    match lowered(node, axes):
        case Matmul(left, right, drop):
            # The axis that made a matrix of a vector is taken out again.
            template = {None: "a @ b", -1: "(a @ b)[..., 0]", -2: "(a @ b)[..., 0, :]"}[drop]
            return tree(template, a=writer.read(node.left, left), b=writer.read(node.right, right))
        case Tensordot(left, right):
            return writer.word(
                writer.backend.tensordot,
                left=writer.arrays[node.left.id],
                right=writer.arrays[node.right.id],
                axes=literal((left, right)),
            )
        case spelling:
            return writer.einsum(spelling, node.left, node.right)


@right_hand_side.register
def _(node: Selection, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    inner = node.operand.axes
    if len(set(inner)) < len(inner) or axes != tuple(i for i in inner if i in axes):
        return writer.einsum(subscripts(inner, out=axes), node.operand)
    # Whole axes are summed over without an einsum.
    gone = tuple(k for k, index in enumerate(inner) if index not in axes)
    over = literal(gone[0] if len(gone) == 1 else gone)
    array = writer.arrays[node.operand.id]
    return tree("array.sum(over)" if axes else "array.sum()", array=array, over=over)


@right_hand_side.register
def _(node: Combination, axes: tuple[Index, ...], writer: CodeWriter) -> ast.expr:
    if any(part.value for part in node.parts):
        return writer.fresh_total(node.parts, axes)
    # Numbers alone are Python's: an array is made of them.
    return writer.constant(writer.total(node.parts, axes))
