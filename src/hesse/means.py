"""What kind of mean a function of the user's is: over samples, a sum over them, or neither."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch, concatenate, tensors_in
from hesse.errors import HesseValueError
from hesse.losses import Loss, name_of
from hesse.snapshot import Parameters, as_leaves
from hesse.subject import Subject

# Places of samples are counted there, whatever the default device is.
_CPU = torch.device("cpu")


class Means:
    """What the batches say of a loss, one after another, each by itself and beside the one before
    it."""

    def __init__(self, subject: Subject, parameters: Parameters) -> None:
        self._subject, self._parameters = subject, parameters
        self._kinds: dict[int, Loss] = {}
        self._before: tuple[Batch, Any] | None = None

    def add(
        self, function: Callable[[Any, Any], Any], index: int, batch: Batch, prediction: Any
    ) -> None:
        """Learn of a function of the user's from a batch and its prediction."""
        with self._subject.evaluating(self._parameters):
            kind = self._kind(function, batch, prediction)
            if self._before is not None and (kind is None or kind.separable) and self._joins(batch):
                both = concatenate([self._before[0], batch])
                kind = self._kind(function, both, _joined(self._before[1], prediction)) or kind
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
            return coupled(function)
        kind = custom_loss(function, prediction, batch.targets, batch.size)
        if kind is None or kind.separable:
            return kind

        def of_some(owned: Parameters, some: Batch) -> Tensor:
            return function(self._subject.call(owned, some.x), some.targets)

        return by_running(self._subject, function, of_some, self._parameters, batch)

    def agreed(self, function: Callable[[Any, Any], Any]) -> Loss:
        """The kind that all batches say; a mean where none of them tells.

        Raises:
            HesseValueError: one batch says another than one before it.
        """
        apart = next((kind for kind in self._kinds.values() if not kind.separable), None)
        if apart is not None:
            return apart
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
    def coupling(self) -> int:
        """The first batch whose samples the loss couples."""
        return next((index for index, kind in self._kinds.items() if not kind.separable), 0)


def by_running(
    subject: Subject,
    function: Callable[..., Any],
    value: Callable[[Parameters, Batch], Tensor],
    parameters: Parameters,
    batch: Batch,
) -> Loss | None:
    """The kind of mean that a function of the user's is, found out by its values on some samples of
    a batch, and their slopes.

    Of a model that was just made all losses are alike, and no mean is told from another; its slopes
    are not.
    """

    def evaluate(part: Tensor) -> list[Tensor]:
        leaves = as_leaves(parameters)
        with subject.evaluating(leaves) as owned:
            found = value(owned, batch.take(part).clone())
            slopes = (
                torch.autograd.grad(found, list(leaves.values()), materialize_grads=True)
                if found.requires_grad
                else ()
            )
        # What a model in float64 computes in float32 by itself is seen in them.
        return [
            found,
            torch.cat([found.new_zeros(0), *(slope.flatten() for slope in slopes)]).float(),
        ]

    return kind_of_mean(function, evaluate, batch.size)


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


def custom_loss(
    function: Callable[[Any, Any], Tensor], prediction: Any, target: Any, samples: int
) -> Loss | None:
    """Find out, on some samples, whether a function of the user's is a sum or a mean over samples;
    see `kind_of_mean`."""

    def evaluate(part: Tensor) -> list[Tensor]:
        some, targets = pytree.tree_map_only(
            Tensor, lambda t: _rows(t, part, samples), (prediction, target)
        )
        return [function(pytree.tree_map_only(Tensor, may_be_differentiated, some), targets)]

    return (
        kind_of_mean(function, evaluate, samples)
        if _arranged((prediction, target), samples)
        else coupled(function)
    )


def _arranged(nest: Any, samples: int) -> bool:
    """Whether every tensor has rows by sample, one or several of each."""
    tensors = tensors_in(nest)
    return bool(tensors) and all(
        tensor.ndim > 0 and len(tensor) % samples == 0 for tensor in tensors
    )


def may_be_differentiated(tensor: Tensor) -> Tensor:
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


def kind_of_mean(
    function: Callable[..., Any], evaluate: Callable[[Tensor], list[Tensor]], samples: int
) -> Loss | None:
    """Whether a function of the user's is a sum or a mean over samples.

    The samples are cut in two parts of n₁ and n₂, in several ways. A sum obeys L = L₁ + L₂; a mean
    obeys n L = n₁ L₁ + n₂ L₂; a loss that does neither couples its samples (``separable=False``). A
    single sample is taken twice.

    Args:
        function: the user's function.
        evaluate: its value on some samples, by their places, and what else obeys the same.
        samples: how many there are.

    Returns:
        The loss, or ``None`` where these samples do not tell (all losses zero).
    """
    name = name_of(function)
    places = (
        torch.tensor([0, 0], device=_CPU) if samples == 1 else torch.arange(samples, device=_CPU)
    )
    samples = len(places)
    order = torch.arange(samples, device=_CPU)
    drawn = torch.randperm(samples, generator=torch.Generator(_CPU).manual_seed(0), device=_CPU)
    everything, fits_mean, fits_sum = torch.ones(samples, dtype=torch.bool, device=_CPU), True, True
    for cut in (
        order < 1,
        order < max(1, samples // 3),
        order % 2 == 0,
        drawn < max(1, samples // 2),
    ):
        n = int(cut.sum())
        try:
            # Each on a copy of its own, for a function may write into what it is given.
            found = [
                [each.detach() for each in evaluate(places[part])]
                for part in (everything, cut, ~cut)
            ]
        except Exception:  # a function of the whole batch and of nothing less
            return coupled(function)
        for whole, first, second in zip(*found, strict=True):
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
    return Loss(f"{name} (sum over samples)", function, None) if fits_sum else coupled(function)


def coupled(function: Callable[..., Any]) -> Loss:
    """A function of the user's of a whole batch and of nothing less."""
    return Loss(f"{name_of(function)} (couples its samples)", function, None, separable=False)


def mean_over_samples(function: Callable[..., Any]) -> Loss:
    """A function of the user's that is the mean of its samples' losses."""
    return Loss(f"{name_of(function)} (mean over samples)", function, None, by_samples=True)
