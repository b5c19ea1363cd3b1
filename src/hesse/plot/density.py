"""The density of eigenvalues, with a band."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, facts
from hesse.errors import require_number
from hesse.plot.canvas import BLUE, LINE, draw_grid, draw_zero, legend_above, signed
from hesse.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Densities below this part of the largest are not shown, the tails of the kernel; those below that
# part of it have no place on a logarithmic axis.
_FLOOR, _LEAST = 1e-6, 1e-9


@final
@dataclass(eq=False, repr=False)
class Density(Picture):
    """A density of eigenvalues, made by `hesse.density`.

    Attributes:
        points: where it is given.
        values: of it there.
        errors: their standard errors; zeros where all eigenvalues were seen.
        nodes, weights: the eigenvalues, each 1/P, or what stands for them.
        width: of the kernel.
        products: how many products it took.
        exact: whether all eigenvalues were seen.

    Examples:
        >>> import torch, hesse
        >>> hesse.density(torch.eye(3)).mass(0.5, 1.5)
        1.0
    """

    _kind = LINE

    points: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    products: int
    exact: bool

    def _display(self) -> Display:
        low, high = self.nodes.min(initial=np.inf), self.nodes.max(initial=-np.inf)
        seen = "all eigenvalues were seen" if self.exact else f"by {self.products:,} products"
        return Display(
            "Density",
            f"of eigenvalues from {low:.4g} to {high:.4g}",
            facts(found=seen, kernel=f"of width {self.width:.3g}"),
            next=("density.mass(low, high)", "density.plot()"),
        )

    def mass(self, low: float, high: float) -> float:
        """Which part of the eigenvalues lies from ``low`` to ``high``, the kernel left out.

        Raises:
            HesseError: a bound that is no number; infinite ones are taken.
        """
        least, most = (
            bound if isinstance(bound, float) and math.isinf(bound) else require_number(bound, name)
            for name, bound in (("low", low), ("high", high))
        )
        return float(self.weights[(self.nodes >= least) & (self.nodes <= most)].sum())

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 4.4

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        ax.set_yscale("log")
        top = float((self.values + 2 * self.errors).max(initial=0.0)) or 1.0
        # What is not shown leaves the frame, and does not lie along it.
        floor, least = _FLOOR * top, _LEAST * top
        looks = {"color": BLUE, "linewidth": 1.4, "label": "density", **style}
        (curve,) = ax.plot(self.points, np.maximum(self.values, least), **looks)
        artists: dict[str, Any] = {"curve": curve}
        if not self.exact:
            # As wide as 95 % of the bars.
            low, high = (self.values + sign * 1.96 * self.errors for sign in (-1, 1))
            artists["band"] = ax.fill_between(
                self.points,
                np.maximum(low, least),
                np.maximum(high, least),
                color=curve.get_color(),
                alpha=0.35,
                linewidth=0,
                label="± 1.96 standard errors",
            )
        artists["zero"] = draw_zero(ax, "x")
        ax.set(xlabel="eigenvalue λ", ylabel="density", ylim=(floor, 2 * top))
        low, high = self.nodes.min(initial=0.0), self.nodes.max(initial=0.0)
        ax.set_title(f"Density of the eigenvalues: λ from {signed(low)} to {signed(high)}", pad=26)
        draw_grid(ax, "y")
        artists["legend"] = legend_above(ax, 2)
        return artists
