"""Parameters that a loss, a model or a penalty reads other than through its arguments:
differentiated, or refused.

A loss module's own parameters are part of θ, by the names ``loss.*``.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import (
    WAYS,
    Formula,
    Make,
    Subject,
    check_right,
    check_right_or_refused,
    flat,
    function_of,
    made,
    of,
    off,
    parameter,
    x,
)
from networks import dense

REFUSAL = r"argument|other than|parameter|requires"


def mse(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().mean()


def net() -> Any:
    return dense(2, 3, 2).double()


def fourth_powers(model: nn.Module) -> Tensor:
    return flat(model.parameters()).pow(4).sum()


def data(n: int = 4) -> tuple[Tensor, Tensor]:
    return x(n, 2), x(n, 2)


# ---------------------------------------- read in a closure, a list, an attribute


def with_l2() -> Subject:
    """The usual L2: written into the loss, over the parameters of the network."""
    model = net()
    return of(
        model,
        lambda p, y: mse(p, y) + 0.05 * sum(w.square().sum() for w in model.parameters()),
        data(),
    )


def with_one_weight() -> Subject:
    """One layer's weight, in a norm that bends."""
    model = net()
    return of(model, lambda p, y: mse(p, y) + torch.log(torch.cosh(model[0].weight)).sum(), data())


def with_a_product() -> Subject:
    """The parameter meets the prediction, so that the blocks between layers are wrong without
    it."""
    model = net()
    return of(model, lambda p, y: mse(p * model[0].bias.square().sum(), y), data())


class Held(nn.Module):
    """A loss that keeps a network where torch does not look for it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.kept = [model]

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        return mse(prediction, y) + fourth_powers(self.kept[0])


class Sub(nn.Module):
    """A loss that has the network itself as a part."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        return mse(prediction, y) + 0.1 * self.model(y).square().mean()


def held_in_a_loss(kind: Callable[[nn.Module], nn.Module]) -> Subject:
    model = net()
    loss, (X, y) = kind(model), data()
    return of(model, loss, (X, y), lambda: loss(model(X), y))


def hidden_in_a_list() -> Subject:
    """A layer in a list is none of the module's parameters: held fixed, as an optimiser holds it,
    or refused."""
    model: Any = Formula(lambda m, z: m.head(torch.tanh(m.hidden[0](z))), head=nn.Linear(3, 2))
    model.hidden = [nn.Linear(2, 3).double()]
    return of(model, "mse", data())


def registered_and_in_a_list() -> Subject:
    """Layers that are registered, and gone through by a list of them."""
    model: Any = Formula(
        lambda m, z: m.order[1](torch.tanh(m.order[0](z))),
        first=nn.Linear(2, 3),
        second=nn.Linear(3, 2),
    )
    model.order = [model.first, model.second]
    return of(model, "mse", data())


def by_another_name() -> Subject:
    """A parameter that forward takes from a dictionary beside the module's own."""
    model: Any = Formula(lambda m, z: torch.tanh(z @ m.kept["w"]) @ m.w, w=parameter(2, 2))
    model.kept = {"w": model.w}
    return of(model, "mse", data())


def in_a_closure() -> Subject:
    """A model whose forward reads another network's weight, which is its own."""
    inner = net()
    return of(
        Formula(lambda m, z: m.inner(z) + inner[0].weight.square().sum(), inner=inner),
        "mse",
        data(),
    )


def function_that_reads_a_network() -> Subject:
    """``f(params, x)`` that ignores params: the network's own tensors were meant."""
    model = net()
    leaves, (X, y) = dict(model.named_parameters()), data()
    cost = hesse.Cost(lambda params, z: model(z), "mse", (X, y), params=leaves)
    return Subject(cost, lambda: mse(model(X), y), leaves)


def function_that_reads_one_more() -> Subject:
    """One argument is used, the other read outside."""
    u, v = parameter(2), parameter(2)
    cost = hesse.Cost.from_function(lambda p: (p["u"] * v).sum() ** 2, {"u": u, "v": v})
    return Subject(cost, lambda: (u * v).sum() ** 2, {"u": u, "v": v})


