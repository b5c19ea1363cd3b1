"""What of each sample can be asked: how it is made of a graph, and of one sample alone, and what it
is held against."""

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from hesse.capture import Captured
from hesse.certificates.drawing import drawn, generator
from hesse.certificates.reference import Request, independent, of_batch
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.evaluation import batch_gradient
from hesse.exact.contraction.by_sample import blocks_by_sample, entries_by_sample
from hesse.exact.contraction.pair import Pair
from hesse.exact.plan import NamePair
from hesse.exact.way_down import way_down
from hesse.process.price import Room
from hesse.samples import one_by_one
from hesse.samples.gradients import GradientsAtSites
from hesse.samples.one_by_one import Parts

# A batch's worth of second derivatives is held against so many products.
_PROBES = 3


class Way(NamedTuple):
    """How something is made of many samples at once.

    Attributes:
        of_batch: a batch -> its parts, (n, ...) each.
        rooms: the bytes that are alive at once beside them, everywhere on the way.
    """

    of_batch: Callable[[Batch], Parts]
    rooms: Sequence[Room]


class Probe(NamedTuple):
    """Something that can be known of a sum over samples in another way.

    Attributes:
        ours: by name, of the sum.
        theirs: the same by autograd of the function as given.
    """

    ours: dict[Any, Tensor]
    theirs: Callable[[], Mapping[Any, Tensor]]


class Quantity(abc.ABC):
    """Something of each sample's share of a cost.

    Args:
        cost: the cost, of which a curvature is asked for.

    Attributes:
        cost: the cost that it is taken of.
        shapes: of a sample's parts, by name.
        compared: what of it is held against autograd.
    """

    compared: str
    shapes: dict[Any, tuple[int, ...]]

    def __init__(self, cost: Cost) -> None:
        self.cost = cost.curved
        self._reference = independent(self.cost, ())[0]
        self._random = generator()

    @property
    def bytes(self) -> int:
        """What a sample's parts take."""
        return self.cost.dtype.itemsize * sum(
            torch.Size(shape).numel() for shape in self.shapes.values()
        )

    @abc.abstractmethod
    def by_graph(self, captured: Captured, signature: Any) -> Way:
        """How it is made of a graph.

        Raises:
            NotCaptured: an operation of the graph has no rule that is right.
        """

    @abc.abstractmethod
    def of_sample(self, batch: Batch) -> Mapping[Any, Tensor]:
        """The same of one sample alone, by double backward."""

    @abc.abstractmethod
    def probes(self, batch: Batch, summed: Parts) -> list[Probe]:
        """What of the sum over a batch's samples can be known in another way."""

    def _product(self, v: dict[str, Tensor], rows: tuple[str, ...], batch: Batch) -> Parts:
        """Some parts of a product with the second derivatives of a batch's share of the cost."""
        return of_batch(self._reference, batch, [Request(v, rows)])[0]


@final
class Gradients(Quantity):
    """∂ℓ_n/∂θ."""

    compared = "the sum"

    def __init__(self, cost: Cost) -> None:
        super().__init__(cost)
        self.shapes = dict(zip(cost.layout.names, cost.layout.shapes, strict=True))

    def by_graph(self, captured: Captured, signature: Any) -> Way:
        """Outer products at the sites."""
        made = GradientsAtSites(self.cost, captured)
        return Way(made, [Room(0, made.numbers * self.cost.dtype.itemsize)])

    def of_sample(self, batch: Batch) -> Mapping[str, Tensor]:
        """By autograd."""
        return batch_gradient(self.cost, batch)

    def probes(self, batch: Batch, summed: Parts) -> list[Probe]:
        """The whole gradient of the batch."""
        return [Probe(summed, lambda: batch_gradient(self.cost, batch))]


class _SecondDerivatives(Quantity):
    """Some blocks, or what lies on their diagonal, of pairs of parameters."""

    pairs: tuple[NamePair, ...]

    def by_graph(self, captured: Captured, signature: Any) -> Way:
        """From what the sweep brings; with what enters in no linear way, one by one."""
        alone = [pair for pair in self.pairs if not captured.fallbacks.keys().isdisjoint(pair)]
        use = self._rehearsed
        down = way_down(
            self.cost, captured, signature, self.pairs, captured.fallbacks, use, by_sample=True
        )

        def of_batch(batch: Batch) -> Parts:
            parts = self._zeros(batch.size)
            for key, pair in down.backward_pass.run(batch):
                self._add(parts, pair, down.keys[key])
            if alone:
                parts |= one_by_one.stacked(partial(self._of_sample, alone), batch)
            return parts

        run = down.dry_run
        return Way(of_batch, [run.peak(place) for place in range(len(run.few.values))])

    def of_sample(self, batch: Batch) -> Mapping[Any, Tensor]:
        """By products with unit vectors."""
        return self._of_sample(self.pairs, batch)

    def _zeros(self, n: int) -> Parts:
        options: dict[str, Any] = {"dtype": self.cost.dtype, "device": self.cost.device}
        return {key: torch.zeros(n, *shape, **options) for key, shape in self.shapes.items()}

    @property
    @abc.abstractmethod
    def _rehearsed(self) -> Callable[[Pair], None] | None:
        """What is done with a pair of the diagonal alone; ``None`` of whole blocks."""

    @abc.abstractmethod
    def _of_sample(self, pairs: Sequence[NamePair], batch: Batch) -> Mapping[Any, Tensor]:
        """Of some of the pairs."""

    @abc.abstractmethod
    def _add(self, parts: Parts, pair: Pair, names: Sequence[NamePair]) -> None:
        """Add what a pair of uses brings."""


