"""Where the model's gradient is zero, named for what it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hesse.display import Display, Displayed, facts
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.space import ReducedModel, lowest
from hesse.taylor.subproblem.spectral import Solution
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from hesse.taylor.model import QuadraticModel


@dataclass(frozen=True, eq=False, repr=False)
class StationaryPoint(Displayed):
    """The point s with g + H s = 0, the nearest where there are many.

    Attributes:
        kind: ``"minimum"``, ``"maximum"``, ``"saddle"``, ``"flat valley"`` (H is zero to rounding
            along some directions and positive along the others), or ``"unbounded"``: there is no
            such point, for g has a part along which H is zero.
        negative, undecided, positive: the inertia of H: along how many directions the model curves
            down, is flat to rounding, curves up.
        vector: s; ``None`` where there is none.
        value: the model there; −inf where there is none.
        complete: whether all of H was seen. Else the counts are those of the Ritz values of the
            Krylov spaces looked at, of which `negative` and `positive` are lower bounds.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(lambda p: p["x"].sum() ** 2, {"x": torch.ones(4)})
        >>> print(hesse.quadratic(cost).stationary_point())
        flat valley: rank 1, flat along 3 directions to the rounding of float32; the model is 0 at
        its nearest point, at a distance of 2
    """

    kind: str
    negative: int
    undecided: int
    positive: int
    vector: Float[Tensor, " P"] | None
    value: float
    complete: bool = True

    def _display(self) -> Display:
        counts = (
            f"{self.negative:,} negative, {self.undecided:,} undecided, {self.positive:,} positive"
        )
        narrow = self.undecided and self.vector is not None and self.vector.dtype == torch.float32
        return Display(
            "StationaryPoint",
            self.kind,
            facts(
                eigenvalues=counts + ("" if self.complete else ", of those that were looked at"),
                model_there=f"{self.value:.6g}",
                distance=None if self.vector is None else f"{float(self.vector.norm()):.4g}",
                in_words=str(self),
            ),
            next=("p.vector", *(["a cost in float64 decides more"] if narrow else [])),
        )

    def __str__(self) -> str:
        # In float32 there are many that float64 would decide.
        narrow = self.vector is not None and self.vector.dtype == torch.float32
        rounded = " to the rounding of float32" if narrow else ""
        flat = f", flat along {_directions(self.undecided)}{rounded}" if self.undecided else ""
        at_least = "" if self.complete else "at least "
        both = f"{at_least}{self.negative} negative and {_directions(self.positive, 'positive')}"
        said = {
            "minimum": f"{at_least}{_directions(self.positive, 'positive')}",
            "maximum": f"{at_least}{_directions(self.negative, 'negative')}{flat}, unbounded below",
            "saddle": f"{both}{flat}, unbounded below",
            "flat valley": f"{at_least}rank {self.positive}{flat}",
            "unbounded": (
                f"{both}; along {self.undecided} more H is zero to rounding and g is not: no point"
                " is stationary"
            ),
        }[self.kind]
        if self.vector is None:
            return f"{self.kind} below: {said}"
        where = " at its nearest point" if self.undecided else " there"
        return (
            f"{self.kind}: {said}; the model is {self.value:.4g}{where}, at a distance of"
            f" {float(self.vector.norm()):.4g}"
        )


def _directions(count: int, sign: str = "") -> str:
    return f"{count} {sign}{' ' if sign else ''}direction{'s' * (count != 1)}"


def stationary_point(model: "QuadraticModel") -> StationaryPoint:
    """See `QuadraticModel.stationary_point`."""

    def solver(reduced: ReducedModel) -> Solution:
        # No point is stationary then; the zero step only carries the reduced model out.
        if reduced.falls_where_flat:
            return Solution(0 * reduced.coefficients, 0.0, "")
        return Solution(spectral.damped(reduced.values, reduced.coefficients, 0.0), 0.0, "")

    point = model.spaces.of_gradient.solve(solver)
    reduced = point.reduced
    # Two Krylov spaces are better than one: g may have no part where H is lowest.
    others = [] if reduced.is_full_space else [model.spaces.of_random_vector.solve(lowest).reduced]
    negative, undecided, positive = (
        max(counts) for counts in zip(*(r.counts for r in (reduced, *others)), strict=True)
    )
    if reduced.falls_where_flat:
        return StationaryPoint(
            "unbounded", negative, undecided, positive, None, float("-inf"), reduced.is_full_space
        )
    value = model.value + point.slope + point.bend / 2
    return StationaryPoint(
        _kind(negative, undecided, positive),
        negative,
        undecided,
        positive,
        point.vector,
        value,
        reduced.is_full_space,
    )


def _kind(negative: int, undecided: int, positive: int) -> str:
    if not negative:
        return "flat valley" if undecided else "minimum"
    return "saddle" if positive else "maximum"
