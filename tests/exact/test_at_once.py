"""Which operations of the graph of one sample serve many at once, and that they do the same."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import hesse
from cases import CASES, Case, cost_of, x
from hesse.capture import NotCaptured, capture, data_leaves, sample_values
from hesse.exact.propagation.evaluation import ChunkEvaluation

CAPTURED = [case for case in CASES if case.captured]


def values_and_evaluation(cost: hesse.Cost) -> tuple[dict[str, Tensor], ChunkEvaluation, list]:
    try:
        captured = capture(cost, next(iter(cost.signatures)))
    except NotCaptured:
        pytest.skip("of its first batch there is no graph")
    batch = next(iter(cost.batches()))
    assert batch is not None
    leaves = data_leaves(batch)
    evaluation = ChunkEvaluation(captured.graph, captured.sites, cost.fixed, cost.parameters)
    names = [node.name for node in captured.graph.nodes if node.name in evaluation.batched]

    def of_sample(*sample: Tensor) -> dict[str, Tensor]:
        values = sample_values(captured.graph, cost, cost.parameters, sample)
        return {name: values[name] for name in names if name != captured.graph.output}

    singly = [leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)
    return vmap(of_sample, in_dims=axes)(*singly), evaluation, leaves


@pytest.mark.some(of=4)
@pytest.mark.parametrize("case", CAPTURED, ids=str)
def test_every_value_is_that_of_each_sample(case: Case) -> None:
    expected, evaluation, leaves = values_and_evaluation(cost_of(case))
    found = evaluation.run(leaves)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, equal_nan=True)


class Views(nn.Module):
    """Sizes of one sample are among the arguments, and the samples' axis is not always first."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.last = nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x).view(x.shape[0], 2, 2, 2)
        z = z.permute(1, 0, 2, 3).expand(2, x.shape[0], 2, 2).tanh()
        return self.last(z.permute(1, 0, 2, 3).reshape(x.shape[0], -1))


class Ranks(nn.Module):
    """Takes an entry of its samples' axis, which is there for one sample alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([row.softmax(0) for row in self.linear(x)])


@pytest.mark.parametrize(("model", "all_of_them"), [(Views(), True), (Ranks(), False)])
def test_sizes_of_one_sample(model: nn.Module, all_of_them: bool) -> None:
    torch.manual_seed(0)
    X = x(5, 2, 3) if isinstance(model, Views) else x(5, 3)
    cost = hesse.Cost(model.double(), "mse", (X, x(5, 2)))
    graph = capture(cost, next(iter(cost.signatures))).graph
    left = {node.name for node in graph.nodes} - graph.at_once.nodes.keys()
    assert (left == {graph.output}) == all_of_them
    assert hesse.hessian(cost).certificate is not None


@pytest.mark.some(of=4)
@pytest.mark.parametrize("case", CAPTURED, ids=str)
def test_the_sum_of_the_losses_is_made_at_once(case: Case) -> None:
    """Where it is, in value and in slope that of the losses one by one."""
    _, evaluation, leaves = values_and_evaluation(cost_of(case))
    graph = evaluation.graph
    total = graph.at_once.total
    if total is None:
        pytest.skip("its loss is more than one operation")
    made = evaluation.at_once(leaves, graph.at_once.nodes.keys())
    found = evaluation.total(leaves, made)
    singly = dataclasses.replace(graph, at_once=dataclasses.replace(graph.at_once, total=None))
    evaluation.graph = singly
    expected = evaluation.total(leaves, made)
    torch.testing.assert_close(found.reshape(()), expected, rtol=1e-12, atol=0)
    into = [made[name] for name in total.inputs if name in made and made[name].requires_grad]
    slopes = (
        torch.autograd.grad(value.sum(), into, retain_graph=True) for value in (found, expected)
    )
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def loss_at_once(loss: Any, y: Tensor) -> bool:
    torch.manual_seed(0)
    cost = hesse.Cost(nn.Linear(3, 2).double(), loss, (x(5, 3), y))
    return capture(cost, next(iter(cost.signatures))).graph.at_once.total is not None


def test_which_losses_are_summed_at_once() -> None:
    classes = torch.tensor([0, 1, 1, 0, 1])
    assert loss_at_once("cross_entropy", classes) and loss_at_once("mse", x(5, 2))
    # Zeros are a sum of zeros and their mean.
    far = torch.full((5, 2), -1e3, dtype=torch.float64)

    def hinge(z: Tensor, y: Tensor) -> Tensor:
        return torch.relu(y - z).sum()

    assert not loss_at_once(hinge, far)
    ignored = torch.tensor([-100, 1, 1, 0, 1])
    assert not loss_at_once("cross_entropy", ignored)
    # More than one operation makes it of the scores.
    assert not loss_at_once(lambda z, y: (z - y).square().sum() / 2, x(5, 2))
