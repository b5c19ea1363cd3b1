"""Costs that are no networks: their parts have names, and each rule has a line."""

import pytest
import torch

import hesse
from hesse.derivation.show.given import all_lines

# What is given of a matrix, the names of a cost in order, and the rules of its lines.
NAMED = [
    (
        "x.T@A@x/(x.T@x)",
        "A == A.T",
        "α β λ g J",
        "quotient, product, power, put in, name, linear",
        "start, quotient, sum, known, put in, power, put in, collect",
    ),
    (
        "norm2(A@x - b)",
        (),
        "r n J",
        "power, linear, put in, linear",
        "start, product, power, linear, put in, known, collect",
    ),
    (
        "sum((b - A@x)**2)",
        (),
        "r J",
        "power, linear, put in",
        "start, chain, linear, collect",
    ),
    (
        "(x.T@b)/sqrt(x.T@A@x)",
        "A > 0",
        "α v s q J",
        "quotient, linear, power, product, put in, put in, linear",
        "start, sum, power, product, put in, quotient, linear, put in, collect",
    ),
]


@pytest.mark.parametrize(("text", "given", "names", "first", "second"), NAMED)
def test_each_rule_has_a_line(text, given, names, first, second) -> None:
    d = hesse.derive(text, wrt="x", given=given)
    assert [quantity.name for quantity in d.program.quantities] == names.split()
    rules = [
        ", ".join(line.rule.removesuffix(" rule") for line in lines)
        for lines in (d.slopes["x"].lines, d.block("x", "x").lines)
    ]
    assert rules == [first, second]
    # What a line brings in that the one before it did not have.
    for line in all_lines(d):
        before = {term.factors for term in line.before.terms}
        assert sum(term.factors not in before for term in line.after.terms) <= 4


# A part of a quotient that is used beside it is no part of it alone.
SHARED = "((A@x-b).T@B@(A@x-b)+1)/norm2(A@x-b)**2*(A@x-b).T@B@(A@x-b)"


@pytest.mark.parametrize(
    ("text", "stagewise"),
    [
        ("x.T@A@x/(x.T@x)", True),
        ("norm2(A@x - b)", True),
        ("(x.T@b)/(norm2(x)*norm2(b))", True),
        (SHARED, True),
        (SHARED, False),
    ],
)
def test_values_are_right_in_either_way(text: str, stagewise: bool) -> None:
    d = hesse.derive(text, wrt="x", stagewise=stagewise)
    assert d.certificate is not None and d.certificate.block_deviation < 1e-10


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [
        ("log(x*y)**2", -0.5, -2.0),
        ("log(x/y)**2", -0.5, -2.0),
        ("log(x**2*y)**2", -0.5, 2.0),
        ("log(abs(x)*y**2)**2", -0.5, -2.0),
        ("log(x**3*exp(y))**2", 0.5, -2.0),
        ("log(sqrt(x)*y**x)**2", 0.5, 2.0),
    ],
)
def test_a_logarithm_taken_apart_is_right_for_negative_factors(text, x, y) -> None:
    d = hesse.derive(text, wrt="x", shapes="x[] y[]")
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    names = {"x": at, "y": torch.tensor(y, dtype=torch.float64)}
    words = {name: getattr(torch, name) for name in ("log", "exp", "sqrt", "abs")}
    slope = torch.autograd.grad(eval(text, words | names), at, create_graph=True)[0]
    right = torch.autograd.grad(slope, at)[0].item()
    found = d.block("x", "x").evaluate(x=x, y=y)
    assert abs(float(found) - right) < 1e-12 * abs(right)
