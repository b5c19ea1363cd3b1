"""Pictures in a figure of their own: no window, nothing to close."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (7.6, 6.0)  # of one, in inches
_DOTS = 110  # an inch, of one that a page holds: twice those that a screen shows of it


def figure_of(*draws: "Callable[[Axes], Any]", size: tuple[float, float] = _SIZE) -> "Figure":
    """One picture or several, two in a row, each of a size in inches."""
    from matplotlib.figure import Figure

    columns = min(2, len(draws))
    rows = -(-len(draws) // columns)
    # Not pyplot's, which keeps its own.
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    for place, draw in enumerate(draws, start=1):
        draw(figure.add_subplot(rows, columns, place))
    return figure


def png(draw: "Callable[[Axes], Any]", size: tuple[float, float] = _SIZE) -> bytes:
    """A picture as the content of a file."""
    file = io.BytesIO()
    figure_of(draw, size=size).savefig(file, format="png", dpi=_DOTS)
    return file.getvalue()
