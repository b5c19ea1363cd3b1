"""What people ask for, typed as they type it: the form that textbooks and answers print, to the
letter, and what was guessed of shapes."""

import random
from dataclasses import dataclass

import pytest
import torch

import hesse
from hesse.derivation.show.given import guesses
from hesse.errors import HesseValueError


@dataclass(frozen=True)
class Question:
    """A cost, its parameters, the matrix form of each block, and the names that are said to be
    guessed."""

    text: str
    wrt: str
    forms: dict[str, str]
    numbers: str = ""
    vectors: str = ""
    shapes: str | None = None

    @property
    def blocks(self) -> dict[tuple[str, str], str]:
        names = self.wrt.split()
        keys = [key.split() for key in self.forms]
        assert all(set(key) <= set(names) for key in keys)
        return {
            (key[0], key[-1]): form for key, form in zip(keys, self.forms.values(), strict=True)
        }


Q = Question
REGRESSION = [
    Q("(y-X@w).T@(y-X@w) + lam*w.T@w", "w", {"w": "2 (XᵀX + lam I)"}, "lam"),
    Q("lam*sum(w**2) + sum((y-X@w)**2)", "w", {"w": "2 (XᵀX + lam I)"}),
    Q("1/2*norm2(A@x-b)**2 + lam*norm2(x)**2", "x", {"x": "AᵀA + 2 lam I"}),
    Q("(y-X@w).T@W@(y-X@w)", "w", {"w": "Xᵀ (W + Wᵀ) X"}),
    Q("sum(v*(y-X@w)**2)", "w", {"w": "2 Xᵀ diag(v) X"}),
    Q(
        "sum((y-(a*x+b))**2)",
        "a b",
        {"a": "2 xᵀx", "a b": "2 1ᵀ x", "b": "2 d"},
        "a b",
    ),
    Q("sum((y-X@w-b)**2)", "w b", {"w": "2 XᵀX", "w b": "2 Xᵀ 1", "b": "2 h"}, "b"),
    Q("1/2*(w.T@x-y)**2", "w", {"w": "x xᵀ"}),
    Q("sum((A@x)**4)", "x", {"x": "12 Aᵀ diag((A x)^∘2) A"}),
    Q("norm2(A@X-B)**2", "X", {"X": "2 AᵀA ⊗ I"}),
    Q("norm2(X@A-B)**2", "X", {"X": "2 I ⊗ A Aᵀ"}),
    Q(
        "1/2*norm2(X-U@V.T)**2",
        "U V",
        {"U": "I ⊗ VᵀV", "U V": "(U ⊗ Vᵀ) K − R ⊗ I", "V": "I ⊗ UᵀU"},
    ),
    Q("sum(relu(1-y*(X@w))**2)", "w", {"w": "2 Xᵀ diag(step(z) ∘ y^∘2) X"}),
]
LIKELIHOODS = [
    Q("sum(log(1+exp(X@w)))", "w", {"w": "Xᵀ diag(p ∘ (1 − p)) X"}),
    Q("sum(log(1+exp(-y*(X@w))))", "w", {"w": "Xᵀ diag(p ∘ (1 − p) ∘ y^∘2) X"}),
    Q("log(1+exp(w.T@x))", "w", {"w": "p (1 − p) x xᵀ"}),
    Q("1/(1+exp(-w.T@x))", "w", {"w": "J (1 − J) (1 − 2 J) x xᵀ"}),
    Q("sum(exp(X@w) - y*(X@w))", "w", {"w": "Xᵀ diag(exp(z)) X"}),
    Q("-(y*log(p)+(1-y)*log(1-p))", "p", {"p": "y/p² + (1 − y)/(1 − p)²"}),
    Q("-log(p**y*(1-p)**(1-y))", "p", {"p": "y/p² + (1 − y)/(1 − p)²"}),
    Q("-sum(y*log(p))", "p", {"p": "diag(y ∘ p^∘(−2))"}),
    Q(
        "n/2*log(s2)+sum((x-mu)**2)/(2*s2)",
        "mu s2",
        {
            "mu": "d/s2",
            "mu s2": "(1ᵀ (x − mu 1))/s2²",
            "s2": "((x − mu 1)ᵀ (x − mu 1))/s2³ − n/(2 s2²)",
        },
        "mu",
    ),
    Q("sum((x-mu)**2)", "mu", {"mu": "2 d"}, "mu"),
    Q("1/2*(x-mu).T@inv(S)@(x-mu)", "mu", {"mu": "½ (S⁻¹ + S⁻ᵀ)"}),
    Q("(x-mu)**2/(2*s**2) + log(s*sqrt(2*pi))", "mu", {"mu": "1/s²"}, "pi"),
    Q(
        "1/2*y.T@inv(K+s*eye(n))@y + 1/2*logdet(K+s*eye(n))",
        "s",
        {"s": "yᵀ u1⁻¹ u1⁻¹ u1⁻¹ y − ½ tr(u1⁻¹ u1⁻¹)"},
        "s",
    ),
    Q(
        "logdet(A)+trace(inv(A)@S)",
        "A",
        {"A": "((A⁻ᵀ Sᵀ A⁻ᵀ − A⁻ᵀ) ⊗ A⁻¹ + A⁻ᵀ ⊗ A⁻¹ S A⁻¹) K"},
    ),
    Q("-sum(log_softmax(z))", "z", {"z": "d (diag(p) − p pᵀ)"}),
    Q("-sum(y*log(softmax(W@x)))", "W", {"W": "(1ᵀ y) (diag(p) − p pᵀ) ⊗ x xᵀ"}),
    Q(
        "-1/m*sum(Y*log_softmax(X@W.T))",
        "W",
        {"W": "(1/m) Σ_o (1ᵀ y_o) (diag(p_o) − p_o p_oᵀ) ⊗ x_o x_oᵀ"},
    ),
    Q("tau*logsumexp(z/tau)", "z", {"z": "(1/tau) (diag(p) − p pᵀ)"}),
    Q("sum(x*log(lam)-lam)", "lam", {"lam": "−(1ᵀ x)/lam²"}, "lam"),
    Q("sum(l*x - log(l))", "l", {"l": "d/l²"}, "l"),
]
FORMS = [
    Q("1/2*x.T@A@x - b.T@x", "x", {"x": "½ (A + Aᵀ)"}),
    Q("gamma/2*w.T@Sigma@w - mu.T@w", "w", {"w": "½ gamma (Sigma + Sigmaᵀ)"}, "gamma"),
    Q("mu.T@w - gamma/2*w.T@S@w", "w", {"w": "−½ gamma (S + Sᵀ)"}, "gamma"),
    Q("w.T@(lam*w)", "w", {"w": "2 lam I"}, "lam"),
    Q("(x.T@A@x)**2", "x", {"x": "2 ((xᵀ A x) (A + Aᵀ) + (A + Aᵀ) x xᵀ (A + Aᵀ))"}),
    Q("norm2(x)", "x", {"x": "(1/n) I − (1/n³) x xᵀ"}),
    Q("norm2(x)**3", "x", {"x": "3 ((1/n) x xᵀ + n I)"}),
    Q("norm2(x)**4", "x", {"x": "8 x xᵀ + 4 (xᵀx) I"}),
    Q("sqrt(1+x.T@x)", "x", {"x": "(1/s) I − (1/s³) x xᵀ"}),
    Q("exp(w.T@x)", "w", {"w": "exp(z) x xᵀ"}),
    Q(
        "exp(-norm2(x-c)**2/(2*s2))",
        "x",
        {"x": "exp(u1) ((1/s2²) (x − c) (x − c)ᵀ − (1/s2) I)"},
        vectors="c",
    ),
    Q("sum(exp(x))", "x", {"x": "diag(exp(x))"}),
    Q("sum(x*log(x))", "x", {"x": "diag(x^∘(−1))"}),
    Q("sum(x)**2", "x", {"x": "2 1 1ᵀ"}),
    Q("-log(b - a.T@x)", "x", {"x": "(1/z²) a aᵀ"}),
    Q("-sum(log(b - A@x))", "x", {"x": "Aᵀ diag(z^∘(−2)) A"}),
    Q("c.T@x + mu*sum(log(x))", "x", {"x": "−mu diag(x^∘(−2))"}),
    Q("trace(X.T@A@X)", "X", {"X": "(A + Aᵀ) ⊗ I"}),
    Q("trace(X@X.T)", "X", {"X": "2 I"}),
    Q("a.T@X.T@X@a", "X", {"X": "2 I ⊗ a aᵀ"}),
    Q("a.T@inv(X)@b", "X", {"X": "(X⁻ᵀ a bᵀ X⁻ᵀ ⊗ X⁻¹ + X⁻ᵀ ⊗ X⁻¹ b aᵀ X⁻¹) K"}),
    Q("det(X)", "X", {"X": "det(X) (vec(X⁻ᵀ) vec(X⁻ᵀ)ᵀ − (X⁻ᵀ ⊗ X⁻¹) K)"}),
    Q("y.T@X@inv(X.T@X)@X.T@y", "y", {"y": "2 X u1⁻¹ Xᵀ"}),
    Q(
        "(1-x)**2+100*(y-x**2)**2",
        "x y",
        {"x": "2 + 1200 x² − 400 y", "x y": "−400 x", "y": "200"},
    ),
]
NEURONS = [
    Q(
        "1/2*(y-sigmoid(w.T@x))**2",
        "w",
        {"w": "ŷ² (1 − ŷ)² x xᵀ − (y − ŷ) ŷ (1 − ŷ) (1 − 2 ŷ) x xᵀ"},
    ),
    Q(
        "1/2*(y-tanh(w.T@x+b))**2",
        "w b",
        {
            "w": "(1 − ŷ²)² x xᵀ + 2 (y − ŷ) ŷ (1 − ŷ²) x xᵀ",
            "w b": "(1 − ŷ²)² x + 2 (y − ŷ) ŷ (1 − ŷ²) x",
            "b": "(1 − ŷ²) (1 − ŷ² + 2 (y − ŷ) ŷ)",
        },
    ),
    Q("1/2*norm2(y-f(X@w))**2", "w", {"w": "Xᵀ diag(f'(z)^∘2 − (y − ŷ) ∘ f''(z)) X"}),
    Q(
        "sum(tanh(X@w)**2)",
        "w",
        {"w": "Xᵀ diag(2 (1 − tanh(z)^∘2)^∘2 − 4 tanh(z)^∘2 ∘ (1 − tanh(z)^∘2)) X"},
    ),
    Q("sum(softplus(x))", "x", {"x": "diag(σ(x) ∘ (1 − σ(x)))"}),
    Q("sum(relu(X@w))", "w", {"w": "0"}),
    Q("sum(alpha*relu(W@x))", "W", {"W": "0"}, vectors="alpha"),
]
QUESTIONS = [*REGRESSION, *LIKELIHOODS, *FORMS, *NEURONS]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_the_published_form_is_what_comes_out(question: Question) -> None:
    d = hesse.derive(question.text, wrt=question.wrt)
    for (rows, columns), form in question.blocks.items():
        assert d.block(rows, columns).matrix() == form
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
