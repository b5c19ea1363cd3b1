"""The reference is itself checked: by central differences of the gradient along a random
direction."""

import pytest
import torch

import reference
from cases import CASES, Case, cost_of


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_central_differences(case: Case) -> None:
    expected = reference.expected_hessian(case)
    direction = torch.randn(
        len(expected), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    differences = reference.gradient_differences(
        case.problem(), cost_of(case).layout.names, direction
    )
    assert reference.relative(differences, expected @ direction) < 1e-6


def test_every_row_has_its_own_name_and_its_own_numbers() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    case = CASES[0]
    assert torch.equal(case.problem().data[0], case.problem().data[0])
    assert torch.equal(case.problem().model[0].weight, case.problem().model[0].weight)
