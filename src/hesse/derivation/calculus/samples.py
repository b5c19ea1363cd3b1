"""From one sample to all: a program and an expression with an index of samples, summed over."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import total
from hesse.derivation.calculus.expression import (
    Entry,
    Expression,
    Index,
    all_names,
    rebuilt,
)
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Definition, Program


@dataclass(frozen=True)
class CostArrays:
    """A user's own numbers: the parameters of a cost and the data of its samples, in float64.

    Attributes:
        parameters: by name.
        chunks: some of the samples after others, how many and the arrays of all leaves; those that
            each sample has of its own have one more axis, in front.
        count: how many samples there are.
        scale: the cost is the sum over them times this.
    """

    parameters: Mapping[str, Tensor]
    chunks: Callable[[], Iterator[tuple[int, Mapping[str, Tensor]]]]
    count: int
    scale: float


def batched(expression: Expression, program: Program) -> tuple[Expression, Program]:
    """Σ_n of an expression over samples, and the program with n in front of what each sample has of
    its own.

    Every leaf with ``per_sample``, and every quantity made from one, gets a first index n of a size
    that is new. What does not depend on the sample is counted once for each.

    Args:
        expression: of one sample.
        program: of one sample.
    """
    # What is made from a sample has one value for each sample too.
    sampled = {name for name, leaf in program.leaves.items() if leaf.per_sample}
    sampled |= {
        quantity.name
        for quantity in program.quantities
        if program.ancestors(quantity.name) & sampled
    }
    sizes = {str(size) for name in program.names for size in program.shape(name)}
    n = Index(
        Picker(all_names(expression) | program.letters).pick(numbered("nst")),
        Picker(sizes | program.names).pick(numbered("NT")),
    )

    def moved(part: Any) -> Any:
        # The index of samples comes first, as the batch does in arrays.
        if isinstance(part, Entry):
            return Entry(part.name, (n, *part.indices)) if part.name in sampled else part
        return rebuilt(part, moved)

    quantities = []
    for quantity in program.quantities:
        if quantity.name in sampled:
            match quantity.definition:
                case ArrayCall(operation, argument):
                    definition: Definition = ArrayCall(
                        operation, Entry(argument.name, (n, *argument.indices))
                    )
                case BlackBox(_, arguments, function) as kept:
                    definition = replace(
                        kept, function=_each(function, tuple(name in sampled for name in arguments))
                    )
                case kept:
                    definition = moved(kept)
            quantity = replace(quantity, indices=(n, *quantity.indices), definition=definition)
        quantities.append(quantity)
    leaves = {
        name: replace(leaf, sizes=(n.size, *leaf.sizes), per_sample=False)
        if name in sampled
        else leaf
        for name, leaf in program.leaves.items()
    }
    return total(moved(expression), (n,)), replace(
        program, leaves=leaves, quantities=tuple(quantities)
    )


def _each(function: Callable[..., Tensor], sampled: tuple[bool, ...]) -> Callable[..., Tensor]:
    """A map of one sample's arrays as one of all samples': one after the other."""

    def every(*arguments: Tensor) -> Tensor:
        count = next(
            len(argument) for argument, mine in zip(arguments, sampled, strict=True) if mine
        )
        samples = (
            (a[k] if mine else a for a, mine in zip(arguments, sampled, strict=True))
            for k in range(count)
        )
        return torch.stack([function(*sample) for sample in samples])

    return every
