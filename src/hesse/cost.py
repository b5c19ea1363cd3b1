"""The cost J(θ): model, loss, data and the parameters asked about, together, as one immutable value."""

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hesse.data import Batch, Data, batch_size, concatenate
from hesse.errors import HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.losses import Loss, custom_loss, identity, known_loss, mean_over_samples, private
from hesse.snapshot import Choice, Parameters, check_finite, check_parameters, choose, given, snapshot

Penalty = float | Callable[[Parameters], Tensor]


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Cost:
    """J(θ) = (1/w) Σ_batches total(model(x; θ), y) + penalty(θ), a snapshot that later training does not change.

    The divisor w is what the loss's mean divides by over the whole data set (samples, elements or class
    weights of the targets that are not ignored), or 1 for a sum. How the data is cut into batches and in what order they
    come changes J by rounding only.

    Args:
        model: an `nn.Module`, or a function ``f(params, x)`` of a dictionary of tensors.
        loss: ``"half_sse"``, ``"mse"``, ``"cross_entropy"``, ``"bce"``, a loss module, or a function
            ``(prediction, target) -> scalar`` that is a mean or a sum over samples.
        data: ``(X, y)``, or a re-iterable of such batches. The first axis counts samples.
        params: for a module, which parameters: names, glob patterns or a predicate of the name; by default all that require
            a gradient. For a function, the tensors themselves, ``{name: Tensor}``.
        penalty: a number λ adds ½ λ ‖θ‖² over the chosen parameters; a function of ``{name: Tensor}`` adds its value.

    Raises:
        HesseError: any argument that cannot be used, before any long work; the text says which and what to do.

    Example:
        >>> import torch, hesse
        >>> X, y = torch.ones(4, 2), torch.zeros(4, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (X, y))
        >>> cost
        Cost(Linear, half_sse, 4 samples, P = 3)
    """

    parameters: Parameters
    layout: Layout
    samples: int
    scale: float
    notes: tuple[str, ...]
    data: Data | None
    loss: Loss | None
    name: str
    penalty: Penalty | None
    # The user's function of the chosen parameters and one batch: its total, not yet divided by w.
    total: Callable[[Parameters, Batch | None], Tensor] = field(repr=False)
    # What capture traces: the snapshot of the module, or of the function, and the values held fixed.
    source: Any = field(repr=False)
    fixed: Parameters = field(repr=False)
    # The user's module, which is only ever changed where that is asked for; None for a function.
    origin: "Callable[[], nn.Module | None] | None" = field(repr=False)
    # One capture serves every cost of the same module and shapes; see hesse.capture.
    captures: dict[Any, Any] = field(repr=False)

    def __init__(self, model: Any, loss: Any, data: Any, *, params: Choice = None, penalty: Penalty | None = None) -> None:
        if isinstance(model, nn.Module):
            chosen, held = choose(model, params)
        elif callable(model):
            chosen, held = given(params, "Cost(f, loss, data, params={name: Tensor})"), ()
        else:
            raise HesseTypeError(f"model: expected an nn.Module or a function f(params, x), got {type(model).__name__}")
        notes, wide = check_parameters(chosen)
        parameters = {name: value.detach().to(wide or value.dtype, copy=True) for name, value in chosen.items()}
        device = next(iter(parameters.values())).device
        own_loss = private(loss, device, wide)
        known = known_loss(own_loss)
        penalty = _check_penalty(penalty, parameters)
        read = Data(data, device, wide)
        source, fixed = snapshot(model, held, wide) if isinstance(model, nn.Module) else (model, {})

        def predict(parameters: Parameters, x: Any) -> Any:
            return _call(source, {**fixed, **parameters}, x)

        settled, samples, weight = _survey(read, predict, parameters, known or own_loss)

        def total(parameters: Parameters, batch: Batch | None) -> Tensor:
            assert batch is not None
            return settled.total(predict(parameters, batch.x), batch.y)

        self._set(
            parameters=parameters,
            layout=Layout.of(parameters),
            samples=samples,
            scale=1.0 / weight,
            notes=notes,
            data=read,
            loss=settled,
            name=type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", type(model).__name__),
            penalty=penalty,
            total=total,
            source=source,
            fixed=fixed,
            origin=weakref.ref(model) if isinstance(model, nn.Module) else None,
            captures=_captures_of(model, loss),
        )

    @staticmethod
    def from_function(
        f: Callable[..., Tensor],
        params: Mapping[str, Tensor],
        data: Any = None,
        *,
        reduction: str = "mean",
        penalty: Penalty | None = None,
    ) -> "Cost":
        """The cost of any scalar function of a dictionary of tensors.

        Args:
            f: ``f(params)``; or, with ``data``, ``f(params, batch)``, where a batch is what the data yields.
            params: the tensors, by name.
            data: one ``(X, y)``, or a re-iterable of such batches.
            reduction: with data, whether ``f`` is a ``"mean"`` or a ``"sum"`` over the samples of its batch.
            penalty: as for `Cost`.

        Example:
            >>> import torch, hesse
            >>> rosenbrock = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
            >>> cost = hesse.Cost.from_function(rosenbrock, {"x": torch.tensor(1.0), "y": torch.tensor(1.0)})
            >>> hesse.value(cost)
            0.0
        """
        if not callable(f):
            raise HesseTypeError(f"f: expected a function f(params) -> scalar, got {type(f).__name__}")
        if reduction not in ("mean", "sum"):
            raise HesseValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
        chosen = given(params, "Cost.from_function(f, {name: Tensor})")
        notes, wide = check_parameters(chosen)
        parameters = {name: value.detach().to(wide or value.dtype, copy=True) for name, value in chosen.items()}
        device = next(iter(parameters.values())).device
        read = None if data is None else Data(data, device, wide)

        def total(parameters: Parameters, batch: Batch | None) -> Tensor:
            if batch is None:
                return f(parameters)
            return f(parameters, (batch.x, batch.y)) * (batch.size if reduction == "mean" else 1)

        def visit(index: int, batch: Batch | None) -> None:
            what = "f(params)" if batch is None else f"f(params, batch {index})"
            found = _check_scalar(lambda: total(parameters, batch), what)
            if index == 0:
                _check_same_twice(lambda: total(parameters, batch), "f", found)

        with _quietly():
            if read is None:
                visit(0, None)
            samples = read.survey(visit) if read else 1
        cost = object.__new__(Cost)
        cost._set(
            parameters=parameters,
            layout=Layout.of(parameters),
            samples=samples,
            scale=1.0 / samples if read is not None and reduction == "mean" else 1.0,
            notes=notes,
            data=read,
            loss=None,
            name=getattr(f, "__name__", type(f).__name__),
            penalty=_check_penalty(penalty, parameters),
            total=total,
            source=None,
            fixed={},
            origin=None,
            captures={},
        )
        return cost

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [self.name, *([self.loss.name] if self.loss else [])]
        if self.data is not None:
            parts.append(f"{self.samples} sample{'s' * (self.samples != 1)}")
        if self.penalty is not None:
            parts.append(f"penalty {self.penalty:g}" if isinstance(self.penalty, int | float) else "penalty")
        return f"Cost({', '.join(parts)}, P = {self.layout.size})"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the work is done in: that of the widest parameter."""
        return max((value.dtype for value in self.parameters.values()), key=lambda d: d.itemsize)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(iter(self.parameters.values())).device

    @property
    def theta(self) -> Float[Tensor, " P"]:
        """The flat vector of the parameters, in layout order."""
        return self.layout.flatten(self.parameters)

    def at(self, parameters: Mapping[str, Tensor] | Shaped[Tensor, " P"]) -> "Cost":
        """The same cost at other parameters, given as a dictionary or a flat vector."""
        given = parameters if isinstance(parameters, Mapping) else self.layout.unflatten(parameters)
        self.layout.flatten(given)  # names and shapes
        moved = {name: given[name].detach().to(old, copy=True) for name, old in self.parameters.items()}
        check_finite(moved)
        other = copy.copy(self)
        other._set(parameters=moved)
        return other

    def batches(self) -> Iterator[Batch | None]:
        """The batches, in the order of the data; a single ``None`` for a function of the parameters alone."""
        return iter([None]) if self.data is None else iter(self.data)

    def batch_cost(self, parameters: Parameters, batch: Batch | None) -> Tensor:
        """What one batch adds to J, penalty left out: a scalar that can be differentiated in the parameters."""
        return self.total(parameters, batch).reshape(()) * self.scale

    def penalty_cost(self, parameters: Parameters) -> Tensor:
        """penalty(θ), a scalar that can be differentiated; zero where there is none."""
        if self.penalty is None:
            return torch.zeros((), dtype=self.dtype, device=self.device)
        if isinstance(self.penalty, int | float):
            zero = torch.zeros((), dtype=self.dtype, device=self.device)
            return 0.5 * self.penalty * sum((p.square().sum() for p in parameters.values()), start=zero)
        return self.penalty(parameters).reshape(())


def value(cost: Cost) -> float:
    """J(θ), over the whole data set.

    Example:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(lambda p: p["x"].square().sum(), {"x": torch.tensor([1.0, 2.0])})
        >>> hesse.value(cost)
        5.0
    """
    with torch.no_grad():
        shares = [float(cost.batch_cost(cost.parameters, batch)) for batch in cost.batches()]
        return sum(shares) + float(cost.penalty_cost(cost.parameters))


def gradient(cost: Cost) -> dict[str, Tensor]:
    """∂J/∂θ by parameter name, each of its parameter's shape.

    Example:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(lambda p: p["x"].square().sum(), {"x": torch.tensor([1.0, 2.0])})
        >>> hesse.gradient(cost)
        {'x': tensor([2., 4.])}
    """
    sums = torch.func.grad(cost.penalty_cost)(cost.parameters)
    for batch in cost.batches():
        for name, part in torch.func.grad(cost.batch_cost)(cost.parameters, batch).items():
            sums[name] = sums[name] + part
    return {name: part.detach() for name, part in sums.items()}


@contextlib.contextmanager
def _differentiable_twice(source: Any) -> Iterator[None]:
    """Attention in its mathematical form and recurrent cells unfused: the fused kernels have no second derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    recurrent = isinstance(source, nn.Module) and any(isinstance(module, nn.RNNBase) for module in source.modules())
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(onednn and not recurrent)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=not recurrent):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(onednn)


