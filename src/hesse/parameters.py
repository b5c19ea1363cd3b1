"""θ: which parameters a cost is asked about, by name, and what is required of them."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, in_a_line, nearest

Parameters = dict[str, Tensor]
# The forms of the ``params`` argument of a cost.
ParameterChoice = Sequence[str] | str | Callable[[str], bool] | Mapping[str, Tensor] | None

# What the names of a loss's own parameters begin with.
LOSS = "loss."
# Wide enough to differentiate twice: in half precision second derivatives are mostly rounding, so
# narrower parameters are computed in float32.
_WIDE_ENOUGH = (torch.float32, torch.float64)


def as_leaves(parameters: Mapping[str, Tensor]) -> Parameters:
    """The same numbers as leaves to differentiate in."""
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


def widest(parameters: Parameters) -> torch.dtype:
    """The dtype of the widest parameter, which the work is done in."""
    return max((value.dtype for value in parameters.values()), key=lambda dtype: dtype.itemsize)


def slopes_in(leaves: Mapping[str, Tensor], value: Tensor) -> Parameters:
    """∂value/∂leaf by name; zeros where it depends on none of them."""
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    slopes = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


def choose(
    model: nn.Module, params: Any, loss: nn.Module | None = None
) -> tuple[Parameters, tuple[str, ...]]:
    """The tensors asked about, and the names of those held fixed (other parameters and buffers).

    Names are those of ``model.named_parameters()``, also where the model is wrapped (``module.*``,
    ``_orig_mod.*``). A tied parameter stands once, under its first name, and is chosen by any of
    its names. The parameters of a loss stand under ``loss.*``.
    """
    if isinstance(params, Mapping):
        raise HesseTypeError(
            "params: for a module give names, glob patterns or a predicate; tensors are for a plain"
            " function"
        )
    everything = list(model.named_parameters(remove_duplicate=False)) + loss_tensors(loss)[0]
    # A tied parameter has several names; the first of them stands for all.
    first: dict[int, str] = {}
    for name, parameter in everything:
        first.setdefault(id(parameter), name)
    known = {name: first[id(parameter)] for name, parameter in everything}
    named = {name: parameter for name, parameter in everything if first[id(parameter)] == name}
    # A parameter of the model may be called "loss.…" itself.
    clash = [name for name, _ in loss_tensors(loss)[0] if name in dict(model.named_parameters())]
    if clash:
        raise HesseValueError(
            f"loss: its parameter would stand as {clash[0]!r}, which is a parameter of the model"
            " too; rename one"
        )
    if params is None:
        picked = {name for name, parameter in named.items() if parameter.requires_grad}
        if not picked:
            raise HesseValueError(
                "params: no parameter of the model requires a gradient; name those to differentiate"
                " in params="
            )
    elif callable(params):
        try:
            picked = {known[name] for name in known if params(name)}
        except Exception as error:
            raise HesseValueError(
                f"params: the predicate failed on a name: {in_a_line(error)}"
            ) from error
    else:
        picked = dict.fromkeys(
            known[name] for pattern in _patterns(params) for name in _matching(pattern, list(known))
        )
    if not picked:
        raise HesseValueError(
            f"params: the choice is empty; the parameters are {nearest('', list(named))}"
        )
    held = [name for name in named if name not in picked] + [
        name for name, _ in model.named_buffers()
    ]
    held += [name for name, _ in loss_tensors(loss)[1]]
    # As the caller names them, where there is an order in that; else as the model has them.
    order = (
        picked if isinstance(params, list | tuple) else [name for name in named if name in picked]
    )
    return {name: named[name] for name in order}, tuple(held)


def loss_tensors(
    loss: nn.Module | None,
) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, Tensor]]]:
    """The parameters and the buffers of a loss, by the names that they have in a cost."""
    if loss is None:
        return [], []
    parameters = [(f"{LOSS}{name}", parameter) for name, parameter in loss.named_parameters()]
    return parameters, [(f"{LOSS}{name}", buffer) for name, buffer in loss.named_buffers()]


def _patterns(params: Any) -> list[str]:
    if not isinstance(params, Iterable):
        raise HesseTypeError(
            "params: expected names, glob patterns or a predicate of the name, got"
            f" {type(params).__name__}"
        )
    patterns = [params] if isinstance(params, str) else list(params)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise HesseTypeError(
                "params: expected names, glob patterns or a predicate of the name, got a"
                f" {type(pattern).__name__} among them; the names are those of"
                " model.named_parameters()"
            )
    return patterns


def _matching(pattern: str, names: list[str]) -> list[str]:
    matching = [name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)]
    if not matching:
        raise HesseKeyError(
            f"params: no parameter is named or matches {pattern!r}; the nearest:"
            f" {nearest(pattern, names)}"
        )
    return matching


def tensors_by_name(params: Any, usage: str) -> Parameters:
    """The tensors that a function is differentiated in, as a dictionary; ``usage`` is the call that
    takes one."""
    if (
        not isinstance(params, Mapping)
        or not params
        or not all(isinstance(value, Tensor) for value in params.values())
    ):
        raise HesseTypeError(
            f"params: a plain function needs its tensors by name: {usage}; got"
            f" {type(params).__name__}"
        )
    return dict(params)


def require_differentiable(chosen: Parameters) -> tuple[tuple[str, ...], torch.dtype | None]:
    """Parameters with values that are real, finite and on one device; gives notes for the plan, and
    the dtype to widen parameters of half precision to (``None`` where there are none)."""
    for name, parameter in chosen.items():
        if nn.parameter.is_lazy(parameter):
            raise HesseValueError(
                f"params: {name!r} has no values yet; run the model once on some data first"
            )
        if parameter.is_complex() or not parameter.is_floating_point():
            raise HesseTypeError(
                f"params: {name!r} is {str(parameter.dtype).removeprefix('torch.')}; second"
                " derivatives are taken in real floating parameters: leave it out with params=, or"
                " split it into real and imaginary parts"
            )
    devices = {str(parameter.device) for parameter in chosen.values()}
    if len(devices) > 1:
        raise HesseValueError(
            f"params: the parameters lie on several devices ({', '.join(sorted(devices))}); move"
            " the model to one"
        )
    if not any(parameter.numel() for parameter in chosen.values()):
        shapes = ", ".join(
            f"{name!r} of shape {tuple(parameter.shape)}"
            for name, parameter in list(chosen.items())[:3]
        )
        raise HesseValueError(
            f"params: none of them has an entry ({shapes}), so there is nothing to differentiate in"
        )
    # After the other checks, which need no values.
    if devices == {"meta"}:
        raise HesseValueError(
            "params: the parameters lie on the meta device and have no values; load them"
        )
    require_finite(chosen)
    narrow = sorted(
        {
            str(p.dtype).removeprefix("torch.")
            for p in chosen.values()
            if p.dtype not in _WIDE_ENOUGH
        }
    )
    if not narrow:
        return (), None
    return (f"{' and '.join(narrow)} parameters are computed in float32",), torch.float32


def require_finite(parameters: Mapping[str, Tensor]) -> None:
    """Parameters without nan and inf."""
    for name, parameter in parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            bad = int((~torch.isfinite(parameter)).sum())
            raise HesseValueError(
                f"params: {name!r} has {bad} entries that are not finite (nan or inf); has training"
                " diverged?"
            )


def copies(tensors: Parameters, wide: torch.dtype | None) -> Parameters:
    """The same numbers in memory of their own, cut off from any graph, in ``wide`` where it is
    given."""
    return {
        name: tensor.detach().to(wide or tensor.dtype, copy=True)
        for name, tensor in tensors.items()
    }
