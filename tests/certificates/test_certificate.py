"""What a certificate says, where it goes, and what it leaves alone."""

import dataclasses
import functools
import math
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
from certificates.kinds import x
from hesse import Certificate
from networks import DataBranch, dense

CALLS: dict[str, Callable[..., Any]] = {
    "hessian": hesse.hessian,
    "diagonal": hesse.diagonal,
    "operator": hesse.operator,
}


@functools.cache
def cost_of(
    *widths: int, samples: int = 8, dtype: torch.dtype = torch.float64, **options: Any
) -> hesse.Cost:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = dense(*(widths or (3, 4, 2))).to(dtype)
        X, y = (
            torch.randn(samples, widths[0] if widths else 3, dtype=dtype),
            torch.arange(samples) % 2,
        )
    return hesse.Cost(model, "cross_entropy", (X, y), **options)


# ---------------------------------------------------------------- what it says


@pytest.mark.parametrize("name", CALLS)
def test_every_field(name: str) -> None:
    cost = cost_of()
    certificate = CALLS[name](cost).certificate
    assert isinstance(certificate, Certificate)
    assert isinstance(certificate.deviation, float) and 0 <= certificate.deviation < 1e-10
    assert isinstance(certificate.compared, str) and re.search(r"\d", certificate.compared)
    assert "double backward" in certificate.method
    assert certificate.samples == 8 and isinstance(certificate.samples, int)
    assert isinstance(certificate.seconds, float) and 0 < certificate.seconds < 60
    assert isinstance(certificate.rounding, float) and 0 < certificate.rounding <= 1e-9
    assert certificate.notes == ()


def test_it_is_a_frozen_value() -> None:
    certificate: Any = hesse.hessian(cost_of()).certificate
    assert dataclasses.is_dataclass(Certificate)
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.deviation = 0.0
    same: Any = dataclasses.replace(certificate)
    assert certificate == same


@pytest.mark.parametrize("name", CALLS)
def test_as_text_it_is_a_line(name: str) -> None:
    """The deviation, what was compared and by which method, for a reader."""
    certificate = CALLS[name](cost_of()).certificate
    line = str(certificate)
    assert "\n" not in line and 20 < len(line) < 400
    assert certificate.compared in line and "double backward" in line
    assert (
        f"{certificate.deviation:.0e}".partition("e")[0] in line
        and "8 samples" in line
        and "rounding" in line
    )


COMPARED: dict[str, tuple[Callable[[], Any], str]] = {
    "all blocks": (lambda: hesse.hessian(cost_of()), r"2 products .*4 parameters"),
    "the operator": (lambda: hesse.operator(cost_of()), r"1 product .*4 parameters"),
    "chosen pairs": (
        lambda: hesse.hessian(cost_of(), pairs=[("0.weight", "2.weight"), ("0.bias", "0.bias")]),
        r"\b[12] of 2 blocks|all 2 blocks",
    ),
    "the block diagonal": (
        lambda: hesse.hessian(cost_of(), block_diagonal=True),
        r"\b[1-4] (of 4 )?blocks|all 4 blocks",
    ),
    "entries of the diagonal": (
        lambda: hesse.diagonal(cost_of()),
        r"\d+ entr(y|ies) of [1-4]( of 4)? parameters?|all 4 parameters",
    ),
}


@pytest.mark.parametrize("row", COMPARED.values(), ids=COMPARED)
def test_what_was_compared(row: tuple[Callable[[], Any], str]) -> None:
    compute, text = row
    assert re.search(text, compute().certificate.compared), compute().certificate.compared


def test_of_many_blocks_it_says_how_many() -> None:
    """Forty blocks would take longer than the Hessian."""
    cost = cost_of(*(2 for _ in range(21)), samples=4)
    compared = hesse.hessian(cost, block_diagonal=True).certificate.compared  # type: ignore[union-attr]
    found = re.search(r"(\d+) of 40 blocks", compared)
    assert (found and 1 <= int(found[1]) <= 40) or "all 40 blocks" in compared, compared
    compared = hesse.diagonal(cost).certificate.compared  # type: ignore[attr-defined]
    found = re.search(r"of (\d+) of 40 parameters", compared)
    assert (found and 1 <= int(found[1]) <= 40) or "all 40 parameters" in compared, compared


