"""The private modules of a cost: copies of the user's model and loss, with tensors that can be put
in the places of their parameters."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, final

from torch import Tensor, nn

from hesse.decompositions import Decompositions
from hesse.parameters import LOSS, Parameters
from hesse.process.undo import undone


@final
class PrivateModules:
    """The private modules of a cost: the model, and a loss that has tensors of its own, its names
    beginning with ``loss.``.

    Attributes:
        model: the model.
        recurrent: whether there are recurrent layers in it.
        tensors: all parameters and buffers by name, tied ones under every name.
        decomposed: the functions that run in them as hesse decomposes them, with what is amiss
            with them in PyTorch; see `hesse.decompositions`.
    """

    def __init__(self, model: nn.Module | None, loss: nn.Module | None = None) -> None:
        self.model, self._loss = model, loss
        # Threads that share a cost take turns: what one of them holds in the modules, all of them
        # would see.
        self._turn = threading.RLock()
        self.decomposed: dict[str, str] = {}
        # Where each tensor lies: the dictionary of its module, and its key there.
        self._slots: dict[str, tuple[dict[str, Any], str]] = {}
        self._tied: dict[int, list[str]] = {}
        for prefix, top in (("", model), (LOSS, loss)):
            for path, module in [] if top is None else top.named_modules(remove_duplicate=False):
                for store in (module._parameters, module._buffers):
                    for key, tensor in store.items():
                        if tensor is not None:
                            name = f"{prefix}{path}.{key}" if path else f"{prefix}{key}"
                            self._slots[name] = (store, key)
                            self._tied.setdefault(id(tensor), []).append(name)
        self._all = [module for top in (model, loss) if top is not None for module in top.modules()]
        self.recurrent = model is not None and any(
            isinstance(module, nn.RNNBase) for module in model.modules()
        )

    # The lock stays, and where the tensors lie is found again in the modules of the copy.
    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "loss": self._loss, "decomposed": self.decomposed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        PrivateModules.__init__(self, state["model"], state["loss"])
        self.decomposed = state["decomposed"]

    @property
    def tensors(self) -> Parameters:
        """What lies in the modules now."""
        return {name: store[key] for name, (store, key) in self._slots.items()}

    def attributes(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        """The plain attributes of the modules: counters, a last output, a switch."""
        return [(module, _plain_attributes(module)) for module in self._all]

    def put_back(self, before: list[tuple[nn.Module, dict[str, Any]]]) -> bool:
        """Give modules the plain attributes that they had; says whether any had another."""
        changed = False
        for module, attributes in before:
            now = _plain_attributes(module)
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
        # A tied parameter is put under each of its names, unless another tensor is given for that.
        put = {
            other: tensors[name]
            for name, tied in names.items()
            for other in tied
            if other == name or other not in tensors
        }
        # The tensors that lay there come back, whatever the user's code raises.
        with self._turn:
            before = {name: self._slots[name][0][self._slots[name][1]] for name in put}
            with undone(lambda: self._put(before)):
                self._put(put)
                with Decompositions() if self.decomposed else contextlib.nullcontext():
                    yield

    def _put(self, tensors: Mapping[str, Any]) -> None:
        for name, tensor in tensors.items():
            store, key = self._slots[name]
            store[key] = tensor


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that are its own affair: not its tensors, modules and hooks, nor
    the flat weights of recurrent layers, all of which PyTorch keeps under names with an
    underscore."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}
