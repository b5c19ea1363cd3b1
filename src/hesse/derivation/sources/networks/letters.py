"""Index letters: one letter for one size, and outputs told apart from inputs, rows from columns,
tokens from features."""

from collections.abc import Iterable, Iterator

from hesse.derivation.calculus.expression import Index, Size
from hesse.derivation.calculus.picking import Picker, rounds

# For each kind of axis the letters it takes, in order: W1[o,i], W2[p,j], W3[q,k].
POOLS = {
    "output": "opqr",
    "input": "ijkl",
    "token": "ts",
    "row": "usgae",
    "column": "vrwbh",
    "depth": "abh",
    "channel": "cde",
    "kernel": "mn",
    "part": "hdgeab",
    "word": "w",
}


class IndexLetters:
    """Hands out indices of one program.

    An axis of a new layer gets a letter of its own while there are some; later layers take those
    again that stand for the same size, the one that was not used for longest first.

    Examples:
        >>> letters = IndexLetters()
        >>> [letters.new("output", 3).name for _ in range(5)]
        ['o', 'p', 'q', 'r', 'o']
        >>> letters.new("output", 4).name
        'o2'
    """

    def __init__(self, avoid: Iterable[str] = ()) -> None:
        self._avoid = frozenset(avoid)
        self._size: dict[str, Size] = {}
        self._kind: dict[str, str] = {}
        self._last: dict[str, int] = {}

    def new(self, kind: str, size: Size, besides: Iterable[str] = ()) -> Index:
        """An index for an axis that has none yet, with a name that is none of ``besides``."""
        return self._pick(kind, size, set(besides), first="free")

    def known(self, kind: str, size: Size, besides: Iterable[str] = ()) -> Index:
        """An index for an axis of data: a letter that already stands for such an axis, where there
        is one."""
        return self._pick(kind, size, set(besides), first="again")

    def beside(self, index: Index, taken: Iterable[str]) -> Index:
        """An index like this one, with another name."""
        return self.known(self._kind.get(index.name, "part"), index.size, taken)

    def _pick(self, kind: str, size: Size, besides: set[str], first: str) -> Index:
        pool = [letter for letter in POOLS[kind] if letter not in self._avoid]

        def candidates() -> Iterator[str]:
            for names in rounds(pool, 2):
                free = [name for name in names if name not in self._size]
                again = [name for name in names if self._size.get(name) == size]
                # The letter that was not used for longest first, so that neighbours differ.
                again.sort(key=self._last.__getitem__)
                yield from (*free, *again) if first == "free" else (*again, *free)

        chosen = Picker(besides).pick(candidates())
        self._size[chosen] = size
        self._kind.setdefault(chosen, kind)
        self._last[chosen] = max(self._last.values(), default=0) + 1
        return Index(chosen, size)
