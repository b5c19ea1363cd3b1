"""The checking pass: a cost reads its data once when it is made, to settle its loss and to refuse
what cannot be used."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data.batch import Batch, tensors_in
from hesse.data.readings import Data
from hesse.diagnosis import check_aligned, check_labels, diagnosed
from hesse.errors import HesseError, HesseTypeError, HesseValueError
from hesse.losses import Loss, counted, known_loss, own_loss, weighed
from hesse.means import Means, by_running, custom_loss, may_be_differentiated, mean_over_samples
from hesse.process.quiet import quiet
from hesse.reads import Reads, described, held_fixed, leaves, refuse_hidden, refuse_own
from hesse.snapshot import Modules, Parameters
from hesse.subject import Subject


@dataclass
class Surveyed:
    """What the checking pass found.

    Attributes:
        loss: the loss, settled.
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


def survey(
    subject: Subject,
    data: Data,
    parameters: Parameters,
    loss_for: Callable[[str], Loss | Callable[[Any, Any], Any]],
    originals: list[Tensor],
) -> Surveyed:
    """Read the data once: settle the loss, count samples and sum the divisor, and refuse what
    cannot be used.

    Args:
        subject: the user's model.
        data: the batches.
        parameters: θ.
        loss_for: the form of a batch -> the loss, or the user's function that is to be found out
            about.
        originals: the user's own tensors behind θ.
    """
    settled: Loss | None = None
    function: Any = None
    means = Means(subject, parameters)
    signatures: dict[Hashable, int] = {}
    notes: tuple[str, ...] = ()
    divisor, batches, mixes, form = 0.0, 0, False, ""

    def evaluate(tensors: Parameters, batch: Batch | None) -> tuple[Any, Any, Reads]:
        assert batch is not None
        where = f"batch {batches}"
        with subject.evaluating(tensors) as owned:
            with diagnosed("model", where, parameters, batch.x):
                prediction = subject.call(owned, batch.x)
            check_aligned(settled, prediction, batch, batches)
            check_labels(settled, prediction, batch.targets, batches)
            with diagnosed("loss", where, parameters, (prediction, batch.targets)):
                # Parameters require no gradient here; a loss may differentiate in its prediction,
                # and so be seen to.
                connected = any(tensor.requires_grad for tensor in tensors_in(prediction))
                given = (
                    prediction
                    if connected
                    else pytree.tree_map_only(Tensor, may_be_differentiated, prediction)
                )
                value = function(given, batch.targets)
            apart = pytree.tree_map_only(Tensor, Tensor.detach, prediction)
            reads = (
                Reads(leaves(prediction), _reads_of_loss(function, apart, batch))
                if batches == 0
                else Reads()
            )
        if batches == 0:
            refuse_own(prediction, originals, "model")
        return apart, value, reads

    def visit(index: int, batch: Batch) -> None:
        nonlocal divisor, batches, mixes, form, notes, settled, function
        if index == 0:
            loss, form = loss_for(batch.form), batch.form
            settled, function = (loss, loss.total) if isinstance(loss, Loss) else (None, loss)
        if batch.form != form:
            raise HesseValueError(
                f"data: batch {index} is a {_FORMS[batch.form]}, and batch 0 a {_FORMS[form]}; give"
                " one form"
            )
        prediction, value, reads = subject.watch(evaluate, parameters, batch)
        if settled is None and isinstance(value, tuple | list) and len(value) == 2:
            if isinstance(value[1], Tensor) and value[1].requires_grad:
                raise HesseValueError(
                    "loss: it returned (total, count), and the count depends on the parameters, so"
                    " that the cost is no sum divided by a number; return the ratio itself, over"
                    " one batch of all the data"
                )
            settled = counted(function)
            function, value = (
                settled.total,
                _scalar(value[0], f"the total of the loss on batch {index}"),
            )
            _check_total(function, prediction, batch)
        found = _scalar(value, f"loss on batch {index}")
        if index == 0 and settled is not None and settled.given is not None:
            _check_divisor(settled, settled.given, prediction, batch, found)
        signatures[batch.signature] = signatures.get(batch.signature, 0) + batch.size
        if index == 0:
            _, again, others = subject.watch(evaluate, parameters, batch)
            _check_same_twice(_scalar(again, "loss on batch 0"), "model", found)
            hidden = reads.kept(others)
            notes = held_fixed(hidden.model)
            refuse_hidden(hidden if subject.modules.model is not None else Reads(loss=hidden.loss))
            mixes = not data.is_single and _mixes_samples(subject, parameters, batch, prediction)
            if batch.whole:
                notes = (
                    *notes,
                    (
                        "the first axes of a batch do not count samples: it is taken whole, and"
                        " goes by columns"
                    ),
                )
        if settled is None:
            means.add(function, index, batch, prediction)
        else:
            divisor += settled.divisor(prediction, batch)
        batches += 1

    with torch.random.fork_rng(devices=[]):
        samples = data.survey(visit)
    if settled is None:
        settled = means.agreed(function)
        divisor = float(samples)
    if batches > 1 and not settled.separable:
        reason = _COUPLED_OWN if function is own_loss else _COUPLED
        raise HesseValueError(reason.format(settled.name.split(" (")[0], means.coupling, batches))
    if batches > 1 and mixes:
        raise HesseValueError(
            "model: the prediction for one sample depends on the others of its batch (BatchNorm in"
            f" training mode?), so the cost over {batches} batches depends on how they are cut;"
            " call model.eval(), or pass the data as one batch (X, y)"
        )
    if settled.is_mean and not divisor > 0:
        raise HesseValueError(
            "loss: the mean has nothing to divide by: every target is ignored or has class weight 0"
        )
    return Surveyed(
        settled,
        samples,
        divisor if settled.is_mean else 1.0,
        signatures,
        (*notes, *_written_out(subject)),
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


def survey_function(
    subject: Subject,
    total: Callable[[Parameters, Batch | None], Tensor],
    data: Data | None,
    parameters: Parameters,
    originals: list[Tensor],
    reduction: str = "mean",
) -> Surveyed:
    """The same for a function of the parameters, and of the data if there are any."""
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
                return _scalar(total(tensors, given), what)

        found = subject.watch(evaluate, parameters, batch)
        if batch is not None and reduction == "mean" and not batch.whole:
            kinds[index] = by_running(
                subject,
                subject.call,
                lambda own, some: total(own, some) / some.size,
                parameters,
                batch,
            )
        if batch is not None:
            signatures[batch.signature] = signatures.get(batch.signature, 0) + batch.size
        if index == 0:
            refuse_own(found, originals, "f")
            again = subject.watch(evaluate, parameters, batch)
            notes = held_fixed(Reads(leaves(found)).kept(Reads(leaves(again))).model)
            _check_same_twice(again, "f", found)

    with torch.random.fork_rng(devices=[]):
        if data is None:
            visit(0, None)
        samples = data.survey(visit) if data else 1
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
    return Surveyed(
        mean_over_samples(total), samples, 1.0, signatures, (*notes, *_written_out(subject))
    )


def _written_out(subject: Subject) -> list[str]:
    amiss = subject.modules.written_out
    return [
        f"{name} is written out, for PyTorch's second derivatives of it are {fault}"
        for name, fault in amiss.items()
    ]


# ---------------------------------------------------------------- what cannot be used


def _check_total(total: Callable[[Any, Any], Tensor], prediction: Any, batch: Batch) -> None:
    """A loss that gives (total, count) gives a sum over samples, or the batches' totals do not add
    up."""
    kind = None if batch.whole else custom_loss(total, prediction, batch.targets, batch.size)
    if kind is not None and kind.by_samples:
        raise HesseValueError(
            "loss: it returned (total, count), and the total is a mean over samples; return the"
            " sum, for instance (mean * count, count)"
        )


def _reads_of_loss(function: Any, prediction: Any, batch: Batch) -> tuple[Tensor, ...]:
    """What a loss depends on besides the prediction, cut off here."""
    cut = pytree.tree_map_only(Tensor, may_be_differentiated, prediction)
    try:
        found = leaves(function(cut, batch.targets))
    except (
        Exception
    ):  # of a loss that differentiates a prediction in an input, which are no longer connected
        return ()
    return tuple(leaf for leaf in found if not any(leaf is own for own in pytree.tree_leaves(cut)))


def _check_divisor(
    loss: Loss, given: Callable[[Any, Any], Tensor], prediction: Any, batch: Batch, total: Tensor
) -> None:
    """What is known of a loss is not believed: its sum over its divisor is what the user's own
    gives."""
    divisor = loss.divisor(prediction, batch) if loss.is_mean else 1.0
    with quiet():
        expected = given(prediction, batch.targets).detach().double()
    found = total.detach().double() / divisor if divisor else expected
    limit = math.sqrt(torch.finfo(total.dtype).eps)
    if bool((found - expected).abs() > limit * (expected.abs() + limit)):
        raise HesseValueError(
            f"loss: {loss.name} gives {float(expected):.6g} on batch 0, and its sum divided by"
            f" {divisor:g}, which is what hesse's record of it says, {float(found):.6g}; please"
            " report it, and give a function of your own that returns (total, count)"
        )


def _check_same_twice(second: Tensor, what: str, first: Tensor) -> None:
    first, second = first.detach(), second.detach()
    if not torch.allclose(first, second, rtol=1e-5, atol=0.0):
        raise HesseValueError(
            f"{what}: two evaluations gave {float(first):.6g} and {float(second):.6g}; the cost is"
            " random (dropout or sampling inside?): make it deterministic, for instance with"
            " model.eval()"
        )


def _mixes_samples(subject: Subject, parameters: Parameters, batch: Batch, prediction: Any) -> bool:
    """Whether the prediction for some samples changes when another sample leaves their batch."""
    n = batch.size - 1
    if (
        n < 1
        or not isinstance(prediction, Tensor)
        or prediction.ndim == 0
        or len(prediction) != batch.size
    ):
        return False
    try:
        with subject.evaluating(parameters) as owned:
            alone = subject.call(owned, batch.take(slice(0, n)).clone().x).detach()
    except ValueError:  # normalising over a single sample is refused by torch
        return True
    scale = float(prediction.abs().max()) if prediction.numel() else 0.0
    return alone.shape != prediction[:n].shape or not torch.allclose(
        alone, prediction[:n], rtol=0.0, atol=1e-3 * scale
    )


def _scalar(result: Any, what: str) -> Tensor:
    if not isinstance(result, Tensor):
        raise HesseTypeError(
            f"{what}: expected a tensor with one number, got {type(result).__name__}; compute it"
            " with torch"
        )
    if result.numel() != 1:
        raise HesseValueError(
            f"{what}: expected one number, got a tensor of shape {tuple(result.shape)}; reduce it"
            " with .mean() or .sum()"
        )
    if not result.is_floating_point():
        raise HesseTypeError(
            f"{what}: expected a floating number, got {str(result.dtype).removeprefix('torch.')}"
        )
    if not bool(torch.isfinite(result)):
        raise HesseValueError(
            f"{what}: the value is {float(result)}; check the parameters and the data of that batch"
        )
    return result


def check_penalty(penalty: Any, parameters: Parameters) -> Any:
    """The penalty as a cost keeps it."""
    if penalty is None:
        return None
    if isinstance(penalty, int | float) and not isinstance(penalty, bool):
        if not 0 <= penalty < float("inf"):
            raise HesseValueError(f"penalty: expected a finite number >= 0, got {penalty}")
        return float(penalty)
    if not callable(penalty):
        raise HesseTypeError(
            "penalty: expected a number or a function of {name: Tensor}, got"
            f" {type(penalty).__name__}"
        )
    subject = Subject(Modules(None), {}, penalty)

    def evaluate(given: Parameters, _: Batch | None) -> Tensor:
        with diagnosed("penalty", f"the parameters {', '.join(given)[:80]}", given, ()):
            return _scalar(penalty(given), "penalty(params)")

    found = subject.watch(evaluate, parameters, None)
    if leaves(found):
        raise HesseValueError(
            f"penalty: it depends on {described(leaves(found))}, other than through its argument,"
            " and the derivatives would leave that out; take them from the dictionary that it is"
            " called with"
        )

    def evaluated(parameters: Parameters) -> Any:
        with subject.evaluating(parameters):
            return penalty(parameters)

    return evaluated


# ------------------------------------------------------------ what the form of the data asks for


def loss_for(form: str, loss: Any) -> Any:
    """The loss that data of a form asks for: a `Loss`, or a function of the user's that is to be
    found out about."""
    if isinstance(loss, type):
        raise HesseTypeError(
            f"loss: expected a loss module, got the class {loss.__name__}; call it,"
            f" {loss.__name__}()"
        )
    if loss is not None and form in ("inputs", "tensor"):
        raise HesseTypeError(
            "data: batch 0 holds inputs only; expected a pair (inputs, targets) of tensors, a"
            " triple with weights of the samples behind them, or a mapping of the model's arguments"
        )
    if loss is None:
        if form in ("pair", "weighted"):
            raise HesseTypeError(
                "loss: expected a name, a loss module or a function (prediction, target) -> scalar"
                " for data of (X, y), got None; without a loss the model's output is the cost, or"
                " holds it, and a batch is a mapping of its arguments"
            )
        return own_loss
    return weighed(loss) if form == "weighted" else known_loss(loss) or loss


def fitting(data: Data, survey: Callable[[Data], Surveyed]) -> tuple[Data, Surveyed]:
    """Of ``((a, b), (c, d))``, one pair of nested tensors or two batches, the reading that the
    model and the loss can take.

    Raises:
        HesseValueError: both fit.
        HesseError: none does; what several batches say.
    """
    fitting: list[tuple[Data, Surveyed]] = []
    errors: list[HesseError] = []
    for reading in (data.read_as(single=False), data.read_as(single=True)):
        try:
            fitting.append((reading, survey(reading)))
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
