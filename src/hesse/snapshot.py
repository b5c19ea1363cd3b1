"""The snapshot of the user's model that a cost keeps: a private copy of the module, which later
training does not reach; the way back to the user's own parameters; and what was captured of it."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hesse.errors import HesseTypeError, HesseValueError
from hesse.losses.known import identity
from hesse.parameters import loss_tensors
from hesse.process.recent import Recent


def snapshot(model: nn.Module, wide: torch.dtype | None) -> nn.Module:
    """A private copy of the module, so that later training and our evaluations do not meet; of the
    dtype ``wide`` where that is given.

    Raises:
        HesseError: it cannot be copied, lies on several devices, or its forward or its gradients
            are not those of a function: dropout, gradients scaled by frequency.
    """
    _require_one_device(model)
    _require_no_dropout(model)
    _require_true_gradients(model)
    # deepcopy runs the user's own __deepcopy__ and __getstate__, which may raise anything.
    try:
        private = _private_copy(model)
    except Exception as error:
        raise HesseTypeError(
            f"model: this {type(model).__name__} cannot be copied ({error}); a cost keeps a private"
            " copy of the module: remove what cannot be copied from its attributes, or use"
            " Cost.from_function"
        ) from error
    for module in private.modules():
        # They are of the backward pass and no part of the function; hooks of the forward are.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        if (
            isinstance(
                module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm
            )
            and module.training
        ):
            # In training mode these buffers are written and never read; writing has no derivative.
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return private if wide is None else private.to(wide)


# What wraps a module to run it faster or on several devices, with the name that the module has in
# it. By their own names: the compiler takes seconds to load.
_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}


class _Unwrapped(nn.Module):
    """In the place of a wrapper, the module alone: its parameters keep the names that they have in
    the wrapper."""

    def __init__(self, name: str, module: nn.Module, training: bool) -> None:
        super().__init__()
        self.add_module(name, module)
        self._name, self.training = name, training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self._name)(*args, **kwargs)


def _private_copy(model: nn.Module) -> nn.Module:
    """A copy in which nothing speaks to other devices or processes."""
    memory: dict[int, Any] = dict(_detached_values(model))
    for wrapper in reversed(list(model.modules())):  # the innermost first
        kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(wrapper).__mro__)
        name = next((_WRAPPERS[kind] for kind in kinds if kind in _WRAPPERS), None)
        if name is not None:
            memory[id(wrapper)] = _Unwrapped(
                name, copy.deepcopy(getattr(wrapper, name), memory), wrapper.training
            )
    return copy.deepcopy(model, memory)


def _detached_values(model: nn.Module) -> dict[int, Tensor]:
    """What a copy takes in place of tensors that a forward left on its module: their values, for
    their graphs have no copy."""
    kept = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    ]
    return {id(value): value.detach().clone() for value in kept if not value.is_leaf}


def _require_one_device(model: nn.Module) -> None:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    # A number on the CPU goes with tensors on any device.
    places = {
        str(tensor.device): name
        for name, tensor in tensors
        if tensor.ndim or tensor.device.type != "cpu"
    }
    if len(places) > 1:
        raise HesseValueError(
            "model: its tensors lie on several devices"
            f" ({', '.join(f'{name!r} on {place}' for place, name in places.items())}); a cost"
            " works on one: move the model with model.to(device), its data are moved there"
        )


def _require_true_gradients(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq:
            raise HesseValueError(
                f"model: {name or 'the model'!r} has scale_grad_by_freq=True, which divides"
                " gradients by how often a token occurs: they are the derivatives of no cost, and"
                " have no Hessian; set it to False"
            )


def _require_no_dropout(model: nn.Module) -> None:
    for name, module in model.named_modules():
        rate = (
            getattr(module, "p", 0.0)
            if isinstance(module, nn.modules.dropout._DropoutNd)
            else getattr(module, "dropout", 0.0)
        )
        if module.training and isinstance(rate, int | float) and rate > 0:
            raise HesseValueError(
                f"model: dropout is active in {name or 'the model'!r} (p = {rate:g}, training"
                " mode), so the cost is random; call model.eval(), or set the rate to 0"
            )


def origin_of(
    model: nn.Module, loss: nn.Module | None
) -> Callable[[], dict[str, nn.Parameter] | None]:
    """The user's own parameters by name, as long as their model is there."""
    # Weakly: a cost has its own copy and does not keep the user's model from being freed.
    held = [weakref.ref(module) for module in (model, loss) if module is not None]

    def find() -> dict[str, nn.Parameter] | None:
        alive = [module() for module in held]
        if alive[0] is None:
            return None
        return dict(alive[0].named_parameters()) | dict(
            loss_tensors(alive[1])[0] if len(alive) > 1 else ()
        )

    return find


# By model, then by loss and its options; a model that is gone takes its captures along. A lambda
# written anew is another loss each time: of a model only so many of the last ones are kept.
_MOST_LOSSES = 8
_CAPTURES: "weakref.WeakKeyDictionary[nn.Module, Recent[dict[Any, Any]]]" = (
    weakref.WeakKeyDictionary()
)


def captures_of(model: Any, loss: Any) -> dict[Any, Any]:
    """What capture keeps for a module and a loss: a cost made anew after a step of training is not
    traced again."""
    if not isinstance(model, nn.Module):
        return {}
    return _CAPTURES.setdefault(model, Recent(_MOST_LOSSES)).kept(identity(loss), dict)
