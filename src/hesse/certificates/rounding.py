"""What rounding does to a computation: it is carried out again, with every result in it rounded
otherwise.

The last place of a result says nothing of how it came about. The curvature of a confident
classifier's loss is p − p²: where p is near 1 that is the rounding of 1, however small it is
itself. So it is with every gradient and second derivative that cancels. What the roundings of all
the steps do together shows where they are made otherwise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from hesse.certificates.drawing import generator
from hesse.certificates.precision import eps_of
from hesse.process.circumstances import is_passing

# What other roundings of the same computation may add up to, in units of those that were seen.
ROUNDINGS = 16.0
# How often it is carried out; signs agree by chance in one, and of so few numbers in some.
_DRAWS, _FEW, _DRAWS_OF_FEW = 3, 100, 12
# Kernels of several steps that may cancel within: taken apart, so that each step is rounded.
_SEVERAL_STEPS = (
    *(
        "_log_softmax",
        "_log_softmax_backward_data",
        "_softmax",
        "_softmax_backward_data",
        "logsumexp",
    ),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "binary_cross_entropy_backward"),
    *(
        "sigmoid_backward",
        "tanh_backward",
        "log_sigmoid_forward",
        "log_sigmoid_backward",
        "softplus",
        "softplus_backward",
    ),
    *("gelu_backward", "silu_backward", "native_layer_norm", "native_layer_norm_backward"),
    *("native_group_norm", "native_group_norm_backward"),
)


def noise(compute: Callable[[], Sequence[Tensor]]) -> list[float]:
    """How far the roundings within move each tensor of a computation (2-norm); zero for what cannot
    be carried out so.

    Args:
        compute: always gives the same tensors.

    Examples:
        >>> import torch
        >>> one = torch.ones(())
        >>> noise(lambda: [one.exp() / one.exp() - 1])[0] > 0  # zero, and all rounding
        True
    """
    try:
        with _OtherRoundings(None) as first:
            unperturbed = compute()
        largest = [0.0 for _ in unperturbed]
        few = sum(part.numel() for part in unperturbed) <= _FEW
        for _ in range(_DRAWS_OF_FEW if few else _DRAWS):
            with _OtherRoundings(first.decisions):
                again = compute()
            gaps = [
                float(torch.linalg.vector_norm(b.double() - a.double()))
                for a, b in zip(unperturbed, again, strict=True)
            ]
            largest = [max(so_far, gap) for so_far, gap in zip(largest, gaps, strict=True)]
        return largest
    # Of an operation that does not go with such a mode: then nothing is excused by rounding.
    except Exception as error:
        if is_passing(error):
            raise
        return [0.0 for _ in compute()]


@cache
def _steps() -> Mapping[Any, Callable[..., Any]]:
    from torch._decomp import get_decompositions

    return get_decompositions([getattr(torch.ops.aten, name) for name in _SEVERAL_STEPS])


@cache
def _computes(func: Any) -> bool:
    """Whether an operation makes new numbers: a view, and what was written into, is rounded where
    it was computed."""
    return all(returned.alias_info is None for returned in func._schema.returns)


@cache
def _convolves(func: Any) -> bool:
    return "convolution" in str(func)


@final
class _OtherRoundings(TorchDispatchMode):
    """While it is entered, floating results are off by one rounding, by up to two units of its last
    place.

    Whole numbers and truth values come out as they did the first time: which branch or entry is
    taken is no rounding.

    Attributes:
        decisions: those, in their order; kept the first time, where nothing is rounded otherwise.
    """

    def __init__(self, decisions: list[Tensor] | None) -> None:
        super().__init__()
        self._first, self.decisions = decisions is None, decisions or []
        self._random: dict[torch.device, torch.Generator] = {}
        self._most: dict[tuple[torch.dtype, torch.device, bool], float] = {}
        self._place = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        steps = _steps().get(func)
        if steps is not None:
            with self:
                result = steps(*args, **options)
            if result is not NotImplemented:
                return result
        result = func(*args, **options)
        if not _computes(func):
            return result
        if isinstance(result, Tensor):
            return self._otherwise(result, _convolves(func))
        return pytree.tree_map_only(
            Tensor, lambda part: self._otherwise(part, _convolves(func)), result
        )

    def _otherwise(self, result: Tensor, convolution: bool) -> Tensor:
        if not (result.is_floating_point() or result.is_complex()):
            return self._decided(result)
        # Zeros without memory end the process in arithmetic.
        if (
            self._first
            or result.is_meta
            or result.layout != torch.strided
            or result._is_zerotensor()
        ):
            return result
        dtype, device = result.dtype, result.device
        kind = dtype, device, convolution
        if device not in self._random:
            self._random[device] = generator(device)
        if kind not in self._most:
            self._most[kind] = 2 * eps_of(*kind)
        most, random = self._most[kind], self._random[device]
        by = torch.empty_like(result, dtype=dtype.to_real())
        return result * by.uniform_(1 - most, 1 + most, generator=random)

    def _decided(self, result: Tensor) -> Tensor:
        if self._first:
            self.decisions.append(result.clone())
            return result
        self._place += 1
        kept = self.decisions[self._place - 1] if self._place <= len(self.decisions) else result
        return kept.clone() if (kept.shape, kept.dtype) == (result.shape, result.dtype) else result
