"""All samples of a cost, in chunks, from its graphs to sums for each layer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import torch

from hesse.cost import Cost
from hesse.curvatures.fisher import SampledFisher
from hesse.data.batch import Batch
from hesse.exact.propagation.evaluation import cut
from hesse.kronecker.factors import FactorSums, Sums, rows_at_once
from hesse.kronecker.signals import Chunk, Passage
from hesse.process.progress import Progress

# Bytes that a chunk of samples works in, where there are more: what the caches hold is quicker.
ENOUGH = 2**27


@final
class Work:
    """All samples of a cost, in chunks, to sums."""

    def __init__(self, cost: Cost, passages: Sequence[Passage], budget: int) -> None:
        self._cost, self._passages, self._budget = cost, passages, budget

    def run(self, sums: Sequence[Sums], bar: Progress, forward_only: bool) -> None:
        """Add every sample to some sums."""
        for place, passage in enumerate(self._passages):
            at = _by_site(sums, place)
            samples, rows = self._sizes(place, sums, forward_only)
            for batch in cut(self._batches(place, forward_only), samples):
                targets, slopes = batch.y
                chunk = passage.chunk(replace(batch, y=targets), slopes, forward_only)
                self._add(passage, chunk, at, sums, rows, forward_only)
                bar.advance(batch.size)

    def _batches(self, place: int, forward_only: bool) -> Iterator[Batch]:
        """The batches of a graph; behind their targets the slopes at labels that are drawn, where
        those are sent back."""
        cost, curvature = self._cost, self._cost.curvature
        signature = list(cost.signatures)[place]
        for index, batch in enumerate(cost.batches()):
            assert batch is not None
            if batch.signature != signature:
                continue
            slopes = None
            if isinstance(curvature, SampledFisher) and not forward_only:
                assert cost.predict is not None
                with torch.no_grad():
                    prediction = cost.predict(cost.parameters, batch)
                    slopes = curvature.coefficients(cost, prediction, batch, index)
            yield replace(batch, y=(batch.y, slopes))

    def _sizes(self, place: int, sums: Sequence[Sums], forward_only: bool) -> tuple[int, int]:
        """How many samples of a graph, and how many rows of each, are worked on at once."""
        passage = self._passages[place]
        wanted = 0 if forward_only else passage.most_rows
        samples = max(1, int(self._budget / passage.bytes_each(wanted)))
        fitting = (self._budget - passage.bytes_each(0)) / (
            passage.bytes_each(1) - passage.bytes_each(0) or 1
        )
        most = max(1, int(fitting)) if samples == 1 else max(1, wanted)
        # As few samples as have the gradients of one row each held; in chunks of like size.
        count = list(self._cost.signatures.values())[place]
        samples = min([samples, count, *(rows_at_once(one, 1) for one in sums)])
        samples = -(-count // -(-count // samples))
        return samples, min([most, *(rows_at_once(one, samples) for one in sums)])

    def _add(
        self,
        passage: Passage,
        chunk: Chunk,
        at: dict[str, list[tuple[Sums, Any]]],
        sums: Sequence[Sums],
        width: int,
        forward_only: bool,
    ) -> None:
        for site in passage.captured.sites:
            for one, use in at.get(site.value, ()):
                if isinstance(one, FactorSums):
                    made = passage.summed_features if one.reduce else passage.features
                    one.inputs(use, made(use.use.members[0], use.site, chunk))
        for one in sums:
            if isinstance(one, FactorSums):
                one.end_inputs(chunk.size)
        if not forward_only:
            rows = passage.rows(chunk)
            for start in range(0, rows.count, width):
                some = rows.some(slice(start, min(start + width, rows.count)))
                for site, delta in passage.signals(some, chunk):
                    for one, use in at.get(site.value, ()):
                        features = (
                            passage.features(use.use, use.site, chunk)
                            if one.needs_features
                            else None
                        )
                        one.signals(use, delta, features)
                for one in sums:
                    one.end_rows()


def _by_site(sums: Sequence[Sums], graph: int) -> dict[str, list[tuple[Sums, Any]]]:
    found: dict[str, list[tuple[Sums, Any]]] = {}
    for one in sums:
        for (place, value), uses in one.layer.uses.items():
            if place == graph:
                found.setdefault(value, []).extend((one, use) for use in uses)
    return found
