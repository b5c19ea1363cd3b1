"""A progress bar for work that turns out to take long."""

import sys
from types import TracebackType

from tqdm import tqdm

# Seconds before a bar appears.
_DELAY = 2.0


class Progress:
    """A bar that appears once the work has taken two seconds and a terminal is watching, and leaves no trace when done.

    Args:
        what: the word beside the bar.
        total: how many steps.
        show: ``True`` or ``False`` to decide, ``None`` to look whether standard error is a terminal.

    Example:
        >>> with Progress("work", 2, show=False) as bar:
        ...     bar.advance(1)
    """

    def __init__(self, what: str, total: float, show: bool | None = None) -> None:
        hidden = not sys.stderr.isatty() if show is None else not show
        self._bar = tqdm(
            total=total, desc=what, disable=hidden, delay=_DELAY if show is None else 0, leave=False, bar_format=_FORMAT
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def advance(self, steps: float) -> None:
        """So many steps are done."""
        self._bar.update(steps)


_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {elapsed} elapsed, {remaining} left"
