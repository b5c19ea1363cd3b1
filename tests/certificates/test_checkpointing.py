"""Checkpointing, in both of its forms, at the model's own θ and at any other, against the same
network without it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import hesse
from certificates.kinds import WAYS, Subject, flat, off, x
from networks import dense

Inner = Callable[..., Any]


def apply(model: Any, inner: Inner, z: Tensor) -> Tensor:
    """Three layers, the one in the middle in a checkpoint."""
    return model.c(inner(lambda h: torch.tanh(model.b(h)), torch.tanh(model.a(z))))


def first(model: Any, inner: Inner, z: Tensor) -> Tensor:
    """The first, whose input requires no gradient."""
    return model.c(torch.tanh(model.b(inner(lambda h: torch.tanh(model.a(h)), z))))


def nested(model: Any, inner: Inner, z: Tensor) -> Tensor:
    return model.c(
        inner(
            lambda h: torch.tanh(model.b(inner(lambda g: torch.tanh(model.a(g)), h))),
            torch.tanh(model.a(z)),
        )
    )


def several(model: Any, inner: Inner, z: Tensor) -> Tensor:
    """Two arguments, and a layer used inside and outside."""
    return model.c(
        inner(
            lambda h, g: torch.tanh(model.b(h)) * g,
            torch.tanh(model.b(z)),
            torch.sigmoid(model.a(z)),
        )
    )


def attended(model: Any, inner: Inner, z: Tensor) -> Tensor:
    """As large models have it: attention inside."""

    def block(h: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(model.a(h), model.b(h), h)

    return model.c(inner(block, z.unsqueeze(1).expand(-1, 2, -1) + 0).sum(1))


FORMS: dict[str, Callable[[Any, Inner, Tensor], Tensor]] = {
    "the middle": apply,
    "the first": first,
    "nested": nested,
    "several": several,
    "attention": attended,
}


class Net(nn.Module):
    def __init__(self, form: str, reentrant: bool | None) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(2, 2) for _ in range(3))
        self.form, self.reentrant = form, reentrant

    def forward(self, z: Tensor) -> Tensor:
        if self.reentrant is None:
            return FORMS[self.form](self, lambda f, *args: f(*args), z)
        return FORMS[self.form](
            self, lambda f, *args: checkpoint(f, *args, use_reentrant=self.reentrant), z
        )


def pair(form: str, reentrant: bool) -> tuple[hesse.Cost, Subject]:
    """The cost with checkpoints, and the subject without."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model, plain = Net(form, reentrant).double(), Net(form, None).double()
        plain.load_state_dict(model.state_dict())
        X, y = x(4, 2), x(4, 2)
    reference = Subject(
        hesse.Cost(plain, "half_sse", (X, y)),
        lambda: (plain(X) - y).square().sum() / 2,
        dict(plain.named_parameters()),
    )
    return hesse.Cost(model, "half_sse", (X, y)), reference


# A reentrant checkpoint of an input that needs no gradient gives none to its layers: PyTorch's own
# rule, not a fault.
ROWS = [
    ("the middle", False, False),
    ("the middle", False, True),
    ("the middle", True, False),
    ("the middle", True, True),
    ("the first", False, True),
    ("nested", True, True),
    ("several", True, True),
    ("attention", False, True),
]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("form", "reentrant", "elsewhere"), ROWS)
def test_right(form: str, reentrant: bool, elsewhere: bool) -> None:
    cost, reference = pair(form, reentrant)
    if elsewhere:
        shift = torch.linspace(-0.4, 0.5, cost.layout.size, dtype=torch.float64)
        cost = cost.at(cost.theta + shift)
        with torch.no_grad():
            nn.utils.vector_to_parameters(
                cost.theta, [reference.leaves[name] for name in cost.layout.names]
            )
    gradient = torch.autograd.grad(
        reference.J(), [reference.leaves[name] for name in cost.layout.names]
    )
    assert abs(hesse.value(cost) - float(reference.J().detach())) < 1e-12
    assert float((cost.layout.flatten(hesse.gradient(cost)) - flat(gradient)).abs().max()) < 1e-12
    for way, call in WAYS.items():
        assert off(call(cost, certify=not elsewhere), reference.expected, way) < 1e-9, way


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_the_first_layer_of_a_reentrant_checkpoint_is_right_or_refused() -> None:
    """PyTorch trains it not at all, with a warning: its gradient is dropped, so there is no H that
    agrees with anything."""
    cost, reference = pair("the first", True)
    for way, call in WAYS.items():
        try:
            found = call(cost)
        except hesse.HesseError as error:
            assert "checkpoint" in str(error) or "backward" in str(error)
        else:
            assert off(found, reference.expected, way) < 1e-9


@pytest.mark.parametrize("reentrant", [False, True], ids=["not", "reentrant"])
def test_a_sequence_in_segments(reentrant: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers, X, y = dense(2, 2, 2, 2, 2).double(), x(4, 2), x(4, 2)

    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.layers = nn.Linear(2, 2).double(), layers

        def forward(self, z: Tensor) -> Tensor:
            return checkpoint_sequential(self.layers, 2, self.before(z), use_reentrant=reentrant)

    model = Segments()
    subject = Subject(
        hesse.Cost(model, "mse", (X, y)),
        lambda: (layers(model.before(X)) - y).square().mean(),
        dict(model.named_parameters()),
    )
    for way, call in WAYS.items():
        assert off(call(subject.cost, certify=False), subject.expected, way) < 1e-9


def test_a_loss_in_a_checkpoint() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = dense(2, 3, 2).double(), x(4, 2), x(4, 2)

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return checkpoint(lambda p: (p - target).pow(4).mean(), prediction, use_reentrant=False)

    subject = Subject(
        hesse.Cost(model, loss, (X, y)),
        lambda: (model(X) - y).pow(4).mean(),
        dict(model.named_parameters()),
    )
    for way, call in WAYS.items():
        assert off(call(subject.cost), subject.expected, way) < 1e-9


def test_minimising_through_a_checkpoint() -> None:
    """Every iterate is another θ."""
    cost, reference = pair("the middle", False)
    found = hesse.minimize(cost, method="trust-exact", tolerance=1e-8)
    expected = hesse.minimize(reference.cost, method="trust-exact", tolerance=1e-8)
    assert abs(float(found.fun) - float(expected.fun)) < 1e-8
