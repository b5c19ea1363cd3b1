"""Costs for K-FAC, one for each way in which a weight is shared or tied."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
import networks as nets


class Example(NamedTuple):
    """A model, a loss and data."""

    model: Callable[[], nn.Module]
    loss: Any
    data: Callable[[], tuple[Tensor, Tensor]]


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def whole(*shape: int, below: int = 3) -> Tensor:
    return torch.randint(below, shape)


class Recurrent(nn.Module):
    """A recurrent layer and a head on its last step."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.steps, self.head = kind(2, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.steps(x)[0][:, -1])


class Attention(nn.Module):
    """Packed projections: of one value, or of two, whose parts are used apart."""

    def __init__(self, across: bool) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm, self.across = nn.LayerNorm(4), across

    def forward(self, x: Tensor) -> Tensor:
        other = x[:, :2] if self.across else x
        return self.norm(self.attend(x, other, other, need_weights=False)[0]).mean(1)


class Tied(nn.Module):
    """A table of words that is the last layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.out.weight = self.embed.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embed(words))).transpose(1, 2)


class Twice(nn.Module):
    """A layer that is run again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Curved(nn.Module):
    """Parameters that enter in no linear way: one small enough for a site of its own, one not."""

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.wave = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(300))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(x * self.rate.exp())) * (1 + self.wave.sin().mean())


def images(first: nn.Module, *rest: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), *rest, nn.Flatten(), nn.LazyLinear(3))


EXAMPLES: dict[str, Example] = {
    "dense": Example(
        lambda: nets.dense(3, 4, 3), "cross_entropy", lambda: (x(6, 3), whole(6))
    ),
    "no biases": Example(
        lambda: nets.dense(3, 4, 2, bias=False), "half_sse", lambda: (x(6, 3), x(6, 2))
    ),
    "tokens": Example(
        lambda: nets.dense(3, 4, 2), "half_sse", lambda: (x(4, 3, 3), x(4, 3, 2))
    ),
    "words": Example(
        lambda: nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.Tanh(), nn.Flatten(),
            nn.Linear(12, 3)),
        "cross_entropy",
        lambda: (whole(5, 3, below=5), whole(5)),
    ),
    "image": Example(
        lambda: nn.Sequential(nn.Conv2d(2, 4, (3, 2), stride=2, padding=(1, 0), groups=2),
            nn.Tanh(), nn.Conv2d(4, 3, 2, dilation=1, bias=False), nn.Flatten(), nn.Linear(6, 3)),
        "cross_entropy",
        lambda: (x(4, 2, 5, 4), whole(4)),
    ),
    "signal": Example(
        lambda: nn.Sequential(nn.Conv1d(2, 4, 2, dilation=2), nn.Tanh(),
            nn.ConvTranspose1d(4, 4, 2, stride=2, groups=2), nn.Flatten(), nn.Linear(24, 2)),
        "half_sse",
        lambda: (x(4, 2, 5), x(4, 2)),
    ),
    "volume": Example(
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)),
        "half_sse",
        lambda: (x(3, 1, 3, 3, 3), x(3, 2)),
    ),
    "run again": Example(Twice, "half_sse", lambda: (x(5, 3), x(5, 2))),
    "steps": Example(
        functools.partial(Recurrent, nn.LSTM), "half_sse", lambda: (x(4, 3, 2), x(4, 2))
    ),
    "gates": Example(
        functools.partial(Recurrent, nn.GRU), "half_sse", lambda: (x(4, 2, 2), x(4, 2))
    ),
    "attention": Example(
        functools.partial(Attention, across=False), "half_sse", lambda: (x(3, 3, 4), x(3, 4))
    ),
    "attention across": Example(
        functools.partial(Attention, across=True), "half_sse", lambda: (x(3, 3, 4), x(3, 4))
    ),
    "normalised": Example(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2).eval(), nn.Tanh(),
            nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 2)),
        "half_sse",
        lambda: (x(4, 1, 3, 3), x(4, 2)),
    ),
    "tied": Example(Tied, "cross_entropy", lambda: (whole(4, 2, below=5), whole(4, 2, below=5))),
    "curved": Example(Curved, "half_sse", lambda: (x(4, 3), x(4, 2))),
}  # fmt: skip
# Of these the hooks know every layer.
HOOKED = [
    *("dense", "no biases", "tokens", "words", "image", "signal", "volume", "run again"),
]


def parts_of(name: str) -> tuple[nn.Module, Any, Tensor, Tensor]:
    """Model, loss and data, the same every time."""
    torch.manual_seed(0)
    example = EXAMPLES[name]
    model = example.model().double()
    return model, example.loss, *example.data()


@functools.cache
def cost_of(name: str) -> hesse.Cost:
    """The cost, its data in two batches of which the last is shorter."""
    model, loss, X, y = parts_of(name)
    return hesse.Cost(model, loss, [(X[:-1], y[:-1]), (X[-1:], y[-1:])])


@functools.cache
def exact(name: str) -> hesse.BlockHessian:
    """Gauss-Newton's matrix."""
    return hesse.hessian(cost_of(name), curvature="gauss_newton", certify=False)


def in_blocks(K: hesse.KFAC, matrix: Tensor) -> Tensor:
    """A matrix without what lies outside the blocks of an approximation."""
    kept = torch.zeros_like(matrix)
    for block in K.blocks:
        for entries in block.index.reshape(block.shape[0], -1):
            kept[entries[:, None], entries] = matrix[entries[:, None], entries]
    return kept


NAMED = {"half_sse": lambda z, y: (z - y).square().sum() / 2, "cross_entropy": F.cross_entropy}
