"""Pictures: each display computes once and draws as often as asked. Needs matplotlib (``pip install hesse[plot]``)."""

from hesse.plot.error_curve import ErrorCurve
from hesse.plot.heat_map import HeatMap
from hesse.plot.plane import Plane
from hesse.plot.slice import Slice
from hesse.plot.spectrum import Spectrum

__all__ = ["ErrorCurve", "HeatMap", "Plane", "Slice", "Spectrum"]
