"""The reduction of a loss that is a function of the user's: a mean over samples, a sum over them,
or neither, inferred from its values on parts of a batch.

A cost over several batches is defined for the first two only: totals of batches add up, means of
means do not.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch, concatenate, tensors_in
from hesse.errors import HesseValueError
from hesse.isolation import IsolatedFunction
from hesse.losses.loss import Loss, name_of
from hesse.parameters import Parameters, as_leaves
from hesse.process.circumstances import is_passing

# Indices of samples are made there, whatever the default device is.
_CPU = torch.device("cpu")


class ReductionInference:
    """What the batches say of a loss, one after another, each by itself and joined to the one
    before it: batches of one sample each tell nothing by themselves."""

    def __init__(self, isolated: IsolatedFunction, parameters: Parameters) -> None:
        self._isolated, self._parameters = isolated, parameters
        self._kinds: dict[int, Loss] = {}
        self._before: tuple[Batch, Any] | None = None

    def add(
        self, function: Callable[[Any, Any], Any], index: int, batch: Batch, prediction: Any
    ) -> None:
        """Learn of a function of the user's from a batch and its prediction."""
        with self._isolated.evaluating(self._parameters):
            kind = self._kind(function, batch, prediction)
            if self._before is not None and (kind is None or kind.separable) and self._joins(batch):
                both = concatenate([self._before[0], batch])
                kind = self._kind(function, both, _joined(self._before[1], prediction)) or kind
        # Only the one batch before is kept: two of them tell a coupling that one alone hides.
        if kind is not None:
            self._kinds[index] = kind
        self._before = batch, prediction

    def _joins(self, batch: Batch) -> bool:
        return (
            self._before is not None
            and not batch.whole
            and self._before[0].signature == batch.signature
        )

    def _kind(
        self, function: Callable[[Any, Any], Any], batch: Batch, prediction: Any
    ) -> Loss | None:
        """By the samples' predictions where they are arranged by sample, else by running the model
        on some samples."""
        if batch.whole:
            return coupled_loss(function)
        kind = inferred_loss(function, prediction, batch.targets, batch.size)
        if kind is None or kind.separable:
            return kind

        def of_some(owned: Parameters, some: Batch) -> Tensor:
            return function(self._isolated.call(owned, some.x), some.targets)

        return inferred_by_running(self._isolated, function, of_some, self._parameters, batch)

    def agreed(self, function: Callable[[Any, Any], Any]) -> Loss:
        """The kind that all batches say; a mean where none of them tells.

        Raises:
            HesseValueError: one batch says another than one before it.
        """
        coupled = next((kind for kind in self._kinds.values() if not kind.separable), None)
        if coupled is not None:
            return coupled
        first = next(iter(self._kinds), None)
        if first is None:
            return mean_over_samples(function)
        for index, kind in self._kinds.items():
            if kind.name != self._kinds[first].name:
                other = kind.name.split(" (")[-1].rstrip(")")
                raise HesseValueError(
                    f"loss: {self._kinds[first].name} on batch {first}, {other} on batch {index}:"
                    " its value over several batches is not defined; pass the data as one batch"
                    " (X, y), or return (total, count), the sum over the batch and what its mean"
                    " divides by"
                )
        return self._kinds[first]

    @property
    def first_coupled(self) -> int:
        """The first batch whose samples the loss couples."""
        return next((index for index, kind in self._kinds.items() if not kind.separable), 0)


def inferred_by_running(
    isolated: IsolatedFunction,
    function: Callable[..., Any],
    value: Callable[[Parameters, Batch], Tensor],
    parameters: Parameters,
    batch: Batch,
) -> Loss | None:
    """As `inferred_reduction`, by running the model on parts of a batch; from its values and their
    gradients.

    Values alone may not tell: of a model that was just initialised the losses of all samples can be
    alike, so that sum and mean are told apart but no coupling is seen. Their gradients differ.
    """

    def evaluate(part: Tensor) -> list[Tensor]:
        leaves = as_leaves(parameters)
        with isolated.evaluating(leaves) as owned:
            J = value(owned, batch.take(part).clone())
            slopes = (
                torch.autograd.grad(J, list(leaves.values()), materialize_grads=True)
                if J.requires_grad
                else ()
            )
        # What a model in float64 computes in float32 by itself is seen in them.
        return [
            J,
            torch.cat([J.new_zeros(0), *(slope.flatten() for slope in slopes)]).float(),
        ]

    return inferred_reduction(function, evaluate, batch.size)


