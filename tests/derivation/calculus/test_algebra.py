"""Products of sums, and sums around them."""

from fractions import Fraction

from hesse.derivation.calculus.algebra import multiply, replaced
from hesse.derivation.calculus.expression import Entry, Expression, Index, Term, of

I, J, K = (Index(name, "n") for name in "ijk")


def summed(entry: Entry, *bound: Index) -> Expression:
    return Expression((Term(Fraction(1), (entry,), bound),))


def test_a_sum_within_is_not_over_the_index_of_one_around_it() -> None:
    """Σ_{i,k} c_i A_k, where c_i is Σ_i x_i, whatever i: the sum around counts, n times. Its letter
    is in neither factor then."""
    moved = summed(Entry("x", (I,)), I)
    term = Term(Fraction(1), (Entry("c", (I,)), Entry("A", (K,))), (I, K))
    (found,) = replaced(
        Expression((term,)), lambda f: moved if isinstance(f, Entry) and f.name == "c" else of(f)
    ).terms
    assert len(found.bound) == len({index.name for index in found.bound}) == 3


def test_a_name_that_is_picked_is_not_that_of_a_sum_around() -> None:
    """Σ_i x_i · A_i: the bound one is renamed, and not to j."""
    (found,) = multiply(summed(Entry("x", (I,)), I), of(Entry("A", (I,))), frozenset("j")).terms
    (bound,) = found.bound
    assert bound not in (I, J)
    assert Entry("A", (I,)) in found.factors
