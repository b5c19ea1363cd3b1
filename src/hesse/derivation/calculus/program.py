"""A cost as a list of named quantities, each defined by the leaves and the quantities before it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Factor,
    Index,
    Node,
    Partial,
    Size,
    Term,
    children,
    freshened,
    own_indices,
    walk,
)
from hesse.derivation.calculus.structures import Pattern, Structure

Role = Literal["parameter", "data", "constant", "direction"]


@dataclass(frozen=True)
class Leaf:
    """A name that is given: a parameter, data, a constant with its value, or a direction, which is
    like a parameter and nothing is derived by.

    Attributes:
        sizes: one per axis; none for a scalar.
        role: what it is to the cost.
        value: of a constant, an array-like; None otherwise.
        sums_to: the number that the entries along the last axis are known to add to (1 for one-hot
            targets), or None.
        per_sample: whether each sample has its own.
        otherwise: the sizes that it would have as well, where nobody declared those it has, and it
            was read as a number or as a vector by how it is called and where it stands.
        structure: what it is declared to be, such as symmetric.
        shown: how an entry of a constant that stands for a condition on its indices is written,
            such as ``[s = 2u + k]``.
        pattern: of a constant whose sizes others have, how it is made.
    """

    name: str
    sizes: tuple[Size, ...] = ()
    role: Role = "data"
    value: Any = field(default=None, compare=False)
    sums_to: int | None = None
    per_sample: bool = False
    shown: str | None = None
    otherwise: tuple[Size, ...] | None = None
    structure: Structure | None = None
    pattern: Pattern | None = None

    @property
    def is_given(self) -> bool:
        """Whether an array is asked for: it is no constant."""
        return self.value is None and self.pattern is None

    def constant(self, letters: Callable[[str], int]) -> Any:
        """The value of a constant, for numbers of the sizes that are letters."""
        return self.value if self.pattern is None else self.pattern.value(letters)


@dataclass(frozen=True)
class ArrayCall:
    """A function of a whole array, such as softmax or the inverse: a record of `hesse.operations`
    at one entry.

    ``argument`` has the indices that the operation sees: softmax(z) over the last of them.
    """

    operation: str
    argument: Entry


@dataclass(frozen=True)
class BlackBox:
    """A named map that has no formula: its derivatives are symbols, and automatic differentiation
    gives their values.

    Attributes:
        operation: what it is called, such as ``max_pool2d``.
        arguments: the leaves and quantities that go in, whole.
        function: from their arrays to the quantity's.
        order: how often ``function`` is already a derivative of the operation.
        curved: whether the operation has a second derivative that is not zero wherever it exists.
    """

    operation: str
    arguments: tuple[str, ...]
    function: Callable[..., Any] = field(compare=False)
    order: int = 0
    curved: bool = True


Definition = Expression | ArrayCall | BlackBox


@dataclass(frozen=True)
class Quantity:
    """A named intermediate value: ``z3_p = Σ_j W2[p,j] a2_j``.

    Attributes:
        name: unique in its program. May contain letters that are not ASCII, such as ``δ3``.
        indices: of the left-hand side.
        definition: an expression in those indices, a function of a whole array, or a map without a
            formula.
        role: "preactivation" (z), "activation" (a), "delta" (δ), "curvature" (S), "transport" (D),
            "cost", or "value"; "root" and "quotient", which are differentiated in their own
            value, and "slope", the derivative of a quotient (g).
        note: half a sentence on what it is.
    """

    name: str
    indices: tuple[Index, ...]
    definition: Expression | ArrayCall | BlackBox
    role: str = "value"
    note: str = ""

    def __post_init__(self) -> None:
        # Who puts indices in the place of those on the left, or has them for axes, must not meet
        # the same letters in a sum.
        if isinstance(self.definition, Expression):
            apart = freshened(self.definition, {index.name for index in self.indices})
            object.__setattr__(self, "definition", apart)

    @property
    def entry(self) -> Entry:
        """The left-hand side."""
        return Entry(self.name, self.indices)

    @cached_property
    def mentions(self) -> frozenset[str]:
        """The leaves and quantities in its definition."""
        return names_in(self.definition)


@dataclass(frozen=True)
class Program:
    """The leaves, and the quantities in an order in which they can be computed. The last is the
    cost.

    Attributes:
        leaves: by name.
        quantities: each defined by leaves and by quantities before it.
        unknown: names of elementwise functions of which nothing is known, such as ``f``.
        samples: where the program is that of one sample, how the cost of many is made of theirs;
            None where it is not.
    """

    leaves: Mapping[str, Leaf]
    quantities: tuple[Quantity, ...]
    unknown: frozenset[str] = frozenset()
    samples: Literal["sum", "mean"] | None = None

    @cached_property
    def by_name(self) -> dict[str, Quantity]:
        """The quantities by name."""
        return {quantity.name: quantity for quantity in self.quantities}

    @cached_property
    def forms(self) -> dict[Any, Any]:
        """The matrix forms of its formulas that were looked for: `derivation.show.matrices` keeps
        them here, for all pages, formats and readings of one derivation."""
        return {}

    @property
    def cost(self) -> Quantity:
        """The last quantity."""
        return self.quantities[-1]

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        ancestors: dict[str, frozenset[str]] = {}
        for quantity in self.quantities:
            # Quantities stand in the order in which they are computed, so those of what they are
            # made of are known.
            ancestors[quantity.name] = _all_below(quantity, ancestors)
        return ancestors

    @cached_property
    def depth(self) -> int:
        """How many quantities are made one from the other."""
        depths: dict[str, int] = {}
        for quantity in self.quantities:
            below = (depths[name] for name in quantity.mentions if name in depths)
            depths[quantity.name] = 1 + max(below, default=0)
        return max(depths.values())

    @property
    def names(self) -> set[str]:
        """What leaves and quantities are called."""
        return {*self.leaves, *self.by_name}

    @property
    def letters(self) -> set[str]:
        """What the indices of quantities and of their definitions are called."""
        nodes = (node for quantity in self.quantities for node in nodes_of(quantity.definition))
        written = (index.name for node in nodes for index in own_indices(node))
        return {i.name for q in self.quantities for i in q.indices}.union(written)

    def ancestors(self, name: str) -> frozenset[str]:
        """What a quantity depends on, itself left out."""
        return self._ancestors.get(name, frozenset())

    def depends(self, value: "Factor | Term | Expression", on: str) -> bool:
        """Whether a value depends on a leaf or quantity, or is an entry of it."""
        return any(name == on or on in self.ancestors(name) for name in names_in(value))

    def with_quantity(self, quantity: Quantity) -> "Program":
        """The program with one more quantity (a δ, an S or a D), before the cost."""
        extended = replace(self, quantities=(*self.quantities[:-1], quantity, self.quantities[-1]))
        # Nothing before it changes: a program that grows by n names would be walked n times.
        ancestors = {**self._ancestors, quantity.name: _all_below(quantity, self._ancestors)}
        vars(extended)["_ancestors"] = ancestors
        return extended

    def shape(self, name: str) -> tuple[Size, ...]:
        """The sizes of a leaf or quantity."""
        if name in self.leaves:
            return self.leaves[name].sizes
        return tuple(index.size for index in self.by_name[name].indices)


def _all_below(quantity: Quantity, ancestors: Mapping[str, frozenset[str]]) -> frozenset[str]:
    below = (ancestors.get(name, frozenset()) for name in quantity.mentions)
    return quantity.mentions.union(*below)


def nodes_of(definition: Definition) -> Iterator[Node]:
    """All that stands in a definition; of a map without a formula that is nothing."""
    match definition:
        case ArrayCall(_, argument):
            yield argument
        case Expression():
            yield from walk(definition)


def names_in(value: "Factor | Term | Expression | ArrayCall | BlackBox") -> frozenset[str]:
    """The leaves and quantities that a value mentions."""
    return frozenset(mentioned(value))


def mentioned(value: "Node | ArrayCall | BlackBox") -> tuple[str, ...]:
    """The same, in the order in which they are read."""
    match value:
        case Entry(name, _) | ArrayCall(_, Entry(name, _)):
            return (name,)
        case BlackBox():
            return tuple(dict.fromkeys(value.arguments))
    # Every line asks, and the same parts stand in many.
    kept: tuple[str, ...] | None = vars(value).get("_mentioned")
    if kept is None:
        # What a derivative is taken by is not part of its value.
        parts = (value.of,) if isinstance(value, Partial) else children(value)
        kept = tuple(dict.fromkeys(name for part in parts for name in mentioned(part)))
        vars(value)["_mentioned"] = kept
    return kept
