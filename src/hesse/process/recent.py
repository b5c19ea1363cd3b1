"""What was used last is kept, so much of it and no more."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Recent(Generic[T]):
    """What was made under a key, for the keys that were used last. Threads may share it.

    Args:
        most: how many are kept.

    Examples:
        >>> squares = Recent(2)
        >>> [squares.kept(k, lambda: k * k) for k in (2, 3, 2, 4)]
        [4, 9, 4, 16]
        >>> 2 in squares, 3 in squares
        (True, False)
    """

    def __init__(self, most: int) -> None:
        self._most, self._entries, self._lock = most, OrderedDict[Hashable, T](), threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key; made where nothing is. Two threads may both make it: the first
        to come is kept."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        entry = make()
        with self._lock:
            entry = self._entries.setdefault(key, entry)
            self._latest(key)
        return entry

    def get(self, key: Hashable) -> T | None:
        """What is kept under a key, if anything is."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, entry: T) -> None:
        """Keep something under a key, in place of what was kept there."""
        with self._lock:
            self._entries[key] = entry
            self._latest(key)

    def _latest(self, key: Hashable) -> None:
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
