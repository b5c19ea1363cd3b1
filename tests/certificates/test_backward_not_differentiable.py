"""Backward passes that are not differentiable: every way to H agrees there, and is wrong. Only
differences of gradients tell.

Each function's first derivative is right, so it trains. Its H by double backward is 0, or symmetric
and lacks a term.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import hesse
from certificates.kinds import WAYS, Formula, double_backward, flat, of, off, x

Function: Any = torch.autograd.Function


# ---------------------------------------- functions, all of them u -> u³ or tanh u


class DetachedSlope(Function):
    """u³, 3 u² from a value that was detached: H lacks 6 u."""

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3 * ctx.saved_tensors[0].detach() ** 2


class DetachedOutput(Function):
    """tanh u, 1 − y² of a y that lies in the context, not among the saved tensors: H is
    Gauss–Newton's, and symmetric."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.y = torch.tanh(u)
        return ctx.y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.y.detach() ** 2)


class WithoutGradient(Function):
    """The slope made under no_grad, as one writes it to save memory."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        with torch.no_grad():
            slope = 3 * ctx.saved_tensors[0] ** 2
        return g * slope


class AllWithoutGradient(Function):
    """The whole of the backward under no_grad: H is 0 from there up."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        with torch.no_grad():
            return g * 3 * ctx.saved_tensors[0] ** 2


class Once(Function):
    """Said to be differentiable once."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3 * ctx.saved_tensors[0] ** 2


class InNumpy(Function):
    """NumPy in both passes, as SciPy's functions are wrapped: H is 0."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.u = u.detach().numpy()
        return torch.from_numpy(ctx.u**3)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.from_numpy(g.detach().numpy() * 3 * ctx.u**2)


class SlopeInNumpy(Function):
    """NumPy for the slope alone: what comes from above keeps its graph, so that H is symmetric and
    lacks a term."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.slope = torch.from_numpy(3 * np.square(u.detach().numpy()))
        return u**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.slope


class Adjoint(Function):
    """u at time 1 of u' = sin u by Euler's steps; the adjoint runs backwards through detached
    states."""

    steps = 8

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        states = [u]
        with torch.no_grad():
            for _ in range(Adjoint.steps):
                states.append(states[-1] + torch.sin(states[-1]) / Adjoint.steps)
        ctx.states = [state.detach() for state in states]
        return states[-1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        for state in reversed(ctx.states[:-1]):
            with torch.enable_grad():
                leaf = state.detach().requires_grad_()
                moved = leaf + torch.sin(leaf) / Adjoint.steps
            (g,) = torch.autograd.grad(moved, leaf, g)
        return g


class Implicit(Function):
    """The root y of y + y³ = u, whose backward is 1 / (1 + 3 y²) at a root that was found without a
    graph."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        y = torch.zeros_like(u)
        with torch.no_grad():
            for _ in range(12):
                y = y - (y + y**3 - u) / (1 + 3 * y**2)
        ctx.y = y
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g / (1 + 3 * ctx.y**2)


class Right(Function):
    """u³ as it should be written."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3 * ctx.saved_tensors[0] ** 2


def detached_by_a_hook(u: Tensor) -> Tensor:
    """A hook that cuts the graph of the gradient, as hooks that log or clip often do."""
    made = u**3
    if made.requires_grad:
        made.register_hook(lambda g: g.detach())
    return made


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "a detached slope": DetachedSlope.apply,
    "a detached output": DetachedOutput.apply,
    "no_grad for the slope": WithoutGradient.apply,
    "no_grad for all of it": AllWithoutGradient.apply,
    "once_differentiable": Once.apply,
    "numpy": InNumpy.apply,
    "numpy for the slope": SlopeInNumpy.apply,
    "an adjoint": Adjoint.apply,
    "an implicit function": Implicit.apply,
    "a hook": detached_by_a_hook,
}


def network(f: Callable[[Tensor], Tensor], seed: int = 0) -> tuple[Any, Tensor, Tensor]:
    """A layer below f, and one above."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            Formula(lambda m, z: m.b(f(m.a(z))), a=nn.Linear(2, 3), b=nn.Linear(3, 2)).double(),
            x(5, 2),
            x(5, 2),
        )


