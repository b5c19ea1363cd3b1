"""The cost is what its data says and no more, and asking never changes the model."""

import copy
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
import networks as nets
import reference
from cases import CASES, Case, cost_of, dense, two_layers

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture
def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier in float64 and 11 samples, two of them of class 2."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = dense(3, 4, 3).double()
    X = torch.randn(11, 3, generator=generator, dtype=torch.float64)
    return model, X, torch.tensor([0, 1, 2, 0, 1, 0, 0, 1, 2, 0, 1])


# ---------------------------------------------------------------- value and gradient


@every_case
def test_value_and_gradient_are_those_of_plain_pytorch(case: Case) -> None:
    cost, problem = cost_of(case), case.problem()
    leaves = reference.parameters(problem, cost.layout.names)
    expected = reference.objective(problem, cost.layout.names, leaves)
    assert hesse.value(cost) == pytest.approx(float(expected.detach()), rel=1e-13)
    gradient = hesse.gradient(cost)
    assert tuple(gradient) == cost.layout.names
    assert [tuple(part.shape) for part in gradient.values()] == list(cost.layout.shapes)
    assert not any(part.requires_grad for part in gradient.values())
    expected_gradient = reference.gradient(problem, cost.layout.names, leaves)
    assert reference.relative(cost.layout.flatten(gradient), expected_gradient) < 1e-13


LOSSES = {
    "mean": nn.CrossEntropyLoss(),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "class weights": nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 5.0]).double()),
    "ignored class": nn.CrossEntropyLoss(ignore_index=0),
    "both, smoothed": nn.CrossEntropyLoss(
        weight=torch.tensor([0.2, 1.0, 5.0]).double(), ignore_index=1, label_smoothing=0.1
    ),
    "custom mean": lambda p, y: F.cross_entropy(p, y),
    "custom sum": lambda p, y: F.cross_entropy(p, y, reduction="sum"),
}


@pytest.mark.parametrize("sizes", [(11,), (4, 4, 3), (1, 10), (1,) * 11, (5, 5, 1)], ids=str)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_batches_do_not_change_the_numbers(problem: Any, loss: Any, sizes: tuple[int, ...]) -> None:
    model, X, y = problem
    cost = hesse.Cost(model, loss, list(zip(X.split(sizes), y.split(sizes), strict=True)))
    assert cost.samples == 11
    whole = hesse.Cost(model, loss, (X, y))
    assert hesse.value(cost) == pytest.approx(float(loss(model(X), y).detach()), rel=1e-13)
    assert (
        reference.relative(
            cost.layout.flatten(hesse.gradient(cost)), cost.layout.flatten(hesse.gradient(whole))
        )
        < 1e-13
    )


def test_a_batch_in_which_every_target_is_ignored(problem: Any) -> None:
    model, X, y = problem
    loss = nn.CrossEntropyLoss(ignore_index=0)
    order = y.argsort()  # the first batch is all of class 0
    cost = hesse.Cost(model, loss, [(X[order[:5]], y[order[:5]]), (X[order[5:]], y[order[5:]])])
    assert hesse.value(cost) == pytest.approx(float(loss(model(X), y).detach()), rel=1e-13)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_loader_gives_what_its_samples_give(problem: Any, shuffle: bool) -> None:
    model, X, y = problem
    loader = DataLoader(TensorDataset(X, y), batch_size=4, shuffle=shuffle)
    cost = hesse.Cost(model, "cross_entropy", loader)
    expected = float(F.cross_entropy(model(X), y).detach())
    for _ in range(2):
        torch.rand(7)  # moves the global random state, and with it a loader's next order
        assert hesse.value(cost) == pytest.approx(expected, rel=1e-13)


def test_a_loss_of_one_element_may_have_an_axis() -> None:
    cost = hesse.Cost.from_function(
        lambda p: p["x"] ** 2, {"x": torch.tensor([3.0])}, penalty=lambda p: p["x"]
    )
    assert hesse.value(cost) == 12.0
    assert torch.equal(hesse.gradient(cost)["x"], torch.tensor([7.0]))


# ---------------------------------------------------------------- nothing is touched


