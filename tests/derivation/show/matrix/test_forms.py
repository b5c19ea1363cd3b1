"""The form that a person would write, to the letter, and its value against the same expression
summed over its indices."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from derivation.show.matrix.building import (
    apply,
    at,
    delta,
    entry,
    group,
    power,
    program_of,
    term,
    total,
    valuation_of,
)
from hesse.derivation.calculus.expression import Apply, Count, Entry, Expression, Group, Partial
from hesse.derivation.calculus.program import ArrayCall, Leaf, Program, Quantity, names_in
from hesse.derivation.show.latex_writer import matrix_latex
from hesse.derivation.show.matrix import evaluate, matrix_form
from hesse.derivation.show.matrix.compose import product, transpose
from hesse.derivation.show.matrix.nodes import Commutation, Identity, Sum, shape
from hesse.derivation.show.matrix.remarks import remarks
from hesse.derivation.show.text_writer import matrix_text

HALF = Fraction(1, 2)


def named(name: str) -> Callable[..., Entry]:
    """Entries of one array."""
    return lambda letters="": entry(name, letters)


A, B, V, X, S, W2, x, a2, S3, δ3, p = map(
    named, ("A", "B", "V", "X", "S", "W2", "x", "a2", "S3", "δ3", "p")
)
inv = named("inv(Q)")
one_less = group(term(), term(p("n"), number=-1))
misfit = group(term(entry("y", "n")), term(X("ni"), entry("w", "i"), number=-1, over="i"))
residual = group(term(entry("T", "po")), term(entry("U", "pi"), V("oi"), number=-1, over="i"))


def twice(letters: str) -> Group:
    return group(term(A(letters)), term(A(letters[::-1])))


def f1(letter: str) -> Apply:
    return apply("f", 1, entry("z2", letter))


def f2(letter: str) -> Apply:
    return apply("f", 2, entry("z2", letter))


def dz3(by: str, letters: str) -> Partial:
    return Partial(entry("z3", "p"), (entry(by, letters),))


# The two-layer network of one sample: z2 = W1 x, a2 = f(z2), z3 = W2 a2.
above = group(
    term(f1("o"), W2("po"), S3("p"), W2("pq"), f1("q"), over="p"),
    term(delta("oq"), f2("o"), W2("po"), δ3("p"), over="p"),
)
mixed = group(term(S3("p"), W2("po"), a2("j")), term(δ3("p"), delta("jo")))
batched = group(term(S("np"), W2("po"), entry("a", "nj")), term(entry("δ", "np"), delta("jo")))

# name: (expression, rows, columns, text)
FORMS: dict[str, tuple[Expression, str, str, str]] = {
    # issue 3, point 4
    "quadratic form": (total(term(A("oj")), term(A("jo"))), "o", "j", "A + Aᵀ"),
    "least squares": (total(term(X("ni"), X("nk"), over="n")), "i", "k", "XᵀX"),
    "logistic regression": (
        total(term(X("ni"), p("n"), one_less, X("nk"), over="n")), "i", "k",
        "Xᵀ diag(p ∘ (1 − p)) X",
    ),
    "cross entropy in the logits": (
        total(term(p("o"), delta("oj")), term(p("o"), p("j"), number=-1)), "o", "j",
        "diag(p) − p pᵀ",
    ),
    "the negative term first": (total(term(p("o"), p("j"), number=-1), term(p("o"), delta("oj"))),
    "o", "j", "diag(p) − p pᵀ"), "logsumexp, as it comes": (
        total(term(p("o"), group(term(delta("oj")), term(p("j"), number=-1)))), "o", "j",
        "diag(p) − p pᵀ",
    ),
    # The issue writes 2 VᵀV ⊗ I, for a vec that stacks columns; here U is counted row by row.
    "matrix factorisation": (total(term(delta("pr"), V("io"), V("ij"), number=2, over="i")), "po",
    "rj", "2 I ⊗ VᵀV"), "det": (
        total(term(entry("D"), inv("ba"), inv("ce")), term(entry("D"), inv("ca"), inv("be"),
        number=-1)), "ab", "ec", "D (vec(Q⁻ᵀ) vec(Q⁻ᵀ)ᵀ − (Q⁻ᵀ ⊗ Q⁻¹) K)",
    ),
    "logdet": (total(term(inv("ca"), inv("be"), number=-1)), "ab", "ec", "−(Q⁻ᵀ ⊗ Q⁻¹) K"),
    "linear network, first layer": (
        total(term(W2("po"), W2("pq"), x("i"), x("k"), over="p")), "oi", "qk", "W2ᵀW2 ⊗ x xᵀ",
    ),
    "linear network, mixed": (
        total(term(W2("po"), x("i"), a2("j")), term(delta("oj"), entry("r", "p"), x("i"),
        number=-1)), "oi", "pj", "W2ᵀ ⊗ x a2ᵀ − (I ⊗ x rᵀ) K",
    ),
    "linear network, second layer": (
        total(term(delta("pr"), entry("W1", "ji"), x("i"), entry("W1", "qk"), x("k"), over="ik")),
        "pj", "rq", "I ⊗ W1 x xᵀ W1ᵀ",
    ),
    "output block of squared error": (total(term(delta("pr"), A("nj"), A("nq"), over="n")), "pj",
    "rq", "I ⊗ AᵀA"), "output block, samples with an axis more": (
        total(term(delta("pr"), B("nij"), entry("C", "niq"), over="ni")), "pj", "rq", "I ⊗ Bᵀ C",
    ),
    "output block, weighed samples": (
        total(term(delta("pr"), entry("c", "n"), B("nij"), entry("D", "nik"), B("nkq"),
        over="nik")), "pj", "rq", "I ⊗ Σ_n c_n B_nᵀ D_n B_n",
    ),
    # the example
    "mixed block": (
        total(term(x("i"), f1("o"), mixed)), "oi", "pj",
        "diag(f'(z2)) W2ᵀ diag(S3) ⊗ x a2ᵀ + (diag(f'(z2)) ⊗ x δ3ᵀ) K",
    ),
    "mixed block transposed": (
        total(term(x("i"), f1("o"), mixed)), "pj", "oi",
        "diag(S3) W2 diag(f'(z2)) ⊗ a2 xᵀ + (δ3 xᵀ ⊗ diag(f'(z2))) K",
    ),
    "first block": (
        total(term(x("i"), x("k"), above)), "oi", "qk",
        "(diag(f'(z2)) W2ᵀ diag(S3) W2 diag(f'(z2)) + diag(f''(z2) ∘ W2ᵀ δ3)) ⊗ x xᵀ",
    ),
    "first block, no parentheses": (
        total(
            term(x("i"), x("k"), f1("o"), W2("po"), S3("p"), W2("pq"), f1("q"), over="p"),
            term(x("i"), x("k"), delta("oq"), f2("o"), W2("po"), δ3("p"), over="p"),
        ),
        "oi", "qk", "(diag(f'(z2)) W2ᵀ diag(S3) W2 diag(f'(z2)) + diag(f''(z2) ∘ W2ᵀ δ3)) ⊗ x xᵀ",
    ),
    "curvature": (above.body, "o", "q",
    "diag(f'(z2)) W2ᵀ diag(S3) W2 diag(f'(z2)) + diag(f''(z2) ∘ W2ᵀ δ3)"),
    "last block": (total(term(delta("pr"), S3("p"), a2("j"), a2("q"))), "pj", "rq",
    "diag(S3) ⊗ a2 a2ᵀ"), "slope": (total(term(f1("o"), W2("po"), δ3("p"), x("i"), over="p")), "o",
    "i", "(f'(z2) ∘ W2ᵀ δ3) xᵀ"), "slope as one column": (total(term(f1("o"), W2("po"), δ3("p"),
    x("i"), over="p")), "oi", "", "(f'(z2) ∘ W2ᵀ δ3) ⊗ x"), "signal": (
        total(term(f1("o"), W2("po"), group(term(entry("y", "p")), term(entry("ŷ", "p"),
        number=-1)), over="p")), "o", "", "f'(z2) ∘ W2ᵀ (y − ŷ)",
    ),
    "dense layer with a bias": (
        total(term(X("ni"), entry("W", "oi"), over="i"), term(entry("b", "o"))), "n", "o",
        "X Wᵀ + 1 bᵀ",
    ),
    # sums over samples
    "Gauss-Newton": (total(term(S("npr"), A("nj"), A("nq"), over="n")), "pj", "rq",
    "Σ_n S_n ⊗ a_n a_nᵀ"), "mixed block of many samples": (
        total(term(X("ni"), apply("f", 1, entry("z", "no")), batched, over="n")), "oi", "pj",
        "Σ_n diag(f'(z_n)) W2ᵀ diag(s_n) ⊗ x_n a_nᵀ + (Σ_n diag(f'(z_n)) ⊗ x_n δ_nᵀ) K",
    ),
    "two sums over samples": (
        total(
            term(S("npr"), A("nj"), A("nq"), over="n"),
            term(B("spr"), A("sj"), A("sq"), over="s", number=-1),
        ),
        "pj", "rq", "Σ_n (S_n − B_n) ⊗ a_n a_nᵀ",
    ),
    "weighed factorisation": (
        total(term(delta("pr"), power(entry("Ω", "pi"), 2), V("io"), V("ij"), number=2, over="i")),
        "po", "rj", "2 blockdiag_p(Vᵀ diag(ω_p^∘2) V)",
    ),
    "samples and diagonal blocks": (
        total(
            term(S("np"), W2("po"), W2("pq"), X("ni"), X("nk"), over="np"),
            term(delta("oq"), entry("g", "no"), X("ni"), X("nk"), over="n"),
        ),
        "oi", "qk", "Σ_n (W2ᵀ diag(s_n) W2 + diag(g_n)) ⊗ x_n x_nᵀ",
    ),
    "mixed block of a factorisation": (
        total(term(entry("U", "pl"), entry("V", "oi"), number=2), term(delta("il"), group(
            term(entry("T", "po")), term(entry("U", "pk"), entry("V", "ok"), number=-1, over="k")),
            number=-2)),
        "pi", "ol", "2 ((U ⊗ Vᵀ) K − (T − U Vᵀ) ⊗ I)",
    ),
    "mean": (total(term(power(Count("N"), -1), A("nj"), A("nq"), number=2, over="n")), "j", "q",
    "(2/N) AᵀA"), "scalars": (
        total(term(entry("s"), power(entry("t"), -2), A("nj"), A("nq"), number=HALF, over="n")),
        "j", "q", "(s/(2 t²)) AᵀA",
    ),
    # mixed orders
    "matrix and vector": (total(term(W2("po"), x("i"))), "oi", "p", "W2ᵀ ⊗ x"),
    "vector and matrix": (total(term(W2("po"), x("i"))), "p", "oi", "W2 ⊗ xᵀ"),
    "crossed": (total(term(entry("u", "o"), B("ip"))), "oi", "p", "u ⊗ B"),
    "rank one": (total(term(A("oi"), B("pj"))), "oi", "pj", "vec(A) vec(B)ᵀ"),
    "matrix and scalar": (total(term(A("oi"))), "oi", "", "vec(A)"),
    "scalar and matrix": (total(term(A("oi"))), "", "oi", "vec(A)ᵀ"),
    "weights on rows": (total(term(A("oi"), delta("oq"), entry("M", "ik"))), "oi", "qk",
    "diag(vec(A)) (I ⊗ M)"), "parallel": (total(term(A("oj"), B("jo"))), "o", "j", "A ∘ Bᵀ"),
    "identity": (total(term(delta("oq"), delta("ik"), number=3)), "oi", "qk", "3 I"),
    "the inverse of each matrix": (
        total(term(entry("c", "n"), entry("inv(R)", "nab"), over="n")), "b", "a", "Σ_n c_n R_n⁻ᵀ",
    ),
    "commutation": (total(term(delta("ac"), delta("be"))), "ab", "ec", "K"),
    "diagonal": (total(term(A("oo"), delta("oj"))), "o", "j", "I ∘ A"),
    # scalars
    "half squared error": (
        total(term(power(misfit, 2), number=HALF, over="n")),
        "", "", "½ (y − X w)ᵀ (y − X w)",
    ),
    "Frobenius": (total(term(power(residual, 2), over="po")), "", "", "tr((T − U Vᵀ) (T − U Vᵀ)ᵀ)"),
    "bilinear": (total(term(entry("u", "o"), A("oi"), x("i"), over="oi")), "", "", "uᵀ A x"),
    "sum of entries": (total(term(x("i"), over="i")), "", "", "1ᵀ x"),
    "trace": (total(term(A("oi"), B("io"), over="oi")), "", "", "tr(A B)"),
    # what is taken out
    "left and right": (
        total(term(A("no"), entry("M", "oq"), A("tq"), over="oq"), term(A("no"), B("oq"), A("tq"),
        over="oq", number=-1)), "n", "t", "A (M − B) Aᵀ",
    ),
    "common scalars": (
        total(term(entry("s"), A("oj"), number=2), term(entry("s"), A("jo"), number=-2)), "o", "j",
        "2 s (A − Aᵀ)",
    ),
    "a Gaussian": (
        total(
            term(entry("s"), twice("oj"), V("j"), V("w"), twice("wq"), over="jw"),
            term(entry("t"), A("oq"), number=-1),
            term(entry("t"), A("qo"), number=-1),
        ),
        "o", "q", "s (A + Aᵀ) V Vᵀ (A + Aᵀ) − t (A + Aᵀ)",
    ),
    "scalars that some share": (
        total(
            term(power(entry("t"), HALF), V("o"), V("j")),
            term(entry("s"), delta("oj"), number=-1),
            term(entry("s"), V("o"), number=-1),
            term(entry("s"), V("j"), number=-1),
        ),
        "o", "j", "√(t) V Vᵀ − s (I + V 1ᵀ + 1 Vᵀ)",
    ),
    "diagonals": (total(term(delta("oj"), V("o"), V("o")), term(delta("oj"), entry("u", "o"))), "o",
    "j", "diag(V^∘2 + u)"), "all negative": (total(term(A("oj"), number=-1), term(A("jo"),
    number=-1)), "o", "j", "−(A + Aᵀ)"), "nothing left": (total(), "o", "j", "0"),
    "no index at all": (total(term(number=Fraction(2, 3))), "", "", "⅔"),
    # derivatives that are not carried out
    "transport": (
        total(term(dz3("z2", "o"), f1("o"))), "p", "o", "(∂z3/∂z2) diag(f'(z2))",
    ),
    "Jacobian in a matrix": (total(term(dz3("W1", "oi"))), "p", "oi", "∂z3/∂W1"),
    "two Jacobians": (
        total(term(dz3("W1", "oi"), S3("p"), dz3("W1", "qk"), over="p")),
        "oi", "qk", "(∂z3/∂W1)ᵀ diag(S3) (∂z3/∂W1)",
    ),
    "second derivative": (
        total(term(Partial(entry("z3", "p"), (entry("z2", "o"), entry("z2", "q"))), δ3("p"),
        over="p")), "o", "q", "Σ_p δ3_p ∂²z3_p/∂z2 ∂z2",
    ),
}  # fmt: skip
Z2 = Quantity("z2", at("o"), total(term(entry("W1", "oi"), x("i"), over="i")))
Z3 = Quantity("z3", at("p"), total(term(W2("po"), apply("f", 0, entry("z2", "o")), over="o")))
INVERSES = Quantity("inv(R)", at("nab"), ArrayCall("inv", entry("R", "nab")))
INVERSE = Quantity("inv(Q)", at("ab"), ArrayCall("inv", entry("Q", "ab")))


def program_for(expression: Expression) -> Program:
    names = names_in(expression)
    made = {"z3": (Z2, Z3), "inv(Q)": (INVERSE,), "inv(R)": (INVERSES,)}
    return program_of(
        expression, [quantity for name in names & set(made) for quantity in made[name]]
    )


@pytest.mark.parametrize("name", FORMS)
def test_the_form_and_its_value(name: str) -> None:
    expression, rows, columns, text = FORMS[name]
    program = program_for(expression)
    node = matrix_form(expression, at(rows), at(columns), program)
    assert node is not None
    assert matrix_text(node) == text
    written = matrix_latex(node)
    assert (
        written.isascii()
        and written.count("{") == written.count("}")
        and written.count(r"\left") == written.count(r"\right")
    )
    assert shape(node) == (tuple(i.size for i in at(rows)), tuple(i.size for i in at(columns)))
    valuation = valuation_of(program)
    expected = valuation.array(expression, at(rows + columns))
    # Zeros that cancel out of entries of some 2000, as here for det, are zero to the rounding of
    # those.
    atol = max(1e-12, 1e-14 * float(expected.abs().max()))
    torch.testing.assert_close(
        evaluate(node, valuation).reshape(expected.shape), expected, rtol=1e-12, atol=atol
    )


UNREADABLE: dict[str, tuple[Expression, str, str]] = {
    "an array of four indices across the groups": (total(term(B("opij"))), "oi", "pj"),
    "an array of three free indices": (total(term(B("opi"))), "oi", "p"),
    "a free index that is in no group": (total(term(A("oi"))), "o", ""),
    "one index in both groups": (total(term(A("oo"))), "o", "o"),
    "more than two indices in a group": (total(term(B("oip"))), "oip", ""),
    "a function of three indices": (total(term(apply("f", 1, B("opi")))), "oi", "p"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_formula_of_matrices_stays_in_indices(name: str) -> None:
    expression, rows, columns = UNREADABLE[name]
    assert matrix_form(expression, at(rows), at(columns), program_of(expression)) is None


def test_a_bound_index_may_have_the_name_of_one_that_the_term_lacks() -> None:
    expression = total(term(entry("u", "o")), term(V("i"), entry("u", "o"), over="i"))
    node = matrix_form(expression, at("o"), at("i"), program_of(expression))
    assert node is not None
    assert matrix_text(node) == "(1 + 1ᵀ V) u 1ᵀ"


def test_a_condition_on_indices_has_no_name_as_a_matrix() -> None:
    expression = total(term(entry("c", "oi"), x("i"), over="i"))
    leaves = {"c": Leaf("c", ("h", "d"), "constant", shown="[{} = 2 {}]"), "x": Leaf("x", ("d",))}
    assert matrix_form(expression, at("o"), (), Program(leaves, ())) is None


def test_a_commutation_and_its_transpose_are_the_identity() -> None:
    turn = Commutation(("m",), ("h",))
    assert product(turn, transpose(turn)) == Identity(("h", "m"))


def test_remarks_say_what_the_signs_mean() -> None:
    def said(name: str) -> tuple[str, ...]:
        expression, rows, columns, _ = FORMS[name]
        node = matrix_form(expression, at(rows), at(columns), program_for(expression))
        assert node is not None
        return remarks(node, program_for(expression))

    assert said("linear network, mixed") == (
        "K vec(V) = vec(Vᵀ) for V of shape m × h: the same entries, counted column by column",
    )
    assert said("Gauss-Newton") == ("S_n: slice n of S, a matrix", "a_n: row n of A, as a column")
    assert said("logistic regression") == ("∘: entry by entry", "1: the vector of ones")
    assert said("rank one") == ("vec(V): the entries of V row by row, as one column",)
    assert "blockdiag_p: one block for each p, along the diagonal" in said("weighed factorisation")
    assert said("least squares") == ()


def test_a_row_keeps_its_capital_where_the_small_letter_is_taken() -> None:
    expression = total(
        term(S("npr"), X("ni"), X("nk"), over="n"), term(delta("pr"), x("i"), x("k"))
    )
    node = matrix_form(expression, at("pi"), at("rk"), program_of(expression))
    assert node is not None
    assert matrix_text(node) == "Σ_n S_n ⊗ X[n,:] X[n,:]ᵀ + I ⊗ x xᵀ"
    assert "X[n,:]: what X has there, as a column" in remarks(node, program_of(expression))


def test_commutations_of_different_sizes_are_told_apart() -> None:
    expression = total(term(W2("po"), x("i"), a2("j")), term(delta("oj"), entry("r", "p"), x("i")))
    rows, columns = at("oi"), at("pj")
    node = matrix_form(expression, rows, columns, program_of(expression))
    assert node is not None
    both = Sum((node, Commutation(("d",), ("h",))))
    assert "K[m,h]" in matrix_text(both) and "K[d,h]" in matrix_text(both)
    assert "K_{m,h}" in matrix_latex(both)
    assert any(
        remark.startswith("K[d,h] vec(V)") for remark in remarks(both, program_of(expression))
    )


@pytest.mark.parametrize(("rows", "columns"), [("oi", "pj"), ("pj", "oi")])
def test_the_transposed_block_is_the_transpose(rows: str, columns: str) -> None:
    expression = FORMS["mixed block"][0]
    program = program_for(expression)
    valuation = valuation_of(program)
    there, back = (
        matrix_form(expression, at(a), at(b), program)
        for a, b in ((rows, columns), (columns, rows))
    )
    assert there is not None and back is not None
    torch.testing.assert_close(evaluate(there, valuation), evaluate(back, valuation).T)
    torch.testing.assert_close(evaluate(transpose(there), valuation), evaluate(back, valuation))
