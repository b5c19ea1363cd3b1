"""What is swept: a program, with numbers for all that is given to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.derivation.calculus.algebra import add, scale, total
from hesse.derivation.calculus.expression import Expression, Power, constant, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import batched
from hesse.derivation.check.point import valuation
from hesse.derivation.code.binding import bound_sizes, check_names, holds_samples, shape_text
from hesse.derivation.lines.adjoints import natural_entry
from hesse.derivation.sources.networks.graph import program_of
from hesse.errors import HesseMemoryError, HesseValueError

MOST_ENTRIES = 100_000  # of all that is given: a picture is of a small network
# What an unknown function is taken for: its slope is another one everywhere.
_SIGMOID = "sigmoid"


@dataclass(frozen=True)
class Subject:
    """A cost as a program, with its numbers.

    Attributes:
        program: the cost as quantities.
        parameters: what the derivatives are taken by.
        arrays: for each leaf that is no constant.
        functions: for each function that has no formula of its own.
        notes: what a reader should know, in sentences.
    """

    program: Program
    parameters: tuple[str, ...]
    arrays: Mapping[str, Tensor]
    functions: Mapping[str, Callable[[Tensor], Tensor]]
    notes: tuple[str, ...] = ()


def at_random(
    program: Program,
    parameters: Sequence[str],
    seed: int = 0,
    given: Mapping[str, Tensor] | None = None,
) -> Subject:
    """A program at random numbers, at which all that it is made of is finite.

    Args:
        program: of a cost; where it is that of one sample, arrays with one more axis in front hold
            samples.
        parameters: what the derivatives are taken by.
        seed: of the numbers.
        given: numbers for some of the arrays; the others get sizes that go with them.

    Raises:
        HesseKeyError: numbers for what there is not.
        HesseValueError: it is no scalar, numbers do not fit it or are not what they are said to be,
            or no such numbers were found.
        HesseMemoryError: it is larger than what one would look at.
    """
    given = given or {}
    check_names(given, program)
    if holds_samples(given, program):
        count = next(len(given[n]) for n, leaf in program.leaves.items() if leaf.per_sample)
        mean = Fraction(1, count or 1) if program.samples == "mean" else Fraction(1)
        program = _over_samples(program, mean, count, True)
    if program.cost.indices:
        shape = shape_text(program.shape(program.cost.name))
        raise HesseValueError(
            f"the cost is of shape {shape}, and a gradient is that of a number; sum over its"
            " entries, as in sum((y - W @ x)**2)"
        )
    known = bound_sizes(given, program)
    _require_as_declared(given, program)
    entries = sum(
        given[name].numel() if name in given else prod(s for s in leaf.sizes if isinstance(s, int))
        for name, leaf in program.leaves.items()
    )
    if entries > MOST_ENTRIES:
        raise _too_large(f"{entries:,} numbers in what is given to it")
    functions = dict.fromkeys(program.unknown, torch.sigmoid)
    point = valuation(program, seed, functions, resize=False, given=given, known=known)
    notes = [f"The numbers of {f} are those of the {_SIGMOID}." for f in sorted(program.unknown)]
    letters = ", ".join(f"{letter} = {size}" for letter, size in point.sizes.items())
    notes += [f"Sizes: {letters}."] if letters else []
    return Subject(program, tuple(parameters), point.arrays, functions, tuple(notes))


def of_cost(cost: Cost) -> Subject:
    """A cost over all its samples, at its own parameters.

    Raises:
        HesseValueError: it has no graph, samples of several shapes, or a penalty that cannot be
            written as formulas.
        HesseMemoryError: it is larger than what one would look at.
    """
    if len(cost.signatures) > 1:
        raise HesseValueError(
            f"the samples of {cost.name} have {len(cost.signatures)} shapes, and a graph is that of"
            " one; give samples of one shape"
        )
    if cost.layout.size > MOST_ENTRIES:
        raise _too_large(f"{cost.layout.size:,} parameters")
    traced = program_of(cost.without_penalty())
    given = traced.cost_arrays()
    chunks = [arrays for _, arrays in given.chunks()]
    arrays = dict(chunks[0])
    own = [name for name in arrays if traced.program.leaves[name].per_sample]
    arrays |= {name: torch.cat([chunk[name] for chunk in chunks]) for name in own}
    entries = sum(array.numel() for array in arrays.values())
    if entries > MOST_ENTRIES:
        raise _too_large(f"{entries:,} numbers in its parameters and samples")
    program = _over_samples(traced.program, _exact(cost.scale), given.count, bool(own))
    functions = dict(traced.functions)
    if callable(cost.penalty):
        alone = Cost.from_function(cost.penalty, cost.parameters)
        try:
            added = program_of(alone, program.names)
        except HesseValueError as error:
            raise HesseValueError(
                "penalty: a function that cannot be written as formulas has no node in the graph;"
                f" give a number, or leave it out ({error.__cause__})"
            ) from error
        ((_, others),) = added.cost_arrays().chunks()
        program = _with_function(program, added.program)
        arrays, functions = {**others, **arrays}, {**added.functions, **functions}
    elif cost.penalty:
        program = _with_squares(program, traced.parameters, Fraction(str(cost.penalty)))
    return Subject(program, traced.parameters, arrays, functions)


def direction(subject: Subject, seed: int = 0) -> dict[str, Tensor]:
    """A random vector v, an array for each parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(
            subject.arrays[name].shape, generator=generator, dtype=torch.float64, device="cpu"
        )
        for name in subject.parameters
    }