def state(model: nn.Module) -> dict[str, Any]:
    """All of a model that an evaluation could change."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "identities": [id(parameter) for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires": [parameter.requires_grad for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def randomness() -> tuple[Any, ...]:
    # Python's own state is read in a process without beartype, which draws from it; see below.
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # type: ignore[index]


def settings() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch._C._get_mkldnn_enabled(),
    )


def evaluate_all(cost: hesse.Cost) -> None:
    hesse.value(cost)
    hesse.gradient(cost)
    for later in ("plan", "hessian", "diagonal"):
        if hasattr(hesse, later):
            getattr(hesse, later)(cost)
    if hasattr(hesse, "operator"):
        _ = hesse.operator(cost) @ cost.theta


@pytest.mark.parametrize(
    "name",
    [
        "batch norm train",
        "batch norm eval",
        "transformer, causal mask",
        "lstm",
        "tied embedding",
        "frozen parameters",
        "ragged batches",
    ],
)
def test_the_model_and_the_random_state_are_left_alone(name: str) -> None:
    problem = next(case for case in CASES if case.name == name).problem()
    model = problem.model
    next(iter(model.parameters())).grad = torch.ones_like(next(iter(model.parameters())))
    before, drawn, set_to = state(model), randomness(), settings()
    evaluate_all(problem.cost())
    after = state(model)
    assert randomness() == drawn
    assert settings() == set_to
    for what in ("identities", "requires", "modes", "attributes"):
        assert after[what] == before[what], what
    for name, tensor in before["tensors"].items():
        assert torch.equal(after["tensors"][name], tensor), name
    for new, old in zip(after["gradients"], before["gradients"], strict=True):
        assert (new is None) == (old is None) and (new is None or torch.equal(new, old))


def test_a_loader_that_draws_from_every_generator_leaves_them_alone(problem: Any) -> None:
    model, X, y = problem

    class Shuffled:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = list(range(11))
            random.shuffle(order)
            order = [order[i] for i in np.random.permutation(11)]
            order = [order[i] for i in torch.randperm(11).tolist()]
            yield X[order[:6]], y[order[:6]]
            yield X[order[6:]], y[order[6:]]

    own = torch.Generator().manual_seed(0)
    for loader in (
        Shuffled(),
        DataLoader(TensorDataset(X, y), batch_size=4, shuffle=True, generator=own),
    ):
        drawn, of_its_own = randomness(), own.get_state()
        cost = hesse.Cost(model, "cross_entropy", loader)
        assert hesse.value(cost) == pytest.approx(
            float(F.cross_entropy(model(X), y).detach()), rel=1e-13
        )
        assert randomness() == drawn
        assert torch.equal(own.get_state(), of_its_own)


def test_pythons_random_state_is_left_alone() -> None:
    script = """
import random, torch, hesse

class Shuffled:
    def __iter__(self):
        first, second = (torch.ones(2, 3), torch.ones(2, 1)), (torch.zeros(3, 3), torch.ones(3, 1))
        yield from random.sample([first, second], 2)

