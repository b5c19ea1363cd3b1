"""The rule of a line is the one that was applied: held against what stands on its left."""

from collections.abc import Iterator

import pytest

import hesse
from derivation.expressions import CASES, Case
from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Factor,
    Group,
    Partial,
    Power,
    Term,
    of,
)
from hesse.derivation.calculus.program import Program, names_in
from hesse.derivation.lines.records import Line


def rule_of(d: hesse.Derivation, rows: str, columns: str, quantity: str) -> str:
    """The rule by which a block differentiates a quantity by its rows."""
    for line in d.steps(rows, columns):
        match differentiated(line):
            case Entry(name), Entry(variable) if (name, variable) == (quantity, rows):
                return line.rule
    raise AssertionError(f"no line differentiates {quantity}")


def differentiated(line: Line) -> tuple[Factor, Entry] | None:
    """What is differentiated on the left of a line, and by what."""
    match line.before:
        case Expression((Term(1, (Partial(of, (by,)),), ()),)):
            return of, by
    return None


@pytest.mark.parametrize(
    ("inside", "rule"),
    [
        ("x**2 + tanh(x)", "sum rule"),
        ("x**2 + 3*x", "sum rule"),
        ("x**2 + x**3", "power rule"),
        ("tanh(x) + sin(x)", "chain rule"),
        ("x + y", "linear"),
        ("y*x", "linear"),
        ("x*tanh(x)", "product rule"),
        ("x*tanh(x) + x", "sum rule"),
        ("y*tanh(x)", "chain rule"),
        ("x/(1 + x**2)", "product rule"),
        ("y/(1 + x**2)", "power rule"),
        ("(x + y)**3", "power rule"),
        ("x**y", "power rule"),
        ("y**x", "exponential rule"),
        ("x**x", "general power rule"),
        ("tanh(x + y)", "chain rule"),
        ("y*(x**2 + tanh(x))", "sum rule"),
    ],
)
def test_a_quantity_is_differentiated_by_the_rule_that_its_line_names(inside, rule):
    d = hesse.derive(f"sum(exp({inside}) + y)", wrt=["x", "y"], shapes="x[d] y[d]", certify=False)
    names = [q.name for q in d.program.quantities if q.role in ("value", "preactivation")]
    assert rule_of(d, "x", "x", names[-1]) == rule


def test_the_line_of_a_sum_names_the_rules_of_its_terms():
    d = hesse.derive("sum(exp(x**2 + tanh(x)))", wrt=["x"])
    (line,) = [line for line in d.steps("x", "x") if line.rule == "sum rule"]
    assert line.reason.endswith("power rule and chain rule")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("sum(exp(x)*sin(x))", "product rule"),
        ("sum(x**3 + sin(x))", "sum rule"),
        ("x @ A @ x", "derivative"),
        ("sum(x**3)", "derivative"),
        ("sum(x**3) + sum(x**4)", "derivative"),
    ],
)
def test_a_first_derivative_is_differentiated_by_the_rule_that_its_line_names(text, rule):
    assert hesse.derive(text, wrt=["x"], certify=False).steps("x", "x")[1].rule == rule


def test_a_function_of_a_whole_array_gives_its_rule_and_its_reason():
    d = hesse.derive("-sum(y*log(softmax(z)))", wrt=["z"], given="sum(y) == 1")
    (line,) = [line for line in d.steps("z", "z") if line.rule == "softmax rule"]
    assert line.reason


# ---------------------------------------------------------------- every line of every case


def moving(value: Expression, program: Program, by: str) -> Iterator[list[Factor]]:
    """For each term that moves, its factors that do; where that is one in parentheses, for each of
    the terms in them."""
    for term in value.terms:
        factors = [factor for factor in term.factors if program.depends(factor, by)]
        match factors:
            case []:
                continue
            case [Group(body)]:
                yield from moving(body, program, by)
            case _:
                yield factors


def kind(factors: list[Factor], program: Program, by: str) -> str:
    """The rule for the factors of one term that move."""
    match factors:
        case [Power(base, exponent)]:
            moved = program.depends(base, by), program.depends(exponent, by)
            return {
                (True, False): "power rule",
                (False, True): "exponential rule",
                (True, True): "general power rule",
            }[moved]
        case [Apply()]:
            return "chain rule"
        case [Entry()]:
            return "linear"
    return "product rule"


def applied(value: Expression, program: Program, by: str) -> Iterator[str]:
    """The rules that a sum is differentiated by, those within each other as well."""
    for factors in moving(value, program, by):
        yield kind(factors, program, by)
        for factor in factors:
            match factor:
                case Power(base, exponent):
                    yield from applied(of(base), program, by)
                    yield from applied(exponent, program, by)
                case Apply(_, _, argument):
                    yield from applied(of(argument), program, by)
                case Group(body):
                    yield from applied(body, program, by)


def defined(of_line: Factor, program: Program) -> Expression | None:
    """What stands under a derivative, as a sum; None of a map that is no sum."""
    match of_line:
        case Entry(name) if name in program.by_name:
            value = program.by_name[name].definition
            return value if isinstance(value, Expression) else None
        case Group(body):
            return body
    return of(of_line)  # a single factor, as exp(z), stands without parentheses


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_every_rule_fits_what_stands_on_the_left_of_its_line(case: Case):
    d = case.derivation
    slopes = [line for slope in d.slopes.values() for line in slope.lines]
    lines = [*slopes, *(line for block in d for line in block.lines)]
    sides = [(line, *side) for line in lines if (side := differentiated(line))]
    values = [(line, defined(under, d.program), by) for line, under, by in sides]
    used = {rule for _, value, by in values if value for rule in applied(value, d.program, by.name)}
    assert len(lines) >= len(used - {"linear"}), "fewer lines than rules"
    for line, value, by in values:
        if line.rule not in RULES or line in slopes:
            continue
        if value is None:
            assert line.rule == "chain rule"  # of a quantity through the one that it depends on
            continue
        moved = list(moving(value, d.program, by.name))
        kinds = {kind(factors, d.program, by.name) for factors in moved}
        if line.rule == "chain rule":
            through = names_in(value) & {
                name for name in d.program.by_name if by.name in d.program.ancestors(name)
            }
            assert through or kinds == {"chain rule"}
        elif line.rule == "sum rule":
            assert len(kinds) > 1
        else:
            assert kinds == {line.rule}


RULES = {
    "linear",
    "sum rule",
    "product rule",
    "chain rule",
    "power rule",
    "exponential rule",
    "general power rule",
}
