"""Second derivatives that PyTorch gets wrong: written out, or refused by name. The reference is the
formula.

Weight normalisation runs through a fused kernel whose double backward is wrong (2.13); an embedding
that scales its gradient by frequency has a first derivative that is none of the cost's.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
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
    parameter,
    x,
)
from networks import dense
from reference import relative


def old_weight_norm(layer: nn.Module, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer, **options)


def unit(v: Tensor, dim: int | None) -> Tensor:
    """v over its norm along every axis but one."""
    axes = [axis for axis in range(v.ndim) if axis != dim]
    return v / v.square().sum(axes, keepdim=True).sqrt()


def normed(
    model: nn.Module, data: Any, forward: Callable[[dict[str, Tensor], Tensor], Tensor]
) -> Subject:
    """A network of weight norm, and the same by its formula."""
    model = model.double()
    leaves = {
        name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()
    }
    X, y = data
    return Subject(
        hesse.Cost(model, "half_sse", (X, y)),
        lambda: (forward(leaves, X) - y).square().sum() / 2,
        leaves,
    )


def dense_old(dim: int | None) -> Subject:
    model: Any = dense(3, 4, 2)
    old_weight_norm(model[0], dim=dim)

    def forward(p: dict[str, Tensor], z: Tensor) -> Tensor:
        hidden = torch.tanh(F.linear(z, p["0.weight_g"] * unit(p["0.weight_v"], dim), p["0.bias"]))
        return F.linear(hidden, p["2.weight"], p["2.bias"])

    return normed(model, (x(5, 3), x(5, 2)), forward)


def conv_old() -> Subject:
    model = nn.Sequential(old_weight_norm(nn.Conv1d(2, 2, 2)), nn.Tanh(), nn.Flatten())

    def forward(p: dict[str, Tensor], z: Tensor) -> Tensor:
        return torch.tanh(
            F.conv1d(z, p["0.weight_g"] * unit(p["0.weight_v"], 0), p["0.bias"])
        ).flatten(1)

    return normed(model, (x(3, 2, 3), x(3, 4)), forward)


def dense_new(dim: int | None) -> Subject:
    model: Any = dense(3, 4, 2)
    nn.utils.parametrizations.weight_norm(model[0], dim=dim)  # type: ignore[arg-type]

    def forward(p: dict[str, Tensor], z: Tensor) -> Tensor:
        g, v = (p[f"0.parametrizations.weight.original{place}"] for place in (0, 1))
        return F.linear(
            torch.tanh(F.linear(z, g * unit(v, dim), p["0.bias"])), p["2.weight"], p["2.bias"]
        )

    return normed(model, (x(5, 3), x(5, 2)), forward)


def conv_new() -> Subject:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 2)), nn.Tanh(), nn.Flatten()
    )

    def forward(p: dict[str, Tensor], z: Tensor) -> Tensor:
        g, v = (p[f"0.parametrizations.weight.original{place}"] for place in (0, 1))
        return torch.tanh(F.conv2d(z, g * unit(v, 0), p["0.bias"])).flatten(1)

    return normed(model, (x(3, 1, 3, 3), x(3, 8)), forward)


def called() -> Subject:
    """The kernel itself, called by its name."""
    model = Formula(
        lambda m, z: torch.tanh(F.linear(z, torch.ops.aten._weight_norm(m.v, m.g, 0))),
        v=parameter(3, 2),
        g=parameter(3, 1),
    )
    return normed(
        model, (x(4, 2), x(4, 3)), lambda p, z: torch.tanh(F.linear(z, p["g"] * unit(p["v"], 0)))
    )


NORMED: dict[str, Make] = {
    "dense, by row": lambda: dense_new(0),
    "dense, by column": lambda: dense_new(1),
    "convolution": conv_new,
    "old, dense, by row": lambda: dense_old(0),
    "old, dense, by column": lambda: dense_old(1),
    "old, dense, whole": lambda: dense_old(None),
    "old, convolution": conv_old,
    "by its name": called,
}


@pytest.mark.some(of=3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NORMED.values(), ids=NORMED)
def test_weight_norm_is_right(kind: Make, way: str) -> None:
    check_right(kind, way)


def test_the_plan_says_what_is_written_out() -> None:
    assert any(note.startswith("_weight_norm is written out") for note in dense_old(0).cost.notes)


# ------------------------------------------------------------ an embedding whose gradient is scaled

TOKENS = torch.tensor([[0, 1, 1], [2, 1, 0]])


def embedded(**options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Embedding(4, 2, **options), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2)
        ).double()


class Functional(nn.Module):
    """The same by the function, and the weight a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(4, 2)), nn.Linear(6, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(F.embedding(tokens, self.table, scale_grad_by_freq=True).tanh().flatten(1))


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = (
            nn.EmbeddingBag(4, 2, scale_grad_by_freq=True, mode="sum"),
            nn.Linear(2, 2),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bag(tokens)))


