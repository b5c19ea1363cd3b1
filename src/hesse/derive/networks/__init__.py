"""Networks in: from a description of a network, or from a captured cost, to the program that a derivation begins with."""

from hesse.derive.networks.graph import GraphProgram, program_of
from hesse.derive.networks.network import Network

__all__ = ["GraphProgram", "Network", "program_of"]