def _call(source: Any, tensors: Parameters, x: Any) -> Any:
    with _differentiable_twice(source):
        if isinstance(source, nn.Module):
            return torch.func.functional_call(source, tensors, (x,))
        return source(tensors, x)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Evaluate without derivatives and without being seen in the caller's random state."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield


def _survey(data: Data, predict: Callable[..., Any], parameters: Parameters, loss: Loss | Any) -> tuple[Loss, int, float]:
    """Read the data once: settle the loss, count samples and sum the divisor, and refuse what cannot be used."""
    settled = loss if isinstance(loss, Loss) else None
    function: Any = loss.total if isinstance(loss, Loss) else loss
    weight, batches, mixes = 0.0, 0, False
    pending: list[Batch] = []  # predictions and targets that are not yet weighed, because they do not tell what the loss is

    def visit(index: int, batch: Batch) -> None:
        nonlocal settled, weight, batches, mixes
        total = settled.total if settled else function
        prediction = predict(parameters, batch.x)
        _check_aligned(settled, prediction, batch.y)
        found = _check_scalar(lambda: total(prediction, batch.y), f"loss on batch {index}")
        if index == 0:
            _check_same_twice(lambda: total(predict(parameters, batch.x), batch.y), "model", found)
            mixes = not data.is_single and _mixes_samples(predict, parameters, batch, prediction)
        pending.append(Batch(prediction, batch.y))
        if settled is None:
            together = concatenate(pending)
            settled = custom_loss(function, together.x, together.y, sum(batch_size(batch.x) for batch in pending))
        if settled is not None:
            weight += sum(settled.weight(part.x, part.y) for part in pending) if settled.weight else 0.0
            pending.clear()
        batches += 1

    with _quietly():
        samples = data.survey(visit)
        if settled is None:
            settled = mean_over_samples(function)
            weight = float(samples)
    if batches > 1 and not settled.separable:
        raise HesseValueError(
            f"loss: {settled.name.split(' (')[0]} is neither a sum nor a mean over samples, so its value over {batches} batches "
            "is not defined; pass the data as one batch (X, y)"
        )
    if batches > 1 and mixes:
        raise HesseValueError(
            "model: the prediction for one sample depends on the others of its batch (BatchNorm in training mode?), so the cost "
            f"over {batches} batches depends on how they are cut; call model.eval(), or pass the data as one batch (X, y)"
        )
    if settled.weight is not None and not weight > 0:
        raise HesseValueError("loss: the mean has nothing to divide by: every target is ignored or has class weight 0")
    return settled, samples, weight if settled.weight else 1.0


