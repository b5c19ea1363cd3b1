"""Products of sums, and sums around them."""

from fractions import Fraction

from hesse.derivation.calculus.algebra import multiply, replaced
from hesse.derivation.calculus.expression import Entry, Expression, Index, Term, of
from hesse.derivation.calculus.program import Quantity

i, j, k = (Index(name, "n") for name in "ijk")


def summed(entry: Entry, *bound: Index) -> Expression:
    return Expression((Term(Fraction(1), (entry,), bound),))


def test_a_sum_within_is_not_over_the_index_of_one_around_it() -> None:
    """Σ_{i,k} c_i A_k, where c_i is Σ_i x_i, whatever i: the sum around counts, n times. Its letter
    is in neither factor then."""
    moved = summed(Entry("x", (i,)), i)
    term = Term(Fraction(1), (Entry("c", (i,)), Entry("A", (k,))), (i, k))
    (found,) = replaced(
        Expression((term,)), lambda f: moved if isinstance(f, Entry) and f.name == "c" else of(f)
    ).terms
    assert len(found.bound) == len(set(found.bound)) == 3


def test_a_name_that_is_picked_is_not_that_of_a_sum_around() -> None:
    """Σ_i x_i · A_i: the bound one is renamed, and not to j."""
    (found,) = multiply(summed(Entry("x", (i,)), i), of(Entry("A", (i,))), frozenset("j")).terms
    (bound,) = found.bound
    assert bound not in (i, j)
    assert Entry("A", (i,)) in found.factors


def test_a_definition_has_no_sum_over_an_index_of_its_left_side() -> None:
    """g_i = Σ_i x_i is g_i = Σ_j x_j: whoever has axes for its indices must not take x for g."""
    definition = Quantity("g", (i,), summed(Entry("x", (i,)), i)).definition
    assert isinstance(definition, Expression)
    (term,) = definition.terms
    assert i not in term.bound
    assert term.factors == (Entry("x", term.bound),)
