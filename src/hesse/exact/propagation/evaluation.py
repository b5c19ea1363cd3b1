"""The samples in chunks, and every value of the graph for a chunk."""

import copy
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
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
        self._names = [
            node.name
            for node in graph.nodes
            if node.name in self.batched
            and node.name not in self._leaves
            and node.name != graph.output
        ]
        self._at_once = [name for name in self._names if name in graph.at_once.nodes]
        # What is made of leaves alone is the same for all samples too.
        varying = graph.downstream({*graph.data, *self._at_once})
        self._same = {name: static[name] for name in self._leaves}
        with torch.no_grad():
            for name in self._names:
                if name not in varying:
                    self._same[name] = graph.node[name].evaluate({**static, **self._same})
        self._names = [name for name in self._names if name in varying]

    def on_shapes(self) -> "ChunkEvaluation":
        """The same for tensors without numbers, for a rehearsal."""
        other = copy.copy(self)
        other._static = {name: as_shape(value) for name, value in self._static.items()}
        other._same = {name: as_shape(value) for name, value in self._same.items()}
        return other

    def run(self, leaves: list[Any]) -> dict[str, Any]:
        """Values by name; those in ``batched`` have a leading sample axis. That of the loss, of
        which nothing but its shape and dtype is asked on the way down, is nan.

        Args:
            leaves: the samples' tensors in the order of the graph's data values, (n, ...).
        """
        return self.completed(leaves, self.at_once(leaves))

    def some(self, leaves: list[Any], wanted: frozenset[str]) -> dict[str, Any]:
        """As `run`, but of the values that the data make only some, where that saves memory."""
        if not wanted <= {*self._at_once, *self.graph.data, *self._static}:
            return self.run(leaves)
        return self.placed(leaves, self.at_once(leaves, wanted=wanted))

    def at_once(
        self, leaves: list[Any], sites: Collection[str] = (), wanted: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """The values of the operations that serve many samples at once, with these on the axis that
        the graph says.

        Args:
            leaves: as for `run`.
            sites: from which of them on it is recorded for automatic differentiation.
            wanted: which are wanted; all by default. Others are let go, and their memory is used
                again.
        """
        served, n = self.graph.at_once, len(leaves[0])
        names, done = self._at_once, dict[str, list[str]]()
        if wanted is not None:
            needed = self.graph.upstream(*wanted)
            names = [name for name in names if name in needed]
            last = {source: name for name in names for source in served.nodes[name].inputs}
            for source in last.keys() & set(names) - set(wanted):
                done.setdefault(last[source], []).append(source)
        values = {**self._static, **self._same}
        values |= dict(zip(self.graph.data, leaves, strict=True))
        with torch.set_grad_enabled(bool(sites)):
            for name in names:
                value, axis = served.nodes[name].evaluate(values), served.axes[name]
                if value.shape[axis] != n:  # the same for all
                    value = value.expand(*value.shape[:axis], n, *value.shape[axis + 1 :])
                if name in sites and not value.requires_grad:
                    value.requires_grad_()
                values[name] = value
                for source in done.get(name, ()):
                    del values[source]
        return {name: values[name] for name in names if name in values}

    def placed(self, leaves: list[Any], made: Mapping[str, Tensor]) -> dict[str, Any]:
        """The values that are known without `vmap`, as from `run`, where those are made that
        `at_once` makes."""
        graph, n = self.graph, len(leaves[0])
        return {
            **self._static,
            **dict(zip(graph.data, _with_an_axis(leaves), strict=True)),
            **{name: self._repeated(value, n) for name, value in self._same.items()},
            **{name: graph.at_once.samples_first(name, value) for name, value in made.items()},
        }

    def completed(self, leaves: list[Any], made: Mapping[str, Tensor]) -> dict[str, Any]:
        """All values likewise."""
        graph, values = self.graph, self.placed(leaves, made)
        values |= self._one_by_one([name for name in self._names if name not in made], values)
        if graph.output in self.batched:
            shape = len(leaves[0]), *graph.shapes[graph.output]
            # Expanded from one: nothing is filled.
            loss = leaves[0].new_full((), torch.nan, dtype=graph.at_once.dtype)
            values[graph.output] = loss.expand(shape)
        return values

    def total(self, leaves: list[Any], made: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses, recorded for automatic differentiation where what `at_once` made
        is."""
        output, total = self.graph.output, self.graph.at_once.total
        if total is not None:
            given = dict(zip(self.graph.data, leaves, strict=True))
            return total.evaluate({**self._static, **self._same, **given, **made})
        names = [*(name for name in self._names if name not in made), output]
        losses = self._one_by_one(names, self.placed(leaves, made), recorded=True)[output]
        return losses.expand(len(leaves[0])).sum()

    def _one_by_one(
        self, names: list[str], values: Mapping[str, Any], recorded: bool = False
    ) -> dict[str, Tensor]:
        """The values of other operations, each for every sample."""
        if not names:
            return {}
        nodes = [self.graph.node[name] for name in names]
        taken = dict.fromkeys(name for node in nodes for name in node.inputs if name not in names)

        def of_sample(*sample: Any) -> dict[str, Any]:
            inner = dict(zip(taken, sample, strict=True))
            for node in nodes:
                inner[node.name] = node.evaluate(inner)
            return {name: inner[name] for name in names}

        alike = {**self._static, **self._same}
        given = [(alike if name in alike else values)[name] for name in taken]
        axes = tuple(
            0 if name not in alike and isinstance(value, Tensor) else None
            for name, value in zip(taken, given, strict=True)
        )
        with torch.set_grad_enabled(recorded):
            return vmap(of_sample, in_dims=axes)(*given)

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