def _joined(*predictions: Any) -> Any:
    """Predictions of two batches as of one; ``None`` where they are not of one form."""
    leaves, specs = zip(
        *(pytree.tree_flatten(prediction) for prediction in predictions), strict=True
    )
    alike = all(
        isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and a.ndim > 0
        and a.shape[1:] == b.shape[1:]
        for a, b in zip(*leaves, strict=False)
    )
    if specs[0] != specs[1] or not alike:
        return None
    return pytree.tree_unflatten(
        [torch.cat(parts) for parts in zip(*leaves, strict=True)], specs[0]
    )


def inferred_loss(
    function: Callable[[Any, Any], Tensor], prediction: Any, target: Any, samples: int
) -> Loss | None:
    """The loss that a function of the user's is, by its values on parts of one batch's predictions;
    see `inferred_reduction`."""

    def evaluate(part: Tensor) -> list[Tensor]:
        some, targets = pytree.tree_map_only(
            Tensor, lambda t: _rows(t, part, samples), (prediction, target)
        )
        return [function(pytree.tree_map_only(Tensor, as_leaf, some), targets)]

    return (
        inferred_reduction(function, evaluate, samples)
        if _has_rows_by_sample((prediction, target), samples)
        else coupled_loss(function)
    )


def _has_rows_by_sample(nest: Any, samples: int) -> bool:
    """Whether every tensor has rows by sample, one or several of each."""
    tensors = tensors_in(nest)
    return bool(tensors) and all(
        tensor.ndim > 0 and len(tensor) % samples == 0 for tensor in tensors
    )


def as_leaf(tensor: Tensor) -> Tensor:
    """The same numbers as a leaf, for a loss that differentiates in its prediction."""
    return tensor.detach().requires_grad_(tensor.is_floating_point() or tensor.is_complex())


def _rows(tensor: Tensor, samples: Tensor, count: int) -> Tensor:
    """Those of some samples, each of which may have several."""
    samples = samples.to(tensor.device)
    return (
        tensor[samples]
        if len(tensor) == count
        else tensor.unflatten(0, (count, -1))[samples].flatten(0, 1)
    )


def inferred_reduction(
    function: Callable[..., Any], evaluate: Callable[[Tensor], list[Tensor]], samples: int
) -> Loss | None:
    """Whether a function of the user's is a sum or a mean over samples.

    The samples are cut in two parts of n₁ and n₂, in several ways. A sum obeys L = L₁ + L₂; a mean
    obeys n L = n₁ L₁ + n₂ L₂; a loss that does neither couples its samples (``separable=False``). A
    single sample is taken twice.

    Args:
        function: the user's function.
        evaluate: its value on some samples, by their indices, and what else obeys the same.
        samples: how many there are.

    Returns:
        The loss, or ``None`` where these samples do not tell (all losses zero).
    """
    name = name_of(function)
    indices = (
        torch.tensor([0, 0], device=_CPU) if samples == 1 else torch.arange(samples, device=_CPU)
    )
    samples = len(indices)
    order = torch.arange(samples, device=_CPU)
    drawn = torch.randperm(samples, generator=torch.Generator(_CPU).manual_seed(0), device=_CPU)
    everything, fits_mean, fits_sum = torch.ones(samples, dtype=torch.bool, device=_CPU), True, True
    # The first sample, the first third, every other sample, and a random half: a coupling of
    # samples that are neighbours, or far apart, shows in one of them.
    for cut in (
        order < 1,
        order < max(1, samples // 3),
        order % 2 == 0,
        drawn < max(1, samples // 2),
    ):
        n = int(cut.sum())
        try:
            # Each on a copy of its own, for a function may write into what it is given.
            values = [
                [each.detach() for each in evaluate(indices[part])]
                for part in (everything, cut, ~cut)
            ]
        except Exception as error:  # a function of the whole batch, which fails on part of it
            if is_passing(error):
                raise
            return coupled_loss(function)
        for whole, first, second in zip(*values, strict=True):
            # √eps, for sums over other parts are rounded otherwise.
            tolerance = torch.finfo(whole.dtype).eps ** 0.5 * float(
                whole.norm() + first.norm() + second.norm()
            )
            fits_mean &= (
                float((samples * whole - n * first - (samples - n) * second).norm())
                <= tolerance * samples
            )
            fits_sum &= float((whole - first - second).norm()) <= tolerance
    if fits_mean and fits_sum:
        return None
    if fits_mean:
        return mean_over_samples(function)
    return (
        Loss(f"{name} (sum over samples)", function, None) if fits_sum else coupled_loss(function)
    )


def coupled_loss(function: Callable[..., Any]) -> Loss:
    """A function of the user's that is no sum over samples: of a whole batch, never of parts."""
    return Loss(f"{name_of(function)} (couples its samples)", function, None, separable=False)


def mean_over_samples(function: Callable[..., Any]) -> Loss:
    """A function of the user's that is the mean of its samples' losses."""
    return Loss(f"{name_of(function)} (mean over samples)", function, None, by_samples=True)
