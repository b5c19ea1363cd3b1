"""The form of a result, not only its value: what a person would have written."""

import pytest

import hesse
from derivation.published import hold
from hesse.derivation.calculus.expression import Entry
from hesse.derivation.calculus.program import mentioned

LOGISTIC = "-sum(y*log(sigmoid(X @ w)) + (1 - y)*log(1 - sigmoid(X @ w)))"

FORMS = [
    # name, text, wrt, given, block, its matrix form, and what it is by hand, in NumPy
    ("quadratic form", "x.T @ A @ x", "x", (), ("x", "x"), "A + Aᵀ", "A + A.T"),
    ("least squares", "1/2*sum((y - X @ w)**2)", "w", (), ("w", "w"), "XᵀX", "X.T@X"),
    ("least squares, as a norm", "1/2*norm2(y - X @ w)**2", "w", (), ("w", "w"), "XᵀX", "X.T@X"),
    (
        "ridge",
        "1/2*norm2(y - X @ w)**2 + 1/2*c*sum(w**2)",
        "w",
        (),
        ("w", "w"),
        "XᵀX + c I",
        "X.T@X + c*eye(w.size)",
    ),
    (
        "logistic regression",
        LOGISTIC,
        "w",
        (),
        ("w", "w"),
        "Xᵀ diag(p ∘ (1 − p)) X",
        "X.T@diag(sigmoid(X@w)*(1 - sigmoid(X@w)))@X",
    ),
    (
        "logistic regression, by softplus",
        "sum(softplus(X @ w) - y*(X @ w))",
        "w",
        (),
        ("w", "w"),
        "Xᵀ diag(p ∘ (1 − p)) X",
        "X.T@diag(sigmoid(X@w)*(1 - sigmoid(X@w)))@X",
    ),
    (
        "cross entropy in the logits",
        "logsumexp(z) - y @ z",
        "z",
        (),
        ("z", "z"),
        "diag(p) − p pᵀ",
        "dsoftmax(z)",
    ),
    (
        "cross entropy, one-hot",
        "-sum(y*log_softmax(z))",
        "z",
        "sum(y) == 1",
        ("z", "z"),
        "diag(p) − p pᵀ",
        "dsoftmax(z)",
    ),
    (
        "cross entropy, log of softmax",
        "-sum(y*log(softmax(z)))",
        "z",
        "sum(y) == 1",
        ("z", "z"),
        "diag(p) − p pᵀ",
        "dsoftmax(z)",
    ),
    (
        "logsumexp",
        "logsumexp(A @ x)",
        "x",
        (),
        ("x", "x"),
        "Aᵀ (diag(p) − p pᵀ) A",
        "A.T@dsoftmax(A@x)@A",
    ),
    ("logdet", "logdet(X)", "X", (), ("X", "X"), "−(X⁻ᵀ ⊗ X⁻¹) K", "-bilinear(inv(X), inv(X))/2"),
    (
        "factorisation",
        "sum((Omega*(T - U @ V.T))**2)",
        "U,V",
        "Omega == 1",
        ("U", "U"),
        "2 I ⊗ VᵀV",
        "kron(2*V.T@V, eye(U.shape[0]))",
    ),
    (
        "factorisation, by a norm",
        "norm2(Omega*(T - U @ V.T))**2",
        "U,V",
        "Omega == 1",
        ("V", "V"),
        "2 I ⊗ UᵀU",
        "kron(2*U.T@U, eye(V.shape[0]))",
    ),
    (
        "linear network, first layer",
        "1/2*sum((y - W2 @ W1 @ x)**2)",
        "W1,W2",
        (),
        ("W1", "W1"),
        "W2ᵀW2 ⊗ x xᵀ",
        "kron(outer(x, x), W2.T@W2)",
    ),
    (
        "linear network, last layer",
        "1/2*sum((y - W2 @ W1 @ x)**2)",
        "W1,W2",
        (),
        ("W2", "W2"),
        "I ⊗ W1 x xᵀ W1ᵀ",
        "kron(outer(W1@x, W1@x), eye(len(y)))",
    ),
    (
        "output block",
        "1/2*sum((Y - f(X @ W1.T) @ W2.T)**2)",
        "W1,W2",
        (),
        ("W2", "W2"),
        "I ⊗ a2ᵀa2",
        "kron(f(X@W1.T).T@f(X@W1.T), eye(W2.shape[0]))",
    ),
    (
        "two layers, first block",
        "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)",
        "W1,W2",
        (),
        ("W2", "W2"),
        "diag(S3) ⊗ a2 a2ᵀ",
        "kron(outer(f(W1@x),f(W1@x)), diag(df(W2@f(W1@x))**2 - (y-f(W2@f(W1@x)))*d2f(W2@f(W1@x))))",
    ),
    (
        "Kullback-Leibler divergence",
        "sum(p*log(p/q))",
        "p,q",
        (),
        ("p", "p"),
        "diag(p^∘(−1))",
        "diag(1/p)",
    ),
    (
        "trace",
        "trace(X.T @ A @ X)",
        "X",
        (),
        ("X", "X"),
        "(A + Aᵀ) ⊗ I",
        "kron(eye(X.shape[1]), A + A.T)",
    ),
    ("relu has no f''", "sum(relu(A @ x))", "x", (), ("x", "x"), "0", "zeros((x.size, x.size))"),
]


@pytest.mark.parametrize(
    ("text", "wrt", "given", "pair", "form", "by_hand"),
    [row[1:] for row in FORMS],
    ids=[row[0] for row in FORMS],
)
def test_the_form_is_what_a_person_would_write(text, wrt, given, pair, form, by_hand):
    d = hesse.derive(text, wrt=wrt, given=given)
    assert d.block(*pair).matrix() == form
    hold(d, {" ".join(pair): (form, by_hand)})


def test_the_target_is_gone_from_the_curvature_of_cross_entropy():
    d = hesse.derive("-sum(y*log_softmax(z))", wrt=["z"], given="sum(y) == 1")
    assert mentioned(d.block("z", "z").expression) == ("p",)


def test_a_target_that_does_not_sum_to_one_stays_as_its_sum():
    d = hesse.derive("-sum(y*log_softmax(z))", wrt=["z"])
    assert set(mentioned(d.block("z", "z").expression)) == {"p", "y"}


def test_no_variable_is_left_in_the_hessian_of_a_quadratic():
    d = hesse.derive("x @ A @ x + b @ x + 3", wrt=["x"])
    assert set(mentioned(d.block("x", "x").expression)) == {"A"}


def test_no_term_appears_twice():
    d = hesse.derive("sum(x*x) + x @ x + norm2(x)**2", wrt=["x"])
    (term,) = d.block("x", "x").expression.terms
    assert term.coefficient == 6


def test_the_mixed_block_is_that_of_the_worked_example():
    """x_i f'(z2_o) { S3_p W2[p,o] a2_j + δ3_p [j = o] }, its two kinds of term told apart."""
    d = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
    above, beside = d.block("W1", "W2").expression.terms
    assert (above.kind, beside.kind) == ("curvature from above", "product-rule term")
    names = [
        {factor.name for factor in term.factors if isinstance(factor, Entry)}
        for term in (above, beside)
    ]
    assert names == [{"S3", "W2", "x", "a2"}, {"δ3", "x"}]