def _check_aligned(loss: Loss | None, prediction: Any, target: Any) -> None:
    """Broadcasting (N, 1) against (N,) would compare every sample with every other one's target."""
    if loss is None or not loss.elementwise or not isinstance(prediction, Tensor) or not isinstance(target, Tensor):
        return
    if prediction.ndim != target.ndim:
        raise HesseValueError(
            f"loss: {loss.name} got predictions of shape {tuple(prediction.shape)} and targets of shape {tuple(target.shape)}, "
            "which would be compared across samples; give both the same shape, for instance with y.reshape(-1, 1)"
        )


def _check_same_twice(evaluate: Callable[[], Tensor], what: str, first: Tensor | None = None) -> None:
    first, second = evaluate() if first is None else first, evaluate()
    if not torch.allclose(first, second, rtol=1e-5, atol=0.0):
        raise HesseValueError(
            f"{what}: two evaluations gave {float(first):.6g} and {float(second):.6g}; the cost is random "
            "(dropout or sampling inside?): make it deterministic, for instance with model.eval()"
        )


def _mixes_samples(predict: Callable[..., Any], parameters: Parameters, batch: Batch, prediction: Any) -> bool:
    """Whether the prediction for some samples changes when another sample leaves their batch."""
    n = batch.size - 1
    if n < 1 or not isinstance(prediction, Tensor) or prediction.ndim == 0 or len(prediction) != batch.size:
        return False
    try:
        alone = predict(parameters, batch.take(slice(0, n)).x)
    except ValueError:  # normalising over a single sample is refused by torch
        return True
    scale = float(prediction.abs().max()) if prediction.numel() else 0.0
    return alone.shape != prediction[:n].shape or not torch.allclose(alone, prediction[:n], rtol=0.0, atol=1e-3 * scale)


def _check_scalar(compute: Callable[[], Any], what: str) -> Tensor:
    with torch.no_grad():
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


def _check_penalty(penalty: Any, parameters: Parameters) -> Any:
    if penalty is None:
        return None
    if isinstance(penalty, int | float) and not isinstance(penalty, bool):
        if not 0 <= penalty < float("inf"):
            raise HesseValueError(f"penalty: expected a finite number >= 0, got {penalty}")
        return float(penalty)
    if not callable(penalty):
        raise HesseTypeError(f"penalty: expected a number or a function of {{name: Tensor}}, got {type(penalty).__name__}")
    _check_scalar(lambda: penalty(parameters), "penalty(params)")
    return penalty


_CAPTURES: "weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[Any, Any]]]" = weakref.WeakKeyDictionary()


def _captures_of(model: Any, loss: Any) -> dict[Any, Any]:
    """What capture keeps for a module and a loss: a cost made anew after a step of training is not traced again."""
    return _CAPTURES.setdefault(model, {}).setdefault(identity(loss), {}) if isinstance(model, nn.Module) else {}
