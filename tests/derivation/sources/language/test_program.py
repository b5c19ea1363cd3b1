"""What a person would write first, and the names they would give."""

import re
from fractions import Fraction

import pytest

from derivation.expressions import CASES, Case
from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Group,
    Index,
    Power,
    Term,
    all_names,
    constant,
)
from hesse.derivation.calculus.program import Program, names_in
from hesse.derivation.sources.language import program
from hesse.derivation.sources.language.parsing import DEEPEST, parse
from hesse.derivation.sources.language.rewrites import Known, rewritten
from hesse.derivation.sources.language.shapes import Shapes
from hesse.derivation.sources.language.tree import unparse

ONE = Fraction(1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "z2 a2 z3 ŷ J"),
        ("1/2*(y - f(w2*f(w1*x)))**2", "z2 a2 z3 ŷ J"),
        ("1/2*sum((y - f(W3 @ f(W2 @ f(W1 @ x))))**2)", "z2 a2 z3 a3 z4 ŷ J"),
        ("1/2*sum((y - W2 @ tanh(W1 @ x + b1) - b2)**2)", "z2 a2 z3 J"),
        ("1/2*sum((W2 @ tanh(W1 @ x) - y)**2)", "z2 a2 z3 J"),
        ("-sum(y*log(softmax(W2 @ f(W1 @ x))))", "z2 a2 z3 log_softmax(z3) J"),
        ("sum((y - sigmoid(X @ w))**2)", "z ŷ J"),
        ("-sum(y*log(sigmoid(X @ w)) + (1 - y)*log(1 - sigmoid(X @ w)))", "z J"),
        ("x.T @ A @ x", "J"),
        ("logdet(X.T @ X)", "u1 logdet(u1) J"),
        ("b @ inv(A) @ b", "inv(A) J"),
        ("c @ softmax(z)", "p J"),
        ("p @ softmax(z)", "p1 J"),
        ("(y - X @ w) @ (y - X @ w)", "r J"),
        ("exp(-sum(x**2)) + sum(x**2)", "u1 u2 J"),
        ("sum(z2*f(A @ x)) + a*J", "z J1"),
    ],
)
def test_names(text: str, names: str) -> None:
    found = [quantity.name for quantity in program(text, parse_first(text))[0].quantities]
    assert sorted(found) == sorted(names.split())
    assert found[-1] == names.split()[-1]


def parse_first(text: str) -> str:
    """A parameter that occurs."""
    names = ("W1", "w1", "w", "x", "X", "A", "z")
    return next(name for name in names if re.search(rf"\b{name}\b", text))


def test_roles() -> None:
    found = program("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", ["W1", "W2"])[0]
    assert [quantity.role for quantity in found.quantities] == [
        "preactivation",
        "activation",
        "preactivation",
        "activation",
        "cost",
    ]
    assert {name: leaf.role for name, leaf in found.leaves.items()} == {
        "y": "data",
        "W2": "parameter",
        "W1": "parameter",
        "x": "data",
    }
    assert found.unknown == {"f"}


