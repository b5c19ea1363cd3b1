"""The error of a quadratic model against the length of the step."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, counted, facts
from hesse.errors import require_instance
from hesse.plot.canvas import (
    BLUE,
    GREY,
    LINE,
    VERMILION,
    draw_grid,
    ink,
    legend_above,
)
from hesse.plot.picture import Picture
from hesse.taylor import Trust
from hesse.taylor.trust import CLEAR, FITTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@final
@dataclass(eq=False, repr=False)
class ErrorCurve(Picture):
    """|true cost − model| against ‖s‖ on logarithmic axes, beside a line of slope 3: what a smooth
    cost follows.

    Attributes:
        norms, error, rounding: ‖s‖, |error|, and how much of it rounding can be.
        order: the fitted slope.
        radius: up to which ‖s‖ the model can be trusted.
        tolerance: of the relative error, for that.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: p["x"].exp().sum(), {"x": torch.zeros(1).double()}
        ... )
        >>> curve = ErrorCurve.from_trust(hesse.quadratic(cost).trust())
        >>> round(curve.cubic(2.0) / curve.cubic(1.0), 6)
        8.0
    """

    _kind = LINE

    norms: np.ndarray
    error: np.ndarray
    rounding: np.ndarray
    order: float
    radius: float
    tolerance: float

    @staticmethod
    def from_trust(trust: Trust) -> "ErrorCurve":
        """The errors that `QuadraticModel.trust` found; those that are not finite are left out.

        Raises:
            HesseTypeError: not a `Trust`.
        """
        require_instance(trust, Trust, "trust", "q.trust()")
        kept = np.isfinite(trust.error)
        error, rounding = np.abs(trust.error[kept]), trust.rounding[kept]
        return ErrorCurve(
            trust.norms[kept], error, rounding, trust.order, trust.radius, trust.tolerance
        )

    @property
    def clear(self) -> np.ndarray:
        """Which errors stand clear of rounding."""
        return self.error > CLEAR * self.rounding

    def cubic(self, norm: Any) -> Any:
        """C ‖s‖³, through the smallest errors that stand clear of rounding; nan where none does."""
        smallest = np.flatnonzero(self.clear)[:FITTED]
        if not len(smallest):
            return math.nan * norm
        return (
            math.exp(
                float(np.mean(np.log(self.error[smallest]) - 3 * np.log(self.norms[smallest])))
            )
            * norm**3
        )

    def _display(self) -> Display:
        return Display(
            "ErrorCurve",
            f"{counted(len(self.norms), 'length')} of a step",
            facts(
                order=f"{self.order:.3g}" if math.isfinite(self.order) else "exact to rounding",
                radius=f"{self.radius:.4g}, within {self.tolerance:.0%}",
            ),
            next=("curve.plot()",),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 4.6

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        ax.set(xscale="log", yscale="log")
        clear, seen = self.clear, self.error > 0
        points = {}
        for name, part, colour, label in (
            ("clear", clear & seen, BLUE, "|true cost − model|"),
            ("rounding", ~clear & seen, GREY, "the same, at the level of rounding"),
        ):
            looks: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5}
            looks |= {"color": colour, "label": label}
            # The keywords given are for what is clear; the rest is hollow.
            looks |= style if name == "clear" else {"markerfacecolor": "none"}
            (points[name],) = ax.plot(self.norms[part], self.error[part], **looks)
        lines = {}
        if seen.any():
            ax.set_ylim(self.error[seen].min() / 10, self.error.max() * 10)
        if math.isfinite(self.order) and clear.any():
            (lines["cubic"],) = ax.plot(
                self.norms,
                self.cubic(self.norms),
                color=VERMILION,
                linewidth=1.4,
                linestyle=(0, (5, 2)),
                label="slope 3",
            )
        if 0 < self.radius < math.inf:
            label = f"trust radius {self.radius:.3g} (error within {self.tolerance:.0%})"
            lines["radius"] = ax.axvline(
                self.radius, color=ink(), linewidth=1, linestyle=":", label=label
            )
        ax.set(
            xlabel="length of the step ‖s‖  (units of the parameters)",
            ylabel="error  (units of the loss)",
        )
        order = (
            f"order {self.order:.2f}" if math.isfinite(self.order) else "exact to rounding near θ"
        )
        ax.set_title(f"Error of the quadratic model: {order}", pad=46)
        draw_grid(ax)
        return {"points": points, "lines": lines, "legend": legend_above(ax, 2)}
