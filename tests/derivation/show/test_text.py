"""The plain text: what stands in it, and that it fits."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import hesse
from derivation.expressions import CLOSED_FORMS
from derivation.show.conftest import two_layers
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
    constant,
    of,
)
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Leaf, Program, Quantity
from hesse.derivation.show.readings import READINGS
from hesse.derivation.show.text import page, part_text
from hesse.derivation.show.text_writer import text
from hesse.errors import HesseValueError

ROW, J, P = Index("i", "n"), Index("j", "n"), Index("p", 3)
A, B, W = Entry("a", (ROW,)), Entry("b", (P,)), Entry("W", (ROW, J))
GAP = Group(Expression((Term(Fraction(1), (A,)), Term(Fraction(-1), (Entry("a", (J,)),)))))
LEAVES = {
    name: Leaf(name, sizes)
    for name, sizes in {"a": ("n",), "b": (3,), "W": ("n", "n"), "c": ()}.items()
}
PROGRAM = Program(
    {
        **LEAVES,
        "K": Leaf("K", (3, 3), "constant", value=[], shown="[{1} = {0} + k]"),
        "0.bias": Leaf("0.bias", ("n",)),
    },
    (Quantity("z", (ROW,), of(A)), Quantity("J", (), of(Entry("c")), "cost")),
)


def term(*factors: Factor, number: Fraction | int = 1, over: tuple[Index, ...] = ()) -> Term:
    return Term(Fraction(number), factors, over)


FORMULAS = {
    "0": (),
    "1": (term(),),
    "−1": (term(number=-1),),
    "½ Σ_i a_i²": (term(Power(A, constant(2)), number=Fraction(1, 2), over=(ROW,)),),
    "5/7 a_i": (term(A, number=Fraction(5, 7)),),
    "0.001 a_i": (term(A, number=Fraction(1, 1000)),),
    "a_i − 2 W[i,j]": (term(A), term(W, number=-2)),
    "[i = j] b_p": (term(Delta(ROW, J), B),),
    "a_i / b_p": (term(A, Power(B, constant(-1))),),
    "a_i / (2 b_p c²)": (
        term(A, Power(B, constant(-1)), Power(Entry("c"), constant(-2)), number=Fraction(1, 2)),
    ),
    "1 / √(a_i − a_j)": (term(Power(GAP, constant(Fraction(-1, 2)))),),
    "2/n Σ_i a_i (a_i − a_j)": (
        term(Power(Count("n"), constant(-1)), A, GAP, number=2, over=(ROW,)),
    ),
    "(a_i − a_j)³": (term(Power(GAP, constant(3))),),
    "c^(3/2)": (term(Power(Entry("c"), constant(Fraction(3, 2)))),),
    "c^b_p": (term(Power(Entry("c"), of(B))),),
    "f''(a_i − a_j)": (term(Apply("f", 2, GAP)),),
    "|a_i| σ'(a_i)²": (term(Apply("abs", 0, A), Power(Apply("sigmoid", 1, A), constant(2))),),
    "f⁽⁴⁾(c)": (term(Apply("f", 4, Entry("c"))),),
    "c Σ_{i,j} a_i W[i,j]": (term(A, Entry("c"), W, over=(ROW, J)),),
    "∂z_i/∂a_i · a_i": (term(Partial(Entry("z", (ROW,)), (A,)), A),),
    "(∂z_i/∂a_i)²": (term(Power(Partial(Entry("z", (ROW,)), (A,)), constant(2))),),
    "∂²J/∂a_i∂b_p": (term(Partial(Entry("J"), (A, B))),),
    "∂/∂a_i (a_i · b_p)": (term(Partial(Group(Expression((term(A, B),))), (A,))),),
    "[j = i + k] 0.bias[i]": (term(Entry("K", (ROW, J)), Entry("0.bias", (ROW,))),),
}


@pytest.mark.parametrize(("written", "terms"), FORMULAS.items(), ids=FORMULAS)
def test_one_formula(written, terms):
    expected = written.replace("c^b_p", "c^(b_p)")
    assert text(Expression(terms), PROGRAM) == expected


def test_a_reading_that_there_is_not():
    with pytest.raises(
        HesseValueError, match="reading must be one of 'scalar', 'indices', 'matrix', got 'matrx'"
    ):
        text(of(A), PROGRAM, "matrx")


def test_one_weight_per_layer_has_no_indices_and_adds_like_terms():
    assert text(Expression((term(W), term(Entry("W", (J, ROW))))), PROGRAM, "scalar") == "2 W"
    assert (
        text(Expression((term(W, A, Delta(ROW, P), Count("n"), over=(ROW, J)),)), PROGRAM, "scalar")
        == "W a"
    )


def test_matrices_where_there_is_such_a_form():
    product = Expression((term(W, Entry("a", (J,)), over=(J,)),))
    assert text(product, PROGRAM, "matrix", rows=Entry("z", (ROW,))) == "W a"
    cube = Expression((term(Entry("T", (ROW, J, P))),))
    assert text(cube, PROGRAM, "matrix", rows=A, columns=W) == "T[i,j,p]"


# What the mark has, in the words and the layout that are ours.
LINES = """
    z2_o = Σ_i W1[o,i] x_i
    J = ½ Σ_p (y_p − ŷ_p)²
    ∂²J/∂W1∂W2   the mixed block b   shape (h, d, m, h)
    ∂J/∂z3_p = −(y_p − ŷ_p) f'(z3_p) =: δ3_p
    ∂J/∂W2[p,j] = δ3_p a2_j
    ∂²J/∂W1[o,i]∂W2[p,j] = ∂/∂W1[o,i] (δ3_p · a2_j)
    = ∂δ3_p/∂W1[o,i] · a2_j              +   δ3_p · ∂a2_j/∂W1[o,i]
    └ branch A, curvature from above       └ branch B, product-rule term
    ∂δ3_p/∂W1[o,i] = ∂δ3_p/∂z3_p · ∂z3_p/∂W1[o,i]
    δ3_p feels W1 only through z3_p
    ∂δ3_p/∂z3_p = f'(z3_p)²   −   (y_p − ŷ_p) f''(z3_p) =: S3_p
    └ ŷ moves       └ the slope itself moves
    ∂z3_p/∂W1[o,i] = Σ_j W2[p,j] · ∂a2_j/∂W1[o,i]
    ∂a2_j/∂W1[o,i] = f'(z2_j) · ∂z2_j/∂W1[o,i]
    ∂z2_j/∂W1[o,i] = [j = o] x_i    only row o of W1 touches z2_o
    ∂z3_p/∂W1[o,i] = W2[p,o] f'(z2_o) x_i    the sum over j keeps j = o
    ∂²J/∂W1[o,i]∂W2[p,j] = x_i f'(z2_o) { S3_p W2[p,o] a2_j        +   δ3_p [j = o] }
    └ curvature from above       └ product-rule term
    As a matrix, rows (o,i), columns (p,j), counted row by row:
    ∂²J/∂W2∂W1 is its transpose.
    Block b stands twice, the second time transposed: ∂²J/∂W2∂W1 = bᵀ.
    Rows and columns of H: vec(W1), then vec(W2).
    W1[o,i] is number o·d + i of vec(W1)
    10 of 11 lines at random points in float64, largest deviation 2e-16
