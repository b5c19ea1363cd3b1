"""Small networks for the table of cases: one for each way in which a parameter can enter a cost."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sine(nn.Module):
    """f(z) = sin z."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(z)


def dense(*widths: int, f: type[nn.Module] = nn.Tanh, bias: bool = True) -> nn.Sequential:
    """Dense layers with an activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), f()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """x + f(W x), twice, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.first(x))
        return self.head(x + torch.tanh(self.second(x)))


class Branches(nn.Module):
    """Two branches side by side, multiplied: a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))


class Transformer(nn.Module):
    """Tokens -> embedding + position -> one encoder layer with a causal mask -> logits of shape (N,
    C, T)."""

    def __init__(self, vocabulary: int = 4, tokens: int = 3, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(tokens, width) / 2)
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=2, dim_feedforward=3, dropout=0.0, batch_first=True
        )
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(tokens))
        self.mask: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        mask = self.mask.to(self.position.dtype)
        return self.head(
            self.layer(self.embed(tokens) + self.position, src_mask=mask, is_causal=True)
        ).transpose(1, 2)


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` on vectors, then the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, num_heads=1, batch_first=True)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    """A recurrent layer, the last step's output, a head."""

    def __init__(self, kind: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = kind(2, 2, batch_first=True), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class TokenMean(nn.Module):
    """Embedding, mean over tokens, a head whose weight may be the embedding's own."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Embedding(4, 3), nn.Linear(3, 3)
        self.head = nn.Linear(3, 4, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.embed(tokens).mean(1))))


def tied_layers() -> nn.Sequential:
    """Two dense layers with one weight."""
    model = dense(3, 3, 3)
    model[2].weight = model[0].weight
    return model


class Twice(nn.Module):
    """One dense module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.shared(torch.tanh(self.shared(x)))))


class WithUnused(nn.Module):
    """A layer that forward never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.spare = dense(2, 3, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def partly_frozen() -> nn.Sequential:
    """The first layer does not require a gradient."""
    model = dense(2, 3, 3, 2)
    model[0].requires_grad_(False)
    return model


class Temperature(nn.Module):
    """Logits divided by a scalar parameter, or multiplied with one."""

    def __init__(self, divide: bool) -> None:
        super().__init__()
        self.net, self.temperature, self.divide = (
            dense(2, 3, 3),
            nn.Parameter(torch.tensor(1.5)),
            divide,
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return logits / self.temperature if self.divide else logits * self.temperature


class RawMatrix(nn.Module):
    """A bare parameter as a matrix: ``x @ W`` or ``F.linear(x, W.t())``."""

    def __init__(self, at: bool) -> None:
        super().__init__()
        self.W, self.b, self.at = (
            nn.Parameter(torch.randn(3, 4) / 2),
            nn.Parameter(torch.randn(4) / 2),
            at,
        )
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = x @ self.W + self.b if self.at else F.linear(x, self.W.t()) + self.b
        return self.head(torch.tanh(z))


class ScaleShift(nn.Module):
    """A scale and a shift of each feature, bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
        self.first, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x) * self.scale + self.shift))


class Bilinear(nn.Module):
    """x ↦ head(tanh(xᵀ W x + b)): an operation that has no slot."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.head = nn.Bilinear(2, 2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.pair(x, x)))


class ExpWeight(nn.Module):
    """A weight that enters through its exponential, so not linearly."""

    def __init__(self, inputs: int = 2, hidden: int = 3) -> None:
        super().__init__()
        self.log_weight, self.head = (
            nn.Parameter(torch.randn(hidden, inputs) / 2),
            nn.Linear(hidden, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(x, self.log_weight.exp())))


class Unit(nn.Module):
    """W = V / ‖V‖."""

    def forward(self, V: Tensor) -> Tensor:
        return V / V.square().sum().sqrt()


def parametrised() -> nn.Sequential:
    """A weight that is a function of another, as `torch.nn.utils.parametrize` makes it."""
    model = dense(3, 4, 2)
    nn.utils.parametrize.register_parametrization(model[0], "weight", Unit())
    return model


class Autoencoder(nn.Module):
    """One matrix on the way in and, transposed, on the way out."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.b, self.c = (
            nn.Parameter(torch.randn(2, 3) / 2),
            nn.Parameter(torch.randn(2)),
            nn.Parameter(torch.randn(3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(x, self.W, self.b)), self.W.t(), self.c)


class FromTheLeft(nn.Module):
    """W x with one matrix x for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.head = nn.Parameter(torch.randn(2, 3) / 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.W @ x).mean(-1))


class Overlapping(nn.Module):
    """Two layers whose weights are slices of one matrix, with entries in common."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(3, 3) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.W[:2].T) @ self.W[1:, :2].T


class TwoInputs(nn.Module):
    """A model whose input is a pair of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return self.head(torch.tanh(self.left(x[0]) + self.right(x[1])))


class Squeezed(nn.Module):
    """One number for each sample, without an axis for it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1)


class Centred(nn.Module):
    """Subtracts the mean over the batch, so that samples are not independent."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return self.head((hidden - hidden.mean(0)).square())


class DataBranch(nn.Module):
    """Control flow that depends on the data, which cannot be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if bool((x.sum() > 1e9).item()) else torch.tanh(self.net(x))


def batch_norm(train: bool) -> nn.Sequential:
    """Dense, BatchNorm, tanh, dense; in eval mode with running statistics that are not the initial
    ones."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))
    spread(model)
    norm: Any = model[1]
    norm.running_mean.copy_(torch.randn(3) / 3)
    norm.running_var.copy_(torch.rand(3) + 0.5)
    return model.train(train)


def spread(model: nn.Module) -> nn.Module:
    """Move the scales and shifts of normalisation away from 1 and 0."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.add_(torch.randn_like(module.weight) / 3)
                module.bias.add_(torch.randn_like(module.bias) / 3)
    return model


class TokenLogits(nn.Module):
    """A dense network at each token; logits of shape (N, C, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).transpose(1, 2)


class Lambda(nn.Module):
    """A function of some layers and the input."""

    def __init__(self, f: Callable[[Any, Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.f, self.layers = f, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.layers, x)
