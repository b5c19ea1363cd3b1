"""The way of a cost's samples down its graph, to pairs of slots: rehearsed on one for the plan,
then run on all of them."""

from collections.abc import Callable, Iterator
from typing import Any, final

import torch

from hesse.capture import data_leaves
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.contraction.pair import Pair, Sizes
from hesse.exact.contraction.signals import PairKey, Passed, pairs_at, passed
from hesse.exact.propagation.evaluation import Evaluation
from hesse.exact.propagation.sweep import Sweep
from hesse.graph.graph import Graph
from hesse.graph.sites import Site


@final
class Descent:
    """A sweep over the samples of one cost.

    Args:
        sweep: the way down, the same for every cost of a model and a loss.
        graph: what it goes down.
        sites: where it stops.
        wanted: the pairs of slots to yield.
        cost: the cost.
    """

    def __init__(
        self, sweep: Sweep, graph: Graph, sites: tuple[Site, ...], wanted: set[PairKey], cost: Cost
    ) -> None:
        self.sweep, self._wanted, self._scale = sweep, wanted, cost.scale
        self._evaluation = Evaluation(graph, sites, cost.fixed, cost.parameters)

    def run(self, samples: Batch) -> Iterator[tuple[PairKey, Pair]]:
        """Carry some samples down the graph, and yield each pair of slots when it is complete."""
        yield from self._pairs(self._evaluation.run(data_leaves(samples)), {})

    def rehearse(self, sample: Batch) -> tuple[dict[PairKey, Sizes], int]:
        """The sizes and structure of every pair, and how many numbers are alive at once."""
        values, before, most = self._evaluation.run(data_leaves(sample)), dict[str, Passed](), 0

        def observe(entries: int) -> None:
            nonlocal most
            most = max(most, entries)

        sizes = {key: pair.sizes for key, pair in self._pairs(values, before, observe)}
        kept = sum(
            values[name].numel()
            for name in self._evaluation.batched
            if isinstance(values.get(name), torch.Tensor)
        )
        kept += sum(
            here.delta.numel() + sum(feature.numel() for feature in here.features)
            for here in before.values()
        )
        return sizes, most + kept

    def _pairs(
        self,
        values: dict[str, Any],
        before: dict[str, Passed],
        observe: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[PairKey, Pair]]:
        """The pairs of some values; the sites that were passed are entered in ``before``."""
        for arrival in self.sweep.arrivals(values, self._evaluation.batched, self._scale, observe):
            here = passed(arrival)
            yield from pairs_at(arrival, here, before, self._wanted)
            before[arrival.site.value] = here
