"""The models and data that the measurements share: tanh, cross entropy, float32, fixed seeds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import refused
from bench.measure import DEVICE

Arrays = tuple[Tensor, Tensor]
# By hesse's names; of a model that gives the cost itself, that.
LOSSES: dict[str | None, Callable[[Any, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    None: lambda value, _: value,
}


@dataclass(frozen=True)
class Problem:
    """One model with its data, ready to be asked for its Hessian. The loss is the mean cross
    entropy where no other is named."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: str | None = "cross_entropy"

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
    loss: str | None = "cross_entropy"
    # Given as a function of its parameters, and not as a model with its data.
    function: bool = False

    def build(self) -> Problem:
        """The problem, the same in every run and every process; the caller's random state is left
        as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, (x, y) = self.model(), self.data()
        return Problem(model.to(DEVICE), x.to(DEVICE), y.to(DEVICE), self.loss)


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


class LastStep(nn.Module):
    """A recurrent layer, and scores from its last step."""

    def __init__(self, layer: nn.RNNBase, classes: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    """One layer of attention and one of width 64 over 18 tokens, written out; it scores every
    token of a vocabulary of 12."""

    def __init__(self, width: int = 16, tokens: int = 18, vocabulary: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(tokens, width) / 10)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        weights = torch.softmax(self.q(x) @ self.k(x).mT / x.shape[-1] ** 0.5, -1)
        x = x + self.out(weights @ self.v(x))
        return self.head(x + self.down(torch.tanh(self.up(x)))).mT


class PreNorm(nn.Module):
    """A block of attention and one of two layers, each after a norm and beside a way around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v)
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class NormedResidual(nn.Module):
    """x + tanh(W LayerNorm(x) + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(self.norm(x)))


class Mean(nn.Module):
    """Over some axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


def pre_norm() -> nn.Module:
    """Two blocks of width 12, and scores from the mean of the tokens."""
    return nn.Sequential(nn.Linear(6, 12), PreNorm(12), PreNorm(12), Mean(1), nn.Linear(12, 5))


