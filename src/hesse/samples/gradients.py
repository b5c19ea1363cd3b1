"""Every sample's gradient from one pass up and one down: the outer product of what a site takes in
and what comes back to it, summed over its positions."""

from typing import Any, final

import torch
from torch import Tensor
from torch.func import grad, vmap

from hesse.capture import Captured, data_leaves, sample_values
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.graph.sites import ParameterUse, Site
from hesse.graph.structures import in_pieces
from hesse.samples.one_by_one import Parts

# How often the values of the graph are held at once: on the way up, and what comes back to them.
_COPIES_OF_VALUES = 4


@final
class GradientsAtSites:
    """∂ℓ_n/∂W[g,o,i] = Σ_t δ[n,g,t,o] a[n,g,t,i] at every site where W enters, with a what the site
    takes in and δ the derivative of the sample's share of the cost in what it gives.

    What enters in no linear way is a site of its own, with a = 1.

    Args:
        cost: the cost.
        captured: its graph and sites.
    """

    def __init__(self, cost: Cost, captured: Captured) -> None:
        self._cost, self._graph = cost, captured.graph
        self._sites = {site.value: site for site in captured.sites}
        # A parameter that is no site, for it is large, is shifted itself.
        self._alone = {
            value: name
            for value, name in captured.graph.parameters.items()
            if name in captured.fallbacks
        }
        # From a site with samples side by side automatic differentiation goes on by itself.
        self._evaluation = ChunkEvaluation(
            captured.graph, captured.sites, cost.fixed, cost.parameters
        )
        self._records = not self._alone and self._sites.keys() <= self._graph.at_once.nodes.keys()
        values = sum(node.size for node in self._graph.nodes)
        features = sum(
            site.arrange.sizes[0] * site.arrange.sizes[1] * use.shape[2]
            for site in captured.sites
            for use in site.uses
        )
        self.numbers = _COPIES_OF_VALUES * values + features

    def __call__(self, batch: Batch) -> Parts:
        """Of a batch, {name: (n, *shape)}."""
        slopes, inputs = self._recorded(batch) if self._records else self._shifted(batch)
        cost, n = self._cost, batch.size
        sums: dict[str, Tensor] = {}
        for value, site in self._sites.items():
            delta = site.arrange(slopes[value], 1)
            for use in site.uses:
                name, gradient = use.parameter, self._gradient(use, site, delta, inputs)
                sums[name] = _added(sums.get(name), use, gradient, cost.layout.sizes[name])
        for value, name in self._alone.items():
            sums[name] = slopes[value].reshape(n, -1)
        return {
            name: sums[name].reshape(n, *p.shape) if name in sums else p.new_zeros(n, *p.shape)
            for name, p in cost.parameters.items()
        }

    @staticmethod
    def _gradient(
        use: ParameterUse, site: Site, delta: Tensor, inputs: dict[str, Tensor]
    ) -> Tensor:
        """(n, g o i)."""
        if use.features is None:
            return delta.sum(2).flatten(1)
        assert site.input is not None
        x, t = inputs[site.input], delta.shape[2]
        if t == 1:  # no sum, and a product of matrices would take longer
            return (delta.mT * use.features(x).to(delta.dtype)).flatten(1)
        g, o, i = use.shape
        made = delta.new_empty(len(x), g, o, i)
        # Some samples at a time, so that what a site takes in by position stays in the caches.
        step = in_pieces(len(x), g * t * i)
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            features = use.features(x[some]).to(delta.dtype)
            torch.matmul(delta[some].mT, features, out=made[some])
        return made.flatten(1)

    def _recorded(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The derivative in the value of every site, and the inputs of the sites, (n, ...), of all
        samples at once."""
        leaves, cost, served = data_leaves(batch), self._cost, self._graph.at_once
        made = self._evaluation.at_once(leaves, self._sites.keys())
        total = self._evaluation.total(leaves, made) * cost.scale
        values = [made[name] for name in self._sites]
        found = torch.autograd.grad(total, values, materialize_grads=True)
        slopes = {
            name: served.samples_first(name, part).to(cost.dtype)
            for name, part in zip(self._sites, found, strict=True)
        }
        known = self._evaluation.placed(leaves, {name: made[name].detach() for name in made})
        inputs = {site.input: known[site.input] for site in self._sites.values() if site.input}
        return slopes, {
            name: x if name in self._evaluation.batched else x.expand(batch.size, *x.shape)
            for name, x in inputs.items()
        }

    def _shifted(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The same by shifts of the values, sample by sample."""
        graph, cost, n = self._graph, self._cost, batch.size
        leaves = [
            leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in data_leaves(batch)
        ]
        axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)
        options: dict[str, Any] = {"dtype": cost.dtype, "device": cost.device}
        shifts = {
            value: torch.zeros(n, *graph.shapes[value], **options)
            for value in (*self._sites, *self._alone)
        }
        wanted = {site.input for site in self._sites.values() if site.input is not None}

        def of_sample(shift: dict[str, Tensor], *sample: Any) -> tuple[Tensor, dict[str, Tensor]]:
            values = sample_values(graph, cost, cost.parameters, sample, shift)
            return values[graph.output], {name: values[name] for name in wanted}

        def total(shifts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            losses, inputs = vmap(of_sample, in_dims=(0, *axes))(shifts, *leaves)
            return losses.sum() * cost.scale, inputs

        slopes, inputs = grad(total, has_aux=True)(shifts)
        return slopes, inputs


def _added(total: Tensor | None, use: ParameterUse, gradient: Tensor, size: int) -> Tensor:
    """What a use brings, added to what others brought, at the entries of the parameter."""
    if use.index is None and gradient.shape[1] == size:
        # The first as it is: another pass takes as long as making it.
        return gradient if total is None else total.add_(gradient)
    entries = torch.arange(gradient.shape[1], device="cpu") if use.index is None else use.index
    total = gradient.new_zeros(len(gradient), size) if total is None else total
    return total.index_add_(1, entries.to(total.device), gradient)
