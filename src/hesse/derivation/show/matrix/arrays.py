"""A single factor as a scalar, a vector or a matrix, and two indices that always go together as
one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

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
    Term,
    indices,
    of,
    own_indices,
    rebuilt,
    walk,
)
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.program import ArrayCall, Program
from hesse.derivation.show.matrix.compose import diagonal, entry_power
from hesse.derivation.show.matrix.nodes import (
    Array,
    Dimension,
    Elementwise,
    Identity,
    Inverse,
    Matrix,
    Shown,
    Sizes,
    Symbol,
)

Form = Callable[[Expression, tuple[Index, ...], tuple[Index, ...], frozenset[str]], Matrix | None]

Pairs = dict[tuple[Index, Index], Index]


@dataclass(frozen=True)
class Arrays:
    """Reads single factors.

    Attributes:
        program: the leaves and quantities.
        form: reads the expression inside a function, a power or parentheses.
        sizes: of the indices that stand for two.
    """

    program: Program
    form: Form
    sizes: dict[str, Sizes] = field(default_factory=dict)

    def read(
        self, factor: Factor, fixed: frozenset[str]
    ) -> tuple[tuple[Index, ...], Matrix] | None:
        """The indices of a factor, those that an enclosing sum fixes left out, and the factor as an
        array over them.

        None where there are more than two indices, or what stands there has no name.
        """
        free = tuple(index for index in indices(factor) if index.name not in fixed)
        if len(free) > 2:
            return None
        rows, columns = free[:1], free[1:]
        match factor:
            case Entry():
                return self._symbol((factor,), fixed)
            case Partial(Entry() as inner, by):
                return self._symbol((inner, *by), fixed)
            case Delta(left, _):
                # [i = n] with n fixed is a unit vector, for which there is no sign.
                return (free, Identity(self.sizes_of(left))) if len(free) == 2 else None
            case Count(size):
                return (), Dimension(size)
            case Apply(function, order, argument):
                inner = self.form(of(argument), rows, columns, fixed)
                return None if inner is None else (free, Elementwise(function, order, inner))
            case Power(base, exponent):
                inner = self.form(of(base), rows, columns, fixed)
                number = exponent.number
                power = number if number is not None else self._exponent(exponent, free, fixed)
                return None if inner is None or power is None else (free, entry_power(inner, power))
            case Group(body):
                inner = self.form(body, rows, columns, fixed)
                return None if inner is None else (free, inner)
            case _:
                return None

    def _exponent(
        self, exponent: Expression, base: tuple[Index, ...], fixed: frozenset[str]
    ) -> Matrix | None:
        # One exponent for all entries is a scalar; else it is as large as the base.
        single = all(index.name in fixed for index in indices(exponent))
        over = () if single else base
        return self.form(exponent, over[:1], over[1:], fixed)

    def sizes_of(self, index: Index) -> Sizes:
        """What an index counts: one size, or those of the pair it stands for."""
        return self.sizes.get(index.name, (index.size,))

    def _symbol(
        self, parts: tuple[Entry, ...], fixed: frozenset[str]
    ) -> tuple[tuple[Index, ...], Matrix] | None:
        """An array at its indices: a matrix, one row of it at a fixed index, its diagonal where an
        index stands twice.

        ``parts`` is one entry, or for a derivative not carried out first what is differentiated,
        then by what.
        """
        name = parts[0].name
        axes = tuple(index for part in parts for index in part.indices)
        free = [index for index in axes if index.name not in fixed]
        leaf = self.program.leaves.get(name)
        if len(free) > 2 or (leaf is not None and leaf.shown is not None):
            return None  # a condition on indices is no matrix that has a name
        inverted = self._inverted(parts, free)
        if inverted is not None:
            parts = (replace(parts[0], name=inverted),)
        # An index that stands for a pair takes two axes of the array.
        places: list[tuple[int, str]] = []
        axis = 0
        for index in axes:
            if index.name in fixed:
                places.append((axis, index.name))
            axis += len(self.sizes_of(index))
        # A single index may count two sizes, where it stands for a pair.
        rows, columns = (
            map(self.sizes_of, free) if len(free) == 2 else (sum(map(self.sizes_of, free), ()), ())
        )
        array = Array(parts[0].name, tuple(part.name for part in parts[1:]))
        shown = tuple(self._shown(part, fixed) for part in parts) if places else ()
        symmetric = not array.by and array.name in facts(self.program).symmetric and not places
        node: Matrix = Symbol(array, rows, columns, tuple(places), shown, symmetric)
        if inverted is not None:
            node = Inverse(node)
        # A[i,i]: the diagonal, over one index.
        if len(free) == 2 and free[0] == free[1]:
            return (free[0],), diagonal(node)
        return tuple(free), node

    def _inverted(self, parts: tuple[Entry, ...], free: list[Index]) -> str | None:
        """The matrix whose inverse an entry is of: its last two indices are those of the matrix, in
        the same order."""
        entry, by = parts[0], parts[1:]
        quantity = self.program.by_name.get(entry.name)
        if quantity is None or by or list(entry.indices[-2:]) != free or len(free) != 2:
            return None
        match quantity.definition:
            case ArrayCall("inv", Entry(name, places)) if places == quantity.indices:
                return name if len(places) == len(entry.indices) else None
        return None

    def _shown(self, entry: Entry, fixed: frozenset[str]) -> Shown:
        """Row n of X is written x_n where no other x is about, column n X[:,n], slice n of an array
        S S_n."""
        name, places = (
            entry.name,
            [index.name if index.name in fixed else ":" for index in entry.indices],
        )
        if set(places) <= {":"}:
            return name, ()
        first, rest = places[0], places[1:]
        if first != ":" and set(rest) == {":"}:
            # x_n for row n of X, unless x is something else or X has no small letter.
            lower = name[:1].lower() + name[1:]
            if len(rest) > 1 or lower == name:
                return name, (first,)
            if lower not in self.program.leaves and lower not in self.program.by_name:
                return lower, (first,)
        return name, tuple(places)


# ---------------------------------------------------------------- two indices as one


def paired(
    term: Term, groups: tuple[tuple[Index, ...], ...], sizes: dict[str, Sizes]
) -> tuple[Term, Pairs]:
    """The term with pairs of indices that always stand side by side, in the same order, each as one
    index.

    Args:
        term: with arrays of more than two indices.
        groups: pairs of free indices that may be one: both of a parameter's.
        sizes: to be filled with the sizes of each pair.
    """
    pairs: Pairs = {}
    nodes = [node for factor in term.factors for node in walk(factor)]
    entries = [node.indices for node in nodes if isinstance(node, Entry)]
    candidates = [*(group for group in groups if len(group) == 2)]
    for entry in entries:
        candidates += [pair for pair in pairwise(entry) if set(pair) <= set(term.bound)]
    # An index can be in one pair only, and in none where it stands alone somewhere.
    taken = _loose(term)
    for left, right in candidates:
        if taken & {left, right} or left == right:
            continue
        holders = [entry for entry in entries if left in entry or right in entry]
        if not holders or not all(_beside(entry, left, right) for entry in holders):
            continue
        pair = Index(f"({left.name}:{left.size},{right.name}:{right.size})", left.size)
        sizes[pair.name] = (left.size, right.size)
        pairs[left, right] = pair
        taken |= {left, right}
    gone = {index for pair in pairs for index in pair}
    bound = [index for index in term.bound if index not in gone]
    bound += [pair for (left, _), pair in pairs.items() if left in term.bound]
    return replace(_together(term, pairs), bound=tuple(bound)), pairs


def _beside(entry: tuple[Index, ...], left: Index, right: Index) -> bool:
    return (
        entry.count(left) == entry.count(right) == 1 and entry.index(right) == entry.index(left) + 1
    )


def _loose(term: Term) -> set[Index]:
    """The indices that stand alone somewhere: in a Kronecker delta, or summed over inside
    parentheses."""
    inside = (node for factor in term.factors for node in walk(factor))
    return {index for node in inside if not isinstance(node, Entry) for index in own_indices(node)}


def _together(value: Any, pairs: Pairs) -> Any:
    """A value with each pair of indices as one."""
    if not isinstance(value, Entry):
        return rebuilt(value, lambda part: _together(part, pairs))
    indices = list(value.indices)
    for (left, _), pair in pairs.items():
        if left in indices:
            place = indices.index(left)
            indices[place : place + 2] = [pair]
    return Entry(value.name, tuple(indices))
