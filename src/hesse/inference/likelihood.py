"""A cost as a negative log-likelihood: which costs are one, and times what."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.curvatures.likelihoods import likelihood_of
from hesse.data.batch import tensors_in
from hesse.errors import HesseValueError
from hesse.evaluation import value
from hesse.losses.form import own_loss
from hesse.losses.weighed import known_within
from hesse.process.undisturbed import undisturbed

# Squares are one up to their variance, which is estimated.
_SQUARES = ("half_sse", "mse_loss")
# -log p of a label, and yet: without a second derivative, or a mean over the classes of a sample.
_NOT_HERE = ("l1_loss", "multilabel_soft_margin_loss")
# Options by which a loss is no longer -log p.
_SPOILING = ("pos_weight", "label_smoothing")


@dataclass(frozen=True)
class LikelihoodOfCost:
    """L(θ) = factor · J(θ) = −Σ_n log p(y_n | x_n, θ), up to a constant.

    Attributes:
        factor: what the cost is multiplied by: the divisor of its mean, and of squares 1 / σ² of
            their halves.
        dispersion: σ² of squares, RSS / (N − P); ``None`` for any other.
        degrees: N − P of squares, the degrees of freedom that are left.
        notes: what is taken for granted.
    """

    factor: float
    dispersion: float | None = None
    degrees: int | None = None
    notes: tuple[str, ...] = ()


def likelihood_of_cost(cost: Cost) -> LikelihoodOfCost:
    """The likelihood that a cost is of.

    Raises:
        HesseValueError: it is of none, or its samples' shares are not to be told.
    """
    if cost.penalty is not None:
        raise HesseValueError(
            "cost: with its penalty it is no negative log-likelihood, and its minimum is drawn from"
            " that of the likelihood; make it without penalty=, or ask for hesse.covariance(cost),"
            " that of Laplace's approximation"
        )
    if cost.loss is not None and not cost.loss.separable:
        raise HesseValueError(
            "cost: its loss couples its samples, so that it is no sum of one -log p for each"
        )
    known = None if cost.loss is None else known_within(cost.loss)
    if known is None:
        own = cost.loss is None or cost.loss.total is own_loss
        what = "the cost" if own else "the loss"
        return LikelihoodOfCost(
            1 / cost.scale, notes=(f"{what} is a function of your own, and taken for -log p",)
        )
    name, options = known
    spoilt = [option for option in _SPOILING if _is_given(options.get(option))]
    if spoilt or name in _NOT_HERE or likelihood_of(name, options) is None:
        with_it = f" with {spoilt[0]}=" if spoilt else ""
        raise HesseValueError(
            f"cost: {name}{with_it} is no negative log-likelihood of the labels, and standard"
            " errors are of one: of squares, cross_entropy, bce, poisson_nll_loss,"
            " gaussian_nll_loss or nll_loss"
        )
    if _is_weighed(cost) and _values_of_a_sample(cost) > 1:
        raise HesseValueError(
            f"cost: {name} with weights is the mean over the values that are predicted for a"
            " sample, and a likelihood is their sum; predict one, or give the loss as a function"
            " that is a sum"
        )
    if name not in _SQUARES:
        counted = _is_given(options.get("weight"))
        notes = ("each sample counts as its class weight says",) if counted else ()
        return LikelihoodOfCost(1 / cost.scale, notes=notes)
    values = round(_values_of_a_sample(cost) * cost.samples)
    degrees = values - cost.layout.size
    if degrees < 1:
        raise HesseValueError(
            f"cost: {cost.layout.size} parameters of {values} values leave nothing to estimate"
            " their variance from; give more data, or fewer parameters"
        )
    # Half the sum of squares, of which half_sse is one and mse the double's mean.
    halves = 1.0 if name == "half_sse" else 0.5 / cost.scale
    dispersion = 2 * halves * value(cost) / degrees
    if not dispersion > 0:
        raise HesseValueError("cost: the model fits the data exactly, so that no errors are left")
    return LikelihoodOfCost(halves / dispersion, dispersion, degrees)


def _is_given(option: object) -> bool:
    return option is not None and (isinstance(option, Tensor) or option != 0.0)


@undisturbed()
def _is_weighed(cost: Cost) -> bool:
    first = next(cost.batches())
    return first is not None and first.form == "weighted"


@undisturbed()
def _values_of_a_sample(cost: Cost) -> float:
    """How many values are predicted for each, on the average."""
    assert cost.predict is not None
    found = 0
    for batch in cost.batches():
        assert batch is not None
        with torch.no_grad():
            found += tensors_in(cost.predict(cost.parameters, batch))[0].numel()
    return found / cost.samples
