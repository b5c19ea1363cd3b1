"""Networks inside differential equations: torchdiffeq's solvers, and physics-informed networks in
the ways they are written."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap

import hesse
from certificates.kinds import TOLERANCE, WAYS, Subject, made, of, off, x
from networks import dense

# ---------------------------------------------------------------- solvers


class Field(nn.Module):
    """dy/dt."""

    def __init__(self) -> None:
        super().__init__()
        self.net = dense(2, 3, 2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


class Flow(nn.Module):
    """y at t = 1 from y at t = 0."""

    def __init__(self, solver: str = "odeint", **options: Any) -> None:
        super().__init__()
        self.field = Field()
        self.solve: Callable[..., Tensor] = getattr(pytest.importorskip("torchdiffeq"), solver)
        self.options = options
        self.register_buffer("t", torch.linspace(0, 1, 3))
        self.t: Tensor

    def forward(self, y: Tensor) -> Tensor:
        return self.solve(self.field, y, self.t, **self.options)[-1]


# How long its steps are is worked out on the way, and held fixed.
ADAPTIVE = {"method": "dopri5", "rtol": 1e-4, "atol": 1e-6}


def of_fixed_steps() -> Subject:
    return of(Flow(method="rk4"), "mse", (x(4, 2), x(4, 2)))


def of_fixed_steps_in_batches() -> Subject:
    return of(Flow(method="rk4"), "mse", [(x(2, 2), x(2, 2)), (x(3, 2), x(3, 2))])


def of_its_own_steps() -> Subject:
    return of(Flow(**ADAPTIVE), "mse", (x(4, 2), x(4, 2)))


@pytest.mark.parametrize("make", [of_fixed_steps, of_fixed_steps_in_batches, of_its_own_steps])
@pytest.mark.parametrize("way", WAYS)
def test_a_solver(make: Any, way: str) -> None:
    subject = made(make)
    assert off(WAYS[way](subject.cost), subject.expected, way) < TOLERANCE


@functools.cache
def adjoint(method: str) -> Subject:
    # Near some parameters the length of a step changes: no differences can be taken there.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"method": method} if method == "rk4" else ADAPTIVE
        return of(Flow("odeint_adjoint", **options), "mse", (x(4, 2), x(4, 2)))


@pytest.mark.some(of=2)
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
@pytest.mark.parametrize("way", WAYS)
def test_the_adjoint_method_is_refused(method: str, way: str) -> None:
    """Its backward solves an equation of its own, which automatic differentiation does not see."""
    subject = adjoint(method)
    with pytest.raises(
        hesse.HesseError,
        match=r"PyTorch's second derivatives of it are wrong\..* custom autograd Function",
    ):
        WAYS[way](subject.cost)


# ------------------------------------------------------------ physics-informed networks: u_t − u_xx


def by_autograd(u: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    (slope,) = torch.autograd.grad(u(points).sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(slope[:, 0].sum(), points, create_graph=True)
    return slope[:, 1:] - second[:, :1]


def by_func(u: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    def one(point: Tensor) -> Tensor:
        return u(point)[0]

    return vmap(grad(one))(points)[:, 1:] - vmap(hessian(one))(points)[:, :1, 0]


class Physical(nn.Module):
    """The residual at some points."""

    def __init__(self, residual: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
        super().__init__()
        self.u, self.residual = dense(2, 4, 1), residual

    def forward(self, points: Tensor) -> Tensor:
        return self.residual(self.u, points)


def with_autograd_in_the_forward() -> Subject:
    return of(Physical(by_autograd), "half_sse", (x(5, 2), x(5, 1)))


def with_func_in_the_forward() -> Subject:
    return of(Physical(by_func), "half_sse", (x(5, 2), x(5, 1)))


def with_func_in_the_forward_in_batches() -> Subject:
    return of(Physical(by_func), "half_sse", [(x(2, 2), x(2, 1)), (x(3, 2), x(3, 1))])


def on_points(residual: Callable[..., Tensor], *, in_batches: bool) -> Subject:
    """A function of the parameters: the residual on collocation points and the boundary value."""
    net, points, edge = dense(2, 4, 1).double(), x(6, 2), x(6, 2)
    edge[:, 0] = 0

    def J(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        def u(given: Tensor) -> Tensor:
            return functional_call(net, params, (given,))

        return residual(u, batch["inside"]).square().mean() + 2 * u(batch["edge"]).square().mean()

    everything = {"inside": points, "edge": edge}
    data = [
        {key: value[part] for key, value in everything.items()}
        for part in (slice(0, 2), slice(2, 6))
    ]
    params = {name: value.detach().clone() for name, value in net.named_parameters()}
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    if in_batches:
        return Subject(
            hesse.Cost.from_function(J, params, data), lambda: J(leaves, everything), leaves
        )
    return Subject(
        hesse.Cost.from_function(lambda p: J(p, everything), params),
        lambda: J(leaves, everything),
        leaves,
    )


def as_a_function_by_autograd() -> Subject:
    return on_points(by_autograd, in_batches=False)


def as_a_function_by_autograd_of_batches() -> Subject:
    return on_points(by_autograd, in_batches=True)


def as_a_function_by_func() -> Subject:
    return on_points(by_func, in_batches=False)


def as_a_function_by_func_of_batches() -> Subject:
    return on_points(by_func, in_batches=True)


SPELLINGS = [
    with_autograd_in_the_forward,
    with_func_in_the_forward,
    with_func_in_the_forward_in_batches,
    as_a_function_by_autograd,
    as_a_function_by_autograd_of_batches,
    as_a_function_by_func,
    as_a_function_by_func_of_batches,
]


@pytest.mark.some(of=3)
@pytest.mark.parametrize("make", SPELLINGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_spelling(make: Any, way: str) -> None:
    subject = made(make)
    assert off(WAYS[way](subject.cost), subject.expected, way) < TOLERANCE
