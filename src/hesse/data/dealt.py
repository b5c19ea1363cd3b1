"""A loader whose sampler deals a data set out to the ranks of a group: the data of a cost are all
of it, and every rank can read its own part alone."""

import copy
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from hesse.distributed.group import started
from hesse.errors import HesseValueError


def parts_of(source: Any) -> "list[DataLoader[Any]] | None":
    """Loaders of what each rank is dealt, by rank, where a loader has a `DistributedSampler` and
    this process is in a group; else ``None``.

    Raises:
        HesseValueError: the sampler deals to another number of ranks.
    """
    sampler = getattr(source, "sampler", None)
    if not isinstance(source, DataLoader) or not isinstance(sampler, DistributedSampler):
        return None
    group = started()
    if group is None:
        return None
    if (sampler.num_replicas, sampler.rank) != (group.size, group.rank):
        raise HesseValueError(
            f"data: the DistributedSampler deals to {sampler.num_replicas} ranks, of which this is"
            f" {sampler.rank}, and the group has {group.size}, of which this is {group.rank}; leave"
            " num_replicas and rank out"
        )
    return [_part(source, sampler, rank) for rank in range(group.size)]


def _part(
    loader: "DataLoader[Any]", sampler: "DistributedSampler[Any]", rank: int
) -> "DataLoader[Any]":
    """The loader of a rank."""
    its = copy.copy(sampler)
    its.rank = rank
    # It repeats samples until all ranks have as many, which would count twice.
    fair = len(range(rank, len(its.dataset), its.num_replicas))  # type: ignore[arg-type]
    indices = list(its)[:fair]
    part, batches = copy.copy(loader), copy.copy(loader.batch_sampler)
    if batches is not None:
        batches.sampler = indices  # type: ignore[union-attr]
    # Which a loader lets nobody set.
    vars(part).update(sampler=indices, batch_sampler=batches, _iterator=None)
    return part
