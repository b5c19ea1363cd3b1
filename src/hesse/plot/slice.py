"""The true cost and its quadratic model along a line."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, counted, facts
from hesse.errors import require_positive
from hesse.plot.canvas import BLUE, LINE, SKY, VERMILION, draw_grid, ink, legend_above, signed
from hesse.plot.picture import Picture
from hesse.plot.section import Section, require_model_and_points
from hesse.taylor import QuadraticModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REACH = 2.5  # trust radii to each side: one sees where the two part


@final
@dataclass(eq=False, repr=False)
class Slice(Picture):
    """J(θ + t u) and its quadratic model along a unit direction u; the part where the model can be
    trusted is shaded.

    Attributes:
        distance: t, in units of the parameters; 0 is θ.
        true, model: both costs there; the true one nan where it is not finite.
        value: J(θ).
        trusted: the t between which the model can be trusted, by `QuadraticModel.trust` to each
            side.
        tolerance: of the relative error, for that.
        along: what u is, in words.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(lambda p: p["x"].cos().sum(), {"x": torch.ones(1)})
        >>> line = Slice.from_model(hesse.quadratic(cost), span=2.0)
        >>> float(line.distance[0]), float(line.distance[-1])
        (-2.0, 2.0)
    """

    _kind = LINE

    distance: np.ndarray
    true: np.ndarray
    model: np.ndarray
    value: float
    trusted: tuple[float, float]
    tolerance: float
    along: str

    @staticmethod
    def from_model(
        q: QuadraticModel,
        direction: Any = None,
        *,
        span: float | None = None,
        tolerance: float = 0.1,
        points: int = 121,
    ) -> "Slice":
        """Evaluate both along a line.

        Args:
            q: the model.
            direction: a flat vector, {name: Tensor} or a `Step`; its length does not matter. By
                default downhill, −g.
            span: how far to each side, in units of the parameters; by default beyond the trust
                radius.
            tolerance: of the relative error, for the trust radius.
            points: how many times the cost is evaluated, besides what the trust radius takes.

        Raises:
            HesseError: a direction that does not fit the model or is zero; a span, a tolerance or
                points that cannot be used.
        """
        points = require_model_and_points(q, points)
        if span is not None:
            span = require_positive(span, "span")
        ahead = q.trust(direction, tolerance)
        behind = q.trust(-ahead.direction, tolerance)
        line = Section(q, ahead.direction[:, None])
        span = span or _span(line, max(ahead.radius, behind.radius))
        along = "−g, downhill" if bool(q.gradient.any()) else "a random direction"
        if direction is not None:
            along = getattr(direction, "method", "the direction given").replace("_", " ")
        distance = np.linspace(-span, span, points)
        true, model = line.true(distance[None]), line.model(distance[None])
        return Slice(
            distance, true, model, q.value, (-behind.radius, ahead.radius), tolerance, along
        )

    def _display(self) -> Display:
        return Display(
            "Slice",
            f"the cost and its quadratic model along {self.along}, at"
            f" {counted(len(self.distance), 'point')}",
            facts(
                J=f"{self.value:.6g}",
                distance=f"from {signed(self.distance[0])} to {signed(self.distance[-1])}",
                trust=self._trust(),
            ),
            next=("line.plot()", "line.true", "line.model"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 4.6

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        start, end = self.distance[[0, -1]]
        low, high = max(self.trusted[0], start), min(self.trusted[1], end)
        shade = ax.axvspan(
            low, high, color=SKY, alpha=0.25, linewidth=0, label=self._trust(), zorder=0
        )
        looks = {"color": BLUE, "linewidth": 2, "label": "true cost J", **style}
        (true,) = ax.plot(self.distance, self.true, **looks)
        (model,) = ax.plot(
            self.distance,
            self.model,
            color=VERMILION,
            linewidth=1.8,
            linestyle=(0, (5, 2)),
            label="quadratic model",
        )
        (point,) = ax.plot([0], [self.value], "o", color=ink(), markersize=6, label="θ")
        ax.set(
            xlim=(start, end),
            ylim=self._range(),
            xlabel=f"distance from θ along {self.along}  (units of the parameters)",
        )
        ax.set(ylabel="cost  (units of the loss)")
        ax.set_title("The cost and its quadratic model along a line", pad=46)
        draw_grid(ax)
        return {
            "true": true,
            "model": model,
            "trusted": shade,
            "point": point,
            "legend": legend_above(ax, 2),
        }

    def _trust(self) -> str:
        low, high = self.trusted
        if math.isinf(low) and math.isinf(high):
            return f"error within {self.tolerance:.0%}: everywhere"
        return f"error within {self.tolerance:.0%}: from {signed(low)} to {signed(high)}"

    def _range(self) -> tuple[float, float]:
        """The true cost, and as much of the model as leaves room for it."""
        lowest, highest = np.nanmin(self.true), np.nanmax(self.true)
        room = (highest - lowest) or abs(highest) or 1.0
        low, high = (
            max(self.model.min(), lowest - 0.6 * room),
            min(self.model.max(), highest + 0.6 * room),
        )
        low, high = min(low, lowest), max(high, highest)
        return float(low - 0.05 * room), float(high + 0.05 * room)


def _span(line: Section, radius: float) -> float:
    """Some trust radii; where there is no such bound, as far again as the model's stationary point,
    or ‖θ‖."""
    if 0 < radius < math.inf:
        return _REACH * radius
    slope, bent = abs(float(line.gradient[0])), abs(float(line.hessian[0, 0]))
    return (2 * slope / bent if bent and slope else 0.0) or float(line.q.cost.theta.norm()) or 1.0
