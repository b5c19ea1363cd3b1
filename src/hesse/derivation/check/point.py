"""A random point of small sizes at which a derivation can be checked: all that it is made of is
finite there."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Size
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Program
from hesse.derivation.calculus.sizes import letters as letters_of
from hesse.derivation.calculus.sizes import number
from hesse.derivation.check.valuation import Valuation
from hesse.errors import HesseValueError
from hesse.operations.registry import ARRAY_FUNCTIONS

# The first symbolic size; each next one is one larger up to LARGEST_SIZE, so that the first few
# axes of different sizes are not mistaken for each other.
SMALLEST_SIZE = 2
# A block of two matrices has four axes: up to here its arrays stay small.
LARGEST_SIZE = 4
MOST_AXES = 32  # of one array; a block has those of both its parameters, and torch takes 64
MOST_ENTRIES = 2**22  # entries of an array, of a leaf or in a line, that is checked

Functions = Mapping[str, Callable[[Tensor], Tensor]]
_Size = TypeVar("_Size", str, int)


def small_sizes(program: Program) -> tuple[dict[str, int], dict[int, int]]:
    """Small numbers for the sizes of a program, different as far as LARGEST_SIZE allows: for its
    letters, and in the place of its large numbers.

    Numbers stay as they are where a mean divides by them, or a map without a formula has them.
    """
    shapes = [program.shape(name) for name in program.leaves]
    # Of a constant that is made by its pattern the other sizes follow from one.
    made = any(leaf.pattern is not None for leaf in program.leaves.values())
    numbers = {
        size
        for name in (*program.leaves, *program.by_name)
        for size in program.shape(name)
        if isinstance(size, int)
    }
    held = {size for size in numbers if size > LARGEST_SIZE and _holds(program, size)}
    large = [] if made else sorted(size for size in numbers - held if size > LARGEST_SIZE)
    # A large number stays larger than a small one: a tall matrix is tall.
    most = max((size for size in numbers if size <= LARGEST_SIZE), default=0)
    greater = count(max(SMALLEST_SIZE, most + 1))
    resized = {size: min(next(greater), max(LARGEST_SIZE, most + 1)) for size in large}
    free = (n for n in count(SMALLEST_SIZE) if n not in {*resized.values(), *numbers - set(large)})
    letters: dict[str, int] = {}
    for letter in (letter for shape in shapes for size in shape for letter in letters_of(size)):
        if letter not in letters:
            letters[letter] = min(next(free), LARGEST_SIZE)
    # x[3:] of an axis of three is nothing.
    for leaf in program.leaves.values():
        if leaf.pattern is not None:
            for letter in letters_of(leaf.pattern.unit):
                letters[letter] = max(letters[letter], leaf.pattern.least)
    return letters, resized


def _holds(program: Program, size: int) -> bool:
    """Whether something in a program is so for this size alone."""
    for quantity in program.quantities:
        match quantity.definition:
            case BlackBox(_, arguments):
                shapes = map(program.shape, (quantity.name, *arguments))
                if any(size in shape for shape in shapes):
                    return True
            case Expression(terms):
                if any(
                    term.coefficient.denominator % size == 0
                    and any(index.size == size for index in term.bound)
                    for term in terms
                ):
                    return True
    return False


def _small_shape(
    shape: tuple[Size, ...], letters: Mapping[str, int], resized: Mapping[int, int]
) -> list[int]:
    """A shape in small numbers."""
    return [
        resized.get(size, size)
        if isinstance(size, int)
        else number(size, lambda letter: letters.get(letter, SMALLEST_SIZE))
        for size in shape
    ]


def random_arrays(
    program: Program,
    letters: Mapping[str, int],
    resized: Mapping[int, int],
    seed: int,
    positive: bool = False,
) -> dict[str, Tensor]:
    """A float64 array for each leaf, with entries of either sign away from zero, or all positive;
    each is what it is declared to be.

    Square matrices that are inverted, or whose determinant is taken, are made well conditioned with
    a positive determinant.
    """
    generator = torch.Generator().manual_seed(seed)
    square = _square(program)
    arrays: dict[str, Tensor] = {}
    for name, leaf in program.leaves.items():
        if not leaf.is_given:
            continue
        shape = _small_shape(leaf.sizes, letters, resized)
        # Away from zero, where logarithms, roots and quotients lose their digits.
        array = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.25
        signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.float64) * 2 - 1
        array = array * signs
        if name in square:
            array = array / 4 + 2 * torch.eye(shape[-1], dtype=torch.float64)
        if leaf.sums_to is not None:
            array = array.abs()
            array = leaf.sums_to * array / array.sum(-1, keepdim=True)
        array = array.abs() if positive else array
        if leaf.structure is not None:
            array = leaf.structure.drawn(array)
        arrays[name] = array
    return arrays


def _square(program: Program) -> set[str]:
    """Leaves that go into an inverse or a determinant."""
    below: set[str] = set()
    for quantity in program.quantities:
        match quantity.definition:
            case ArrayCall(operation, Entry(name)) if ARRAY_FUNCTIONS[operation].axes == 2:
                below |= {name, *program.ancestors(name)}
    shapes = {name: leaf.sizes for name, leaf in program.leaves.items() if name in below}
    return {name for name, shape in shapes.items() if len(shape) == 2 and len(set(shape)) == 1}


def with_random_leaves(point: Valuation, program: Program, seed: int = 0) -> Valuation:
    """A point with random arrays for the leaves that it does not have, of the sizes that it has."""
    generator = torch.Generator().manual_seed(seed)
    added = {
        name: torch.randn(
            [point.size(size) for size in leaf.sizes], generator=generator, dtype=torch.float64
        )
        for name, leaf in program.leaves.items()
        if name not in point.arrays and leaf.is_given
    }
    return Valuation(program, {**point.arrays, **added}, point.functions, point.resized)


def beside(point: Valuation, share: float) -> Valuation:
    """A point so near to another, in units of its entries."""
    generator = torch.Generator().manual_seed(0)
    arrays = {
        name: array * (1 + share * torch.randn(array.shape, generator=generator, dtype=array.dtype))
        for name, array in point.arrays.items()
    }
    return Valuation(point.program, arrays, point.functions, point.resized)


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Coefficients are exact, of any length; only what is checked has to fit into float64."""
    try:
        yield
    except OverflowError:
        raise HesseValueError(
            "derive: a number or a power in the expression, or in its derivatives, is beyond the"
            " range of float64, so nothing can be checked; certify=False leaves the lines unchecked"
        ) from None


