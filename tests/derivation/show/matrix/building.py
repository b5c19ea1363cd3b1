"""Expressions written briefly: each letter is an index of one size, each array has a size for each
of its letters."""

from collections.abc import Iterable
from fractions import Fraction

import torch

from hesse.derivation.calculus.expression import (
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Partial,
    Power,
    Size,
    Term,
    constant,
)
from hesse.derivation.calculus.program import ArrayCall, Leaf, Program, Quantity
from hesse.derivation.check.valuation import Valuation

LETTERS: dict[str, Size] = {
    letter: size
    for size, letters in {
        "N": "nst",
        "d": "ikl",
        "h": "ojqw",
        "m": "prz",
        "e": "abce",
        3: "uv",
    }.items()
    for letter in letters
}
NUMBERS: dict[Size, int] = {"N": 6, "d": 4, "h": 3, "m": 2, "e": 5, 3: 3}


def at(letters: str) -> tuple[Index, ...]:
    """Indices by their letters."""
    return tuple(Index(letter, LETTERS[letter]) for letter in letters)


def entry(name: str, letters: str = "") -> Entry:
    return Entry(name, at(letters))


def delta(letters: str) -> Delta:
    return Delta(*at(letters))


def apply(function: str, order: int, argument: Factor) -> Apply:
    return Apply(function, order, argument)


def power(base: Factor, exponent: Fraction | int) -> Power:
    return Power(base, constant(exponent))


def term(*factors: Factor, number: Fraction | int = 1, over: str = "") -> Term:
    return Term(Fraction(number), factors, at(over))


def total(*terms: Term) -> Expression:
    return Expression(terms)


def group(*terms: Term) -> Group:
    return Group(total(*terms))


def arrays_in(value: object) -> dict[str, tuple[Size, ...]]:
    """The sizes of every array that an expression mentions."""
    match value:
        case Entry(name, where):
            return {name: tuple(index.size for index in where)}
        case Apply(argument=inner) | Group(body=inner):
            return arrays_in(inner)
        case Power(base, exponent):
            return arrays_in(base) | arrays_in(exponent)
        case Partial(of, by):
            return arrays_in(of) | arrays_in(by)
        case Expression(parts) | Term(factors=parts) | tuple(parts):
            found: dict[str, tuple[Size, ...]] = {}
            for part in parts:
                found |= arrays_in(part)
            return found
        case _:
            return {}


def program_of(expression: Expression, quantities: Iterable[Quantity] = ()) -> Program:
    """A program whose leaves are the arrays that an expression and some quantities mention."""
    quantities = tuple(quantities)
    sizes = arrays_in(expression)
    for quantity in quantities:
        match quantity.definition:
            case Expression() as definition:
                sizes |= arrays_in(definition)
            case ArrayCall(_, argument):
                sizes |= arrays_in(argument)
    made = {quantity.name for quantity in quantities}
    return Program(
        {name: Leaf(name, of) for name, of in sizes.items() if name not in made},
        quantities,
        frozenset({"f", "g"}),
    )


def valuation_of(program: Program, seed: int = 0) -> Valuation:
    """Random positive arrays of distinct sizes."""
    generator = torch.Generator().manual_seed(seed)
    arrays = {
        name: torch.rand(
            [NUMBERS[size] for size in leaf.sizes], generator=generator, dtype=torch.float64
        )
        + 0.5
        for name, leaf in program.leaves.items()
    }
    valuation = Valuation(program, arrays)
    valuation.sizes.update(
        {size: number for size, number in NUMBERS.items() if isinstance(size, str)}
    )
    return valuation
