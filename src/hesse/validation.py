"""The validation of a cost when it is made: one pass over its data that settles what its loss
divides by, counts the samples, and refuses what cannot be used, before any long work."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.closed_over import (
    ClosedOver,
    graph_leaves,
    held_fixed_note,
    require_nothing_hidden,
    require_read_as_argument,
)
from hesse.data.batch import Batch, tensors_in
from hesse.data.dataset import Data
from hesse.diagnosis import diagnosed, require_aligned_targets, require_class_labels
from hesse.errors import HesseError, HesseValueError
from hesse.evaluation_checks import (
    leaves_of_loss,
    mixes_samples,
    require_deterministic,
    require_recorded_divisor,
    require_scalar,
    require_sum_over_samples,
)
from hesse.isolation import IsolatedFunction
from hesse.losses.counted import counted
from hesse.losses.form import own_loss
from hesse.losses.loss import Loss
from hesse.losses.reduction import (
    ReductionInference,
    as_leaf,
    inferred_by_running,
    mean_over_samples,
)
from hesse.parameters import Parameters

# What data of a form asks of the loss: a `Loss`, or a function of the user's whose reduction is to
# be inferred.
LossForForm = Callable[[str], Loss | Callable[[Any, Any], Any]]


@dataclass
class Validated:
    """What the pass found.

    Attributes:
        loss: the loss, settled: what its total and its divisor are is known.
        samples: how many there are.
        weight: the divisor of the mean over all of them; 1 for a sum.
        signatures: how many samples each signature of a batch has.
        notes: for the plan.
    """

    loss: Loss
    samples: int
    weight: float
    signatures: dict[Hashable, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def validate_model(
    isolated: IsolatedFunction,
    data: Data,
    parameters: Parameters,
    loss_for: LossForForm,
    originals: list[Tensor],
) -> Validated:
    """Read the data of a model and a loss once.

    Args:
        isolated: the user's model.
        data: the batches.
        parameters: θ.
        loss_for: the loss, by the form of a batch.
        originals: the user's own tensors behind θ.
    """
    model_pass = _ModelPass(isolated, parameters, loss_for, originals, data.is_single)
    return model_pass.result(data.validate(model_pass.visit))


class _ModelPass:
    """What the batches say of a model and its loss, one after another.

    Attributes:
        loss: the loss, once it is settled; ``None`` while its reduction is still being inferred.
        function: what is called with a prediction and targets.
    """

    def __init__(
        self,
        isolated: IsolatedFunction,
        parameters: Parameters,
        loss_for: LossForForm,
        originals: list[Tensor],
        single: bool,
    ) -> None:
        self._isolated, self._parameters, self._loss_for = isolated, parameters, loss_for
        self._originals, self._single = originals, single
        self.loss: Loss | None = None
        self.function: Any = None
        self._reduction = ReductionInference(isolated, parameters)
        self._signatures: dict[Hashable, int] = {}
        self._notes: tuple[str, ...] = ()
        self._divisor, self._batches, self._mixes, self._form = 0.0, 0, False, ""

    def visit(self, index: int, batch: Batch) -> None:
        """Evaluate on a batch, check and count it."""
        if index == 0:
            loss, self._form = self._loss_for(batch.form), batch.form
            self.loss, self.function = (
                (loss, loss.total) if isinstance(loss, Loss) else (None, loss)
            )
        if batch.form != self._form:
            raise HesseValueError(
                f"data: batch {index} is a {_FORMS[batch.form]}, and batch 0 a"
                f" {_FORMS[self._form]}; give one form"
            )
        prediction, value, closed_over = self._isolated.observe(
            self._evaluate, self._parameters, batch
        )
        # The user's code draws here on what it was seen to draw from.
        with self._isolated.stream.drawing():
            self._learn(index, batch, prediction, value, closed_over)

    def _learn(
        self, index: int, batch: Batch, prediction: Any, value: Any, closed_over: ClosedOver
    ) -> None:
        """Check the value of a batch, and add to what the batches say."""
        if self.loss is None and isinstance(value, tuple | list) and len(value) == 2:
            value = self._settle_counted(index, batch, prediction, value)
        total = require_scalar(value, f"loss on batch {index}")
        if index == 0 and self.loss is not None and self.loss.given is not None:
            require_recorded_divisor(self.loss, self.loss.given, prediction, batch, total)
        self._signatures[batch.signature] = self._signatures.get(batch.signature, 0) + batch.size
        if index == 0:
            self._check_first(batch, prediction, total, closed_over)
        if self.loss is None:
            self._reduction.add(self.function, index, batch, prediction)
        else:
            self._divisor += self.loss.divisor(prediction, batch)
        self._batches += 1

    def _evaluate(self, tensors: Parameters, batch: Batch | None) -> tuple[Any, Any, ClosedOver]:
        """The prediction, detached, the loss's value, and what both close over, for the first
        batch."""
        assert batch is not None
        index, function = self._batches, self.function
        where = f"batch {index}"
        with self._isolated.evaluating(tensors) as owned:
            with diagnosed("model", where, self._parameters, batch.x):
                prediction = self._isolated.call(owned, batch.x)
            require_aligned_targets(self.loss, prediction, batch, index)
            require_class_labels(self.loss, prediction, batch.targets, index)
            with diagnosed("loss", where, self._parameters, (prediction, batch.targets)):
                # Parameters require no gradient here; a loss may differentiate in its prediction,
                # and so be seen to.
                connected = any(tensor.requires_grad for tensor in tensors_in(prediction))
                given = (
                    prediction if connected else pytree.tree_map_only(Tensor, as_leaf, prediction)
                )
                value = function(given, batch.targets)
            detached = pytree.tree_map_only(Tensor, Tensor.detach, prediction)
            closed_over = (
                ClosedOver(graph_leaves(prediction), leaves_of_loss(function, detached, batch))
                if index == 0
                else ClosedOver()
            )
        if index == 0:
            require_read_as_argument(prediction, self._originals, "model")
        return detached, value, closed_over

    def _settle_counted(self, index: int, batch: Batch, prediction: Any, value: Any) -> Tensor:
        """The loss gives (total, count), its own divisor: the total."""
        if isinstance(value[1], Tensor) and value[1].requires_grad:
            raise HesseValueError(
                "loss: it returned (total, count), and the count depends on the parameters, so"
                " that the cost is no sum divided by a number; return the ratio itself, over"
                " one batch of all the data"
            )
        self.loss = counted(self.function)
        self.function = self.loss.total
        total = require_scalar(value[0], f"the total of the loss on batch {index}")
        require_sum_over_samples(self.function, prediction, batch)
        return total

    def _check_first(
        self, batch: Batch, prediction: Any, total: Tensor, closed_over: ClosedOver
    ) -> None:
        """What is asked of the first batch alone: that an evaluation can be repeated, reads its
        tensors as arguments and keeps the samples apart."""
        _, again, others = self._isolated.observe(self._evaluate, self._parameters, batch)
        require_deterministic(require_scalar(again, "loss on batch 0"), "model", total)
        hidden = closed_over.common(others)
        self._notes = held_fixed_note(hidden.model)
        # A function of the user's may close over what it likes for its prediction: a note says so.
        # A module that does has parameters that nothing registers.
        is_module = self._isolated.modules.model is not None
        require_nothing_hidden(hidden if is_module else ClosedOver(loss=hidden.loss))
        self._mixes = not self._single and mixes_samples(
            self._isolated, self._parameters, batch, prediction
        )
        if batch.whole:
            self._notes = (
                *self._notes,
                "the first axes of a batch do not count samples: it is taken whole, and"
                " goes by columns",
            )

    def result(self, samples: int) -> Validated:
        """What all batches say together.

        Raises:
            HesseValueError: the cost depends on how the data is cut into batches, or its mean has
                nothing to divide by.
        """
        settled, divisor = self.loss, self._divisor
        if settled is None:
            settled = self._reduction.agreed(self.function)
            divisor = float(samples)
        if self._batches > 1 and not settled.separable:
            reason = _COUPLED_OWN if self.function is own_loss else _COUPLED
            raise HesseValueError(
                reason.format(
                    settled.name.split(" (")[0], self._reduction.first_coupled, self._batches
                )
            )
        if self._batches > 1 and self._mixes:
            raise HesseValueError(
                "model: the prediction for one sample depends on the others of its batch (BatchNorm"
                f" in training mode?), so the cost over {self._batches} batches depends on how they"
                " are cut; call model.eval(), or pass the data as one batch (X, y)"
            )
        if settled.is_mean and not divisor > 0:
            raise HesseValueError(
                "loss: the mean has nothing to divide by: every target is ignored or has class"
                " weight 0"
            )
        return Validated(
            settled,
            samples,
            divisor if settled.is_mean else 1.0,
            self._signatures,
            (*self._notes, *_decomposition_notes(self._isolated)),
        )


_FORMS = {
    "pair": "pair (X, y)",
    "weighted": "triple (X, y, w)",
    "mapping": "mapping",
    "tensor": "tensor",
    "inputs": "tuple of inputs only",
    "object": "single object",
}
_COUPLED = (
    "loss: {} is neither a sum nor a mean over samples (see batch {}), so its value over {} batches"
    " is not defined; pass the data as one batch (X, y), or return (total, count), the sum over the"
    " batch and what its mean divides by"
)
_COUPLED_OWN = (
    "model: its own loss is neither a sum nor a mean over samples (see batch {1}; a mean over"
    " tokens, with padding?), so its value over {2} batches is not defined; pass one batch, or"
    " loss=lambda output, batch: (output.loss * n, n) with n what its mean divides by"
)


def validate_function(
    isolated: IsolatedFunction,
    total: Callable[[Parameters, Batch | None], Tensor],
    data: Data | None,
    parameters: Parameters,
    originals: list[Tensor],
    reduction: str = "mean",
) -> Validated:
    """As `validate_model` for a function of the parameters, and of the data if there are any."""
    signatures: dict[Hashable, int] = {}
    notes: tuple[str, ...] = ()
    kinds: dict[int, Loss | None] = {}

    def visit(index: int, batch: Batch | None) -> None:
        nonlocal notes
        what = "f(params)" if batch is None else f"f(params, batch {index})"

        def evaluate(tensors: Parameters, given: Batch | None) -> Tensor:
            with diagnosed(
                "f",
                "its parameters" if batch is None else f"batch {index}",
                parameters,
                batch and batch.item,
            ):
                return require_scalar(total(tensors, given), what)

        first = isolated.observe(evaluate, parameters, batch)
        if batch is not None and reduction == "mean" and not batch.whole:
            kinds[index] = inferred_by_running(
                isolated,
                isolated.call,
                lambda owned, some: total(owned, some) / some.size,
                parameters,
                batch,
            )
        if batch is not None:
            signatures[batch.signature] = signatures.get(batch.signature, 0) + batch.size
        if index == 0:
            require_read_as_argument(first, originals, "f")
            again = isolated.observe(evaluate, parameters, batch)
            hidden = ClosedOver(graph_leaves(first)).common(ClosedOver(graph_leaves(again)))
            notes = held_fixed_note(hidden.model)
            require_deterministic(again, "f", first)

    if data is None:
        visit(0, None)
    samples = data.validate(visit) if data else 1
    odd = next(
        (
            index
            for index, kind in kinds.items()
            if len(kinds) > 1 and kind is not None and not kind.by_samples
        ),
        None,
    )
    if odd is not None:
        is_sum = (kind := kinds[odd]) is not None and kind.separable
        raise HesseValueError(
            f"f: on batch {odd} it is {'a sum' if is_sum else 'neither a sum nor a mean'} over"
            f" samples, and with reduction='mean' its value over {len(kinds)} batches is the mean"
            " of its samples'; "
            + ("pass reduction='sum'" if is_sum else "pass the data as one batch")
        )
    return Validated(
        mean_over_samples(total),
        samples,
        1.0,
        signatures,
        (*notes, *_decomposition_notes(isolated)),
    )


def _decomposition_notes(isolated: IsolatedFunction) -> list[str]:
    amiss = isolated.modules.decomposed
    return [
        f"{name} is written out, for PyTorch's second derivatives of it are {fault}"
        for name, fault in amiss.items()
    ]


def reading_that_fits(data: Data, validate: Callable[[Data], Validated]) -> tuple[Data, Validated]:
    """Of ``((a, b), (c, d))``, one pair of nested tensors or two batches, the reading that the
    model and the loss can take.

    Raises:
        HesseValueError: both fit.
        HesseError: none does; what several batches say.
    """
    # As two batches first: its error is the one to show where neither fits.
    fitting: list[tuple[Data, Validated]] = []
    errors: list[HesseError] = []
    for reading in (data.read_as(single=False), data.read_as(single=True)):
        try:
            fitting.append((reading, validate(reading)))
        except HesseError as error:
            errors.append(error)
    if len(fitting) == 2:
        raise HesseValueError(
            "data: it can be read as two batches, (X1, y1) and (X2, y2), and as one batch of nested"
            " inputs and targets, X = (a, b) and y = (c, d), and the model and the loss take both;"
            " pass [batch] for one batch, or a list of more"
        )
    if not fitting:
        raise errors[0]
    return fitting[0]
