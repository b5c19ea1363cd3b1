"""Which operations of the graph of one sample serve many at once, and that they do the same."""

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
    captured = capture(cost, next(iter(cost.signatures)))
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
    try:
        expected, evaluation, leaves = values_and_evaluation(cost_of(case))
    except NotCaptured:
        pytest.skip("of its first batch there is no graph")
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
