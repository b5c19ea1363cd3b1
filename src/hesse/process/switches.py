"""PyTorch's process-wide switches, and the only place that turns them: those that decide whether a
model can be differentiated twice, and the number of threads.

Fused attention, fused recurrent cells and compiled code have no second derivative, and
checkpointing runs layers again at a moment, and with parameters, of its own. None of these four
changes what is computed. They are turned off while any thread evaluates a cost and turned back when
the last one is done.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing

from hesse.process.undo import undone

# Held while a switch is turned, not while it is off.
_LOCK = threading.Lock()


@dataclass
class Switch:
    """Something that is off while anybody needs it off.

    Attributes:
        read: the state, to go back to.
        write: brings a state about.
        off: the state while it is needed off.
    """

    read: Callable[[], Any]
    write: Callable[[Any], None]
    off: Any
    # By an object for each, and not counted: Ctrl-C between two lines must not leave one over.
    _users: set[object] = field(default_factory=set, repr=False)
    _before: Any = field(default=None, repr=False)

    @contextlib.contextmanager
    def turned(self) -> Iterator[None]:
        """Off while this is entered by any thread; the first one reads the state, the last one
        writes it back, whatever ends its work and however often it is interrupted in this."""
        user = object()
        with undone(lambda: self._leave(user)):
            with _LOCK:
                if not self._users:
                    self._before = self.read()
                self._users.add(user)
                if len(self._users) == 1:
                    self.write(self.off)
            yield

    def _leave(self, user: object) -> None:
        with _LOCK:
            # Written first: what is cut short here is done again.
            if self._users == {user}:
                self.write(self._before)
            self._users.discard(user)


def _read_attention() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return (
        torch.backends.mha.get_fastpath_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        cuda.math_sdp_enabled(),
    )


def _write_attention(state: tuple[bool, ...]) -> None:
    cuda = torch.backends.cuda
    torch.backends.mha.set_fastpath_enabled(state[0])
    for enable, value in zip(
        (
            cuda.enable_flash_sdp,
            cuda.enable_mem_efficient_sdp,
            cuda.enable_cudnn_sdp,
            cuda.enable_math_sdp,
        ),
        state[1:],
        strict=True,
    ):
        enable(value)


def _read_recurrent() -> tuple[bool, bool]:
    return torch._C._get_mkldnn_enabled(), torch.backends.cudnn.enabled


def _write_recurrent(state: tuple[bool, bool]) -> None:
    torch._C._set_mkldnn_enabled(state[0])
    torch._C._set_cudnn_enabled(state[1])


class _CallDirectly:
    """In place of the `autograd.Function` of reentrant checkpointing: the function is called, and
    that is all."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return function(*args)


def _without_checkpoints(*args: Any, **kwargs: Any) -> Iterator[None]:
    """In place of what checkpointing does before a function and after it."""
    yield


_CHECKPOINTS = ("CheckpointFunction", "_checkpoint_without_reentrant_generator")


def _read_checkpoints() -> tuple[Any, ...]:
    return tuple(getattr(checkpointing, name) for name in _CHECKPOINTS)


def _write_checkpoints(state: tuple[Any, ...]) -> None:
    for name, value in zip(_CHECKPOINTS, state, strict=True):
        setattr(checkpointing, name, value)


_COMPILER = "torch._dynamo.eval_frame"


def _read_compiling() -> Any:
    compiler: Any = sys.modules.get(_COMPILER)
    return "default" if compiler is None else compiler._stance


def _write_compiling(stance: Any) -> None:
    # Not by torch.compiler.set_stance, which would load the compiler: before somebody has, nothing
    # is compiled.
    compiler: Any = sys.modules.get(_COMPILER)
    if compiler is not None:
        compiler._stance = compiler.DynamoStance(stance) if isinstance(stance, str) else stance


_ATTENTION = Switch(_read_attention, _write_attention, (False, False, False, False, True))
_CHECKPOINTING = Switch(
    _read_checkpoints, _write_checkpoints, (_CallDirectly, _without_checkpoints)
)
_COMPILING = Switch(_read_compiling, _write_compiling, "force_eager")
_RECURRENT = Switch(_read_recurrent, _write_recurrent, (False, False))
_THREADS = Switch(torch.get_num_threads, torch.set_num_threads, 1)


@contextlib.contextmanager
def differentiable_twice(recurrent: bool) -> Iterator[None]:
    """Attention in its mathematical form, nothing checkpointed or compiled and, where there are
    any, recurrent cells unfused."""
    with contextlib.ExitStack() as stack:
        for switch in (
            _ATTENTION,
            _CHECKPOINTING,
            _COMPILING,
            *([_RECURRENT] if recurrent else []),
        ):
            stack.enter_context(switch.turned())
        yield


def one_thread() -> contextlib.AbstractContextManager[None]:
    """PyTorch computes with one thread.

    Examples:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    return _THREADS.turned()
