"""Hessians that are semidefinite by their form: Gram matrices with weights, and covariances."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from hesse.derivation.calculus.algebra import add, product, scale, total
from hesse.derivation.calculus.expression import (
    Delta,
    Entry,
    Expression,
    Factor,
    Index,
    Power,
    Term,
    constant,
    indices,
    of,
    rename_factor,
    rename_term,
)
from hesse.derivation.calculus.normal_form import collect, contract, same, simplify
from hesse.derivation.calculus.own_value import under_root
from hesse.derivation.calculus.program import ArrayCall, Program
from hesse.derivation.calculus.structures import DEFINITE
from hesse.derivation.code.ranges import Ranges
from hesse.operations.registry import ARRAY_FUNCTIONS

_MOST_PAIRS = 3  # of summed indices that change places
_COVARIANCE = "less the product of its means is a covariance with weights"
_PROJECTED = "less no more than its part along one vector is a Gram matrix with weights"


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
        moment = search.moment(negative)
        match = next((t for t in terms if moment is not None and _alike(t, moment[0])), None)
        gram = search.gram(match) if match is not None else None
        if moment is None or match is None or gram is None:
            continue
        terms.remove(negative)
        terms.remove(match)
        found.append(replace(gram, reason=moment[1]))
    for term in terms:
        gram = search.gram(term)
        if gram is None:
            return None
        found.append(gram)
    return tuple(found)


def _alike(left: Term, right: Term) -> bool:
    return same(Expression((replace(left, kind=None),)), Expression((replace(right, kind=None),)))


@dataclass(frozen=True)
class _Twins:
    """Two factors of a product of two sums, alike but for their indices.

    Attributes:
        pairs: an index of the one, and the one of the other in its place.
        left: what is left where both meet.
        reason: what the product makes of what it is subtracted from.
    """

    pairs: tuple[tuple[Index, Index], ...]
    left: tuple[Factor, ...]
    reason: str


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

    def moment(self, term: Term) -> tuple[Term, str] | None:
        """What makes a product of two sums that is subtracted semidefinite, and what both are then;
        None where a term is no such product.

        Of −(Σ p g)(Σ p g)ᵀ, two means of a distribution, it is the second moment Σ p g gᵀ; of −(Σ r
        g)(Σ r g)ᵀ/n³ with the norm n of r it is Σ g gᵀ/n (Cauchy and Schwarz).
        """
        free = {index for pair in self.pairs for index in pair}
        for twins in (*self._of_distributions(term), *self._of_norms(term)):
            # (Σ_a p g)(Σ_b p g)ᵀ: nothing else may hold a or b.
            if not all(self._is_square(term, a, b) for a, b in twins.pairs):
                continue
            ends = [pair for pair in twins.pairs if not free.isdisjoint(pair)]
            if any(pair not in self.pairs for pair in ends):
                continue
            to = {b: a for a, b in twins.pairs if (a, b) not in ends}
            deltas = tuple(Delta(a, b) for a, b in ends)
            met = rename_term(Term(-term.coefficient, (*twins.left, *deltas)), to)
            bound = tuple(index for index in term.bound if index not in to)
            return contract(replace(met, bound=bound)), twins.reason
        return None

    def _of_distributions(self, term: Term) -> Iterator["_Twins"]:
        """Two entries of a distribution that differ in their last index alone."""
        entries = [f for f in term.factors if isinstance(f, Entry) and self._is_distribution(f)]
        for p, q in combinations(entries, 2):
            if p.name == q.name and p.indices[:-1] == q.indices[:-1]:
                pair = self._in_order(p.indices[-1], q.indices[-1])
                kept = p if pair[0] == p.indices[-1] else q
                left = (f for f in term.factors if f is not p and f is not q)
                yield _Twins((pair,), (kept, *left), _COVARIANCE)

    def _of_norms(self, term: Term) -> Iterator["_Twins"]:
        """Two entries of what a norm beside them is of, or of what it is no smaller than."""
        norms = [f for f in term.factors if isinstance(f, Power) and isinstance(f.base, Entry)]
        for p, q in combinations(term.factors, 2):
            first, second = indices(p), indices(q)
            to = dict(zip(first, second, strict=False))
            if not first or set(first) & set(second) or rename_factor(p, to) != q:
                continue
            square = total(of(Power(p, constant(2))), first)
            for norm in norms:
                if self._is_at_least(norm.base, square):
                    squared = Power(norm.base, constant(2))
                    left = (f for f in term.factors if f is not p and f is not q)
                    pairs = tuple(self._in_order(a, b) for a, b in to.items())
                    yield _Twins(pairs, (*left, squared), _PROJECTED)

    def _is_at_least(self, norm: Factor, square: Expression) -> bool:
        """Whether a norm is a root of no less than a square."""
        assert isinstance(norm, Entry)
        quantity = self.program.by_name.get(norm.name)
        if quantity is None or not isinstance(quantity.definition, Expression):
            return False
        under = under_root(quantity.definition)
        if under is None:
            return False
        more = simplify(add(of(under), scale(square, -1)))
        return self.ranges.of(more)[0] >= 0

    def _in_order(self, a: Index, b: Index) -> tuple[Index, Index]:
        """Two indices, that of the rows first."""
        return (b, a) if (b, a) in self.pairs else (a, b)

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
