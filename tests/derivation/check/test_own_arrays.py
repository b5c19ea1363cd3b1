"""What a derivation came to at the cost's own arrays, as far as they are small enough."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import hesse
from hesse.derivation.calculus.expression import ZERO
from hesse.derivation.check import own_arrays
from hesse.derivation.check.own_arrays import checked_at
from hesse.errors import HesseValueError


@pytest.fixture(scope="module")
def derivation() -> hesse.Derivation:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    data = torch.ones(2, 3).double(), torch.ones(2, 2).double()
    return hesse.derive(hesse.Cost(model, "mse", data))


def arrays(derivation: hesse.Derivation) -> dict[str, torch.Tensor]:
    assert derivation.at is not None
    return derivation.at.arrays


def test_every_result_is_checked(derivation: hesse.Derivation) -> None:
    check = checked_at(derivation, arrays(derivation))
    assert check.skipped == 0 and check.deviation < 1e-12
    assert derivation.notes[-1].endswith(("e-15.", "e-16.", "e-17.", "0e+00."))


@pytest.mark.parametrize("what", ["slopes", "blocks"])
def test_a_wrong_result_is_named(derivation: hesse.Derivation, what: str) -> None:
    kept = getattr(derivation, what)
    wrong = replace(derivation, **{what: {k: replace(v, expression=ZERO) for k, v in kept.items()}})
    with pytest.raises(HesseValueError, match=r"derivative of J by .* own parameters"):
        checked_at(wrong, arrays(derivation))


def test_what_is_too_large_is_counted(
    derivation: hesse.Derivation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_arrays, "MOST_ENTRIES", 2)
    assert checked_at(derivation, arrays(derivation)).skipped > 10
    monkeypatch.setattr(own_arrays, "MOST_TOGETHER", 1)
    assert checked_at(derivation, arrays(derivation)).skipped == 14


def test_five_hundred_units_do_not_take_for_ever() -> None:
    # Every line at the own arrays took minutes.
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
        data = torch.ones(2, 784), torch.tensor([1, 2])
        d = hesse.derive(hesse.Cost(model, "cross_entropy", data))
    assert "of them are too large for that" in d.notes[-1]
