"""Modes of PyTorch around a call and inside a forward: autocast, half precision, blocks without
gradients, power iterations."""

import contextlib
import functools
import warnings
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
    double_backward,
    flat,
    made,
    of,
    off,
    said,
    x,
)
from networks import dense

# ---------------------------------------------------------------- autocast around a call


def single(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A network in float32, with its data: what autocast would touch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dense(3, 4, 2), torch.randn(6, 3), torch.randint(2, (6,))


ASKED: dict[str, Callable[[hesse.Cost], Tensor]] = {
    "value": lambda cost: torch.tensor(hesse.value(cost)),
    "gradient": lambda cost: cost.layout.flatten(hesse.gradient(cost)),
    **WAYS,
    "chosen blocks": lambda cost: hesse.hessian(cost, pairs=[("0.weight", "2.weight")])[
        "0.weight", "2.weight"
    ],
    "moved": lambda cost: hesse.hessian(cost.at(cost.theta)).dense(),
    "a product with H": lambda cost: hesse.hessian(cost) @ cost.theta,
    "eigenvalues": lambda cost: hesse.hessian(cost).eigh().values,
    "a step": lambda cost: hesse.quadratic(cost, dense=False).trust_region(0.1).vector,
}


@functools.cache
def without_autocast(name: str) -> Tensor:
    model, X, y = single()
    return ASKED[name](hesse.Cost(model, "cross_entropy", (X, y)))


@pytest.mark.parametrize(
    ("place", "dtype"),
    [("the cost", torch.bfloat16), ("the call", torch.bfloat16), ("both", torch.float16)],
    ids=["the cost", "the call", "both"],
)
def test_autocast_around_changes_nothing(place: str, dtype: torch.dtype) -> None:
    model, X, y = single()
    casting = torch.autocast("cpu", dtype)
    with casting if place in ("the cost", "both") else contextlib.nullcontext():
        cost = hesse.Cost(model, "cross_entropy", (X, y))
    for name, ask in ASKED.items():
        with casting if place in ("the call", "both") else contextlib.nullcontext():
            found = ask(cost)
        expected = without_autocast(name)
        assert found.dtype == expected.dtype, name
        assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max()), name


@pytest.mark.parametrize("name", WAYS)
def test_autocast_around_a_function_changes_nothing(name: str) -> None:
    """And around a penalty with a product of matrices in it."""
    _, X, _ = single()
    weights = {"w": torch.linspace(-1, 1, 6).reshape(3, 2)}

    def ask() -> Tensor:
        cost = hesse.Cost.from_function(
            lambda p: (X @ p["w"]).tanh().sum(),
            weights,
            penalty=lambda p: (p["w"].T @ p["w"]).exp().sum(),
        )
        return WAYS[name](cost)

    expected = ask()
    with torch.autocast("cpu", torch.bfloat16):
        found = ask()
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


