"""Every line of a derivation evaluated at random points, and every block against automatic
differentiation."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, repeat
from typing import TypeVar

import torch
from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Partial, Size, indices, of
from hesse.derivation.calculus.partials import partials_in
from hesse.derivation.calculus.program import ArrayCall, Program
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.lines.records import Block, Certificate, Line, Record, Stage
from hesse.errors import HesseValueError
from hesse.operations.registry import ARRAY_FUNCTIONS

TOLERANCE = 1e-8
# The first symbolic size; each next one is one larger up to LARGEST_SIZE, so that the first few
# axes of different sizes are not mistaken for each other.
SMALLEST_SIZE = 2
# A block of two matrices has four axes: up to here its arrays stay small.
LARGEST_SIZE = 4
MOST_AXES = 32  # of one array; a block has those of both its parameters, and torch takes 64
MOST_BLOCK_ENTRIES = 2**26  # entries, half a gigabyte in float64
MOST_ENTRIES = 2**22  # entries of an array, of a leaf or in a line, that is checked
MOST_DERIVATIVES = 2**27  # entries of a derivative that stands in a line: one gibibyte

Functions = Mapping[str, Callable[[Tensor], Tensor]]
Derived = TypeVar("Derived", bound=Record)
_Size = TypeVar("_Size", str, int)


def small_sizes(program: Program) -> tuple[dict[str, int], dict[int, int]]:
    """Small numbers for the sizes of a program, different as far as LARGEST_SIZE allows: for its
    letters, and in the place of its large numbers.

    Numbers stay as they are where a constant has them.
    """
    shapes = [program.shape(name) for name in program.leaves]
    held = {
        size
        for name, leaf in program.leaves.items()
        if leaf.value is not None
        for size in leaf.sizes
    }
    numbers = {size for shape in shapes for size in shape if isinstance(size, int)}
    large = sorted(size for size in numbers - held if size > LARGEST_SIZE) if not held else []
    # A large number stays larger than a small one: a tall matrix is tall.
    most = max(numbers - set(large), default=0)
    greater = count(max(SMALLEST_SIZE, most + 1))
    resized = {size: min(next(greater), max(LARGEST_SIZE, most + 1)) for size in large}
    free = (n for n in count(SMALLEST_SIZE) if n not in {*resized.values(), *numbers - set(large)})
    letters: dict[str, int] = {}
    for shape in shapes:
        for size in shape:
            if isinstance(size, str) and size not in letters:
                letters[size] = min(next(free), LARGEST_SIZE)
    return letters, resized


def _small_shape(
    shape: tuple[Size, ...], letters: Mapping[str, int], resized: Mapping[int, int]
) -> list[int]:
    """A shape in small numbers."""
    return [
        letters.get(size, SMALLEST_SIZE) if isinstance(size, str) else resized.get(size, size)
        for size in shape
    ]


def random_arrays(
    program: Program, letters: Mapping[str, int], resized: Mapping[int, int], seed: int
) -> dict[str, Tensor]:
    """A float64 array for each leaf, with entries of either sign away from zero.

    Square matrices that are inverted, or whose determinant is taken, are made well conditioned with
    a positive determinant.
    """
    generator = torch.Generator().manual_seed(seed)
    square = _square(program)
    arrays: dict[str, Tensor] = {}
    for name, leaf in program.leaves.items():
        if leaf.value is not None:
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


@contextlib.contextmanager
def _in_float64() -> Iterator[None]:
    """Coefficients are exact, of any length; only what is checked has to fit into float64."""
    try:
        yield
    except OverflowError:
        raise HesseValueError(
            "derive: a number or a power in the expression, or in its derivatives, is beyond the"
            " range of float64, so nothing can be checked; certify=False leaves the lines unchecked"
        ) from None


@_in_float64()
def valuation(
    program: Program, seed: int = 0, functions: Functions | None = None, resize: bool = True
) -> Valuation:
    """Random arrays at which every quantity and its derivatives are finite; positive ones where
    signs do not allow it.

    Args:
        program: whose quantities they are of.
        seed: of the arrays.
        functions: what unknown functions are.
        resize: whether large sizes that are given as numbers are made small.

    Raises:
        HesseValueError: no such point was found.
    """
    letters, resized = small_sizes(program)
    resized = resized if resize else {}
    _require_small(program, letters, resized)
    # XᵀX has an inverse only where X is tall: every second pair of tries has the sizes the other
    # way round.
    ways = [(letters, resized), (_turned(letters), _turned(resized))]
    for attempt in range(40):
        letters, resized = ways[attempt // 2 % 2]
        # Large values lose digits to cancellation; where all are, they have to do.
        most = 1e9 if attempt < 20 else 1e60
        arrays = random_arrays(program, letters, resized, seed + 100 * attempt)
        if attempt % 2:
            arrays = {name: array.abs() for name, array in arrays.items()}
        point = Valuation(program, arrays, functions, resized)
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
                " entries. certify=False leaves the lines unchecked"
            )


def _require_block(block: Block, point: Valuation) -> None:
    entries = _block_entries(block, point)
    if entries > MOST_BLOCK_ENTRIES:
        raise HesseValueError(
            f"derive: the block ({block.rows.name}, {block.columns.name}) has {entries:,} entries"
            " at the small sizes of a check; what is checked has at most"
            f" {MOST_BLOCK_ENTRIES:,}. certify=False leaves the lines unchecked"
        )


def _entries(point: Valuation, *expressions: Expression) -> int:
    """How many entries the arrays of expressions with these free indices have."""
    over = {index for expression in expressions for index in indices(expression)}
    return math.prod(point.size(index.size) for index in over)


def _require_derivatives(point: Valuation, line: Line, where: str) -> None:
    entries = _most_derivatives(point, line)
    if entries > MOST_DERIVATIVES:
        raise HesseValueError(
            f"derive: line {line.label} of {where} has a derivative of {entries:,} entries, and"
            " constants, such as the windows of a convolution, keep its sizes from being made"
            f" small; what is checked has at most {MOST_DERIVATIVES:,}. certify=False leaves the"
            " lines unchecked; or derive a smaller model of the same kind"
        )


def _most_derivatives(point: Valuation, line: Line) -> int:
    """How many entries the largest derivative has that is not carried out in a line."""
    moving = (
        partial
        for partial in _partials(line)
        if not (isinstance(partial.of, Entry) and point.stays(partial.of.name))
    )
    return max((_entries(point, of(partial)) for partial in moving), default=0)


def _partials(line: Line) -> Iterator[Partial]:
    """The derivatives not carried out that stand in a line."""
    return (partial for pair in _equations(line) for side in pair for partial in partials_in(side))


def _whole(derivation: Record, block: Block) -> Expression:
    """A block, to be worked out by automatic differentiation alone."""
    return of(Partial(derivation.program.cost.entry, (block.rows, block.columns)))


def _block_entries(block: Block, point: Valuation) -> int:
    return _entries(point, of(block.rows), of(block.columns))


class WrongLine(HesseValueError):
    """A line or a block is wrong at a point."""


def certified_somewhere(derivation: Derived, seed: int = 0) -> tuple[Derived, Valuation]:
    """The derivation with its certificate, and the point that it holds at: of small sizes, and of
    those that were given where a formula holds only for them. (Σ_i 2, i = 1 … 7, has become 14.)

    Raises:
        HesseValueError: a line or a block is wrong; the text names it.
    """
    point = valuation(derivation.program, seed, derivation.functions)
    try:
        return certified(derivation, point), point
    except WrongLine:
        if not point.resized:
            raise
    point = valuation(derivation.program, seed, derivation.functions, resize=False)
    return certified(derivation, point), point


@_in_float64()
def certified(
    derivation: Derived, point: Valuation | None = None, tolerance: float = TOLERANCE
) -> Derived:
    """The derivation with its certificate, the deviation of each line and block filled in.

    Raises:
        HesseValueError: a line or a block is wrong; the text names it.
    """
    point = point or valuation(derivation.program, functions=derivation.functions)
    for where, line in _every_line(derivation):
        _require_derivatives(point, line, where)
        point.asks(_partials(line))
    for block in derivation.blocks.values():
        _require_block(block, point)
        point.asks(partials_in(_whole(derivation, block)))
    # Lines of different blocks are often the same equation.
    known: dict[object, float] = {}
    deviations: list[float] = []

    def of_line(line: Line, where: str) -> Line:
        worst = 0.0
        for before, after in _equations(line):
            if (before, after) not in known:
                known[before, after] = deviation(before, after, point)
            off = known[before, after]
            # This way round, so that what is not a number is wrong too.
            if not off <= tolerance:
                raise WrongLine(
                    f"derivation: line {line.label} ({line.rule}) of {where} is wrong by {off:.1e}"
                    f" at a random point, where {tolerance:.0e} is allowed; please report this"
                    f" expression: {derivation.source}"
                )
            worst = max(worst, off)
        deviations.append(worst)
        return replace(line, deviation=worst)

    def of_lines(lines: tuple[Line, ...], where: str) -> tuple[Line, ...]:
        return tuple([of_line(line, where) for line in lines])

    slopes = {
        name: replace(slope, lines=of_lines(slope.lines, _of_slope(derivation, name)))
        for name, slope in derivation.slopes.items()
    }
    stages = tuple(
        replace(stage, lines=of_lines(stage.lines, _of_stage(stage))) for stage in derivation.stages
    )
    blocks: dict[tuple[str, str], Block] = {}
    for pair, block in derivation.blocks.items():
        where = _of_block(block)
        lines = of_lines(block.lines, where)
        off = deviation(_whole(derivation, block), block.expression, point)
        if not off <= tolerance:
            raise WrongLine(
                f"derivation: {where} is off by {off:.1e} against automatic differentiation"
            )
        blocks[pair] = replace(block, lines=lines, deviation=off)
    certificate = Certificate(
        len(deviations),
        max(deviations, default=0.0),
        len(blocks),
        max((block.deviation for block in blocks.values()), default=0.0),
    )
    return replace(derivation, slopes=slopes, blocks=blocks, stages=stages, certificate=certificate)


def _every_line(derivation: Record) -> Iterator[tuple[str, Line]]:
    """Each line, and what it belongs to."""
    for name, slope in derivation.slopes.items():
        yield from zip(repeat(_of_slope(derivation, name)), slope.lines, strict=False)
    for stage in derivation.stages:
        yield from zip(repeat(_of_stage(stage)), stage.lines, strict=False)
    for block in derivation.blocks.values():
        yield from zip(repeat(_of_block(block)), block.lines, strict=False)


def _of_slope(derivation: Record, name: str) -> str:
    return f"∂{derivation.program.cost.name}/∂{name}"


def _of_stage(stage: Stage) -> str:
    return f"the stage of {stage.name}"


def _of_block(block: Block) -> str:
    return f"the block ({block.rows.name}, {block.columns.name})"


def _equations(line: Line) -> tuple[tuple[Expression, Expression], ...]:
    """What a line says: of each instance, where it stands for several."""
    return line.instances or ((line.before, line.after),)


def deviation(before: Expression, after: Expression, point: Valuation) -> float:
    """The largest difference of two expressions with the same free indices, relative to the
    larger."""
    free = tuple(dict.fromkeys((*indices(before), *indices(after))))
    return relative(point.array(before, free), point.array(after, free))


def certified_at(derivation: Record, arrays: Mapping[str, Tensor]) -> "CheckAtArrays":
    """Every line and block once more at arrays of the user's own, as far as they are small enough.

    Raises:
        HesseValueError: a line is wrong there.
    """
    point = Valuation(derivation.program, arrays, derivation.functions)

    def fitting(lines: tuple[Line, ...]) -> tuple[Line, ...]:
        return tuple(
            line
            for line in lines
            if all(_entries(point, *pair) <= MOST_ENTRIES for pair in _equations(line))
            and _most_derivatives(point, line) <= MOST_DERIVATIVES
        )

    small = replace(
        derivation,
        slopes={
            name: replace(slope, lines=fitting(slope.lines))
            for name, slope in derivation.slopes.items()
        },
        stages=tuple(replace(stage, lines=fitting(stage.lines)) for stage in derivation.stages),
        blocks={
            pair: replace(block, lines=fitting(block.lines))
            for pair, block in derivation.blocks.items()
            if _block_entries(block, point) <= MOST_ENTRIES
        },
    )
    certificate = certified(small, point).certificate
    assert certificate is not None and derivation.certificate is not None
    return CheckAtArrays(
        max(certificate.deviation, certificate.block_deviation),
        derivation.certificate.lines - certificate.lines,
    )


@dataclass(frozen=True)
class CheckAtArrays:
    """The largest deviation at the user's own arrays, and how many lines were too large to check
    there."""

    deviation: float
    skipped: int
