"""Sums that are known: over a Kronecker delta, over what adds to a number, over rows of an
orthogonal matrix."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from hesse.derivation.calculus.expression import (
    Delta,
    Entry,
    Factor,
    Index,
    Power,
    Term,
    constant,
    freshen,
    indices,
    rename_factor,
)

TWO = constant(2)


@dataclass(frozen=True)
class Facts:
    """What is known of arrays, by their names.

    Attributes:
        sums: what their entries along the last axis add to: 1 for softmax values and one-hot
            targets, 0 for what is less its mean.
        symmetric: A[i,j] = A[j,i].
        isometries: the axes of which Σ_k A[k,i] A[k,j] = [i = j], with k along one of them and i
            and j along the others.
    """

    sums: Mapping[str, int] = field(default_factory=dict)
    symmetric: frozenset[str] = frozenset()
    isometries: Mapping[str, frozenset[int]] = field(default_factory=dict)


NOTHING = Facts()


def isometries_summed(
    factors: Iterable[Factor], bound: Iterable[Index], isometries: Mapping[str, frozenset[int]]
) -> tuple[list[Factor], list[Index]]:
    """The factors and sums with [i = j] for Σ_k Q[k,i] Q[k,j], where the first axis is one of which
    that is known of Q."""
    factors, bound = list(factors), list(bound)
    for index in list(bound) if isometries else ():
        holders = [factor for factor in factors if index in indices(factor)]
        match holders:
            case [Entry(name, first), Entry(other, second)] if name == other in isometries:
                pass
            case [Power(Entry(name, first), exponent)] if name in isometries and exponent == TWO:
                second = first
            case _:
                continue
        axis = first.index(index)
        if axis not in isometries[name] or second[axis] != index:
            continue
        kept = [(a, b) for at, (a, b) in enumerate(zip(first, second, strict=True)) if at != axis]
        if any(index in pair for pair in kept):
            continue
        at = factors.index(holders[0])
        factors = [factor for factor in factors if factor not in holders]
        factors[at:at] = [Delta(*pair) for pair in kept]
        bound.remove(index)
    return factors, bound


def deltas_contracted(
    factors: Iterable[Factor], bound: Iterable[Index]
) -> tuple[list[Factor], list[Index]]:
    """The factors and sums of a term without the deltas that are 1 or are summed over."""
    factors, bound = list(factors), list(bound)
    changed = True
    while changed:
        changed = False
        for position, delta in enumerate(factors):
            if not isinstance(delta, Delta):
                continue
            # Each delta that goes changes the factors under the loop, so it starts again after
            # each.
            if delta.left == delta.right:
                del factors[position]
            elif delta.right in bound or delta.left in bound:
                gone, stays = (
                    (delta.right, delta.left) if delta.right in bound else (delta.left, delta.right)
                )
                del factors[position]
                bound.remove(gone)
                rest = Term(Fraction(1), tuple(factors), tuple(bound))
                # A free index that takes the place of a bound one must not be caught by another
                # sum of the term.
                renamed = freshen(rest, {stays.name}) if stays not in bound else rest
                bound = list(renamed.bound)
                factors = [rename_factor(factor, {gone: stays}) for factor in renamed.factors]
            else:
                continue
            changed = True
            break
    # Two equal deltas are one: [i = j]² = [i = j].
    single = [
        factor
        for k, factor in enumerate(factors)
        if not (isinstance(factor, Delta) and factor in factors[:k])
    ]
    return single, bound


def numbers_summed(
    factors: list[Factor], bound: list[Index], sums: Mapping[str, int]
) -> tuple[int, list[Factor], list[Index]]:
    """The same without the whole arrays of entries that add to a number, and that number."""
    number, factors, bound = 1, list(factors), list(bound)
    for index in list(bound) if sums else ():
        holders = [factor for factor in factors if index in indices(factor)]
        if len(holders) == 1 and isinstance(holders[0], Entry) and holders[0].name in sums:
            entry = holders[0]
            if entry.indices[-1] == index and entry.indices.count(index) == 1:
                number *= sums[entry.name]
                factors.remove(entry)
                bound.remove(index)
    return number, factors, bound