before = random.getstate()
cost = hesse.Cost(torch.nn.Linear(3, 1), "mse", Shuffled())
hesse.value(cost), hesse.gradient(cost)
assert random.getstate() == before
"""
    path = os.pathsep.join(
        filter(
            None, [os.path.dirname(os.path.dirname(hesse.__file__)), os.environ.get("PYTHONPATH")]
        )
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_later_changes_of_model_and_loss_do_not_change_the_cost(problem: Any) -> None:
    model, X, y = problem
    loss: Any = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double())
    params = {
        "W1": torch.ones(3, 2).double(),
        "b1": torch.zeros(2).double(),
        "W2": torch.ones(2, 3).double(),
    }
    costs = [hesse.Cost(model, loss, (X, y)), hesse.Cost(two_layers, loss, (X, y), params=params)]
    before = [(hesse.value(cost), cost.theta) for cost in costs]
    with torch.no_grad():
        for tensor in (*model.parameters(), *params.values()):
            tensor.add_(1.0)
        loss.weight.fill_(7.0)
    model.append(nn.Tanh())
    for cost, (value, theta) in zip(costs, before, strict=True):
        assert hesse.value(cost) == value
        assert torch.equal(cost.theta, theta)


def test_batch_norm_in_training_mode_is_evaluated_as_it_trains() -> None:
    problem = next(case for case in CASES if case.name == "batch norm train").problem()
    X, y = problem.data
    value = hesse.value(problem.cost())
    assert value == pytest.approx(
        float((problem.model(X) - y).square().sum().detach() / 2), rel=1e-13
    )


def test_a_cost_cannot_be_assigned_to() -> None:
    with pytest.raises(AttributeError):
        cost_of(CASES[0]).samples = 3  # type: ignore[misc]


# ---------------------------------------------------------------- the choice of parameters


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (None, ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ("2.weight", ["2.weight"]),
        (["2.bias", "0.bias"], ["2.bias", "0.bias"]),
        ("*.weight", ["0.weight", "2.weight"]),
        (["*.bias", "0.*"], ["0.bias", "2.bias", "0.weight"]),
        (lambda name: "0" in name, ["0.weight", "0.bias"]),
    ],
    ids=["all", "name", "names", "glob", "globs", "predicate"],
)
def test_parameters_by_name_glob_or_predicate(problem: Any, params: Any, names: list[str]) -> None:
    model, X, y = problem
    cost = hesse.Cost(model, "cross_entropy", (X, y), params=params)
    assert list(cost.layout.names) == names
    assert set(hesse.gradient(cost)) == set(names)
    assert hesse.value(cost) == pytest.approx(
        float(F.cross_entropy(model(X), y).detach()), rel=1e-13
    )


def test_frozen_parameters_are_left_out_and_can_be_asked_for(problem: Any) -> None:
    model, X, y = problem
    model[0].requires_grad_(False)
    assert hesse.Cost(model, "cross_entropy", (X, y)).layout.names == ("2.weight", "2.bias")
    assert hesse.Cost(model, "cross_entropy", (X, y), params="0.bias").layout.names == ("0.bias",)


@pytest.mark.parametrize(
    "params",
    [None, ["embed.*", "hidden.*"], ["head.weight", "hidden.*"], lambda name: "embed" not in name],
)
def test_a_tied_parameter_appears_once_under_its_first_name(params: Any) -> None:
    model, tokens = nets.TokenMean(tied=True), torch.tensor([[0, 1, 2], [1, 1, 3]])
    cost = hesse.Cost(model, "cross_entropy", (tokens, torch.tensor([1, 3])), params=params)
    assert cost.layout.names == ("embed.weight", "hidden.weight", "hidden.bias")


def test_at_gives_the_same_cost_at_other_parameters(problem: Any) -> None:
    model, X, y = problem
    cost = hesse.Cost(model, "cross_entropy", (X, y))
    moved = cost.theta + 0.5
    other = copy.deepcopy(model)
    with torch.no_grad():
        nn.utils.vector_to_parameters(moved, other.parameters())
    expected = float(F.cross_entropy(other(X), y).detach())
    for parameters in (moved, cost.layout.unflatten(moved)):
        assert hesse.value(cost.at(parameters)) == pytest.approx(expected, rel=1e-13)
        assert torch.equal(cost.at(parameters).theta, moved)
    assert hesse.value(cost) == pytest.approx(
        float(F.cross_entropy(model(X), y).detach()), rel=1e-13
    )


# ---------------------------------------------------------------- precision, words


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters_are_computed_in_float32_and_said_so(dtype: torch.dtype) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = (
            dense(3, 4, 2).to(dtype),
            torch.randn(5, 3).to(dtype),
            torch.tensor([0, 1, 1, 0, 1]),
        )
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]).to(dtype))
    cost = hesse.Cost(model, loss, (X, y))
    assert cost.notes == (
        f"{str(dtype).removeprefix('torch.')} parameters are computed in float32",
    )
    assert cost.dtype == torch.float32 and cost.theta.dtype == torch.float32
    expected = F.cross_entropy(
        copy.deepcopy(model).float()(X.float()), y, weight=torch.tensor([1.0, 2.0])
    )
    assert hesse.value(cost) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert next(model.parameters()).dtype == dtype


def test_wide_parameters_need_no_note(problem: Any) -> None:
    model, X, y = problem
    cost = hesse.Cost(model, "cross_entropy", (X, y))
    assert cost.notes == () and cost.dtype == torch.float64


def test_its_name_says_what_it_is(problem: Any) -> None:
    model, X, y = problem
    assert (
        str(hesse.Cost(model, "cross_entropy", (X, y), penalty=0.1))
        == "Cost(Sequential, cross_entropy, 11 samples, penalty 0.1, P = 31)"
    )
    assert (
        str(hesse.Cost.from_function(lambda p: p["u"] ** 2, {"u": torch.tensor(1.0)}))
        == "Cost(<lambda>, P = 1)"
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_function_of_data_is_a_mean_or_a_sum_as_it_says(reduction: str) -> None:
    X, y = torch.arange(10.0).reshape(5, 2).double(), torch.arange(5.0).double()

    def f(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return getattr((batch[0] @ params["w"] - batch[1]).square(), reduction)()

    params = {"w": torch.tensor([1.0, -0.5]).double()}
    batches = [(X[:3], y[:3]), (X[3:], y[3:])]
    cost = hesse.Cost.from_function(f, params, batches, reduction=reduction)
    assert hesse.value(cost) == pytest.approx(float(f(params, (X, y))), rel=1e-14)


def test_another_function_of_the_same_model_leaves_its_graph_alone() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()).double()
    data = torch.ones(3, 2).double(), torch.zeros(3, 2).double()
    cost = hesse.Cost(net, "half_sse", data)
    # Its samples hold what a graph of one does not show.
    squares = cost.squared_error_from_own_predictions()
    assert squares is not None and not hesse.plan(squares).captured
    assert hesse.plan(cost).captured
