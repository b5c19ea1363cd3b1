"""The exact diagonal, which never builds H."""

import pytest
import torch

import hesse
from cases import CASES, Case, cost_of
from reference import expected_hessian, relative

by_name = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_diagonal(case: Case) -> None:
    cost, expected = cost_of(case), expected_hessian(case)
    found = hesse.diagonal(cost)
    assert tuple(found) == cost.layout.names
    assert [tuple(part.shape) for part in found.values()] == list(cost.layout.shapes)
    assert relative(cost.layout.flatten(found), expected.diagonal(), expected) < 1e-10


@pytest.mark.parametrize(
    "name", ["dense tanh", "conv2d average pooling", "transformer, causal mask", "batch norm train"]
)
def test_memory_changes_nothing(name: str) -> None:
    cost, expected = cost_of(by_name[name]), expected_hessian(by_name[name])
    found = hesse.diagonal(cost, memory=200_000)
    assert relative(cost.layout.flatten(found), expected.diagonal(), expected) < 1e-10


def test_results_do_not_require_a_gradient() -> None:
    assert not any(part.requires_grad for part in hesse.diagonal(cost_of(CASES[0])).values())


def test_a_sum_of_squares_has_its_weights_on_the_diagonal() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    cost = hesse.Cost.from_function(
        lambda p: (weights * p["x"] ** 2).sum() / 2, {"x": torch.ones(3)}
    )
    assert torch.equal(hesse.diagonal(cost)["x"], weights)
