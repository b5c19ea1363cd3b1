"""Equality of terms up to the names of bound indices and the order of factors."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import permutations
from typing import Any
from zlib import crc32

from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Term,
    indices,
    rebuilt,
    rename_factor,
)

Names = frozenset[str]


def canonical(term: Term, symmetric: Names = frozenset()) -> object:
    """A key that two terms share if and only if they are equal up to their coefficients, the names
    of bound indices and the order of factors (for more than six bound indices alike in all they
    touch: only if).

    Args:
        term: any.
        symmetric: the names of arrays whose two indices may change places.
    """
    factors = tuple(_free_key(factor, symmetric) for factor in term.factors)
    parts = _apart(Term(term.coefficient, factors, term.bound))
    return tuple(sorted(_least(part, symmetric) for part in parts))


def ordered(entry: Entry, symmetric: Names, key: Callable[[Index], Any]) -> Entry:
    """An entry with its two indices in order, where they may change places."""
    if entry.name not in symmetric or len(entry.indices) != 2:
        return entry
    return Entry(entry.name, tuple(sorted(entry.indices, key=key)))


def _written(factor: Factor, names: Mapping[Index, Index], symmetric: Names) -> str:
    """A factor with other names for its indices, as text."""
    renamed = rename_factor(factor, names)
    if not symmetric:
        return _text(renamed)

    def turned(part: Any) -> Any:
        if isinstance(part, Entry):
            return ordered(part, symmetric, lambda index: index.name)
        # Moved by one entry of A alone, A⁻¹ is not symmetric.
        return part if isinstance(part, Partial) else rebuilt(part, turned)

    return repr(turned(renamed))


def _text(factor: Factor) -> str:
    """A factor as text, which it keeps: the same ones stand in many terms."""
    kept: str | None = vars(factor).get("_text")
    if kept is None:
        vars(factor)["_text"] = kept = repr(factor)
    return kept


def _apart(term: Term) -> list[Term]:
    """A product as factors that share no bound index: (Σ_i x_i)(Σ_j x_j), in which i and j need not
    be tried in either order."""
    # By number, in the order in which they were put together; and the part of each index.
    parts = {number: Term(Fraction(1), (), (index,)) for number, index in enumerate(term.bound)}
    part_of = {index: number for number, index in enumerate(term.bound)}
    for number, factor in enumerate(term.factors, len(parts)):
        numbers = sorted({part_of[index] for index in indices(factor) if index in part_of})
        met = [parts.pop(each) for each in numbers]
        factors = (f for part in met for f in part.factors)
        bound = tuple(index for part in met for index in part.bound)
        parts[number] = Term(Fraction(1), (*factors, factor), bound)
        part_of.update(dict.fromkeys(bound, number))
    return list(parts.values())


def _least(term: Term, symmetric: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The least way to write the factors of a term, and the sizes of what it sums over."""
    # Bound indices that cannot be told apart are tried in every order.
    keys = []
    for order in _orders(_classes(term, symmetric)):
        names = {index: Index(f"#{position}", index.size) for position, index in enumerate(order)}
        keys.append(sorted(_written(factor, names, symmetric) for factor in term.factors))
    return tuple(min(keys)), tuple(sorted(str(index.size) for index in term.bound))


def _free_key(factor: Factor, symmetric: Names) -> Factor:
    """A factor in a form that does not depend on the names of bound indices inside it."""
    match factor:
        case Group(body):
            free = {index.name for index in indices(body)}
            terms = sorted((_alpha(part, free, symmetric) for part in body.terms), key=repr)
            return Group(Expression(tuple(terms)))
    # An exponent keeps its names: it is compared as it is written.
    return rebuilt(
        factor,
        lambda part: part if isinstance(part, Expression) else _free_key(part, symmetric),
    )


def _alpha(term: Term, free: set[str], symmetric: Names) -> Term:
    """The term with its bound indices renamed by their place in the canonical order."""
    best: Term | None = None
    for order in _orders(_classes(term, symmetric)):
        names = {index: Index(f"%{position}", index.size) for position, index in enumerate(order)}
        factors = tuple(
            sorted(
                (rename_factor(_free_key(factor, symmetric), names) for factor in term.factors),
                key=repr,
            )
        )
        candidate = Term(term.coefficient, factors, tuple(names[index] for index in order))
        if best is None or repr(candidate) < repr(best):
            best = candidate
    assert best is not None
    return best


def _classes(term: Term, symmetric: Names) -> list[list[Index]]:
    """The bound indices in groups that cannot be told apart by what they touch."""
    if len(term.bound) <= 1:
        return [[index] for index in term.bound]
    colour: dict[Index, object] = {index: str(index.size) for index in term.bound}
    for _ in range(3):
        signature: dict[Index, Counter[object]] = {index: Counter() for index in term.bound}
        for factor in term.factors:
            inside = indices(factor)
            names = {
                index: Index(f"~{colour.get(index, index.name)}", index.size) for index in inside
            }
            for index in inside:
                if index in signature:
                    # This index is marked, so that its own place in the factor counts.
                    marked = {**names, index: Index("@", index.size)}
                    key = _written(_free_key(factor, symmetric), marked, symmetric)
                    signature[index][key] += 1
        colour = {
            # A number of fixed length: the text itself would grow with every round.
            index: crc32(
                repr((str(index.size), sorted(signature[index].items(), key=repr))).encode()
            )
            for index in term.bound
        }
    groups: dict[object, list[Index]] = {}
    for index in term.bound:
        groups.setdefault(colour[index], []).append(index)
    return [groups[key] for key in sorted(groups, key=lambda key: (len(groups[key]), str(key)))]


def _orders(classes: list[list[Index]]) -> Iterable[tuple[Index, ...]]:
    if not classes:
        return ((),)
    # Seven alike would be 5040 orders.
    if sum(len(group) > 1 for group in classes) == 0 or sum(map(len, classes)) > 6:
        return (tuple(index for group in classes for index in group),)
    orders: list[tuple[Index, ...]] = [()]
    for group in classes:
        orders = [(*start, *rest) for start in orders for rest in permutations(group)]
    return orders
