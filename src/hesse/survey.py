"""The checking pass: a cost reads its data once when it is made, to settle its loss and to refuse what cannot be used."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.data import Batch, Data, concatenate
from hesse.errors import HesseTypeError, HesseValueError
from hesse.losses import Loss, custom_loss, mean_over_samples
from hesse.snapshot import Modules, Parameters
from hesse.switches import differentiable_twice
from hesse.written_out import WrittenOut


@final
class Subject:
    """The user's function, evaluated so that nothing it does reaches out of the evaluation.

    Attributes:
        modules: the private modules that it runs, if any.
        fixed: the tensors held fixed.
        call: the user's function.
        writes: the tensors held fixed that it writes into, which are cloned for it each time.
        writes_data: whether it writes into its data, likewise.
        counts: whether it changes plain attributes of its modules, which are put back.
    """

    def __init__(self, modules: Modules, fixed: Parameters, call: Callable[..., Any]) -> None:
        self.modules, self.fixed, self.call = modules, fixed, call
        self.writes: set[str] = set()
        self.writes_data = self.counts = False

    @contextlib.contextmanager
    def evaluating(self, tensors: Parameters) -> Iterator[Parameters]:
        """Run the user's function with these in the place of parameters and tensors held fixed; gives those for a function."""
        held = {name: value.clone() if name in self.writes else value for name, value in {**self.fixed, **tensors}.items()}
        before = self.modules.attributes() if self.counts else []
        try:
            with differentiable_twice(self.modules.recurrent), self.modules.holding(held):
                yield tensors
        finally:
            self.modules.put_back(before)

    def taken(self, batch: Batch) -> Batch:
        """The batch as the user's function may have it."""
        return batch.clone() if self.writes_data else batch

    def watch(self, evaluate: Callable[[Parameters, Batch | None], Any], parameters: Parameters, batch: Batch | None) -> Any:
        """Evaluate on clones of everything, and learn what is written into.

        Raises:
            HesseValueError: the parameters are.
        """
        given = {name: value.clone() for name, value in parameters.items()}
        fixed, self.fixed = self.fixed, {name: value.clone() for name, value in self.fixed.items()}
        held = None if batch is None else batch.clone()
        attributes = self.modules.attributes()
        try:
            with WrittenOut() as mode:
                result = evaluate(given, held)
            self.modules.written_out |= mode.ran
            self.writes |= {name for name, value in fixed.items() if not _same(value, self.fixed[name])}
        finally:
            self.fixed = fixed
            self.counts |= self.modules.put_back(attributes)
        for name, value in parameters.items():
            if not _same(value, given[name]):
                raise HesseValueError(
                    f"params: the model, loss or penalty writes into {name!r}, a parameter of the cost; a cost holds its "
                    "parameters still: write into a copy, or leave it out with params="
                )
        if batch is not None and held is not None and not self.writes_data:
            pairs = zip(_tensors(batch), _tensors(held), strict=True)
            self.writes_data = any(not _same(before, after) for before, after in pairs)
        return result


def _written_out(subject: Subject) -> list[str]:
    amiss = subject.modules.written_out
    return [f"{name} is written out, for PyTorch's second derivatives of it are {fault}" for name, fault in amiss.items()]


def _tensors(batch: Batch) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves((batch.x, batch.y)) if isinstance(leaf, Tensor)]


