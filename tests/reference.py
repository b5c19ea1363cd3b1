"""The independent reference: automatic differentiation of the user's own model and loss, nothing of
hesse in between.

The Hessian is taken row by row by double backward in float64, on all the data at once;
`gradient_differences` checks it in turn by central differences of the gradient.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cases import Case, Problem, cost_of

NAMED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "half_sse": lambda prediction, y: ((y - prediction) ** 2).sum() / 2,
    "mse": lambda prediction, y: ((y - prediction) ** 2).mean(),
    "cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy_with_logits,
}


def whole(data: Any) -> tuple[Tensor, Tensor]:
    """All samples as one batch."""
    if isinstance(data, tuple):
        return data
    xs, ys = zip(*data, strict=True)
    return torch.cat(xs), torch.cat(ys)


def parameters(problem: Problem, names: tuple[str, ...]) -> list[Tensor]:
    """Leaves for the named parameters, at the problem's values."""
    held = (
        dict(problem.model.named_parameters())
        if isinstance(problem.model, nn.Module)
        else problem.params
    )
    return [held[name].detach().clone().requires_grad_() for name in names]


def prediction(problem: Problem, named: dict[str, Tensor]) -> Any:
    """What the model predicts for all data."""
    X, _ = whole(problem.data)
    if not isinstance(problem.model, nn.Module):
        return problem.model(named, X)
    buffers = {name: buffer.clone() for name, buffer in problem.model.named_buffers()}
    return torch.func.functional_call(problem.model, {**buffers, **named}, (X,))


def loss_of(problem: Problem, predicted: Any) -> Tensor:
    """The loss of a prediction for all data."""
    given = NAMED[problem.loss] if isinstance(problem.loss, str) else problem.loss
    return given(predicted, whole(problem.data)[1])


def penalty(problem: Problem, named: dict[str, Tensor]) -> Any:
    """The penalty; zero where there is none."""
    given: Any = problem.penalty
    if callable(given):
        return given(named)
    squares = torch.stack([leaf.square().sum() for leaf in named.values()])
    return (given or 0.0) / 2 * squares.sum()


def objective(problem: Problem, names: tuple[str, ...], leaves: list[Tensor]) -> Tensor:
    """J as plain PyTorch would say it."""
    named = dict(zip(names, leaves, strict=True))
    with sdpa_kernel(SDPBackend.MATH):
        if problem.loss is not None:
            cost = loss_of(problem, prediction(problem, named))
        elif problem.data is None:
            cost = problem.model(named)
        else:
            cost = problem.model(named, whole(problem.data))
    return cost + penalty(problem, named)


def gradient(
    problem: Problem, names: tuple[str, ...], leaves: list[Tensor], keep_graph: bool = False
) -> Tensor:
    """The flat gradient, in the order of the names."""
    cost = objective(problem, names, leaves)
    parts = torch.autograd.grad(cost, leaves, create_graph=keep_graph, allow_unused=True)
    return joined(parts, leaves)


def joined(parts: Sequence[Tensor | None], leaves: list[Tensor]) -> Tensor:
    """One flat vector; zeros where a derivative does not exist because the parameter is unused."""
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).reshape(-1)
            for p, g in zip(leaves, parts, strict=True)
        ]
    )


def hessian(problem: Problem, names: tuple[str, ...]) -> Tensor:
    """The full Hessian (P, P), one double backward for each row."""
    leaves = parameters(problem, names)
    return rows_of(gradient(problem, names, leaves, keep_graph=True), leaves)


def rows_of(values: Tensor, leaves: list[Tensor]) -> Tensor:
    """The derivative of each of some values, one after another, as a row."""
    rows = [
        torch.autograd.grad(entry, leaves, retain_graph=True, allow_unused=True)
        if entry.requires_grad
        else [None] * len(leaves)
        for entry in values.flatten()
    ]
    return torch.stack([joined(row, leaves) for row in rows])


@dataclass(frozen=True)
class Curvatures:
    """What the curvatures of a row of the table are made of.

    Attributes:
        jacobian: J of its predictions, (n k, P).
        loss_hessian: S of its loss in them, (n k, n k).
        slope: of its loss in them, (n k).
        penalty: the Hessian of its penalty.
    """

    jacobian: Tensor
    loss_hessian: Tensor
    slope: Tensor
    penalty: Tensor

    @property
    def gauss_newton(self) -> Tensor:
        """JᵀSJ, the penalty with it."""
        return self.jacobian.T @ self.loss_hessian @ self.jacobian + self.penalty

    def empirical_fisher(self, samples: int, divisor: float) -> Tensor:
        """Σ g gᵀ by the divisor of the mean, g a sample's gradient before it was divided."""
        u = self.slope.reshape(samples, -1, 1) * divisor
        g = (u * self.jacobian.reshape(samples, -1, self.jacobian.shape[1])).sum(1)
        return g.T @ g / divisor + self.penalty


def curvatures(problem: Problem, names: tuple[str, ...]) -> Curvatures:
    """By plain autograd, each row of J and of S by itself."""
    leaves = parameters(problem, names)
    named = dict(zip(names, leaves, strict=True))
    with sdpa_kernel(SDPBackend.MATH):
        predicted = prediction(problem, named)
    J = rows_of(predicted, leaves)
    z = [predicted.detach().requires_grad_()]
    (slope,) = torch.autograd.grad(loss_of(problem, z[0]), z, create_graph=True)
    S = rows_of(slope, z)
    slopes = torch.autograd.grad(penalty(problem, named), leaves, create_graph=True)
    return Curvatures(J, S, slope.detach().flatten(), rows_of(joined(slopes, leaves), leaves))


@functools.cache
def expected_hessian(case: Case) -> Tensor:
    """The row's Hessian (P, P) in the order of its cost's layout, worked out once in a session."""
    return hessian(case.problem(), cost_of(case).layout.names)


def gradient_differences(
    problem: Problem, names: tuple[str, ...], direction: Tensor, step: float = 1e-5
) -> Tensor:
    """H v by central differences: (g(θ + h v) − g(θ − h v)) / 2h."""

    def at(shift: float) -> Tensor:
        leaves = parameters(problem, names)
        moves = direction.split([leaf.numel() for leaf in leaves])
        moved = [
            (leaf + shift * move.reshape(leaf.shape)).detach().requires_grad_()
            for leaf, move in zip(leaves, moves, strict=True)
        ]
        return gradient(problem, names, moved)

    return (at(step) - at(-step)) / (2 * step)


def relative(found: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """max |found − expected| / max |scale|, where the scale is what is expected unless another is
    given."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max()) / float(
        (expected if scale is None else scale).abs().max()
    )
