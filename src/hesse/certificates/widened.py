"""The user's function in float64, whatever float32 constants it holds, and with what it holds fixed
held fixed."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_NARROWER = (torch.float32, torch.float16, torch.bfloat16)
# Methods of a tensor that name a dtype by their own name.
_CASTS = {"float", "half", "bfloat16"}
# Functions whose second derivative PyTorch gets wrong near some values only: being right at one θ
# says nothing of another.
_WRONG_NEAR_SOME_VALUES = {"binary_cross_entropy"}
_DATA = Tensor.data.__get__  # type: ignore[attr-defined]


class Widened(TorchFunctionMode):
    """While it is entered, floating tensors that go into an operation or come out of it are
    float64.

    What the user's function detaches, or computes under ``no_grad``, is kept the first time, and is
    given again in later evaluations: PyTorch's derivatives hold it fixed, and so must differences
    that they are compared with.

    Attributes:
        autocast: whether anything ran under autocast.
        fixed: whether floating tensors were held fixed that would have moved with θ.
        scaled: whether an embedding's gradient is scaled by frequency.
        wrong_near_some_values: whether a function ran whose second derivative PyTorch gets wrong
            near some values only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autocast = self.scaled = self.fixed = self.wrong_near_some_values = False
        self._kept: list[Any] = []
        self._place: int | None = None
        # Inside a block of the user's without gradients; how deep in blocks with gradients inside a
        # custom function's forward, which runs without.
        self._without_gradients, self._inside = False, 0

    def again(self) -> "Widened":
        """Ready for another evaluation: the first one keeps, the later ones are given what was
        kept."""
        self._place = None if self._place is None else 0
        self._without_gradients, self._inside = False, 0
        return self

    def finished(self) -> None:
        """The first evaluation is done."""
        self._place = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options: dict[str, Any] = kwargs or {}
        if func is torch._C._set_grad_enabled:
            (on,) = args
            self._switched(on, torch.is_grad_enabled())
            return func(on)
        self.autocast |= torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        name = getattr(func, "__name__", "")
        self.scaled |= name == "embedding" and bool(
            options.get("scale_grad_by_freq", args[5] if len(args) > 5 else False)
        )
        self.wrong_near_some_values |= name in _WRONG_NEAR_SOME_VALUES
        detaches = (
            torch.is_grad_enabled() and not self._inside and (name == "detach" or func == _DATA)
        )
        in_place = (name.endswith("_") and not name.endswith("__")) or name in (
            "__setitem__",
            "__set__",
        )
        if name in _CASTS:
            result = _wide(next(iter(args)))
        else:
            first = args[:1] if in_place else pytree.tree_map(_wide, args[:1])
            rest, wide = pytree.tree_map(_wide, (args[1:], options))
            padding = (
                options.get("padding_idx", args[2] if len(args) > 2 else None)
                if name == "embedding"
                else None
            )
            if padding is not None and len(rest) > 0:
                rest = (self._padded(rest[0], padding), *rest[1:])
            result = func(*first, *rest, **wide)
            if not in_place and "out" not in options:
                result = pytree.tree_map_only(Tensor, _wide, result)
        return (
            self._held(result, in_place or "out" in options)
            if self._without_gradients or detaches
            else result
        )

    def _padded(self, table: Tensor, padding: int) -> Tensor:
        """An embedding's vectors, that of the padding held fixed: its gradient is zero by
        definition."""
        row = self._held(table[padding].detach(), written=False)
        return table.index_copy(
            0, torch.tensor([padding % len(table)], device=table.device), row.unsqueeze(0)
        )

    def _switched(self, on: bool, was_on: bool) -> None:
        if on and not was_on:
            self._inside, self._without_gradients = (
                self._inside + (not self._without_gradients),
                False,
            )
        elif was_on and not on:
            self._inside, self._without_gradients = max(0, self._inside - 1), self._inside == 0

    def _held(self, result: Any, written: bool) -> Any:
        """What the first evaluation had here; where the operation writes into a tensor, written
        there."""
        if self._place is None:
            self._kept.append(pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), result))
            return result
        if self._place >= len(self._kept):
            return result
        kept = self._kept[self._place]
        self._place += 1
        moved = zip(pytree.tree_leaves(kept), pytree.tree_leaves(result), strict=False)
        self.fixed |= any(
            isinstance(old, Tensor)
            and isinstance(new, Tensor)
            and old.is_floating_point()
            and not torch.equal(old, new)
            for old, new in moved
        )
        if not written:
            return pytree.tree_map_only(Tensor, Tensor.clone, kept)
        if isinstance(result, Tensor) and isinstance(kept, Tensor) and result.shape == kept.shape:
            result.data.copy_(kept)
        return result


def _wide(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.dtype in _NARROWER:
        return leaf.to(torch.float64)
    return torch.float64 if isinstance(leaf, torch.dtype) and leaf in _NARROWER else leaf