def _require_as_declared(given: Mapping[str, Tensor], program: Program) -> None:
    """Refuse numbers for which the formulas would be others."""
    for name, array in given.items():
        leaf = program.leaves[name]
        if leaf.structure is not None and not leaf.structure.holds(array):
            fact = leaf.structure.fact.replace("A", name)
            raise HesseValueError(f"{name}: given is {fact}, and its numbers are not so")
        if leaf.sums_to is not None and not torch.allclose(
            array.sum(-1), torch.tensor(float(leaf.sums_to), dtype=array.dtype)
        ):
            raise HesseValueError(
                f"{name}: its entries are given to add to {leaf.sums_to}, and its numbers do not"
            )


def _over_samples(program: Program, factor: Fraction, count: int, sampled: bool) -> Program:
    """A factor times the sum of one sample's cost over all samples."""
    last = program.cost
    assert isinstance(last.definition, Expression)
    if sampled:
        value, program = batched(last.definition, program)
    else:  # the samples are all alike, or there are none
        value = scale(last.definition, count)
    cost = replace(last, definition=scale(value, factor), note="")
    return replace(program, quantities=(*program.quantities[:-1], cost))


def _with_function(program: Program, penalty: Program) -> Program:
    """A function of the parameters, whose other names are its own, added to the cost."""
    cost, added = program.cost.definition, penalty.cost.definition
    assert isinstance(cost, Expression) and isinstance(added, Expression)
    both = replace(program.cost, definition=add(cost, added))
    return replace(
        program,
        leaves={**penalty.leaves, **program.leaves},
        quantities=(*program.quantities[:-1], *penalty.quantities[:-1], both),
        unknown=program.unknown | penalty.unknown,
    )


def _with_squares(program: Program, parameters: Sequence[str], factor: Fraction) -> Program:
    """½ λ Σ w² over all entries of the parameters, added to the cost."""
    cost = program.cost
    assert isinstance(cost.definition, Expression)
    entries = [natural_entry(program, name) for name in parameters]
    squares = [total(of(Power(entry, constant(2))), entry.indices) for entry in entries]
    value = add(cost.definition, scale(add(*squares), factor / 2))
    return replace(program, quantities=(*program.quantities[:-1], replace(cost, definition=value)))


def _exact(factor: float) -> Fraction:
    """1/4 or 1/3 as it is meant, where a whole number of samples is divided by."""
    whole = round(1 / factor) if factor else 0
    return Fraction(1, whole) if whole and 1 / whole == factor else Fraction(factor)


def _too_large(what: str) -> HesseMemoryError:
    return HesseMemoryError(
        f"cost: it has {what}, and a graph with its numbers is drawn of at most {MOST_ENTRIES:,};"
        " give fewer samples, or a smaller network of the same kind"
    )
