"""Pictures: each display computes once and draws as often as asked. Needs matplotlib (``pip install
'hesse[plot]'``)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hesse.plot.density import Density
    from hesse.plot.eigenvectors import Eigenvectors
    from hesse.plot.error_curve import ErrorCurve
    from hesse.plot.heat_map import HeatMap
    from hesse.plot.layer_spectra import LayerSpectra
    from hesse.plot.layers import Layers
    from hesse.plot.norm_map import NormMap
    from hesse.plot.plane import Plane
    from hesse.plot.slice import Slice
    from hesse.plot.spectrum import Spectrum

# A picture is fetched when it is asked for: a result can draw itself (`BlockHessian.plot`) without
# knowing the others, some of which stand on what is made of results.
_MODULES = {
    "Density": "density",
    "Eigenvectors": "eigenvectors",
    "ErrorCurve": "error_curve",
    "HeatMap": "heat_map",
    "LayerSpectra": "layer_spectra",
    "Layers": "layers",
    "NormMap": "norm_map",
    "Plane": "plane",
    "Slice": "slice",
    "Spectrum": "spectrum",
}

__all__ = [
    "Density",
    "Eigenvectors",
    "ErrorCurve",
    "HeatMap",
    "LayerSpectra",
    "Layers",
    "NormMap",
    "Plane",
    "Slice",
    "Spectrum",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hesse.plot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hesse.plot.{_MODULES[name]}"), name)
