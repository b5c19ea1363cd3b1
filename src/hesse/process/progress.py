"""A progress bar for work that turns out to take long."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from hesse.distributed.group import is_first
from hesse.process.price import duration

# Seconds before a bar appears: shorter work should not flicker.
_DELAY = 2.0
# Seconds between two texts of a line: as long as it takes to read one.
_INTERVAL = 0.2


class Progress:
    """A bar that appears once the work has taken two seconds and somebody is watching, at a
    terminal or in a notebook, and leaves no trace when done.

    Args:
        what: the word beside the bar.
        total: how many steps.
        show: ``True`` or ``False`` to decide, ``None`` to look whether standard error is a
            terminal, or this a notebook.

    Examples:
        >>> with Progress("work", 2, show=False) as bar:
        ...     bar.advance(1)
    """

    def __init__(self, what: str, total: float, show: bool | None = None) -> None:
        hidden = _is_hidden(show)
        # One that is not shown takes as long to make as a small Hessian's plan.
        self._bar = (
            None
            if hidden
            else _bar(
                total=total,
                desc=what,
                # Asked for, it appears at once.
                delay=_DELAY if show is None else 0,
                leave=False,
                bar_format=_FORMAT,
            )
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps: float) -> None:
        """So many steps are done."""
        if self._bar is not None:
            self._bar.update(steps)


class StatusLine:
    """A line that is rewritten while work of unknown length goes on; appears and disappears as a
    `Progress` does.

    Args:
        show: as for `Progress`.

    Examples:
        >>> with StatusLine(show=False) as line:
        ...     line.due
        False
    """

    def __init__(self, show: bool | None = None) -> None:
        self._hidden = _is_hidden(show)
        self._next = time.monotonic() + (_DELAY if show is None else 0)
        self._bar: Any = None

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def due(self) -> bool:
        """Whether a new text would be shown now."""
        return not self._hidden and time.monotonic() >= self._next

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._bar is None:
            self._bar = _bar(bar_format="{desc}", leave=False)
        self._bar.set_description_str(text)
        self._next = time.monotonic() + _INTERVAL


@contextmanager
def announced(what: str, seconds: float) -> Iterator[None]:
    """A line for work that does not tell how far it is: what it is, and how long it takes, said
    before it begins where that is more than two seconds and somebody is watching.

    Examples:
        >>> with announced("work", 3600.0):
        ...     pass
    """
    with StatusLine() as line:
        if seconds > _DELAY and _is_watched():
            line.show(f"{what}: about {duration(seconds)}")
        yield


def _is_hidden(show: bool | None) -> bool:
    """Of several processes one shows how far all are."""
    return not is_first() or (not _is_watched() if show is None else not show)


def _is_watched() -> bool:
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which has imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def _bar(**options: Any) -> Any:
    """tqdm's bar: in a notebook its widget. Where there are no widgets it is text there too;
    `tqdm.auto`, which chooses alike, warns of that."""
    # Imported when a bar is shown.
    if _in_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm(**options)


_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {elapsed} elapsed, {remaining} left"
