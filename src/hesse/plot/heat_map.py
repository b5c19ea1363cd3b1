"""The heat map of a Hessian."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from hesse.display import Display, counted, facts
from hesse.errors import HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.plot.canvas import (
    IMAGE,
    colorbar_beside,
    signed_ticks,
    write_values,
)
from hesse.plot.labels import draw_borders, write_both_names
from hesse.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.matrix.block_hessian import BlockHessian

PIXELS = 500  # a little less than the drawing has on a screen, so that none is lost there either
_LEAST = 0.012  # of the axis, for every parameter: biases can be seen
_DECADES = 4  # the most that the colours reach below the largest entry
_COLOURS = "RdBu_r"  # diverging and colour-blind safe (Brewer)


@final
@dataclass(eq=False, repr=False)
class HeatMap(Picture):
    """The entries of a Hessian as an image, with layer borders and parameter names.

    A large Hessian is reduced: a pixel shows the entry of largest |H_ij| of its patch, with its
    sign, so that no large entry is lost. A parameter gets at least about 1% of the axis, so axes
    are not to scale where one is very small.

    Attributes:
        image: signed entries, NaN where a block was not computed.
        edges: the pixel where each parameter begins, and the end of the last.
        names: the parameters.
        size: P.
        patch: entries along one side of the largest pixel.

    Examples:
        >>> import torch
        >>> from hesse.layout import Layout
        >>> from hesse.matrix.block_hessian import BlockHessian
        >>> H = BlockHessian(Layout(("w", "b"), ((2,), (1,))), matrix=torch.eye(3))
        >>> HeatMap.from_hessian(H).edges
        (0, 2, 3)
    """

    _kind = IMAGE

    image: np.ndarray
    edges: tuple[int, ...]
    names: tuple[str, ...]
    size: int
    patch: int

    @staticmethod
    def from_hessian(hessian: "BlockHessian") -> "HeatMap":
        """Reduce a Hessian to an image of some 500 × 500 pixels.

        Raises:
            HesseValueError: P is 0.
        """
        # By its layout: what a Hessian can be drawn with cannot import it.
        if not isinstance(getattr(hessian, "layout", None), Layout):
            raise HesseTypeError(
                f"hessian: expected a hesse.BlockHessian, got {type(hessian).__name__}:"
                " hesse.hessian(cost)"
            )
        layout, names = hessian.layout, hessian.layout.names
        if not layout.size:
            raise HesseValueError(
                "plot: there is nothing to draw: the parameters have no entries (P = 0)"
            )
        scales = {name: _scale(size, layout.size) for name, size in layout.sizes.items()}
        edges = (0, *accumulate(scale.drawn * scale.repeat for scale in scales.values()))
        spans = dict(zip(names, (slice(i, j) for i, j in pairwise(edges)), strict=True))
        image = np.full((edges[-1], edges[-1]), np.nan)
        if hessian.matrix is not None:
            image[:] = _reduced(hessian.matrix, list(scales.values()), list(scales.values()))
        else:
            for (a, b), pixels in _by_pieces(hessian, scales).items():
                block = _repeated(pixels, [scales[a]], [scales[b]])
                image[spans[a], spans[b]], image[spans[b], spans[a]] = block, block.T
        return HeatMap(
            image, edges, names, layout.size, max(scale.step for scale in scales.values())
        )

    def _display(self) -> Display:
        notes = [f"the largest entry of each {self.patch} x {self.patch} patch"] * (self.patch > 1)
        return Display(
            "HeatMap",
            f"P = {self.size}, {counted(len(self.names), 'parameter')},"
            f" {len(self.image)} x {len(self.image)} pixels",
            facts(
                largest=f"{np.nanmax(np.abs(self.image), initial=0.0):.4g}", notes="\n".join(notes)
            ),
            next=("picture.plot()", "picture.image"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.6, 6.8

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        from matplotlib import colormaps
        from matplotlib.colors import SymLogNorm

        end = self.edges[-1]
        threshold, largest = self._range()
        looks = {
            "cmap": colormaps[_COLOURS].with_extremes(bad="0.6"),
            "norm": SymLogNorm(linthresh=threshold, vmin=-largest, vmax=largest),
            "interpolation": "nearest",
            **style,
        }
        image = ax.imshow(np.ma.masked_invalid(self.image), extent=(0, end, end, 0), **looks)
        ax.set(xticks=[], yticks=[], title=self._title())
        borders = draw_borders(ax, self.names, self.edges)
        ticks = signed_ticks(threshold, largest) if "norm" not in style else None
        label = r"$\partial^2 J\;/\;\partial\theta_i\,\partial\theta_j$"
        bar = colorbar_beside(ax, image, label=label, ticks=ticks)
        # Where a parameter is drawn larger than it is, cells have other sizes.
        values = write_values(ax, self.image, image) if end == self.size else []
        return {
            "image": image,
            "borders": borders,
            "labels": write_both_names(ax, self.names, self.edges),
            "colorbar": bar,
            "values": values,
        }

    def _range(self) -> tuple[float, float]:
        """Where the colours turn from linear to logarithmic, and where they end: the largest
        entry."""
        sizes = np.abs(self.image[np.isfinite(self.image) & (self.image != 0)])
        if not sizes.size:
            return 0.1, 1.0
        largest = float(sizes.max())
        decades = np.clip(np.log10(largest / np.quantile(sizes, 0.05)), 1, _DECADES)
        return largest * 10.0 ** -float(decades), largest

    def _title(self) -> str:
        notes = (
            [f"largest entry of each {self.patch} × {self.patch} patch"] if self.patch > 1 else []
        )
        notes += ["grey: not computed"] if np.isnan(self.image).any() else []
        return f"Hessian, P = {self.size}" + (f"\n({'; '.join(notes)})" if notes else "")


class _Scale(NamedTuple):
    """How one parameter is drawn: its entries, how many of them a pixel takes, and how often a
    pixel is repeated."""

    size: int
    step: int
    repeat: int

    @property
    def drawn(self) -> int:
        """Pixels, before they are repeated."""
        return math.ceil(self.size / self.step)


def _scale(size: int, total: int) -> _Scale:
    """The scale of a parameter of this size among ``total`` entries."""
    pixels = min(total, PIXELS)
    least = math.ceil(_LEAST * pixels)
    step = math.ceil(size / max(least, size * pixels // total)) if size else 1
    scale = _Scale(size, step, 1)
    return (
        scale._replace(repeat=math.ceil(least / scale.drawn)) if 0 < scale.drawn < least else scale
    )


def _reduced(matrix: Tensor, rows: list[_Scale], columns: list[_Scale]) -> np.ndarray:
    """The pixels of a matrix whose rows and columns are those of some parameters, one after the
    other."""
    small = _largest(_largest(matrix.detach(), rows).T, columns).T.cpu().double().numpy()
    return _repeated(small, rows, columns)


def _repeated(pixels: np.ndarray, rows: list[_Scale], columns: list[_Scale]) -> np.ndarray:
    """Pixels as often as they are drawn."""
    for axis, scales in enumerate((rows, columns)):
        pixels = pixels.repeat(
            np.repeat([s.repeat for s in scales], [s.drawn for s in scales]), axis=axis
        )
    return pixels


def _by_pieces(
    hessian: "BlockHessian", scales: dict[str, _Scale]
) -> dict[tuple[str, str], np.ndarray]:
    """The pixels of every block, whatever pieces it comes in."""
    pixels = {
        (a, b): np.zeros((scales[a].drawn, scales[b].drawn)) for a, b in hessian.entries.pairs
    }
    for piece in hessian.entries.pieces():
        (a, b), matrix = piece.pair, piece.values.detach()
        steps, starts = (scales[a].step, scales[b].step), (piece.rows.start, piece.columns.start)
        # Zeros before it, so that it begins where a pixel does: of two entries the larger is shown.
        above, before = (start % step for start, step in zip(starts, steps, strict=True))
        matrix = torch.nn.functional.pad(matrix, (before, 0, above, 0))
        rows, columns = (
            [_Scale(size, step, 1)] for size, step in zip(matrix.shape, steps, strict=True)
        )
        found = _reduced(matrix, rows, columns)
        low, left = (start // step for start, step in zip(starts, steps, strict=True))
        _take_larger(pixels[a, b][low : low + len(found), left : left + found.shape[1]], found)
        if a == b and not piece.is_on_diagonal:
            _take_larger(
                pixels[a, b][left : left + found.shape[1], low : low + len(found)], found.T
            )
    return pixels


def _take_larger(image: np.ndarray, found: np.ndarray) -> None:
    # Not a number stays one: no comparison with it holds.
    np.copyto(image, found, where=~(np.abs(found) <= np.abs(image)) & ~np.isnan(image))


def _largest(matrix: Tensor, scales: list[_Scale]) -> Tensor:
    """Of each run of ``step`` rows, the entry of largest size in every column, with its sign."""
    pooled = []
    for part, scale in zip(matrix.split([scale.size for scale in scales]), scales, strict=True):
        whole = len(part) - len(part) % scale.step
        runs = [part[:whole].unflatten(0, (-1, scale.step)), part[None, whole:]]
        # amax and amin in two calls: aminmax is several times slower along this axis.
        extremes = [(run.amin(dim=1), run.amax(dim=1)) for run in runs if run.numel()]
        pooled += [torch.where(-low > high, low, high) for low, high in extremes]
    return torch.cat(pooled) if pooled else matrix
