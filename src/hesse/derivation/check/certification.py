"""Every line of a derivation evaluated at random points, and every block against automatic
differentiation."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import TypeVar

from hesse.derivation.calculus.algebra import partials_in
from hesse.derivation.calculus.expression import Entry, Expression, Partial, indices, of
from hesse.derivation.check.point import beside, in_float64, valuation
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.lines.records import Block, Certificate, Line, Record, Stage
from hesse.errors import HesseValueError

TOLERANCE = 1e-8
MOST_BLOCK_ENTRIES = 2**26  # entries, half a gigabyte in float64
POINTS = 3  # that are tried where a derivative is not finite
# So near to a point, in units of its entries, all that is not made of roundings is nearly the same.
_NUDGE, _STEADY = 1e-9, 1e-2
MOST_DERIVATIVES = 2**27  # entries of a derivative that stands in a line: one gibibyte

Derived = TypeVar("Derived", bound=Record)


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


class NotFinite(HesseValueError):
    """A derivative is not there at a point."""


def certified_somewhere(derivation: Derived, seed: int = 0) -> tuple[Derived, Valuation]:
    """The derivation with its certificate, and the point that it holds at: of small sizes, and of
    those that were given where a formula holds only for them. (Σ_i 2, i = 1 … 7, has become 14.)

    Raises:
        HesseValueError: a line or a block is wrong; the text names it.
    """
    for further in range(POINTS):
        point = valuation(derivation.program, seed + 1000 * further, derivation.functions)
        try:
            return certified(derivation, point), point
        except NotFinite:  # as the deviation of what is zero where its arrays are positive
            if further == POINTS - 1:
                raise
        except WrongLine:
            if not point.resized:
                raise
            break
    point = valuation(derivation.program, seed, derivation.functions, resize=False)
    return certified(derivation, point), point


@in_float64()
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
                _require_defined(before, after, where, point)
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
            _require_defined(_whole(derivation, block), block.expression, where, point)
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


def _require_defined(before: Expression, after: Expression, where: str, point: Valuation) -> None:
    """Refuse a derivative that is not there: what automatic differentiation gives is no number, or
    what the rule gives is none, where a relu hides that from automatic differentiation; or a number
    that is made of roundings, as that of the root of what is zero up to them."""
    if not all(bool(point.array(side, indices(side)).isfinite().all()) for side in (before, after)):
        raise NotFinite(
            f"derive: {where} is not finite at a random point (a root or a quotient of what is"
            " always zero, as the deviation of a single number?), so nothing can be certified;"
            " check the expression"
        )
    near = beside(point, _NUDGE)
    # This way round, so that what is not a number there is none of the nearly same.
    if not all(
        relative(point.array(side, indices(side)), near.array(side, indices(side))) <= _STEADY
        for side in (before, after)
    ):
        raise NotFinite(
            f"derive: {where} is made of roundings at a random point (a root or a quotient of what"
            " is always zero, but for rounding?), so nothing can be certified; check the expression"
        )


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
    others = (pair for other in line.likewise for pair in _equations(other))
    return (*(line.instances or ((line.before, line.after),)), *others)


def deviation(before: Expression, after: Expression, point: Valuation) -> float:
    """The largest difference of two expressions with the same free indices, relative to the
    larger."""
    free = tuple(dict.fromkeys((*indices(before), *indices(after))))
    return relative(point.array(before, free), point.array(after, free))