def penalty_over_a_network() -> Subject:
    model, (X, y) = net(), data()
    cost = hesse.Cost(model, "mse", (X, y), penalty=lambda params: fourth_powers(model))
    return Subject(
        cost, lambda: mse(model(X), y) + fourth_powers(model), dict(model.named_parameters())
    )


CLOSURES: dict[str, Make] = {
    "L2 in the loss": with_l2,
    "one weight in the loss": with_one_weight,
    "a product in the loss": with_a_product,
    "a loss that keeps a list": lambda: held_in_a_loss(Held),
    "a loss that has the network": lambda: held_in_a_loss(Sub),
    "a layer in a list": hidden_in_a_list,
    "layers in a list that are registered": registered_and_in_a_list,
    "a dictionary beside": by_another_name,
    "a closure in forward": in_a_closure,
    "a function that reads a network": function_that_reads_a_network,
    "a function that reads one more": function_that_reads_one_more,
    "a penalty over a network": penalty_over_a_network,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CLOSURES.values(), ids=CLOSURES)
def test_read_elsewhere(kind: Make, way: str) -> None:
    check_right_or_refused(kind, way, REFUSAL)


def test_what_is_registered_is_not_refused() -> None:
    subject = made(CLOSURES["layers in a list that are registered"])
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9


def test_tensors_that_are_fixed_are_not_refused() -> None:
    """A closure over tensors that no derivative is asked of is the usual way to write a cost."""
    a, b = x(3, 2), x(3)
    subject = function_of(
        lambda p: (a @ p["u"] - b).square().sum() + p["u"].cosh().sum(), {"u": x(2)}
    )
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9


# ---------------------------------------------------------------- a loss with parameters of its own


class Temperature(nn.Module):
    """Cross entropy of logits over a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.log_t = nn.Parameter(torch.tensor(0.3))

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(prediction * self.log_t.exp(), y)


class ArcFace(nn.Module):
    """Cosines with learned directions, a margin at the right one."""

    def __init__(self, inputs: int, classes: int, margin: float = 0.3, scale: float = 4.0) -> None:
        super().__init__()
        self.weight, self.margin, self.scale = (
            nn.Parameter(torch.randn(classes, inputs)),
            margin,
            scale,
        )

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(prediction), F.normalize(self.weight))
        angle = torch.acos(cosine.clamp(-0.999, 0.999)) + self.margin * F.one_hot(
            y, len(self.weight)
        )
        return F.cross_entropy(self.scale * torch.cos(angle), y)


class Weighed(nn.Module):
    """Two terms weighed by learned variances."""

    def __init__(self) -> None:
        super().__init__()
        self.log_var = nn.Parameter(torch.tensor([0.2, -0.4]))

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        terms = torch.stack([(prediction - y).square().mean(), (prediction - y).pow(4).mean()])
        return ((-self.log_var).exp() * terms + self.log_var).sum()


class Critic(nn.Module):
    """A loss that is a network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 2, 1)

    def forward(self, prediction: Tensor, y: Tensor) -> Tensor:
        return (self.net(prediction) - self.net(y)).square().mean()


CLASSES = torch.tensor([0, 1, 1, 0])
OWN: dict[str, Make] = {
    "temperature": lambda: of(net(), Temperature(), (x(4, 2), CLASSES)),
    "arcface": lambda: of(net(), ArcFace(2, 3), (x(4, 2), CLASSES)),
    "weighed terms": lambda: of(nn.Linear(2, 2), Weighed(), data()),
    "a critic": lambda: of(net(), Critic(), data()),
    "in two batches": lambda: of(
        net(), Temperature(), [(x(2, 2), CLASSES[:2]), (x(3, 2), CLASSES[1:])]
    ),
    "with a penalty": lambda: penalised(net(), Temperature(), (x(4, 2), CLASSES)),
}


