"""A cost is a snapshot: it leaves the user's tensors alone, and asked again it is the same, bit for
bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Subject,
    check_right_or_refused,
    double_backward,
    off,
    parameter,
    x,
)
from networks import dense

# ---------------------------------------------------------------- what is written over


def centred(z: Tensor) -> Tensor:
    """The usual preprocessing, in place."""
    z -= 0.5
    z *= 2
    return z


def swapped(z: Tensor) -> Tensor:
    z.copy_(z.flip(1))
    return z


def rectified(z: Tensor) -> Tensor:
    return F.relu(z, inplace=True)


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": centred,
    "flipped": swapped,
    "relu in place": rectified,
}


def written_over(write: Callable[[Tensor], Tensor]) -> Subject:
    """A network that writes into its input first; J works on a copy."""
    net = dense(2, 3, 2)
    model = Formula(lambda m, z: m.net(write(z)), net=net).double()
    X, y = x(4, 2), x(4, 2)
    cost = hesse.Cost(model, "mse", (X, y))
    return Subject(
        cost, lambda: (net(write(X.clone())) - y).square().mean(), dict(model.named_parameters())
    )


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_forward_that_writes_into_its_input(write: Callable[[Tensor], Tensor]) -> None:
    subject = written_over(write)
    for way, call in WAYS.items():
        assert off(call(subject.cost), subject.expected, way) < 1e-9, way
    assert (
        hesse.value(subject.cost)
        == hesse.value(subject.cost)
        == pytest.approx(float(subject.J().detach()), rel=1e-12)
    )


def test_the_users_data_stay() -> None:
    model = Formula(lambda m, z: m.net(centred(z)), net=dense(2, 3, 2)).double()
    X, y = x(4, 2), x(4, 2)
    kept = X.clone()
    for data in (
        (X, y),
        [(X[:2], y[:2]), (X[2:], y[2:])],
        DataLoader(TensorDataset(X, y), batch_size=4),
    ):
        cost = hesse.Cost(model, "mse", data)
        for ask in (hesse.value, hesse.gradient, hesse.plan, hesse.hessian, hesse.diagonal):
            ask(cost)
        assert (hesse.operator(cost) @ cost.theta).shape == cost.theta.shape
        assert torch.equal(X, kept), type(data).__name__


def test_other_arguments_that_are_written_over() -> None:
    """Targets by a loss, entries of a dictionary, a batch of ``from_function``."""
    net, X, y = dense(2, 3, 2).double(), x(4, 2), x(4, 2)
    before = X.clone(), y.clone()

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target.mul_(0.5)).square().mean()

    def function(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return (batch[0].mul_(0.5) @ params["w"] - batch[1].add_(1)).square().mean()

    w = x(2, 2)
    costs: list[tuple[hesse.Cost, Callable[[], Tensor], list[Tensor]]] = [
        (
            hesse.Cost(net, loss, (X, y)),
            lambda: (net(X) - y / 2).square().mean(),
            list(net.parameters()),
        ),
        (
            hesse.Cost(
                Formula(lambda m, b: m.net(centred(b["given"])), net=net), "mse", ({"given": X}, y)
            ),
            lambda: (net(2 * (X - 0.5)) - y).square().mean(),
            list(net.parameters()),
        ),
        (
            hesse.Cost.from_function(function, {"w": w}, (X, y)),
            lambda: (X / 2 @ leaf - y - 1).square().mean(),
            [leaf := w.clone().requires_grad_()],
        ),
    ]
    for cost, J, leaves in costs:
        for way, call in WAYS.items():
            assert off(call(cost), double_backward(J, leaves), way) < 1e-9
        assert hesse.value(cost) == pytest.approx(float(J().detach()), rel=1e-12)
        assert torch.equal(X, before[0]) and torch.equal(y, before[1])


# ---------------------------------------------------------------- what drifts


class Counting(nn.Module):
    """A schedule: every call moves a buffer, and the output with it, by very little."""

    def __init__(self, scale: float = 1e-6) -> None:
        super().__init__()
        self.net, self.scale = dense(2, 3, 2), scale
        self.register_buffer("steps", torch.zeros(()))
        self.steps: Tensor

    def forward(self, z: Tensor) -> Tensor:
        self.steps += 1
        return self.net(z) * (1 + self.scale * self.steps)


class Replacing(Counting):
    """The same by assignment."""

    def forward(self, z: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return self.net(z) * (1 + self.scale * self.steps)


class Averaging(nn.Module):
    """A moving average of its own activations, which it subtracts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 3, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.mean: Tensor

    def forward(self, z: Tensor) -> Tensor:
        out = self.net(z)
        with torch.no_grad():
            self.mean.mul_(0.999).add_(0.001 * out.detach().mean(0))
        return out - self.mean


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)).train()


def spectral() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)), nn.Tanh(), nn.Linear(3, 2)
    ).train()


DRIFTS: dict[str, Callable[[], nn.Module]] = {
    "a counter": Counting,
    "a counter, assigned": Replacing,
    "a moving average": Averaging,
    "batch norm, training": normalised,
    "spectral norm, training": spectral,
}


