"""A plane as surfaces that can be turned: the one place that imports Plotly."""

from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.errors import HesseImportError, HesseValueError, printable
from hesse.plot.canvas import BLUE, VERMILION
from hesse.plot.trajectories import STYLES
from hesse.process.files import require_place, write_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from hesse.plot.plane import Plane

# Of how much room the true cost takes the model may take as much again above and below.
_ROOM = 0.6
_PAGE = 6_000_000  # bytes: Plotly is in it


def landscape(plane: "Plane", path: str | PathLike[str] | None) -> "Figure":
    """See `Plane.interactive`."""
    try:
        from plotly import graph_objects as plotly
    except ImportError as error:
        raise HesseImportError(
            f"an interactive plane needs Plotly ({error}); install it with: pip install"
            " 'hesse[interactive]'"
        ) from error
    if path is not None:
        place = require_place(path, "path", _PAGE)
        if place.suffix.lower() not in (".html", ".htm"):
            raise HesseValueError(f"path: expected a file that ends in .html, got {place.name!r}")
    low, high = float(np.nanmin(plane.true)), float(np.nanmax(plane.true))
    room = (high - low) or abs(high) or 1.0
    # What of the model lies far from the true cost would hide it.
    model = np.where(
        (plane.model > low - _ROOM * room) & (plane.model < high + _ROOM * room),
        plane.model,
        np.nan,
    )
    grid: dict[str, Any] = {"x": plane.a, "y": plane.b}
    hover = "a %{x:.4g}<br>b %{y:.4g}<br>J %{z:.6g}"
    true = plotly.Surface(
        z=plane.true, **grid, name="true cost", colorscale="Blues", showlegend=True,
        colorbar={"title": {"text": "cost J"}, "len": 0.6}, hovertemplate=hover, opacity=0.95,
    )  # fmt: skip
    quadratic = plotly.Surface(
        z=model, **grid, name="quadratic model", showlegend=True, showscale=False, opacity=0.35,
        colorscale=[[0, VERMILION], [1, VERMILION]], hovertemplate=hover,
    )  # fmt: skip
    paths = [
        plotly.Scatter3d(
            x=places[:, 0], y=places[:, 1], z=_heights(plane, places), name=method,
            mode="lines+markers", line={"color": STYLES[method][0], "width": 6},
            marker={"color": STYLES[method][0], "size": 3}, hovertemplate=hover,
        )
        for method, places in plane.paths.items()
    ]  # fmt: skip
    start = plotly.Scatter3d(
        x=[0], y=[0], z=_heights(plane, np.zeros((1, 2))), name="θ", mode="markers",
        marker={"color": BLUE, "size": 6, "symbol": "diamond"}, hovertemplate=hover,
    )  # fmt: skip
    first, second = plane.axes
    names = zip("xyz", "abJ", strict=True)
    figure = plotly.Figure([true, quadratic, *paths, start])
    figure.update_layout(
        title={
            "text": "The cost and its quadratic model over a plane",
            "subtitle": {"text": f"a along {_shown(first)}, b along {_shown(second)}"},
        },
        scene={f"{axis}axis": {"title": {"text": name}} for axis, name in names},
        legend={"orientation": "h"},
        margin={"l": 0, "r": 0, "b": 0, "t": 70},
    )
    if path is not None:
        write_text(path, "path", figure.to_html(include_plotlyjs=True, full_html=True))
    return figure


def _shown(text: str) -> str:
    """A text in which Plotly finds no tags."""
    return escape(printable(text), quote=False)


def _heights(plane: "Plane", places: np.ndarray) -> np.ndarray:
    """The true cost where a path goes, between the points at which it is known: on the surface that
    is drawn; nan outside."""
    a, b = (
        (coordinates - line[0]) / ((line[-1] - line[0]) or 1.0) * (len(line) - 1)
        for coordinates, line in zip(places.T, (plane.a, plane.b), strict=True)
    )
    inside = (a >= 0) & (b >= 0) & (a <= len(plane.a) - 1) & (b <= len(plane.b) - 1)
    i = np.clip(a.astype(int), 0, len(plane.a) - 2)
    j = np.clip(b.astype(int), 0, len(plane.b) - 2)
    right, up = a - i, b - j
    heights = (
        plane.true[j, i] * (1 - right) * (1 - up)
        + plane.true[j, i + 1] * right * (1 - up)
        + plane.true[j + 1, i] * (1 - right) * up
        + plane.true[j + 1, i + 1] * right * up
    )
    return np.where(inside, heights, np.nan)