def penalised(model: nn.Module, loss: nn.Module, pair: tuple[Tensor, Tensor]) -> Subject:
    """A penalty is over all of θ, what the loss brings included."""
    leaves = {
        **dict(model.named_parameters()),
        **{f"loss.{name}": w for name, w in loss.double().named_parameters()},
    }

    def J() -> Tensor:
        return loss(model(pair[0]), pair[1]) + 0.05 * sum(w.square().sum() for w in leaves.values())

    return Subject(hesse.Cost(model, loss, pair, penalty=0.1), J, leaves)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_a_loss_with_parameters(kind: Make, way: str) -> None:
    assert any(name.startswith("loss.") for name in made(kind).cost.layout.names)
    check_right(kind, way)


def test_its_parameters_are_named_after_it() -> None:
    layout = made(OWN["a critic"]).cost.layout
    expected = (
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
        *(f"loss.net.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")),
    )
    assert layout.names == expected
    cost = made(OWN["temperature"]).cost
    assert cost.layout.shape("loss.log_t") == () and float(
        cost.parameters["loss.log_t"]
    ) == pytest.approx(0.3)
    assert set(hesse.gradient(cost)) == set(cost.layout.names)


CHOICES: dict[str, tuple[Any, list[str]]] = {
    "a glob": ("loss.*", ["loss.log_t"]),
    "names": (["0.weight", "loss.log_t"], ["0.weight", "loss.log_t"]),
    "a predicate": (
        lambda name: name.endswith(("bias", "log_t")),
        ["0.bias", "2.bias", "loss.log_t"],
    ),
    "without it": ("*.weight", ["0.weight", "2.weight"]),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_they_are_chosen_as_others_are(choice: tuple[Any, list[str]]) -> None:
    params, names = choice
    model, loss = net(), Temperature().double()
    X, y = x(4, 2), CLASSES
    leaves = {
        **dict(model.named_parameters()),
        **{f"loss.{name}": w for name, w in loss.named_parameters()},
    }
    subject = Subject(
        hesse.Cost(model, loss, (X, y), params=params), lambda: loss(model(X), y), leaves
    )
    assert list(subject.cost.layout.names) == names
    for way, call in WAYS.items():
        assert off(call(subject.cost), subject.expected, way) < 1e-9


def test_they_move_with_theta() -> None:
    subject = made(OWN["temperature"])
    moved = subject.cost.at(subject.cost.theta + 0.1)
    saved = {name: leaf.detach().clone() for name, leaf in subject.leaves.items()}
    again = Subject(moved, subject.J, subject.leaves)
    try:
        with torch.no_grad():
            for leaf in subject.leaves.values():
                leaf.add_(0.1)
        assert hesse.value(moved) == pytest.approx(float(subject.J().detach()), rel=1e-12)
        for way, call in WAYS.items():
            assert off(call(moved), again.expected, way) < 1e-9
    finally:
        with torch.no_grad():
            for name, leaf in subject.leaves.items():
                leaf.copy_(saved[name])


def test_those_that_are_frozen_are_held() -> None:
    """As a model's are: what requires no gradient is no part of θ."""
    loss = Temperature().requires_grad_(False)
    subject = of(net(), loss, (x(4, 2), CLASSES))
    assert "loss.log_t" not in subject.cost.layout.names
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9


def test_later_training_of_the_loss_changes_nothing() -> None:
    model, loss, X = net(), Temperature().double(), x(4, 2)
    cost = hesse.Cost(model, loss, (X, CLASSES))
    before, value = hesse.hessian(cost).dense(), hesse.value(cost)
    with torch.no_grad():
        loss.log_t.add_(1.0)
    assert hesse.value(cost) == value
    assert torch.equal(hesse.hessian(cost).dense(), before)
    assert not torch.equal(hesse.hessian(hesse.Cost(model, loss, (X, CLASSES))).dense(), before)
