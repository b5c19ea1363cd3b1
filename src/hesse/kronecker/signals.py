"""What arrives at the sites of a graph for a chunk of samples: the features of each parameter use,
and the signals Jᵀ r of vectors r at the prediction."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from hesse.capture import Captured, data_leaves
from hesse.cost import Cost
from hesse.curvatures.fisher import EmpiricalFisher, SampledFisher
from hesse.data.batch import Batch
from hesse.errors import HesseValueError
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.frontier import DELTA, Frontier
from hesse.exact.propagation.placement import placements
from hesse.exact.propagation.pullback import Pullback
from hesse.exact.propagation.sweep import Arrival, Sweep, active_values
from hesse.graph.sites import AXES_IN_ORDER, Arrangement, ParameterUse, Site
from hesse.graph.structures import as_tensor, flat
from hesse.kronecker.roots import Rows, root


@final
@dataclass(frozen=True)
class Chunk:
    """Some samples at the values of a graph.

    Attributes:
        size: how many samples.
        values: by name.
        slopes: u at each part of the prediction, (n, M, its shape), where Σ u uᵀ / M stands for the
            loss's Hessian.
        recorded: the predictions and the values of the sites as automatic differentiation has
            recorded them, where a single row goes back; else empty.
    """

    size: int
    values: dict[str, Any]
    slopes: list[Tensor] | None
    recorded: dict[str, Tensor]


@final
class Passage:
    """The way of a cost's samples down its graph to the sites, with several vectors at once.

    Args:
        cost: the cost, of which the curvature is asked for.
        captured: its graph.
    """

    def __init__(self, cost: Cost, captured: Captured) -> None:
        graph = captured.graph
        self.cost, self.captured, self._graph = cost, captured, graph
        self._evaluation = ChunkEvaluation(graph, captured.sites, cost.fixed, cost.parameters)
        self._batched, self._dtype = self._evaluation.batched, cost.dtype
        self._sites = {site.value: site for site in captured.sites}
        self._active = active_values(graph, captured.sites)
        self.predictions = graph.predictions or ()
        self._sizes = [graph.node[name].size for name in self.predictions]
        self._lowest = min((graph.place[name] for name in self._sites), default=0)
        # One row goes back by automatic differentiation of all samples at once.
        self._recorded = {*self.predictions, *self._sites}
        on_the_way = {name for name in graph.predicted & self._active if name in graph.node}
        self._records = self.most_rows == 1 and on_the_way <= graph.at_once.nodes.keys()
        # The same for every cost of the graph.
        self._loss, self._loss_slope = captured.dry_runs.kept(
            "kronecker loss",
            lambda: [
                _of_loss_alone(captured, linearized)
                for linearized in (frozenset(), frozenset(graph.shapes))
            ],
        )
        self._placements = captured.dry_runs.kept(
            "kronecker placements", lambda: placements(graph, self._active, self._sites.keys())
        )

    def chunk(
        self, samples: Batch, slopes: list[Tensor] | None = None, forward_only: bool = False
    ) -> Chunk:
        """Every value for some samples."""
        leaves, evaluation = data_leaves(samples), self._evaluation
        if forward_only:
            inputs = frozenset(site.input for site in self._sites.values() if site.input)
            return Chunk(samples.size, evaluation.some(leaves, inputs), slopes, {})
        if not self._records:
            return Chunk(samples.size, evaluation.run(leaves), slopes, {})
        made = evaluation.at_once(leaves, self._sites.keys())
        values = evaluation.completed(leaves, {name: made[name].detach() for name in made})
        recorded = {name: made[name] for name in made if name in self._recorded}
        return Chunk(samples.size, values, slopes, recorded)

    def bytes_each(self, rows: int) -> float:
        """What a sample takes with so many rows, roughly: its values, and the rows at the widest of
        them with what they are pulled back to."""
        held, widest = self._entries
        return (held + 4 * rows * widest) * self._dtype.itemsize

    @cached_property
    def _entries(self) -> tuple[int, int]:
        """Of a sample, those of all values with the largest features, and of the widest value."""
        sizes = [node.size for node in self._graph.nodes if node.floating]
        features = [
            site.size // site.arrange.sizes[2] * use.shape[2]
            for site in self._sites.values()
            for use in site.uses
        ]
        return sum(sizes) + 2 * max(features, default=0), max(sizes, default=0)

    @property
    def width(self) -> int:
        """Entries of the prediction of one sample."""
        return sum(self._sizes)

    @property
    def most_rows(self) -> int:
        """How many vectors a sample may have that are sent back."""
        curvature = self.cost.curvature
        if isinstance(curvature, SampledFisher):
            return curvature.samples
        return 1 if isinstance(curvature, EmpiricalFisher) else self.width

    def features(self, use: ParameterUse, site: Site, chunk: Chunk) -> Tensor:
        """a, (n, g, t, i), in the dtype of the cost."""
        g, t, _ = site.arrange.sizes
        if use.features is None:
            ones = torch.ones(1, dtype=self._dtype, device=self.cost.device)
            return ones.expand(chunk.size, g, t, 1)
        features = use.features(self._input(site, chunk)).to(self._dtype)
        if use.joined_from:
            # The place of the bias, which was padded with zeros: its input is 1.
            features[..., -1] = 1
        return features

    def summed_features(self, use: ParameterUse, site: Site, chunk: Chunk) -> Tensor:
        """Σ_t a, (n, g, i). Patches of an image are not laid out for it."""
        g, t, _ = site.arrange.sizes
        gather = use.gather
        if t == 1 or gather is None or gather.scatter is None:
            features = self.features(use, site, chunk)
            return features.squeeze(2) if t == 1 else features.sum(2)
        places = self._input(site, chunk).to(self._dtype)
        each = torch.ones(1, g, t, 1, dtype=places.dtype, device=places.device)
        # How many positions take up a place at each point of their window.
        taken = gather.scatter(each).squeeze(4).squeeze(0)
        places = gather.arrange(places, 1)
        if taken.shape[2] == 1:
            total = (places * taken).sum(2)
        else:
            total = torch.einsum("nguc,guw->ngcw", places, taken).flatten(2)
        return total

    def _input(self, site: Site, chunk: Chunk) -> Tensor:
        assert site.input is not None
        x = chunk.values[site.input]
        return x if site.input in self._batched else x.expand(chunk.size, *x.shape)

    def slope(self, chunk: Chunk) -> Tensor:
        """The loss's slope in the prediction, one row, (n, 1, width)."""
        parts = self._at_prediction(self._loss_slope, chunk)
        slopes = [
            parts[name].delta.flatten(1)
            if name in parts
            else torch.zeros(chunk.size, size, dtype=self._dtype, device=self.cost.device)
            for name, size in zip(self.predictions, self._sizes, strict=True)
        ]
        return torch.cat(slopes, 1).unsqueeze(1)

    def _at_prediction(self, sweep: Sweep, chunk: Chunk) -> dict[str, Arrival]:
        arrivals = sweep.arrivals(chunk.values, self._batched, self.cost.scale)
        return {arrival.site.value: arrival for arrival in arrivals}

    def rows(self, chunk: Chunk) -> Rows:
        """The vectors that are sent back: a root of the loss's Hessian in the prediction, or of
        what stands for it; with the divisor of the loss's mean, once.

        Raises:
            HesseValueError: there is none, or the prediction has parts that the loss does not use.
        """
        if chunk.slopes is not None:
            return self._of_slopes(chunk.slopes)
        if isinstance(self.cost.curvature, EmpiricalFisher):
            return Rows.of(self.slope(chunk) / self.cost.scale**0.5)
        held = self._at_prediction(self._loss, chunk)
        if len(self.predictions) == 1:
            return root(held[self.predictions[0]].hessian if held else None, self.cost.scale)
        # Between two parts of the prediction it is kept with the one that is lower in the graph.
        whole = torch.zeros(
            chunk.size, self.width, self.width, dtype=self._dtype, device=self.cost.device
        )
        ends = list(itertools.accumulate(self._sizes))
        places = {
            name: slice(end - size, end)
            for name, size, end in zip(self.predictions, self._sizes, ends, strict=True)
        }
        for name, arrival in held.items():
            if arrival.hessian is not None:
                whole[:, places[name], places[name]] = flat(as_tensor(arrival.hessian))
            for other, cross in arrival.hessians.items():
                block = flat(as_tensor(cross))
                whole[:, places[other], places[name]] = block
                whole[:, places[name], places[other]] = block.mT
        return root(whole, self.cost.scale)

    def _of_slopes(self, slopes: list[Tensor]) -> Rows:
        whole = torch.cat([part.flatten(2) for part in slopes], 2).to(self._dtype)
        if whole.shape[2] != self.width:
            raise HesseValueError(
                f"cost: its model predicts {whole.shape[2]} numbers for a sample, and the loss uses"
                f" {self.width} of them; let the model give those alone"
            )
        return Rows.of(whole * (self.cost.scale / whole.shape[1]) ** 0.5)

    def signals(self, rows: Tensor, chunk: Chunk) -> Iterator[tuple[Site, Tensor]]:
        """Every site with Jᵀ r of some rows (n, k, width), as (n, k, g, t, o); none at a site that
        the prediction does not depend on."""
        if chunk.recorded and rows.shape[1] == 1:
            yield from self._differentiated(rows, chunk)
            return
        graph, frontier = self._graph, Frontier(self._graph, chunk.values, self._placements)
        for name, part in zip(self.predictions, rows.split(self._sizes, 2), strict=True):
            # What is passed down is the frontier's own to write to.
            shaped = part.reshape(*part.shape[:2], *graph.shapes[name]).clone()
            if name in self._active:
                frontier.add(name, DELTA, shaped.to(chunk.values[name].dtype))
        highest = max(graph.place[name] for name in self.predictions)
        for place in range(highest, self._lowest - 1, -1):
            node = graph.nodes[place]
            if not frontier.has(node.name):
                continue
            site = self._sites.get(node.name)
            if site is not None:
                arrived = as_tensor(frontier.cotangents(node.name)[DELTA])
                yield site, site.arrange(arrived, 2).to(self._dtype)
            inputs = tuple(name for name in node.inputs if name in self._active)
            op = (
                Pullback(node, inputs, chunk.values, self._batched, linearized=True)
                if inputs
                else None
            )
            frontier.take(node.name, op, begins=False, diagonal_only=False)

    def _differentiated(self, rows: Tensor, chunk: Chunk) -> Iterator[tuple[Site, Tensor]]:
        """The same of one row for every sample, by automatic differentiation."""
        served, outputs = self._graph.at_once, list[Tensor]()
        cotangents = list[Tensor]()
        for name, part in zip(self.predictions, rows.split(self._sizes, 2), strict=True):
            value = chunk.recorded[name]
            if value.requires_grad:
                shaped = part.reshape(-1, *self._graph.shapes[name]).to(value.dtype)
                outputs.append(value)
                cotangents.append(served.on_axis(name, shaped))
        values = [chunk.recorded[name] for name in self._sites]
        found = torch.autograd.grad(outputs, values, cotangents, allow_unused=True)
        for site, part in zip(self._sites.values(), found, strict=True):
            if part is not None:
                arrived = served.samples_first(site.value, part).unsqueeze(1)
                yield site, site.arrange(arrived, 2).to(self._dtype)


def _of_loss_alone(captured: Captured, linearized: frozenset[str]) -> Sweep:
    """The way from the loss to the predictions, each a site of all its entries, with nothing of the
    model in it: of two predictions one may be made of the other. Where all is linearized it brings
    slopes alone."""
    graph = captured.graph
    predictions = graph.predictions or ()
    nodes = tuple(
        # Without arguments: what it is made of is not part of this.
        replace(node, args=(), kwargs={}) if node.name in predictions else node
        for node in graph.nodes
        if node.name in predictions or node.name not in graph.predicted
    )
    sites = []
    for name in predictions:
        size = graph.node[name].size
        use = ParameterUse(name, "leaf", None, (1, size, 1), None)
        sites.append(Site(name, None, Arrangement((1, 1, size), AXES_IN_ORDER), (use,)))
    partners = {
        site.value: {m.value for m in sites if graph.place[m.value] > graph.place[site.value]}
        for site in sites
    }
    without_model = replace(graph, nodes=nodes)
    return Sweep(without_model, tuple(sites), partners, linearized, split=False, keeps_delta=True)
