"""The eigenvalues of a Hessian."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.errors import HesseTypeError
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot.canvas import BLUE, GREY, VERMILION, axes_for, draw_grid, signed, signed_ticks
from hesse.products.hessian_operator import HessianOperator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(eq=False)
class Spectrum:
    """The eigenvalues in ascending order, on an axis that is logarithmic beyond the rounding level
    and linear within it.

    Attributes:
        values: eigenvalues, ascending.
        tolerance: up to which rounding decides, P · eps · max|λ|.
        ax, figure, artists: what `plot` drew last.

    Example:
        >>> import torch
        >>> from hesse.layout import Layout
        >>> from hesse.matrix.block_hessian import BlockHessian
        >>> H = BlockHessian(Layout(("w",), ((2,),)), matrix=torch.diag(torch.tensor([3.0, -1.0])))
        >>> Spectrum.from_hessian(H).counts
        {'negative': 1, 'undecided': 0, 'positive': 1}
    """

    values: np.ndarray
    tolerance: float
    ax: "Axes | None" = field(default=None, init=False)
    figure: "Figure | None" = field(default=None, init=False)
    artists: dict[str, Any] = field(default_factory=dict, init=False)

    @staticmethod
    def from_hessian(hessian: BlockHessian | HessianOperator) -> "Spectrum":
        """The eigenvalues of a Hessian, computed here unless it has them.

        Raises:
            HesseTypeError: an operator, whose eigenvalues are not all known.
        """
        if not isinstance(hessian, BlockHessian):
            raise HesseTypeError(
                f"Spectrum: expected a BlockHessian, got {type(hessian).__name__}: a Hessian known"
                " by its products does not show all its eigenvalues; use hesse.hessian(cost), or"
                " hesse.quadratic(cost, dense=True)"
            )
        return Spectrum(hessian.eigvalsh().detach().cpu().double().numpy(), hessian.tolerance)

    @property
    def counts(self) -> dict[str, int]:
        """The inertia: how many are negative, undecided and positive."""
        return {sign: int(part.sum()) for sign, part in self._parts().items()}

    def _parts(self) -> dict[str, np.ndarray]:
        negative, positive = self.values < -self.tolerance, self.values > self.tolerance
        return {"negative": negative, "undecided": ~(negative | positive), "positive": positive}

    def plot(self, ax: "Axes | None" = None) -> "Spectrum":
        """Draw, on the axes given or on new ones, and keep what was drawn."""
        ax = axes_for(ax, (7.2, 4.4))
        from matplotlib.ticker import NullLocator

        order = np.arange(1, len(self.values) + 1)
        # Few values are seen as points, many as a line of them.
        size = float(np.clip(3000 / max(len(self.values), 1), 9, 36))
        points = {}
        styles = {"negative": (VERMILION, "v"), "undecided": (GREY, "o"), "positive": (BLUE, "^")}
        for sign, part in self._parts().items():
            colour, marker = styles[sign]
            within = (
                f" (|λ| ≤ {self.tolerance:.2g}: rounding decides)" if sign == "undecided" else ""
            )
            label = f"{int(part.sum())} {sign}{within}"
            points[sign] = ax.scatter(
                order[part],
                self.values[part],
                s=size,
                c=colour,
                marker=marker,
                linewidths=0,
                label=label,
            )
        largest = float(np.abs(self.values).max(initial=0.0))
        # Linear between zero and the smallest eigenvalue that is not zero, so that no empty decades
        # are drawn.
        nonzero = np.abs(self.values)[np.abs(self.values) > self.tolerance]
        linear = float(nonzero.min(initial=largest)) or 1.0
        ax.set_yscale("symlog", linthresh=linear)
        low, high = self.values.min(initial=0.0), self.values.max(initial=0.0)
        ax.set_yticks([tick for tick in signed_ticks(linear, largest) if low <= tick <= high])
        ax.yaxis.set_minor_locator(NullLocator())
        zero = ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
        extremes = (
            f": λ from {signed(self.values[0])} to {signed(self.values[-1])}"
            if len(self.values)
            else ""
        )
        ax.set(xlabel="index, in ascending order", ylabel="eigenvalue λ")
        ax.set_title(f"Spectrum of the Hessian{extremes}", pad=26)
        draw_grid(ax, "y")
        # Above the axes, where no point can be.
        legend = ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3,
            frameon=False,
            markerscale=6 / size**0.5,
        )
        self.ax, self.figure = ax, ax.get_figure(root=True)
        self.artists = {"points": points, "zero": zero, "legend": legend}
        return self
