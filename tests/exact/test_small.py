"""Small networks: products with all unit vectors at once, and plans that are kept for the next
Hessian of the same model."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import forced
import hesse
from cases import CASES, cost_of
from hesse.capture import capture
from hesse.exact import part_plan
from hesse.exact.columns import rows, rows_asked
from hesse.exact.fallback import Failure, Strategy, failures
from hesse.exact.part_planning import PartPlanner
from networks import dense
from reference import expected_hessian, relative


@pytest.mark.some(of=2)
@pytest.mark.parametrize("place", range(len(CASES)), ids=[str(case) for case in CASES])
def test_every_case_at_once(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[place]
    forced.together(monkeypatch)
    cost, expected = cost_of(case), expected_hessian(case)
    assert relative(hesse.hessian(cost, certify=False).dense(), expected) < 1e-10
    names = cost.layout.names
    block = hesse.hessian(cost, pairs=[(names[0], names[-1])], certify=False)
    rows, columns = (cost.layout.slice(name) for name in (names[0], names[-1]))
    off = (block.flat(names[0], names[-1]) - expected[rows, columns]).abs().max()
    assert off <= 1e-10 * expected.abs().max()


def small(samples: int = 6, *widths: int) -> hesse.Cost:
    model = dense(*(widths or (2, 3, 1))).double()
    return hesse.Cost(model, "mse", numbers(samples, model))


def numbers(samples: int, model: nn.Module) -> tuple[Tensor, Tensor]:
    first, *_, last = (layer for layer in model if isinstance(layer, nn.Linear))  # type: ignore[attr-defined]
    return (
        torch.randn(samples, first.in_features).double(),
        torch.randn(samples, last.out_features).double(),
    )


def plain(cost: hesse.Cost) -> Tensor:
    """H by plain PyTorch."""

    def value(theta: Tensor) -> Tensor:
        parameters = cost.layout.unflatten(theta)
        return sum(
            (cost.batch_cost(parameters, batch) for batch in cost.batches()), torch.tensor(0.0)
        )

    return torch.autograd.functional.hessian(value, cost.theta)  # type: ignore[return-value]


@pytest.mark.small
def test_a_small_network_takes_few_products() -> None:
    plan = hesse.plan(small())
    assert {block.strategy for block in plan.blocks} == {"columns"}
    assert {block.order for block in plan.blocks} <= {
        f"{count} products at once" for count in (6, 3, 1)
    }
    assert "so small that products with all unit vectors at once" in str(plan)


@pytest.mark.small
def test_what_is_not_small_has_other_ways() -> None:
    """Of many parameters, of many samples, and where memory is short."""
    for plan in (
        hesse.plan(small(6, 2, 200, 1)),
        hesse.plan(small(20_000, 8, 20, 10)),
        hesse.plan(small(500, 8, 20, 10), memory=200_000),
    ):
        assert not any(part.together for part in plan.parts) and "so small" not in str(plan)


@pytest.mark.parametrize("width", [1, 4, 7, 13, 100])
def test_rows_of_several_parameters_side_by_side(width: int) -> None:
    """However they are cut, they are those of each parameter alone."""
    cost = small()
    (batch,) = cost.batches()
    names = cost.layout.names
    asked = rows_asked(names, [(a, b) for a in names for b in names])
    H, expected = torch.zeros(13, 13).double(), plain(cost)
    for name, entries, products in rows(cost, asked, batch, width, together=True):
        assert tuple(products) == tuple(asked[name])
        for other, part in products.items():
            place = cost.layout.slice(name).start
            H[place + entries.start : place + entries.stop, cost.layout.slice(other)] = (
                part.flatten(1)
            )
    assert relative(H.triu(), expected.triu()) < 1e-12


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for every time that something is planned."""
    made = list[object]()

    def counted(*arguments: Any) -> PartPlanner:
        made.append(arguments)
        return PartPlanner(*arguments)

    monkeypatch.setattr(part_plan, "PartPlanner", counted)
    return made


def contracted(patch: pytest.MonkeyPatch) -> None:
    """As the tests have it in any case."""


