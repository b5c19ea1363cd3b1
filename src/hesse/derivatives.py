"""The derivatives of a function as linear maps, in the ways that PyTorch has: what every product
with a curvature is made of.

    first    f(θ) and its Jacobian, as push-forward v -> J v (jvp) and pull-back u -> Jᵀ u (vjp)
    second   the Hessian of a scalar function, v -> H v

The certificates' products are not made here: they must not share what they hold others against.
"""

import abc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

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
        leaves = _leaves(theta)
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
        pulled = _differentiable(slopes)

        def push(v: Tensors) -> Tensors:
            pushed = iter(
                _back(
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

        detached = [part.detach() for part in value]
        return Linearization(detached, push, self._pull(function, leaves, value))

    def pullback(self, function: TensorFunction, theta: Tensors) -> tuple[Tensors, Map]:
        """f(θ) and u -> Jᵀ u alone, at half of what both maps take."""
        leaves = _leaves(theta)
        with torch.inference_mode(False), torch.enable_grad(), function.holding(leaves):
            value = function(leaves)
        return [part.detach() for part in value], self._pull(function, leaves, value)

    @staticmethod
    def _pull(function: TensorFunction, leaves: Tensors, value: Tensors) -> Map:
        places = [place for place, part in enumerate(value) if part.requires_grad]
        kept = [value[place] for place in places]
        return lambda u: _back(function, leaves, kept, leaves, [u[place] for place in places])

    def second(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> Map:
        return KeptGradient(function, theta, moving).product


@final
class KeptGradient:
    """∇f with the graph that made it: made once, for products with any v, v in one tensor alone
    too, and for any parts of them.

    The way back from the gradient of a tensor ends at what is asked for. Asked for what the
    function uses after it, nothing of what lies before is computed.

    Args:
        function: f, which gives one number.
        theta: the tensors.
        moving: the places of those that v moves, by default all.
    """

    def __init__(
        self, function: TensorFunction, theta: Tensors, moving: Sequence[int] | None = None
    ) -> None:
        self._function, self._leaves = function, _leaves(theta)
        with torch.inference_mode(False), torch.enable_grad(), function.holding(self._leaves):
            value = function(self._leaves)
            chosen = [self._leaves[place] for place in _places(theta, moving)]
            # Never backward(create_graph=True): it ties .grad to the graph in a cycle.
            slopes = (
                torch.autograd.grad(value, chosen, create_graph=True, allow_unused=True)
                if value.requires_grad
                else ()
            )
        # Where a parameter enters linearly, or not at all, its gradient does not depend on θ.
        self._slopes = _differentiable(slopes)
        self.order = _order_of_use(value, self._leaves)

    def product(self, v: Tensors) -> Tensors:
        """H v, v with a part for each tensor that it moves."""
        slopes, directions = list(self._slopes.values()), [v[place] for place in self._slopes]
        return _back(self._function, self._leaves, slopes, self._leaves, directions)

    def one_by_one(self, moving: Sequence[int], asked: Sequence[int], several: Tensors) -> Tensors:
        """Of many v, stacked, that move some tensors the parts of H v that are asked for, stacked:
        each by itself."""
        each = [
            self._parts(moving, asked, [part[k] for part in several])
            for k in range(len(several[0]))
        ]
        return [torch.stack(parts) for parts in zip(*each, strict=True)]

    def side_by_side(
        self, moving: Sequence[int], asked: Sequence[int], several: Tensors
    ) -> Tensors:
        """The same, all in one way back.

        Raises:
            RuntimeError: an operation has no rule for several at once.
        """

        def parts(*v: Tensor) -> Tensors:
            return self._parts(moving, asked, list(v))

        return vmap(parts)(*several)

    def _parts(self, moving: Sequence[int], asked: Sequence[int], v: Tensors) -> Tensors:
        directions = dict(zip(moving, v, strict=True))
        known = [place for place in moving if place in self._slopes]
        return _back(
            self._function,
            self._leaves,
            [self._slopes[place] for place in known],
            [self._leaves[place] for place in asked],
            [directions[place] for place in known],
        )

    @property
    def passed(self) -> int:
        """Bytes of all that a product passes back, more than it holds at once; known without
        making one."""
        forms = (form for node in _nodes(self._slopes.values()) for form in node._input_metadata)
        return sum(math.prod(form.shape) * form.dtype.itemsize for form in forms)


def _order_of_use(value: Tensor, leaves: Tensors) -> list[int]:
    """The places of some leaves in the order in which a value that was made of them used them;
    those that it did not, last."""
    used: dict[int, float] = {}
    for node in _nodes([value]):
        for source, _ in node.next_functions:
            leaf = id(getattr(source, "variable", None))
            used[leaf] = min(used.get(leaf, math.inf), node._sequence_nr())
    return sorted(range(len(leaves)), key=lambda place: used.get(id(leaves[place]), math.inf))


def _nodes(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Autograd's nodes behind some tensors."""
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        new = {source for source, _ in node.next_functions if source is not None} - seen
        seen |= new
        waiting += new


def _leaves(theta: Tensors) -> Tensors:
    return [part.detach().requires_grad_() for part in theta]


def _differentiable(slopes: Sequence[Any]) -> dict[int, Tensor]:
    return {
        place: slope
        for place, slope in enumerate(slopes)
        if slope is not None and slope.requires_grad
    }


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
    kept: dict[str, Any] = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    with function.holding(leaves):
        return list(torch.autograd.grad(outputs, inputs, directions, **kept))
