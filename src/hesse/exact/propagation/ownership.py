"""Who may write into a tensor on its way down the graph: the frontier, into what it alone holds.

Many an operation hands on what it was given: both summands of x + y get the very tensor that
arrived. So there are two kinds of tensor that may be written into, and they are made here and
nowhere else:

* the Hessian of a value. Each lies in memory of its own (`with_own_memory`); it is added to
  (`accumulated`), and written over by the operation that takes it (`Pullback.pull_hessian`);
* buffers, made to be added to (`WritableBuffers.buffer`) until they are released.

All other tensors are only read.
"""

from collections import Counter
from typing import Any, final

import torch
from torch import Tensor

from hesse.graph.structures import Cotangents, Diagonal, LowRank, ValueHessian, as_tensor


def with_own_memory(
    blocks: list[list[ValueHessian | None]], halves: tuple[Cotangents, ...]
) -> list[list[ValueHessian | None]]:
    """The blocks of an operation's inputs, each input's Hessian (on the diagonal) in memory that
    nothing else lies in."""
    uses = Counter(
        _address(part)
        for part in (*halves, *(block for row in blocks for block in row))
        if isinstance(part, Tensor)
    )
    parted = [list(row) for row in blocks]
    for i, row in enumerate(parted):
        block = row[i]
        if isinstance(block, Tensor) and uses[_address(block)] > 1:
            row[i] = block.clone()
    return parted


def _address(tensor: Tensor) -> int:
    # Not of its first number, which a tensor of the plan's does not have.
    return tensor.untyped_storage()._cdata


def accumulated(held: ValueHessian, more: ValueHessian) -> ValueHessian:
    """The sum of two Hessians of one value, the first in memory of its own: a diagonal goes into a
    dense one in place."""
    if isinstance(held, Diagonal) and isinstance(more, Diagonal):
        return Diagonal(held.values + more.values)
    if isinstance(held, Diagonal):
        held, more = more, held
    if isinstance(held, LowRank) and isinstance(more, Diagonal):
        return LowRank(
            held.jacobian, held.core, more.values if held.rest is None else held.rest + more.values
        )
    total = as_tensor(held)
    if not isinstance(more, Diagonal):
        return total + as_tensor(more)
    n, total = len(total), total.contiguous()
    total.view(n, total.shape[1], -1).diagonal(dim1=1, dim2=2).add_(more.values.reshape(n, -1))
    return total


@final
class WritableBuffers:
    """The tensors that were made to be added to in place, known by identity."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []

    def buffer(
        self, store: dict[Any, Any], key: Any, shape: tuple[int, ...], like: Tensor
    ) -> Tensor:
        """What a store holds under a key as a tensor that may be added to in place: zeros where it
        holds nothing."""
        held = store.get(key)
        if held is None or not any(held is buffer for buffer in self._buffers):
            held = (
                like.new_zeros(shape)
                if held is None
                else as_tensor(held).clone(memory_format=torch.contiguous_format)
            )
            self._buffers.append(held)
            store[key] = held
        return held

    def release(self, *parts: Any) -> None:
        """These are handed to an operation, which may hand them on to several: they are added to no
        more."""
        gone = set(map(id, parts))
        self._buffers = [buffer for buffer in self._buffers if id(buffer) not in gone]
