"""What a cost keeps of the user's model: the parameters asked about, the values held fixed, and a
private copy of the module."""

import contextlib
import copy
import fnmatch
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, in_a_line, nearest
from hesse.written_out import WrittenOut

Parameters = dict[str, Tensor]
Choice = Sequence[str] | str | Callable[[str], bool] | Mapping[str, Tensor] | None

# What the names of a loss's own parameters begin with.
LOSS = "loss."
# Wide enough to differentiate twice; narrower parameters are computed in float32.
_COMPUTED = (torch.float32, torch.float64)


def as_leaves(parameters: Mapping[str, Tensor]) -> Parameters:
    """The same numbers as leaves to differentiate in."""
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


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
    everything = list(model.named_parameters(remove_duplicate=False)) + own_tensors(loss)[0]
    first: dict[int, str] = {}
    for name, parameter in everything:
        first.setdefault(id(parameter), name)
    known = {name: first[id(parameter)] for name, parameter in everything}
    named = {name: parameter for name, parameter in everything if first[id(parameter)] == name}
    clash = [name for name, _ in own_tensors(loss)[0] if name in dict(model.named_parameters())]
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
    held += [name for name, _ in own_tensors(loss)[1]]
    # As the caller names them, where there is an order in that; else as the model has them.
    order = (
        picked if isinstance(params, list | tuple) else [name for name in named if name in picked]
    )
    return {name: named[name] for name in order}, tuple(held)


def own_tensors(
    loss: nn.Module | None,
) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, Tensor]]]:
    """The parameters and the buffers of a loss, by the names that they have in a cost."""
    if loss is None:
        return [], []
    parameters = [(f"{LOSS}{name}", parameter) for name, parameter in loss.named_parameters()]
    return parameters, [(f"{LOSS}{name}", buffer) for name, buffer in loss.named_buffers()]


def _patterns(params: Any) -> list[str]:
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


def given(params: Any, usage: str) -> Parameters:
    """The tensors of a plain function, as a dictionary."""
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


def check_parameters(chosen: Parameters) -> tuple[tuple[str, ...], torch.dtype | None]:
    """Notes for the plan, and the dtype to widen narrow parameters to (``None`` where nothing is
    narrow)."""
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
    if devices == {"meta"}:
        raise HesseValueError(
            "params: the parameters lie on the meta device and have no values; load them"
        )
    check_finite(chosen)
    narrow = sorted(
        {str(p.dtype).removeprefix("torch.") for p in chosen.values() if p.dtype not in _COMPUTED}
    )
    if not narrow:
        return (), None
    return (f"{' and '.join(narrow)} parameters are computed in float32",), torch.float32