def test_samples_are_all_of_the_data() -> None:
    X, y = x(11, 2), x(11, 1)
    model = dense(2, 3, 1).double()
    batches = [(X[:4], y[:4]), (X[4:8], y[4:8]), (X[8:], y[8:])]
    for data in (batches, DataLoader(TensorDataset(X, y), batch_size=5, shuffle=True)):
        for call in CALLS.values():
            assert call(hesse.Cost(model, "mse", data)).certificate.samples == 11


def test_in_float32_it_says_what_rounding_could_hide() -> None:
    narrow, wide = cost_of(dtype=torch.float32), cost_of()
    for call in CALLS.values():
        certificate, other = call(narrow).certificate, call(wide).certificate
        assert 1e-8 < certificate.rounding < 1e-2 and certificate.rounding > 100 * other.rounding
        assert certificate.deviation < 10 * certificate.rounding


@pytest.mark.parametrize(
    "penalty",
    [0.1, lambda params: sum(p.pow(4).sum() for p in params.values())],
    ids=["number", "function"],
)
def test_a_penalty_is_part_of_it(penalty: Any) -> None:
    for call in CALLS.values():
        assert call(cost_of(penalty=penalty)).certificate.deviation < 1e-10


def test_where_the_hessian_is_zero() -> None:
    """Relative to nothing, a deviation is 0."""
    cost = hesse.Cost.from_function(lambda p: p["u"].sum() * 3, {"u": torch.ones(3).double()})
    for call in CALLS.values():
        assert call(cost).certificate.deviation == 0.0


def test_what_goes_by_columns_is_certified_too() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cost = hesse.Cost(DataBranch().double(), "half_sse", (x(5, 2), x(5, 2)))
    assert "columns" in {block.strategy for block in hesse.plan(cost).blocks}
    for call in CALLS.values():
        certificate = call(cost).certificate
        assert certificate.deviation < 1e-10 and certificate.samples == 5


def test_a_function_of_the_parameters_alone() -> None:
    cost = hesse.Cost.from_function(lambda p: p["u"].pow(4).sum() * p["v"], {"u": x(3), "v": x()})
    for call in CALLS.values():
        assert call(cost).certificate.deviation < 1e-10


# ---------------------------------------------------------------- where it goes


def test_the_representation_has_a_line_of_it() -> None:
    H = hesse.hessian(cost_of())
    lines = [line.strip() for line in repr(H).splitlines()]
    assert any(line.startswith("certificate") for line in lines)
    assert "not certified" not in repr(H)


def test_without_it_the_representation_says_so() -> None:
    H = hesse.hessian(cost_of(), certify=False)
    assert H.certificate is None and "not certified" in repr(H)
    assert hesse.diagonal(cost_of(), certify=False).certificate is None  # type: ignore[attr-defined]
    assert hesse.operator(cost_of(), certify=False).certificate is None
    assert "not certified" in repr(hesse.operator(cost_of(), certify=False))


@pytest.mark.parametrize(
    "options",
    [{}, {"block_diagonal": True}, {"pairs": [("0.weight", "2.bias")]}],
    ids=["all", "own", "one"],
)
@pytest.mark.parametrize("certify", [True, False])
def test_it_is_saved_and_loaded(tmp_path: Path, certify: bool, options: dict[str, Any]) -> None:
    H = hesse.hessian(cost_of(), certify=certify, **options)
    H.save(tmp_path / "h.safetensors")
    loaded = hesse.load(tmp_path / "h.safetensors")
    assert loaded.certificate == H.certificate and repr(loaded) == repr(H)


def test_notes_are_saved_and_loaded(tmp_path: Path) -> None:
    """A network at a kink has something to note."""
    model: Any = dense(2, 3, 2, f=nn.ReLU).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    H = hesse.hessian(hesse.Cost(model, "half_sse", (x(4, 2), x(4, 2))))
    H.save(tmp_path / "h.safetensors")
    loaded: Any = hesse.load(tmp_path / "h.safetensors").certificate
    assert isinstance(loaded.notes, tuple) and loaded == H.certificate


def test_a_hessian_made_by_hand_has_none() -> None:
    made = hesse.BlockHessian(hesse.Layout(("u",), ((2,),)), matrix=torch.eye(2))
    assert made.certificate is None and "not certified" in repr(made)


