"""What a forward detaches, or computes under no_grad, is held fixed, as PyTorch does; and what
kinks may do to differences.

There g·v is not the slope of the value, so differences of gradients do not agree with H, and
nothing is wrong.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Make,
    Subject,
    check_right,
    double_backward,
    made,
    of,
    off,
    said,
    x,
)
from networks import dense


def two(forward: Callable[[Any, Tensor], Tensor], loss: Any = "half_sse") -> Subject:
    return of(Formula(forward, a=nn.Linear(2, 3), b=nn.Linear(3, 2)), loss, (x(5, 2), x(5, 2)))


def quantised(u: Tensor) -> Tensor:
    return (u * 4).round() / 4


def under_no_grad(m: Any, z: Tensor) -> Tensor:
    with torch.no_grad():
        gate = torch.sigmoid(m.a(z))
    return m.b(torch.tanh(m.a(z)) * gate)


def hard_gate(m: Any, z: Tensor) -> Tensor:
    """Forward a step, backward a sigmoid."""
    soft = torch.sigmoid(m.a(z))
    hard = (soft > 0.5).double()
    return m.b((hard - soft.detach() + soft) * m.a(z))


class Target(nn.Module):
    """A student against a target network: the same parameters, without a gradient through them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 3, 2)

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.net(z + 0.1)
        return self.net(z) - 0.9 * target


def scaled_by_its_norm(m: Any, z: Tensor) -> Tensor:
    """A weight over its norm, the norm taken for a constant."""
    return m.b(torch.tanh(F.linear(z, m.a.weight / m.a.weight.norm().detach(), m.a.bias)))


def bootstrapped(prediction: Tensor, y: Tensor) -> Tensor:
    """The model's own opinion as a part of the target."""
    return F.binary_cross_entropy_with_logits(
        prediction, (0.8 * (y > 0) + 0.2 * prediction.sigmoid()).detach()
    )


