"""The derivatives of a function as linear maps, in the ways that PyTorch has: what every product
with a curvature is made of.

    first    f(θ) and its Jacobian, as push-forward v -> J v (jvp) and pull-back u -> Jᵀ u (vjp)
    second   the Hessian of a scalar function, v -> H v

The certificates' products are not made here: they must not share what they hold others against.
"""

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

Tensors = list[Tensor]
# A linear map between lists of tensors, such as v -> J v.
Map = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class TensorFunction:
    """A function of some tensors, a tensor or a list of them.

    Attributes:
        call: the function.
        holding: keeps its arguments in private modules while it is differentiated: a layer may run
            again on the way back.
    """

    call: Callable[[Tensors], Any]
    holding: Callable[[Tensors], AbstractContextManager[Any]] = lambda theta: nullcontext()

    def __call__(self, theta: Tensors) -> Any:
        return self.call(theta)


class Linearization(NamedTuple):
    """f(θ) and its Jacobian there.

    Attributes:
        value: f(θ).
        pushforward: v -> J v, the jvp.
        pullback: u -> Jᵀ u, the vjp.
    """

    value: Tensors
    pushforward: Map
    pullback: Map


class Derivatives(abc.ABC):
    """A way of differentiating.

    In both methods ``moving`` are the places of the tensors that v moves, by default all. v has a
    part for each of these alone; Jᵀ u and H v have every part.
    """

    @abc.abstractmethod
    def first(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Linearization:
        """Of a function that gives a list of tensors."""

    @abc.abstractmethod
    def second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Map:
        """v -> H v of a function that gives one number."""


def _places(theta: Tensors, moving: Sequence[int] | None) -> Sequence[int]:
    return range(len(theta)) if moving is None else moving


@final
class ForwardOverReverse(Derivatives):
    """Forward mode, over reverse mode for the second: to be traced, for what v does not touch is
    computed with every product."""

    def first(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Linearization:
        value, pull, *_ = vjp(function.call, theta)
        return Linearization(
            value,
            lambda v: jvp(function.call, (theta,), (self._filled(v, theta, moving),))[1],
            lambda u: pull(u)[0],
        )

    def second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Map:
        return lambda v: jvp(grad(function.call), (theta,), (self._filled(v, theta, moving),))[1]

    @staticmethod
    def _filled(v: Tensors, theta: Tensors, moving: Sequence[int] | None) -> Tensors:
        given = dict(zip(_places(theta, moving), v, strict=True))
        return [given.get(place, torch.zeros_like(part)) for place, part in enumerate(theta)]


@final
class ReverseOverReverse(Derivatives):
    """Reverse over reverse: what v does not touch is computed once, and the maps can be mapped over
    many v."""

    def first(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Linearization:
        value, pull, *_ = vjp(function.call, theta)
        places = _places(theta, moving)
        # Jᵀ u is linear in u, and its derivative in u, transposed, is J.
        _, push, *_ = vjp(
            lambda u: [pull(u)[0][place] for place in places],
            [torch.zeros_like(part) for part in value],
        )
        return Linearization(value, lambda v: push(v)[0], lambda u: pull(u)[0])

    def second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Map:
        return self.slope_and_second(function, theta, moving)[1]

    def slope_and_second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> tuple[Tensors, Map]:
        """∂f/∂ the tensors that v moves, which H v is the derivative of, and v -> H v."""
        places = _places(theta, moving)

        def slope(theta: Tensors) -> Tensors:
            gradient = grad(function.call)(theta)
            return [gradient[place] for place in places]

        # H is symmetric, so that the pull-back of the gradient multiplies with it.
        value, pull, *_ = vjp(slope, theta)
        return value, lambda v: pull(v)[0]


@final
class DoubleBackward(Derivatives):
    """Reverse over reverse in plain autograd, one v after another: for what `torch.func` does not
    go through.

    H is symmetric, so H v is the gradient of ∇f·v. (Not forward over reverse, which carries a
    tangent through what was computed without gradients.)
    """

    def first(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Linearization:
        leaves = self._leaves(theta)
        with torch.inference_mode(False), torch.enable_grad(), function.holding(leaves):
            value = function(leaves)
            kept = [part for part in value if part.requires_grad]
            directions = [torch.zeros_like(part, requires_grad=True) for part in kept]
            chosen = [leaves[place] for place in _places(theta, moving)]
            slopes = (
                torch.autograd.grad(kept, chosen, directions, create_graph=True, allow_unused=True)
                if kept
                else ()
            )
        # Jᵀ u as a function of u, whose derivative, transposed, is J.
        pulled = self._differentiable(slopes)

        def push(v: Tensors) -> Tensors:
            pushed = iter(
                self._back(
                    function,
                    leaves,
                    list(pulled.values()),
                    directions,
                    [v[place] for place in pulled],
                )
            )
            return [
                next(pushed) if part.requires_grad else torch.zeros_like(part) for part in value
            ]

        def pull(u: Tensors) -> Tensors:
            return self._back(
                function,
                leaves,
                kept,
                leaves,
                [d for d, part in zip(u, value, strict=True) if part.requires_grad],
            )

        return Linearization([part.detach() for part in value], push, pull)

    def second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Map:
        leaves = self._leaves(theta)
        with torch.inference_mode(False), torch.enable_grad(), function.holding(leaves):
            value, chosen = function(leaves), [leaves[place] for place in _places(theta, moving)]
            # Never backward(create_graph=True): it ties .grad to the graph in a cycle.
            slopes = (
                torch.autograd.grad(value, chosen, create_graph=True, allow_unused=True)
                if value.requires_grad
                else ()
            )
        # Where a parameter enters linearly, or not at all, its gradient does not depend on θ.
        parts = self._differentiable(slopes)
        return lambda v: self._back(
            function, leaves, list(parts.values()), leaves, [v[place] for place in parts]
        )

    @staticmethod
    def _leaves(theta: Tensors) -> Tensors:
        return [part.detach().requires_grad_() for part in theta]

    @staticmethod
    def _differentiable(slopes: Sequence[Any]) -> dict[int, Tensor]:
        return {
            place: slope
            for place, slope in enumerate(slopes)
            if slope is not None and slope.requires_grad
        }

    @staticmethod
    def _back(
        function: TensorFunction,
        leaves: Tensors,
        outputs: Tensors,
        inputs: Tensors,
        directions: Tensors,
    ) -> Tensors:
        """Σ directions · ∂outputs/∂inputs."""
        if not outputs:
            return [torch.zeros_like(part) for part in inputs]
        kept: dict[str, Any] = {
            "retain_graph": True,
            "allow_unused": True,
            "materialize_grads": True,
        }
        with function.holding(leaves):
            return list(torch.autograd.grad(outputs, inputs, directions, **kept))
