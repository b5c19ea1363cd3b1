"""The exact diagonal, which never builds H."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import hesse
from cases import CASES, Case, cost_of
from hesse.errors import HesseKeyError
from hesse.exact.planning import diagonal_plan
from hesse.process.rates import Rates
from reference import expected_hessian, relative

by_name = {case.name: case for case in CASES}


@pytest.mark.some(of=2)
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


def test_a_name_that_is_not_there_is_refused_with_the_nearest() -> None:
    found = hesse.diagonal(hesse.Cost(nn.Linear(2, 1), "mse", (torch.ones(3, 2), torch.ones(3, 1))))
    with pytest.raises(HesseKeyError, match="weight"):
        found["weigth"]
    assert found.get("weigth") is None


def test_a_sum_of_squares_has_its_weights_on_the_diagonal() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    cost = hesse.Cost.from_function(
        lambda p: (weights * p["x"] ** 2).sum() / 2, {"x": torch.ones(3)}
    )
    assert torch.equal(hesse.diagonal(cost)["x"], weights)


class Block(nn.Module):
    """Two convolutions with normalisation, and a way around them."""

    def __init__(self, inputs: int, outputs: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            act(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
        )
        self.around = nn.Conv2d(inputs, outputs, 1)
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.way(x) + self.around(x))


def residual(act: Callable[[], nn.Module], side: int, penalty: float | None = None) -> hesse.Cost:
    """Two residual blocks, the statistics of their normalisation fixed and not trivial."""
    torch.manual_seed(0)
    model = nn.Sequential(
        Block(2, 3, act), nn.MaxPool2d(2), Block(3, 4, act), nn.Flatten(), nn.LazyLinear(3)
    )
    model(torch.randn(8, 2, side, side) + 0.3)
    x, y = torch.randn(5, 2, side, side), torch.arange(5) % 3
    return hesse.Cost(model.double().eval(), "cross_entropy", (x.double(), y), penalty=penalty)


def double_backward(cost: hesse.Cost) -> torch.Tensor:
    """The diagonal by as many products as there are parameters."""
    product = hesse.operator(cost)
    return (product @ torch.eye(cost.layout.size, dtype=cost.dtype)).diagonal()


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, lambda: nn.LeakyReLU(0.3)])
def test_residual_convolutions(act: Callable[[], nn.Module]) -> None:
    cost = residual(act, 6, penalty=0.01)
    assert not diagonal_plan(cost, None).by_columns
    found = cost.layout.flatten(hesse.diagonal(cost, certify=False))
    assert relative(found, double_backward(cost)) < 1e-10


def test_large_images_go_down_by_the_rows_of_the_outputs() -> None:
    """Each S would have (3 · 40 · 40)² entries for each sample, 184 MB: not made at all where
    everything below the logits is linear where it selects."""
    cost = residual(nn.ReLU, 40)
    planned = hesse.plan(cost, diagonal=True)
    assert not planned.by_columns and planned.peak_bytes < 2e8
    found, entries = hesse.diagonal(cost, certify=False), torch.arange(0, cost.layout.size, 37)
    units = torch.zeros(cost.layout.size, len(entries), dtype=torch.float64)
    units[entries, torch.arange(len(entries))] = 1
    expected = (hesse.operator(cost) @ units)[entries].diagonal()
    assert relative(cost.layout.flatten(found)[entries], expected) < 1e-10
    # Its activations are curved, so that S is carried, or products are taken.
    assert hesse.plan(residual(nn.Tanh, 40), diagonal=True).by_columns


@pytest.mark.some(of=5)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_diagonal_costs_no_more_than_its_blocks(case: Case) -> None:
    """By the plans, at the rates of an ordinary machine; besides calls, which are estimated for a
    block and counted for entries."""
    cost, speed = cost_of(case), Rates(1e11, 8e9, 2.7e4, 6e10, 4e10, 2e10)
    alone, blocks = hesse.plan(cost, diagonal=True), hesse.plan(cost, block_diagonal=True)
    assert speed.seconds(alone.price) < 1.15 * speed.seconds(blocks.price)
