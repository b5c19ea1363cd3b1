"""A network of many steps: what it repeats is written once and certified at every step, and its
derivation is bounded before the work is long."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.derivation.calculus.expression import ZERO
from hesse.derivation.check import valuation
from hesse.derivation.check.certification import certified
from hesse.errors import HesseValueError

ASKED = ["layer.weight", "out.bias"]


class Steps(nn.Module):
    """The same layer, many times."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.layer, self.out = steps, nn.Linear(2, 2, bias=False), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            x = torch.tanh(self.layer(x))
        return self.out(x)


def cost(steps: int) -> hesse.Cost:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(steps)
        data = torch.randn(3, 2).double(), torch.randn(3, 1).double()
        return hesse.Cost(Steps(steps).double(), "mse", data)


@pytest.fixture(scope="module")
def derivation() -> hesse.Derivation:
    return hesse.derive(cost(8), ASKED)


def written(derivation: hesse.Derivation) -> int:
    """Lines that no other stands for; a branch that has been derived already has one."""
    block = derivation.block("layer.weight", "layer.weight")
    return sum(line.rule != "known" for line in block.lines)


def test_the_lines_do_not_grow_with_the_steps(derivation: hesse.Derivation) -> None:
    assert written(derivation) == written(hesse.derive(cost(12), ASKED, certify=False)) < 60


def test_each_line_says_what_else_it_holds_for(derivation: hesse.Derivation) -> None:
    lines = derivation.block("layer.weight", "layer.weight").lines
    first = next(line for line in lines if line.likewise)
    assert "likewise for" in first.reason and len(first.likewise) >= 2
    assert len({line.label for line in lines}) == len(lines)
    assert "likewise for" in derivation.block("layer.weight", "layer.weight").text()


def test_a_wrong_line_is_found_at_whichever_step_it_is(derivation: hesse.Derivation) -> None:
    block = derivation.blocks["layer.weight", "layer.weight"]
    place = next(k for k, line in enumerate(block.lines) if line.likewise)
    *rest, last = block.lines[place].likewise
    wrong = replace(block.lines[place], likewise=(*rest, replace(last, after=ZERO)))
    lines = (*block.lines[:place], wrong, *block.lines[place + 1 :])
    changed = replace(
        derivation, blocks={("layer.weight", "layer.weight"): replace(block, lines=lines)}
    )
    with pytest.raises(HesseValueError, match="is wrong by"):
        certified(changed, derivation.at)


def test_shown_or_not_a_block_is_that_of_the_numbers(derivation: hesse.Derivation) -> None:
    shown = set(derivation.blocks)
    H = hesse.hessian(cost(8))
    for pair in (("layer.weight", "layer.weight"), ("layer.weight", "out.bias")):
        value = torch.as_tensor(derivation.block(*pair).evaluate())
        assert torch.allclose(value, H[pair], atol=1e-12)
    assert ("layer.weight", "out.bias") not in shown


def test_derivatives_in_small_portions_are_the_same(
    derivation: hesse.Derivation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valuation, "_AT_ONCE", 1)
    assert derivation.certify(seed=3).deviation < 1e-10


def test_what_is_too_long_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("hesse.derivation.derive"), "MOST_OF_A_COST", 500)
    said = "layer.weight enters at 8 places.*more than {} symbols.*certify=False"
    with pytest.raises(HesseValueError, match=said.format("1,000")):
        hesse.derive(cost(8), ASKED)
    assert hesse.derive(cost(8), ASKED, certify=False).blocks
    # Stage by stage the names count, of which each two places have one.
    with pytest.raises(HesseValueError, match=said.format(500)):
        hesse.derive(cost(8), ASKED, stagewise=True)
