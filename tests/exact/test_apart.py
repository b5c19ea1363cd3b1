"""Positions that do not meet above some value stand as samples of their own: the same Hessian, and
found where they are."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import hesse
from cases import Problem
from hesse.capture import capture
from hesse.exact.planning import plan
from hesse.exact.propagation.placement import placements
from hesse.graph.graph import Node
from reference import hessian, relative

TOLERANCE = 1e-10


class Mixed(nn.Module):
    """Linear maps along the positions and along the features, then an upper part of its own."""

    def __init__(self, upper: nn.Module) -> None:
        super().__init__()
        self.along, self.across, self.upper = nn.Linear(4, 4), nn.Linear(3, 5), upper

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.across(torch.tanh(self.along(x.mT).mT)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(5), nn.Linear(5, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.sigmoid(self.first(self.norm(x))))


class ClassesFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Tanh(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).transpose(1, 2)


class Reversed(nn.Module):
    """The positions are weighed unlike, so that they are not alike above this."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = torch.linspace(0.5, 2, 4).reshape(4, 1)
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.tanh(x))) * self.weigh


def classes() -> Tensor:
    return torch.randint(3, (6, 4))


def numbers(width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(6, 4, width, dtype=torch.float64)


ROWS = [
    (Residual, "half_sse", numbers(5), True),
    (Residual, "mse", numbers(5), True),
    (Residual, "bce", lambda: torch.rand(6, 4, 5, dtype=torch.float64), True),
    (ClassesFirst, "cross_entropy", classes, True),
    (
        lambda: nn.Sequential(nn.Softmax(-1), nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 2)),
        "half_sse",
        numbers(2),
        True,
    ),
    (Reversed, "half_sse", numbers(2), False),
    (
        lambda: nn.Sequential(nn.Tanh(), nn.Linear(5, 3), nn.Softmax(1)),
        "half_sse",
        numbers(3),
        False,
    ),
]


@pytest.mark.parametrize(("upper", "loss", "target", "apart"), ROWS)
def test_the_hessian_is_the_same(
    upper: Callable[[], nn.Module], loss: str, target: Callable[[], Tensor], apart: bool
) -> None:
    torch.manual_seed(0)
    model = Mixed(upper()).double()
    problem = Problem(model, loss, (torch.randn(6, 4, 3, dtype=torch.float64), target()))
    cost = problem.cost()
    made = plan(cost)
    descent = made.parts[0].backward_pass
    assert descent is not None and (descent.sweep.positions is not None) is apart
    found = hesse.hessian(cost).dense()
    expected = hessian(problem, cost.layout.names)
    assert relative(found, expected) < TOLERANCE
    blocks = hesse.hessian(cost, block_diagonal=True)
    sizes = cost.layout.sizes
    for name in cost.layout.names:
        part = cost.layout.slice(name)
        assert (
            relative(
                blocks[name, name].reshape(sizes[name], sizes[name]), expected[part, part], expected
            )
            < TOLERANCE
        )


class Selections(nn.Module):
    """Parts of one value selected and multiplied, and the sum that they are parts of used in two
    places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        both = a + b
        return (
            both[:, 0] * torch.tanh(both[:, 1]) * both[:, 3]
            + a[:, 2] * torch.sin(b[:, 2])
            + a[:, 0] * a[:, 1] * b[:, -1]
        )


class Turned(nn.Module):
    """Heads that are views of one value turned about, of which one between is used besides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        between = self.first(x).unflatten(-1, (3, 4)).transpose(1, 2)
        parts = (between.select(1, 0), between.select(1, 1), between.unbind(1)[2])
        q, k, v = (part.unflatten(-1, (2, 2)).permute(0, 2, 1, 3) for part in parts)
        mixed = torch.tanh(q @ k.transpose(-1, -2)) @ v
        joined = self.last(mixed.transpose(1, 2).flatten(2))
        return (joined + torch.sin(between).sum(1) * q.transpose(1, 2).flatten(2)).sum(-1)


@pytest.mark.parametrize("kind", [Selections, Turned])
def test_what_was_selected_goes_back(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = kind().double(), torch.randn(6, 4, 3, dtype=torch.float64)
    problem = Problem(model, "half_sse", (x, torch.randn_like(model(x)).detach()))
    cost = problem.cost()
    assert not hesse.plan(cost).by_columns
    assert relative(hesse.hessian(cost).dense(), hessian(problem, cost.layout.names)) < TOLERANCE


def test_heads_lie_in_the_layer_below_them() -> None:
    """All that is carried at a head goes to the layer in one step, behind any axes."""
    cost = hesse.Cost(Turned(), "half_sse", (torch.randn(6, 4, 3), torch.randn(6, 4)))
    graph = capture(cost, next(iter(cost.signatures))).graph
    (layer,) = (node.name for node in graph.nodes if node.shape == (1, 4, 12))
    found = placements(graph, set(graph.node), {layer})
    heads = [each for each in found.values() if each.foot == layer and each.shape[-3:] == (2, 4, 2)]
    assert len(heads) == 3
    whole = torch.randn(5, 1, 4, 12, 2)

    def value(nodes: tuple[Node, ...], x: Tensor) -> Tensor:
        for node in nodes:
            x = node.evaluate({node.inputs[0]: x})
        return x

    for head in heads:
        expected = torch.vmap(partial(value, head.nodes))(whole[..., 1])
        part = head(whole, (1, 4, 12), 1)
        assert torch.equal(part[..., 1], expected)
        assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
