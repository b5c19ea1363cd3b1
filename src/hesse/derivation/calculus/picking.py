"""The one way in which a free letter or name is picked: candidates in order, then with numbers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count


@dataclass
class Picker:
    """Picks names that mean nothing yet.

    Attributes:
        taken: the names that do. The set itself is kept: what is picked is added to it.

    Examples:
        >>> picker = Picker({"i"})
        >>> [picker.pick(numbered("ij")) for _ in range(3)]
        ['j', 'i1', 'j1']
    """

    taken: set[str] = field(default_factory=set)

    def pick(self, candidates: Iterable[str]) -> str:
        """The first candidate that is not taken; it is taken then."""
        # Candidates never end: they are numbered after the last letter.
        name = next(name for name in candidates if name not in self.taken)
        self.taken.add(name)
        return name


def rounds(letters: Sequence[str], first: int = 1, before: str = "") -> Iterator[Sequence[str]]:
    """The letters as they are, then all with a number, counted from ``first``, with ``before`` in
    front of it."""
    yield letters
    for number in count(first):
        yield [f"{letter}{before}{number}" for letter in letters]


def numbered(letters: Sequence[str], first: int = 1, before: str = "") -> Iterator[str]:
    """i, j, i1, j1, i2 …: the same, one after the other."""
    return chain.from_iterable(rounds(letters, first, before))
