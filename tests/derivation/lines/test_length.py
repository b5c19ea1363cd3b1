"""How long a derivation will be is foreseen, and what is too long refused before it is written."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.derivation.lines import length
from hesse.derivation.lines.length import Length
from hesse.derivation.lines.steps import block
from hesse.errors import HesseValueError

derive_module = sys.modules["hesse.derivation.derive"]


class Recurrent(nn.Module):
    """Many steps of an RNN without its bias, in which two matrices enter at each."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.on = (nn.Linear(2, 2, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x)
        for _ in range(7):
            h = torch.tanh(self.into(x) + self.on(h))
        return h


@pytest.fixture(scope="module")
def cost() -> hesse.Cost:
    return hesse.Cost(Recurrent().double(), "mse", (torch.ones(1, 2).double(),) * 2)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The blocks that are written."""
    pairs = list[tuple[str, str]]()

    def watched(page: Any, expander: Any, *pair: str) -> Any:
        pairs.append(pair)  # pyright: ignore
        return block(page, expander, *pair)

    monkeypatch.setattr(derive_module, "block", watched)
    return pairs


@pytest.mark.parametrize(("most", "blocks"), [(250, 0), (1500, 1)])
def test_refused_before_the_blocks_or_after_the_first(
    cost: hesse.Cost, made: list[Any], monkeypatch: pytest.MonkeyPatch, most: int, blocks: int
) -> None:
    monkeypatch.setattr(derive_module, "MOST_OF_A_COST", most)
    with pytest.raises(HesseValueError, match=f"more than {2 * most:,} symbols.*certify=False"):
        hesse.derive(cost)
    assert len(made) == blocks


def test_what_is_foreseen_is_no_more_than_what_is_written(
    cost: hesse.Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreseen = list[float]()

    class Watched(Length):
        def __init__(self, page: Any) -> None:
            page.require_room = lambda more=0: foreseen.append(page.written + more)
            super().__init__(page)

    monkeypatch.setattr(derive_module, "Length", Watched)
    d = hesse.derive(cost, certify=False)
    assert d._writer is not None
    assert 0 < max(foreseen) <= d._writer.__self__.page.written * 1.2  # pyright: ignore


def test_a_chain_that_is_too_long_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "DEEPEST", 5)
    text = "sum(" + "f(" * 6 + "x" + ")" * 6 + ")"
    said = "made of . quantities one after the other; at most 5 are certified.*certify=False"
    with pytest.raises(HesseValueError, match=said):
        hesse.derive(text, "x")
    assert hesse.derive(text, "x", certify=False).blocks
