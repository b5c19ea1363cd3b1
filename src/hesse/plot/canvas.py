"""Where displays draw: the axes that a user gives, or new ones. The one place that imports
matplotlib's state."""

import math
from typing import TYPE_CHECKING, Literal

from hesse.errors import HesseImportError, HesseTypeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008): colours that people with any common colour blindness tell apart.
VERMILION, GREY, BLUE, GREEN, ORANGE, PURPLE = (
    "#D55E00",
    "#666666",
    "#0072B2",
    "#009E73",
    "#E69F00",
    "#CC79A7",
)
INK = "#222222"


def axes_for(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    """The axes given, or those of a new figure of this size in inches.

    Raises:
        HesseImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise HesseImportError(
            f"drawing needs matplotlib ({error}); install it with: pip install hesse[plot]"
        ) from error
    if ax is not None and not isinstance(ax, Axes):
        raise HesseTypeError(
            f"ax: expected matplotlib's Axes, such as pyplot.gca(), got {type(ax).__name__}"
        )
    return pyplot.figure(figsize=size, layout="compressed").add_subplot() if ax is None else ax


def draw_grid(ax: "Axes", axis: Literal["both", "x", "y"] = "both") -> None:
    """Faint lines at the ticks, below all that is drawn."""
    ax.grid(axis=axis, color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)


def signed_ticks(threshold: float, largest: float, most: int = 6) -> list[float]:
    """Zero and powers of ten on both sides of it, at most so many a side, for an axis that is
    linear within the threshold.

    Example:
        >>> signed_ticks(0.5, 200.0)
        [-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0]
    """
    if not 0 < threshold < largest:
        return [0.0]
    low, high = math.ceil(math.log10(threshold)), math.floor(math.log10(largest))
    powers = [10.0**k for k in range(high, low - 1, -max(1, -(-(high - low + 1) // most)))]
    return [*(-power for power in powers), 0.0, *reversed(powers)]


def signed(value: float) -> str:
    """Three digits, with a minus sign as the axes write it.

    Example:
        >>> signed(-0.25)
        '−0.25'
    """
    sign = "−" if value < 0 else ""
    return sign + (f"{abs(value):.3g}" if math.isfinite(value) else "∞")
