"""The cost J(θ): model, loss, data and the parameters asked about, together, as one immutable
value."""

import contextlib
import copy
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor, nn

from hesse.curvatures.curvature import Curvature, curvature_named
from hesse.curvatures.hessian import HESSIAN
from hesse.data.arrays import Numbers
from hesse.data.batch import Batch, tensors_in
from hesse.data.dataset import Data
from hesse.display import Display, Displayed, facts
from hesse.distributed.wrapping import unwrapped
from hesse.errors import (
    HesseAttributeError,
    HesseTypeError,
    HesseValueError,
    require_instance,
    require_mapping,
    require_word,
)
from hesse.isolation import IsolatedFunction
from hesse.layout import Layout
from hesse.linear_operators.absent import NoArithmetic
from hesse.losses.form import loss_for, own_loss
from hesse.losses.known import compares_numbers, is_known, private
from hesse.losses.loss import Loss
from hesse.model_and_loss import FunctionOfParameters, ModelAndLoss, as_called
from hesse.parameters import (
    ParameterChoice,
    Parameters,
    choose,
    copies,
    loss_tensors,
    require_differentiable,
    require_finite,
    tensors_by_name,
    widest,
)
from hesse.penalty import Penalty, penalty_value, require_penalty
from hesse.private_modules import PrivateModules
from hesse.process.pickling import Travelling
from hesse.process.undisturbed import undisturbed
from hesse.snapshot import captures_of, origin_of, snapshot
from hesse.validation import Validated, reading_that_fits, validate_function, validate_model
from hesse.words import LossName, Reduction
from hesse.words.shapes import Float, Shaped


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Cost(NoArithmetic, Displayed, Travelling):
    """J(θ) = (1/w) Σ_batches total(model(x; θ), y) + penalty(θ), a snapshot that later training
    does not change.

    The divisor w is what the loss's mean divides by over the whole data set (samples, elements or
    class weights of the targets that are not ignored), or 1 for a sum. How the data is cut into
    batches and in what order they come changes J by rounding only.

    Args:
        model: an `nn.Module`, or a function ``f(params, x)`` of a dictionary of tensors; of a
            `DistributedDataParallel` the module in it.
        loss: ``"half_sse"``, ``"mse"``, ``"cross_entropy"``, ``"bce"`` (on logits), the name of a
            loss in `torch.nn.functional`, a loss module, or a function ``(prediction, target) ->
            scalar`` that is a mean or a sum over samples, or gives ``(total, count)``, its own
            divisor. ``None`` where the model's output is the
            cost, or holds it as ``.loss`` or ``["loss"]``.
        data: ``(X, y)``; ``(X, y, w)`` with a weight for each sample, for a loss that gives one
            number each, and the cost is Σ w ℓ / Σ w; a mapping of the model's arguments, its labels
            among them, which the loss gets as the target; a re-iterable of such batches, or a
            `Dataset` of such samples. Arrays of NumPy and tables of pandas stand for tensors: real
            numbers, and every column of a table in its order, in the dtype of the parameters; whole
            numbers in int64, or, as targets of a loss that compares numbers, real too. They are
            copied once, so that what is written into them later does not change the cost. The
            model is called as ``model(**X)`` with a mapping and ``model(*X)`` with a tuple where
            its forward takes them so, else as ``model(X)``. The first axis of every tensor counts
            samples (targets may have several rows a sample); where it does not, as for ``((x,
            edge_index), y)``, a batch is taken whole. Of several processes each is given the same
            data; see `docs/beyond-memory.md`.
        params: for a module, which parameters: names or glob patterns, in the order of the result,
            or a predicate of the name; by default all that require a gradient. For a function, the
            tensors themselves, ``{name: Tensor}``.
        penalty: a number λ adds ½ λ ‖θ‖² over the chosen parameters; a function of ``{name:
            Tensor}`` adds its value.

    Raises:
        HesseError: any argument that cannot be used, before any long work; the text says which and
            what to do.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.ones(4, 2), torch.zeros(4, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (X, y))
        >>> cost
        Cost: Linear, half_sse, 4 samples, P = 3
        parameter  shape   entries
        weight     (1, 2)        2
        bias       (1,)          1
        numbers  float32 on cpu
        next     hesse.plan(cost), hesse.hessian(cost), hesse.quadratic(cost)
    """

    parameters: Parameters
    layout: Layout
    samples: int
    scale: float  # 1/w: what a batch's total is multiplied by
    notes: tuple[str, ...]
    data: Data | None
    loss: Loss | None
    name: str
    penalty: Penalty | None
    # How many samples there are of each signature of a batch, in the order of their first.
    signatures: dict[Hashable, int] = field(repr=False)
    # The user's function of the chosen parameters and one batch: its total, not yet divided by w.
    total: Callable[[Parameters, Batch | None], Tensor] = field(repr=False)
    # The user's prediction for the inputs of one batch; None where there is none.
    predict: Callable[[Parameters, Batch], Any] | None = field(repr=False)
    # The prediction together with the total, and the total of a prediction; both None where the
    # parameters reach the cost in another way than through a prediction.
    predict_and_total: Callable[[Parameters, Batch], tuple[Any, Tensor]] | None = field(repr=False)
    loss_of_prediction: Callable[[Parameters, Any, Batch], Tensor] | None = field(repr=False)
    # Which of its second derivatives are asked for: the Hessian, or a part or an estimate of it.
    curvature: Curvature = field(repr=False)
    # The private modules, empty for a function, and the values held fixed.
    modules: PrivateModules = field(repr=False)
    fixed: Parameters = field(repr=False)
    # The user's own parameters, which are only ever changed where that is asked for; None for a
    # function.
    origin: "Callable[[], dict[str, nn.Parameter] | None] | None" = field(repr=False)
    # One capture serves every cost of the same module and shapes; see hesse.capture.
    captures: dict[Any, Any] = field(repr=False)

    _no_number = (
        "cost: a cost is no number; its value is hesse.value(cost), and a sum of costs is a"
        " function of one's own, hesse.Cost.from_function"
    )

    @undisturbed()
    def __init__(
        self,
        model: Any,
        loss: LossName | str | Callable[..., Any] | None = None,
        data: Any = None,
        *,
        params: ParameterChoice = None,
        penalty: Penalty | None = None,
    ) -> None:
        model = unwrapped(model)
        # A loss that is a module of the user's may have parameters of its own, which θ may hold.
        loss_module = loss if isinstance(loss, nn.Module) and not is_known(loss) else None
        if isinstance(model, nn.Module):
            chosen, held = choose(model, params, loss_module)
        elif isinstance(model, type) and issubclass(model, nn.Module):
            raise HesseTypeError(
                f"model: expected an nn.Module, got its class {model.__name__}; call it to make one"
            )
        elif callable(model):
            usage = "Cost(f, loss, data, params={name: Tensor})"
            chosen, held = tensors_by_name(params, usage), ()
            chosen |= {
                name: tensor
                for name, tensor in loss_tensors(loss_module)[0]
                if tensor.requires_grad
            }
        else:
            raise HesseTypeError(
                "model: expected an nn.Module or a function f(params, x), got"
                f" {type(model).__name__}"
            )
        notes, wide = require_differentiable(chosen)
        parameters = copies(chosen, wide)
        device = next(iter(parameters.values())).device
        loss_copy = private(loss, device, wide)
        penalty = require_penalty(penalty, parameters)
        numbers = Numbers(widest(parameters), labels=not compares_numbers(loss))
        read = Data(data, device, numbers, wide)
        source = snapshot(model, wide) if isinstance(model, nn.Module) else None
        modules = PrivateModules(source, loss_copy if loss_module is not None else None)
        # Tensors of the loss that are not parameters asked about stay as they are in its private
        # copy.
        fixed = {name: tensor.detach() for name, tensor in modules.tensors.items() if name in held}
        names = [name for name in parameters if name not in modules.tensors]
        isolated = IsolatedFunction(modules, fixed, as_called(model, source, names), parameters)

        def validated_as(reading: Data) -> Validated:
            return validate_model(
                isolated,
                reading,
                parameters,
                lambda form: loss_for(form, loss_copy),
                list(chosen.values()),
            )

        read, validated = (
            reading_that_fits(read, validated_as)
            if read.is_ambiguous
            else (read, validated_as(read))
        )
        parts = ModelAndLoss(isolated, validated.loss)
        # Whether the parameters reach the loss through the prediction alone: curvatures that are
        # made of the two, Gauss-Newton's, need that.
        is_composed = validated.loss.total is not own_loss and not any(
            name in parameters for name, _ in loss_tensors(loss_module)[0]
        )
        self._set(
            parameters=parameters,
            layout=Layout.of(parameters),
            samples=validated.samples,
            scale=1.0 / validated.weight,
            notes=(*notes, *validated.notes),
            data=read,
            loss=validated.loss,
            name=(
                type(model).__name__
                if isinstance(model, nn.Module)
                else getattr(model, "__name__", type(model).__name__)
            ),
            penalty=penalty,
            signatures=validated.signatures,
            total=parts.total,
            predict=parts.predict,
            predict_and_total=parts.predict_and_total if is_composed else None,
            loss_of_prediction=parts.loss_of_prediction if is_composed else None,
            curvature=HESSIAN,
            modules=modules,
            fixed=fixed,
            origin=origin_of(model, loss_module) if isinstance(model, nn.Module) else None,
            captures=captures_of(model, loss),
        )

    @staticmethod
    @undisturbed()
    def from_function(
        f: Callable[..., Tensor],
        params: Mapping[str, Tensor],
        data: Any = None,
        *,
        reduction: Reduction | str = "mean",
        penalty: Penalty | None = None,
    ) -> "Cost":
        """The cost of any scalar function of a dictionary of tensors.

        Args:
            f: ``f(params)``; or, with ``data``, ``f(params, batch)``, where a batch is what the
                data yields.
            params: the tensors, by name.
            data: one ``(X, y)``, ``(X, y, w)`` or mapping, or a re-iterable of such batches, which
                ``f`` gets as they are.
            reduction: with data, whether ``f`` is a ``"mean"`` or a ``"sum"`` over the samples of
                its batch.
            penalty: as for `Cost`.

        Examples:
            >>> import torch, hesse
            >>> rosenbrock = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
            >>> cost = hesse.Cost.from_function(
            ...     rosenbrock, {"x": torch.tensor(1.0), "y": torch.tensor(1.0)}
            ... )
            >>> hesse.value(cost)
            0.0
        """
        if not callable(f):
            raise HesseTypeError(
                f"f: expected a function f(params) -> scalar, got {type(f).__name__}"
            )
        require_word(reduction, "reduction", get_args(Reduction))
        chosen = tensors_by_name(params, "Cost.from_function(f, {name: Tensor})")
        notes, wide = require_differentiable(chosen)
        parameters = copies(chosen, wide)
        device = next(iter(parameters.values())).device
        numbers = Numbers(widest(parameters))
        read = None if data is None else Data(data, device, numbers, wide)
        isolated = IsolatedFunction(PrivateModules(None), {}, f, parameters)
        total = FunctionOfParameters(isolated, reduction == "mean").total
        validated = validate_function(
            isolated, total, read, parameters, list(chosen.values()), reduction
        )
        cost = object.__new__(Cost)
        cost._set(
            parameters=parameters,
            layout=Layout.of(parameters),
            samples=validated.samples,
            scale=1.0 / validated.samples if read is not None and reduction == "mean" else 1.0,
            notes=(*notes, *validated.notes),
            data=read,
            loss=None,
            name=getattr(f, "__name__", type(f).__name__),
            penalty=require_penalty(penalty, parameters),
            signatures=validated.signatures,
            total=total,
            predict=None,
            predict_and_total=None,
            loss_of_prediction=None,
            curvature=HESSIAN,
            modules=isolated.modules,
            fixed={},
            origin=None,
            captures={},
        )
        return cost

    def _set(self, **values: Any) -> None:
        # A frozen dataclass refuses assignment; this is its constructor.
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def parts(self) -> dict[str, Any]:
        """What of the user's a copy takes along, by the name of the argument that it came as."""
        return {
            "loss": self.loss,
            "model" if self.predict is not None else "f": self.total,
            "data": self.data,
            "penalty": self.penalty,
            "curvature": self.curvature,
        }

    def __copy__(self) -> "Cost":
        other = object.__new__(Cost)
        other._set(**vars(self))
        return other

    # A copy makes its captures anew, all but what was seen to fail; the user's own model is not in
    # it, and it may be in another process.
    def __getstate__(self) -> dict[str, Any]:
        failed = {key: dict(self.captures[key]) for key in FAILURES if key in self.captures}
        origin = None if self.origin is None else _gone
        return {**vars(self), "captures": failed, "origin": origin}

    def __str__(self) -> str:
        return f"Cost({self._summary})"

    def _display(self) -> Display:
        return Display(
            "Cost",
            self._summary,
            facts(
                numbers=f"{str(self.dtype).removeprefix('torch.')} on {self.device}",
                notes="\n".join(self.notes),
            ),
            self.layout.table,
            ("hesse.plan(cost)", "hesse.hessian(cost)", "hesse.quadratic(cost)"),
        )

    @property
    def _summary(self) -> str:
        parts = [self.name, *([self.loss.name] if self.loss else [])]
        if self.data is not None:
            parts.append(f"{self.samples} sample{'s' * (self.samples != 1)}")
        if self.penalty is not None:
            parts.append(
                f"penalty {self.penalty:g}" if isinstance(self.penalty, int | float) else "penalty"
            )
        asked = "" if self.curvature is HESSIAN else f", {self.curvature.name}"
        return f"{', '.join(parts)}, P = {self.layout.size}{asked}"

    if not TYPE_CHECKING:  # which is to see what is not there

        def __getattr__(self, name: str) -> NoReturn:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in sys.modules["hesse"].__all__:
                raise HesseAttributeError(f"{text}; it is a function of it, hesse.{name}(cost)")
            raise AttributeError(text)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the work is done in: that of the widest parameter."""
        return widest(self.parameters)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(iter(self.parameters.values())).device

    @property
    def theta(self) -> Float[Tensor, " P"]:
        """The flat vector of the parameters, in layout order."""
        return self.layout.flatten(self.parameters)

    def at(
        self, parameters: Mapping[str, Tensor] | Shaped[Tensor, " P"] | Shaped[np.ndarray, " P"]
    ) -> "Cost":
        """The same cost at other parameters, given as a dictionary or a flat vector."""
        if isinstance(parameters, np.ndarray):
            parameters = torch.tensor(parameters)
        if not isinstance(parameters, Mapping | Tensor):
            raise HesseTypeError(
                "parameters: expected a dictionary {name: Tensor} or a flat tensor, got"
                f" {type(parameters).__name__}"
            )
        given = parameters if isinstance(parameters, Mapping) else self.layout.unflatten(parameters)
        whole = self.layout.flatten(given, "parameters")  # refuses other names and shapes
        if whole.is_meta:
            raise HesseValueError(
                "parameters: expected tensors with entries, got some on the meta device"
            )
        moved = {
            name: given[name].detach().to(old, copy=True) for name, old in self.parameters.items()
        }
        require_finite(moved)
        other = copy.copy(self)
        other._set(parameters=moved)
        return other

    def batches(self) -> Iterator[Batch | None]:
        """The batches, in the order of the data; a single ``None`` for a function of the parameters
        alone."""
        return iter([None]) if self.data is None else iter(self.data)

    def batch_cost(self, parameters: Parameters, batch: Batch | None) -> Tensor:
        """What one batch adds to J, penalty left out: a scalar that can be differentiated in the
        parameters."""
        return self.total(parameters, batch).reshape(()) * self.scale

    def holding(self, parameters: Parameters) -> contextlib.AbstractContextManager[None]:
        """Keep these in the private modules while something is differentiated: a layer may run
        again on the way back."""
        require_mapping(parameters, "parameters", Tensor, "Tensor")
        return self.modules.holding({**self.fixed, **parameters})

    def squared_error_from_own_predictions(self) -> "Cost | None":
        """½ Σ ‖ŷ(θ) − stop(ŷ)‖², scaled as the cost is. Its Hessian here is (∂ŷ/∂θ)ᵀ(∂ŷ/∂θ),
        Gauss–Newton without the loss's curvature."""
        predict = self.predict
        if predict is None:
            return None

        def total(parameters: Parameters, batch: Batch | None) -> Tensor:
            assert batch is not None
            predicted = tensors_in(predict(parameters, batch))
            parts = [
                0.5 * (part - part.detach()).square().sum()
                for part in predicted
                if part.is_floating_point()
            ]
            return torch.stack(parts).sum()

        return self.with_total(total, penalty=None)

    def with_total(
        self, total: Callable[[Parameters, Batch | None], Tensor], **others: Any
    ) -> "Cost":
        """A cost like this one of another function, of which the Hessian is asked for."""
        other = copy.copy(self)
        # What is traced of another function, or cannot be, says nothing of this one.
        other._set(total=total, curvature=HESSIAN, captures={}, **others)
        return other

    def without_penalty(self) -> "Cost":
        """The same cost, its penalty left out."""
        other = copy.copy(self)
        other._set(penalty=None)
        return other

    def with_curvature(self, curvature: Any) -> "Cost":
        """The same cost, of which this curvature is asked for: a `Curvature` or its name.

        Raises:
            HesseError: there is no such curvature, or this cost has none.
        """
        chosen = curvature_named(curvature)
        if chosen is self.curvature:
            return self
        chosen.check(self)
        other = copy.copy(self)
        other._set(curvature=chosen)
        return other

    @property
    def curved(self) -> "Cost":
        """The cost that blocks and products of its curvature are taken of."""
        return self.curvature.applied(self)

    @property
    def curved_penalty(self) -> Penalty | None:
        """The penalty, where the curvature that is asked for holds it."""
        return self.penalty if self.curvature.holds_penalty else None

    def penalty_cost(self, parameters: Parameters) -> Tensor:
        """penalty(θ), a scalar that can be differentiated; zero where there is none."""
        require_mapping(parameters, "parameters", Tensor, "Tensor")
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        return penalty_value(self.penalty, parameters, zero)


def cost_with_curvature(cost: Any, curvature: Any) -> Cost:
    """The cost, of which a curvature is asked for: what every function that takes both begins with.

    Raises:
        HesseTypeError: it is no cost, or the curvature is neither a name nor a `Curvature`.
        HesseError: there is no such curvature, or this cost has none.
    """
    require_cost(cost)
    return cost.with_curvature(curvature)


# Of what capture keeps: which ways of computing were seen to be wrong, and are not taken again.
FAILURES = ("failures", "failed methods")


def _gone() -> None:
    """The way back to the user's parameters, where their model is not here."""


def require_cost(cost: Any) -> None:
    """A cost, which every function begins with."""
    require_instance(cost, Cost, "cost", "hesse.Cost(model, loss, data)")
