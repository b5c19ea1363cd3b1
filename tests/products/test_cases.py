"""The matrix-free operator over the table of cases: every product equals that of the dense
reference."""

import pytest
import torch

import hesse
from cases import CASES, Case, cost_of
from reference import expected_hessian, relative


@pytest.mark.some(of=2)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator_times_identity_is_the_hessian(case: Case) -> None:
    expected = expected_hessian(case)
    found = hesse.operator(cost_of(case)) @ torch.eye(len(expected), dtype=torch.float64)
    assert relative(found, expected) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator_times_a_vector_and_a_dictionary(case: Case) -> None:
    cost, expected = cost_of(case), expected_hessian(case)
    operator = hesse.operator(cost)
    vector = torch.randn(
        len(expected), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    assert relative(operator @ vector, expected @ vector) < 1e-10
    by_name = operator @ cost.layout.unflatten(vector)
    assert relative(cost.layout.flatten(by_name), expected @ vector) < 1e-10
