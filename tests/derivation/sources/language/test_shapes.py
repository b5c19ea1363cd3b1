"""Shapes as they are declared, as they are inferred, and the errors where they do not fit."""

from typing import Any

import pytest

from hesse.derivation.sources.language import program
from hesse.derivation.sources.language.declarations import declared
from hesse.derivation.sources.language.parsing import parse
from hesse.derivation.sources.language.tree import symbols
from hesse.errors import HesseError, HesseKeyError, HesseTypeError, HesseValueError

# Without the run-time check of annotations, which would be first to refuse a wrong type.
unchecked: Any = getattr(program, "__wrapped__", program)


def shapes_of(text: str, wrt: str, shapes: Any = None) -> dict[str, tuple[int | str, ...]]:
    return {name: leaf.sizes for name, leaf in program(text, wrt, shapes)[0].leaves.items()}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("W1[h,d] x[d] a[]", {"W1": ("h", "d"), "x": ("d",), "a": ()}),
        ("W1[ h , 3 ], x[3,]\n y[]", {"W1": ("h", 3), "x": (3,), "y": ()}),
        ({"X": ("n", 4), "b": []}, {"X": ("n", 4), "b": ()}),
        (None, {}),
        ("", {}),
    ],
)
def test_declarations(given: Any, found: dict[str, Any]) -> None:
    assert declared(given) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "x[n",
            (
                "shapes cannot be read: write each name with its sizes in brackets, such as W[h,d]"
                " x[d] a[]\n    x[n\n    ^"
            ),
        ),
        ("x[n] 3[m]", "\n    x[n] 3[m]\n         ^"),
        ("x[n] x[m]", "the shape of 'x' is declared twice"),
        ("x[0]", "a size of 'x' is '0'; a size is a positive whole number or a letter"),
        ("x[n,,m]", "a size of 'x' is ''"),
        ("x[-1]", "a size of 'x' is '-1'"),
        ({"x": (2.5,)}, "a size of 'x' is 2.5"),
        ({"x": (True,)}, "a size of 'x' is True"),
        ("__x__[n]", "'__x__' cannot be the name of an array"),
        ("sum[n]", "'sum' cannot be the name of an array"),
        ("x[n] n[]", "'n' is declared as an array and used as a size"),
    ],
)
def test_declarations_that_are_refused(given: Any, said: str) -> None:
    with pytest.raises(HesseValueError) as caught:
        declared(given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wrt", "shapes", "found"),
    [
        # As the expression forces it, from the innermost array on.
        (
            "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)",
            "W1",
            None,
            {"y": ("m",), "W2": ("m", "h"), "W1": ("h", "d"), "x": ("d",)},
        ),
        ("x.T @ A @ x", "x", None, {"x": ("d",), "A": ("d", "d")}),
        ("1/2*(y - f(w2*f(w1*x)))**2", "w1", None, {"y": (), "w2": (), "w1": (), "x": ()}),
        ("lam*sum((X @ w)**2)", "w", None, {"lam": (), "X": ("h", "d"), "w": ("d",)}),
        ("logdet(X)", "X", None, {"X": ("d", "d")}),
        ("b @ inv(A) @ b", "A", None, {"b": ("d",), "A": ("d", "d")}),
        ("K*x**2", "x", None, {"K": (), "x": ()}),
        ("trace(A @ B)", "A", None, {"A": ("h", "d"), "B": ("d", "h")}),
        # What is declared decides; sizes that are not take letters that stand for nothing else.
        ("sum((y - X @ w)**2)", "w", "X[100,d]", {"y": (100,), "X": (100, "d"), "w": ("d",)}),
        ("sum((Y - X @ W)**2)", "W", "X[n,h]", {"Y": ("n", "d"), "X": ("n", "h"), "W": ("h", "d")}),
        ("sum(d*h @ x)", "x", None, {"d": (), "h": ("m",), "x": ("m",)}),
        ("sum(w*x)", "w", "w[] x[n]", {"w": (), "x": ("n",)}),
        ("sum(A + b)", "A", "A[n,d]", {"A": ("n", "d"), "b": ()}),
        ("sum(A + b)", "A", "A[n,d] b[n,1]", {"A": ("n", "d"), "b": ("n", 1)}),
        # Only then the case of the letter: a vector, a matrix.
        ("sum(x**2) + sum(M**2)", "x", None, {"x": ("d",), "M": ("m", "h")}),
        # A parameter that does not occur.
        ("sum(x)", "x b V", "x[n] b[d] V[m,h]", {"x": ("n",), "b": ("d",), "V": ("m", "h")}),
        ("1/n*sum(x)", "x", "x[n]", {"x": ("n",)}),
        # Nobody takes the norm of a number, or two of them for an outer product.
        ("x/norm(x)", "x", None, {"x": ("d",)}),
        ("outer(x, x) @ y", "x", None, {"x": ("d",), "y": ("d",)}),
    ],
)
def test_inferred(text: str, wrt: str, shapes: str | None, found: dict[str, Any]) -> None:
    assert shapes_of(text, wrt, shapes) == found