def test_a_network_reads_as_in_a_textbook() -> None:
    """z2_o = Σ_i W1[o,i] x_i, a2_o = f(z2_o), z3_p = Σ_j W2[p,j] a2_j, ŷ_p = f(z3_p), J = ½ Σ_p
    (y_p − ŷ_p)²"""
    found = program("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", ["W1", "W2"])[0]
    o, i, p, j = Index("o", "h"), Index("i", "d"), Index("p", "m"), Index("j", "h")
    residual = Group(Expression((Term(ONE, (Entry("y", (p,)),)), Term(-ONE, (Entry("ŷ", (p,)),)))))
    assert {
        quantity.name: (quantity.indices, quantity.definition) for quantity in found.quantities
    } == {
        "z2": ((o,), Expression((Term(ONE, (Entry("W1", (o, i)), Entry("x", (i,))), (i,)),))),
        "a2": ((o,), Expression((Term(ONE, (Apply("f", 0, Entry("z2", (o,))),)),))),
        "z3": ((p,), Expression((Term(ONE, (Entry("W2", (p, j)), Entry("a2", (j,))), (j,)),))),
        "ŷ": ((p,), Expression((Term(ONE, (Apply("f", 0, Entry("z3", (p,))),)),))),
        "J": ((), Expression((Term(Fraction(1, 2), (Power(residual, constant(2)),), (p,)),))),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_programs_are_well_formed(case: Case) -> None:
    found, wrt = program(case.text, case.parameters, case.shapes, case.given)
    check(found)
    assert wrt == case.parameters
    assert {name for name, leaf in found.leaves.items() if leaf.role == "parameter"} == set(wrt)


def check(found: Program) -> None:
    """Names differ; each quantity is made of what stands before it; letters mean one thing each."""
    known = set(found.leaves)
    assert found.cost.indices == ()
    for quantity in found.quantities:
        assert quantity.name not in known
        assert names_in(quantity.definition) <= known
        known.add(quantity.name)
        if not isinstance(quantity.definition, Expression):
            continue
        letters = all_names(quantity.definition) | {index.name for index in quantity.indices}
        sizes = {size for leaf in found.leaves.values() for size in leaf.sizes}
        assert not letters & (set(found.leaves) | sizes | found.unknown)
    assert len({quantity.definition for quantity in found.quantities}) == len(found.quantities)


def test_equal_parts_are_named_once() -> None:
    found = program("(x.T @ A @ x)*exp(-x.T @ A @ x) + sqrt(1 + x.T @ A @ x)", "x")[0]
    assert sum("A" in names_in(quantity.definition) for quantity in found.quantities) <= 2


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("log(sigmoid(z))", "-(softplus(z) - z)"),
        ("log(1 - sigmoid(z))", "-softplus(z)"),
        ("log(1 + exp(z))", "softplus(z)"),
        ("log(exp(-z) + 1)", "softplus(z) - z"),
        ("softplus(-X @ z)", "softplus(X @ z) - X @ z"),
        ("softplus(-y*z)", "softplus(y*z) - y*z"),
        ("1/(1 + exp(-z))", "sigmoid(z)"),
        ("1/(exp(z) + 1)", "sigmoid(-z)"),
        ("exp(z)/(1 + exp(z))", "sigmoid(z)"),
        ("log(1/(1 + exp(-z)))", "-(softplus(z) - z)"),
        ("log(softmax(z))", "log_softmax(z)"),
        ("log(softmax(Z, axis=0))", "log_softmax(Z.T).T"),
        ("log(sum(exp(z)))", "logsumexp(z)"),
        ("log(sum(exp(Z)))", "log(sum(exp(Z)))"),
        ("log(sum(exp(Z), axis=1))", "logsumexp(Z)"),
        ("log(sum(exp(Z), axis=0))", "logsumexp(Z.T)"),
        ("exp(z)/sum(exp(z))", "softmax(z)"),
        ("exp(Z)/sum(exp(Z))", "exp(Z)/sum(exp(Z))"),
        ("log(exp(z)/sum(exp(z)))", "log_softmax(z)"),
        ("log(det(Z))", "logdet(Z)"),
        ("log(abs(det(Z)))", "logdet(Z)"),
        ("log(exp(z))", "z"),
        ("norm2(z)**2", "sum(z**2)"),
        ("norm2(Z, axis=1)**2", "sum(Z**2, axis=1)"),
        ("norm2(z)**4", "sum(z**2)**2"),
        ("sqrt(z**2)", "sqrt(z**2)"),
        ("--z", "z"),
        ("z.T", "z"),
        ("Z.T.T", "Z"),
        ("inv(Z.T)", "inv(Z).T"),
        ("logdet(Z.T)", "logdet(Z)"),
        ("sum(z, axis=0)", "sum(z)"),
        ("softmax(Z, axis=1)", "softmax(Z)"),
        ("y - X @ z - y", "y - (X @ z + y)"),
    ],
)
def test_rewrites(text: str, written: str) -> None:
    shapes = Shapes(text, {"z": ("n",), "y": ("n",), "X": ("n", "n"), "Z": ("n", "n")})
    assert unparse(rewritten(parse(text), Known(lambda tree: len(shapes.of(tree))))) == written


def test_what_is_given() -> None:
    found = program(
        "sum((Omega*(T - U @ V.T))**2) + sum(y)", ["U", "V"], None, ["Omega == 1", "sum(y) == 1"]
    )[0]
    assert "Omega" not in found.leaves
    assert found.leaves["y"].sums_to == 1
    assert found.leaves["T"].sums_to is None
    assert "lam" not in program("lam/2*sum(w**2)", "w", None, "lam == 0.5")[0].leaves


@pytest.mark.parametrize(
    "text",
    [
        "+".join(["x"] * (DEEPEST - 5)),
        "+".join(f"f(a{k}*x)" for k in range(DEEPEST // 2)),
        "-" * (DEEPEST - 5) + "x",
        "sin(" * (DEEPEST // 2) + "x" + ")" * (DEEPEST // 2),
    ],
    ids=["terms", "functions", "signs", "nested"],
)
def test_as_deep_as_can_be(text: str) -> None:
    check(program(text, "x")[0])
