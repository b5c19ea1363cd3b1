"""What hesse changes on a thread for the time of a call is put back, whatever ends the call."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from hesse.process.undisturbed import undisturbed


class Stop(BaseException):
    """As Ctrl-C."""


class Function(BaseTorchFunctionMode):
    """One of hesse's."""


class Dispatch(TorchDispatchMode):
    """Likewise."""


@pytest.fixture
def chosen_device() -> Iterator[None]:
    torch.set_default_device("cpu")
    yield
    torch.set_default_device(None)


@pytest.mark.usefixtures("chosen_device")
@pytest.mark.parametrize("taken_off", [False, True])
def test_the_modes_are_those_that_there_were(taken_off: bool) -> None:
    """PyTorch takes the mode of a chosen device off and puts it below the others again, and may be
    cut short between: as many modes as before are not those of before."""

    @undisturbed()
    def work() -> None:
        if taken_off:
            torch._C._pop_torch_function_stack()
        Function().__enter__()
        Dispatch().__enter__()
        raise Stop

    before = _get_current_function_mode_stack(), _get_current_dispatch_mode_stack()
    with pytest.raises(Stop):
        work()
    assert (_get_current_function_mode_stack(), _get_current_dispatch_mode_stack()) == before
    assert len(before[0]) == 1


@contextlib.contextmanager
def _popped() -> Iterator[None]:
    """As PyTorch's own."""
    mode = torch._C._pop_torch_function_stack()
    try:
        yield
    finally:
        torch._C._push_on_torch_function_stack(mode)


def test_a_mode_that_was_taken_off_does_not_come_back_later() -> None:
    """Ctrl-C between the beginning of a context manager and its block: its end comes when the
    traceback is gone."""

    def enter(manager: Any) -> None:
        next(manager.gen)
        raise KeyboardInterrupt

    @undisturbed()
    def work() -> None:
        with Function():
            enter(_popped())

    kept = None
    try:
        work()
    except KeyboardInterrupt as error:
        kept = error
    before = _get_current_function_mode_stack()
    del kept
    gc.collect()
    assert before == _get_current_function_mode_stack() == []
