"""The density of eigenvalues, with a band."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.plot.canvas import BLUE, axes_for, draw_grid, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Densities below this part of the largest are not shown, the tails of the kernel; those below that
# part of it have no place on a logarithmic axis.
_FLOOR, _LEAST = 1e-6, 1e-9


@final
@dataclass(eq=False, repr=False)
class Density:
    """A density of eigenvalues, made by `hesse.density`.

    Attributes:
        points: where it is given.
        values: of it there.
        errors: their standard errors; zeros where all eigenvalues were seen.
        nodes, weights: the eigenvalues, each 1/P, or what stands for them.
        width: of the kernel.
        products: how many products it took.
        exact: whether all eigenvalues were seen.
        ax, figure, artists: what `plot` drew last.

    Example:
        >>> import torch, hesse
        >>> hesse.density(torch.eye(3))
        Density of eigenvalues from 1 to 1 (all of them)
    """

    points: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    products: int
    exact: bool
    ax: "Axes | None" = field(default=None, init=False)
    figure: "Figure | None" = field(default=None, init=False)
    artists: dict[str, Any] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        seen = "all of them" if self.exact else f"{self.products} products"
        low, high = self.nodes.min(initial=np.inf), self.nodes.max(initial=-np.inf)
        return f"Density of eigenvalues from {low:.4g} to {high:.4g} ({seen})"

    def mass(self, low: float, high: float) -> float:
        """Which part of the eigenvalues lies from ``low`` to ``high``, the kernel left out."""
        return float(self.weights[(self.nodes >= low) & (self.nodes <= high)].sum())

    def plot(self, ax: "Axes | None" = None) -> "Density":
        """Draw, on the axes given or on new ones, and keep what was drawn."""
        ax = axes_for(ax, (7.2, 4.4))
        ax.set_yscale("log")
        top = float((self.values + 2 * self.errors).max(initial=0.0)) or 1.0
        # What is not shown leaves the frame, and does not lie along it.
        floor, least = _FLOOR * top, _LEAST * top
        (curve,) = ax.plot(
            self.points, np.maximum(self.values, least), color=BLUE, linewidth=1.4, label="density"
        )
        artists: dict[str, Any] = {"curve": curve}
        if not self.exact:
            # As wide as 95 % of the bars.
            low, high = (self.values + sign * 1.96 * self.errors for sign in (-1, 1))
            artists["band"] = ax.fill_between(
                self.points,
                np.maximum(low, least),
                np.maximum(high, least),
                color=BLUE,
                alpha=0.25,
                linewidth=0,
                label="± 1.96 standard errors",
            )
        artists["zero"] = ax.axvline(0.0, color="0.7", linewidth=0.8, zorder=0)
        ax.set(xlabel="eigenvalue λ", ylabel="density", ylim=(floor, 2 * top))
        low, high = self.nodes.min(initial=0.0), self.nodes.max(initial=0.0)
        ax.set_title(f"Density of the eigenvalues: λ from {signed(low)} to {signed(high)}", pad=26)
        draw_grid(ax, "y")
        artists["legend"] = ax.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False
        )
        self.ax, self.figure, self.artists = ax, ax.get_figure(root=True), artists
        return self
