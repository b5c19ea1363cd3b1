"""The program of a cost has the value of the cost, and reads as a person would write it."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from derivation.expressions import CASES, Case
from derivation.strategies import Drawn, costs
from derivation.surface import arrays, evaluate, functions
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.sources.language import program


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_program_has_the_value_of_the_text(case: Case) -> None:
    found, wrt = program(case.text, case.parameters, case.shapes, case.given)
    assert wrt == case.parameters
    for seed in (0, 1):
        values = arrays(found, seed, case.positive)
        expected = evaluate(case.text, found, values, case.given)
        value = Valuation(found, values, functions(found)).value(found.cost.name)
        assert torch.isfinite(expected)
        assert relative(value, expected) < 1e-12


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(costs())
def test_any_program_has_the_value_of_its_text(drawn: Drawn) -> None:
    case = drawn.case
    found, _ = program(case.text, case.parameters, case.shapes)
    values = arrays(found)
    expected = evaluate(case.text, found, values)
    value = Valuation(found, values, functions(found)).value(found.cost.name)
    assert relative(value, expected) < 1e-9
