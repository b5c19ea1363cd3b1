"""The statements so far, none of them twice: what has been computed once has a number."""

from collections.abc import Mapping
from math import prod

from hesse.derivation.calculus.expression import Index, Size
from hesse.derivation.calculus.sizes import number
from hesse.derivation.code.statements import (
    Combination,
    Contraction,
    Node,
    Part,
    Product,
    Statement,
    Value,
    operands,
)

# What a symbolic size is taken to be where none is given: only the order of the products hangs on
# it.
TYPICAL_SIZE = 32


class Statements:
    """Statements by their numbers.

    Args:
        sizes: numbers for symbolic sizes.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.all: list[Statement] = []
        self._sizes = sizes
        self._numbers: dict[object, int] = {}
        # The axes of each, as the first, the second, ... index of its key.
        self._labels: dict[int, tuple[int, ...]] = {}

    def add(self, node: Node, axes: tuple[Index, ...], name: str | None = None) -> Value:
        """The value of a node; that of the statement that made it already, if there is one.

        Two nodes are the same computation where a renaming of their indices makes them equal.
        """
        labels: dict[Index, int] = {}

        # An index counts by where it first stands, not by its name.
        def labelled(part: object) -> object:
            match part:
                case Value(number, indices):
                    return number, labelled(indices)
                case Part(scale, value, equal):
                    return scale, labelled(value), labelled(equal)
                case Index():
                    return labels.setdefault(part, len(labels))
                case tuple():
                    return tuple([labelled(item) for item in part])
            return part

        # A product is the same in either order.
        made_of = (
            tuple(sorted(operands(node), key=lambda value: value.id))
            if isinstance(node, Product | Contraction)
            else tuple(vars(node).values())
        )
        computation = labelled(made_of)
        outer = tuple([labels.setdefault(index, len(labels)) for index in axes])
        # Nor does the order of the result's axes count: who reads the value arranges them.
        key = (type(node), computation, frozenset(outer))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self.append(node, axes, name)
            self._labels[number] = outer
        indices = tuple(labels)
        return Value(number, tuple([indices[label] for label in self._labels[number]]))

    def append(self, node: Node, axes: tuple[Index, ...], name: str | None = None) -> int:
        """A statement that is new whatever the others are; its number."""
        self.all.append(Statement(len(self.all), axes, node, name))
        return len(self.all) - 1

    def times(self, part: Part) -> Value:
        """A number times an array, as an array."""
        if part.value is not None and part.scale.is_one:
            return part.value
        return self.add(Combination((part,)), part.value.axes if part.value is not None else ())

    def size(self, size: Size) -> int:
        """A size as a number."""
        return number(size, lambda letter: self._sizes.get(letter, TYPICAL_SIZE))

    def count(self, axes: tuple[Index, ...]) -> int:
        """The entries of an array."""
        return prod(self.size(index.size) for index in axes)