@final
class Diagonals(_SecondDerivatives):
    """∂²ℓ_n/∂θ_k²."""

    compared = f"up to {_PROBES} entries of the sum"

    def __init__(self, cost: Cost) -> None:
        super().__init__(cost)
        self.pairs = tuple((name, name) for name in cost.layout.names)
        self.shapes = dict(zip(cost.layout.names, cost.layout.shapes, strict=True))

    @property
    def _rehearsed(self) -> Callable[[Pair], None]:
        def entries(pair: Pair) -> None:
            entries_by_sample(pair, self.cost.layout.sizes[pair.left.parameter])

        return entries

    def _of_sample(self, pairs: Sequence[NamePair], batch: Batch) -> Mapping[str, Tensor]:
        return one_by_one.diagonal(self.cost, batch, [name for name, _ in pairs])

    def _add(self, parts: Parts, pair: Pair, names: Sequence[NamePair]) -> None:
        total = parts[pair.left.parameter]
        total = total.view(len(total), -1)
        total += entries_by_sample(pair, total.shape[1])

    def probes(self, batch: Batch, summed: Parts) -> list[Probe]:
        """Entries of parameters that are drawn."""
        names = [name for name in self.shapes if summed[name].numel()]
        order = torch.randperm(len(names), generator=self._random, device="cpu")[:_PROBES]
        return [self._probe(names[int(place)], batch, summed) for place in order]

    def _probe(self, name: str, batch: Batch, summed: Parts) -> Probe:
        entries = summed[name].flatten()
        place = int(torch.randint(len(entries), (1,), generator=self._random, device="cpu"))
        unit = torch.zeros_like(self.cost.parameters[name])
        unit.view(-1)[place] = 1

        def theirs() -> Parts:
            return {name: self._product({name: unit}, (name,), batch)[name].flatten()[place]}

        return Probe({name: entries[place]}, theirs)


@final
class Blocks(_SecondDerivatives):
    """∂²ℓ_n/∂a∂b for some pairs of parameters.

    Args:
        cost: the cost.
        pairs: in the order in which they are asked for.
    """

    compared = f"up to {_PROBES} products with the sum"

    def __init__(self, cost: Cost, pairs: tuple[NamePair, ...]) -> None:
        super().__init__(cost)
        self.pairs = pairs
        shape = cost.layout.shape
        self.shapes = {(a, b): (*shape(a), *shape(b)) for a, b in pairs}

    @property
    def _rehearsed(self) -> None:
        return None

    def _of_sample(self, pairs: Sequence[NamePair], batch: Batch) -> Mapping[NamePair, Tensor]:
        found = one_by_one.blocks(self.cost, batch, pairs)
        return {pair: part.reshape(self.shapes[pair]) for pair, part in found.items()}

    def _add(self, parts: Parts, pair: Pair, names: Sequence[NamePair]) -> None:
        block, (left, right) = blocks_by_sample(pair), (pair.left, pair.right)
        sizes = self.cost.layout.sizes
        a, b = left.parameter, right.parameter
        for (first, second), part, rows, columns in (
            ((a, b), block, left.index, right.index),
            ((b, a), block.mT, right.index, left.index),
        ):
            # A use with itself has one order; two uses of one parameter meet in both.
            if (first, second) in parts and not (pair.same and part is not block):
                total = parts[first, second].view(len(block), sizes[first], sizes[second])
                _add_at(total, part, rows, columns)

    def probes(self, batch: Batch, summed: Parts) -> list[Probe]:
        """Products of blocks with the same columns, drawn."""
        columns = list(dict.fromkeys(b for (_, b) in summed if self.cost.layout.sizes[b]))
        order = torch.randperm(len(columns), generator=self._random, device="cpu")[:_PROBES]
        return [self._probe(columns[int(place)], batch, summed) for place in order]

    def _probe(self, name: str, batch: Batch, summed: Parts) -> Probe:
        parameter = self.cost.parameters[name]
        v = drawn(parameter, self._random)
        rows = tuple(a for (a, b) in summed if b == name)
        ours = {
            a: torch.tensordot(summed[a, name].flatten(-parameter.ndim), v.flatten(), 1)
            if parameter.ndim
            else summed[a, name] * v
            for a in rows
        }
        return Probe(ours, lambda: self._product({name: v}, rows, batch))


def _add_at(total: Tensor, part: Tensor, rows: Tensor | None, columns: Tensor | None) -> None:
    """Add matrices (n, k, l) where some rows and columns are."""
    if rows is None and columns is None and total.shape == part.shape:
        total += part
        return
    samples, tall, wide = (torch.arange(size, device=total.device) for size in part.shape)
    tall = tall if rows is None else rows.to(total.device)
    wide = wide if columns is None else columns.to(total.device)
    places = (samples.view(-1, 1, 1), tall.view(1, -1, 1), wide.view(1, 1, -1))
    total.index_put_(places, part, accumulate=True)
