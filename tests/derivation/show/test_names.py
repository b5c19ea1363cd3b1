"""Names as symbols."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derivation.show.tex import check
from hesse.derivation.show.names import escaped, latex_function, latex_index, latex_name

NAMES = {
    ("W1", ()): "W_{1}",
    ("W1", ("o", "i")): "W_{1}[o,i]",
    ("W_1", ("o", "i")): "W_{1}[o,i]",
    ("x", ("i",)): "x_{i}",
    ("ŷ", ("p",)): r"\hat{y}_{p}",
    ("δ3", ("p",)): r"\delta_{3,p}",
    ("δ3′", ("p",)): r"\delta^{\prime}_{3,p}",
    ("δW", ()): r"\delta_{W}",
    ("δu1", ("o",)): r"\delta_{u_{1},o}",
    ("Su1", ("o", "q")): "S_{u_{1}}[o,q]",
    ("Sz", ("o",)): "S_{z,o}",
    ("δ0.weight", ("o", "i")): r"\delta_{\texttt{0.weight}}[o,i]",
    ("S2,3", ("o", "p")): "S_{2,3}[o,p]",
    ("D2→ŷ", ("t", "o")): r"D_{2 \to \hat{y}}[t,o]",
    ("S(0),(fc,2)", ("o", "p")): r"S_{(\texttt{0}),(\texttt{fc,2})}[o,p]",
    ("D(0)→(2)", ("p",)): r"D_{(\texttt{0}) \to (\texttt{2}),p}",
    ("S(0)", ("p",)): r"{S(\texttt{0})}_{p}",
    ("X⁻¹", ("i", "j")): "X^{-1}[i,j]",
    ("inv(X)", ("i", "j")): "X^{-1}[i,j]",
    ("softmax(z3)", ("i",)): r"{\texttt{softmax}(z_{3})}_{i}",
    ("alpha", ()): r"\alpha",
    ("lambda", ()): r"\lambda",
    ("Ω", ("i", "j")): r"\Omega[i,j]",
    ("bias", ("i",)): r"\texttt{bias}_{i}",
    (
        "encoder.layers.0.self_attn.in_proj_weight",
        (),
    ): r"\texttt{encoder.layers.0.self\_attn.in\_proj\_weight}",
    ("<script>", ()): r"\texttt{\ensuremath{<}script\ensuremath{>}}",
    ("名", ()): r"\texttt{[U+540D]}",
}


@pytest.mark.parametrize(("name", "at"), NAMES)
def test_in_latex(name, at):
    expected = NAMES[name, at].replace(r"\texttt{softmax}", r"\operatorname{softmax}")
    assert latex_name(name, at) == expected
    check(latex_name(name, at), maths=True)


@given(st.text(max_size=12), st.lists(st.text("ijk1", min_size=1, max_size=3), max_size=3))
def test_any_name_is_latex(name, at):
    check(latex_name(name, at), maths=True)
    check(escaped(name))


@pytest.mark.parametrize(
    ("name", "order", "expected"),
    [
        ("f", 2, "f''"),
        ("tanh", 1, r"\tanh'"),
        ("sigmoid", 1, r"\sigma'"),
        ("relu", 0, r"\operatorname{relu}"),
        ("g", 4, "g^{(4)}"),
        ("my_f", 1, r"\texttt{my\_f}'"),
    ],
)
def test_functions(name, order, expected):
    assert latex_function(name, order) == expected


def test_indices():
    assert [latex_index(name) for name in ("i", "i2", "α", "ab")] == [
        "i",
        "i_{2}",
        r"\alpha",
        r"\mathrm{ab}",
    ]
