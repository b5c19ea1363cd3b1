"""Who may write into a tensor on its way down the graph: the frontier, into what it alone holds.

Many an operation hands on what it was given: both summands of x + y get the very tensor that
arrived. So there are two kinds that may be written into, and these are made here and nowhere else:

    a value's own curvature   each lies in memory of its own (`apart`), and is added to
    (`accumulated`), and written over by the
                              operation that takes it (`Pullback.pull_curvature`)
    rooms                     made to be added to (`Written.room`), until they are passed on

All other tensors are read.
"""

from collections import Counter
from typing import Any, final

import torch
from torch import Tensor

from hesse.graph.structures import Columns, Curvature, Diagonal, LowRank, as_tensor


def apart(
    blocks: list[list[Curvature | None]], halves: tuple[Columns, ...]
) -> list[list[Curvature | None]]:
    """The blocks of an operation's inputs, each input's own one in memory that nothing else lies
    in."""
    uses = Counter(
        _address(part)
        for part in (*halves, *(block for row in blocks for block in row))
        if isinstance(part, Tensor)
    )
    made = [list(row) for row in blocks]
    for i, row in enumerate(made):
        block = row[i]
        if isinstance(block, Tensor) and uses[_address(block)] > 1:
            row[i] = block.clone()
    return made


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def accumulated(held: Curvature, more: Curvature) -> Curvature:
    """The sum of two curvatures of a value, both its own: a diagonal goes into a dense one in
    place."""
    if isinstance(held, Diagonal) and isinstance(more, Diagonal):
        return Diagonal(held.values + more.values)
    if isinstance(held, Diagonal):
        held, more = more, held
    if isinstance(held, LowRank) and isinstance(more, Diagonal):
        return LowRank(
            held.columns, held.core, more.values if held.rest is None else held.rest + more.values
        )
    total = as_tensor(held)
    if not isinstance(more, Diagonal):
        return total + as_tensor(more)
    n, total = len(total), total.contiguous()
    total.view(n, total.shape[1], -1).diagonal(dim1=1, dim2=2).add_(more.values.reshape(n, -1))
    return total


@final
class Written:
    """The tensors that were made to be added to in place."""

    def __init__(self) -> None:
        self._rooms: list[Tensor] = []

    def room(self, store: dict[Any, Any], key: Any, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """What a store holds under a key as a tensor that may be added to in place: zeros where it
        holds nothing."""
        held = store.get(key)
        if held is None or not any(held is room for room in self._rooms):
            held = (
                like.new_zeros(shape)
                if held is None
                else as_tensor(held).clone(memory_format=torch.contiguous_format)
            )
            self._rooms.append(held)
            store[key] = held
        return held

    def pass_on(self, *parts: Any) -> None:
        """These are handed to an operation, which may hand them on to several: they are added to no
        more."""
        gone = set(map(id, parts))
        self._rooms = [room for room in self._rooms if id(room) not in gone]
