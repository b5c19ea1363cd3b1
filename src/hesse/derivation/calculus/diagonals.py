"""What is zero off a diagonal, as an array without that axis: S3_p for [p = q] S3_p."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hesse.derivation.calculus.algebra import product
from hesse.derivation.calculus.expression import Delta, Entry, Expression, Index, Term, rename
from hesse.derivation.calculus.normal_form import collect


@dataclass(frozen=True)
class Diagonal:
    """An expression in two lists of indices, taken on every diagonal off which it is zero.

    Attributes:
        expression: without the deltas, each second index of a diagonal replaced by its first.
        indices: what is left: all the first ones, then the second ones that are on no diagonal.
        dropped: for each second index that is gone, the first it equals.
    """

    expression: Expression
    indices: tuple[Index, ...]
    dropped: Mapping[Index, Index]

    def named(self, entry: Entry) -> Expression:
        """The expression again, with a name for the array: [p = q] S3_p."""
        deltas = tuple(Delta(first, second) for second, first in self.dropped.items())
        return product((*deltas, entry))


def on_diagonals(
    expression: Expression, first: tuple[Index, ...], second: tuple[Index, ...]
) -> Diagonal:
    """The diagonals that all terms have in common, between the indices at the same places of the
    two lists."""
    # Without an index each there is no diagonal between the two lists.
    pairs = dict(zip(second, first, strict=True)) if len(first) == len(second) else {}
    dropped = {b: a for b, a in pairs.items() if all(_has(term, a, b) for term in expression.terms)}
    bare = []
    for term in expression.terms:
        # A delta may have its two indices in either order.
        gone = {frozenset(pair) for pair in dropped.items()}
        factors = tuple(
            f
            for f in term.factors
            if not (isinstance(f, Delta) and frozenset((f.left, f.right)) in gone)
        )
        bare.append(replace(term, factors=factors, kind=None))
    result = rename(Expression(tuple(bare)), dropped)
    return Diagonal(
        collect(result) if dropped else result,
        (*first, *(b for b in second if b not in dropped)),
        dropped,
    )


def _has(term: Term, a: Index, b: Index) -> bool:
    return any(isinstance(f, Delta) and {f.left, f.right} == {a, b} for f in term.factors)
