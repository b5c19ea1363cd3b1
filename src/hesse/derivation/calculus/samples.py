"""From one sample to all: a program and an expression with an index of samples, summed over."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import total
from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Power,
    all_names,
    fresh_name,
)
from hesse.derivation.calculus.program import Definition, Opaque, Program, Whole


@dataclass(frozen=True)
class Own:
    """A user's own numbers: the parameters of a cost and the data of its samples, in float64.

    Attributes:
        parameters: by name.
        samples: some of the samples after others, how many and the arrays of all leaves; those that
            each sample has of its own have one more axis, in front.
        count: how many samples there are.
        scale: the cost is the sum over them times this.
    """

    parameters: Mapping[str, Tensor]
    samples: Callable[[], Iterator[tuple[int, Mapping[str, Tensor]]]]
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
    own = {name for name, leaf in program.leaves.items() if leaf.per_sample}
    own |= {
        quantity.name for quantity in program.quantities if program.ancestors(quantity.name) & own
    }
    definitions = (
        quantity.definition
        for quantity in program.quantities
        if isinstance(quantity.definition, Expression)
    )
    names = all_names(expression).union(*map(all_names, definitions))
    names |= {index.name for quantity in program.quantities for index in quantity.indices}
    sizes = {
        str(size) for name in (*program.leaves, *program.by_name) for size in program.shape(name)
    }
    n = Index(
        fresh_name(names, "nst"),
        fresh_name(sizes | set(program.leaves) | set(program.by_name), "NT"),
    )

    def moved(factor: Factor) -> Factor:
        match factor:
            case Entry(name, at):
                return Entry(name, (n, *at)) if name in own else factor
            case Apply(function, order, argument):
                return Apply(function, order, moved(argument))
            case Power(base, exponent):
                return Power(moved(base), everywhere(exponent))
            case Group(body):
                return Group(everywhere(body))
            case Partial(inner, by):
                return Partial(
                    moved(inner),
                    tuple(Entry(e.name, (n, *e.indices)) if e.name in own else e for e in by),
                )
            case _:
                return factor

    def everywhere(value: Expression) -> Expression:
        return Expression(
            tuple(replace(term, factors=tuple(map(moved, term.factors))) for term in value.terms)
        )

    quantities = []
    for quantity in program.quantities:
        if quantity.name in own:
            match quantity.definition:
                case Whole(operation, argument):
                    definition: Definition = Whole(
                        operation, Entry(argument.name, (n, *argument.indices))
                    )
                case Opaque(_, arguments, function) as found:
                    definition = replace(
                        found, function=_each(function, tuple(name in own for name in arguments))
                    )
                case found:
                    definition = everywhere(found)
            quantity = replace(quantity, indices=(n, *quantity.indices), definition=definition)
        quantities.append(quantity)
    leaves = {
        name: replace(leaf, sizes=(n.size, *leaf.sizes), per_sample=False) if name in own else leaf
        for name, leaf in program.leaves.items()
    }
    return total(everywhere(expression), (n,)), replace(
        program, leaves=leaves, quantities=tuple(quantities)
    )


def _each(function: Callable[..., Tensor], own: tuple[bool, ...]) -> Callable[..., Tensor]:
    """A map of one sample's arrays as one of all samples': one after the other."""

    def every(*arguments: Tensor) -> Tensor:
        count = next(len(argument) for argument, mine in zip(arguments, own, strict=True) if mine)
        samples = (
            (a[k] if mine else a for a, mine in zip(arguments, own, strict=True))
            for k in range(count)
        )
        return torch.stack([function(*sample) for sample in samples])

    return every
