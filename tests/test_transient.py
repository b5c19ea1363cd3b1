"""What failed for a reason that passes is tried again once the reason is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from certificates.kinds import Formula, x
from hesse.errors import HesseMemoryError
from networks import dense


@contextmanager
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Any] = {"dtype": float64_by_default, "deterministic": deterministic}
AROUND: dict[str, Any] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def question(forward: Any = lambda m, z: m.net(z)) -> hesse.Cost:
    return hesse.Cost(Formula(forward, net=dense(3, 2, 2).double()), "mse", (x(6, 3), x(6, 2)))


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings(setting: str) -> None:
    """A model that cannot be traced under them, and can without."""
    failing = [True]

    def forward(m: Any, z: Tensor) -> Tensor:
        if failing[0] and torch.compiler.is_exporting():
            raise RuntimeError("not so")
        return m.net(z)

    cost = question(forward)
    with SETTINGS[setting]():
        assert not hesse.plan(cost).captured
        assert not hesse.plan(cost).captured
    failing[0] = False
    assert hesse.plan(cost).captured
    with SETTINGS[setting]():
        assert not hesse.plan(cost).captured


@pytest.mark.parametrize("around", AROUND)
def test_first_work_under(around: str) -> None:
    """Also by `derive`, which captures too."""
    cost = hesse.Cost(nn.Linear(2, 1).double(), "mse", (x(3, 2), x(3, 1)))
    with AROUND[around]():
        hesse.derive(cost, wrt="weight", certify=False)
        assert hesse.plan(cost).captured
        H = hesse.hessian(cost).dense()
    assert hesse.plan(cost).captured and torch.equal(hesse.hessian(cost).dense(), H)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried")])
@pytest.mark.parametrize("stage", ["trace", "site search", "sweep", "contraction", "products"])
def test_memory(error: Exception, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {
        "trace": "torch.export.export",
        "site search": "hesse.capture.find_sites",
        "sweep": "hesse.exact.way_down.wrong_rule",
        "contraction": "hesse.exact.hessian._contract",
        "products": "hesse.products.linearize.trace",
    }[stage]
    cost = question()

    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    way = hesse.operator if stage == "products" else hesse.hessian
    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(HesseMemoryError):
            way(cost)
    way(cost)
    assert hesse.plan(cost).captured and not hesse.plan(cost).by_columns
    assert hesse.operator(cost).methods == ("straight line",)


def test_interrupted_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = question()

    def interrupt(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    for place in ("torch.export.export", "hesse.exact.way_down.wrong_rule"):
        with monkeypatch.context() as patch:
            patch.setattr(place, interrupt)
            with pytest.raises(KeyboardInterrupt):
                hesse.hessian(cost)
    assert hesse.plan(cost).captured


def test_failures_beside_other_threads_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, count = question(), [2]
    monkeypatch.setattr("hesse.capture.threading.active_count", lambda: count[0])

    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("patched by another thread")

    with monkeypatch.context() as patch:
        patch.setattr("torch.export.export", fail)
        assert not hesse.plan(cost).captured
    assert hesse.plan(cost).captured
