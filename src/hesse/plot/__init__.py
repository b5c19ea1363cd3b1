"""Pictures: each display computes once and draws as often as asked. Needs matplotlib (``pip install hesse[plot]``)."""

from hesse.plot.heat_map import HeatMap
from hesse.plot.spectrum import Spectrum

__all__ = ["HeatMap", "Spectrum"]
