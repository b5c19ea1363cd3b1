"""One trace of PyTorch at a time in a process, and nothing of it left behind.

`torch.export` patches modules of torch while it traces: two at once see each other's patches. And
what stands before dispatch while PyTorch traces (its proxy mode, its functional mode) is kept for
the process, not for a thread: of two threads that trace, one takes away what is the other's and
gives it back when that one is done, and every export after it fails ("not tracked with proxy").
"""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial

import torch
import torch.fx.config
from torch._ops import mode_stack_state_for_pre_dispatch

from hesse.process.undo import undone

_ONE = threading.RLock()
# Where the state before dispatch keeps the proxy mode and the functional mode.
_PLACES = (0, 1)
_SILENT = "do_not_emit_stack_traces"


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """While a trace is made, on this thread or on one that it waits for.

    Examples:
        >>> with tracing():
        ...     program = torch.export.export(torch.nn.ReLU(), (torch.ones(2),))
        >>> modes_before_dispatch()
        (None, None)
    """
    # A PyTorch that does not know the switch is given one that says nothing.
    before = partial(setattr, torch.fx.config, _SILENT, getattr(torch.fx.config, _SILENT, False))
    with _ONE, undone(partial(_put_back, modes_before_dispatch())), undone(before):
        # Where each operation was called is what tracing spends up to half of its time on.
        setattr(torch.fx.config, _SILENT, True)
        yield


def modes_before_dispatch() -> tuple[object, ...]:
    """What PyTorch does with every operation before it is dispatched; of the whole process."""
    return tuple(mode_stack_state_for_pre_dispatch().get(place) for place in _PLACES)


def _put_back(modes: tuple[object, ...]) -> None:
    if modes_before_dispatch() != modes:
        for place in _PLACES:
            mode_stack_state_for_pre_dispatch().set(place, modes[place])
        torch._C._dispatch_tls_set_dispatch_key_included(
            torch._C.DispatchKey.PreDispatch, any(mode is not None for mode in modes)
        )
