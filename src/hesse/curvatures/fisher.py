"""The Fisher information: exact, from labels drawn, and from the labels that there are."""

import abc
import copy
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Generator, Tensor
from torch.utils import _pytree as pytree

from hesse.curvatures.counts import counts
from hesse.curvatures.curvature import Curvature, register, require_prediction
from hesse.curvatures.gauss_newton import GAUSS_NEWTON
from hesse.curvatures.likelihoods import LIKELIHOODS, Likelihood, likelihood_of
from hesse.display import Display, Displayed, counted, facts
from hesse.errors import HesseTypeError, HesseValueError
from hesse.losses.weighed import known_within

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.data.batch import Batch
    from hesse.derivatives import Derivatives, Map
    from hesse.graph.graph import Graph
    from hesse.products.terms import Term


class _OfPredictions(Curvature):
    """Σ Jᵀ A J with some A of the prediction, which is Gauss–Newton's of some loss."""

    def check(self, cost: "Cost") -> None:
        """The cost is made of a prediction and a loss."""
        require_prediction(cost, self.name)

    def straight(self, graph: "Graph") -> frozenset[str]:
        """What the prediction is made by."""
        return GAUSS_NEWTON.straight(graph)

    def product(self, by: "Derivatives", term: "Term", moving: Sequence[int] | None) -> "Map":
        """Jᵀ (A (J v))."""
        return GAUSS_NEWTON.product(by, term, moving)

    def reference(self, cost: "Cost") -> "Cost":
        """As Gauss–Newton's."""
        return GAUSS_NEWTON.reference(cost)


class _HeldFixed(_OfPredictions):
    """A quadratic form in the prediction in place of the loss, its coefficients computed at θ and
    then held fixed: a curvature that is its Gauss–Newton matrix."""

    @abc.abstractmethod
    def coefficients(
        self, cost: "Cost", prediction: Any, batch: "Batch", index: int
    ) -> list[Tensor]:
        """Those of a batch, for each tensor of the prediction (n, ...)."""

    @staticmethod
    @abc.abstractmethod
    def form(coefficients: list[Tensor], leaves: list[Tensor]) -> Tensor:
        """The form, of the tensors of a prediction."""

    def applied(self, cost: "Cost") -> "Cost":
        """The form in place of the loss, the coefficients in place of the targets."""
        if isinstance(cost.data, _Coefficients):
            return cost
        held = _Coefficients(cost, self)
        forms = _FORMS.setdefault(cost.total, {})
        if self not in forms:
            assert cost.predict is not None
            forms[self] = _Form(cost.predict, self.form)
        other = copy.copy(cost)
        other._set(
            data=held,
            signatures=held.signatures(),
            captures=cost.captures.setdefault(self, {}),
            **forms[self].parts,
        )
        return other


@final
class Fisher(_HeldFixed):
    """Σ E[g gᵀ], g the gradient of a sample's loss at labels drawn from the model's own prediction,
    the loss being −log p(y | ŷ).

    Where the Hessian of the loss in ŷ does not depend on the label it is Gauss–Newton's matrix,
    with the factor 1: `cross_entropy`, `binary_cross_entropy_with_logits`, `soft_margin_loss`,
    `multilabel_soft_margin_loss`, `poisson_nll_loss` of logarithms, `gaussian_nll_loss` of a mean
    alone, `half_sse`, and `mse_loss`, where (y − ŷ)² is −log p with variance 1/2 (who means
    variance 1 takes half of it). For `nll_loss`, `binary_cross_entropy`, `poisson_nll_loss` of
    rates, `gaussian_nll_loss` of mean and variance and `l1_loss` the mean over labels is taken
    exactly, and is another matrix than Gauss–Newton's. Which it is stands in the ``notes`` of a
    plan and of an operator.

    A weight w of a class, of a sample (data (X, y, w)) or of an entry (``BCELoss(weight=...)``)
    counts what is drawn as so many: it adds w E[u uᵀ].

    Source: J. Martens, New insights and perspectives on the natural gradient method, Journal of
    Machine Learning Research 21 (2020), section 9.2.
    """

    name = "fisher"

    def check(self, cost: "Cost") -> None:
        """Its loss is a likelihood."""
        super().check(cost)
        _likelihood(cost, self.name)

    def applied(self, cost: "Cost") -> "Cost":
        """The cost itself where the loss has that mean for its Hessian."""
        likelihood, _ = _likelihood(cost, self.name)
        note = f"fisher, of {cost.loss.name if cost.loss else None}: {likelihood.note}"
        if note in cost.notes:
            return cost
        other = copy.copy(cost) if likelihood.expectation is None else super().applied(cost)
        other._set(notes=(*cost.notes, note))
        return other

    def coefficients(
        self, cost: "Cost", prediction: Any, batch: "Batch", index: int
    ) -> list[Tensor]:
        """The mean of the squares of the slopes over labels."""
        likelihood, options = _likelihood(cost, self.name)
        assert likelihood.expectation is not None
        leaves = pytree.tree_leaves(prediction)
        target, times = _counts(cost, prediction, batch)
        found = likelihood.expectation(leaves, target, options)
        if times is not None:
            found = [part * count for part, count in zip(found, times, strict=True)]
        return [_by_sample(part, batch) for part in found]

    @staticmethod
    def form(coefficients: list[Tensor], leaves: list[Tensor]) -> Tensor:
        """½ Σ d ŷ²."""
        squares = [
            (held.reshape(leaf.shape) * leaf.square()).sum()
            for held, leaf in zip(coefficients, leaves, strict=True)
        ]
        return 0.5 * torch.stack(squares).sum()


