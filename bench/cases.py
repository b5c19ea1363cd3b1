"""The models and data that the measurements share: tanh, cross entropy, float32, fixed seeds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

Arrays = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Problem:
    """One model with its data, ready to be asked for its Hessian. The loss is the mean cross
    entropy."""

    model: nn.Module
    x: Tensor
    y: Tensor

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


@dataclass(frozen=True)
class Case:
    """A row of the tables: how to make a problem, and how many times faster than each peer hesse
    must be on it."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], Arrays]
    targets: dict[str, float] = field(default_factory=dict)

    def build(self) -> Problem:
        """The problem, the same in every run and every process; the caller's random state is left
        as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Problem(self.model(), *self.data())


def dense(*widths: int) -> Callable[[], nn.Module]:
    """Linear layers with tanh between them."""

    def make() -> nn.Module:
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    return make


def convolutional() -> nn.Module:
    """Two convolutions of 8 and 16 channels on an 8 × 8 image, with average pooling."""
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
    return nn.Sequential(
        first,
        nn.Tanh(),
        nn.AvgPool2d(2),
        second,
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class Transformer(nn.Module):
    """One encoder layer of width 16 with 2 heads, over 8 tokens from a vocabulary of 20; it scores
    every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.position = nn.Parameter(torch.randn(8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of shape (samples, vocabulary, tokens), as cross entropy wants them."""
        return self.head(self.layer(self.embedding(tokens) + self.position)).transpose(1, 2)


def digits() -> Arrays:
    """scikit-learn's 1,797 handwritten digits as rows of 64 brightnesses from 0 to 1."""
    # Here, because a process whose memory is measured must not hold scikit-learn.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels)


def digit_images() -> Arrays:
    """The first 512 digits, as 8 × 8 images of one channel."""
    x, y = digits()
    return x[:512].reshape(-1, 1, 8, 8), y[:512]


def gaussian(samples: int, features: int, classes: int) -> Callable[[], Arrays]:
    """Standard normal inputs and labels drawn evenly."""
    return lambda: (torch.randn(samples, features), torch.randint(classes, (samples,)))


def tokens() -> Arrays:
    """64 sentences of 8 tokens, each with a label."""
    return torch.randint(20, (64, 8)), torch.randint(20, (64, 8))


CASES = [
    Case("64-32-10, digits", dense(64, 32, 10), digits, {"columns": 80, "jax": 40}),
    Case("64-32-32-10, digits", dense(64, 32, 32, 10), digits, {"columns": 80, "jax": 40}),
    Case("20-50-50-2", dense(20, 50, 50, 2), gaussian(1000, 20, 2), {"columns": 80, "jax": 60}),
    Case("784-16-10", dense(784, 16, 10), gaussian(2000, 784, 10), {"columns": 12, "jax": 12}),
    Case("500-8-500", dense(500, 8, 500), gaussian(500, 500, 500), {"columns": 80}),
    Case("convolutional, digits", convolutional, digit_images, {"columns": 15}),
    Case("transformer layer", Transformer, tokens, {"columns": 4}),
]

DIAGONAL_CASES = [
    Case("64-32-10, digits", dense(64, 32, 10), digits, {"BackPACK": 2}),
    Case("784-64-10", dense(784, 64, 10), gaussian(512, 784, 10), {"BackPACK": 2}),
    Case("784-128-64-10", dense(784, 128, 64, 10), gaussian(512, 784, 10), {"BackPACK": 2}),
]
