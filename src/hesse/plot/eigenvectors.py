"""Eigenvectors as images: the part of each that belongs to one parameter, unit by unit, in the form
that its input has."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hesse.display import Display, Table
from hesse.display.text import shortened
from hesse.errors import (
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    nearest,
    printable,
    require_integer,
)
from hesse.plot.canvas import IMAGE, colorbar_beside, signed
from hesse.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hesse.spectra.eigenpairs import Eigenpairs

_MOST_PAIRS, _MOST_UNITS = 8, 10
_LEAST_SIDE = 4  # of a square that is taken for an image
_NAME = 32  # characters of the parameter's name
_COLOURS = "RdBu_r"  # diverging and colour-blind safe (Brewer)


@final
@dataclass(eq=False, repr=False)
class Eigenvectors(Picture):
    """A row for each eigenvector, in it an image for each unit of a parameter: the change of its
    weights along the eigenvector, blue below zero and red above, each row to its own scale.

    Attributes:
        images: (eigenvectors, units, height, width).
        values: the eigenvalues.
        units: which rows of the parameter they are, those of the largest parts.
        shares: how much of each eigenvector, ‖part‖², lies in the parameter.
        name: the parameter.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.rand(9, 16), torch.zeros(9, 2)
        >>> cost = hesse.Cost(torch.nn.Linear(16, 2), "half_sse", (X, y))
        >>> hesse.Eigenvectors.from_eigenpairs(hesse.eigenpairs(cost, k=3)).images.shape
        (3, 2, 4, 4)
    """

    _kind = IMAGE

    images: np.ndarray
    values: np.ndarray
    units: tuple[int, ...]
    shares: np.ndarray
    name: str

    @staticmethod
    def from_eigenpairs(
        pairs: "Eigenpairs",
        name: str | None = None,
        image: tuple[int, int] | None = None,
    ) -> "Eigenvectors":
        """The parts of eigenvectors that are images.

        Args:
            pairs: by `hesse.eigenpairs`.
            name: of a parameter of shape (units, inputs) or, of a convolution, (units, channels,
                height, width), of which the channels are summed; by default the first of the kind.
            image: (height, width) of an input; by default square, or what the kernel has.

        Raises:
            HesseTypeError: no eigenpairs, or an image that is no pair of whole numbers.
            HesseKeyError: there is no such parameter, or it has no units with inputs.
            HesseValueError: none has units with inputs, or the inputs are no image of that size.
        """
        # By what they have: what eigenpairs can be drawn with cannot import them.
        if not (hasattr(pairs, "residuals") and hasattr(pairs, "layout")):
            raise HesseTypeError(
                f"pairs: expected a hesse.Eigenpairs, got {type(pairs).__name__}:"
                " hesse.eigenpairs(cost, k=3)"
            )
        layout = pairs.layout
        several = [n for n, shape in zip(layout.names, layout.shapes, strict=True) if _units(shape)]
        if name is None and not several:
            raise HesseValueError(
                "name: no parameter has units with inputs, of shape (units, inputs), that could be"
                " drawn as images"
            )
        name = several[0] if name is None else name
        if not isinstance(name, str) or name not in several:
            close = nearest(name, several) if isinstance(name, str) else ", ".join(several)
            raise HesseKeyError(
                f"name: no parameter named {name!r:.60} has units with inputs; the nearest: {close}"
            )
        shape = layout.shape(name)
        height, width = _form(name, shape, image)
        count = min(len(pairs), _MOST_PAIRS)
        parts = [pairs.vector(k)[name].detach().cpu().double().numpy() for k in range(count)]
        stacked = np.stack(parts) if parts else np.zeros((0, *shape))
        shares = (stacked.reshape(count, -1) ** 2).sum(1)
        if len(shape) == 4:
            stacked = stacked.sum(axis=2)
        images = stacked.reshape(count, shape[0], height, width)
        # Of many units those that move most, in their own order.
        sizes = (images**2).sum((0, 2, 3))
        units = np.sort(np.argsort(-sizes, kind="stable")[:_MOST_UNITS])
        values = pairs.values.detach().cpu().double().numpy()[:count]
        return Eigenvectors(images[:, units], values, tuple(map(int, units)), shares, name)

    def _display(self) -> Display:
        count, units, height, width = self.images.shape
        rows = (
            (f"{k}", f"{value:.6g}", f"{share:.0%}")
            for k, (value, share) in enumerate(zip(self.values, self.shares, strict=True))
        )
        return Display(
            "Eigenvectors",
            f"{count} of them, in {self.name}: {units} units of {height} x {width}",
            table=Table(("", "eigenvalue", "in this parameter"), tuple(rows), ()),
            next=("picture.plot()", "picture.images"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        count, units, height, width = self.images.shape
        side = min(1.1, 8 / max(units, 1))
        return 1.8 + side * units, 1.2 + side * max(count, 1) * height / max(width, 1)

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        count, units, height, width = self.images.shape
        gap = max(1, width // 8)
        tall, wide = height + gap, width + gap
        # One image of all, with nothing between them.
        mosaic = np.full((max(count, 1) * tall - gap, max(units, 1) * wide - gap), np.nan)
        scales = np.abs(self.images).max(axis=(1, 2, 3), initial=0.0)
        for k, unit in np.ndindex(count, units):
            place = slice(k * tall, k * tall + height), slice(unit * wide, unit * wide + width)
            mosaic[place] = self.images[k, unit] / (scales[k] or 1.0)
        looks = {"cmap": _COLOURS, "vmin": -1, "vmax": 1, "interpolation": "nearest"}
        if "norm" in style or "clim" in style:
            looks = {k: v for k, v in looks.items() if k not in ("vmin", "vmax")}
        image = ax.imshow(np.ma.masked_invalid(mosaic), **{**looks, **style})
        rows = [k * tall + (height - 1) / 2 for k in range(count)]
        columns = [unit * wide + (width - 1) / 2 for unit in range(units)]
        ax.set_yticks(rows, [f"λ = {signed(value)}" for value in self.values])
        ax.set_xticks(columns, [str(unit) for unit in self.units])
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        name = shortened(printable(self.name), _NAME)
        ax.set_xlabel(f"unit of {name}", parse_math=False)
        ax.set_title(f"Eigenvectors in {name}", parse_math=False)
        bar = colorbar_beside(ax, image, label="part of the row's largest", ticks=[-1, 0, 1])
        return {"image": image, "colorbar": bar}


def _units(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 4) and 0 not in shape


def _form(name: str, shape: tuple[int, ...], image: Any) -> tuple[int, int]:
    """Height and width of the image of one unit."""
    inputs = shape[1] if len(shape) == 2 else shape[2] * shape[3]
    if image is None:
        if len(shape) == 4:
            return shape[2], shape[3]
        side = math.isqrt(inputs)
        if side**2 != inputs or side < _LEAST_SIDE:
            raise HesseValueError(
                f"image: {name!r} has {inputs} inputs, which are no square image; give"
                " image=(height, width)"
            )
        return side, side
    if not isinstance(image, tuple | list) or len(image) != 2:
        raise HesseTypeError(f"image: expected (height, width), got {image!r:.60}")
    height, width = (require_integer(number, "image", 1) for number in image)
    if height * width != inputs:
        raise HesseValueError(
            f"image: {name!r} has {inputs} inputs, and {height} x {width} are {height * width}"
        )
    return height, width
