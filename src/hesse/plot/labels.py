"""The names of parameters along an axis, where a parameter may take less room than its name."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

from hesse.display.text import shortened
from hesse.errors import printable
from hesse.plot.canvas import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

FONT = 8.0  # points
# Between two names, in points: a line of text.
_GAP = 1.25 * FONT
_LEADER = 14.0  # points from the axis to a name: room for the line that leads to it
_LENGTH = 30  # characters of a name; its end says more, and is kept


def layer_of(name: str) -> str:
    """The module that a parameter belongs to: its name up to the last dot."""
    return name.rpartition(".")[0] or name


def labels_that_fit(
    names: Sequence[str], edges: Sequence[int], gap: float
) -> list[tuple[str, float]]:
    """What to write and where: each parameter; each layer where those are too many; the largest,
    well apart, where these are.

    Args:
        names: the parameters.
        edges: where each begins, and the end of the last.
        gap: the room that one name takes.

    Examples:
        >>> labels_that_fit(["0.weight", "0.bias", "2.weight"], [0, 6, 8, 10], gap=5.0)
        [('0', 4.0), ('2', 9.0)]
    """
    spans = list(zip(names, edges[:-1], edges[1:], strict=True))
    capacity = max(1, int(edges[-1] / gap))
    if len(spans) > capacity:
        layers = [
            (layer, list(members))
            for layer, members in groupby(spans, lambda span: layer_of(span[0]))
        ]
        spans = [(layer, members[0][1], members[-1][2]) for layer, members in layers]
    crowded = len(spans) > capacity
    kept: dict[float, str] = {}
    for name, start, end in sorted(spans, key=lambda span: span[1] - span[2]):
        centre = (start + end) / 2
        if not crowded or all(abs(centre - other) >= gap for other in kept):
            kept[centre] = name
    return [(kept[centre], centre) for centre in sorted(kept)]


def spaced(centres: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places at least ``gap`` apart within [low, high], as near as can be to the centres (least
    squares), in their order."""
    # With each centre shifted by the gaps before it, "at least a gap apart" is "in ascending
    # order", which isotonic regression fits.
    shifts = gap * np.arange(len(centres))
    fitted = isotonic_regression(np.asarray(centres) - shifts).x
    return np.clip(fitted, low, high - shifts[-1]) + shifts


def write_names(
    ax: "Axes", names: Sequence[str], edges: Sequence[int], side: str
) -> list["Annotation"]:
    """Write the names beside the axis, ``side`` "left" or "bottom"; a thin line leads from each
    part to its name."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    points = min(box.width, box.height) * 72 / figure.dpi
    gap = _GAP * edges[-1] / points
    written = labels_that_fit(names, edges, gap)
    places = spaced([centre for _, centre in written], gap, gap / 2, edges[-1] - gap / 2)
    leader = {"arrowstyle": "-", "linewidth": 0.6, "color": GREY, "shrinkA": 1, "shrinkB": 0}
    sides = {
        "left": {
            "ha": "right",
            "va": "center",
            "rotation": 0,
            "arrowprops": {**leader, "relpos": (1, 0.5)},
        },
        "bottom": {
            "ha": "center",
            "va": "top",
            "rotation": 90,
            "arrowprops": {**leader, "relpos": (0.5, 1)},
        },
    }
    # Along the axis in its own units, across it from its edge: the names are beside the image in
    # any size of it.
    turn = (
        (lambda along, across: (across, along))
        if side == "left"
        else (lambda along, across: (along, across))
    )
    return [
        ax.annotate(
            shortened(printable(name), _LENGTH),
            xy=turn(centre, 0),
            xycoords=turn("data", "axes fraction"),
            xytext=turn(place, -_LEADER),
            textcoords=turn("data", "offset points"),
            fontsize=FONT,
            parse_math=False,  # a name is text, whatever it holds
            annotation_clip=False,
            **sides[side],
        )
        for (name, centre), place in zip(written, places, strict=True)
    ]


def write_both_names(ax: "Axes", names: Sequence[str], edges: Sequence[int]) -> list["Annotation"]:
    """Write the names at the left and below; again for the size that the axes have when the names
    took room from them."""
    figure = ax.get_figure(root=True)
    assert figure is not None

    def written() -> list["Annotation"]:
        return [
            label for side in ("left", "bottom") for label in write_names(ax, names, edges, side)
        ]

    labels = written()
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        for label in labels:
            label.remove()
        labels = written()
    return labels


def draw_borders(ax: "Axes", names: Sequence[str], edges: Sequence[int]) -> list["Line2D"]:
    """Lines over an image between parameters, darker between layers."""
    # Thinner where there are more, so that many borders do not hide the image.
    borders, width = [], min(1.0, 30 / len(names))
    for k in range(1, len(names)):
        new_layer = layer_of(names[k]) != layer_of(names[k - 1])
        looks = {
            "color": "0.2" if new_layer else "0.6",
            "linewidth": width * (0.9 if new_layer else 0.4),
        }
        borders += [ax.axhline(edges[k], **looks), ax.axvline(edges[k], **looks)]
    return borders