def _same(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.equal(before, after)


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


def survey(subject: Subject, data: Data, parameters: Parameters, loss: Loss | Any, originals: list[Tensor]) -> Surveyed:
    """Read the data once: settle the loss, count samples and sum the divisor, and refuse what cannot be used.

    Args:
        subject: the user's model.
        data: the batches.
        parameters: θ.
        loss: the loss, or the user's function that is to be found out about.
        originals: the user's own tensors behind θ.
    """
    settled = loss if isinstance(loss, Loss) else None
    function: Any = loss.total if isinstance(loss, Loss) else loss
    signatures: dict[Hashable, int] = {}
    kinds: dict[int, Loss] = {}
    before: Batch | None = None
    weight, batches, mixes = 0.0, 0, False
    notes: tuple[str, ...] = ()

    def visit(index: int, batch: Batch) -> None:
        nonlocal weight, batches, mixes, before, notes

        def evaluate(tensors: Parameters, given: Batch | None) -> tuple[Any, Tensor]:
            assert given is not None
            with subject.evaluating(tensors) as owned:
                prediction = subject.call(owned, given.x)
                _check_aligned(settled, prediction, given.y)
                found = _check_scalar(lambda: function(prediction, given.y), f"loss on batch {index}")
                if index == 0:
                    _check_reads(subject, function, prediction, given.y, originals)
                return pytree.tree_map_only(Tensor, Tensor.detach, prediction), found

        prediction, found = subject.watch(evaluate, parameters, batch)
        signatures[batch.signature] = signatures.get(batch.signature, 0) + batch.size
        pair = Batch(prediction, batch.y)
        if index == 0:
            notes = _reads_fixed(found)
            _check_same_twice(lambda: subject.watch(evaluate, parameters, batch)[1], "model", found)
            mixes = not data.is_single and _mixes_samples(subject, parameters, batch, prediction)
        if settled is not None:
            weight += settled.weight(prediction, batch.y) if settled.weight else 0.0
        else:
            with subject.evaluating(parameters):
                kinds.update(_kinds(function, index, pair, batch.size, before))
            before = pair
        batches += 1

    with torch.random.fork_rng(devices=[]):
        samples = data.survey(visit)
    if settled is None:
        settled = _agreed(function, kinds)
        weight = float(samples)
    if batches > 1 and not settled.separable:
        where = next((index for index, kind in kinds.items() if not kind.separable), 0)
        raise HesseValueError(
            f"loss: {settled.name.split(' (')[0]} is neither a sum nor a mean over samples (see batch {where}), so its value "
            f"over {batches} batches is not defined; pass the data as one batch (X, y)"
        )
    if batches > 1 and mixes:
        raise HesseValueError(
            "model: the prediction for one sample depends on the others of its batch (BatchNorm in training mode?), so the cost "
            f"over {batches} batches depends on how they are cut; call model.eval(), or pass the data as one batch (X, y)"
        )
    if settled.weight is not None and not weight > 0:
        raise HesseValueError("loss: the mean has nothing to divide by: every target is ignored or has class weight 0")
    return Surveyed(settled, samples, weight if settled.weight else 1.0, signatures, (*notes, *_written_out(subject)))


def survey_function(
    subject: Subject,
    total: Callable[[Parameters, Batch | None], Tensor],
    data: Data | None,
    parameters: Parameters,
    originals: list[Tensor],
) -> Surveyed:
    """The same for a function of the parameters, and of the data if there are any."""
    signatures: dict[Hashable, int] = {}
    notes: tuple[str, ...] = ()

    def visit(index: int, batch: Batch | None) -> None:
        nonlocal notes
        what = "f(params)" if batch is None else f"f(params, batch {index})"
        found = subject.watch(lambda *given: _check_scalar(lambda: total(*given), what), parameters, batch)
        if batch is not None:
            signatures[batch.signature] = signatures.get(batch.signature, 0) + batch.size
        if index == 0:
            _refuse_own(found, originals, "f")
            notes = _reads_fixed(found)
            _check_same_twice(lambda: subject.watch(total, parameters, batch), "f", found)

    with torch.random.fork_rng(devices=[]):
        if data is None:
            visit(0, None)
        samples = data.survey(visit) if data else 1
    return Surveyed(mean_over_samples(total), samples, 1.0, signatures, (*notes, *_written_out(subject)))


# ---------------------------------------------------------------- what kind of mean a loss is


def _kinds(function: Any, index: int, pair: Batch, samples: int, before: Batch | None) -> dict[int, Loss]:
    """What a batch says of the loss, by itself and beside the batch before it."""
    kind = custom_loss(function, pair.x, pair.y, samples)
    if before is not None and (kind is None or kind.separable) and before.signature == pair.signature:
        both = concatenate([before, pair])
        kind = custom_loss(function, both.x, both.y, both.size) or kind
    return {} if kind is None else {index: kind}


def _agreed(function: Any, kinds: dict[int, Loss]) -> Loss:
    """The kind that all batches say; a mean where none of them tells.

    Raises:
        HesseValueError: one batch says another than one before it.
    """
    coupled = next((kind for kind in kinds.values() if not kind.separable), None)
    if coupled is not None:
        return coupled
    first = next(iter(kinds), None)
    for index, kind in kinds.items():
        if first is not None and kind.name != kinds[first].name:
            raise HesseValueError(
                f"loss: {kinds[first].name} on batch {first}, {kind.name.split(' (')[-1].rstrip(')')} on batch {index}: its "
                "value over several batches is not defined; pass the data as one batch (X, y)"
            )
    return mean_over_samples(function) if first is None else kinds[first]


# ---------------------------------------------------------------- what cannot be used


def _leaves(result: Any) -> list[Tensor]:
    """The tensors that require a gradient and that a result was computed from."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    waiting: list[Any] = []
    for tensor in pytree.tree_leaves(result):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            if tensor.grad_fn is None:
                found[id(tensor)] = tensor
            else:
                waiting.append(tensor.grad_fn)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        waiting.extend(following for following, _ in node.next_functions)
    return list(found.values())


def _check_reads(subject: Subject, function: Any, prediction: Any, target: Any, originals: list[Tensor]) -> None:
    """Refuse a model or a loss with parameters that it does not get from the cost, whose derivatives would be left out."""
    _refuse_own(prediction, originals, "model")
    if subject.modules.model is not None and _leaves(prediction):
        raise HesseValueError(
            f"model: its prediction depends on {_described(_leaves(prediction))}, which no module registers (held in a list, or "
            "in a closure?), so the derivatives would leave out how it enters; register it, or call requires_grad_(False) on it"
        )
    apart = pytree.tree_map_only(Tensor, Tensor.detach, prediction)
    hidden = _leaves(function(apart, target))
    if hidden:
        raise HesseValueError(
            f"loss: it depends on {_described(hidden)}, other than through its prediction (an L2 term over the model's "
            "parameters?), and the derivatives would leave that out; give such a term as penalty=, make the loss an nn.Module "
            "that holds its own parameters, or detach them"
        )


def _refuse_own(result: Any, originals: list[Tensor], what: str) -> None:
    """Refuse a function that reads the very tensors that it is to be differentiated in other than through its argument."""
    places = {original.untyped_storage().data_ptr() for original in originals}
    own = [leaf for leaf in _leaves(result) if leaf.untyped_storage().data_ptr() in places]
    if own:
        raise HesseValueError(
            f"{what}: it reads {_described(own)}, given in params, other than through its argument, and the derivatives would "
            "leave that out; take it from the dictionary that the function is called with"
        )


def _reads_fixed(found: Tensor) -> tuple[str, ...]:
    hidden = _leaves(found)
    return (f"{_described(hidden)}, not among params, held fixed",) if hidden else ()


def _described(tensors: list[Tensor]) -> str:
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors[:3])
    many = len(tensors) != 1
    return f"{len(tensors)} tensor{'s' * many} that require{'s' * (not many)} a gradient (shape{'s' * many} {shapes})"


def _check_aligned(loss: Loss | None, prediction: Any, target: Any) -> None:
    """Broadcasting (N, 1) against (N,) would compare every sample with every other one's target."""
    if loss is None or not loss.elementwise or not isinstance(prediction, Tensor) or not isinstance(target, Tensor):
        return
    if prediction.ndim != target.ndim:
        raise HesseValueError(
            f"loss: {loss.name} got predictions of shape {tuple(prediction.shape)} and targets of shape {tuple(target.shape)}, "
            "which would be compared across samples; give both the same shape, for instance with y.reshape(-1, 1)"
        )


def _check_same_twice(evaluate: Callable[[], Tensor], what: str, first: Tensor) -> None:
    first, second = first.detach(), evaluate().detach()
    if not torch.allclose(first, second, rtol=1e-5, atol=0.0):
        raise HesseValueError(
            f"{what}: two evaluations gave {float(first):.6g} and {float(second):.6g}; the cost is random "
            "(dropout or sampling inside?): make it deterministic, for instance with model.eval()"
        )


def _mixes_samples(subject: Subject, parameters: Parameters, batch: Batch, prediction: Any) -> bool:
    """Whether the prediction for some samples changes when another sample leaves their batch."""
    n = batch.size - 1
    if n < 1 or not isinstance(prediction, Tensor) or prediction.ndim == 0 or len(prediction) != batch.size:
        return False
    try:
        with subject.evaluating(parameters) as owned:
            alone = subject.call(owned, batch.take(slice(0, n)).clone().x).detach()
    except ValueError:  # normalising over a single sample is refused by torch
        return True
    scale = float(prediction.abs().max()) if prediction.numel() else 0.0
    return alone.shape != prediction[:n].shape or not torch.allclose(alone, prediction[:n], rtol=0.0, atol=1e-3 * scale)


def _check_scalar(compute: Callable[[], Any], what: str) -> Tensor:
    result = compute()
    if not isinstance(result, Tensor):
        raise HesseTypeError(f"{what}: expected a tensor with one number, got {type(result).__name__}; compute it with torch")
    if result.numel() != 1:
        raise HesseValueError(
            f"{what}: expected one number, got a tensor of shape {tuple(result.shape)}; reduce it with .mean() or .sum()"
        )
    if not bool(torch.isfinite(result)):
        raise HesseValueError(f"{what}: the value is {float(result)}; check the parameters and the data of that batch")
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
        raise HesseTypeError(f"penalty: expected a number or a function of {{name: Tensor}}, got {type(penalty).__name__}")
    subject = Subject(Modules(None), {}, penalty)
    found = subject.watch(lambda given, _: _check_scalar(lambda: penalty(given), "penalty(params)"), parameters, None)
    if _leaves(found):
        raise HesseValueError(
            f"penalty: it depends on {_described(_leaves(found))}, other than through its argument, and the derivatives would "
            "leave that out; take them from the dictionary that it is called with"
        )

    def evaluated(parameters: Parameters) -> Any:
        with subject.evaluating(parameters):
            return penalty(parameters)

    return evaluated
