"""What every picture does: compute once, show what it is, and draw as often as asked."""

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hesse.display import Displayed
from hesse.plot.canvas import Kind, axes_for, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False)
class Picture(Displayed):
    """Numbers that can be drawn.

    Attributes:
        ax, figure, artists: what `plot` drew last.
    """

    # What of Matplotlib's shows the numbers.
    _kind: ClassVar[Kind]

    ax: "Axes | None" = field(default=None, init=False)
    figure: "Figure | None" = field(default=None, init=False)
    artists: dict[str, Any] = field(default_factory=dict, init=False)

    def plot(self, ax: "Axes | None" = None, **style: Any) -> Self:
        """Draw, on the axes given or on new ones, and keep what was drawn.

        Args:
            ax: Matplotlib's, such as ``pyplot.gca()``.
            **style: Matplotlib's keywords for what shows the numbers, such as ``cmap="PuOr"`` for a
                map of colours and ``linewidth=3`` for a line. The rest follows ``rcParams``.

        Raises:
            HesseImportError: matplotlib is not installed.
            HesseTypeError: no axes, or a keyword that is none of Matplotlib's for it.
            HesseValueError: a value that Matplotlib refuses.
        """
        ax = axes_for(ax, self._size)
        with drawing(style, self._kind) as known:
            self.artists = self._draw(ax, known)
        self.ax, self.figure = ax, ax.get_figure(root=True)
        return self

    @property
    @abc.abstractmethod
    def _size(self) -> tuple[float, float]:
        """That of a new figure, in inches."""

    @abc.abstractmethod
    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        """Draw, with these keywords for what shows the numbers; what was drawn, by name."""
