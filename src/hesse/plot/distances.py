"""How far approximate blocks are from exact ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.display.text import shortened
from hesse.errors import printable
from hesse.plot.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, draw_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.kronecker.comparison import BlockDistance

# Characters of a name.
_NAME = 32
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY)


def draw_distances(
    rows: "Sequence[BlockDistance]", ax: "Axes", style: dict[str, Any]
) -> dict[str, Any]:
    """A bar for each block and curvature, the blocks from above in their order."""
    labels = list(dict.fromkeys(row.label for row in rows))
    kinds = list(dict.fromkeys(row.curvature for row in rows))
    height = 0.8 / max(len(kinds), 1)
    bars = {}
    for place, kind in enumerate(kinds):
        found = {row.label: row.relative for row in rows if row.curvature == kind}
        at = np.arange(len(labels)) + (place - (len(kinds) - 1) / 2) * height
        lengths = [found.get(label, np.nan) for label in labels]
        looks = {"color": _COLOURS[place % len(_COLOURS)], "label": kind, **style}
        bars[kind] = ax.barh(at, lengths, height, **looks)
    names = [shortened(printable(label), _NAME) for label in labels]
    ax.set_yticks(np.arange(len(labels)), names, parse_math=False)
    ax.invert_yaxis()
    ax.set(xlabel="‖K − C‖ / ‖C‖, C the exact block")
    ax.set_title("Distance of the approximate blocks")
    draw_grid(ax, "x")
    legend = ax.legend(frameon=False)
    return {"bars": bars, "legend": legend}
