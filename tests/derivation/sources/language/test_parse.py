"""Text to tree and back, and what is refused."""

from fractions import Fraction

import pytest
from hypothesis import given, settings

from derivation.expressions import CASES, Case
from derivation.strategies import Drawn, costs, trees
from hesse.derivation.sources.language.parsing import DEEPEST, parse
from hesse.derivation.sources.language.tree import (
    Binary,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
    decimal,
    unparse,
)
from hesse.derivation.sources.language.tree import (
    FunctionCall as Call,
)
from hesse.errors import HesseValueError

x, y, z = map(Symbol, "xyz")
few = settings(max_examples=200, deadline=None)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x", x),
        ("0.5", Number(Fraction(1, 2))),
        ("1e-3", Number(Fraction(1, 1000))),
        ("0.1", Number(Fraction(1, 10))),
        ("0x10", Number(Fraction(16))),
        ("1_000", Number(Fraction(1000))),
        ("-x**2", Negative(Binary("**", x, Number(Fraction(2))))),
        ("+x", x),
        ("x - y - z", Binary("-", Binary("-", x, y), z)),
        ("x @ y * z", Binary("*", Binary("@", x, y), z)),
        ("x.T.T", Transpose(Transpose(x))),
        ("f(x)", Call("f", x)),
        ("σ_1(x)", Call("σ_1", x)),
        ("phi(x)", Call("phi", x)),
        ("sum(x, axis=-1)", Call("sum", x, -1)),
        ("sum(x, 0)", Call("sum", x, 0)),
        ("  x\n  + y ", Binary("+", x, y)),
        ("x − y·z", Binary("-", x, Binary("*", y, z))),
    ],
)
def test_read(text: str, tree: Tree) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)",
        "(-x)**2 - x**-2**y",
        "x - (y - z) - (x + y)",
        "x/(y*z)*(x/y)",
        "(x @ y).T @ (x + y).T",
        "-(x*y) + -x*y",
        "(x**y)**z",
        "(2).T",
        "log_softmax(X @ W, axis=0)",
    ],
)
def test_no_parentheses_but_those_needed(text: str) -> None:
    assert unparse(parse(text)) == text
    for opening in (
        k
        for k, letter in enumerate(text)
        if letter == "(" and (k == 0 or not text[k - 1].isalnum())
    ):
        closing = opening + _length(text[opening:])
        without = f"{text[:opening]}{text[opening + 1 : closing]}{text[closing + 1 :]}"
        assert without == "2.T" or parse(without) != parse(text)


def _length(text: str) -> int:
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return k
    raise AssertionError(text)


@few
@given(trees())
def test_printing_and_reading_again_gives_the_same_tree(tree: Tree) -> None:
    assert parse(unparse(tree)) == tree


@few
@given(costs())
def test_the_same_for_costs(drawn: Drawn) -> None:
    tree = parse(drawn.text)
    assert parse(unparse(tree)) == tree


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_for_the_table(case: Case) -> None:
    tree = parse(case.text)
    assert parse(unparse(tree)) == tree


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(1, 8), "0.125"),
        (Fraction(7, 50), "0.14"),
        (Fraction(1200), "1200"),
    ],
)
def test_decimal(value: Fraction, text: str) -> None:
    assert decimal(value) == text


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(-1)])
def test_a_number_that_cannot_be_written(value: Fraction) -> None:
    with pytest.raises(ValueError, match="cannot be written as a decimal number"):
        decimal(value)


# ---------------------------------------- bad input: the text, the place, and what is said