""".strip().splitlines()


@pytest.mark.parametrize("line", [line.strip() for line in LINES])
def test_the_mixed_block_reads_like_the_mark(line, derivation):
    assert line in page(derivation)


def test_the_factors_that_contain_the_parameter_are_underlined(derivation):
    rows = page(derivation).splitlines()
    start = next(k for k, row in enumerate(rows) if "(δ3_p · a2_j)" in row)
    column = rows[start].index("δ3_p")
    assert rows[start + 1].rstrip() == " " * column + "‾‾‾‾   ‾‾‾‾"


@pytest.mark.parametrize("reading", READINGS)
def test_the_hand_made_page_fits(reading, derivation):
    shown = page(derivation, reading)
    assert max(map(len, shown.splitlines())) <= 100
    (block,) = derivation
    assert part_text(block, derivation, reading).strip() in shown


def test_one_weight_per_layer(derivation):
    shown = page(derivation, "scalar")
    assert "∂²J/∂W1∂W2 = x f'(z2) { S3 W2 a2                 +   δ3 }" in shown
    assert (
        "_p" not in shown
        and "Σ" not in shown
        and "[" not in shown.replace("[ a   b ]", "").replace("[ bᵀ  c ]", "")
    )


def test_in_matrices(derivation):
    shown = page(derivation, "matrix")
    assert (
        "z3 = W2 a2" in shown
        and "∂z3/∂W1 = W2 diag(f'(z2)) ⊗ xᵀ" in shown
        and "∂J/∂W2 = δ3 a2ᵀ" in shown
    )


def test_what_was_not_certified_says_so():
    bare = two_layers(deviation=float("nan"))
    bare = replace(
        bare,
        blocks={key: replace(block, deviation=float("nan")) for key, block in bare.blocks.items()},
    )
    shown = page(bare)
    assert "Not yet: certify()" in shown and "✓" not in shown


def test_long_names_still_fit():
    names = (
        "encoder.layers.0.self_attn.in_proj_weight",
        "encoder.layers.0.self_attn.out_proj.weight",
    )
    for reading in READINGS:
        assert max(map(len, page(two_layers(*names), reading).splitlines())) <= 100


def test_maps_without_a_formula_are_shown_by_name():
    quantities = (
        Quantity("pooled", (ROW,), BlackBox("max_pool2d", ("a",), abs)),
        Quantity("p", (ROW,), ArrayCall("softmax", Entry("pooled", (ROW,)))),
        Quantity("J", (), of(Entry("c")), "cost"),
    )
    shown = page(
        replace(two_layers(), program=replace(PROGRAM, quantities=quantities), slopes={}, blocks={})
    )
    assert "max_pool2d: a (n,) ↦ pooled (n,)" in shown and "p = softmax(pooled)" in shown
    assert "automatic\n            differentiation evaluates" in shown


def test_a_sum_over_one_place_is_the_entry_at_that_place():
    at = Leaf("I", (2,), "constant", value=torch.tensor([0.0, 1.0]), shown="[{0} = 1]")
    both = Leaf("M", (2,), "constant", value=torch.tensor([1.0, 1.0]), shown="[{0} < 2]")
    program = replace(PROGRAM, leaves={**PROGRAM.leaves, "I": at, "M": both})
    row = Index("i", 2)
    z = Entry("a", (row,))
    chosen = term(Entry("I", (row,)), z, number=2, over=(row,))
    assert text(Expression((chosen,)), program) == "2 a_1"
    assert text(of(Group(Expression((chosen, term(A))))), program) == "(2 a_1 + a_i)"
    # Not where it is one of the result's own axes, or there are more places.
    free = term(Entry("I", (row,)), z)
    assert text(Expression((free,)), program) == "[i = 1] a_i"
    several = term(Entry("M", (row,)), z, over=(row,))
    assert text(Expression((several,)), program) == "Σ_i [i < 2] a_i"


def test_a_column_of_an_output_is_read_as_one():
    net = torch.nn.Linear(3, 2).double()
    X, y = torch.ones(4, 3).double(), torch.ones(4).double()
    cost = hesse.Cost(net, lambda o, y: ((o[:, 1] - y) ** 2).mean(), (X, y))
    d = hesse.derive(cost, certify=False)
    assert "J = (z(weight)[1] − y)²" in d.text() and "Σ_o [o = 1]" not in d.text()
    assert "}_{1}} - y)}^{2}" in d.latex()


def test_the_derivative_of_a_named_map_reads_as_one():
    pooled = Quantity("u", (ROW,), BlackBox("pool", ("a",), abs))
    program = replace(PROGRAM, quantities=(pooled, *PROGRAM.quantities))
    slope = Entry("∂u/∂a", (ROW, J))
    assert text(Expression((term(A, slope),)), program) == "a_i · ∂u_i/∂a_j"
    assert text(of(Power(slope, constant(2))), program) == "(∂u_i/∂a_j)²"


# The derivations of networks are long; one in a few is enough here.
@pytest.mark.parametrize(
    "case", [*CLOSED_FORMS[:14:2], CLOSED_FORMS[-2]], ids=lambda case: case.name
)
def test_real_derivations_fit_in_every_reading(case):
    found = hesse.derive(
        case.text, wrt=case.parameters, shapes=case.shapes, given=case.given, certify=False
    )
    for reading in READINGS:
        shown = page(found, reading)
        assert max(map(len, shown.splitlines())) <= 100
        assert not any(mark in shown for mark in ("Entry(", "Term(", "\ue000", "\ue001"))
