"""The summands of J, one for each batch and one for the penalty, as functions that are
differentiated twice."""

import dataclasses
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.capture.straight_line import TracedProduct
from hesse.cost import Cost
from hesse.curvatures.curvature import Curvature
from hesse.curvatures.hessian import HESSIAN
from hesse.data.batch import Batch
from hesse.derivatives import Derivatives, Map, TensorFunction, Tensors
from hesse.errors import HesseValueError
from hesse.process.circumstances import circumstances


@dataclass(frozen=True)
class TraceFailure:
    """Why a product cannot be traced; kept in place of its program, so that it is tried once."""

    reason: str


# The programs of a cost, by the shapes they were traced for.
Programs = dict[Hashable, TracedProduct | TraceFailure]
# By the cost's function, so that the same model and loss at another θ finds them; weakly, so that
# they go when that does.
_PROGRAMS: "weakref.WeakKeyDictionary[Callable[..., Tensor], Programs]" = (
    weakref.WeakKeyDictionary()
)


@dataclass(frozen=True)
class PredictionAndLoss:
    """A summand in two functions, the second of what the first gives.

    Attributes:
        predict: (θ, inputs) -> the user's prediction.
        judge: (prediction, inputs) -> the summand.
    """

    predict: Callable[[Tensors, Tensors], Any]
    judge: Callable[[Any, Tensors], Tensor]


@dataclass(frozen=True)
class Term:
    """One summand of J, as a function of θ and of the tensors of one batch, and its products.

    Attributes:
        cost: (θ, inputs) -> the summand.
        theta: the parameters, in layout order.
        inputs: the tensors of the batch.
        curvature: what v is multiplied with.
        key: what else the function depends on; terms of equal key and shapes share a program.
        programs: the programs known already.
        holding: keeps a θ in the private modules while something is differentiated.
        failed: the methods that are not to be tried, and why.
        parts: prediction and loss; ``None`` where the summand is one function.
    """

    cost: Callable[[Tensors, Tensors], Tensor]
    theta: Tensors
    inputs: Tensors
    curvature: Curvature = HESSIAN
    key: Hashable = None
    programs: Programs = field(default_factory=dict)
    holding: Callable[[Tensors], AbstractContextManager[Any]] = lambda theta: nullcontext()
    failed: dict[str, str] = field(default_factory=dict)
    parts: PredictionAndLoss | None = None

    def product(self, by: Derivatives, moving: Sequence[int] | None = None) -> Map:
        """v -> H v, or another curvature's product, where v moves the parameters at some places, by
        default all."""
        return self.curvature.product(by, self, moving)

    @property
    def function(self) -> TensorFunction:
        """θ -> the summand."""
        return TensorFunction(lambda theta: self.cost(theta, self.inputs), self.holding)

    @property
    def cut(self) -> tuple[TensorFunction, TensorFunction]:
        """θ -> the floating tensors of the prediction, and from these to the summand; the first is
        to be called first.

        Raises:
            HesseValueError: the prediction holds no such tensors, or others too, which the loss
                would be a function of as well.
        """
        # The structure of the prediction is known when it has been made, and the loss takes it.
        parts, structure = self.parts, list[Any]()
        assert parts is not None

        def predict(theta: Tensors) -> Tensors:
            leaves, spec = pytree.tree_flatten(parts.predict(theta, self.inputs))
            if not leaves or not all(
                isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves
            ):
                raise HesseValueError(
                    f"curvature: {self.curvature.name!r} needs a prediction of floating tensors and"
                    " nothing else; return those"
                )
            structure[:] = [spec]
            return leaves

        def judge(prediction: Tensors) -> Tensor:
            return parts.judge(pytree.tree_unflatten(prediction, structure[0]), self.inputs)

        return TensorFunction(predict, self.holding), TensorFunction(judge)

    @cached_property
    def form(self) -> Hashable:
        """Terms of equal form share a program."""
        return (
            self.key,
            *((tuple(t.shape), t.stride(), t.dtype, t.device) for t in (*self.theta, *self.inputs)),
        )


def batch_term(cost: Cost, batch: Batch | None) -> Term:
    """What one batch adds to J. Frozen parameters and buffers are inputs, so that a trace knows
    nothing of their values."""
    leaves, spec = pytree.tree_flatten(None if batch is None else (batch.x, batch.y))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    # What is no tensor stays as it is and is part of the key: a trace has its value frozen in.
    names = (*cost.layout.names, *cost.fixed)

    def given(theta: Tensors, inputs: Tensors) -> tuple[dict[str, Tensor], Any]:
        filled = list(others)
        for place, tensor in zip(places, inputs, strict=False):
            filled[place] = tensor
        pair = pytree.tree_unflatten(filled, spec)
        tensors = dict(zip(names, (*theta, *inputs[len(places) :]), strict=True))
        return tensors, None if batch is None else dataclasses.replace(batch, x=pair[0], y=pair[1])

    def value(theta: Tensors, inputs: Tensors) -> Tensor:
        return cost.batch_cost(*given(theta, inputs))

    parts = None
    predicting, judging = cost.predict, cost.loss_of_prediction
    if predicting is not None and judging is not None:

        def judged(prediction: Any, inputs: Tensors) -> Tensor:
            tensors, taken = given(theta, inputs)
            return judging(tensors, prediction, taken).reshape(()) * cost.scale

        parts = PredictionAndLoss(lambda theta, inputs: predicting(*given(theta, inputs)), judged)
    theta = list(cost.parameters.values())
    inputs = [
        tensor.detach() for tensor in (*(leaves[place] for place in places), *cost.fixed.values())
    ]
    key = (cost.curvature, cost.scale, names, repr(spec), repr(others), circumstances())
    programs = _PROGRAMS.setdefault(cost.total, {})
    return Term(
        value,
        theta,
        inputs,
        cost.curvature,
        key,
        programs,
        _holding(cost),
        failed_methods(cost),
        parts,
    )


def _holding(cost: Cost) -> Callable[[Tensors], AbstractContextManager[Any]]:
    return lambda theta: cost.holding(dict(zip(cost.layout.names, theta, strict=True)))


def failed_methods(cost: Cost) -> dict[str, str]:
    """The methods that were seen to give wrong products for this model, loss and curvature, and
    how; likewise for the settings that the process has."""
    key = cost.curvature, circumstances()
    return cost.captures.setdefault("failed methods", {}).setdefault(key, {})


def penalty_term(cost: Cost) -> Term:
    """The penalty, where it is a function; of it H is taken in any case."""
    return Term(
        lambda theta, _: cost.penalty_cost(dict(zip(cost.layout.names, theta, strict=True))),
        list(cost.parameters.values()),
        [],
    )
