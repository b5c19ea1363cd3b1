"""Rules are tried on a few samples before they are used: a wrong one sends the network another way,
certificate or not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from cases import Problem, dense
from hesse.capture import capture, data_leaves
from hesse.exact import columns
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.pullback import Pullback
from hesse.operations.registry import BY_TARGET
from reference import hessian, relative

aten = torch.ops.aten


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(self.q(z), self.k(z), torch.tanh(z)).sum(1)


class Equilibrium(nn.Module):
    """A right-hand side with an axis more than the matrix: side by side PyTorch's second
    derivatives of it are wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.u = nn.Parameter(2 * torch.eye(2) + torch.randn(2, 2) / 3), nn.Linear(2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.linalg.solve(self.W, self.u(z)[..., None])[..., 0]


def problem(model: nn.Module, *shape: int) -> Problem:
    return Problem(
        model.double(),
        "half_sse",
        (torch.randn(*shape).double(), torch.randn(shape[0], 2).double()),
    )


def turned(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The rule with the sign of its first part turned."""

    def wrong(*arguments: Any) -> Any:
        made = rule(*arguments)
        return None if made is None else (-made[0], *made[1:])

    return wrong


def bent_the_other_way(op: Pullback) -> tuple[Tensor, Tensor | None]:
    first, second = SLOPES(op)
    return first, None if second is None else -second


SLOPES = Pullback.slopes


@pytest.mark.parametrize("kind", [aten.linear, aten.softmax, aten.matmul], ids=str)
def test_a_wrong_pull_is_found(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tried = problem(dense(2, 3, 2), 5, 2) if kind is aten.linear else problem(Attention(), 4, 3, 2)
    record = BY_TARGET[kind]
    assert record.pull is not None
    monkeypatch.setitem(BY_TARGET, kind, replace(record, pull=turned(record.pull)))
    check(tried, str(kind))


def test_a_wrong_slope_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(Pullback, "slopes", bent_the_other_way)
    check(problem(dense(2, 3, 2), 5, 2), "tanh")


def test_a_wrong_curvature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    record = BY_TARGET[aten.softmax]
    right = record.second
    assert right is not None
    wrong = replace(record, second=lambda op, delta: [[-right(op, delta)[0][0]]])
    monkeypatch.setitem(BY_TARGET, aten.softmax, wrong)
    check(problem(Attention(), 4, 3, 2), "softmax")


@pytest.mark.parametrize("samples", [1, 4])
def test_what_pytorch_gets_wrong_side_by_side(samples: int) -> None:
    torch.manual_seed(0)
    equilibrium = problem(Equilibrium(), samples, 2)
    cost = equilibrium.cost()
    assert (
        relative(
            hesse.hessian(cost, certify=False).dense(), hessian(equilibrium, cost.layout.names)
        )
        < 1e-10
    )


@pytest.mark.parametrize("together", [0, 50, None])
def test_values_in_turn_are_those_at_once_and_are_let_go(
    together: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, some at a time, and all of a small graph, as they are by default."""
    if together is not None:
        monkeypatch.setattr("hesse.exact.propagation.evaluation._SMALL", together)
    torch.manual_seed(0)
    cost = problem(Attention(), 4, 3, 2).cost()
    captured, batch = capture(cost), next(iter(cost.batches()))
    assert batch is not None
    evaluation = ChunkEvaluation(captured.graph, captured.sites, cost.fixed, cost.parameters)
    at_once, held = evaluation.run(data_leaves(batch)), list[int]()
    for node, values in evaluation.in_turn(data_leaves(batch)):
        if node.name == captured.graph.output:
            assert bool(at_once[node.name].isnan().all())
        else:
            assert torch.equal(values[node.name], at_once[node.name])
        assert all(name in values for name in node.inputs)
        held.append(len(values))
    assert held[-1] < max(held)
    assert together is None or max(held) < len(at_once)


def test_columns_of_which_only_some_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side the first product may be right where the second is not."""
    torch.manual_seed(0)
    together = columns.side_by_side

    def but_one(*arguments: Any) -> Callable[[list[Tensor]], list[Tensor]]:
        product = together(*arguments)

        def wrong(tangents: list[Tensor]) -> list[Tensor]:
            return [torch.cat([rows[:-1], 1.001 * rows[-1:]]) for rows in product(tangents)]

        return wrong

    monkeypatch.setattr(columns, "side_by_side", but_one)
    equilibrium = problem(Equilibrium(), 4, 2)
    cost = equilibrium.cost()
    assert (
        relative(
            hesse.hessian(cost, certify=False).dense(), hessian(equilibrium, cost.layout.names)
        )
        < 1e-10
    )


def check(wrong: Problem, name: str) -> None:
    """The number is right without a certificate, and the plan says why it goes by columns."""
    cost = wrong.cost()
    assert (
        relative(hesse.hessian(cost, certify=False).dense(), hessian(wrong, cost.layout.names))
        < 1e-10
    )
    notes = " ".join(hesse.plan(cost).notes)
    assert (
        "side by side are wrong" in notes
        and name.split(".")[-1] in notes
        and not hesse.plan(cost).captured
    )