def check_finite(parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters that are nan or infinite."""
    for name, parameter in parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            bad = int((~torch.isfinite(parameter)).sum())
            raise HesseValueError(
                f"params: {name!r} has {bad} entries that are not finite (nan or inf); has training"
                " diverged?"
            )


def snapshot(model: nn.Module, wide: torch.dtype | None) -> nn.Module:
    """A private copy of the module, so that later training and our evaluations do not meet."""
    _check_devices(model)
    _check_dropout(model)
    _check_embeddings(model)
    try:
        private = _copied(model)
    except Exception as error:
        raise HesseTypeError(
            f"model: this {type(model).__name__} cannot be copied ({error}); a cost keeps a private"
            " copy of the module: remove what cannot be copied from its attributes, or use"
            " Cost.from_function"
        ) from error
    for module in private.modules():
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


@final
class Modules:
    """The private modules of a cost: the model, and a loss that has tensors of its own, its names
    beginning with ``loss.``.

    Attributes:
        model: the model.
        recurrent: whether there are recurrent layers in it.
        tensors: all parameters and buffers by name, tied ones under every name.
        written_out: the functions that run in them as hesse writes them out, with what is amiss
            with them in PyTorch; see `hesse.written_out`.
    """

    def __init__(self, model: nn.Module | None, loss: nn.Module | None = None) -> None:
        self.model = model
        # Threads that share a cost take turns: what one of them holds in the modules, all of them
        # would see.
        self._turn = threading.RLock()
        self.written_out: dict[str, str] = {}
        self._places: dict[str, tuple[dict[str, Any], str]] = {}
        self._tied: dict[int, list[str]] = {}
        for prefix, top in (("", model), (LOSS, loss)):
            for path, module in [] if top is None else top.named_modules(remove_duplicate=False):
                for store in (module._parameters, module._buffers):
                    for key, tensor in store.items():
                        if tensor is not None:
                            name = f"{prefix}{path}.{key}" if path else f"{prefix}{key}"
                            self._places[name] = (store, key)
                            self._tied.setdefault(id(tensor), []).append(name)
        self._all = [module for top in (model, loss) if top is not None for module in top.modules()]
        self.recurrent = model is not None and any(
            isinstance(module, nn.RNNBase) for module in model.modules()
        )

    @property
    def tensors(self) -> Parameters:
        """What lies in the modules now."""
        return {name: store[key] for name, (store, key) in self._places.items()}

    def attributes(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        """The plain attributes of the modules: counters, a last output, a switch."""
        return [(module, _plain(module)) for module in self._all]

    def put_back(self, before: list[tuple[nn.Module, dict[str, Any]]]) -> bool:
        """Give modules the plain attributes that they had; says whether any had another."""
        changed = False
        for module, attributes in before:
            now = _plain(module)
            for name in now.keys() | attributes.keys():
                if name not in attributes:
                    vars(module).pop(name)
                elif name not in now or now[name] is not attributes[name]:
                    vars(module)[name] = attributes[name]
                else:
                    continue
                changed = True
        return changed

    @contextlib.contextmanager
    def holding(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Evaluate with these in the places of their names, and of the names tied to them."""
        names = {name: tied for tied in self._tied.values() for name in tied if name in tensors}
        put = {
            other: tensors[name]
            for name, tied in names.items()
            for other in tied
            if other == name or other not in tensors
        }
        with self._turn:
            before = {name: self._places[name][0][self._places[name][1]] for name in put}
            try:
                self._put(put)
                with WrittenOut() if self.written_out else contextlib.nullcontext():
                    yield
            finally:
                self._put(before)

    def _put(self, tensors: Mapping[str, Any]) -> None:
        for name, tensor in tensors.items():
            store, key = self._places[name]
            store[key] = tensor


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


def _copied(model: nn.Module) -> nn.Module:
    """A copy in which nothing speaks to other devices or processes."""
    memory: dict[int, Any] = dict(_computed(model))
    for wrapper in reversed(list(model.modules())):  # the innermost first
        kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(wrapper).__mro__)
        name = next((_WRAPPERS[kind] for kind in kinds if kind in _WRAPPERS), None)
        if name is not None:
            memory[id(wrapper)] = _Unwrapped(
                name, copy.deepcopy(getattr(wrapper, name), memory), wrapper.training
            )
    return copy.deepcopy(model, memory)


def _computed(model: nn.Module) -> dict[int, Tensor]:
    """What a copy takes in place of tensors that a forward left on its module: their values, for
    their graphs have no copy."""
    kept = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    ]
    return {id(value): value.detach().clone() for value in kept if not value.is_leaf}


def _plain(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that are its own affair: not its tensors, modules and hooks, nor
    PyTorch's flat weights."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _check_devices(model: nn.Module) -> None:
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


def _check_embeddings(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq:
            raise HesseValueError(
                f"model: {name or 'the model'!r} has scale_grad_by_freq=True, which divides"
                " gradients by how often a token occurs: they are the derivatives of no cost, and"
                " have no Hessian; set it to False"
            )


def _check_dropout(model: nn.Module) -> None:
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
    held = [weakref.ref(module) for module in (model, loss) if module is not None]

    def find() -> dict[str, nn.Parameter] | None:
        found = [module() for module in held]
        if found[0] is None:
            return None
        return dict(found[0].named_parameters()) | dict(
            own_tensors(found[1])[0] if len(found) > 1 else ()
        )

    return find
