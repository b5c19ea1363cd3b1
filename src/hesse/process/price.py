"""What some work costs, in what a machine is slow at, and what room it takes."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """What some work costs.

    Attributes:
        operations: floating point operations of matrix products, two for a multiply-add.
        moved: bytes read and written.
        calls: operations of PyTorch that are started.
        cached: bytes read and written where caches hold them.
        convolved: floating point operations of convolutions, among the others.
        rearranged: bytes that caches hold, read or written in another order than they lie in.
    """

    operations: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    cached: float = 0.0
    convolved: float = 0.0
    rearranged: float = 0.0

    def __add__(self, other: "Price") -> "Price":
        return Price(
            self.operations + other.operations,
            self.moved + other.moved,
            self.calls + other.calls,
            self.cached + other.cached,
            self.convolved + other.convolved,
            self.rearranged + other.rearranged,
        )

    def __mul__(self, times: float) -> "Price":
        return Price(
            self.operations * times,
            self.moved * times,
            self.calls * times,
            self.cached * times,
            self.convolved * times,
            self.rearranged * times,
        )


@dataclass(frozen=True)
class Room:
    """How much is alive at once, in bytes or in numbers, by the number of samples.

    Attributes:
        fixed: in any case.
        each: and with every sample.
        parts: what every sample adds of what is made for some samples at a time.
        most: and no more than so much of that.

    Examples:
        >>> Room(10, 2, 5, 20).of(3), Room(10, 2, 5, 20).of(100)
        (31, 230)
        >>> Room(10, 2, 5, 20).fitting(31), Room(10, 2, 5, 20).fitting(230)
        (3.0, 100.0)
    """

    fixed: float
    each: float
    parts: float = 0
    most: float = 0

    def of(self, samples: int) -> float:
        return self.fixed + self.each * samples + min(self.parts * samples, self.most)

    def __add__(self, other: "Room") -> "Room":
        """Of two that are there at once; only one of them is made in parts."""
        return Room(
            self.fixed + other.fixed,
            self.each + other.each,
            self.parts + other.parts,
            self.most + other.most,
        )

    def __mul__(self, times: float) -> "Room":
        return Room(self.fixed * times, self.each * times, self.parts * times, self.most * times)

    def fitting(self, room: float) -> float:
        """For how many samples there is room."""
        few = _quotient(room - self.fixed, self.each + self.parts)
        if self.parts * few <= self.most:
            return few
        return _quotient(room - self.fixed - self.most, self.each)


def _quotient(room: float, each: float) -> float:
    return room / each if each > 0 else math.inf


def duration(seconds: float) -> str:
    """As a person says it.

    Examples:
        >>> [duration(seconds) for seconds in (0.00012, 0.034, 3.21, 400, 90000)]
        ['1 ms', '34 ms', '3.2 s', '6.7 min', '25 h']
    """
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    for unit, size, next_size in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < next_size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:,.0f} days"