REFUSED = [
    ("__import__('os')", "__import__", "two underscores in a row"),
    ("sum(x__y)", "x__y", "two underscores in a row"),
    ("x.__class__", "x.__class__", "of attributes only .T is"),
    ("x.shape", "x.shape", "'.shape' is not part of the language"),
    ("lambda x: x", "lambda x: x", "an unknown function is called by a name"),
    (
        "lambda*sum(w**2)",
        "lambda",
        "'lambda' is a reserved word, choose another name, such as lam or λ",
    ),
    ("sum(x[::2])", "x[::2]", "give another part a name of its own"),
    ("sum(x[2:1])", "x[2:1]", "a slice of no entries"),
    ("sum(x[-2:3])", "x[-2:3]", "or of how many is not known"),
    ("sum(x[n:])", "n", "a whole number that is written out"),
    ("sum(x[1, i])", "x[1, i]", "give another part a name of its own"),
    ("sum(x) == 1", "sum(x) == 1", "belongs in given="),
    ("sum(x^2)", "x^2", "a power is written x**2"),
    ("x // y", "x // y", "a quotient is written x/y"),
    ("J = x**2", "=", "write only what stands right of the ="),
    ("(j := 3)", "j := 3", "not part of the language"),
    ("x if y else z", "x if y else z", "one formula"),
    ("[x, y]", "[x, y]", "give the array a name"),
    ("x, y", "x, y", "write one cost"),
    ("'text'", "'text'", "names, numbers"),
    ("x + True", "True", "names, numbers"),
    ("2j", "2j", "names, numbers"),
    ("x and y", "x and y", "names, numbers"),
    ("[k for k in x]", "[k for k in x]", "names, numbers"),
    ("f'{x}'", "f'{x}'", "names, numbers"),
    ("sum((y - sigmod(W @ x))**2)", "sigmod", "did you mean 'sigmoid'?"),
    ("θ + tanhh(θ)", "tanhh", "did you mean 'tanh'?"),
    ("Sigmoid(x)", "Sigmoid", "did you mean 'sigmoid'?"),
    ("eval(x)", "eval", "unknown function 'eval'"),
    ("activation(x)", "activation", "a letter with or without a subscript, such as f"),
    ("ln(x)", "ln", "the natural logarithm is log"),
    (
        "norm(x, 1)",
        "norm(x, 1)",
        "norm() takes u, axis; got 2 arguments; the 1-norm is sum(abs(x))",
    ),
    ("||A @ x - b||", "||", "a norm is written norm2(A @ x - b)"),
    ("‖x‖**2", "‖", "a norm is written norm2(A @ x - b)"),
    ("sum(|x|)", "|", "an absolute value is written abs(x)"),
    ("x' @ A @ x", "'", "a transpose is written x.T"),
    ("x^T @ A @ x", "x^T @ A @ x", "a power is written x**2, and a transpose x.T"),
    ("xᵀ @ A @ x", "ᵀ", "a transpose is written x.T"),
    ("x^T A x", "^T", "a transpose is written x.T, and a product A @ x"),
    ("sin x", "sin x", "a function is called with parentheses: sin(x)"),
    ("Σ x", "Σ x", "a sum is written sum(x), a product prod(x)"),
    ("x²", "²", "a power is written x**2"),
    ("\\frac{1}{2} x", "\\frac", "what is written for LaTeX is not read"),
    ("clip(x)", "clip(x)", "clip() takes u, low, high; low is missing"),
    ("clip(x, 0, 1, 2)", "clip(x, 0, 1, 2)", "clip() takes u, low, high; got 4 arguments"),
    ("huber(x, width=2)", "2", "huber() takes u, delta; not width"),
    ("where(x, 1, 2)", "x", "where() takes a condition such as x > 0"),
    ("where(*x)", "*x", "names, numbers"),
    ("roll(x)", "roll", "write P @ x with a matrix P"),
    ("einsum('ij,jk', A)", "'ij,jk'", "letters for each of 1 arrays"),
    ("einsum(A, B)", "einsum(A, B)", 'einsum is written einsum("ij,jk->ik", A, B)'),
    ("sum(x[i, j, k])", "x[i, j, k]", "there are rows and columns, U[i] and U[:, j]"),
    ("max(x)", "max", "max is not differentiable where two entries tie; logsumexp"),
    ("argmax(x)", "argmax", "not differentiable"),
    ("round(x)", "round", "not differentiable where it jumps"),
    ("floor(x)", "floor", "not differentiable where it jumps"),
    (
        "f(x, y)",
        "y",
        "f() takes one argument and got 2; an unknown function is applied to each entry",
    ),
    ("exp(x, y)", "y", "exp() takes one argument and got 2"),
    ("sum()", "sum()", "sum() needs an argument"),
    ("sum(x, dim=1)", "1", "sum() has no argument dim; only axis= is allowed"),
    ("exp(x, axis=1)", "1", "exp() has no argument axis; it takes one argument and nothing else"),
    ("sum(x, axis=k)", "k", "axis must be a whole number that is written out"),
    ("sum(x, axis=1.0)", "1.0", "axis must be a whole number that is written out"),
    ("f(*x)", "*x", "names, numbers"),
    (
        "x.T()",
        "x.T",
        "only a function with a plain name can be called; a product is written with *",
    ),
    ("np.sum(x**2)", "np.sum", "only a function with a plain name can be called; write sum(x)"),
    (
        "(x**2).sum()",
        "(x**2).sum",
        "only a function with a plain name can be called; write sum(x ** 2)",
    ),
    ("f(x) + f", "f", "'f' is also called as a function"),
    ("sum + 1", "sum", "'sum' is a function; call it"),
    ("x + 1e999", "1e999", "beyond the range of float64"),
    ("x + 1e-999", "1e-999", "beyond the range of float64"),
    ("x # y", "# y", "a comment"),
    ("2x", "2", "products are written out"),
    ("x y", "y", "products are written out"),
    ("sum((x)", "(", "was never closed"),
    ("x + ", "+", "cannot be read"),
    ("x ? y", "?", "cannot be read"),
]


@pytest.mark.parametrize(("text", "place", "said"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_refused_with_the_place(text: str, place: str, said: str) -> None:
    with pytest.raises(HesseValueError) as caught:
        parse(text)
    message, shown, carets = str(caught.value).split("\n")
    assert said in message
    assert shown == f"    {text.strip()}"
    marked = [
        letter
        for letter, caret in zip(shown, carets.ljust(len(shown)), strict=True)
        if caret == "^"
    ]
    assert "".join(marked) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the expression is empty"),
        (" \n ", "the expression is empty"),
        ("-" * 300 + "x", f"nested more than {DEEPEST} deep"),
        ("+".join(["x"] * 5000), f"nested more than {DEEPEST} deep"),
        ("(" * 300 + "x" + ")" * 300, "cannot be read"),
        ("9" * 5000, "cannot be read"),
        ("x\0y", "cannot be read"),
    ],
    ids=["empty", "blank", "signs", "terms", "parentheses", "digits", "null"],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(HesseValueError, match=said):
        parse(text)


def test_nothing_is_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    for text in (
        "print('seen')",
        "__import__('sys').stdout.write('seen')",
        "(lambda: print('seen'))()",
        "eval('1')",
        "exec('1')",
    ):
        with pytest.raises(HesseValueError):
            parse(text)
    assert capsys.readouterr().out == ""
