"""The norms of a Hessian's blocks, by parameter or by layer."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, Table, counted, facts
from hesse.errors import HesseTypeError, HesseValueError, require_word
from hesse.layout import Layout
from hesse.plot.canvas import IMAGE, colorbar_beside, write_values
from hesse.plot.labels import write_both_names
from hesse.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.matrix.block_hessian import BlockHessian

_DECADES = 4  # the most that the colours reach below the largest norm


@final
@dataclass(eq=False, repr=False)
class NormMap(Picture):
    """‖H[a, b]‖, Frobenius's norm, of the blocks of any two parameters or of any two layers: which
    parts of a network are curved, and which are coupled. All parts are drawn of one size, with the
    number in each cell where they are few.

    Attributes:
        norms: of the blocks, symmetric; NaN where one was not computed.
        names: the parameters, or the layers.
        by: ``"parameter"`` or ``"layer"``.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (X, y))
        >>> hesse.NormMap.from_hessian(hesse.hessian(cost), "parameter").norms
        array([[25.,  5.],
               [ 5.,  1.]])
    """

    _kind = IMAGE

    norms: np.ndarray
    names: tuple[str, ...]
    by: str

    @staticmethod
    def from_hessian(hessian: "BlockHessian", by: str = "layer") -> "NormMap":
        """The norms of a Hessian's blocks; those of layers from those of their parameters.

        Raises:
            HesseTypeError: no Hessian.
            HesseValueError: another word, or a Hessian without parameters.
        """
        if not isinstance(getattr(hessian, "layout", None), Layout) or not hasattr(
            hessian, "norms"
        ):
            raise HesseTypeError(
                f"hessian: expected a hesse.BlockHessian, got {type(hessian).__name__}:"
                " hesse.hessian(cost)"
            )
        require_word(by, "by", ("parameter", "layer"))
        layout = hessian.layout
        if not layout.names:
            raise HesseValueError("plot: there is nothing to draw: there are no parameters")
        squares = np.full((len(layout.names),) * 2, np.nan)
        for (a, b), norm in hessian.norms.items():
            i, j = layout.index(a), layout.index(b)
            squares[i, j] = squares[j, i] = norm**2
        if by == "parameter":
            return NormMap(np.sqrt(squares), layout.names, by)
        groups = [[layout.index(name) for name in names] for names in layout.layers.values()]
        sums = [[squares[np.ix_(a, b)].sum() for b in groups] for a in groups]
        return NormMap(np.sqrt(np.array(sums)), tuple(layout.layers), by)

    def _display(self) -> Display:
        rows = (
            (name, *(f"{norm:.3g}" for norm in (own, others)))
            for name, own, others in zip(
                self.names, np.diag(self.norms), self._largest_mixed(), strict=True
            )
        )
        return Display(
            "NormMap",
            f"Frobenius norms of the blocks of {counted(len(self.names), self.by)}",
            facts(grey="blocks that were not computed" if np.isnan(self.norms).any() else None),
            Table((self.by, "own", "largest mixed"), tuple(rows)),
            ("picture.plot()", "picture.norms"),
        )

    def _largest_mixed(self) -> np.ndarray:
        mixed = np.where(np.eye(len(self.names), dtype=bool), -math.inf, self.norms)
        found = np.fmax.reduce(mixed, axis=1)
        return np.where(np.isfinite(found), found, np.nan)

    @property
    def _size(self) -> tuple[float, float]:
        return 7.6, 6.8

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        from matplotlib import colormaps
        from matplotlib.colors import LogNorm

        count = len(self.names)
        seen = self.norms[np.isfinite(self.norms) & (self.norms > 0)]
        largest = float(seen.max(initial=0.0)) or 1.0
        least = max(float(seen.min(initial=largest)), largest * 10.0**-_DECADES)
        looks = {
            "cmap": colormaps["viridis"].with_extremes(bad="0.6"),
            "norm": LogNorm(vmin=min(least, 0.5 * largest), vmax=largest, clip=True),
            "interpolation": "nearest",
            **style,
        }
        # A norm of zero has no logarithm, and the colour of the smallest.
        shown = np.where(self.norms == 0, least, self.norms)
        extent = (0, count, count, 0)
        image = ax.imshow(np.ma.masked_invalid(shown), extent=extent, **looks)
        note = "\n(grey: not computed)" if np.isnan(self.norms).any() else ""
        ax.set(xticks=[], yticks=[], title=f"Norms of the Hessian's blocks by {self.by}{note}")
        bar = colorbar_beside(ax, image, label="‖∂²J / ∂a ∂b‖, Frobenius norm")
        return {
            "image": image,
            "values": write_values(ax, self.norms, image),
            "labels": write_both_names(ax, self.names, range(count + 1)),
            "colorbar": bar,
        }
