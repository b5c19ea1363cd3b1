"""What all terms of a sum have in common, in front of it."""

from fractions import Fraction

import pytest
import torch

from hesse.derivation.calculus.expression import (
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Index,
    Power,
    Term,
    constant,
)
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.show.factoring import factored
from hesse.derivation.show.text_writer import text

ROW, COLUMN, N, M = Index("i", "d"), Index("j", "d"), Index("n", "N"), Index("m", "N")
X_NI, X_NJ, X_MI, X_MJ = (Entry("X", at) for at in ((N, ROW), (N, COLUMN), (M, ROW), (M, COLUMN)))
A_I, A_J, B_I, C = Entry("a", (ROW,)), Entry("a", (COLUMN,)), Entry("b", (ROW,)), Entry("c")
U_N, V_M = Entry("u", (N,)), Entry("v", (M,))
PROGRAM = Program(
    {
        name: Leaf(name, sizes)
        for name, sizes in {
            "X": ("N", "d"),
            "a": ("d",),
            "b": ("d",),
            "c": (),
            "u": ("N",),
            "v": ("N",),
        }.items()
    },
    (),
    frozenset({"f"}),
)


def term(*factors: Factor, number: int = 1, over: tuple[Index, ...] = ()) -> Term:
    return Term(Fraction(number), factors, over)


CASES = {
    "nothing in common": ((term(A_I), term(B_I)), "1", "a_i + b_i"),
    "one term is left alone": ((term(A_I, A_J),), "1", "a_i a_j"),
    "a factor": ((term(C, A_I), term(C, A_J)), "c", "a_i + a_j"),
    "the lower power": (
        (term(Power(C, constant(3)), A_I), term(Power(C, constant(2)), A_J)),
        "c²",
        "c a_i + a_j",
    ),
    "a denominator": (
        (term(Power(C, constant(-1)), A_I), term(Power(C, constant(-1)), A_J)),
        "1/c",
        "a_i + a_j",
    ),
    "a number": ((term(A_I, number=-2), term(A_J, number=2)), "2", "−a_i + a_j"),
    "a common sign": ((term(A_I, number=-1), term(A_J, number=-3)), "−1", "a_i + 3 a_j"),
    "names that a delta makes equal": (
        (term(Apply("f", 1, A_I), B_I), term(Apply("f", 1, A_J), C, Delta(ROW, COLUMN))),
        "f'(a_i)",
        "b_i + c [i = j]",
    ),
    "a sum over the samples, whatever its index is called": (
        (term(X_NI, X_NJ, U_N, over=(N,)), term(X_MI, X_MJ, V_M, over=(M,))),
        "Σ_n X[n,i] X[n,j]",
        "u_n + v_n",
    ),
    "a sum that only one factor shares stays inside": (
        (term(C, X_NI, U_N, over=(N,)), term(C, X_MI, V_M, over=(M,))),
        "c",
        "Σ_n X[n,i] u_n + Σ_n X[n,i] v_n",
    ),
}


@pytest.mark.parametrize(("terms", "outer", "inner"), CASES.values(), ids=CASES)
def test_what_is_pulled_out(terms, outer, inner):
    pulled = factored(Expression(terms))
    assert (text(Expression((pulled.outer,)), PROGRAM), text(pulled.inner, PROGRAM)) == (
        outer,
        inner,
    )


@pytest.mark.parametrize("terms", [case[0] for case in CASES.values()], ids=CASES)
def test_the_product_is_the_sum(terms):
    generator = torch.Generator().manual_seed(0)
    sizes = {"N": 4, "d": 3}
    arrays = {
        name: torch.rand(
            [sizes[str(size)] for size in leaf.sizes], generator=generator, dtype=torch.float64
        )
        + 0.5
        for name, leaf in PROGRAM.leaves.items()
    }
    at = Valuation(PROGRAM, arrays)
    pulled = factored(Expression(terms))
    outer = pulled.outer
    again = Expression(
        tuple(
            Term(
                outer.coefficient * part.coefficient,
                (*outer.factors, *part.factors),
                (*outer.bound, *part.bound),
            )
            for part in pulled.inner.terms
        )
    )
    torch.testing.assert_close(
        at.array(again, (ROW, COLUMN)),
        at.array(Expression(terms), (ROW, COLUMN)),
        rtol=1e-13,
        atol=0,
    )


def test_each_term_keeps_its_kind(derivation):
    (block,) = derivation
    assert [term.kind for term in factored(block.expression).inner.terms] == [
        "curvature from above",
        "product-rule term",
    ]
