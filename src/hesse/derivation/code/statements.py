"""What a computation is made of: statements, each of which makes one array of those before it."""

from collections.abc import Callable, Iterator
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

    def __neg__(self) -> "Scale":
        return Scale(-self.number, self.sizes)

    @property
    def is_one(self) -> bool:
        """Whether nothing changes by multiplying with it."""
        return self.number == 1 and not self.sizes


@dataclass(frozen=True)
class Argument:
    """A leaf of the program: an array that is given, or a constant."""

    name: str


@dataclass(frozen=True)
class Applied:
    """A function at every entry, or of the last axes, such as softmax; an order above zero only for
    a function that is unknown."""

    function: str
    order: int
    argument: Value


@dataclass(frozen=True)
class NamedMap:
    """A map that has no formula, of whole arrays: the operation that makes a quantity."""

    name: str
    operation: str
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

    @property
    def is_zero(self) -> bool:
        """Whether nothing is left of it."""
        return self.scale.number == 0


@dataclass(frozen=True)
class Combination:
    """A sum of parts, each repeated along the axes that it does not have."""

    parts: tuple[Part, ...]


Node = Argument | Applied | NamedMap | Raised | Product | Contraction | Selection | Combination


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
        nodes = (statement.node for statement in self.statements)
        return tuple(node.name for node in nodes if isinstance(node, Argument))


def operands(node: Node) -> tuple[Value, ...]:
    """The arrays that a node is made from."""
    return tuple(_values(tuple(vars(node).values())))


def _values(field: object) -> Iterator[Value]:
    match field:
        case Value():
            yield field
        case Part():
            yield from _values(field.value)
        case tuple():
            for item in field:
                yield from _values(item)


def is_fresh(node: Node, unknown: frozenset[str]) -> bool:
    """Whether a node makes an array that nothing else holds: no view; and a function from outside
    may return its argument."""
    if isinstance(node, Applied):
        return node.function not in unknown
    return not isinstance(node, Argument | Selection | NamedMap)


def covers(parts: tuple[Part, ...], axes: tuple[Index, ...]) -> bool:
    """Whether a sum of parts has all the axes."""
    return bool(parts) and {
        index for part in parts if part.value for index in part.value.axes
    } == set(axes)
