"""Normalisations whose weights are held fixed, with the weights applied afterwards.

For a weight without a tangent PyTorch makes one of zeros within the operation, where no trace can
see it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hesse.operations.normalisation import scale_shift

# Where the weight stands among the arguments, the bias after it, and from which axis of the value
# on they are laid.
_NORMS: dict[Any, tuple[int, Callable[[Tensor], int]]] = {
    F.layer_norm: (2, lambda vector: -vector.ndim),
    F.group_norm: (2, lambda vector: 1),
    F.batch_norm: (3, lambda vector: 1),
    F.instance_norm: (3, lambda vector: 1),
}


class UnfusedNorms(TorchFunctionMode):
    """While it is entered, a normalisation with a weight or a bias that is held fixed runs without
    them; they come after it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func not in _NORMS:
            return func(*args, **options)
        place, axis = _NORMS[func]
        given = list(args)
        affine: list[Any] = []
        for index, name in enumerate(("weight", "bias"), place):
            # By position or by name; either way the operation runs without.
            affine.append(given[index] if index < len(given) else options.pop(name, None))
            given[index : index + 1] = [None] * (index < len(given))
        held = [
            vector for vector in affine if vector is not None and not _is_differentiated(vector)
        ]
        if not held:
            return func(*args, **(kwargs or {}))
        weight, bias = affine
        return scale_shift(func(*given, **options), weight, bias, axis(held[0]))


def _is_differentiated(vector: Tensor) -> bool:
    """Whether it is differentiated in, or computed from what is."""
    return torch._C._functorch.is_gradtrackingtensor(vector)  # type: ignore[attr-defined]