def test_minimising_under_autocast() -> None:
    model, X, y = single()
    cost = hesse.Cost(model, "cross_entropy", (X, y), penalty=0.1)
    expected = hesse.minimize(cost, method="trust-krylov", tolerance=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        found = hesse.minimize(cost, method="trust-krylov", tolerance=1e-4)
    assert found.success and abs(float(found.fun) - float(expected.fun)) < 1e-5


def test_what_was_captured_under_autocast_is_not_kept() -> None:
    """After a training loop with mixed precision the same model is fast and right."""
    model, X, y = single()
    with torch.autocast("cpu", torch.bfloat16):
        hesse.hessian(hesse.Cost(model, "cross_entropy", (X, y)))
        hesse.operator(hesse.Cost(model, "cross_entropy", (X, y)))
    cost, plain = (
        hesse.Cost(model, "cross_entropy", (X, y)),
        hesse.Cost(single()[0], "cross_entropy", (X, y)),
    )
    assert hesse.plan(cost).captured and hesse.plan(cost).notes == hesse.plan(plain).notes
    for name, ask in ASKED.items():
        expected = without_autocast(name)
        assert float((ask(cost) - expected).abs().max()) <= 1e-6 * float(expected.abs().max()), name


def test_autocast_stays_on_for_the_caller() -> None:
    model, X, y = single()
    with torch.autocast("cpu", torch.bfloat16):
        hesse.hessian(hesse.Cost(model, "cross_entropy", (X, y)))
        assert (
            torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )
        assert F.linear(X, torch.ones(2, 3)).dtype == torch.bfloat16


# ------------------------------------------------------------ autocast inside the user's forward


def mixed(m: Any, z: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        hidden = torch.tanh(m.a(z))
    return m.b(hidden.float())


@pytest.mark.parametrize("way", WAYS)
def test_autocast_inside_is_the_users(way: str) -> None:
    """It is the function as given that is differentiated, in its precision, and the certificate
    says what that is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = (
            Formula(mixed, a=nn.Linear(3, 4), b=nn.Linear(4, 2)),
            torch.randn(6, 3),
            torch.randn(6, 2),
        )
    cost = hesse.Cost(model, "half_sse", (X, y))
    leaves = dict(model.named_parameters())
    ordered = [leaves[name] for name in cost.layout.names]
    expected = double_backward(lambda: (model(X) - y).square().sum() / 2, ordered)
    assert off(WAYS[way](cost), expected.double(), way) < 3e-2
    result = {"hessian": hesse.hessian, "diagonal": hesse.diagonal, "operator": hesse.operator}[
        way
    ](cost)
    assert "autocast" in str(result.certificate) or "autocast" in " ".join(result.certificate.notes)


# ---------------------------------------------------------------- half precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["dense", "convolution", "attention"])
def test_half_precision_is_certified_in_float32(kind: str, dtype: torch.dtype) -> None:
    """The certificate is held against the same function widened; the reference is that function in
    float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models: dict[str, tuple[nn.Module, Tensor]] = {
            "dense": (dense(3, 4, 2), torch.randn(6, 3)),
            "convolution": (
                nn.Sequential(nn.Conv1d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)),
                torch.randn(6, 2, 3),
            ),
            "attention": (
                nn.Sequential(nn.Linear(3, 2), nn.GELU(), nn.Linear(2, 2)),
                torch.randn(6, 3),
            ),
        }
        model, X = models[kind]
        model, X, y = model.to(dtype), X.to(dtype), torch.randn(6, 2).to(dtype)
    cost = hesse.Cost(model, "mse", (X, y))
    H, wide = hesse.hessian(cost), model.double()
    leaves = dict(wide.named_parameters())
    ordered = [leaves[name] for name in cost.layout.names]
    expected = double_backward(lambda: (wide(X.double()) - y.double()).square().mean(), ordered)
    assert H.dtype == torch.float32 and off(H.dense(), expected) < 1e-5
    assert H.certificate is not None and H.certificate.deviation < 1e-5


# ---------------------------------------------------------------- blocks inside a forward


def gate_without_gradient(m: Any, z: Tensor) -> Tensor:
    with torch.no_grad():
        weight = m.a(z).sigmoid()
    return m.a(z) * weight


def with_grad_disabled(m: Any, z: Tensor) -> Tensor:
    with torch.set_grad_enabled(False):
        shift = z @ m.a.weight
    return torch.tanh(m.a(z)) + shift


def twice_without(m: Any, z: Tensor) -> Tensor:
    with torch.no_grad():
        first = torch.tanh(m.a(z))
        with torch.enable_grad():
            second = torch.tanh(m.a(first))
    return second * m.b(z)


def enabled(m: Any, z: Tensor) -> Tensor:
    with torch.enable_grad():
        return torch.tanh(m.a(z)) * m.b(z)


def cast_without_effect(m: Any, z: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        return m.b(torch.tanh(m.a(z)))


def attention_kernel_chosen(m: Any, z: Tensor) -> Tensor:
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        h = z.unsqueeze(1) * torch.tensor([[1.0], [2.0]])
        return F.scaled_dot_product_attention(m.a(h), h, m.b(h)).sum(1)


def two(forward: Callable[[Any, Tensor], Tensor]) -> Subject:
    return of(
        Formula(forward, a=nn.Linear(2, 2), b=nn.Linear(2, 2)), "half_sse", (x(4, 2), x(4, 2))
    )


def normed(norm: Callable[[nn.Module], nn.Module]) -> Subject:
    """A power iteration on every evaluation; the cost begins it where the model stands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(norm(nn.Linear(2, 3)), nn.Tanh(), nn.Linear(3, 2)).double().train()
    X, y = x(4, 2), x(4, 2)
    leaves = dict(model.named_parameters())

    def J() -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return (
            torch.func.functional_call(model, {**leaves, **buffers}, (X,)) - y
        ).square().sum() / 2

    return of(model, "half_sse", (X, y), J)


class Averaged(nn.Module):
    """A student that is held against a slow copy of itself, which it keeps as a frozen module."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)

    @torch.no_grad()
    def target(self, z: Tensor) -> Tensor:
        return torch.tanh(self.teacher(z)) + self.student(z)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.student(z)) - self.target(z)


BLOCKS: dict[str, Make] = {
    "no_grad": lambda: two(gate_without_gradient),
    "set_grad_enabled": lambda: two(with_grad_disabled),
    "enable_grad inside no_grad": lambda: two(twice_without),
    "enable_grad": lambda: two(enabled),
    "autocast, not enabled": lambda: two(cast_without_effect),
    "a kernel of attention": lambda: two(attention_kernel_chosen),
    "a method under no_grad": lambda: of(Averaged(), "half_sse", (x(4, 2), x(4, 2))),
    "spectral norm, training": lambda: normed(nn.utils.parametrizations.spectral_norm),
    "old spectral norm, training": lambda: normed(nn.utils.spectral_norm),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BLOCKS.values(), ids=BLOCKS)
def test_blocks(kind: Make, way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize("kind", BLOCKS.values(), ids=BLOCKS)
def test_the_rest_of_hesse_takes_them_too(kind: Make) -> None:
    """Plan, value and gradient, without a raw error."""
    subject = made(kind)
    names = subject.cost.layout.names
    expected = torch.autograd.grad(
        subject.J(),
        [subject.leaves[name] for name in names],
        materialize_grads=True,
        allow_unused=True,
    )
    assert abs(hesse.value(subject.cost) - float(subject.J().detach())) < 1e-12
    assert (
        float(
            (subject.cost.layout.flatten(hesse.gradient(subject.cost)) - flat(expected)).abs().max()
        )
        < 1e-12
    )
    assert str(hesse.plan(subject.cost))


def test_what_is_held_fixed_under_no_grad_is_noted() -> None:
    subject = BLOCKS["no_grad"]()
    H = hesse.hessian(subject.cost)
    assert "held fixed" in said(subject.cost, H.certificate)
