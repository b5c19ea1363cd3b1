"""Networks put together at random, over positions: each against automatic differentiation, Hessian
and diagonal."""

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from cases import Problem
from reference import hessian, relative

NETWORKS = 60
TOLERANCE = 1e-10
CLASSES = 3


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Transposed(nn.Module):
    """A module of the other order of axes: along positions in place of features, or with channels
    first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.project, self.out, self.causal = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            causal,
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal))


class Added(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.what = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.what


class Scaled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.by = nn.Parameter(1 + torch.randn(width) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class At(nn.Module):
    """One position, or their mean."""

    def __init__(self, position: int | None) -> None:
        super().__init__()
        self.position = position

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if self.position is None else x[:, self.position]


class ClassesFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def curve(draw: random.Random) -> nn.Module:
    return draw.choice([nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus])()


# By a drawing, the number of positions and the width: a module that keeps both.
LAYERS: list[Callable[[random.Random, int, int], nn.Module]] = [
    lambda draw, t, d: nn.Linear(d, d, bias=draw.random() < 0.7),
    lambda draw, t, d: curve(draw),
    lambda draw, t, d: nn.LayerNorm(d, elementwise_affine=draw.random() < 0.7),
    lambda draw, t, d: Attention(d, draw.random() < 0.5),
    lambda draw, t, d: Residual(
        nn.Sequential(nn.Linear(d, d + 1), curve(draw), nn.Linear(d + 1, d))
    ),
    lambda draw, t, d: Transposed(nn.Linear(t, t)),
    lambda draw, t, d: Added(t, d),
    lambda draw, t, d: Scaled(d),
    lambda draw, t, d: Transposed(nn.Conv1d(d, d, 3, padding=1, groups=draw.choice([1, d]))),
]

CLASS_LOSSES = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(label_smoothing=0.1),
    nn.CrossEntropyLoss(reduction="sum", weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
    nn.CrossEntropyLoss(ignore_index=1),
]
NUMBER_LOSSES = ["half_sse", "mse", "bce", nn.HuberLoss(), nn.SmoothL1Loss()]


def problem_of(seed: int) -> Problem:
    draw = random.Random(seed)
    positions, width, samples = draw.choice([2, 3, 4]), draw.choice([2, 3]), draw.choice([1, 3, 5])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [draw.choice(LAYERS)(draw, positions, width) for _ in range(draw.randrange(2, 7))]
        X = torch.randn(samples, positions, width, dtype=torch.float64)
        end = draw.choice(["one answer", "classes", "numbers"])
        if end == "one answer":
            layers += [At(draw.choice([None, *range(positions)])), nn.Linear(width, CLASSES)]
            loss, y = nn.CrossEntropyLoss(), torch.randint(CLASSES, (samples,))
        elif end == "classes":
            layers += [nn.Linear(width, CLASSES), ClassesFirst()]
            loss, y = draw.choice(CLASS_LOSSES), torch.randint(CLASSES, (samples, positions))
            y[0, 0] = 0  # a class that no loss ignores
        else:
            layers += [nn.Linear(width, 2)]
            loss, y = (
                draw.choice(NUMBER_LOSSES),
                torch.rand(samples, positions, 2, dtype=torch.float64),
            )
        return Problem(nn.Sequential(*layers).double(), loss, (X, y))


@pytest.mark.some(of=5)
@pytest.mark.parametrize("seed", range(NETWORKS))
def test_a_network_put_together_at_random(seed: int) -> None:
    problem = problem_of(seed)
    cost = problem.cost()
    assert hesse.plan(cost).captured and not hesse.plan(cost).by_columns
    expected = hessian(problem, cost.layout.names)
    H = hesse.hessian(cost).dense()
    assert torch.equal(H, H.T)
    assert relative(H, expected) < TOLERANCE
    assert (
        relative(cost.layout.flatten(hesse.diagonal(cost)), expected.diagonal(), expected)
        < TOLERANCE
    )
    some = hesse.hessian(cost, memory=20_000).dense()
    assert relative(some, expected) < TOLERANCE
