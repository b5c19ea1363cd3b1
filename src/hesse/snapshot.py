"""What a cost keeps of the user's model: the parameters asked about, the values held fixed, and a private copy of the module."""

import copy
import fnmatch
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest

Parameters = dict[str, Tensor]
Choice = Sequence[str] | str | Callable[[str], bool] | Mapping[str, Tensor] | None

# Wide enough to differentiate twice; narrower parameters are computed in float32.
_COMPUTED = (torch.float32, torch.float64)


def choose(model: nn.Module, params: Any) -> tuple[Parameters, tuple[str, ...]]:
    """The tensors asked about, and the names of those held fixed (other parameters and buffers).

    A tied parameter stands once, under its first name, and is chosen by any of its names.
    """
    if isinstance(params, Mapping):
        raise HesseTypeError("params: for a module give names, glob patterns or a predicate; tensors are for a plain function")
    named = dict(model.named_parameters())
    first = {id(parameter): name for name, parameter in named.items()}
    known = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    if params is None:
        picked = {name for name, parameter in named.items() if parameter.requires_grad}
        if not picked:
            raise HesseValueError("params: no parameter of the model requires a gradient; name those to differentiate in params=")
    elif callable(params):
        picked = {known[name] for name in known if params(name)}
    else:
        picked = {known[name] for pattern in _patterns(params) for name in _matching(pattern, list(known))}
    if not picked:
        raise HesseValueError(f"params: the choice is empty; the parameters are {nearest('', list(named))}")
    held = [name for name in named if name not in picked] + [name for name, _ in model.named_buffers()]
    return {name: named[name] for name in named if name in picked}, tuple(held)


def _patterns(params: Any) -> list[str]:
    patterns = [params] if isinstance(params, str) else list(params)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise HesseTypeError(
                f"params: expected names, glob patterns or a predicate of the name, got a {type(pattern).__name__} among them; "
                "the names are those of model.named_parameters()"
            )
    return patterns


def _matching(pattern: str, names: list[str]) -> list[str]:
    matching = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
    if not matching:
        raise HesseKeyError(f"params: no parameter is named or matches {pattern!r}; the nearest: {nearest(pattern, names)}")
    return matching


def given(params: Any, usage: str) -> Parameters:
    """The tensors of a plain function, as a dictionary."""
    if not isinstance(params, Mapping) or not params or not all(isinstance(value, Tensor) for value in params.values()):
        raise HesseTypeError(f"params: a plain function needs its tensors by name: {usage}; got {type(params).__name__}")
    return dict(params)


def check_parameters(chosen: Parameters) -> tuple[tuple[str, ...], torch.dtype | None]:
    """Notes for the plan, and the dtype to widen narrow parameters to (``None`` where nothing is narrow)."""
    for name, parameter in chosen.items():
        if parameter.is_complex() or not parameter.is_floating_point():
            raise HesseTypeError(
                f"params: {name!r} is {str(parameter.dtype).removeprefix('torch.')}; second derivatives are taken in real "
                "floating parameters: leave it out with params=, or split it into real and imaginary parts"
            )
    devices = {str(parameter.device) for parameter in chosen.values()}
    if len(devices) > 1:
        raise HesseValueError(
            f"params: the parameters lie on several devices ({', '.join(sorted(devices))}); move the model to one"
        )
    check_finite(chosen)
    narrow = sorted({str(p.dtype).removeprefix("torch.") for p in chosen.values() if p.dtype not in _COMPUTED})
    if not narrow:
        return (), None
    return (f"{' and '.join(narrow)} parameters are computed in float32",), torch.float32


def check_finite(parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters that are nan or infinite."""
    for name, parameter in parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            bad = int((~torch.isfinite(parameter)).sum())
            raise HesseValueError(f"params: {name!r} has {bad} entries that are not finite (nan or inf); has training diverged?")


def snapshot(model: nn.Module, held: tuple[str, ...], wide: torch.dtype | None) -> tuple[nn.Module, Parameters]:
    """A private copy of the module and its held tensors, so that later training and our evaluations do not meet."""
    _check_dropout(model)
    try:
        private = copy.deepcopy(model)
    except Exception as error:
        raise HesseTypeError(
            f"model: this {type(model).__name__} cannot be copied ({error}); a cost keeps a private copy of the module: "
            "remove tensors that were computed with gradients from its attributes, or use Cost.from_function"
        ) from error
    for module in private.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm) and module.training:
            # In training mode these buffers are written and never read; writing has no derivative.
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
        if isinstance(module, nn.utils.parametrizations._WeightNorm):
            setattr(module, "forward", functools.partial(_weight_norm, dim=module.dim))  # noqa: B010 (a method, to the type checker)
    if wide is not None:
        private = private.to(wide)
    tensors = {**dict(private.named_parameters()), **dict(private.named_buffers())}
    return private, {name: tensors[name].detach() for name in held if name in tensors}


def _weight_norm(magnitude: Tensor, direction: Tensor, dim: int) -> Tensor:
    """g v / ‖v‖ in plain operations: the second derivatives of torch's fused kernel are wrong (2.13; not even symmetric)."""
    return direction * (magnitude / torch.norm_except_dim(direction, 2, dim))


def _check_dropout(model: nn.Module) -> None:
    for name, module in model.named_modules():
        rate = getattr(module, "p", 0.0) if isinstance(module, nn.modules.dropout._DropoutNd) else getattr(module, "dropout", 0.0)
        if module.training and isinstance(rate, int | float) and rate > 0:
            raise HesseValueError(
                f"model: dropout is active in {name or 'the model'!r} (p = {rate:g}, training mode), so the cost is random; "
                "call model.eval(), or set the rate to 0"
            )
