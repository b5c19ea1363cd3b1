"""One sample after another, each differentiated alone in plain autograd: for what has no graph, and
for parameters that enter in no form that is known."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.columns import WIDEST, rows, rows_asked
from hesse.exact.plan import NamePair

# What is made of every sample, (n, ...) each, by name or by two names.
Parts = dict[Any, Tensor]


def diagonal(cost: Cost, batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
    """Of some parameters, of a batch's share of the cost."""
    parts = {name: cost.parameters[name].new_zeros(cost.layout.sizes[name]) for name in names}
    for name, entries, products in rows(cost, {name: (name,) for name in names}, batch, WIDEST):
        some = products[name].reshape(entries.stop - entries.start, -1)
        parts[name][entries] = some[:, entries].diagonal()
    return {name: part.reshape(cost.layout.shape(name)) for name, part in parts.items()}


def blocks(cost: Cost, batch: Batch, pairs: Sequence[NamePair]) -> dict[NamePair, Tensor]:
    """Some blocks of the Hessian of a batch's share of the cost, (|a|, |b|)."""
    sizes = cost.layout.sizes
    parts = {(a, b): cost.parameters[a].new_zeros(sizes[a], sizes[b]) for a, b in pairs}
    asked = rows_asked(cost.layout.names, pairs)
    for name, entries, products in rows(cost, asked, batch, WIDEST):
        for other, part in products.items():
            some = part.reshape(entries.stop - entries.start, -1)
            if (name, other) in parts:
                parts[name, other][entries] = some
            else:
                parts[other, name][:, entries] = some.mT
    return parts


def stacked(of_sample: Callable[[Batch], Mapping[Any, Tensor]], batch: Batch) -> Parts:
    """What is made of each sample of a batch, side by side."""
    each = [of_sample(batch.take(slice(n, n + 1))) for n in range(batch.size)]
    return {key: torch.stack([parts[key] for parts in each]) for key in each[0]}
