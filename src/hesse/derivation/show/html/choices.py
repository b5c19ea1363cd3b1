"""What the readings of a page say, told once where they agree."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """What some readings say.

    Attributes:
        readings: their names; none where all readings say it.
        what: what they say.
    """

    readings: tuple[str, ...]
    what: Any

    @property
    def shown(self) -> str:
        """The classes that let it be seen in its readings only; "" in all."""
        return " ".join(f"in-{name}" for name in self.readings)


def choices(said: Mapping[str, Hashable], count: int) -> tuple[Choice, ...]:
    """What each reading says, those that say the same together.

    Args:
        said: by the name of the reading.
        count: of all readings that there are.

    Examples:
        >>> [choice.shown for choice in choices({"scalar": 1, "indices": 2, "matrix": 2}, 3)]
        ['in-scalar', 'in-indices in-matrix']
        >>> [choice.shown for choice in choices({"indices": 2, "matrix": 2}, 2)]
        ['']
    """
    together: dict[Hashable, list[str]] = {}
    for name, what in said.items():
        together.setdefault(what, []).append(name)
    return tuple(
        Choice(() if len(names) == count else tuple(names), what)
        for what, names in together.items()
    )
