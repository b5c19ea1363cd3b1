"""The formulas of a Hessian's blocks, derived line by line, each line certified."""

from hesse.derivation.derivation import Derivation, Formula
from hesse.derivation.lines import Block, Line
from hesse.derivation.networks.network import Network

__all__ = ["Block", "Derivation", "Formula", "Line", "Network"]
