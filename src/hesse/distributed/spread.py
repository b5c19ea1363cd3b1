"""A plan spread over many processes: what these take together, by the model of
`docs/beyond-memory.md`."""

from dataclasses import dataclass

import torch

from hesse.errors import require_integer
from hesse.process.price import Price
from hesse.process.rates import Rates

# Vectors of P entries that are summed beside the result: the gradient and a product of the
# fingerprint, and the products of the certificate.
_VECTORS = 4


@dataclass(frozen=True)
class Spread:
    """Over what a plan is spread.

    Attributes:
        processes: on each machine.
        nodes: machines.
    """

    processes: int = 1
    nodes: int = 1

    @staticmethod
    def of(processes: object, nodes: object) -> "Spread":
        """Checked.

        Raises:
            HesseError: a number that is none, or less than 1.
        """
        return Spread(
            require_integer(processes, "processes", 1), require_integer(nodes, "nodes", 1)
        )

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.processes * self.nodes

    def seconds(self, rates: Rates, price: Price, way: Price, device: torch.device) -> float:
        """How long some work takes, of which every process does the way down itself and the rest is
        dealt out. The processes of a machine share its cores, and have a GPU each."""
        machine = self.processes if device.type == "cuda" else 1
        dealt = rates.seconds(price + way * -1.0) / (machine * self.nodes)
        return dealt + rates.seconds(way) * self.processes / machine

    def network(self, entries: int, itemsize: int, result: int, stored: int) -> float:
        """Bytes that are sent, by all processes together: for sums in a ring, and to the disk of
        one machine.

        Args:
            entries: P.
            itemsize: bytes of one.
            result: of a result in memory, which is summed.
            stored: of one on a disk.
        """
        vectors = _VECTORS * entries * itemsize
        return 2.0 * (self.size - 1) * (vectors + result) + stored * (1 - 1 / self.nodes)

    def __str__(self) -> str:
        here = f"{self.processes} on each of {self.nodes} machines"
        return here if self.nodes > 1 else f"{self.processes} on one machine"


ALONE = Spread()
