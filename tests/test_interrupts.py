"""A few interrupts at random moments; ``python tests/interrupts.py`` tries hundreds."""

import threading
from typing import Any

import pytest

from hesse.process.switches import Switch
from interrupts import run, small


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals are the main one's"
)
def test_nothing_of_the_callers_is_left_changed() -> None:
    assert run(20, ask=small) == []


class Stop(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize("moment", range(4))
def test_a_switch_whose_turning_is_cut_short(moment: int) -> None:
    """At every step of turning it, and once more in putting it back."""
    states, calls = ["on"], [0]

    def step(done: Any = None) -> Any:
        calls[0] += 1
        if calls[0] == moment + 1:
            raise Stop
        return done

    def write(state: str) -> None:
        step()
        states.append(state)
        step()

    switch = Switch(lambda: step(states[-1]), write, "off")
    for _ in range(2):
        try:
            with switch.turned():
                pass
        except Stop:
            pass
        assert states[-1] == "on"
