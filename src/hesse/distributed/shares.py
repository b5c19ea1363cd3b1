"""The share of a cost's data that each rank takes.

Every rank is given the same data, and takes some: whole batches, each to the rank that has least so
far, or, where these are few, its part of every batch. A batch that cannot be cut, for its samples
depend on one another, goes to one rank. Of a loader with a `DistributedSampler` a rank reads what
that deals to it, and nothing else. The penalty is rank 0's.
"""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from hesse.distributed.agreement import require_agreement
from hesse.distributed.group import Group, joined
from hesse.parameters import as_leaves, slopes_in
from hesse.process.circumstances import circumstances, is_passing

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.data.batch import Batch

# With so many batches a rank they need not be cut.
_MANY = 4
# By so many samples it is seen whether a batch can be.
_TRIED = 64
# Of J and its gradient, what the order of summation may change.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def share_of(cost: "Cost") -> "Cost":
    """The cost of this rank's share of the data: over all ranks these add up to the cost. Every
    rank asks for it at the same place.

    Raises:
        HesseValueError: the ranks have other costs.
    """
    group = joined()
    if group is None:
        return cost
    require_agreement(cost)
    share = copy.copy(cost)
    if cost.data is not None or group.rank > 0:
        share._set(data=Share(cost, group))
    return share if group.rank == 0 else share.without_penalty()


@final
class Share:
    """The batches of a cost that a rank takes: always the same.

    Args:
        cost: the cost.
        group: the ranks, of which this process is one.
    """

    def __init__(self, cost: "Cost", group: Group) -> None:
        self._cost, self._rank, self._size = cost, group.rank, group.size
        data: Any = cost.data
        self.is_ordered, self.is_single = data is None or data.is_ordered, False
        self._is_cut = data is not None and data.count < _MANY * group.size

    def check_unchanged(self) -> None:
        """As of all of them."""
        if self._cost.data is not None:
            self._cost.data.check_unchanged()

    def __iter__(self) -> "Iterator[Batch]":
        data: Any = self._cost.data
        if data is None:
            return
        dealt = data.part(self._rank)
        if dealt is not None:
            yield from (batch for _, batch in dealt)
            return
        taken = [0] * self._size
        for batch in data:
            for piece in self._pieces(batch):
                rank = taken.index(min(taken))
                taken[rank] += max(1, sum(tensor.numel() for tensor in piece.tensors))
                if rank == self._rank:
                    yield piece

    def _pieces(self, batch: "Batch") -> "list[Batch]":
        """A batch, or a part of like size for every rank."""
        if not self._is_cut or not _is_divisible(self._cost, batch):
            return [batch]
        edges = [batch.size * place // self._size for place in range(self._size + 1)]
        return [batch.take(slice(low, high)) for low, high in pairwise(edges) if low < high]


def _is_divisible(cost: "Cost", batch: "Batch") -> bool:
    """Whether a batch adds to J what its parts add, one after the other: looked at once a kind."""
    key = "divisible", batch.signature, circumstances()
    if key not in cost.captures:
        cost.captures[key] = not batch.whole and batch.size > 1 and _adds_up(cost, batch)
    return cost.captures[key]


def _adds_up(cost: "Cost", batch: "Batch") -> bool:
    some = batch.take(slice(0, _TRIED))
    half = some.size // 2
    try:
        whole, *parts = (
            _value_and_slopes(cost, some.take(slice(low, high)))
            for low, high in ((0, some.size), (0, half), (half, some.size))
        )
    except Exception as error:  # of the user's code on so few samples
        if is_passing(error):
            raise
        return False
    return all(
        float((a - b - c).norm()) <= _TOLERANCE[a.dtype] * float(b.norm() + c.norm())
        for a, b, c in zip(whole, *parts, strict=True)
    )


def _value_and_slopes(cost: "Cost", batch: "Batch") -> list[Tensor]:
    leaves = as_leaves(cost.parameters)
    with cost.holding(leaves):
        value = cost.batch_cost(leaves, batch)
        return [value.detach(), *slopes_in(leaves, value).values()]
