"""Where pictures are drawn, the axes that a user gives or new ones, and in which colours: those of
the user's style where a picture has none of its own. The one place that imports matplotlib's
state."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hesse.errors import (
    HesseError,
    HesseImportError,
    HesseTypeError,
    HesseValueError,
    in_a_line,
    nearest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008): colours that people with any common colour blindness tell apart. They, and
# the grey, are legible on white and on black.
VERMILION, GREY, BLUE, SKY, GREEN, ORANGE, PURPLE = (
    "#D55E00",
    "#808080",
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#CC79A7",
)


class Kind(NamedTuple):
    """An artist of Matplotlib's, such as ``"lines.Line2D"``, and what else is a keyword of the
    function that makes it."""

    artist: str
    more: tuple[str, ...] = ()


# Cells along a side, up to which there is room for a number in each.
_VALUES = 12
LINE, IMAGE = Kind("lines.Line2D"), Kind("image.AxesImage")
CONTOURS = Kind("contour.ContourSet", ("hatches",))
POINTS, BARS = Kind("collections.PathCollection", ("s", "marker")), Kind("patches.Rectangle")


def ink() -> str:
    """The colour of the user's texts, which stand out from the background."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def paper(ax: "Axes") -> Any:
    """The colour of the background."""
    return ax.get_facecolor()


@contextmanager
def drawing(style: Mapping[str, Any], kind: Kind) -> Iterator[dict[str, Any]]:
    """The keywords of a user by the names that Matplotlib has for them; what it refuses on the way
    is said in a sentence.

    Raises:
        HesseTypeError: a keyword that is none.
        HesseValueError: a value that Matplotlib refuses.
    """
    import importlib

    from matplotlib.artist import ArtistInspector
    from matplotlib.cbook import normalize_kwargs

    module, _, name = kind.artist.rpartition(".")
    artist = getattr(importlib.import_module(f"matplotlib.{module}"), name)
    inspector = ArtistInspector(artist)
    known = {*inspector.get_setters(), *kind.more}
    also = {alias for aliases in inspector.aliasd.values() for alias in aliases}
    for given in style:
        if given not in known | also:
            close = nearest(given, sorted(known))
            raise HesseTypeError(
                f"plot: {given!r} is no keyword of Matplotlib's {name}; the nearest: {close}"
            )
    try:
        yield normalize_kwargs(dict(style), artist)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if not style or isinstance(error, HesseError):
            raise
        raise HesseValueError(
            f"plot: Matplotlib refuses {', '.join(map(repr, style))}: {in_a_line(error)}"
        ) from error


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
            f"drawing needs matplotlib ({error}); install it with: pip install 'hesse[plot]'"
        ) from error
    if ax is not None and not isinstance(ax, Axes):
        raise HesseTypeError(
            f"ax: expected matplotlib's Axes, such as pyplot.gca(), got {type(ax).__name__}"
        )
    return pyplot.figure(figsize=size, layout="compressed").add_subplot() if ax is None else ax


def draw_grid(ax: "Axes", axis: Literal["both", "x", "y"] = "both") -> None:
    """Faint lines at the ticks, below all that is drawn."""
    ax.grid(axis=axis, color=ink(), alpha=0.12, linewidth=0.6)
    ax.set_axisbelow(True)


def draw_zero(ax: "Axes", axis: Literal["x", "y"]) -> Any:
    """A faint line where a coordinate is zero, below all that is drawn."""
    line = ax.axvline if axis == "x" else ax.axhline
    return line(0.0, color=ink(), alpha=0.35, linewidth=0.8, zorder=0)


def legend_above(ax: "Axes", columns: int, **more: Any) -> Any:
    """A legend above the axes, where nothing that is drawn can be."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    return ax.legend(**place, ncols=columns, frameon=False, **more)


def colorbar_beside(ax: "Axes", drawn: Any, **more: Any) -> Any:
    """A bar of colours beside the image itself, so that it stays as tall in any figure."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure.colorbar(drawn, cax=ax.inset_axes((1.03, 0, 0.035, 1)), **more)


def write_values(ax: "Axes", values: np.ndarray, drawn: Any) -> list[Any]:
    """The number in each cell of a small image whose cells are of size 1, black or white, whichever
    stands out; none in a large one."""
    if len(values) > _VALUES:
        return []
    texts = []
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        red, green, blue, _ = drawn.to_rgba(float(value))
        # How bright a colour looks (ITU-R BT.709).
        bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        looks = {"ha": "center", "va": "center", "fontsize": 8 if len(values) <= 9 else 6.5}
        text = f"{value:.2g}".replace("-", "−")
        colour = "black" if bright > 0.45 else "white"
        texts.append(ax.text(column + 0.5, row + 0.5, text, color=colour, **looks))
    return texts


def signed_ticks(threshold: float, largest: float, most: int = 6) -> list[float]:
    """Zero and powers of ten on both sides of it, at most so many a side, for an axis that is
    linear within the threshold.

    Examples:
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

    Examples:
        >>> signed(-0.25)
        '−0.25'
    """
    sign = "−" if value < 0 else ""
    return sign + (f"{abs(value):.3g}" if math.isfinite(value) else "∞")
