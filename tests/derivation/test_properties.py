"""What holds of every derivation, over random costs: certified, the same numbers in every way,
written within its page."""

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import hesse
from derivation.expressions import Case
from derivation.show.tex import check
from derivation.strategies import Drawn, costs
from derivation.surface import evaluate
from hesse.derivation.calculus.expression import Apply, Expression, Factor, Group, Power, indices
from hesse.derivation.check.valuation import relative
from hesse.derivation.code.binding import differentiated
from hesse.derivation.show.matrix import evaluate as value_of
from hesse.derivation.show.matrix import matrix_form

TOLERANCE = 1e-9
OF_TORCH = 1e-8  # which has the derivatives of lgamma and digamma to some eight digits
# An array of each library that code is printed for. JAX is no dependency; it is tried where it is.
LIBRARY: dict[str, Callable[[Tensor], Any]] = {"numpy": Tensor.numpy, "torch": torch.as_tensor}
if find_spec("jax"):
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)
    LIBRARY["jax"] = lambda array: jax.numpy.asarray(array.numpy())

# Found by such searches: numbers beside arrays of the same axes, which are summed over; blocks of
# zeros of different sizes; a slope g_i = Σ_i y_i.
HARD = (
    Case("two blocks of zeros", "sum(A) - trace(S)", "A S", "A[n,m] S[n,n]"),
    Case("numbers beside a sum", "log(1 + u**2) @ (u/(1 + a**2))", "a", "u[m] a[]"),
    Case("a trace beside a number", "trace((S @ S)/(1 + a**2))", "a", "S[n,n] a[]"),
    Case("a slope that is one number", "sum(y)**2/(1 + sum(x)**2)", "x y", "x[n] y[n]"),
    Case("a sum over letters of the sum around it", "std(B - mean(B) - mean(B - mean(B)))", "B"),
    Case(
        "a condition on a parameter, by layers",
        "sum(minimum(maximum(x - mean(x), where(y > 1/3, -x, x)), minimum(maximum(x - mean(x), y),"
        " minimum(x, y*x))))",
        "y",
        "x[n] y[n]",
    ),
    Case("a square of a product", "sqrt(1 + (x @ y)**2)", "x y", "x[n] y[n]"),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(costs(4))
def test_every_way_to_the_numbers_is_the_same(drawn: Drawn) -> None:
    assert_same_in_every_way(drawn.case)


@pytest.mark.parametrize("case", HARD, ids=lambda case: case.name.replace(" ", "-"))
def test_what_once_was_not_the_same(case: Case) -> None:
    assert_same_in_every_way(case)


def assert_same_in_every_way(case: Case) -> None:
    """The value and the second derivatives of the text, by PyTorch alone; certified, evaluated,
    printed and run, and read as a matrix: each time the same array."""
    d = hesse.derive(case.text, case.parameters, shapes=case.shapes)
    assert d.at is not None and d.certificate is not None and d.certificate.block_deviation < 1e-8
    leaves = {name: d.at.value(name) for name in d.program.leaves}
    functions = {name: differentiated(d.at.functions[name]) for name in d.program.unknown}
    for rows in d.parameters:
        block = d.block(rows, d.parameters[-1])
        expected = d.at.array(block.expression, block.indices)
        assert relative(of_text(d, case, rows, d.parameters[-1]), expected) < OF_TORCH
        assert relative(block.evaluate(**leaves, **functions), expected) < TOLERANCE
        for backend in LIBRARY:
            found = printed(block.python(backend), backend, leaves, functions)
            assert relative(found, expected) < TOLERANCE
        form = matrix_form(block.expression, block.rows.indices, block.columns.indices, d.program)
        if form is not None:
            found = value_of(form, d.at)
            assert relative(found, expected.reshape(found.shape)) < TOLERANCE


def of_text(d: hesse.Derivation, case: Case, rows: str, columns: str) -> Tensor:
    """The second derivatives of a cost as it is written, at the point of its certificate."""
    assert d.at is not None
    program, at = d.program, d.at
    leaves = {name: at.value(name) for name, leaf in program.leaves.items() if leaf.is_given}
    parameters = {name: leaves[name].clone().requires_grad_() for name in (rows, columns)}
    value = evaluate(case.text, program, {**leaves, **parameters})
    if not value.requires_grad:
        return torch.zeros((*leaves[rows].shape, *leaves[columns].shape), dtype=torch.float64)
    (slope,) = torch.autograd.grad(
        value, parameters[columns], create_graph=True, materialize_grads=True
    )
    every = [
        torch.autograd.grad(each, parameters[rows], retain_graph=True, materialize_grads=True)[0]
        if each.requires_grad
        else torch.zeros_like(parameters[rows])
        for each in slope.reshape(-1)
    ]
    stacked = torch.stack(every, -1)
    return stacked.reshape((*parameters[rows].shape, *parameters[columns].shape))


def printed(
    source: str, backend: str, leaves: dict[str, Tensor], functions: dict[str, tuple[Callable, ...]]
) -> Tensor:
    """What printed code computes."""
    space: dict[str, Any] = {}
    exec(compile(source, "<printed>", "exec"), space)
    function = space["hessian_block"]
    given = LIBRARY[backend]
    names: dict[str, Any] = {name: given(array) for name, array in leaves.items()}
    for name, made in functions.items():
        for prefix, each in zip(("", "d", "d2"), made, strict=True):
            names[prefix + name] = lambda z, each=each: given(each(torch.as_tensor(numpy.array(z))))
    found = function(**{name: names[name] for name in inspect.signature(function).parameters})
    return torch.as_tensor(numpy.array(found))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(costs(4))
def test_every_page_is_within_its_width_and_every_letter_means_one_thing(drawn: Drawn) -> None:
    case = drawn.case
    d = hesse.derive(case.text, case.parameters, shapes=case.shapes, certify=False)
    for reading in ("indices", "matrix", "scalar"):
        assert max(len(line) for line in d.text(reading).splitlines()) <= 100
    check(d.latex())
    for block in d:
        assert_no_letter_twice(
            block.expression,
            {index.name for index in (*block.rows.indices, *block.columns.indices)},
        )


@pytest.mark.parametrize(
    "text", ["norm2(x)", "x @ y/(norm2(x)*norm2(y))", "sum((y @ x - sqrt(1 + x @ x)*x)**2)"]
)
def test_sums_within_a_quotient_run_over_letters_of_their_own(text: str) -> None:
    d = hesse.derive(text, "x", shapes="x[d]" + " y[d]" * ("y" in text))
    block = d.block("x", "x")
    assert_no_letter_twice(block.expression, {index.name for index in block.indices})


def assert_no_letter_twice(expression: Expression, seen: set[str]) -> None:
    """No sum runs over a letter that already means something around it."""
    for term in expression.terms:
        own = {index.name for index in term.bound}
        assert not own & seen
        around = seen | own | {index.name for index in indices(term)}
        for factor in term.factors:
            for body in _inside(factor):
                assert_no_letter_twice(body, around)


def _inside(factor: Factor) -> list[Expression]:
    match factor:
        case Group(body):
            return [body]
        case Power(base, exponent):
            return [*_inside(base), exponent]
        case Apply(_, _, argument):
            return _inside(argument)
        case _:
            return []
