"""What is contracted of the samples of one signature: in what orders, in chunks of how many, and
what that takes, as a rehearsal on shapes shows it."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import final

from hesse.cost import Cost
from hesse.exact.assemble import entries_apart
from hesse.exact.contraction.choice import choose
from hesse.exact.contraction.pair import Estimate
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.plan import PlannedContraction
from hesse.exact.way_down import WayDown
from hesse.process.price import Price, Room
from hesse.products.slabs import slab_bytes

# How often a product passes over each value at least: it is written and read on the way up, and on
# the way down.
_PASSES = 4
# What entries alone are made in, on a processor: chunks that take more run no larger products, and
# each of their passes falls further out of the caches, or into memory fresh from the system. With
# fewer samples operations start too often.
_ENTRIES_ROOM, _ENTRIES_LEAST = 128 * 10**6, 8


@final
class Contracted:
    """The contractions of some samples.

    Args:
        cost: the cost.
        down: the way down their graph.
        samples: how many there are.
        budget: bytes to work in.
        blocks: whether whole blocks are made, and not the diagonal alone.
        roomy: whether the work may take more than the budget where that saves much time.
        tiled: whether some rows of the blocks are made at a time, within room of their own.

    Attributes:
        blocks: whether whole blocks are made.
        contractions: the pairs of uses to contract.
        chunk: how many samples are worked on at once.
        budget: what is left of the budget for a chunk.
        bytes: the most that are alive at once beyond the result.
    """

    def __init__(
        self,
        cost: Cost,
        down: WayDown,
        samples: int,
        budget: int,
        blocks: bool,
        roomy: bool,
        tiled: bool = False,
    ) -> None:
        self._cost, self._down, self._samples = cost, down, samples
        self.blocks = blocks
        self.contractions: dict[PairKey, PlannedContraction] = {}
        for key, sizes in down.dry_run.few.sizes.items():
            order, estimate = choose(sizes, samples, budget / cost.dtype.itemsize)
            # Entries alone are made without any order, and rehearsed on the way down.
            estimate = estimate if blocks else Estimate(0.0, 0.0, 0.0, calls=0.0)
            self.contractions[key] = PlannedContraction(down.keys[key], order, estimate, sizes)
        whole = blocks and not tiled
        needs = self._needs(whole)
        # What is laid out apart is there however few the samples: smaller chunks save none of it.
        apart = entries_apart(cost, self.contractions, down.sites) if whole else 0
        apart *= cost.dtype.itemsize
        self.budget = max(budget - apart, budget // 2 if roomy else 0)
        # As many chunks as it takes, of like size.
        most = self._most(needs, self.budget)
        if not blocks:
            room = max(_ENTRIES_ROOM, slab_bytes(cost.device))
            most = min(most, max(_ENTRIES_LEAST, self._most(needs, room)))
        self.chunk = -(-samples // -(-samples // most))
        self.bytes = apart + max([need.of(self.chunk) for need in needs], default=0.0)

    def _most(self, needs: list[Room], room: float) -> int:
        """How many samples there is room for, one at least."""
        return max(1, int(min([self._samples, *(need.fitting(room) for need in needs)])))

    def _needs(self, whole: bool) -> list[Room]:
        """What is alive at once, everywhere on the way."""
        run, itemsize = self._down.dry_run, self._cost.dtype.itemsize
        needs = [run.peak(place) for place in range(len(run.few.values))]
        if not whole:
            return needs
        needs += [
            run.held(key) + contraction.estimate.room * itemsize
            for key, contraction in self.contractions.items()
        ]
        return needs

    def least_of_products(self) -> Price:
        """The least that the same blocks can cost by products, each of which passes over the values
        above its parameter."""
        graph, sizes = self._down.graph, self._cost.layout.sizes
        behind, passed = dict[str, int](), 0
        for node in reversed(graph.nodes):
            passed += node.size
            behind[node.name] = passed
        above: dict[str, int] = {}
        for site in self._down.sites:
            for name in site.parameters:
                above[name] = min(behind[site.value], above.get(name, passed))
        count = sum(sizes[name] * values for name, values in above.items())
        return Price(cached=_PASSES * self._cost.dtype.itemsize * count * self._samples)

    @property
    def foreseen(self) -> Price:
        """What all cost at least, where the rehearsal was ended: the uses of a parameter that were
        not reached are like those that were."""
        reached, itemsize = {site.value for site in self._down.reached}, self._cost.dtype.itemsize
        keys = self._down.keys
        every = Counter(keys.values())
        seen = Counter(keys[left, right] for left, right in keys if left[0] in reached)
        chunks = -(-self._samples // self.chunk)
        total = self.way * self._down.ahead
        for contraction in self.contractions.values():
            times = every[contraction.blocks] / seen[contraction.blocks]
            total += contraction.estimate.price(self._samples, chunks, itemsize) * times
        return total

    @property
    def way(self) -> Price:
        """What the way down alone costs."""
        run, chunks = self._down.dry_run, -(-self._samples // self.chunk)
        total = Price()
        for place, each in enumerate(run.few.prices):
            total += replace(run.price(place) * self._samples, calls=each.calls * chunks)
        return total

    @property
    def kept(self) -> float:
        """Bytes of what is contracted, of all samples: about as much as is alive with the last of
        it."""
        run = self._down.dry_run
        return max((run.held(key).of(self._samples) for key in self.contractions), default=0.0)

    @property
    def operations(self) -> float:
        """The floating point operations of the way down."""
        run = self._down.dry_run
        each = sum(run.price(place).operations for place in range(len(run.few.values)))
        return each * self._samples

    def price(self, names: Collection[str] | None = None) -> Price:
        """What the way down and the contractions cost; or those for some parameters alone."""
        run, itemsize = self._down.dry_run, self._cost.dtype.itemsize
        sites = [
            site
            for site in self._down.sites
            if names is None or not set(site.parameters).isdisjoint(names)
        ]
        if not sites:
            return Price()
        graph = self._down.graph
        lowest = min(graph.place[site.value] for site in sites)
        chunks = -(-self._samples // self.chunk)
        total = Price()
        for place, value in enumerate(run.few.values):
            # The first is the evaluation, which all ways have.
            if place == 0 or names is None or graph.place[value] >= lowest:
                each, calls = run.price(place), run.few.prices[place].calls
                total += replace(each * self._samples, calls=calls * chunks)
        for contraction in self.contractions.values():
            if names is None or any(a in names and b in names for a, b in contraction.blocks):
                total += contraction.estimate.price(self._samples, chunks, itemsize)
        return total