def segmentation() -> nn.Module:
    """Three convolutions that score every pixel."""
    layers = [(1, 6), (6, 8), (8, 3)]
    steps = [part for c, d in layers for part in (nn.Conv2d(c, d, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*steps[:-1])


def six_convolutions() -> nn.Module:
    """Five of 8 channels, 3 × 3, of strides 1, 2, 1, 2, 1, one of 1 × 1, the mean, a layer."""
    steps: list[nn.Module] = []
    for channels, stride in zip((1, 8, 8, 8, 8), (1, 2, 1, 2, 1), strict=True):
        steps += [nn.Conv2d(channels, 8, 3, stride, 1), nn.Tanh()]
    return nn.Sequential(*steps, nn.Conv2d(8, 10, 1), nn.Tanh(), Mean(2, 3), nn.Linear(10, 10))


def batch_normed() -> nn.Module:
    """Two convolutions with batch norms that are at rest."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.AvgPool2d(4)),
        *(nn.Flatten(), nn.Linear(32, 28)),
    ).eval()


def residual() -> nn.Module:
    """Eight residual blocks of width 16."""
    blocks = [NormedResidual(16) for _ in range(8)]
    return nn.Sequential(nn.Linear(16, 16), *blocks, nn.Linear(16, 5))


def lenet() -> nn.Module:
    """Two convolutions of 5 × 5 with pooling and three layers, as LeNet-5, on images of 28 × 28, of
    widths that make P = 3146."""
    return nn.Sequential(
        *(nn.Conv2d(1, 5, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(5, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(96, 20), nn.Tanh(), nn.Linear(20, 10), nn.Tanh()),
        nn.Linear(10, 10),
    )


def images(samples: int, size: int, classes: int, dense: bool = False) -> Callable[[], Arrays]:
    """Standard normal images of one channel, each or each of its pixels with a label."""
    labels = (samples, size, size) if dense else (samples,)
    return lambda: (torch.randn(samples, 1, size, size), torch.randint(classes, labels))


def sequences(samples: int, steps: int, features: int, classes: int) -> Callable[[], Arrays]:
    """Standard normal sequences, each with a label."""
    return lambda: (torch.randn(samples, steps, features), torch.randint(classes, (samples,)))


def lengths(samples: int, steps: int, features: int, classes: int) -> Callable[[], Arrays]:
    """Standard normal sequences of many lengths, each in its first number, with a label."""

    def make() -> Arrays:
        x, y = sequences(samples, steps, features, classes)()
        x[:, 0, 0] = torch.randint(steps // 3, steps + 1, (samples,))
        return x, y

    return make


def numbers(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Callable[[], Arrays]:
    """Standard normal inputs and targets of some shapes."""
    return lambda: (torch.randn(inputs), torch.randn(outputs))


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

# Where positions meet again, or the same weights are used at many times.
POSITION_CASES = [
    Case(
        "RNN, 20 steps",
        lambda: LastStep(nn.RNN(1, 24, batch_first=True), 8),
        sequences(64, 20, 1, 8),
        {"columns": 3},
    ),
    Case(
        "GRU, 12 steps",
        lambda: LastStep(nn.GRU(4, 16, batch_first=True), 10),
        sequences(64, 12, 4, 10),
        {"columns": 2.5},
    ),
    Case(
        "attention",
        Attention,
        lambda: (torch.randint(12, (64, 18)), torch.randint(12, (64, 18))),
        {"columns": 4},
    ),
    Case("segmentation", segmentation, images(32, 16, 3, dense=True), {"columns": 3}),
    Case("two pre-norm blocks", pre_norm, sequences(64, 16, 6, 5), {"columns": 4}),
    Case("six convolutions", six_convolutions, images(64, 28, 10), {"columns": 12}),
    Case("transformer layer", Transformer, tokens, {"columns": 8}),
    Case("batch norms at rest", batch_normed, images(64, 16, 28), {"columns": 8}),
    Case("residual blocks", residual, gaussian(500, 16, 5), {"columns": 10}),
    Case("as LeNet", lenet, images(128, 28, 10), {"columns": 36}),
]

# What `torch.export` refuses, or what couples samples: by the traced product where it can be
# traced, else by a kept graph.
_TRACED, _KEPT = {"columns": 1.5}, {"columns": 1.0}
FALLBACK_CASES = [
    Case("branch on a value", lambda: refused.Branching(12, 32, 6), gaussian(128, 12, 6), _TRACED),
    Case(
        "loop until it rests", lambda: refused.Equilibrium(8, 24, 5), gaussian(128, 8, 5), _TRACED
    ),
    Case(
        "autograd.Function",
        lambda: refused.OwnFunction(12, 32, 32, 6, old=False),
        gaussian(256, 12, 6),
        _TRACED,
        function=True,
    ),
    Case(
        "autograd.Function, as before torch.func",
        lambda: refused.OwnFunction(12, 32, 32, 6, old=True),
        gaussian(256, 12, 6),
        _TRACED,
    ),
    Case(
        "torch.func inside",
        lambda: refused.Equation(32),
        numbers((128, 1), (128, 1)),
        _KEPT,
        "mse",
    ),
    Case(
        "autograd.grad inside",
        lambda: refused.Forces(4, 32),
        numbers((64, 12), (64, 12)),
        _TRACED,
        "mse",
    ),
    Case("checkpoints", lambda: refused.Checkpointed(12, 24, 6), gaussian(128, 12, 6), _TRACED),
    Case(
        "complex numbers",
        lambda: refused.Spectral(8, 5, 3),
        numbers((16, 32, 1), (16, 32, 1)),
        _TRACED,
        "mse",
    ),
    Case("loops over lengths", lambda: refused.Ragged(4, 20, 5), lengths(12, 12, 4, 5), _TRACED),
    Case("experts by a mask", lambda: refused.Experts(10, 16, 5, 4), gaussian(128, 10, 5), _KEPT),
    Case(
        "Gaussian process",
        lambda: refused.Latent(120, 5),
        numbers((120, 8), (120,)),
        _TRACED,
        None,
        function=True,
    ),
    Case(
        "batch norms in training",
        lambda: refused.normed_in_training(8, 72, 10),
        images(32, 12, 10),
        _TRACED,
    ),
]
