"""Hessians that are semidefinite by their form: Gram matrices with weights, and covariances."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from hesse.derivation.calculus.algebra import product
from hesse.derivation.calculus.expression import (
    Delta,
    Entry,
    Expression,
    Factor,
    Index,
    Term,
    indices,
    rename_factor,
    rename_term,
)
from hesse.derivation.calculus.normal_form import collect, contract, same
from hesse.derivation.calculus.program import ArrayCall, Program
from hesse.derivation.calculus.structures import DEFINITE
from hesse.derivation.code.ranges import Ranges
from hesse.operations.registry import ARRAY_FUNCTIONS

_MOST_PAIRS = 3  # of summed indices that change places


@dataclass(frozen=True)
class Gram:
    """A part that is positive semidefinite.

    Attributes:
        term: the part; of a covariance its first term.
        reason: what it is.
        weights: what must not be negative, and is not; None where it is a number.
    """

    term: Term
    reason: str
    weights: Expression | None = None


def grams(
    expression: Expression, rows: Entry, columns: Entry, program: Program
) -> tuple[Gram, ...] | None:
    """The parts that show that ∂²J/∂rows ∂columns is positive semidefinite; None where they do not.

    Args:
        expression: the block.
        rows, columns: the same parameter, with indices that differ.
        program: for the ranges of what stands in it.
    """
    search = _Search(rows.indices, columns.indices, program)
    terms, found = list(collect(expression).terms), []
    # What is subtracted first: each covariance takes a term that is added with it.
    for negative in [term for term in terms if term.coefficient < 0]:
        second = search.moment(negative)
        match = next((t for t in terms if second is not None and _alike(t, second)), None)
        gram = search.gram(match) if match is not None else None
        if match is None or gram is None:
            continue
        terms.remove(negative)
        terms.remove(match)
        found.append(
            replace(gram, reason="less the product of its means is a covariance with weights")
        )
    for term in terms:
        gram = search.gram(term)
        if gram is None:
            return None
        found.append(gram)
    return tuple(found)


def _alike(left: Term, right: Term) -> bool:
    return same(Expression((replace(left, kind=None),)), Expression((replace(right, kind=None),)))


class _Search:
    """How the rows and columns of one block change places.

    Args:
        rows, columns: the indices of the block.
        program: for the ranges of what stands in it.
    """

    def __init__(
        self, rows: tuple[Index, ...], columns: tuple[Index, ...], program: Program
    ) -> None:
        self.pairs, self.program = tuple(zip(rows, columns, strict=True)), program
        self.ranges = Ranges(program)
        self.definite = {n for n, leaf in program.leaves.items() if leaf.structure is DEFINITE}
        for quantity in program.quantities:
            match quantity.definition:
                case ArrayCall("inv", Entry(name)) if name in self.definite:
                    self.definite.add(quantity.name)

    def gram(self, term: Term) -> Gram | None:
        """A term as Σ w g gᵀ with weights that are not negative."""
        for _, weights in self._splits(term):
            shown = product(weights) if weights else None
            reason = "is a Gram matrix" + " with weights" * bool(weights)
            return Gram(term, reason, shown)
        return None

    def _is_square(self, term: Term, a: Index, b: Index) -> bool:
        """Whether a term is −w g gᵀ where the sums of the two g are those over a and b."""
        opposite = replace(term, coefficient=-term.coefficient)
        return any(swap.get(a) == b for swap, _ in self._splits(opposite))

    def _splits(self, term: Term) -> Iterator[tuple[dict[Index, Index], tuple[Factor, ...]]]:
        """The ways in which a term is Σ w g gᵀ with weights that are not negative: what changes
        places, and the weights."""
        diagonal = self._diagonal(term)
        for swap in self._swaps(diagonal):
            weights = self._weights(diagonal, swap)
            if weights is not None and self.ranges.of(Term(term.coefficient, weights))[0] >= 0:
                yield swap, weights

    def moment(self, term: Term) -> Term | None:
        """The second moment Σ w p g gᵀ that goes with a product of two means of a distribution, −(Σ
        p g)(Σ p g)ᵀ; None where a term is no such product."""
        for a, b, p, q in self._twins(term):
            # (Σ_a p g)(Σ_b p g)ᵀ: nothing else may hold a or b.
            if not self._is_square(term, a, b):
                continue
            left = [factor for factor in term.factors if factor is not p and factor is not q]
            free = {index for pair in self.pairs for index in pair}
            if a in free or b in free:
                if (a, b) not in self.pairs:
                    continue
                moved = (p, *left, Delta(a, b))
                return Term(-term.coefficient, moved, term.bound)
            met = rename_term(Term(-term.coefficient, (p, *left)), {b: a})
            return contract(replace(met, bound=tuple(i for i in term.bound if i != b)))
        return None

    def _twins(self, term: Term) -> Iterator[tuple[Index, Index, Factor, Factor]]:
        """Two entries of a distribution that differ in their last index alone."""
        entries = [f for f in term.factors if isinstance(f, Entry) and self._is_distribution(f)]
        for p, q in combinations(entries, 2):
            first, last = (p, q)
            if p.name == q.name and p.indices[:-1] == q.indices[:-1]:
                a, b = first.indices[-1], last.indices[-1]
                if (b, a) in self.pairs:
                    a, b, first, last = b, a, q, p
                yield a, b, first, last

    def _is_distribution(self, entry: Entry) -> bool:
        quantity = self.program.by_name.get(entry.name)
        if quantity is None or not isinstance(quantity.definition, ArrayCall):
            return False
        return ARRAY_FUNCTIONS[quantity.definition.operation].distribution

    def _diagonal(self, term: Term) -> Term:
        """Under [i = k] every other factor takes the index of the rows, which is then like one that
        is summed over."""
        to = {
            column: row
            for row, column in self.pairs
            if any(
                isinstance(f, Delta) and {f.left, f.right} == {row, column} for f in term.factors
            )
        }
        factors = tuple(f if isinstance(f, Delta) else rename_factor(f, to) for f in term.factors)
        return replace(term, factors=factors)

    def _swaps(self, term: Term) -> Iterator[dict[Index, Index]]:
        """Each way for rows and columns, and some pairs of what is summed over, to change
        places."""
        held = {i for f in term.factors if not isinstance(f, Delta) for i in indices(f)}
        ends = [(a, b) for a, b in self.pairs if b in held or a not in held]
        first = {i: j for a, b in ends for i, j in ((a, b), (b, a))}
        for pairs in _matchings(term.bound, _MOST_PAIRS):
            yield first | {i: j for a, b in pairs for i, j in ((a, b), (b, a))}

    def _weights(self, term: Term, swap: dict[Index, Index]) -> tuple[Factor, ...] | None:
        """The factors that stay where they are; None where the term does not, or a factor holds
        both sides."""
        left = [f for f in term.factors if not isinstance(f, Delta)]
        weights: list[Factor] = []
        while left:
            factor = left.pop()
            moved = rename_factor(factor, swap)
            if self._is_definite(factor, moved):
                continue
            if moved == factor:
                if any(index in swap for index in indices(factor)):
                    return None
                weights.append(factor)
                continue
            # Of g(i) g(k), each holds one side alone.
            if moved not in left or set(indices(factor)) & set(indices(moved)) & set(swap):
                return None
            left.remove(moved)
        return tuple(reversed(weights))

    def _is_definite(self, factor: Factor, moved: Factor) -> bool:
        """Whether a factor is A[i,k] of a matrix that is positive definite: the product of entries
        of positive semidefinite matrices is one too (Schur, 1911)."""
        return (
            isinstance(factor, Entry)
            and factor.name in self.definite
            and moved == Entry(factor.name, factor.indices[::-1])
            and moved != factor
        )


def _matchings(bound: tuple[Index, ...], most: int) -> Iterator[tuple[tuple[Index, Index], ...]]:
    yield ()
    if most == 0:
        return
    for a, b in combinations(bound, 2):
        if a.size == b.size:
            rest = tuple(i for i in bound if i not in (a, b) and i > a)
            for more in _matchings(rest, most - 1):
                yield ((a, b), *more)
