"""The way of a cost's samples down its graph, to pairs of parameter uses: a rehearsal on shapes for
the plan, then all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

from hesse.capture import data_leaves
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.contraction.pair import Pair, Sizes
from hesse.exact.contraction.pairing import PairKey, VisitedSite, pairs_at, visited
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.sweep import Sweep
from hesse.graph.graph import Graph
from hesse.graph.sites import Site
from hesse.process.circumstances import is_passing
from hesse.process.price import Price
from hesse.process.rehearsal import Rehearsal, as_shape

# Of values with so few entries even the largest Hessian, entries by entries, is made in less time
# than its shape alone, which PyTorch finds in Python.
_TINY = 200


@dataclass(frozen=True)
class Passage:
    """What the way of some samples down the graph takes.

    Attributes:
        values: the values that were passed, from the loss down; first the evaluation of all of
            them, under the graph's output.
        peaks: the most bytes alive at once on the way to each.
        prices: what it costs.
        sizes: of every pair of uses, with the forms of its S and D.
        held: the bytes alive when it is contracted.
        ended: whether it ended before the lowest site, having been enough.
    """

    values: tuple[str, ...]
    peaks: tuple[int, ...]
    prices: tuple[Price, ...]
    sizes: dict[PairKey, Sizes]
    held: dict[PairKey, int]
    ended: bool = False


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
        yield from self._pairs(self._evaluation.run(data_leaves(samples)))

    def rehearse(
        self,
        sample: Batch,
        count: int,
        use: Callable[[Pair], None] | None = None,
        enough: Callable[[Passage], bool] = lambda passage: False,
    ) -> Passage:
        """What so many samples like one take, from shapes alone; from that one itself where that is
        quicker, or an operation needs its numbers.

        Args:
            sample: the one.
            count: how many.
            use: what is done with every pair.
            enough: whether no more need be known than what was seen so far; asked after each pair.
        """
        if max(node.size for node in self._evaluation.graph.nodes) > _TINY:
            alike = sample.map(lambda t: as_shape(t).expand(count, *t.shape[1:]))
            try:
                return self._passage(self._evaluation.on_shapes(), alike, Rehearsal(), use, enough)
            # Of an operation that PyTorch knows no shapes of.
            except Exception as error:
                if is_passing(error):
                    raise
        alike = sample.map(lambda t: t.expand(count, *t.shape[1:]))
        counts = Rehearsal(shapes_only=False)
        return self._passage(self._evaluation, alike, counts, use, enough)

    def _passage(
        self,
        evaluation: ChunkEvaluation,
        samples: Batch,
        counts: Rehearsal,
        use: Callable[[Pair], None] | None,
        enough: Callable[[Passage], bool],
    ) -> Passage:
        passed, peaks, prices = list[str](), list[int](), list[Price]()
        sizes, held = dict[PairKey, Sizes](), dict[PairKey, int]()

        def note(value: str) -> None:
            passed.append(value)
            peaks.append(counts.peak)
            prices.append(counts.price)
            counts.begin()

        with counts:
            values = evaluation.run(data_leaves(samples))
            note(evaluation.graph.output)
        pairs, ended = self._pairs(values, note), False
        while not ended:
            with counts:
                if (found := next(pairs, None)) is None:
                    break
                key, pair = found
                sizes[key], held[key] = pair.sizes, counts.alive
                if use is not None:
                    use(pair)
            ended = enough(Passage(tuple(passed), tuple(peaks), tuple(prices), sizes, held))
        # What is done at the lowest site, behind which no value is passed.
        if use is not None and sizes and not ended:
            note(next(reversed(sizes))[0][0])
        return Passage(tuple(passed), tuple(peaks), tuple(prices), sizes, held, ended)

    def _pairs(
        self, values: dict[str, Any], passed: Callable[[str], None] = lambda value: None
    ) -> Iterator[tuple[PairKey, Pair]]:
        before = dict[str, VisitedSite]()
        for arrival in self.sweep.arrivals(values, self._evaluation.batched, self._scale, passed):
            site = visited(arrival)
            yield from pairs_at(arrival, site, before, self._wanted)
            before[arrival.site.value] = site
