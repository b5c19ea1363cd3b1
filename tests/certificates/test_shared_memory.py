"""Summands of a sum share what is carried to them: residual blocks, one block applied again,
branches that meet."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import Formula, Subject, check_right, linears, made, of, off, x

Step = Callable[[nn.Module, Tensor], Tensor]


def blocks(
    step: Step,
    count: int = 3,
    width: int = 2,
    loss: Any = "mse",
    layers: nn.ModuleList | None = None,
) -> Subject:
    """``count`` blocks, each ``z = step(layer, z)``, on vectors."""

    def forward(model: Any, z: Tensor) -> Tensor:
        for layer in model.layers:
            z = step(layer, z)
        return z

    y = torch.arange(5) % width if loss == "cross_entropy" else x(5, width)
    return of(Formula(forward, layers=layers or linears(count, width)), loss, (x(5, width), y))


def in_place(layer: nn.Module, z: Tensor) -> Tensor:
    sum_ = z.clone()
    sum_ += torch.tanh(layer(z))
    return sum_


def again(advance: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor], times: int) -> Subject:
    """One block applied several times: the layers of an integrator."""

    def forward(model: Any, z: Tensor) -> Tensor:
        for _ in range(times):
            z = advance(lambda z: torch.tanh(model.layer(z)), z)
        return z

    return of(Formula(forward, layer=nn.Linear(2, 2)), "half_sse", (x(4, 2), x(4, 2)))


def runge_kutta(f: Callable[[Tensor], Tensor], z: Tensor, h: float = 0.3) -> Tensor:
    k1 = f(z)
    k2 = f(z + h / 2 * k1)
    k3 = f(z + h / 2 * k2)
    k4 = f(z + h * k3)
    return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def heun(f: Callable[[Tensor], Tensor], z: Tensor, h: float = 0.4) -> Tensor:
    k = f(z)
    return z + h / 2 * (k + f(z + h * k))


def images(
    make: Callable[[int], nn.Module], step: Step, *size: int, count: int = 3, channels: int = 2
) -> Subject:
    """Blocks on images (or signals), then the mean over places and a head."""

    def forward(model: Any, z: Tensor) -> Tensor:
        for layer in model.layers:
            z = step(layer, z)
        return model.head(z.flatten(2).mean(2))

    layers = nn.ModuleList(make(channels) for _ in range(count))
    return of(
        Formula(forward, layers=layers, head=nn.Linear(channels, 2)),
        "mse",
        (x(3, channels, *size), x(3, 2)),
    )


def tokens(step: Step, layers: nn.ModuleList, width: int = 2) -> Subject:
    """Blocks on tokens (N, T, d)."""

    def forward(model: Any, z: Tensor) -> Tensor:
        for layer in model.layers:
            z = step(layer, z)
        return z

    return of(Formula(forward, layers=layers), "mse", (x(3, 3, width), x(3, 3, width)))


def transformer(count: int) -> Subject:
    """Attention and a dense network by turns, both with a normalisation before them and a skip over
    them."""
    encoder = nn.ModuleList(
        nn.TransformerEncoderLayer(
            2, nhead=1, dim_feedforward=2, dropout=0.0, batch_first=True, norm_first=True
        )
        for _ in range(count)
    )
    return tokens(lambda layer, z: layer(z), encoder)


def dense_net(model: Any, z: Tensor) -> Tensor:
    for layer in model.layers:
        z = torch.cat([z, torch.tanh(layer(z))], 1)
    return z


def over_several(model: Any, z: Tensor) -> Tensor:
    """A skip over each block and one over all of them."""
    start = z
    for layer in model.layers[:2]:
        z = z + torch.tanh(layer(z))
    z = z + start
    for layer in model.layers[2:]:
        z = z + torch.tanh(layer(z)) + start
    return z


KINDS: dict[str, Callable[[], Subject]] = {
    "three, tanh": lambda: blocks(lambda f, z: z + torch.tanh(f(z))),
    "six, sigmoid": lambda: blocks(lambda f, z: z + torch.sigmoid(f(z)), count=6),
    "in place": lambda: blocks(in_place),
    "alpha of a sum": lambda: blocks(lambda f, z: torch.add(z, torch.tanh(f(z)), alpha=0.5)),
    "Euler's step with a factor": lambda: blocks(lambda f, z: z + 0.1 * torch.tanh(f(z)), count=4),
    "a product in place of a sum": lambda: blocks(lambda f, z: z * (1 + torch.tanh(f(z)))),
    "three summands": lambda: blocks(lambda f, z: z + torch.tanh(f(z)) + torch.sigmoid(f(z)) * z),
    "a gate": lambda: blocks(
        lambda f, z: torch.sigmoid(f(z)) * torch.tanh(z) + (1 - torch.sigmoid(f(z))) * z
    ),
    "two layers in a block": lambda: blocks(
        lambda f, z: z + f(z),
        layers=nn.ModuleList(
            nn.Sequential(*linears(1, 2), nn.Tanh(), *linears(1, 2)) for _ in range(3)
        ),
    ),
    "normalised after the sum": lambda: blocks(
        lambda f, z: F.layer_norm(z + torch.tanh(f(z)), (3,)), width=3, layers=linears(3, 3)
    ),
    "one block again, Euler": lambda: again(lambda f, z: z + 0.3 * f(z), 4),
    "one block again, Heun": lambda: again(heun, 2),
    "one block again, Runge-Kutta": lambda: again(runge_kutta, 1),
    "images, relu": lambda: images(
        lambda c: nn.Conv2d(c, c, 3, padding=1), lambda f, z: z + F.relu(f(z)), 3, 3
    ),
    "images, silu, by channel": lambda: images(
        lambda c: nn.Conv2d(c, c, 3, padding=1, groups=c), lambda f, z: z + F.silu(f(z)), 3, 3
    ),
    "signals": lambda: images(
        lambda c: nn.Conv1d(c, c, 3, padding=1), lambda f, z: z + torch.tanh(f(z)), 4
    ),
    "tokens, gelu": lambda: tokens(lambda f, z: z + F.gelu(f(z)), linears(3, 2)),
    "tokens, mixed": lambda: tokens(lambda f, z: z + torch.tanh(f(z.mT)).mT, linears(3, 3)),
    "transformer": lambda: transformer(2),
    "concatenation": lambda: of(
        Formula(dense_net, layers=nn.ModuleList(nn.Linear(k, 1) for k in (2, 3, 4))),
        "mse",
        (x(4, 2), x(4, 5)),
    ),
    "skips over several blocks": lambda: of(
        Formula(over_several, layers=linears(4, 2)), "half_sse", (x(4, 2), x(4, 2))
    ),
}


FEW = ["three, tanh", "one block again, Runge-Kutta", "images, relu", "tokens, gelu"]


@pytest.mark.some(of=2)
@pytest.mark.parametrize("way", ["hessian", "diagonal"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_right(kind: Callable[[], Subject], way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize("name", FEW)
def test_the_operator_agrees(name: str) -> None:
    check_right(KINDS[name], "operator")


@pytest.mark.parametrize("name", FEW)
def test_right_in_small_chunks(name: str) -> None:
    """What is shared may be shared by samples, too."""
    subject = made(KINDS[name])
    for memory in (1, 30_000):
        assert (
            off(hesse.hessian(subject.cost, memory=memory, certify=False).dense(), subject.expected)
            < 1e-9
        )


@pytest.mark.parametrize(
    "name", ["six, sigmoid", "images, silu, by channel", "skips over several blocks"]
)
def test_right_for_chosen_blocks(name: str) -> None:
    """Fewer columns are carried for one block than for all."""
    subject = made(KINDS[name])
    layout = subject.cost.layout
    first, last = layout.names[0], layout.names[-2]
    some = hesse.hessian(subject.cost, pairs=[(first, last), (first, first)], certify=False)
    for a, b in some.pairs:
        expected = subject.expected[layout.slice(a), layout.slice(b)].reshape(some[a, b].shape)
        assert off(some[a, b], expected) < 1e-9, (a, b)


def test_a_path_of_matrix_products_serves_them() -> None:
    """They are right by what is fast, not by falling back."""
    for name in (
        "three, tanh",
        "one block again, Euler",
        "images, relu",
        "tokens, gelu",
        "concatenation",
    ):
        made_plan = hesse.plan(made(KINDS[name]).cost)
        assert {block.strategy for block in made_plan.blocks} <= {"contraction", "zero"}, name