@pytest.mark.parametrize(
    ("text", "shapes", "said", "place"),
    [
        (
            "sum(a @ B) + sum(B @ a)",
            "a[n] B[n,m]",
            "shapes do not fit in B @ a: B of shape (n, m) and a of shape (n,); m and n differ",
            "B @ a",
        ),
        (
            "sum(a*b)",
            "a[n,m] b[n]",
            "in a*b: a of shape (n, m) and b of shape (n,); m and n differ",
            "a*b",
        ),
        (
            "sum(θ) + sum(a - b)",
            "θ[k] a[3] b[4]",
            "in a - b: a of shape (3,) and b of shape (4,); 3 and 4 differ",
            "a - b",
        ),
        (
            "sum(a @ b)",
            "a[] b[n]",
            "@ is for vectors and matrices; multiply by a scalar with *",
            "a @ b",
        ),
        (
            "x @ a",
            "a[]",
            "in x @ a: x (of any shape) and a (a scalar); @ is for vectors and matrices",
            "x @ a",
        ),
        ("logdet(X)", "X[n,d]", "in logdet(X): X of shape (n, d); n and d differ", "logdet(X)"),
        ("trace(x)", "x[n]", "trace is for square matrices", "trace(x)"),
        ("sum(x, axis=1)", "x[n]", "sum acts along axis 1, which is not there", "sum(x, axis=1)"),
        ("softmax(a)*a", "a[]", "softmax needs at least one axis", "softmax(a)"),
        ("sum(T.T)", "T[2,3,4]", ".T is for scalars, vectors and matrices", "T.T"),
        ("sum(diag(T))", "T[2,3,4]", "diag is for a vector", "diag(T)"),
        ("sum(A + eye(x))", "x[n] A[n,n]", "eye takes a size", "x"),
        ("sum(eye(2.5))*x", None, "eye takes a size", "2.5"),
        ("a*sum(x)/0", None, "division by zero", "a*sum(x)/0"),
        ("x/(1 - 1)", None, "division by zero", "x/(1 - 1)"),
        ("x*9**9**9", None, "too many digits to be kept exact", "9**9**9"),
        ("x*1.001**300", None, "too many digits to be kept exact", "1.001**300"),
    ],
)
def test_shapes_that_do_not_fit(
    text: str, shapes: str | None, said: str, place: str | None
) -> None:
    with pytest.raises(HesseValueError) as caught:
        program(text, symbols(parse(text))[0], shapes)
    message, shown, carets = str(caught.value).split("\n")
    assert said in message
    assert shown == f"    {text}"
    assert "".join(
        letter
        for letter, caret in zip(shown, carets.ljust(len(shown)), strict=True)
        if caret == "^"
    ) == (place or text)


@pytest.mark.parametrize(
    ("text", "wrt", "shapes", "given", "error", "said"),
    [
        (
            "sum(eye(k))*x",
            "x",
            None,
            (),
            HesseValueError,
            "'k' is a size of no array in the expression",
        ),
        (
            "sum(x)",
            "x",
            "x[n] q[m]",
            (),
            HesseKeyError,
            "shapes declares 'q', which is neither in the expression nor in wrt",
        ),
        (
            "sum(W @ x)",
            "w",
            None,
            (),
            HesseKeyError,
            "wrt names 'w', which does not occur in the expression; did you mean 'W'?",
        ),
        ("sum(weight @ x)", "wieght", None, (), HesseKeyError, "did you mean 'weight'?"),
        ("sum(x)", "", None, (), HesseValueError, "wrt is empty; name the parameters"),
        ("sum(x)", [], None, (), HesseValueError, "wrt is empty"),
        (
            "sum(x)",
            ["x.T"],
            None,
            (),
            HesseValueError,
            "wrt names 'x.T', which cannot be the name of an array",
        ),
        ("sum(x)", [3], None, (), HesseTypeError, "wrt must hold names; got 3"),
        (
            "1/n*sum(x)",
            "n x",
            "x[n]",
            (),
            HesseValueError,
            "wrt names 'n', which is the letter of a size",
        ),
        ("sum(x)", "x", 3, (), HesseTypeError, "shapes must be text"),
        (3, "x", None, (), HesseTypeError, "the cost must be text"),
        (
            "sum(x)",
            "x",
            None,
            "x == 1",
            HesseValueError,
            "given says something of 'x', which is in wrt",
        ),
        (
            "sum(x*y)",
            "x",
            None,
            "y = 1",
            HesseValueError,
            "given holds 'y = 1'; a fact is written like one of 'Omega == 1', 'sum(y) == 1'",
        ),
        ("sum(x*y)", "x", None, "y == q", HesseValueError, "what can be given is"),
        ("sum(x*y)", "x", None, "sum(y) == 0.5", HesseValueError, "what can be given is"),
        (
            "sum(x*y)",
            "x",
            None,
            ["sum(q) == 1"],
            HesseKeyError,
            "given names 'q', which does not occur in the expression; there are",
        ),
        ("sum(x*y)", "x", None, [3], HesseTypeError, "given must hold text"),
        (
            "a*sum(x)",
            "x",
            None,
            "sum(a) == 1",
            HesseValueError,
            "'a', which is a scalar; write 'a == 1'",
        ),
        (
            "sum(A @ x)",
            "x",
            None,
            "sum(A, axis=0) == 1",
            HesseValueError,
            "it can be that along the last axis, 1",
        ),
        (
            "sum(A*x)",
            "x",
            None,
            "A == 1",
            HesseValueError,
            "given replaces 'A' by a number, and no other array has its size",
        ),
    ],
)
def test_bad_input(
    text: Any, wrt: Any, shapes: Any, given: Any, error: type[HesseError], said: str
) -> None:
    with pytest.raises(error) as caught:
        unchecked(text, wrt, shapes, given)
    assert said in str(caught.value)