@pytest.mark.parametrize("f", WRONG.values(), ids=WRONG)
def test_refused(f: Callable[[Tensor], Tensor]) -> None:
    """Every way, and the error says that it is a backward pass that is not differentiable."""
    model, X, y = network(f)
    cost = hesse.Cost(model, "half_sse", (X, y))
    for certified in (hesse.hessian, hesse.diagonal, hesse.operator):
        with pytest.raises(hesse.HesseError, match="backward"):
            certified(cost)


@pytest.mark.parametrize("f", WRONG.values(), ids=WRONG)
def test_the_functions_are_what_they_are_meant_to_be(f: Callable[[Tensor], Tensor]) -> None:
    """Of each the first derivative is right and the second, where PyTorch gives one, wrong."""
    model, X, y = network(f)
    leaves = list(model.parameters())

    def J() -> Tensor:
        return (model(X) - y).square().sum() / 2

    def gradient() -> Tensor:
        return flat(torch.autograd.grad(J(), leaves))

    def moved(by: float) -> tuple[float, Tensor]:
        with torch.no_grad():
            for leaf in leaves:
                leaf.add_(by)
        made = float(J().detach()), gradient()
        with torch.no_grad():
            for leaf in leaves:
                leaf.sub_(by)
        return made

    step = 1e-5
    (above, g_above), (below, g_below) = moved(step), moved(-step)
    assert abs((above - below) / (2 * step) - float(gradient().sum())) < 1e-7 * (
        1 + abs(float(gradient().sum()))
    )
    try:
        H = double_backward(J, leaves)
    except RuntimeError:
        return
    differences = (g_above - g_below) / (2 * step)
    assert float((H.sum(1) - differences).abs().max()) > 1e-2 * float(differences.abs().max())


@pytest.mark.parametrize(
    "certified", [hesse.hessian, hesse.diagonal, hesse.operator], ids=list(WAYS)
)
def test_refused_in_a_loss(certified: Callable[[hesse.Cost], Any]) -> None:
    model, X, y = network(torch.tanh)

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return WithoutGradient.apply(prediction - target).square().sum()

    with pytest.raises(hesse.HesseError, match="backward"):
        certified(hesse.Cost(model, loss, (X, y)))


@pytest.mark.parametrize(
    "certified", [hesse.hessian, hesse.diagonal, hesse.operator], ids=list(WAYS)
)
def test_refused_in_a_function_and_in_a_penalty(certified: Callable[[hesse.Cost], Any]) -> None:
    def f(p: dict[str, Tensor]) -> Tensor:
        return DetachedSlope.apply(p["u"]).sum() + p["u"].square().sum()

    with pytest.raises(hesse.HesseError, match="backward"):
        certified(hesse.Cost.from_function(f, {"u": x(3)}))
    model, X, y = network(torch.tanh)
    with pytest.raises(hesse.HesseError, match="backward"):
        certified(
            hesse.Cost(
                model,
                "half_sse",
                (X, y),
                penalty=lambda p: WithoutGradient.apply(p["a.bias"]).sum(),
            )
        )


class Reversed(Function):
    """The gradient turned about, as adversarial training has it: a derivative of the user's own."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        return u.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


class Clipped(Function):
    """The gradient with a bend of its own, by which double backward is not symmetric."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return g * torch.tanh(u + u.flip(1)) * u.roll(1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_that_is_turned_about_is_the_users(way: str) -> None:
    """There g·v is not the slope of the value, by intent: double backward is the definition, and
    the plan says so."""
    model, X, y = network(lambda u: torch.tanh(u) + Reversed.apply(u) ** 2)
    subject = of(model, "half_sse", (X, y))
    assert off(WAYS[way](subject.cost), subject.expected, way) < 1e-9
    assert "not the slope" in str(hesse.plan(subject.cost))


@pytest.mark.parametrize(
    "certified", [hesse.hessian, hesse.diagonal, hesse.operator], ids=list(WAYS)
)
def test_a_gradient_that_is_no_derivative_has_no_hessian(
    certified: Callable[[hesse.Cost], Any],
) -> None:
    """Never the symmetrised wrong matrix."""
    model, X, y = network(Clipped.apply)
    with pytest.raises(hesse.HesseError, match="symmetric"):
        certified(hesse.Cost(model, "half_sse", (X, y)))


@pytest.mark.parametrize("way", WAYS)
def test_a_function_with_a_right_backward_is_taken(way: str) -> None:
    model, X, y = network(Right.apply)
    subject = of(model, "half_sse", (X, y))
    assert off(WAYS[way](subject.cost), subject.expected, way) < 1e-9
