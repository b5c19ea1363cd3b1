"""A captured cost as a program, and the arrays of its leaves, which the cost's own data give."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from hesse.capture import data_leaves
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import CostArrays
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.sources.networks.builder import Given
from hesse.errors import HesseValueError
from hesse.graph.graph import Graph
from hesse.operations.registry import record_of

AT_ONCE = 64  # samples that a formula is evaluated for together


@dataclass(frozen=True, eq=False)
class GraphProgram:
    """A cost as formulas.

    Attributes:
        program: the loss of one sample, J.
        parameters: the cost's parameters; they have the same names in the program.
        functions: what stands for each elementwise function without a formula of its own.
        whole: why J is the whole cost, and not that of one sample; None where it is.
        cost: where it came from.
    """

    program: Program
    parameters: tuple[str, ...]
    functions: Mapping[str, Callable[[Tensor], Tensor]]
    whole: str | None
    cost: Cost = field(repr=False)
    graph: Graph = field(repr=False)
    given: Mapping[str, Given] = field(repr=False)

    def arrays(self, sample: Batch | None) -> dict[str, Tensor]:
        """The float64 array of each leaf that is not a constant, for a batch of one sample, or of a
        function of the parameters alone."""
        values = Values(self.graph, self.cost, sample)
        return {name: given(values).detach().double().cpu() for name, given in self.given.items()}

    def samples(self, count: int) -> Iterator[dict[str, Tensor]]:
        """The arrays for the first samples of the cost's data."""
        return map(self.arrays, self._first(count))

    def _first(self, count: int) -> Iterator[Batch | None]:
        """The first samples, a batch each; None where J is the whole cost."""
        if self.whole is not None:
            return iter([None])
        batches = (batch for batch in self.cost.batches() if batch is not None)
        return islice(
            (
                batch.take(slice(place, place + 1))
                for batch in batches
                for place in range(batch.size)
            ),
            count,
        )

    def check_value(self, count: int) -> None:
        """Hold J of the first samples against the user's own function: no formula of an operation
        is believed.

        Raises:
            HesseValueError: it is another number.
        """
        # Formulas are valued in float64, the model in its own type.
        limit = 1e-4 if self.cost.dtype == torch.float32 else 1e-9
        for arrays, sample in zip(self.samples(count), self._first(count), strict=True):
            value = float(
                Valuation(self.program, arrays, self.functions).value(self.program.cost.name)
            )
            with torch.no_grad():
                if self.whole is None:
                    expected = float(self.cost.total(self.cost.parameters, sample))
                else:
                    (batch,) = self.cost.batches()
                    expected = self.cost.scale * float(self.cost.total(self.cost.parameters, batch))
            if not abs(value - expected) <= limit * (abs(expected) + limit):
                records = sorted(
                    {record_of(node).name or str(node.kind) for node in self.graph.nodes}
                )
                raise HesseValueError(
                    f"derive: the formula of {self.cost.name} gives {value:.6g} for a sample for"
                    f" which the model gives {expected:.6g}; please report it: the formula of one"
                    f" of {', '.join(records)} is wrong"
                )

    def cost_arrays(self) -> CostArrays:
        """The cost's own parameters and data."""
        parameters = {
            name: value.detach().double().cpu() for name, value in self.cost.parameters.items()
        }
        if self.whole is not None:
            return CostArrays(parameters, lambda: iter([(1, self.arrays(None))]), 1, 1.0)
        return CostArrays(parameters, self._chunks, self.cost.samples, self.cost.scale)

    def _chunks(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """How many samples, and their arrays: all of the cost's, some at a time."""
        stacked = [name for name in self.given if self.program.leaves[name].per_sample]
        # Samples without data of their own are all alike: there is nothing to stack.
        at_once = AT_ONCE if stacked else 1
        for batch in self.cost.batches():
            assert batch is not None
            for start in range(0, batch.size, at_once):
                some = range(start, min(start + at_once, batch.size))
                each = [self.arrays(batch.take(slice(place, place + 1))) for place in some]
                yield (
                    len(each),
                    each[0]
                    | {name: torch.stack([arrays[name] for arrays in each]) for name in stacked},
                )


# A class, for a function within a function could not be pickled.
@dataclass(frozen=True)
class Value:
    """The array of a leaf: one of the values, in a shape where that is given."""

    name: str
    shape: tuple[int, ...] | None = None

    def __call__(self, values: dict[str, Any]) -> Tensor:
        value = values[self.name]
        return value if self.shape is None else value.reshape(self.shape)


class Values(dict[str, Any]):
    """The values of a graph that depend on no parameter being moved, each worked out when it is
    asked for."""

    def __init__(self, graph: Graph, cost: Cost, sample: Batch | None) -> None:
        super().__init__(graph.given(cost.parameters, cost.fixed))
        if sample is not None:
            self.update(zip(graph.data, data_leaves(sample), strict=True))
        self._graph = graph

    def __missing__(self, name: str) -> Any:
        node = self._graph.node[name]
        self[name] = node.evaluate({other: self[other] for other in node.inputs})
        return self[name]