@pytest.mark.parametrize("way", [contracted, forced.together])
def test_the_next_hessian_is_not_planned_anew(
    way: Callable[[pytest.MonkeyPatch], None],
    planned: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At other parameters, and of other data of the same shapes; its numbers are its own."""
    way(monkeypatch)
    model = dense(2, 3, 1).double()
    first = hesse.Cost(model, "mse", numbers(6, model), penalty=0.5)
    hesse.hessian(first)
    assert len(planned) == 1
    others = [first.at(first.theta * 2), hesse.Cost(model, "mse", numbers(6, model))]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    others.append(hesse.Cost(model, "mse", numbers(6, model)))
    for other in others:
        H = hesse.hessian(other).dense()
        ridge = 0.0 if other.penalty is None else 0.5
        assert relative(H, plain(other) + ridge * torch.eye(13).double()) < 1e-12
    assert len(planned) == 1


def test_what_a_plan_depends_on(planned: list[object]) -> None:
    """Each request is planned once, and again where something else may come out."""
    model = dense(2, 3, 1).double()
    cost, (x, y) = hesse.Cost(model, "mse", numbers(6, model)), numbers(6, model)
    asked: list[Callable[[], object]] = [
        lambda: hesse.plan(cost),
        lambda: hesse.plan(cost, memory=10**6),
        lambda: hesse.plan(cost, memory=10**5),
        lambda: hesse.plan(cost, pairs=[("0.weight", "2.bias")]),
        lambda: hesse.plan(cost, block_diagonal=True),
        lambda: hesse.diagonal(cost),
        lambda: hesse.plan(hesse.Cost(model, "mse", (x[:5], y[:5]))),
        lambda: hesse.plan(hesse.Cost(model, "mse", [(x[:4], y[:4]), (x[4:], y[4:])])),
        lambda: hesse.plan(hesse.Cost(model, "half_sse", (x, y))),
        lambda: hesse.plan(hesse.Cost(model, "mse", (x, y), params=["0.weight"])),
    ]
    for count, ask in enumerate(asked, 1):
        ask()
        assert len(planned) == count
        ask()
        assert len(planned) == count
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        asked[0]()
    finally:
        torch.set_default_dtype(default)
    assert len(planned) == len(asked) + 1


def test_a_failure_is_planned_for(planned: list[object]) -> None:
    cost = small()
    assert hesse.plan(cost).strategy("0.weight", "0.weight") == "contraction"
    failures(cost)["0.weight"] = Failure(Strategy.CONTRACTION, "was wrong")
    assert hesse.plan(cost).strategy("0.weight", "0.weight") == "columns"
    failures(cost).clear()
    assert hesse.plan(cost).strategy("0.weight", "0.weight") == "contraction"
    assert len(planned) == 2


class Scaled(nn.Module):
    """An attribute says what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(2, 2).double(), 1.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.factor * self.layer(x))


@pytest.mark.parametrize("way", [contracted, forced.together])
def test_a_model_that_changed_is_not_taken_for_what_it_was(
    way: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    way(monkeypatch)
    model, data = Scaled(), (torch.randn(6, 2).double(), torch.randn(6, 2).double())
    before = hesse.Cost(model, "mse", data)
    assert relative(hesse.hessian(before, certify=False).dense(), plain(before)) < 1e-12
    model.factor = 3.0
    after = hesse.Cost(model, "mse", data)
    for cost in (after, before, after):
        assert relative(hesse.hessian(cost, certify=False).dense(), plain(cost)) < 1e-12


def test_other_batches_of_as_many_samples(planned: list[object]) -> None:
    """What goes by columns goes by batches."""
    model = dense(2, 3, 1).double()
    x, y = numbers(12, model)

    def cost(size: int) -> hesse.Cost:
        made = hesse.Cost(model, "mse", list(zip(x.split(size), y.split(size), strict=True)))
        failures(made)["0.weight"] = Failure(Strategy.CONTRACTION, "was wrong")
        return made

    (few,) = hesse.plan(cost(3)).parts
    (more,) = hesse.plan(cost(6)).parts
    assert (few.piece, more.piece) == (3, 6) and len(planned) == 2
    assert relative(hesse.hessian(cost(6)).dense(), plain(cost(6))) < 1e-12
    assert len(planned) == 2


def test_what_is_kept_holds_no_parameters_and_is_bounded() -> None:
    model = dense(2, 3, 1).double()
    cost = hesse.Cost(model, "mse", numbers(6, model))
    hesse.hessian(cost, certify=False)
    kept = capture(cost, next(iter(cost.signatures)))
    for memory in range(10**6, 10**6 + 100):
        hesse.plan(cost, memory=memory)
    assert len(kept.plans) == 32
    held = [weakref.ref(tensor) for tensor in (*cost.parameters.values(), *cost.fixed.values())]
    del cost
    gc.collect()
    assert held and all(tensor() is None for tensor in held)
    gone = weakref.ref(kept)
    del kept, model
    gc.collect()
    assert gone() is None
