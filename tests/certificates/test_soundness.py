"""Where a wrong backward is looked for: once for each shape of a batch, on few samples, in float64
where that can be had."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from certificates.kinds import WAYS, Formula, of, off, said, x
from certificates.test_backward_not_differentiable import (
    DetachedOutput,
    Right,
    WithoutGradient,
    network,
)


def test_refused_for_chosen_blocks_and_in_float32() -> None:
    model, X, y = network(WithoutGradient.apply)
    cost = hesse.Cost(model, "half_sse", (X, y))
    for options in ({"pairs": [("a.weight", "a.weight")]}, {"block_diagonal": True}):
        with pytest.raises(hesse.HesseError, match="backward"):
            hesse.hessian(cost, **options)  # type: ignore[arg-type]
    with pytest.raises(hesse.HesseError, match="backward"):
        hesse.hessian(
            hesse.Cost(
                network(WithoutGradient.apply)[0].float(), "half_sse", (X.float(), y.float())
            )
        )


def test_refused_where_many_samples_hide_it() -> None:
    """More samples than are looked at, and a wrong part that is small beside the right one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Formula(
            lambda m, z: m.b(torch.tanh(m.a(z)) + 0.05 * WithoutGradient.apply(m.a(z))),
            a=nn.Linear(2, 3),
            b=nn.Linear(3, 2),
        )
        model, X, y = model.double(), x(200, 2), x(200, 2)
    with pytest.raises(hesse.HesseError, match="backward"):
        hesse.hessian(hesse.Cost(model, "half_sse", (X, y)))


def test_refused_at_another_theta() -> None:
    """The check is of a capture, not of one point: a cost moved from it is refused as well."""
    model, X, y = network(WithoutGradient.apply)
    cost = hesse.Cost(model, "half_sse", (X, y))
    for moved in (cost.at(cost.theta + 0.1), cost.at(cost.theta * 2)):
        with pytest.raises(hesse.HesseError, match="backward"):
            hesse.hessian(moved)


# ---------------------------------------- a wrong backward that not every batch runs


def by_flag(m: Any, batch: Any) -> Tensor:
    u = m.a(batch[0])
    return m.b(WithoutGradient.apply(u) if batch[1] else u**3)


def by_length(m: Any, z: Tensor) -> Tensor:
    u = m.a(z).mean(1)
    return m.b(WithoutGradient.apply(u) if z.shape[1] > 2 else u**3)


def by_sign(m: Any, z: Tensor) -> Tensor:
    u = m.a(z)
    return m.b(torch.where(z[:, :1] > 0, WithoutGradient.apply(u), u**3))


def later() -> dict[str, tuple[Callable[[Any, Any], Tensor], Any]]:
    """Models, and data whose first batch is innocent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = x(4, 2)
        return {
            "by a flag": (by_flag, [((x(4, 2), False), y), ((x(4, 2), True), y)]),
            "by the length": (by_length, [(x(4, 2, 2), y), (x(4, 3, 2), y)]),
            "by the data": (by_sign, [(-x(4, 2).abs(), y), (x(4, 2).abs(), y)]),
        }


LATER = later()


@pytest.mark.parametrize(
    "certified", [hesse.hessian, hesse.diagonal, hesse.operator], ids=list(WAYS)
)
@pytest.mark.parametrize("row", LATER.values(), ids=LATER)
def test_found_in_a_later_batch(
    row: tuple[Callable[[Any, Any], Tensor], Any], certified: Callable[[hesse.Cost], Any]
) -> None:
    forward, data = row
    model = Formula(forward, a=nn.Linear(2, 3), b=nn.Linear(3, 2)).double()
    with pytest.raises(hesse.HesseError, match="backward"):
        certified(hesse.Cost(model, "half_sse", data))


# ---------------------------------------------------------------- what cannot be cast to float64


def narrow(f: Callable[[Tensor], Tensor]) -> hesse.Cost:
    """A forward that takes float32 and nothing else."""

    def forward(m: Any, z: Tensor) -> Tensor:
        assert z.dtype == torch.float32 and m.a.weight.dtype == torch.float32
        return m.b(f(m.a(z)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Formula(forward, a=nn.Linear(2, 3), b=nn.Linear(3, 2))
        return hesse.Cost(model, "half_sse", (torch.randn(5, 2), torch.randn(5, 2)))


def test_what_float32_could_hide_is_said() -> None:
    cost = narrow(Right.apply)
    for call in (hesse.hessian, hesse.diagonal, hesse.operator):
        certificate: Any = call(cost).certificate
        assert "float32" in said(cost, certificate) and certificate.deviation < 1e-4


@pytest.mark.parametrize(
    "f", [WithoutGradient.apply, DetachedOutput.apply], ids=["no_grad", "detached"]
)
def test_found_in_float32(f: Callable[[Tensor], Tensor]) -> None:
    """Large errors show in differences of float32 as well."""
    for call in (hesse.hessian, hesse.diagonal, hesse.operator):
        with pytest.raises(hesse.HesseError, match="backward"):
            call(narrow(f))


def test_of_many_samples_the_others_are_certified_too() -> None:
    """Few samples are enough for differences; double backward goes over all of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subject = of(
            Formula(lambda m, z: m.b(Right.apply(m.a(z))), a=nn.Linear(2, 3), b=nn.Linear(3, 2)),
            "half_sse",
            (x(100, 2), x(100, 2)),
        )
    H = hesse.hessian(subject.cost)
    assert off(H.dense(), subject.expected) < 1e-9
    assert H.certificate is not None and H.certificate.samples == 100 and H.certificate.notes == ()