SCALED: dict[str, Callable[[], nn.Module]] = {
    "module": lambda: embedded(scale_grad_by_freq=True),
    "function": lambda: Functional().double(),
    "bag": lambda: Bag().double(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", SCALED.values(), ids=SCALED)
def test_a_gradient_scaled_by_frequency_is_refused(
    model: Callable[[], nn.Module], way: str
) -> None:
    with pytest.raises(hesse.HesseError, match="scale_grad_by_freq"):
        WAYS[way](hesse.Cost(model(), "half_sse", (TOKENS, torch.ones(2, 2).double())))


@pytest.mark.parametrize("way", WAYS)
def test_the_symmetrised_wrong_matrix_is_not_given(way: str) -> None:
    """Also without a certificate: the option is seen, not found out."""
    with pytest.raises(hesse.HesseError, match="scale_grad_by_freq"):
        WAYS[way](
            hesse.Cost(SCALED["module"](), "half_sse", (TOKENS, torch.ones(2, 2).double())),
            certify=False,
        )


@pytest.mark.parametrize("way", WAYS)
def test_where_the_table_is_no_part_of_theta_nothing_is_scaled(way: str) -> None:
    """The other parameters' derivatives are ordinary: right, or refused by that name."""

    def make() -> Subject:
        model, y = embedded(scale_grad_by_freq=True), torch.ones(2, 2).double()
        cost = hesse.Cost(model, "half_sse", (TOKENS, y), params="3.*")
        return Subject(
            cost, lambda: (model(TOKENS) - y).square().sum() / 2, dict(model.named_parameters())
        )

    check_right_or_refused(make, way, "scale_grad_by_freq")


@pytest.mark.parametrize("way", WAYS)
def test_an_embedding_without_the_option_is_taken(way: str) -> None:
    def make() -> Subject:
        model, y = embedded(), torch.ones(2, 2).double()
        leaves = dict(model.named_parameters())
        return Subject(
            hesse.Cost(model, "half_sse", (TOKENS, y)),
            lambda: (model(TOKENS) - y).square().sum() / 2,
            leaves,
        )

    check_right(make, way)


class Tuned(nn.Module):
    """sinc of θ, whose second derivative is −π²/3 at 0, where PyTorch says 0 or NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.tune = nn.Parameter(torch.tensor([0.4, 0.7], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(self.tune * x).sum(1)


@functools.cache
def tuned_by(sinc: Any, tune: float) -> hesse.Cost:
    def forward(m: Any, x: Tensor) -> Tensor:
        return sinc(m.tune * x).sum(1)

    model = Formula(forward, tune=nn.Parameter(torch.tensor([0.4, 0.7], dtype=torch.float64)))
    ones = torch.ones(1, 2, dtype=torch.float64)
    cost = hesse.Cost(model, lambda prediction, target: prediction.sum(), (ones, ones[:, 0]))
    return cost.at(torch.tensor([tune, 0.7], dtype=torch.float64))


@pytest.mark.some(of=3)
@pytest.mark.parametrize("tune", [0.0, 1e-9, -1e-8, 1e-4, 0.31, 0.32, 1.0])
@pytest.mark.parametrize(
    "sinc", [torch.sinc, torch.special.sinc, Tensor.sinc, lambda x: x.clone().sinc_()]
)
@pytest.mark.parametrize("way", WAYS)
def test_sinc_is_written_out(way: str, sinc: Any, tune: float) -> None:
    cost = tuned_by(sinc, tune)
    u = math.pi * cost.theta
    # By d²/du² of ∫₀¹ cos(u s) ds: −∫₀¹ s² cos(u s) ds, by Gauss's rule.
    nodes, weights = np.polynomial.legendre.leggauss(30)
    s, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    expected = -(math.pi**2) * (w * s**2 * torch.cos(u[:, None] * s)).sum(1)
    assert relative(WAYS[way](cost), torch.diag(expected)) < 1e-12
