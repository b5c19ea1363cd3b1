"""What is to be put back is put back, at whatever moment Ctrl-C comes.

A context manager alone does not do: between two lines of Python's own `contextlib` an interrupt
finds nobody who would leave what was entered. So what is to be put back is noted for the thread
before it is changed, and the outermost function of hesse, by a plain ``try``, leaves nothing noted.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import final


@final
class _Undo:
    """Puts something back, once; cut short, it can be done again."""

    def __init__(self, put_back: Callable[[], object]) -> None:
        self._put_back, self._done = put_back, False

    def __call__(self) -> None:
        if not self._done:
            self._put_back()
            self._done = True


class _Noted(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Undo] = []


_NOTED = _Noted()


@contextlib.contextmanager
def undone(put_back: Callable[[], object]) -> Iterator[None]:
    """Put something back afterwards.

    Args:
        put_back: may be cut short anywhere, and is then called again.

    Examples:
        >>> with undone(lambda: print("as before")):
        ...     print("meanwhile")
        meanwhile
        as before
    """
    undo = _Undo(put_back)
    try:
        _NOTED.stack.append(undo)
        yield
    finally:
        # Again where Ctrl-C comes in the middle of it.
        try:
            undo()
        except BaseException:
            undo()
            raise
        if _NOTED.stack and _NOTED.stack[-1] is undo:
            _NOTED.stack.pop()


def noted() -> int:
    """How much there is to be put back on this thread."""
    return len(_NOTED.stack)


def put_back(down_to: int) -> None:
    """Put back all that was noted on this thread since there was so much."""
    stack = _NOTED.stack
    while len(stack) > down_to:
        stack[-1]()
        stack.pop()
