"""hesse's own work is the same whatever is switched on around the call: gradients are on, autocast
and inference mode are off. And whatever stops it, Ctrl-C at any moment, the thread is left as it
was."""

import contextlib
import functools
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, final

import torch
from torch._C import _autograd, _functorch  # type: ignore[attr-defined]
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from hesse.process.circumstances import is_interrupted
from hesse.process.undo import noted, put_back

P = ParamSpec("P")
T = TypeVar("T")
_AUTOCAST = ("cpu", "cuda")


class _ThreadState(NamedTuple):
    """What PyTorch keeps for a thread and puts back in Python code, which Ctrl-C can cut short: a
    mode that stayed would change all that runs later."""

    gradients: bool
    autocast: tuple[bool, ...]
    function_modes: list[Any]
    dispatch_modes: list[Any]
    transforms: int
    hooks: object

    @staticmethod
    def read() -> "_ThreadState":
        """As it is now."""
        return _ThreadState(
            torch.is_grad_enabled(),
            tuple(map(torch.is_autocast_enabled, _AUTOCAST)),
            _get_current_function_mode_stack(),
            _get_current_dispatch_mode_stack(),
            _functorch.get_dynamic_layer_stack_depth(),
            _autograd._top_saved_tensors_default_hooks(True),
        )

    def restore(self) -> None:
        """Bring it about; what is so already stays."""
        if _functorch.get_dynamic_layer_stack_depth() > self.transforms:
            _functorch.pop_dynamic_layer_stack_and_undo_to_depth(self.transforms)
        # The very modes, not as many: a device that was chosen (`torch.set_default_device`) is one,
        # which PyTorch takes off and puts back below the others.
        if _get_current_function_mode_stack() != self.function_modes:
            while torch._C._len_torch_function_stack():
                torch._C._pop_torch_function_stack()
            for mode in self.function_modes:
                torch._C._push_on_torch_function_stack(mode)
        if _get_current_dispatch_mode_stack() != self.dispatch_modes:
            while torch._C._len_torch_dispatch_stack():
                torch._C._pop_torch_dispatch_stack(None)
            for mode in self.dispatch_modes:
                torch._C._push_on_torch_dispatch_stack(mode)
        while (top := _autograd._top_saved_tensors_default_hooks(True)) != self.hooks and top:
            _autograd._pop_saved_tensors_default_hooks()
        for kind, on in zip(_AUTOCAST, self.autocast, strict=True):
            if torch.is_autocast_enabled(kind) != on:
                torch.set_autocast_enabled(kind, on)
        if torch.is_grad_enabled() != self.gradients:
            torch.set_grad_enabled(self.gradients)


@final
class undisturbed:
    """Gradients enabled, autocast and inference mode off, for this thread; also a decorator, which
    leaves all that hesse changed for the time of a call as it was, whatever ends the call.

    PyTorch picks the backward of some operations by the grad mode (`torch.linalg.det`): under
    ``no_grad`` nested differentiation gives other numbers, and wrong ones. Under autocast matrix
    products are rounded to half precision.

    Examples:
        >>> import torch
        >>> with torch.no_grad(), undisturbed():
        ...     torch.is_grad_enabled()
        True
    """

    def __enter__(self) -> None:
        with contextlib.ExitStack() as stack:
            # Inference mode first: leaving it sets the grad mode too.
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for kind in _AUTOCAST:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            before, depth = _ThreadState.read(), noted()
            try:
                with undisturbed():
                    return function(*args, **kwargs)
            except (Exception, KeyboardInterrupt) as error:
                if not is_interrupted(error):
                    raise
                _let_go(error)
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise KeyboardInterrupt from error
            finally:
                # Again where Ctrl-C comes in the middle of it.
                try:
                    _restore(before, depth)
                except BaseException:
                    _restore(before, depth)
                    raise

        return wrapped


def _let_go(error: BaseException | None) -> None:
    """Let go what the calls hold that were cut short: of a context manager that was just entered
    the end runs only when nothing holds it any more, and PyTorch's would put a mode back on the
    thread whenever that is."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _restore(before: _ThreadState, depth: int) -> None:
    put_back(depth)
    before.restore()
