"""Chains of operations that only move entries, taken in one step."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.capture import capture
from hesse.exact.propagation.placements import with_placements
from hesse.operations.arranging import placed
from reference import relative


def _heads(z: Tensor) -> Tensor:
    """Attention of two heads, its queries, keys and values selected from one projection."""
    q, k, v = z.view(*z.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(1)


def _parts(z: Tensor) -> Tensor:
    """What two parts of one value and a part of a part make."""
    turned = z.transpose(1, 2).unflatten(1, (3, 4))
    whole = turned.transpose(2, 3)
    return (turned.select(1, 0) * turned.select(1, 1).sin() * whole.select(1, 2)).flatten(1)


def _shared(z: Tensor) -> Tensor:
    """What is moved once and used twice."""
    turned = z.transpose(1, 2).unflatten(1, (4, 3))
    return (turned * turned.sin()).flatten(1)


def _copied(z: Tensor) -> Tensor:
    """A reshape after which the entries lie no number of strides apart."""
    return z.transpose(1, 2).reshape(-1, 8, 6).transpose(1, 2).tanh().flatten(1)


def _alike(z: Tensor) -> Tensor:
    """Axes that change places, of which one has a single entry: nothing moves."""
    return z.unsqueeze(1).transpose(1, 2).tanh().flatten(1)


# How a value is moved, and how many placements come of it.
WAYS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "heads": (_heads, 3),
    "parts": (_parts, 2),
    "shared": (_shared, 1),
    "copied": (_copied, 0),
    "alike": (_alike, 0),
}


class Moved(nn.Module):
    """A projection whose entries are moved before they meet."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.project, self.way, self.head = nn.Linear(3, 12), way, nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 4, 3) -> (n, 2)."""
        return self.head(WAYS[self.way][0](self.project(x).tanh()))


@functools.cache
def _cost(way: str) -> hesse.Cost:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 4, 3, generator=generator), torch.randn(5, 2, generator=generator)
    torch.manual_seed(0)
    model = Moved(way)
    model(x)
    return hesse.Cost(model.double(), "mse", (x.double(), y.double()))


@pytest.mark.parametrize("way", WAYS)
def test_the_hessian_of_what_is_moved(way: str) -> None:
    cost = _cost(way)
    H = hesse.hessian(cost, certify=False)
    assert not hesse.plan(cost).by_columns
    assert relative(H.dense(), hesse.operator(cost) @ torch.eye(cost.layout.size).double()) < 1e-12


@pytest.mark.parametrize("way", WAYS)
def test_as_many_steps_as_it_takes(way: str) -> None:
    captured = capture(_cost(way))
    merged = with_placements(captured.graph, captured.sites, captured.graph.output)
    assert sum(node.op is placed for node in merged.nodes) == WAYS[way][1]
    assert {site.value for site in captured.sites} <= set(merged.node)
    made = {*merged.parameters, *merged.fixed, *merged.constants, *merged.data}
    for node in merged.nodes:
        assert made.issuperset(node.inputs)
        made.add(node.name)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_values(way: str) -> None:
    cost = _cost(way)
    graph = capture(cost).graph
    batch = next(iter(cost.batches()))
    assert batch is not None
    sample = batch.take(slice(0, 1))
    start = graph.given(cost.parameters, cost.fixed)
    start |= dict(zip(graph.data, (leaf[0:1] for leaf in (sample.x, sample.y)), strict=True))
    expected, found = dict(start), dict(start)
    for node in graph.nodes:
        expected[node.name] = node.evaluate(expected)
    for node in with_placements(graph, (), graph.output).nodes:
        found[node.name] = node.evaluate(found)
        assert torch.equal(found[node.name], expected[node.name]), node