@in_float64()
def valuation(
    program: Program,
    seed: int = 0,
    functions: Functions | None = None,
    resize: bool = True,
    given: Mapping[str, Tensor] | None = None,
    known: Mapping[str, int] | None = None,
) -> Valuation:
    """Random arrays at which every quantity and its derivatives are finite; positive ones where
    signs do not allow it.

    Args:
        program: whose quantities they are of.
        seed: of the arrays.
        functions: what unknown functions are.
        resize: whether large sizes that are given as numbers are made small.
        given: arrays that stand in the place of random ones.
        known: the sizes that they have, by letter.

    Raises:
        HesseValueError: no such point was found.
    """
    known = dict(known or {})
    letters, resized = small_sizes(program)
    letters = {letter: size for letter, size in letters.items() if letter not in known}
    resized = resized if resize else {}
    _require_small(program, letters | known, resized)
    # XᵀX has an inverse only where X is tall: every second pair of tries has the sizes the other
    # way round.
    ways = [(letters, resized), (_turned(letters), _turned(resized))]
    for attempt in range(40):
        letters, resized = ways[attempt // 2 % 2]
        # Large values lose digits to cancellation; where all are, they have to do.
        most = 1e9 if attempt < 20 else 1e60
        positive = attempt % 2 == 1
        seeded = seed + 100 * attempt
        arrays = random_arrays(program, letters | known, resized, seeded, positive)
        point = Valuation(program, {**arrays, **(given or {})}, functions, resized)
        try:
            values = [point.value(quantity.name) for quantity in program.quantities]
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            # A matrix without an inverse is no point to check at.
            continue
        if all(
            bool(value.isfinite().all()) and float(value.abs().max()) < most
            for value in values
            if value.numel()
        ) and _invertible(program, point):
            return point
    raise HesseValueError(
        f"derive: no point was found at which {program.cost.name} and all that it is made of are"
        " finite (a logarithm or a root of something that is always negative, the inverse of a"
        " matrix that has none?), so nothing can be certified; check the expression"
    )


def _turned(sizes: Mapping[_Size, int]) -> dict[_Size, int]:
    """The same numbers, given out in the other order."""
    return dict(zip(sizes, [*sizes.values()][::-1], strict=True))


def _invertible(program: Program, point: Valuation) -> bool:
    """Whether every matrix whose inverse or determinant is taken is far from having none."""
    return all(
        float(torch.linalg.cond(point.value(quantity.definition.argument.name)).max()) < 1e8
        for quantity in program.quantities
        if isinstance(quantity.definition, ArrayCall)
        and ARRAY_FUNCTIONS[quantity.definition.operation].axes == 2
    )


def _require_small(
    program: Program, letters: Mapping[str, int], resized: Mapping[int, int]
) -> None:
    """No array with so many axes that not even small sizes make it fit."""
    for name in (*program.leaves, *program.by_name):
        shape = _small_shape(program.shape(name), letters, resized)
        entries = math.prod(shape)
        if entries > MOST_ENTRIES or len(shape) > MOST_AXES:
            raise HesseValueError(
                f"derive: {name} has {len(shape)} axes and {entries:,} entries at the small sizes"
                f" of a check; what is checked has at most {MOST_AXES} axes and {MOST_ENTRIES:,}"
                " entries. certify=False leaves the lines unchecked; or derive a smaller model of"
                " the same kind"
            )
