"""The factors against hooks and automatic differentiation, sample by sample, and what holds of them
whatever the network is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from kronecker import hooks
from kronecker.networks_of_layers import (
    EXAMPLES,
    HOOKED,
    NAMED,
    cost_of,
    exact,
    in_blocks,
    parts_of,
    x,
)
from reference import relative

TOLERANCE = 1e-12


def by_hooks(name: str, sharing: str, joint: bool, empirical: bool = False) -> dict[str, Tensor]:
    model, loss, X, y = parts_of(name)
    scale = 1.0 if loss == "half_sse" else 1 / y.numel()
    samples = [
        (
            X[n : n + 1],
            lambda z, n=n: (
                scale * NAMED[loss](z, y[n : n + 1]) * (y[n].numel() if scale < 1 else 1)
            ),
        )
        for n in range(len(X))
    ]
    rows = hooks.row_of_slope if empirical else hooks.rows_of_hessian
    found = dict(hooks.blocks(model, samples, rows, sharing == "reduce", joint))
    # Σ g gᵀ has the divisor of the mean once, and g of a divided loss has it twice.
    return {key: part / scale if empirical else part for key, part in found.items()}


def ours(K: hesse.KFAC, module: str, joint: bool) -> Tensor:
    names = [n for n in (f"{module}.weight", f"{module}.bias") if n in K.layout.names]
    names = names if joint else names[:1]
    return torch.cat([torch.cat([K.block(a, b) for b in names], 1) for a in names])


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("name", HOOKED)
def test_as_by_hooks(name: str, sharing: str) -> None:
    for joint in (True, False):
        K = hesse.kfac(cost_of(name), sharing=sharing, joint_bias=joint)
        for module, block in by_hooks(name, sharing, joint).items():
            assert relative(ours(K, module, joint), block) < TOLERANCE, (module, joint)


@pytest.mark.parametrize("name", ["dense", "tokens"])
def test_empirical_as_by_hooks(name: str) -> None:
    K = hesse.kfac(cost_of(name), curvature="empirical_fisher")
    for module, block in by_hooks(name, "expand", True, empirical=True).items():
        assert relative(ours(K, module, True), block) < TOLERANCE, module


@pytest.mark.parametrize("name", EXAMPLES)
def test_ekfac_is_nearer_and_has_the_exact_trace(name: str) -> None:
    G = exact(name).dense()
    for sharing in ("expand", "reduce"):
        plain, corrected = (
            hesse.kfac(cost_of(name), kind=kind, sharing=sharing) for kind in ("kfac", "ekfac")
        )
        truth = in_blocks(plain, G)
        far, near = ((K.dense() - truth).norm() for K in (plain, corrected))
        # In one eigenbasis nothing is nearer than the exact diagonal.
        assert near <= far + 1e-12 * truth.norm()
        assert abs(corrected.trace() - float(truth.trace())) < 1e-10 * float(truth.trace())


@pytest.mark.parametrize("name", ["normalised", "curved", "attention"])
def test_what_is_no_matrix_is_exact(name: str) -> None:
    K, G = hesse.kfac(cost_of(name)), exact(name)
    vectors = ["1.weight", "1.bias", "3.weight", "rate", "wave", "norm.weight", "norm.bias"]
    found = [name for name in K.layout.names if name in vectors]
    assert len(found) >= 2
    for name in found:
        assert relative(K.block(name), G.flat(name, name)) < 1e-10, name
    if "norm.bias" in found:  # scale and shift have one block
        pair = "norm.weight", "norm.bias"
        assert relative(K.block(*pair), G.flat(*pair)) < 1e-10


def linear(pooled: bool) -> nn.Module:
    """Dense layers over positions without anything between, which may be averaged at the end."""

    class Pooled(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            z = super().forward(input)
            return z.mean(1) if pooled else z

    torch.manual_seed(1)
    return Pooled(nn.Linear(3, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)).double()


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_exact_on_deep_linear_networks(sharing: str) -> None:
    """Expand where each position has its own loss, reduce where they are averaged; and both where
    there is one position. Source: Eschenhagen and others (2023), propositions 1 and 2."""
    pooled = sharing == "reduce"
    X, y = x(5, 4, 3), x(5, 2) if pooled else x(5, 4, 2)
    for data, model in (((X, y), linear(pooled)), ((X[:, 0], x(5, 2)), linear(False))):
        cost = hesse.Cost(model, "mse", data)
        G = hesse.hessian(cost, curvature="gauss_newton", certify=False).dense()
        K = hesse.kfac(cost, sharing=sharing)
        assert relative(K.dense(), in_blocks(K, G)) < TOLERANCE
    other = hesse.kfac(
        hesse.Cost(linear(pooled), "mse", (X, y)),
        sharing="expand" if pooled else "reduce",
    )
    G = hesse.hessian(hesse.Cost(linear(pooled), "mse", (X, y)), curvature="gauss_newton")
    assert relative(other.dense(), in_blocks(other, G.dense())) > 0.05


def test_drawn_labels_converge() -> None:
    """At one over the root of how many are drawn; their mean is exact."""
    cost, X = cost_of("dense"), hesse.kfac(cost_of("dense")).dense()
    errors = {
        count: torch.stack(
            [
                (hesse.kfac(cost, curvature=hesse.SampledFisher(count, seed)).dense() - X).norm()
                for seed in range(8)
            ]
        )
        .square()
        .mean()
        .sqrt()
        for count in (4, 400)
    }
    assert 0.6 < float(errors[4] / errors[400]) / 10 < 1.6
    assert float(errors[400] / X.norm()) < 0.1
    assert torch.equal(
        *(hesse.kfac(cost, curvature=hesse.SampledFisher(3, 1)).dense() for _ in range(2))
    )


def test_foof_is_of_the_inputs_alone() -> None:
    model, loss, X, y = parts_of("dense")
    K = hesse.kfac(hesse.Cost(model, loss, (X, y)), kind="foof")
    a = torch.cat([X, torch.ones(len(X), 1)], 1)
    A = a.T @ a / len(X)
    expected = torch.kron(torch.eye(4), A)
    assert relative(K.blocks[0].dense(), expected) < TOLERANCE


def test_a_table_that_is_the_last_layer_too() -> None:
    """Its block is the nearest Kronecker product of the sum of both uses', each by hooks."""
    model, _, words, y = parts_of("tied")
    K = hesse.kfac(cost_of("tied"))
    assert "nearest Kronecker product" in " ".join(K.notes)
    samples = [
        (words[n : n + 1], lambda z, n=n: NAMED["cross_entropy"](z, y[n : n + 1]) / len(y))
        for n in range(len(y))
    ]
    found = hooks.blocks(model, samples, hooks.rows_of_hessian, False, False)
    both = found["embed"] + found["out"]
    # Rows and columns of the table on their sides of a matrix whose rank is that of the sum.
    table = both.reshape(5, 3, 5, 3).transpose(1, 2).reshape(25, 9)
    u, s, v = torch.linalg.svd(table)
    nearest = s[0] * torch.outer(u[:, 0], v[0]).reshape(5, 5, 3, 3).transpose(1, 2).reshape(15, 15)
    assert relative(K.block("embed.weight"), nearest) < TOLERANCE


@pytest.mark.parametrize(
    ("end", "loss", "y"),
    [
        (nn.Identity(), nn.L1Loss(), x(6, 2)),
        (nn.LogSoftmax(1), nn.NLLLoss(), torch.arange(6) % 2),
        (nn.Sigmoid(), nn.BCELoss(), x(6, 2).gt(0).double()),
        (nn.Softplus(), nn.PoissonNLLLoss(log_input=False), x(6, 2).abs().round()),
        (nn.Identity(), "cross_entropy", torch.arange(6) % 2),
    ],
    ids=["l1", "nll", "bce", "poisson", "cross entropy"],
)
def test_the_mean_over_labels_is_in_the_factors(end: nn.Module, loss: Any, y: Tensor) -> None:
    # Of one layer the corrected eigenvalues add up to the exact trace.
    model = nn.Sequential(nn.Linear(3, 2).double(), end)
    cost = hesse.Cost(model, loss, (x(6, 3), y))
    exact_trace = float(hesse.trace(cost, curvature="fisher"))
    assert hesse.kfac(cost, curvature="fisher", kind="ekfac").trace() == pytest.approx(exact_trace)
    assert exact_trace > 0
