"""The user's function in float64, whatever float32 constants it holds, by casting what its operations are given."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
# Methods of a tensor that name a dtype by their own name.
_CASTS = {"float", "half", "bfloat16"}


class Widened(TorchFunctionMode):
    """While it is entered, floating tensors that go into an operation or come out of it are float64.

    Attributes:
        autocast: whether anything ran under autocast.
        without_gradients: whether anything ran under ``no_grad``, or was detached.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autocast = self.without_gradients = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.autocast |= torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        if name in _CASTS:
            return _wide(args[0])
        in_place = (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__set__")
        first = args[:1] if in_place else pytree.tree_map(_wide, args[:1])
        rest, options = pytree.tree_map(_wide, (args[1:], kwargs or {}))
        result = func(*first, *rest, **options)
        self.without_gradients |= not torch.is_grad_enabled() or name == "detach"
        return result if in_place or "out" in options else pytree.tree_map_only(Tensor, _wide, result)


def _wide(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.dtype in _NARROW:
        return leaf.to(torch.float64)
    return torch.float64 if isinstance(leaf, torch.dtype) and leaf in _NARROW else leaf
