"""What a derivation came to, once more at arrays of the user's own: each first derivative and each
block against automatic differentiation."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.program import names_in
from hesse.derivation.check.certification import TOLERANCE, WrongLine, deviation
from hesse.derivation.check.point import MOST_ENTRIES, in_float64
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.lines.records import Record

# Entries that automatic differentiation goes through for all results, about a second: the lines
# themselves are certified at random points, of small sizes where there are large ones.
MOST_TOGETHER = 2**27
# A named array is made once, by a product of others, and an entry of it takes so much more.
_PRODUCT = 64


@dataclass(frozen=True)
class CheckAtArrays:
    """The largest deviation at the user's own arrays, and how many results were too large to check
    there."""

    deviation: float
    skipped: int


@in_float64()
def checked_at(derivation: Record, arrays: Mapping[str, Tensor]) -> CheckAtArrays:
    """Every first derivative and every block at arrays of the user's own, the small ones first and
    as far as they are small enough.

    Raises:
        HesseValueError: one is wrong there.
    """
    point = Valuation(derivation.program, arrays, derivation.functions)
    results = {
        Partial(derivation.program.cost.entry, by): value for by, value in _results(derivation)
    }
    fitting, room, made = list[Partial](), MOST_TOGETHER, set[str]()
    for partial in sorted(results, key=lambda partial: _price(point, partial)):
        names = _names(point, results[partial])
        sizes = [_size(point, name) for name in names - made]
        room -= _price(point, partial) + _PRODUCT * sum(sizes)
        if room < 0:
            break
        if max(*sizes, _entries(point, partial.by), 0) <= MOST_ENTRIES:
            made |= names
            fitting.append(partial)
    point.asks(fitting)
    worst = 0.0
    for partial in fitting:
        off = deviation(of(partial), results[partial], point)
        # This way round, so that what is not a number is wrong too.
        if not off <= TOLERANCE:
            by = ", ".join(entry.name for entry in partial.by)
            raise WrongLine(
                f"derivation: the derivative of {derivation.program.cost.name} by {by} is off by"
                f" {off:.1e} at the cost's own parameters; please report this"
                f" cost: {derivation.source}"
            )
        worst = max(worst, off)
    return CheckAtArrays(worst, len(results) - len(fitting))


def _results(derivation: Record) -> list[tuple[tuple[Entry, ...], Expression]]:
    """By what is differentiated, and what that came to."""
    slopes = [((slope.parameter,), slope.expression) for slope in derivation.slopes.values()]
    blocks = derivation.blocks.values()
    return [*slopes, *(((block.rows, block.columns), block.expression) for block in blocks)]


def _price(point: Valuation, partial: Partial) -> int:
    """Entries of all values on the way, for each gradient that is taken."""
    cost = point.program.cost.name
    way = sum(_size(point, name) for name in point.program.ancestors(cost))
    return way * _entries(point, partial.by[:-1])


def _entries(point: Valuation, by: tuple[Entry, ...]) -> int:
    return prod(_size(point, entry.name) for entry in by)


def _size(point: Valuation, name: str) -> int:
    return prod(map(point.size, point.program.shape(name)))


def _names(point: Valuation, value: Expression) -> set[str]:
    """All that has to be made for it."""
    below = (point.program.ancestors(name) for name in names_in(value))
    return set(names_in(value)).union(*below) & set(point.program.by_name)
