"""What a computation is made of: statements, each of which makes one array of those before it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.expression import Index


@dataclass(frozen=True)
class Value:
    """An array by the number of its statement, and the index that runs along each of its axes."""

    id: int
    axes: tuple[Index, ...]


@dataclass(frozen=True)
class Scale:
    """A rational number times powers of symbolic sizes: the 2/n of a mean."""

    number: Fraction = Fraction(1)
    sizes: tuple[tuple[str, Fraction], ...] = ()

    def __mul__(self, other: "Scale") -> "Scale":
        powers = dict(self.sizes)
        for size, power in other.sizes:
            powers[size] = powers.get(size, Fraction(0)) + power
        return Scale(
            self.number * other.number,
            tuple((size, power) for size, power in sorted(powers.items()) if power),
        )

    @property
    def is_one(self) -> bool:
        """Whether nothing changes by multiplying with it."""
        return self.number == 1 and not self.sizes


@dataclass(frozen=True)
class Argument:
    """A leaf of the program: an array that is given, or a constant."""

    name: str


@dataclass(frozen=True)
class Elementwise:
    """A function at every entry; an order above zero only for a function that is unknown."""

    function: str
    order: int
    argument: Value


@dataclass(frozen=True)
class WholeArray:
    """A function of the last axes, such as softmax."""

    operation: str
    argument: Value


@dataclass(frozen=True)
class NamedMap:
    """A map that has no formula, of whole arrays."""

    name: str
    function: Callable[..., Any] = field(compare=False)
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Raised:
    """Every entry to a power: a number, or the entries of another array."""

    base: Value
    exponent: Fraction | Value


@dataclass(frozen=True)
class Product:
    """Entry times entry; axes that a factor does not have are repeated."""

    factors: tuple[Value, ...]


@dataclass(frozen=True)
class Contraction:
    """Two arrays multiplied, and summed over the indices that the result does not have."""

    left: Value
    right: Value


@dataclass(frozen=True)
class Selection:
    """Of one array: the diagonal where an index stands twice, and the sum over the indices that the
    result does not have."""

    operand: Value


@dataclass(frozen=True)
class Part:
    """A number times an array, standing only where each pair of indices is equal. Without an array,
    the number alone."""

    scale: Scale
    value: Value | None
    equal: tuple[tuple[Index, Index], ...] = ()


@dataclass(frozen=True)
class Combination:
    """A sum of parts, each repeated along the axes that it does not have."""

    parts: tuple[Part, ...]


Node = (
    Argument
    | Elementwise
    | WholeArray
    | NamedMap
    | Raised
    | Product
    | Contraction
    | Selection
    | Combination
)


@dataclass(frozen=True)
class Statement:
    """``name = node``: an array, its axes in the order of ``axes``."""

    id: int
    axes: tuple[Index, ...]
    node: Node
    name: str | None = None  # in the words of the derivation, where it has one there


@dataclass(frozen=True)
class Schedule:
    """Statements in an order in which they can be computed; the last one is the result, its axes
    the free indices."""

    statements: tuple[Statement, ...]
    free: tuple[Index, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The leaves that are used."""
        return tuple(
            statement.node.name
            for statement in self.statements
            if isinstance(statement.node, Argument)
        )


def operands(node: Node) -> tuple[Value, ...]:
    """The arrays that a node is made from."""
    match node:
        case Argument():
            return ()
        case Elementwise(_, _, argument) | WholeArray(_, argument):
            return (argument,)
        case NamedMap(_, _, arguments):
            return arguments
        case Raised(base, exponent):
            return (base, exponent) if isinstance(exponent, Value) else (base,)
        case Product(factors):
            return factors
        case Contraction(left, right):
            return (left, right)
        case Selection(operand):
            return (operand,)
        case Combination(parts):
            return tuple(part.value for part in parts if part.value is not None)


