"""How sharp a cost is by layer: a table, and bars."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, Table, counted
from hesse.display.text import shortened, table_lines
from hesse.errors import HesseKeyError, nearest, printable
from hesse.matrix.frames import layers_frame
from hesse.plot.canvas import (
    BARS,
    BLUE,
    ORANGE,
    draw_grid,
    draw_zero,
    ink,
    legend_above,
    signed_ticks,
)
from hesse.plot.labels import FONT
from hesse.plot.picture import Picture
from hesse.spectra.estimate import Estimate

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Characters of a layer's name.
_NAME = 32
# What is smaller than so much of the largest is drawn as nothing.
_ROUNDING = 1e-9
_HEAD = ("layer", "parameters", "trace", "trace/parameter", "largest eigenvalue")


@final
@dataclass(frozen=True)
class Layer:
    """A layer's own block.

    Attributes:
        name: the layer's.
        parameters: how many it has.
        trace: of the block.
        largest: its largest eigenvalue; the error is its residual.
    """

    name: str
    parameters: int
    trace: Estimate
    largest: Estimate


@final
@dataclass(eq=False, repr=False)
class Layers(Picture):
    """A table of layers, made by `hesse.layers`.

    Attributes:
        whole: the same of all parameters.
        rows: the layers; none where there is but one.

    Examples:
        >>> row = Layer("0", 3, Estimate(2.0, exact=True), Estimate(1.5, exact=True))
        >>> Layers(row, ()).whole.trace.value
        2.0
    """

    _kind = BARS

    whole: Layer
    rows: tuple[Layer, ...]

    def __getitem__(self, name: str) -> Layer:
        """A layer by its name; the whole is ``"(whole)"``.

        Raises:
            HesseKeyError: there is no such layer.
        """
        known = {row.name: row for row in (*self.rows, self.whole)}
        if not isinstance(name, str) or name not in known:
            raise HesseKeyError(
                f"no layer is named {name!r}; the nearest known: {nearest(str(name), list(known))}"
            )
        return known[name]

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in (*self.rows, self.whole))

    def __len__(self) -> int:
        return len(self.rows) + 1

    def to_pandas(self) -> "pandas.DataFrame":
        """The table, a row for each layer and the whole, with the errors of what is estimated.
        Needs pandas (``pip install "hesse[frames]"``).

        Raises:
            HesseImportError: pandas is not installed.
        """
        return layers_frame((*self.rows, self.whole))

    def __str__(self) -> str:
        return "\n".join(table_lines(self._table))

    def _display(self) -> Display:
        return Display(
            "Layers",
            f"{counted(len(self.rows) or 1, 'layer')}, {self.whole.parameters:,} entries",
            table=self._table,
            next=("layers[name]", "layers.plot()", "layers.to_pandas()"),
        )

    @property
    def _table(self) -> Table:
        return Table(_HEAD, tuple(map(_cells, (*self.rows, self.whole))), last=1)

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 1.8 + 0.34 * len(self.rows or (self.whole,))

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        rows = self.rows or (self.whole,)
        places = np.arange(len(rows))
        numbers = {
            "trace": ([row.trace for row in rows], BLUE, -0.2),
            "largest eigenvalue": ([row.largest for row in rows], ORANGE, 0.2),
        }
        values = np.array([float(e) for found, _, _ in numbers.values() for e in found])
        sizes = np.abs(values[values != 0])
        largest = float(sizes.max(initial=0.0)) or 1.0
        threshold = max(float(sizes.min(initial=largest)), _ROUNDING * largest)
        ax.set_xscale("symlog", linthresh=threshold)
        bars = {
            name: ax.barh(
                places + shift,
                [float(e) for e in found],
                0.38,
                xerr=[1.96 * e.error for e in found],
                ecolor=ink(),
                **{"color": colour, "label": name, **style},
            )
            for name, (found, colour, shift) in numbers.items()
        }
        names = [shortened(printable(row.name), _NAME) for row in rows]
        ax.set_yticks(places, names, fontsize=FONT)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        draw_zero(ax, "x")
        ax.set(xlabel="of each layer's own block")
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        ticks = signed_ticks(threshold, largest, 3)
        ticks = ticks if len(ticks) > 1 else [low, 0.0, high]
        ax.set_xticks(sorted({tick for tick in ticks if low <= tick <= high}))
        ax.set_title("Sharpness by layer", pad=26)
        draw_grid(ax, "x")
        return {"bars": bars, "legend": legend_above(ax, 2)}


def _cells(row: Layer) -> tuple[str, ...]:
    each = row.trace.value / row.parameters if row.parameters else 0.0
    return (
        shortened(printable(row.name), _NAME),
        f"{row.parameters:,}",
        _number(row.trace),
        f"{each:.3g}",
        _number(row.largest),
    )


def _number(estimate: Estimate) -> str:
    # A residual tells the last digit of what is printed at the most.
    error = estimate.error if estimate.error > 1e-4 * abs(estimate.value) else 0.0
    return f"{estimate.value:.4g}" + (f" ± {error:.1g}" if error else "")
