"""The small sizes at which lines are certified: of windows and flattenings too, but not of what is
so for one size alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import hesse
from hesse.derivation.calculus.expression import ZERO
from hesse.derivation.check.certification import certified
from hesse.derivation.check.valuation import _folded
from hesse.errors import HesseValueError

CONVOLUTION = (nn.Conv1d(1, 6, 5, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(108, 2))


def cost(*layers: nn.Module) -> hesse.Cost:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, *shape, generator=generator).double() for shape in ((1, 40), (2,)))
    return hesse.Cost(nn.Sequential(*layers).double(), "mse", (x, y))


@pytest.fixture(scope="module")
def derivation() -> hesse.Derivation:
    return hesse.derive(cost(*CONVOLUTION))


def test_a_convolution_is_certified_at_small_sizes(derivation: hesse.Derivation) -> None:
    assert derivation.at is not None and set(derivation.at.resized) == {5, 6, 18, 40, 108}
    assert all(array.numel() <= 4**4 for array in derivation.at.arrays.values())
    assert "checked on the model's own parameters at 2 of its samples" in derivation.notes[-1]


def test_its_formulas_are_those_of_the_large_sizes(derivation: hesse.Derivation) -> None:
    H = hesse.hessian(cost(*CONVOLUTION))
    value = torch.as_tensor(derivation.block("0.weight", "3.weight").evaluate())
    assert torch.allclose(value, H["0.weight", "3.weight"], atol=1e-12)


def test_a_wrong_line_is_found_at_small_sizes(derivation: hesse.Derivation) -> None:
    block = derivation.blocks["0.weight", "0.weight"]
    wrong = replace(block, lines=(*block.lines[:-1], replace(block.lines[-1], after=ZERO)))
    changed = replace(derivation, blocks={("0.weight", "0.weight"): wrong})
    with pytest.raises(HesseValueError, match="is wrong by"):
        certified(changed, derivation.at)


def test_what_a_mean_divides_by_stays() -> None:
    d = hesse.derive(cost(nn.Flatten(), nn.Linear(40, 7), nn.LayerNorm(7), nn.Linear(7, 2)))
    assert d.at is not None and set(d.at.resized) == {40}


def test_a_map_without_a_formula_keeps_its_sizes() -> None:
    pooled = nn.MaxPool1d(2), nn.Conv1d(1, 5, 3), nn.MaxPool1d(9), nn.Flatten(), nn.Linear(10, 2)
    d = hesse.derive(cost(*pooled))
    assert d.at is not None and set(d.at.resized) == {10, 20}


def test_a_window_is_laid_upon_itself() -> None:
    s, u, k = (torch.arange(n) for n in (12, 4, 3))
    window = (s[:, None, None] == 2 * u[:, None] + k + 1).double()
    small = _folded(window, [3, 2, 2])
    expected = s[:3, None, None] == (2 * u[:2, None] + k[:2] + 1) % 3
    assert torch.equal(small, expected.double())
    assert torch.equal(_folded(window, [12, 4, 3]), window)
