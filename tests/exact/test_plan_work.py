"""What a plan does itself, counted: of a recurrence no more for each step than for another."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.exact import part_planning, way_down
from hesse.exact.backward_pass import BackwardPass, Passage
from hesse.exact.contracted import Contracted
from hesse.exact.one_sided import one_sided_price
from hesse.exact.part_planning import PartPlanner
from hesse.process.rates import Rates
from reference import relative

SPEED = Rates(1e11, 8e9, 2.7e4, 6e10, 4e10, 2e10)


class Last(nn.Module):
    """Scores from the last step."""

    def __init__(self, kind: Callable[..., nn.Module], width: int) -> None:
        super().__init__()
        self.cell, self.head = kind(2, width, batch_first=True), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def cost_of(kind: Callable[..., nn.Module], steps: int, width: int = 12) -> hesse.Cost:
    torch.manual_seed(0)
    data = torch.randn(64, steps, 2), torch.arange(64) % 3
    return hesse.Cost(Last(kind, width), "cross_entropy", data)


@pytest.fixture
def passages(monkeypatch: pytest.MonkeyPatch) -> list[Passage]:
    """Those that are rehearsed."""
    seen, rehearse = list[Passage](), BackwardPass.rehearse

    def watched(self: BackwardPass, *given: Any) -> Passage:
        seen.append(rehearse(self, *given))
        return seen[-1]

    monkeypatch.setattr(BackwardPass, "rehearse", watched)
    monkeypatch.setattr(part_planning, "rates", lambda *_: SPEED)
    monkeypatch.setattr(part_planning, "_SECONDS_OF_A_TRACE", 0.0)
    return seen


def calls(passage: Passage) -> float:
    return sum(price.calls for price in passage.prices)


def test_pricing_products_compiles_nothing() -> None:
    """And notes the more operations the more steps, each step as many."""
    lengths = list[int]()
    for steps in (2, 4, 8):
        price = one_sided_price(cost_of(nn.GRU, steps), None)
        assert price is not None
        assert price._product("cell.weight_hh_l0", price.order).operations > 0
        programs = price.program.prepare, price.program.apply, *price.program._sides.values()
        assert len(programs) == 3 and not any("_module" in vars(each) for each in programs)
        lengths.append(len(price.program.apply.graph.nodes))
    assert lengths[2] - lengths[1] == 2 * (lengths[1] - lengths[0]) < 4 * 100


def test_a_rehearsal_ends_when_it_is_lost(
    passages: list[Passage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contracting a long recurrence costs many times as much as products; a fraction of the way
    down shows it. A plan that goes all the way has the same blocks made in the same way."""
    monkeypatch.setattr(way_down, "_LONG", 300)
    cost = cost_of(nn.LSTM, 8)
    planned, ended = hesse.plan(cost), list(passages)
    assert ended[0].ended and not any(passage.ended for passage in ended[1:])
    assert any("contracted, over" in note for note in planned.notes)
    assert planned.parts[0].traced and planned.strategy("cell.bias_hh_l0", "head.bias") == "columns"
    # What has ended is found again.
    assert hesse.plan(cost).blocks == planned.blocks and len(passages) == len(ended)
    # For whom it is not enough it goes all the way.
    monkeypatch.setattr(part_planning.PartPlanner, "_is_lost", lambda *_: False)
    whole, (passage,) = hesse.plan(cost), passages[len(ended) :]
    assert not passage.ended and calls(ended[0]) < 0.6 * calls(passage)
    assert whole.blocks == planned.blocks and whole.price == planned.price


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_what_is_foreseen_is_no_more_than_the_whole(
    kind: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And much more than what was seen: steps that were not reached are like those that were."""
    foreseen, seen, whole = list[float](), list[float](), list[float]()

    def asked(_: PartPlanner, contracted: Contracted, __: Any) -> bool:
        foreseen.append(SPEED.seconds(contracted.foreseen))
        seen.append(SPEED.seconds(contracted.price()))
        return False

    def decided(_: PartPlanner, contracted: Contracted, *__: Any) -> tuple[str, ...]:
        whole.extend(map(SPEED.seconds, (contracted.price(), contracted.foreseen)))
        return ()

    monkeypatch.setattr(PartPlanner, "_is_lost", asked)
    monkeypatch.setattr(PartPlanner, "_cheaper", decided)
    monkeypatch.setattr(way_down, "_LONG", 0)
    hesse.plan(cost_of(kind, 6))
    assert whole[0] == pytest.approx(whole[1]) and max(foreseen) < 1.02 * whole[0]
    # With two steps of six.
    early = [each for part, each in zip(seen, foreseen, strict=True) if part < 0.3 * whole[0]]
    assert max(early) > 0.5 * whole[0]


def test_its_hessian_is_right(passages: list[Passage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way_down, "_LONG", 100)
    model = Last(nn.LSTM, 12).double()
    data = torch.randn(5, 4, 2).double(), torch.arange(5) % 3
    cost = hesse.Cost(model, "cross_entropy", data)
    H = hesse.hessian(cost, certify=False)
    assert passages[0].ended
    v = torch.randn(cost.layout.size, dtype=torch.float64)
    assert relative(H @ v, hesse.operator(cost) @ v) < 1e-12
