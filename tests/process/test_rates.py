"""How fast a machine is that others use as well."""

from dataclasses import astuple
from typing import Any

import pytest
import torch

from hesse.process import rates
from hesse.process.rates import Rates


def test_threads_that_wait_for_one_another_are_not_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each rate is the better of that by one thread and that by all."""

    def once(*_: Any) -> Rates:
        many = torch.get_num_threads() > 1
        return (
            Rates(2e9, 16e9, 2e4, 3e9, 9e8, 2e10)
            if many
            else Rates(9e10, 9e9, 3e4, 6e10, 5e10, 1e10)
        )

    before = torch.get_num_threads()
    monkeypatch.setattr(rates, "_measured_once", once)
    torch.set_num_threads(2)
    try:
        found = rates._measured(torch.float32, torch.device("cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert astuple(found) == (9e10, 16e9, 3e4, 6e10, 5e10, 2e10)