def of_module(make: Callable[[], nn.Module]) -> tuple[hesse.Cost, nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = make().double(), x(4, 2), x(4, 2)
    return hesse.Cost(model, "mse", (X, y)), model, X, y


@pytest.mark.parametrize("make", DRIFTS.values(), ids=DRIFTS)
def test_asked_a_hundred_times_the_value_is_the_same(make: Callable[[], nn.Module]) -> None:
    cost, model, X, y = of_module(make)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    expected = (
        (
            torch.func.functional_call(
                model, {name: b.clone() for name, b in buffers.items()}, (X,)
            )
            - y
        )
        .square()
        .mean()
    )
    values = {hesse.value(cost) for _ in range(100)}
    assert len(values) == 1 and values.pop() == pytest.approx(float(expected.detach()), rel=1e-12)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("make", DRIFTS.values(), ids=DRIFTS)
def test_other_questions_do_not_move_it(make: Callable[[], nn.Module]) -> None:
    cost, model, X, y = of_module(make)
    leaves = dict(model.named_parameters())

    def J() -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return (torch.func.functional_call(model, {**leaves, **buffers}, (X,)) - y).square().mean()

    before = hesse.value(cost)
    subject = Subject(cost, J, leaves)
    for way, call in WAYS.items():
        assert off(call(cost), subject.expected, way) < 1e-9
    hesse.gradient(cost)
    assert hesse.value(cost) == before == hesse.value(cost.at(cost.theta))


class Remembering(nn.Module):
    """A counter that is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = dense(2, 3, 2), 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.net(z) * (1 + 1e-6 * self.calls)


def test_a_plain_attribute_that_counts() -> None:
    """Put back like a buffer, or seen."""
    try:
        cost, *_ = of_module(Remembering)
        values = {hesse.value(cost) for _ in range(20)}
    except hesse.HesseError as error:
        assert "evaluations" in str(error) or "attribute" in str(error) or "random" in str(error)
    else:
        assert len(values) == 1


def clipped(m: Any, z: Tensor) -> Tensor:
    """Weights kept in bounds by forward itself."""
    with torch.no_grad():
        m.w.mul_(0.999)
    return torch.tanh(z @ m.w)


def clipped_data(m: Any, z: Tensor) -> Tensor:
    m.w.data.mul_(0.999)
    return torch.tanh(z @ m.w)


def shrinking(params: dict[str, Tensor]) -> Tensor:
    params["w"].data.mul_(0.999)
    return params["w"].square().sum()


PARAMETERS: dict[str, Callable[[nn.Module, Any], hesse.Cost]] = {
    "forward": lambda model, data: hesse.Cost(model, "mse", data),
    "a penalty": lambda model, data: hesse.Cost(
        Formula(lambda m, z: z @ m.w, w=model.w), "mse", data, penalty=shrinking
    ),  # type: ignore[arg-type]
    "a function": lambda model, data: hesse.Cost.from_function(shrinking, {"w": model.w}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("forward", [clipped, clipped_data])
@pytest.mark.parametrize("make", PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_that_are_written_into(
    make: Callable[[nn.Module, Any], hesse.Cost], forward: Any
) -> None:
    """A cost stands at its θ: refused, or held still; the user's own weights stay in any case."""
    model: Any = Formula(forward, w=parameter(2, 2))
    kept, data = model.w.detach().clone(), (x(4, 2), x(4, 2))
    try:
        cost = make(model, data)
        theta = cost.theta.clone()
        values = {hesse.value(cost) for _ in range(10)}
        for ask in (hesse.gradient, hesse.hessian, hesse.operator):
            ask(cost)
    except hesse.HesseError as error:
        assert "writes" in str(error)
    else:
        assert len(values) == 1 and torch.equal(cost.theta, theta)
    assert torch.equal(model.w, kept)


def test_buffers_of_a_loss_that_it_changes() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()).double())
            self.steps: Tensor

        def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
            self.steps += 1
            return (prediction - y).square().mean() * (1 + 1e-6 * self.steps)

    loss = Counted()
    cost = hesse.Cost(dense(2, 3, 2).double(), loss, (x(4, 2), x(4, 2)))
    assert len({hesse.value(cost) for _ in range(20)}) == 1 and float(loss.steps) == 0
    assert hesse.hessian(cost).certificate is not None


def test_a_module_that_keeps_its_last_output() -> None:
    """For a picture of activations, say. It neither changes the numbers nor holds a graph."""

    def keep(m: Any, z: Tensor) -> Tensor:
        m.last = torch.tanh(z @ m.w)
        return m.last * 2

    X, y = x(4, 2), x(4, 2)

    def make() -> Subject:
        model: Any = Formula(keep, w=parameter(2, 2))
        cost = hesse.Cost(model, "half_sse", (X, y))
        return Subject(
            cost, lambda: (2 * torch.tanh(X @ model.w) - y).square().sum() / 2, {"w": model.w}
        )

    for way in WAYS:
        check_right_or_refused(make, way, "copied|keeps|output")


def test_a_certificate_leaves_the_users_model_alone() -> None:
    model, X, y = dense(2, 3, 2).double(), x(4, 2), x(4, 2)
    grads = [p.grad for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    cost = hesse.Cost(model, "mse", (X, y))
    for ask in (hesse.hessian, hesse.diagonal, hesse.operator):
        ask(cost)
    assert [p.grad for p in model.parameters()] == grads
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
