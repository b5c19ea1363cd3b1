"""The formulas of a Hessian's blocks, derived line by line, each line certified."""

from hesse.derive.derivation import Derivation, Formula
from hesse.derive.derive import derive
from hesse.derive.lines import Block, Line
from hesse.derive.networks.network import Network

__all__ = ["Block", "Derivation", "Formula", "Line", "Network", "derive"]