class _OuterProducts(_HeldFixed):
    """Σ_n (1/M) Σ_m g gᵀ, g = Jᵀ u with slopes u."""

    @staticmethod
    def form(coefficients: list[Tensor], leaves: list[Tensor]) -> Tensor:
        """½ Σ_n (1/M) Σ_m (u_nm · ŷ_n)²."""
        along = [
            (slope.reshape(*slope.shape[:2], -1) * leaf.reshape(len(slope), 1, -1)).sum(2)
            for slope, leaf in zip(coefficients, leaves, strict=True)
        ]
        return 0.5 * torch.stack(along).sum(0).square().mean(1).sum()


@final
@dataclass(frozen=True, repr=False)
class SampledFisher(Displayed, _OuterProducts):
    """The Fisher information with labels drawn in place of the mean over labels; its mean over
    seeds is `Fisher`, and so Gauss–Newton's matrix. It is positive semidefinite, of rank samples ×
    data at most.

    Attributes:
        samples: M, how many labels are drawn for each sample of the data.
        seed: of the draws, which are the same for every pass over the data.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.ones(4, 2), torch.zeros(4, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, y))
        >>> F = hesse.hessian(cost, curvature=hesse.SampledFisher(samples=20000)).dense()
        >>> bool(((F - 4).abs() < 0.2).all())  # XᵀX
        True
    """

    samples: int = 1
    seed: int = 0
    name = "fisher_mc"

    def _display(self) -> Display:
        return Display(
            "SampledFisher",
            f"{counted(self.samples, 'label')} drawn for each sample of the data",
            facts(seed=str(self.seed)),
            next=("hesse.hessian(cost, curvature=F)",),
        )

    def __post_init__(self) -> None:
        for name, value, least in (("samples", self.samples, 1), ("seed", self.seed, 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise HesseTypeError(f"{name}: expected a whole number, got {type(value).__name__}")
            if value < least:
                raise HesseValueError(f"{name}: expected a number >= {least}, got {value}")

    def check(self, cost: "Cost") -> None:
        """Its loss is a likelihood."""
        super().check(cost)
        _likelihood(cost, self.name)

    def coefficients(
        self, cost: "Cost", prediction: Any, batch: "Batch", index: int
    ) -> list[Tensor]:
        """The slopes of the loss at labels that are drawn."""
        likelihood, options = _likelihood(cost, self.name)
        leaves = pytree.tree_leaves(prediction)
        random = Generator(leaves[0].device).manual_seed(self.seed * 1_000_003 + index)
        target, times = _counts(cost, prediction, batch)
        *many, targets = (
            part.expand(self.samples, *part.shape).flatten(0, 1) for part in (*leaves, target)
        )
        drawn = likelihood.slope(many, targets, options, random)
        if times is not None:
            roots = [count.sqrt().repeat(self.samples, *(1,) * (count.ndim - 1)) for count in times]
            drawn = [part * root for part, root in zip(drawn, roots, strict=True)]
        # All draws of a sample side by side, whatever rows it has.
        by_draw = [part.reshape(self.samples, batch.size, -1) for part in drawn]
        return [part.transpose(0, 1).contiguous() for part in by_draw]


@final
class EmpiricalFisher(_OuterProducts):
    """Σ g gᵀ, g the gradient of a sample's loss at its own label; with the divisor of the loss's
    mean, once. It is no approximation of the Hessian: see the source.

    Source: F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher approximation for
    natural gradient descent (2019).
    """

    name = "empirical_fisher"

    def check(self, cost: "Cost") -> None:
        """Its samples have a loss each."""
        super().check(cost)
        if cost.loss is None or not cost.loss.separable:
            raise HesseValueError(
                f"curvature: {self.name!r} is made of the gradients of the samples' losses, and"
                " this loss couples its samples; ask for curvature='gauss_newton'"
            )

    def coefficients(
        self, cost: "Cost", prediction: Any, batch: "Batch", index: int
    ) -> list[Tensor]:
        """The slopes of the loss itself."""
        assert cost.loss_of_prediction is not None
        with torch.enable_grad():
            apart = pytree.tree_map(lambda leaf: leaf.detach().requires_grad_(), prediction)
            leaves = pytree.tree_leaves(apart)
            total = cost.loss_of_prediction(cost.parameters, apart, batch)
            found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        return [_by_sample(part, batch).unsqueeze(1) for part in found]


@final
class _Coefficients:
    """The batches of a cost with coefficients in place of their targets."""

    def __init__(self, cost: "Cost", curvature: _HeldFixed) -> None:
        self._cost, self._curvature = cost, curvature
        assert cost.data is not None
        self.is_ordered, self.is_single = cost.data.is_ordered, cost.data.is_single
        self.check_unchanged, self._data = cost.data.check_unchanged, cost.data

    @property
    def count(self) -> float:
        """How many batches there are."""
        return self._data.count

    @property
    def digest(self) -> str:
        """That of the data: the coefficients are made of them."""
        return self._data.digest

    def part(self, rank: int) -> "Iterator[tuple[int, Batch]] | None":
        """What a sampler deals to a rank."""
        dealt = self._data.part(rank)
        return None if dealt is None else ((k, self._of(batch, k)) for k, batch in dealt)

    def __iter__(self) -> Iterator["Batch"]:
        for index, batch in enumerate(self._cost.batches()):
            assert batch is not None
            yield self._of(batch, index)

    def signatures(self) -> dict[Hashable, int]:
        """How many samples there are of each, seen from one batch of each signature of the data."""
        found: dict[Hashable, int] = {}
        left = dict(self._cost.signatures)
        for index, batch in enumerate(self._cost.batches()):
            assert batch is not None
            if batch.signature in left:
                signature = self._of(batch, index).signature
                found[signature] = found.get(signature, 0) + left.pop(batch.signature)
            if not left:
                break
        return found

    def _of(self, batch: "Batch", index: int) -> "Batch":
        predict = self._cost.predict
        assert predict is not None
        with torch.no_grad():
            prediction = predict(self._cost.parameters, batch)
            held = self._curvature.coefficients(self._cost, prediction, batch, index)
        return replace(batch, y=[part.detach() for part in held], form="pair", flat=())


@final
class _Form:
    """A quadratic form of a prediction, its coefficients being the targets of a batch."""

    def __init__(
        self,
        predict: Callable[[Any, Any], Any],
        form: Callable[[list[Tensor], list[Tensor]], Tensor],
    ) -> None:
        self._predict, self._form = predict, form
        self.parts = {
            "total": self._total,
            "predict_and_total": self._predict_and_total,
            "loss_of_prediction": self._of_prediction,
        }

    def _of_prediction(self, parameters: Any, prediction: Any, batch: Any) -> Tensor:
        return self._form(batch.y, pytree.tree_leaves(prediction))

    def _predict_and_total(self, parameters: Any, batch: Any) -> tuple[Any, Tensor]:
        prediction = self._predict(parameters, batch)
        return prediction, self._of_prediction(parameters, prediction, batch)

    def _total(self, parameters: Any, batch: Any) -> Tensor:
        return self._predict_and_total(parameters, batch)[1]


_FORMS: "weakref.WeakKeyDictionary[Any, dict[Curvature, _Form]]" = weakref.WeakKeyDictionary()


def _by_sample(part: Tensor, batch: "Batch") -> Tensor:
    """A tensor of a prediction, which may have several rows a sample."""
    return part if len(part) == batch.size else part.reshape(batch.size, -1)


def _likelihood(cost: "Cost", name: str) -> tuple[Likelihood, dict[str, Any]]:
    """What is known of a cost's loss as a likelihood, and the options of the loss."""
    loss, likelihood, options = cost.loss, None, {}
    known = None if loss is None else known_within(loss)
    if loss is not None and known is not None:
        if not loss.separable:
            raise HesseValueError(
                f"curvature: {name!r} is a sum over samples, and {loss.name!r} is none: its weight"
                " has the shape of a whole batch; give one for each entry of a sample, or the"
                " samples weights, data=(X, y, w)"
            )
        options, likelihood = known[1], likelihood_of(*known)
    if likelihood is None:
        raise HesseValueError(
            f"curvature: {name!r} is known for the losses {', '.join(LIKELIHOODS)}, each -log p of"
            f" a label, and this one is {loss.name if loss else 'none'!r}; ask for"
            " curvature='gauss_newton' or 'empirical_fisher'"
        )
    return likelihood, options


def _counts(cost: "Cost", prediction: Any, batch: "Batch") -> tuple[Tensor, list[Tensor] | None]:
    """The targets and what counts how much, of a loss that is known."""
    assert cost.loss is not None
    known = known_within(cost.loss)
    assert known is not None
    return counts(cost.loss, *known, prediction, batch)


FISHER = register(Fisher())
SAMPLED_FISHER = register(SampledFisher())
EMPIRICAL_FISHER = register(EmpiricalFisher())