def is_fresh(node: Node, unknown: frozenset[str]) -> bool:
    """Whether a node makes an array that nothing else holds: no view; and a function from outside
    may return its argument."""
    if isinstance(node, Elementwise):
        return node.function not in unknown
    return not isinstance(node, Argument | Selection | NamedMap)


# ---------------------------------------------------------------- where axes lie

Layout = tuple[int | None, ...]


def layout(value: Value, axes: tuple[Index, ...]) -> Layout:
    """For each of ``axes`` the axis of the array that it is, None for a new one; leading new ones
    are left to broadcasting."""
    found = [value.axes.index(index) if index in value.axes else None for index in axes]
    while found and found[0] is None:
        del found[0]
    return tuple(found)


def letters(*groups: tuple[Index, ...]) -> dict[Index, str]:
    """A letter for each index, its own where that is a single one."""
    every = tuple(dict.fromkeys(index for group in groups for index in group))
    chosen = {
        index: index.name
        for index in every
        if len(index.name) == 1 and index.name.isascii() and index.name.isalpha()
    }
    left = iter(
        letter
        for letter in "ijklmnpqrstuvwxyzabcdefghoABCDEFGHIJKLMNOPQRSTUVWXYZ"
        if letter not in chosen.values()
    )
    return {index: chosen.get(index) or next(left) for index in every}


@dataclass(frozen=True)
class Matmul:
    """A matrix product of two arrangements, over leading axes; ``drop`` is an axis of length one to
    take out afterwards."""

    left: Layout
    right: Layout
    drop: int | None = None


@dataclass(frozen=True)
class Tensordot:
    """A sum over several axes at once: as one matrix product."""

    left: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class Einsum:
    """What is none of these."""

    subscripts: str


def lowered(node: Contraction, out: tuple[Index, ...]) -> Matmul | Tensordot | Einsum:
    """The operation that carries out a contraction, through a matrix product wherever there is
    one."""
    left, right = node.left.axes, node.right.axes
    shared = tuple(index for index in left if index in right)
    summed, batch = tuple(i for i in shared if i not in out), tuple(i for i in out if i in shared)
    rows, columns = (
        tuple(i for i in left if i not in shared),
        tuple(i for i in right if i not in shared),
    )
    if (
        len(summed) == 1
        and len(rows) <= 1
        and len(columns) <= 1
        and out == (*batch, *rows, *columns)
    ):
        if not batch:
            return Matmul(
                layout(node.left, (*rows, *summed)), layout(node.right, (*summed, *columns))
            )
        if rows or columns:
            first, second = (
                layout(node.left, (*batch, *rows, *summed)),
                layout(node.right, (*batch, *summed, *columns)),
            )
            if not rows:
                first = (*first[:-1], None, first[-1])
            if not columns:
                second = (*second, None)
            return Matmul(first, second, None if rows and columns else (-1 if rows else -2))
    if not batch and out == (*rows, *columns):
        return Tensordot(
            tuple(left.index(i) for i in summed), tuple(right.index(i) for i in summed)
        )
    names = letters(left, right, out)
    return Einsum(f"{spelled(left, names)},{spelled(right, names)}->{spelled(out, names)}")


def spelled(axes: tuple[Index, ...], names: dict[Index, str]) -> str:
    """Indices as the subscripts of an einsum."""
    return "".join(names[index] for index in axes)


def diagonals(repeated: tuple[Index, ...]) -> tuple[tuple[tuple[int, int], ...], tuple[Index, ...]]:
    """The pairs of axes whose diagonal is taken one after the other, each of which goes last, and
    the indices of what is left."""
    at, pairs = list(repeated), []
    while len(set(at)) < len(at):
        index = next(index for index in at if at.count(index) > 1)
        first = at.index(index)
        second = at.index(index, first + 1)
        pairs.append((first, second))
        at = [other for k, other in enumerate(at) if k not in (first, second)] + [index]
    return tuple(pairs), tuple(at)
