"""Functions of PyTorch whose second derivatives are wrong, in operations whose derivatives are right."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def _sinc(x: Tensor) -> Tensor:
    """sin(πx) / πx. PyTorch's second derivative is 0 or noise within 1e-8 of 0, where it is −π²/3."""
    u = math.pi * x
    small = u.abs() < 1
    square = torch.where(small, u, 0.0).square()
    series = torch.ones_like(u)
    for k in range(9, 0, -1):  # Σ (−u²)ᵏ / (2k + 1)!
        series = 1 - square * series / (2 * k * (2 * k + 1))
    away = torch.where(small, 1.0, u)
    return torch.where(small, series, away.sin() / away)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ‖v‖. The second derivatives of PyTorch's fused kernel are wrong (2.13; not even symmetric)."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


aten = torch.ops.aten
# By the function, under every name that it has.
WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((torch.sinc, torch.special.sinc, Tensor.sinc, aten.sinc, aten.sinc.default), _sinc),
    Tensor.sinc_: lambda x: x.copy_(_sinc(x.clone())),
    **dict.fromkeys((torch._VF._weight_norm, aten._weight_norm, aten._weight_norm.default), _weight_norm),
}


class WrittenOut(TorchFunctionMode):
    """While it is entered, the functions of the table run as they are written out here.

    Attributes:
        ran: the names of those that did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        right = WRITTEN_OUT.get(func)
        if right is not None:
            self.ran.add(func.__name__)
        return (right or func)(*args, **(kwargs or {}))
