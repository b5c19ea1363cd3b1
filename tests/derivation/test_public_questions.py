"""What people ask for, typed as they type it: the form to the letter, the published Hessian, and
what was guessed of shapes."""

import random

import pytest
import torch

import hesse
from derivation.published import hold
from derivation.questions import QUESTIONS, Question
from hesse.derivation.show.given import guesses
from hesse.errors import HesseValueError


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_the_published_form_is_what_comes_out(question: Question) -> None:
    d = hesse.derive(question.text, wrt=question.wrt)
    for block, (form, _) in question.forms.items():
        assert d.block(block.split()[0], block.split()[-1]).matrix() == form
    hold(d, question.forms)
    said = guesses(d.program)
    assert {guess.split()[0] for guess in said} == {
        *question.numbers.split(),
        *question.vectors.split(),
    }
    for guess in said:
        name = guess.split()[0]
        kind = "a vector" if name in question.vectors.split() else "number"
        assert kind in guess.partition(";")[0]
        # Wherever the shapes are read.
        for shown in (d.text(), d.text("matrix"), repr(d)):
            assert guess in " ".join(shown.split())
        assert name in d.latex() and "declare" in d.latex() and guess in d.html()


@pytest.mark.some(of=3)
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_any_sizes(question: Question) -> None:
    """Tall and wide, 1 to 7: each line and block against automatic differentiation."""
    draw = random.Random(question.text)
    leaves = hesse.derive(question.text, wrt=question.wrt, certify=False).program.leaves
    letters = {size for leaf in leaves.values() for size in leaf.sizes if isinstance(size, str)}
    if not letters or "eye" in question.text:
        return
    for _ in range(2):
        sizes = {letter: draw.randint(1, 7) for letter in sorted(letters)}
        shapes = {
            name: tuple(sizes.get(str(size), size) for size in leaf.sizes)
            for name, leaf in leaves.items()
            if leaf.role != "constant"
        }
        try:
            d = hesse.derive(question.text, wrt=question.wrt, shapes=shapes)
        except HesseValueError as error:
            # A wide X has no inverse of XᵀX.
            assert "no point was found" in str(error) and "inv(" in question.text
            continue
        assert d.certificate is not None and d.certificate.block_deviation < 1e-9


def test_what_is_declared_is_not_guessed() -> None:
    d = hesse.derive("(y-X@w).T@(y-X@w) + lam*w.T@w", wrt="w", shapes="lam[d] w[d]")
    assert d.block("w", "w").matrix() == "2 (XᵀX + diag(lam))" and not guesses(d.program)
    d = hesse.derive("pi*x**2", wrt="x", shapes="pi[]")
    assert d.program.leaves["pi"].role == "data" and not guesses(d.program)
    assert hesse.derive("e.T@e", wrt="e").program.leaves["e"].sizes == ("d",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x.T@S**-1@x", r"inv\(S\) for the inverse, 1/S for each entry"),
        ("trace(x**2)", r"x @ x for the matrix times itself, x\*x for each entry"),
        ("sum(X**2@x)", r"X @ X for the matrix times itself, X\*X for each entry"),
        ("sum(gamma(x))", "the Gamma function"),
    ],
)
def test_what_is_ambiguous_is_refused_with_both_spellings(text: str, said: str) -> None:
    with pytest.raises(HesseValueError, match=said):
        hesse.derive(text, wrt="x", shapes="x[d,d]" if "trace" in text else None)


def test_a_tall_matrix_of_many_rows_is_checked_as_a_tall_one() -> None:
    for shapes in ("X[50,3]", "X[n,m]", "X[7,2]", None):
        d = hesse.derive("logdet(X.T @ X)", wrt="X", shapes=shapes)
        assert d.certificate is not None and d.certificate.block_deviation < 1e-9