def inner_step(m: Any, z: Tensor) -> Tensor:
    """A step of descent on the input inside forward, without a graph through it."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (g,) = torch.autograd.grad(torch.tanh(m.a(leaf)).sum(), leaf)
    return m.b(torch.tanh(m.a(z - 0.1 * g)))


def padded() -> Subject:
    """The vector of the padding enters, also where it is not looked up, and takes no gradient by
    being looked up."""
    table = nn.Embedding(4, 3, padding_idx=0)
    with torch.no_grad():
        table.weight[0] = 0.5
    model = Formula(
        lambda m, z: m.b(torch.tanh(m.table(z).mean(1))) + m.table.weight.square().sum(),
        table=table,
        b=nn.Linear(3, 2),
    )
    return of(model, "half_sse", (torch.tensor([[0, 1], [2, 0], [3, 3]]), x(3, 2)))


FIXED: dict[str, Make] = {
    "a gate": lambda: two(lambda m, z: m.b(torch.tanh(m.a(z)) * torch.sigmoid(m.a(z)).detach())),
    "a gate under no_grad": lambda: two(under_no_grad),
    "straight-through": lambda: two(
        lambda m, z: m.b((u := torch.tanh(m.a(z))) + (quantised(u) - u).detach())
    ),
    "a hard gate": lambda: two(hard_gate),
    "a target network": lambda: of(Target(), "half_sse", (x(5, 2), x(5, 2))),
    "the norm of a weight": lambda: two(scaled_by_its_norm),
    "a target of its own": lambda: two(lambda m, z: m.b(torch.tanh(m.a(z))), bootstrapped),
    "data of a parameter": lambda: two(
        lambda m, z: m.b(torch.tanh(m.a(z))) * (1 + m.b.weight.data.square().sum())
    ),
    "a step inside": lambda: two(inner_step),
    "the padding of an embedding": padded,
}


@pytest.mark.some(of=2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FIXED.values(), ids=FIXED)
def test_double_backward_is_the_definition(kind: Make, way: str) -> None:
    # torch.func does not see that ``.data`` detaches; the certificate does.
    check_right(kind, way, bare=kind is not FIXED["data of a parameter"])


@pytest.mark.parametrize("kind", FIXED.values(), ids=FIXED)
def test_the_plan_says_so(kind: Make) -> None:
    subject = made(kind)
    hesse.hessian(subject.cost)
    assert "held fixed" in " ".join(hesse.plan(subject.cost).notes)


def test_without_such_values_it_does_not() -> None:
    subject = two(lambda m, z: m.b(torch.tanh(m.a(z))))
    H = hesse.hessian(subject.cost)
    assert "held fixed" not in said(subject.cost, H.certificate) and "kink" not in said(
        subject.cost, H.certificate
    )


def test_what_is_detached_and_does_not_depend_on_theta_is_no_news() -> None:
    """Data may be detached as often as one likes."""
    subject = two(lambda m, z: m.b(torch.tanh(m.a(z.detach()))) + (z * 2).detach())
    H = hesse.hessian(subject.cost)
    assert off(H.dense(), subject.expected) < 1e-9
    assert "held fixed" not in said(subject.cost, H.certificate)


# ---------------------------------------------------------------- kinks


def digits(count: int) -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images[:count] / 16), torch.from_numpy(labels[:count])


def dense_relu() -> nn.Module:
    return nn.Sequential(nn.AvgPool1d(4), dense(16, 8, 6, 10, f=nn.ReLU))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"dense": dense_relu, "convolutional": convolutional}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_networks_with_kinks_pass(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    """On real digits, where some sample is near a kink at every step that differences take."""
    X, y = digits(100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(dtype)
    cost = hesse.Cost(model, "cross_entropy", (X.to(dtype), y))
    H, d, op = hesse.hessian(cost), hesse.diagonal(cost), hesse.operator(cost)
    v = torch.linspace(-1, 1, cost.layout.size, dtype=dtype)
    wide = model.double()
    leaves = [dict(wide.named_parameters())[name] for name in cost.layout.names]
    (slope,) = [torch.autograd.grad(F.cross_entropy(wide(X), y), leaves, create_graph=True)]
    directions = [
        part.reshape(leaf.shape)
        for part, leaf in zip(
            v.double().split([leaf.numel() for leaf in leaves]), leaves, strict=True
        )
    ]
    expected = torch.cat(
        [part.reshape(-1) for part in torch.autograd.grad(slope, leaves, directions)]
    )
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    assert off(H @ v, expected) < tolerance and off(op @ v, expected) < tolerance
    assert off(cost.layout.flatten(d), H.dense().diagonal().double()) < tolerance


AT_A_KINK: dict[str, Callable[[], nn.Module]] = {
    "all zero": lambda: dense(2, 3, 2, f=nn.ReLU),
    "all zero, deeper": lambda: dense(2, 3, 3, 2, f=nn.ReLU),
    "all zero, leaky": lambda: dense(2, 3, 2, f=nn.LeakyReLU),
    "pooled, all zero": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 2, 1), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 2)
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", AT_A_KINK.values(), ids=AT_A_KINK)
def test_exactly_at_a_kink(make: Callable[[], nn.Module], way: str) -> None:
    """Every step crosses it, so that differences say something else at all of them; H is what
    PyTorch defines, with a note."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = make().double(), x(4, 2), x(4, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    cost = hesse.Cost(model, "half_sse", (X, y))
    leaves = [dict(model.named_parameters())[name] for name in cost.layout.names]
    expected = double_backward(lambda: (model(X) - y).square().sum() / 2, leaves)
    assert off(WAYS[way](cost), expected, way) < 1e-9
    result = {"hessian": hesse.hessian, "diagonal": hesse.diagonal, "operator": hesse.operator}[
        way
    ](cost)
    assert "kink" in said(cost, result.certificate)


def test_one_dead_layer_of_a_trained_network_is_at_a_kink() -> None:
    """Zero biases and a sample of zeros: the first layer stands at 0 for that sample."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = dense(2, 4, 2, f=nn.ReLU).double(), x(6, 2), x(6, 2)
    with torch.no_grad():
        model[0].bias.zero_()  # type: ignore[union-attr,operator]
        X[0] = 0
    subject = of(model, "half_sse", (X, y))
    H = hesse.hessian(subject.cost)
    assert off(H.dense(), subject.expected) < 1e-9 and "kink" in said(subject.cost, H.certificate)


def test_a_wrong_backward_beside_kinks_is_found() -> None:
    """A ReLU network is no place to hide in."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Tensor) -> Tensor:  # type: ignore[override]
            ctx.save_for_backward(u)
            return u**3

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
            return g * 3 * ctx.saved_tensors[0].detach() ** 2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Formula(
            lambda m, z: m.b(torch.relu(Wrong.apply(m.a(z)))), a=nn.Linear(2, 4), b=nn.Linear(4, 2)
        ).double()
        X, y = x(8, 2), x(8, 2)
    with pytest.raises(hesse.HesseError, match="backward"):
        hesse.hessian(hesse.Cost(model, "half_sse", (X, y)))
