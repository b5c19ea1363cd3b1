"""The way of a cost's samples down its graph, to pairs of parameter uses: a dry run on one sample
for the plan, then all of them."""

from collections.abc import Iterator
from typing import Any, final

import torch

from hesse.capture import data_leaves
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.contraction.pair import Pair, Sizes
from hesse.exact.contraction.pairing import PairKey, VisitedSite, pairs_at, visited
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.sweep import Peak, Sweep
from hesse.graph.graph import Graph
from hesse.graph.sites import Site


@final
class BackwardPass:
    """A sweep down the graph with the samples of one cost.

    Args:
        sweep: the way down, the same for every cost of a model and a loss.
        graph: what it goes down.
        sites: where it stops.
        wanted: the pairs of parameter uses to yield.
        cost: the cost.
    """

    def __init__(
        self, sweep: Sweep, graph: Graph, sites: tuple[Site, ...], wanted: set[PairKey], cost: Cost
    ) -> None:
        self.sweep, self._wanted, self._scale = sweep, wanted, cost.scale
        self._evaluation = ChunkEvaluation(graph, sites, cost.fixed, cost.parameters)

    def run(self, samples: Batch) -> Iterator[tuple[PairKey, Pair]]:
        """Carry some samples down the graph, and yield each pair of uses when it is complete."""
        yield from self._pairs(self._evaluation.run(data_leaves(samples)), {})

    def dry_run(self, sample: Batch) -> tuple[dict[PairKey, Sizes], int]:
        """The sizes and forms of every pair, and how many numbers are alive at once."""
        values, before, peak = (
            self._evaluation.run(data_leaves(sample)),
            dict[str, VisitedSite](),
            Peak(),
        )
        sizes = {key: pair.sizes for key, pair in self._pairs(values, before, peak)}
        # What the frontier does not hold: the values themselves, and what stays of visited sites.
        kept = sum(
            values[name].numel()
            for name in self._evaluation.batched
            if isinstance(values.get(name), torch.Tensor)
        )
        kept += sum(
            site.delta.numel() + sum(feature.numel() for feature in site.features)
            for site in before.values()
        )
        return sizes, peak.entries + kept

    def _pairs(
        self, values: dict[str, Any], before: dict[str, VisitedSite], peak: Peak | None = None
    ) -> Iterator[tuple[PairKey, Pair]]:
        """The pairs of some values; the sites that were visited are entered in ``before``."""
        for arrival in self.sweep.arrivals(values, self._evaluation.batched, self._scale, peak):
            site = visited(arrival)
            yield from pairs_at(arrival, site, before, self._wanted)
            before[arrival.site.value] = site
