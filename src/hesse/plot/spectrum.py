"""The eigenvalues of a Hessian."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from torch import Tensor

from hesse.display import Display, counted, facts
from hesse.errors import HesseTypeError
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.spectrum import zero_tolerance
from hesse.plot.canvas import (
    BLUE,
    GREY,
    POINTS,
    VERMILION,
    draw_grid,
    draw_zero,
    legend_above,
    signed,
    signed_ticks,
)
from hesse.plot.picture import Picture
from hesse.products.hessian_operator import HessianOperator
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# How each is drawn: told apart without colours too.
SIGNS = {"negative": (VERMILION, "v"), "undecided": (GREY, "o"), "positive": (BLUE, "^")}


@final
@dataclass(eq=False, repr=False)
class Spectrum(Picture):
    """The eigenvalues in ascending order, on an axis that is logarithmic beyond the rounding level
    and linear within it.

    Attributes:
        values: eigenvalues, ascending.
        tolerance: up to which rounding decides, P · eps · max|λ|.

    Examples:
        >>> import torch
        >>> from hesse.layout import Layout
        >>> from hesse.matrix.block_hessian import BlockHessian
        >>> H = BlockHessian(Layout(("w",), ((2,),)), matrix=torch.diag(torch.tensor([3.0, -1.0])))
        >>> Spectrum.from_hessian(H).counts
        {'negative': 1, 'undecided': 0, 'positive': 1}
    """

    _kind = POINTS

    values: np.ndarray
    tolerance: float

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
        return Spectrum.of_values(hessian.eigvalsh())

    @staticmethod
    def of_values(values: Float[Tensor, " P"]) -> "Spectrum":
        """The spectrum of all eigenvalues of a matrix, ascending."""
        return Spectrum(values.detach().cpu().double().numpy(), zero_tolerance(values))

    @property
    def counts(self) -> dict[str, int]:
        """The inertia: how many are negative, undecided and positive."""
        return {sign: int(part.sum()) for sign, part in self.parts().items()}

    def parts(self) -> dict[str, np.ndarray]:
        """Which of the values are negative, undecided and positive."""
        negative, positive = self.values < -self.tolerance, self.values > self.tolerance
        return {"negative": negative, "undecided": ~(negative | positive), "positive": positive}

    def _display(self) -> Display:
        counts = ", ".join(f"{count:,} {sign}" for sign, count in self.counts.items())
        ends = (
            f"from {signed(self.values[0])} to {signed(self.values[-1])}"
            if len(self.values)
            else None
        )
        return Display(
            "Spectrum",
            counted(len(self.values), "eigenvalue"),
            facts(
                values=ends,
                counts=counts,
                undecided=f"up to |λ| = {self.tolerance:.2g}, where rounding decides",
            ),
            next=("spectrum.plot()", "spectrum.values"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 4.4

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        from matplotlib.ticker import NullLocator

        order = np.arange(1, len(self.values) + 1)
        # Few values are seen as points, many as a line of them.
        size = float(np.clip(3000 / max(len(self.values), 1), 9, 36))
        points = {}
        for sign, part in self.parts().items():
            colour, marker = SIGNS[sign]
            within = (
                f" (|λ| ≤ {self.tolerance:.2g}: rounding decides)" if sign == "undecided" else ""
            )
            label = f"{int(part.sum())} {sign}{within}"
            looks = {"s": size, "color": colour, "marker": marker, "linewidth": 0, **style}
            points[sign] = ax.scatter(order[part], self.values[part], label=label, **looks)
        largest = float(np.abs(self.values).max(initial=0.0))
        # Linear between zero and the smallest eigenvalue that is not zero, so that no empty decades
        # are drawn.
        nonzero = np.abs(self.values)[np.abs(self.values) > self.tolerance]
        linear = float(nonzero.min(initial=largest)) or 1.0
        ax.set_yscale("symlog", linthresh=linear)
        low, high = self.values.min(initial=0.0), self.values.max(initial=0.0)
        ax.set_yticks([tick for tick in signed_ticks(linear, largest) if low <= tick <= high])
        ax.yaxis.set_minor_locator(NullLocator())
        zero = draw_zero(ax, "y")
        extremes = (
            f": λ from {signed(self.values[0])} to {signed(self.values[-1])}"
            if len(self.values)
            else ""
        )
        ax.set(xlabel="index, in ascending order", ylabel="eigenvalue λ")
        ax.set_title(f"Spectrum of the Hessian{extremes}", pad=26)
        draw_grid(ax, "y")
        legend = legend_above(ax, 3, markerscale=6 / size**0.5)
        return {"points": points, "zero": zero, "legend": legend}
