"""What PyTorch logs, warns of and prints while hesse tries ways that may not work: it is for the
plan to say, in a line.

Warnings filters, loggers and the rest are the process's; what is put there asks which thread it is
on, and other threads are heard as ever. All of it is gone when the last thread is done.
"""

import builtins
import contextlib
import functools
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch._C import _functorch  # type: ignore[attr-defined]

from hesse.process.switches import Switch
from hesse.process.undo import undone

# Of what logs where it is asked for more than it can trace; a logger's filter does not see its
# children's records.
_LOGGERS = [
    logging.getLogger(f"torch.{name}")
    for name in (
        *("export", "export._trace", "_export", "_export.non_strict_utils", "_export.utils"),
        *("_subclasses.fake_tensor", "fx.experimental.symbolic_shapes"),
        *("fx.experimental.proxy_tensor", "fx.experimental.recording"),
        *("_functorch", "_dynamo", "_dynamo.eval_frame"),
    )
]


class _Unheard(logging.Filter):
    """Drops what is said on threads that are to be quiet: a filter of loggers, and the pattern of
    texts in one of warnings.

    Attributes:
        slow: whether PyTorch was heard to say that it maps over an operation one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()
        self.slow = False

    @property
    def depth(self) -> int:
        """How often this thread is to be quiet."""
        return getattr(self._thread, "depth", 0)

    @depth.setter
    def depth(self, depth: int) -> None:
        self._thread.depth = depth

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is kept; what is below a warning was asked for."""
        return not self.depth or record.levelno < logging.WARNING

    def match(self, text: str) -> bool:
        """Whether a warning is dropped."""
        self.slow |= bool(self.depth) and "batching rule" in text
        return bool(self.depth)

    def print(self, *args: Any, **options: Any) -> None:
        """In place of the built-in."""
        if not self.depth:
            builtins.print(*args, **options)


_UNHEARD = _Unheard()
_FILTER: Any = ("ignore", _UNHEARD, Warning, None, 0)


def _write_said(quiet: bool) -> None:
    for logger in _LOGGERS:
        (logger.addFilter if quiet else logger.removeFilter)(_UNHEARD)
    # Not by the functions of `warnings`, which forget what was shown already.
    filters: Any = warnings.filters
    if _FILTER in filters:
        filters.remove(_FILTER)
    if quiet:
        filters.insert(0, _FILTER)


@functools.cache
def _says_slow() -> bool:
    """Whether PyTorch says where it maps over an operation one by one: that can be set and not be
    read, so it is heard."""
    torch.func.vmap(lambda x: torch.kl_div(x, x))(torch.zeros(2, 1, device="cpu"))
    return _UNHEARD.slow


def _write_printed(quiet: bool) -> None:
    import torch.export._trace

    # A name of the module stands before the built-in.
    module: Any = vars(torch.export._trace)
    module.pop("print", None)
    if quiet:
        module["print"] = _UNHEARD.print


_SAID = Switch(lambda: False, _write_said, True)
_SLOW = Switch(_says_slow, _functorch._set_vmap_fallback_warning_enabled, False)
_PRINTED = Switch(lambda: False, _write_printed, True)


@contextlib.contextmanager
def quiet(printed: bool = False) -> Iterator[None]:
    """Nothing that PyTorch warns of or logs on this thread is heard; also a decorator.

    Args:
        printed: nor what `torch.export` prints, which must be loaded for it.

    Examples:
        >>> import warnings
        >>> with quiet():
        ...     warnings.warn("slow")
    """
    depth = _UNHEARD.depth
    with undone(functools.partial(setattr, _UNHEARD, "depth", depth)), _SAID.turned():
        _UNHEARD.depth = depth + 1
        with _SLOW.turned(), _PRINTED.turned() if printed else contextlib.nullcontext():
            yield
