"""The samples in chunks, and every value of the graph for a chunk."""

import copy
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hesse.cost import Cost
from hesse.data.batch import Batch, concatenate
from hesse.graph.graph import Graph, Node
from hesse.graph.sites import Site
from hesse.process.rehearsal import as_shape

# Values of so many entries of a sample take little memory.
_SMALL = 100_000


def chunks(cost: Cost, size: int, signature: Hashable) -> Iterator[Batch]:
    """The samples of all batches of a signature, cut and joined into chunks of one size; the last
    may be smaller."""
    return cut(
        (batch for batch in cost.batches() if batch is not None and batch.signature == signature),
        size,
    )


def cut(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The samples of batches of one signature in chunks of one size; the last may be smaller."""
    held: list[Batch] = []
    count = 0
    for batch in batches:
        start = 0
        while start < batch.size:
            take = min(size - count, batch.size - start)
            held.append(batch if take == batch.size else batch.take(slice(start, start + take)))
            start, count = start + take, count + take
            if count == size:
                yield concatenate(held)
                held, count = [], 0
    if held:
        yield concatenate(held)


class ChunkEvaluation:
    """Every value of the graph for a chunk of samples."""

    def __init__(
        self,
        graph: Graph,
        sites: tuple[Site, ...],
        fixed: dict[str, Tensor],
        parameters: dict[str, Tensor],
    ) -> None:
        self.graph = graph
        static = graph.given(parameters, fixed)
        # A site has a δ of its own for every sample, also where its value is the same for all.
        self.batched = graph.downstream({*graph.data, *(site.value for site in sites)})
        # A leaf is the parameter itself, the same for all samples: expanded, not computed for each.
        self._leaves = {site.value for site in sites if site.uses[0].kind == "leaf"}
        with torch.no_grad():
            for node in graph.nodes:
                if node.name not in self.batched or node.name in self._leaves:
                    static[node.name] = node.evaluate(static)
        self._static = static

    def on_shapes(self) -> "ChunkEvaluation":
        """The same for tensors without numbers, for a rehearsal."""
        other = copy.copy(self)
        other._static = {name: as_shape(value) for name, value in self._static.items()}
        return other

    def run(self, leaves: list[Any]) -> dict[str, Any]:
        """Values by name; those in ``batched`` have a leading sample axis. That of the loss, of
        which nothing but its shape and dtype is asked on the way down, is nan.

        Args:
            leaves: the samples' tensors in the order of the graph's data values, (n, ...).
        """
        graph, n = self.graph, len(leaves[0])
        names = [
            node.name
            for node in graph.nodes
            if node.name in self.batched and node.name not in self._leaves
        ]
        loss = graph.output if graph.output in names else None
        names = [name for name in names if name != loss]

        def of_sample(*sample: Any) -> dict[str, Any]:
            values = {**self._static, **dict(zip(graph.data, sample, strict=True))}
            for name in names:
                values[name] = graph.node[name].evaluate(values)
            return {name: values[name] for name in names}

        tensors = _with_an_axis(leaves)
        with torch.no_grad():
            batched = vmap(
                of_sample,
                in_dims=tuple(0 if isinstance(leaf, Tensor) else None for leaf in tensors),
            )(*tensors)
        values = {
            **self._static,
            **dict(zip(graph.data, tensors, strict=True)),
            **{name: self._repeated(self._static[name], n) for name in self._leaves},
            **batched,
        }
        if loss is not None:
            values[loss] = self._repeated(self._kind(graph.node[loss], values), n)
        return values

    def _kind(self, node: Node, values: Mapping[str, Any]) -> Tensor:
        """nan in the shape and dtype of a node's value, for one sample."""
        # As the first sample has it: of all it would take as long as a layer.
        first = {
            name: values[name][0]
            if name in self.batched and isinstance(values[name], Tensor)
            else values[name]
            for name in node.inputs
        }
        with torch.no_grad():
            return torch.full_like(node.evaluate(first), torch.nan)

    def in_turn(self, leaves: list[Any]) -> Iterator[tuple[Node, Mapping[str, Any]]]:
        """Every node with its value and its inputs, by name as in `run`; what no later node takes
        is let go."""
        graph, n = self.graph, len(leaves[0])
        last = {name: node for node in graph.nodes for name in (*node.inputs, node.name)}
        values = {
            **self._static,
            **dict(zip(graph.data, _with_an_axis(leaves), strict=True)),
            **{name: self._repeated(self._static[name], n) for name in self._leaves},
        }
        for stretch in _stretches(graph.nodes):
            with torch.no_grad():
                values |= self._of_samples(
                    [node for node in stretch if node.name not in values], values, n
                )
            for node in stretch:
                yield node, values
                for name in (*node.inputs, node.name):
                    if last[name] is node:
                        values.pop(name, None)

    def _of_samples(
        self, nodes: Sequence[Node], values: Mapping[str, Any], n: int
    ) -> dict[str, Tensor]:
        """The values of some nodes that follow one another."""
        inputs = dict.fromkeys(name for node in nodes for name in node.inputs)
        varying = [
            name for name in inputs if name in self.batched and isinstance(values.get(name), Tensor)
        ]

        def of_sample(*sample: Any) -> dict[str, Tensor]:
            known = {**values, **dict(zip(varying, sample, strict=True))}
            for node in nodes:
                known[node.name] = node.evaluate(known)
            return {node.name: known[node.name] for node in nodes}

        if not varying:
            return {name: self._repeated(value, n) for name, value in of_sample().items()}
        return vmap(of_sample)(*(values[name] for name in varying))

    @staticmethod
    def _repeated(value: Tensor, n: int) -> Tensor:
        return value.expand(n, *value.shape)


def _stretches(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Nodes that follow one another, as many as are small together: `vmap` takes longer to start
    than they do."""
    stretch, size = list[Node](), 0
    for node in nodes:
        if stretch and size + node.size > _SMALL:
            yield stretch
            stretch, size = [], 0
        stretch.append(node)
        size += node.size
    yield stretch


def _with_an_axis(leaves: list[Any]) -> list[Any]:
    """Tensors of samples, each of which keeps an axis of its own."""
    return [leaf.unsqueeze(1) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
