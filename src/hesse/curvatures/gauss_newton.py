"""The two parts of H = G + F, cut between the prediction and the loss."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.curvatures.curvature import Curvature, register, require_prediction
from hesse.curvatures.hessian import HESSIAN

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.data.batch import Batch
    from hesse.derivatives import Derivatives, Map
    from hesse.graph.graph import Graph
    from hesse.products.terms import Term


@final
class GaussNewton(Curvature):
    """G = Σ Jᵀ ∇²ℓ J, with J the Jacobian of the prediction ŷ in θ and ∇²ℓ the Hessian of the loss
    in ŷ: what of H is left where the prediction is replaced by its tangent. It is positive
    semidefinite where ℓ is convex in ŷ.

    Source: N. N. Schraudolph, Fast curvature matrix-vector products for second-order gradient
    descent, Neural Computation 14 (2002), 1723, equation 14.
    """

    name = "gauss_newton"

    def check(self, cost: "Cost") -> None:
        """The cost is made of a prediction and a loss."""
        require_prediction(cost, self.name)

    def straight(self, graph: "Graph") -> frozenset[str]:
        """What the prediction is made by."""
        return graph.predicted

    def product(self, by: "Derivatives", term: "Term", moving: Sequence[int] | None) -> "Map":
        """Jᵀ (∇²ℓ (J v))."""
        predict, judge = term.cut
        prediction, push, pull = by.first(predict, term.theta, moving)
        bend = by.second(judge, prediction)
        return lambda v: pull(bend(push(v)))

    def reference(self, cost: "Cost") -> "Cost":
        """ℓ(ŷ) − ∇ℓ·ŷ, ∇ℓ held fixed: no slope in ŷ, so that nothing is left of its second
        derivatives."""

        def total(parameters: dict[str, Tensor], batch: "Batch | None") -> Tensor:
            value, sloping = _value_and_slope(cost, parameters, batch)
            return value - sloping

        return cost.with_total(total)


@final
class Functional(Curvature):
    """F = Σ ∇ℓ · ∂²ŷ/∂θ², what H has beside Gauss–Newton's G: the second derivatives of the
    prediction, weighed by the slope of the loss. A penalty, which belongs to G, is no part of it.

    Source: S. P. Singh, G. Bachmann, T. Hofmann, Analytic insights into structure and rank of
    neural network Hessian maps (2021), equation 3.
    """

    name = "functional"
    holds_penalty = False

    def check(self, cost: "Cost") -> None:
        """The cost is made of a prediction and a loss."""
        require_prediction(cost, self.name)

    def straight(self, graph: "Graph") -> frozenset[str]:
        """What the loss is made by, of the prediction."""
        return frozenset(graph.shapes) - graph.predicted

    def product(self, by: "Derivatives", term: "Term", moving: Sequence[int] | None) -> "Map":
        """H v − G v."""
        whole = HESSIAN.product(by, term, moving)
        part = GAUSS_NEWTON.product(by, term, moving)
        return lambda v: [a - b for a, b in zip(whole(v), part(v), strict=True)]

    def reference(self, cost: "Cost") -> "Cost":
        """∇ℓ·ŷ, ∇ℓ held fixed."""

        def total(parameters: dict[str, Tensor], batch: "Batch | None") -> Tensor:
            return _value_and_slope(cost, parameters, batch)[1]

        return cost.with_total(total, penalty=None)


def _value_and_slope(
    cost: "Cost", parameters: dict[str, Tensor], batch: Any
) -> tuple[Tensor, Tensor]:
    """What a batch adds to the loss, and ∇ℓ·ŷ, ∇ℓ held fixed."""
    both, judge = cost.predict_and_total, cost.loss_of_prediction
    assert both is not None and judge is not None
    prediction, value = both(parameters, batch)
    apart = pytree.tree_map(lambda z: z.detach().requires_grad_(), prediction)
    leaves = pytree.tree_leaves(apart)
    slopes = torch.autograd.grad(
        judge(parameters, apart, batch), leaves, allow_unused=True, materialize_grads=True
    )
    along = zip(slopes, pytree.tree_leaves(prediction), strict=True)
    return value, torch.stack([(slope * z).sum() for slope, z in along]).sum()


GAUSS_NEWTON, FUNCTIONAL = register(GaussNewton()), register(Functional())
