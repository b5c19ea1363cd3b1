"""How far a quadratic model can be trusted along a line: its error, the order of the error, and a
radius."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hesse.display import Display, Displayed, Table, facts
from hesse.display.text import table_lines
from hesse.errors import HesseValueError
from hesse.process.progress import Progress
from hesse.taylor.subproblem.space import random_unit
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from hesse.taylor.model import QuadraticModel

# Norms for each factor of ten, and how many factors are looked at below the largest.
_PER_DECADE, _DECADES = 4, 6
# How many norms the order is fitted to, and how many times the rounding their error must be.
FITTED, CLEAR = 6, 30.0
# Of the logarithm to base 10: how far a power law may be missed, a quarter of the error.
_POWER = 0.1
# Below that order, or where the errors follow no power, they are held against several powers, so
# many, if they are of norms beyond that part of the radius; how far they may be missed.
_SMOOTH, _HIGHER, _POWERS, _MISSED = 2.5, 0.1, 3, 0.15
# The radius is sought inward and outward from a length of the problem, by so many powers of two.
_INWARD, _OUTWARD = 60, 40
# Rows shown below the first error that stands clear of rounding.
_SHOWN = 4


@dataclass(frozen=True, eq=False, repr=False)
class Trust(Displayed):
    """The true cost and its model along a line θ + t d, ‖d‖ = 1.

    The order is how fast the error falls with ‖s‖, fitted where it is small and stands clear of
    rounding. A smooth cost has order 3: the certificate that g and H are right, for a wrong g gives
    1 and a wrong H gives 2, as does a kink at θ. It is the lower one of two fits, to the odd part
    of the error, ½ (error(s) − error(−s)), and to the even part, ½ (error(s) + error(−s)): in each
    of them the next term is two orders away, and a kink shows on whichever side of θ it lies.

    Attributes:
        norms: t = ‖s‖, ascending.
        true: J(θ + s), infinite where it is not a number.
        model: J + gᵀs + ½ sᵀHs.
        error: true − model.
        rounding: how much of the error rounding can be, measured from evaluations a few rounding
            errors away from θ.
        order: the fitted order; infinite where no error stands clear of rounding.
        radius: the largest norm up to which |error| <= tolerance (|gᵀs| + ½ |sᵀHs|); infinite where
            none was found, and zero where there is none.
        tolerance: as given.
        direction: d, flat.
        reason: what the order says.
    """

    norms: Float[np.ndarray, " K"]
    true: Float[np.ndarray, " K"]
    model: Float[np.ndarray, " K"]
    error: Float[np.ndarray, " K"]
    rounding: Float[np.ndarray, " K"]
    order: float
    radius: float
    tolerance: float
    direction: Float[Tensor, " P"]
    reason: str

    def __str__(self) -> str:
        said = f"error of order {self.order:.3g}: " if math.isfinite(self.order) else ""
        return "\n".join([*table_lines(self._table), f"{said}{self.reason}", self._within])

    def _display(self) -> Display:
        order = f"{self.order:.3g}" if math.isfinite(self.order) else None
        return Display(
            "Trust",
            f"the true cost beside its quadratic model at {len(self.norms)} lengths of a step",
            facts(order=order, reason=self.reason, trust=self._within),
            self._table,
            ("trust.radius", "trust.order", "hesse.ErrorCurve.from_trust(trust).plot()"),
        )

    @property
    def _table(self) -> Table:
        rows = zip(self.norms, self.true, self.model, self.error, self.rounding, strict=True)
        return Table(
            ("‖s‖", "true", "model", "error", ""),
            tuple(
                (f"{t:.3g}", f"{true:.8g}", f"{model:.8g}", f"{error:.2e}",
                 "" if abs(error) > noise else "rounding")
                for t, true, model, error, noise in rows
            ),
            (4,),
        )  # fmt: skip

    @property
    def _within(self) -> str:
        part = f"{self.tolerance:.3g} of the change"
        return {
            math.inf: f"no end to the trust: the error is under {part} as far as was looked",
            0.0: f"no trust: the error is over {part}, however short the step",
        }.get(self.radius, f"radius {self.radius:.4g}, within which the error is under {part}")


class _Row(NamedTuple):
    """One step: its norm, the change of the true cost, that of the model, their difference, and
    what that is measured by."""

    norm: float
    true: float
    model: float
    error: float
    scale: float


class _Line:
    """The steps t d, each evaluated once."""

    def __init__(self, model: "QuadraticModel", direction: Tensor, bar: Progress) -> None:
        self._model, self._direction, self._bar = model, direction, bar
        self._slope = float(direction.double() @ model.gradient.double())
        self._bend = float(direction.double() @ model.product(direction).double())
        self._rows: dict[float, _Row] = {}
        self.slopes = float(torch.linalg.vector_norm(model.gradient))

    def row(self, t: float) -> _Row:
        """What lies at t d; t may be negative."""
        if t not in self._rows:
            true, change = self._model.compare(t * self._direction)
            scale = abs(t * self._slope) + t * t * abs(self._bend) / 2
            self._rows[t] = _Row(
                abs(t), true, t * self._slope + t * t * self._bend / 2, true - change, scale
            )
            self._bar.advance(1)
        return self._rows[t]

    def within(self, t: float, tolerance: float, rounding: Callable[[_Row], float]) -> bool:
        """Whether the error at t d is within the tolerance, or within rounding."""
        row = self.row(t)
        return abs(row.error) <= tolerance * row.scale + rounding(row)

    @property
    def natural(self) -> float:
        """A length of the problem: to the model's stationary point on the line, unless that is next
        to nothing beside θ."""
        size = float(torch.linalg.vector_norm(self._model.cost.theta)) or 1.0
        stationary = abs(self._slope / self._bend) if self._bend else 0.0
        return stationary if 1e-3 * size < stationary < math.inf else size


def make_trust(
    model: "QuadraticModel", direction: Any, tolerance: float, progress: bool | None
) -> Trust:
    """See `QuadraticModel.trust`."""
    d, told = _direction(model, direction)
    with Progress("trust", 2 * _DECADES * _PER_DECADE, progress) as bar:
        line = _Line(model, d, bar)
        rounding = _rounding(model, line)
        radius, largest = _radius(line, tolerance, rounding)
        norms = [
            float(t)
            for t in largest * 10.0 ** (np.arange(-_DECADES * _PER_DECADE, 1) / _PER_DECADE)
        ]
        rows = [line.row(t) for t in norms]
        lines = [line]
        if direction is None and line.slopes:
            # At a kink g can be zero along what the kink bends, so that −g does not meet it.
            lines.append(_Line(model, random_unit(model.gradient), bar))
            told += " and a random direction"
        order, meaning = min(
            _order([(other.row(t), other.row(-t)) for t in norms], rounding, radius)
            for other in lines
        )
    noise = [rounding(row) for row in rows]
    within = [
        abs(row.error) <= tolerance * row.scale + n for row, n in zip(rows, noise, strict=True)
    ]
    radius = min(
        [
            radius,
            *(
                low
                for low, t, ok in zip([0.0, *norms], norms, within, strict=False)
                if t < radius and not ok
            ),
        ]
    )
    clear = next(
        (place for place, row in enumerate(rows) if abs(row.error) > noise[place]), len(rows) - 1
    )
    shown = slice(max(0, clear - _SHOWN), None)
    return Trust(
        norms=np.array(norms[shown]),
        true=np.array([model.value + row.true for row in rows[shown]]),
        model=np.array([model.value + row.model for row in rows[shown]]),
        error=np.array([row.error for row in rows[shown]]),
        rounding=np.array(noise[shown]),
        order=order,
        radius=radius,
        tolerance=tolerance,
        direction=d,
        reason=f"{meaning}, {told}",
    )


def _direction(model: "QuadraticModel", direction: Any) -> tuple[Tensor, str]:
    """The unit vector, and what it is."""
    if direction is not None:
        d, told = model.steps(direction, "direction"), "along the direction given"
        if d.ndim != 1 or not bool(d.any()):
            description = "zeros" if d.ndim == 1 else f"shape {tuple(d.shape)}"
            raise HesseValueError(
                f"direction: expected one step that is not zero, got {description}"
            )
    elif bool(model.gradient.any()):
        d, told = -model.gradient, "along −g"
    else:
        return random_unit(model.gradient), "along a random direction, for g is zero"
    # In two divisions, so that squares of tiny or huge entries neither vanish nor overflow.
    d = d / d.abs().max()
    return d / torch.linalg.vector_norm(d), told


def _rounding(model: "QuadraticModel", line: _Line) -> Callable[[_Row], float]:
    """How much of the error at a row rounding can be.

    A few rounding errors away from θ the model is exact: what it misses there is the noise of the
    cost. Farther away the noise grows with the cost, and g and H bring their own.
    """
    eps = torch.finfo(model.cost.dtype).eps
    unit = eps * (float(torch.linalg.vector_norm(model.cost.theta)) or line.natural)
    probes = [
        abs(line.row(sign * count * unit).error) for sign in (1, -1) for count in (3, 11, 37, 101)
    ]
    noise = max(eps * abs(model.value), *(probe for probe in probes if math.isfinite(probe)), 0.0)

    def rounding(row: _Row) -> float:
        grown = eps * abs(row.true) if math.isfinite(row.true) else 0.0
        return 2 * noise + 4 * grown + 16 * eps * (line.slopes * row.norm + row.scale)

    return rounding


def _radius(
    line: _Line, tolerance: float, rounding: Callable[[_Row], float]
) -> tuple[float, float]:
    """The largest norm up to which the error is within the tolerance, and the largest for the
    table."""
    inside, outside = line.natural, math.inf
    # Inward until the error is within the tolerance, then outward until it is not.
    for _ in range(_INWARD):
        if line.within(inside, tolerance, rounding):
            break
        inside, outside = inside / 2, inside
        # So near to θ that the error is rounding and the tolerance below it: there is no radius to
        # see.
        if rounding(line.row(inside)) > tolerance * line.row(inside).scale:
            return 0.0, line.natural
    for _ in range(_OUTWARD):
        if outside < math.inf:
            break
        if line.within(2 * inside, tolerance, rounding):
            inside *= 2
        else:
            outside = 2 * inside
    if outside == math.inf:
        return math.inf, line.natural
    # Bisection on a logarithmic scale, to a percent.
    table = 2 * outside
    while outside / inside > 1.01:
        middle = math.sqrt(inside * outside)
        inside, outside = (
            (middle, outside) if line.within(middle, tolerance, rounding) else (inside, middle)
        )
    return inside, table


def _order(
    pairs: list[tuple[_Row, _Row]], rounding: Callable[[_Row], float], radius: float
) -> tuple[float, str]:
    """The lower of the orders of the odd and the even part of the error at s and −s, and what it
    says."""
    # Far out powers mean nothing; where the radius is zero (a kink) they do.
    near = [
        (p, m)
        for p, m in pairs
        if p.norm <= (radius or math.inf) and abs(p.error + m.error) < math.inf
    ]
    fits = []
    untold = False
    for sign in (-1, 1):
        points = [
            (p.norm, (p.error + sign * m.error) / 2, max(rounding(p), rounding(m))) for p, m in near
        ]
        # From the largest norm down to the first that is not clear: single ones below it may be so
        # by chance.
        first = max(
            (place + 1 for place, (_, error, n) in enumerate(points) if abs(error) <= CLEAR * n),
            default=0,
        )
        fitted = points[first:][:FITTED]
        if len(fitted) > 1:
            x, y = (
                np.log10([norm for norm, _, _ in fitted]),
                np.log10([abs(error) for _, error, _ in fitted]),
            )
            line = np.polyfit(x, y, 1)
            order, missed = float(line[0]), float(np.abs(np.polyval(line, x) - y).max())
            # Near the radius higher powers are as large, and may take the first one away.
            if (
                (order < _SMOOTH or missed > _POWER)
                and radius > 0
                and fitted[-1][0] > _HIGHER * points[-1][0]
                and _are_powers(fitted, 3 if sign < 0 else 4)
            ):
                untold = True
                continue
            fits.append((order, missed, fitted[0][0], fitted[-1][0]))
    if not fits and untold:
        return (
            math.inf,
            "what stands clear of rounding has several powers of ‖s‖ in it, as a smooth cost has"
            " far out: float64 shows it nearer to θ",
        )
    if not fits:
        return (
            math.inf,
            "no error stands clear of rounding: the model is exact as far as can be seen",
        )
    order, missed, low, high = min(fits)
    if missed > _POWER:
        return (
            order,
            f"the error follows no power from ‖s‖ = {low:.2g} to {high:.2g}: kinks on the way",
        )
    return order, next(meaning for bound, meaning in _MEANINGS if order < bound).format(low=low)


def _are_powers(points: list[tuple[float, float, float]], lowest: int) -> bool:
    """Whether errors, by norm and with what rounding may be of them, are a sum of this power of the
    norm and the next ones of its kind, as those of a smooth cost are; so few that any numbers would
    be, are.
    """
    norm, error, noise = (np.array(column) for column in zip(*points, strict=True))
    scale = np.maximum(np.abs(error), CLEAR * noise)
    powers = (norm[:, None] / norm[-1]) ** (lowest + 2 * np.arange(_POWERS))
    factors = np.linalg.lstsq(powers / scale[:, None], error / scale, rcond=None)[0]
    return bool((np.abs(powers @ factors - error) <= _MISSED * scale).all())


_MEANINGS = (
    (
        1.5,
        (
            "the slope of the cost changes within ‖s‖ = {low:.2g} of θ: a kink, which g does not"
            " describe"
        ),
    ),
    (
        2.5,
        (
            "the curvature of the cost changes within ‖s‖ = {low:.2g} of θ: kinks, which H does not"
            " describe"
        ),
    ),
    (3.5, "smooth, and g and H are right"),
    (math.inf, "better than usual: the third derivative vanishes along this line"),
)