def test_the_diagonal_is_a_mapping() -> None:
    cost = cost_of()
    d = hesse.diagonal(cost)
    assert isinstance(d, Mapping) and list(d) == list(cost.layout.names) and len(d) == 4
    assert all(
        isinstance(d[name], Tensor) and d[name].shape == cost.layout.shape(name) for name in d
    )
    assert cost.layout.flatten(d).shape == (cost.layout.size,)
    assert {name: part.shape for name, part in d.items()} == {
        name: cost.layout.shape(name) for name in cost.layout.names
    }
    with pytest.raises(KeyError):
        d["none"]


# ---------------------------------------------------------------- what it leaves alone


@pytest.mark.parametrize("name", CALLS)
def test_random_states_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's is drawn from by beartype's checks in these tests, so there it is drawing that is
    forbidden."""
    cost = cost_of(3, 5, 2)
    for seed in (torch.manual_seed, np.random.seed):
        seed(7)
    for function in (
        "random",
        "randrange",
        "randint",
        "shuffle",
        "choice",
        "sample",
        "gauss",
        "seed",
    ):
        monkeypatch.setattr(random, function, None)
    before = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]
    CALLS[name](cost)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]


def test_random_states_of_a_loader_stay() -> None:
    generator = torch.Generator().manual_seed(3)
    data = DataLoader(
        TensorDataset(x(9, 2), x(9, 1)), batch_size=4, shuffle=True, generator=generator
    )
    cost = hesse.Cost(dense(2, 3, 1).double(), "mse", data)
    before, outside = generator.get_state(), torch.get_rng_state()
    for call in CALLS.values():
        assert call(cost).certificate.deviation < 1e-10
    assert torch.equal(generator.get_state(), before) and torch.equal(
        torch.get_rng_state(), outside
    )


def test_numbers_do_not_depend_on_it() -> None:
    cost = cost_of()
    assert torch.equal(hesse.hessian(cost).dense(), hesse.hessian(cost, certify=False).dense())
    certified, plain = hesse.diagonal(cost), hesse.diagonal(cost, certify=False)
    assert all(torch.equal(certified[name], plain[name]) for name in plain)


def test_no_two_certificates_draw_alike() -> None:
    """What one direction does not see another may; the numbers are the same."""
    cost = cost_of(3, 8, 8, 2)
    first, second = hesse.hessian(cost), hesse.hessian(cost)
    assert first.certificate is not None and second.certificate is not None
    assert first.certificate.deviation != second.certificate.deviation
    assert torch.equal(first.dense(), second.dense())


class Counted:
    """A function of the parameters that counts its evaluations."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, p: dict[str, Tensor]) -> Tensor:
        self.count += 1
        return p["u"].pow(4).sum() * p["v"]

    def during(self, call: Callable[[], Any]) -> int:
        before = self.count
        call()
        return self.count - before


def test_without_it_the_function_is_not_asked_for_it() -> None:
    f = Counted()
    cost = hesse.Cost.from_function(f, {"u": x(3), "v": x()})
    for call in (hesse.hessian, hesse.operator):
        call(cost)
    assert f.during(lambda: hesse.hessian(cost, certify=False)) < f.during(
        lambda: hesse.hessian(cost)
    )


def test_an_operator_is_certified_once() -> None:
    """One product when it is built, none later."""
    f = Counted()
    op = hesse.operator(hesse.Cost.from_function(f, {"u": x(3), "v": x()}))
    certificate = op.certificate
    assert f.during(lambda: [op @ torch.ones(4).double() for _ in range(3)]) == 0
    assert op.certificate is certificate


def test_no_gradient_is_left_behind() -> None:
    model = dense(3, 4, 2).double()
    cost = hesse.Cost(model, "cross_entropy", (x(6, 3), torch.arange(6) % 2))
    for call in CALLS.values():
        call(cost)
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()
    assert not any(value.requires_grad for value in cost.parameters.values())
    assert not any(part.requires_grad for part in hesse.diagonal(cost).values())


def test_under_no_grad_and_in_inference_mode() -> None:
    """Whatever the caller's mode, the certificate's is its own."""
    cost = cost_of()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            for call in CALLS.values():
                assert call(cost).certificate.deviation < 1e-10


def test_deviations_are_numbers() -> None:
    assert math.isfinite(hesse.hessian(cost_of(dtype=torch.float32)).certificate.deviation)  # type: ignore[union-attr]