def test_a_result_says_what_the_names_in_it_are() -> None:
    d = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
    result = d.block("W1", "W2").text().partition("the branches put in")[2]
    assert "with  S3_p = f'(z3_p)² − (y_p − ŷ_p) f''(z3_p)" in result
    assert "\nwith\n" in d.latex()
    # In every block of a page, for each reading.
    results = [part.partition("The lines")[0] for part in d.html().split('class="result"')[1:]]
    assert len(results) == 3 and all(part.count('class="with"') == 3 for part in results)


def test_one_layer_ends_in_its_values_beside_other_terms() -> None:
    energy = "-1/b*logsumexp(b*X@xi) + 1/2*xi.T@xi"
    block = hesse.derive(energy, wrt="xi", shapes="b[]").block("xi", "xi")
    assert block.matrix() == "b Xᵀ (p pᵀ − diag(p)) X + I" and "with  Sz" not in block.text()[-900:]


def test_only_a_prediction_is_called_one() -> None:
    hidden = hesse.derive("1/2*sum((y - W2@silu(W1@x))**2)", wrt="W1").text()
    assert "π = σ(z2)" in hidden and "ŷ" not in hidden
    assert "ŷ = σ(z)" in hesse.derive("1/2*(y - sigmoid(w.T@x))**2", wrt="w").text()


def test_letters_that_stand_for_something_are_not_used_for_anything_else() -> None:
    d = hesse.derive("sum((y - K@f(I@x))**2)", wrt=["K", "I"])
    assert d.block("K", "I").matrix() == "2 K diag(f'(z2)) ⊗ a2 xᵀ + (δ3 xᵀ ⊗ diag(f'(z2))) Com"
    assert d.block("K", "K").matrix() == "2 Id ⊗ a2 a2ᵀ"
    assert "Com vec(V) = vec(Vᵀ)" in d.text() and "Id: the identity matrix" in d.text()
    assert r"\operatorname{Com}" in d.latex() and r"\operatorname{Id}" in d.latex()
    text = hesse.derive("-trace(log_softmax(A@B.T/t))", wrt=["A", "B", "t"], shapes="t[]").text()
    assert "block H[C, D] = ∂²J/∂C∂D" in text
    assert "The matrix C ⊗ D has the entry C[o,q] D[i,j] in row (o, i) and column (q, j)" in text


def test_a_number_is_told_in_matrices_where_that_says_more() -> None:
    gp = "1/2*y.T@inv(K+s*eye(n))@y + 1/2*logdet(K+s*eye(n))"
    d = hesse.derive(gp, wrt="s", shapes="K[n,n] y[n] s[]")
    said = "  In matrices:\n    yᵀ u1⁻¹ u1⁻¹ u1⁻¹ y − ½ tr(u1⁻¹ u1⁻¹)\n"
    assert said in d.text() and "In matrices:" in d.latex() and ">In matrices:<" in d.html()
    plain = hesse.derive("1/2*(y - tanh(w*x))**2", wrt="w", shapes="w[] x[] y[]")
    shown = (plain.text(), plain.latex(), plain.html())
    assert not any("In matrices" in page or "As a matrix" in page for page in shown)


def test_what_stands_at_one_place_is_not_multiplied_out() -> None:
    d = hesse.derive("sum(sigmoid(X@U@V.T))", wrt=["U", "V"])
    slope = "diag(p_o ∘ (1 − p_o) ∘ (1 − 2 p_o))"
    assert d.block("U", "U").matrix() == f"Σ_o x_o x_oᵀ ⊗ Vᵀ {slope} V"
    residual = hesse.derive("sum((Y - tanh(X@W))**2)", wrt="W").block("W", "W").matrix()
    assert residual is not None and "(y_o − ŷ_o) ∘ ŷ_o ∘ (1 − ŷ_o^∘2)" in residual


def test_the_repr_is_a_screen() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    cost = hesse.Cost(net.double(), "mse", (torch.ones(5, 3).double(), torch.ones(5, 2).double()))
    for d in (hesse.derive("1/2*(y - f(w*x))**2", wrt="w"), hesse.derive(cost)):
        rows = repr(d).split("\n")
        assert len(rows) <= 24 and max(map(len, rows)) <= 100
        assert rows[0].startswith("Derivation: second derivatives of ")
