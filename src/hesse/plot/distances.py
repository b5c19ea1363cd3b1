"""How far approximate blocks are from exact ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.plot.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, axes_for, draw_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.kronecker.comparison import BlockDistance

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY)


def draw_distances(
    rows: "Sequence[BlockDistance]", ax: "Axes | None"
) -> "tuple[Axes, dict[str, Any]]":
    """A bar for each block and curvature, the blocks from above in their order."""
    labels = list(dict.fromkeys(row.label for row in rows))
    kinds = list(dict.fromkeys(row.curvature for row in rows))
    ax = axes_for(ax, (7.2, 1.2 + 0.3 * len(labels) * max(len(kinds), 1)))
    height = 0.8 / max(len(kinds), 1)
    bars = {}
    for place, kind in enumerate(kinds):
        found = {row.label: row.relative for row in rows if row.curvature == kind}
        at = np.arange(len(labels)) + (place - (len(kinds) - 1) / 2) * height
        lengths = [found.get(label, np.nan) for label in labels]
        bars[kind] = ax.barh(at, lengths, height, color=_COLOURS[place % len(_COLOURS)], label=kind)
    ax.set_yticks(np.arange(len(labels)), labels)
    ax.invert_yaxis()
    ax.set(xlabel="‖K − C‖ / ‖C‖, C the exact block")
    ax.set_title("Distance of the approximate blocks")
    draw_grid(ax, "x")
    legend = ax.legend(frameon=False)
    return ax, {"bars": bars, "legend": legend}
