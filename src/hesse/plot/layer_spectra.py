"""The eigenvalues of each layer's own block, beneath each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from hesse.display import Display, Table, counted
from hesse.display.text import shortened
from hesse.errors import HesseValueError, printable, require_instance
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.eigensolver import eigvalsh
from hesse.plot.canvas import POINTS, draw_grid, draw_zero, legend_above, signed_ticks
from hesse.plot.labels import FONT
from hesse.plot.picture import Picture
from hesse.plot.spectrum import SIGNS, Spectrum
from hesse.process.memory import require_free

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAME = 32  # characters of a layer's name
# Of the height of a layer's row: how far its points are spread, so that many are seen.
_SPREAD = 0.7
_KEY = 36.0  # the size of a point in the legend


@final
@dataclass(eq=False, repr=False)
class LayerSpectra(Picture):
    """The spectra of the diagonal blocks of layers, on one axis that is logarithmic on both sides
    of zero: which layers are sharp, flat, or curve down.

    Attributes:
        spectra: by layer; each with its values and the tolerance up to which rounding decides.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (X, y))
        >>> spectra = hesse.LayerSpectra.from_hessian(hesse.hessian(cost)).spectra
        >>> {name: spectrum.counts["positive"] for name, spectrum in spectra.items()}
        {'weight': 1, 'bias': 1}
    """

    _kind = POINTS

    spectra: dict[str, Spectrum]

    @staticmethod
    def from_hessian(hessian: BlockHessian) -> "LayerSpectra":
        """The eigenvalues of the layers' blocks, computed here.

        Raises:
            HesseTypeError: no Hessian.
            HesseValueError: a layer whose blocks are not all there.
            HesseMemoryError: the block of a layer does not fit.
        """
        require_instance(hessian, BlockHessian, "hessian", "hesse.hessian(cost)")
        known, spectra = set(hessian.pairs), {}
        for layer, names in hessian.layout.layers.items():
            if any((a, b) not in known for k, a in enumerate(names) for b in names[k:]):
                raise HesseValueError(
                    f"hessian: the blocks of the layer {layer!r} are not all there;"
                    " hesse.hessian(cost) has them"
                )
            size = sum(hessian.layout.sizes[name] for name in names)
            require_free(2 * size**2 * hessian.dtype.itemsize, f"the block of the layer {layer!r}")
            rows = [torch.cat([hessian.flat(a, b) for b in names], dim=1) for a in names]
            block = torch.cat(rows).detach()
            values = eigvalsh((block + block.mT) / 2)
            spectra[layer] = Spectrum.of_values(values)
        return LayerSpectra(spectra)

    def _display(self) -> Display:
        def row(layer: str, spectrum: Spectrum) -> tuple[str, ...]:
            values = spectrum.values if len(spectrum.values) else np.zeros(1)
            counts = (f"{count:,}" for count in spectrum.counts.values())
            return layer, *counts, f"{values[0]:.4g}", f"{values[-1]:.4g}"

        head = ("layer", "negative", "undecided", "positive", "smallest", "largest")
        return Display(
            "LayerSpectra",
            f"the eigenvalues of the own block of {counted(len(self.spectra), 'layer')}",
            table=Table(head, tuple(row(*each) for each in self.spectra.items())),
            next=("picture.plot()", "picture.spectra[layer]"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 1.8 + 0.6 * max(len(self.spectra), 2)

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        values = np.concatenate([spectrum.values for spectrum in self.spectra.values()])
        decided = [s.values[np.abs(s.values) > s.tolerance] for s in self.spectra.values()]
        sizes = np.abs(np.concatenate(decided))
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        linear = float(sizes.min(initial=largest))
        ax.set_xscale("symlog", linthresh=linear)
        points = {sign: [] for sign in SIGNS}
        for place, spectrum in enumerate(self.spectra.values()):
            count = len(spectrum.values)
            # In their order from the bottom of the row to its top: none hides another.
            heights = place + _SPREAD * (0.5 - (np.arange(count) + 0.5) / max(count, 1))
            for sign, part in spectrum.parts().items():
                colour, marker = SIGNS[sign]
                size = float(np.clip(3000 / max(count, 1), 9, 30))
                looks = {"color": colour, "marker": marker, "s": size, "linewidth": 0, **style}
                found = ax.scatter(spectrum.values[part], heights[part], **looks)
                points[sign].append(found)
                if not place:
                    found.set_label(sign)
        names = [shortened(printable(name), _NAME) for name in self.spectra]
        ax.set_yticks(range(len(names)), names, fontsize=FONT, parse_math=False)
        ax.set_ylim(len(names) - 0.5, -0.5)
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        ticks = signed_ticks(linear, largest, 3)
        ax.set_xticks(sorted({tick for tick in ticks if low <= tick <= high}))
        ax.set(xlabel="eigenvalue λ of each layer's own block")
        ax.set_title("Spectrum by layer", pad=26)
        draw_grid(ax, "x")
        zero = draw_zero(ax, "x")
        legend = legend_above(ax, 3)
        for handle in legend.legend_handles:
            handle.set_sizes([_KEY])
        return {"points": points, "zero": zero, "legend": legend}
