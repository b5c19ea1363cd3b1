"""A plan works on shapes, tells the truth about memory, and says what does not fit."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from cases import CASES, cost_of, dense
from hesse.exact import hessian as running
from hesse.exact import planning, rule_check, way_down
from hesse.exact.assemble import Target
from hesse.exact.contraction import dense_layers
from hesse.exact.contraction.pair import Pair
from hesse.exact.propagation.pullback import Pullback
from hesse.process import rates
from hesse.process.price import Price
from hesse.process.recent import Recent
from hesse.process.rehearsal import Rehearsal

MB = 10**6
by_name = {case.name: case for case in CASES}


def deep() -> hesse.Cost:
    torch.manual_seed(0)
    data = torch.randn(600, 30), torch.randint(0, 5, (600,))
    return hesse.Cost(dense(30, 20, 20, 5), "cross_entropy", data)


def convolutional(*layers: nn.Module) -> hesse.Cost:
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    channels = model(torch.zeros(1, 1, 18, 18)).shape[1]
    return hesse.Cost(model, "mse", (torch.randn(2, 1, 18, 18), torch.rand(2, channels)))


def transposed() -> hesse.Cost:
    return convolutional(
        nn.ConvTranspose2d(1, 6, (3, 2), 2), nn.ReLU(), nn.ConvTranspose2d(6, 3, (2, 3), 3)
    )


def upsampled() -> hesse.Cost:
    return convolutional(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(2, 2, 3, padding=1),
    )


@pytest.mark.parametrize("make", [deep, transposed, upsampled])
@pytest.mark.parametrize("memory", [None, 20 * MB])
def test_the_peak_is_that_of_the_tensors(
    make: Callable[[], hesse.Cost], memory: int | None
) -> None:
    """Without what the allocator keeps, which bench.memory measures."""
    cost = make()
    planned = hesse.plan(cost, memory=memory)
    with Rehearsal(shapes_only=False) as counts:
        running._computed(cost, planned, False)
    assert counts.peak <= 1.1 * planned.peak_bytes + MB
    if memory is not None:
        assert planned.peak_bytes <= planned.result_bytes + 1.1 * memory


def test_the_plan_of_a_diagonal_is_kept_too() -> None:
    from hesse.exact import diagonal

    cost = upsampled()
    planned = planning.diagonal_plan(cost, None)
    with Rehearsal(shapes_only=False) as counts:
        diagonal._computed(cost, planned, False)
    assert counts.peak <= 1.1 * planned.peak_bytes + MB


def test_what_a_diagonal_holds_in_any_case_is_not_planned_for_every_sample() -> None:
    """The entries of the first layer are half of what two samples take, and would be most of what
    512 do."""
    from hesse.exact import diagonal

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 10))
    data = torch.randn(512, 784), torch.randint(10, (512,))
    cost = hesse.Cost(model, "cross_entropy", data)
    planned = planning.diagonal_plan(cost, None)
    with Rehearsal(shapes_only=False) as counts:
        diagonal._computed(cost, planned, False)
    assert planned.chunk == 512
    assert planned.peak_bytes < 3 * counts.peak
    assert planned.price.moved < 1.5 * counts.price.moved


@pytest.mark.parametrize("name", ["three layers", "cross entropy"])
def test_no_contraction_takes_more_than_its_estimate(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost, seen = cost_of(by_name[name]), list[bool]()
    planned = hesse.plan(cost)
    add = Target.add

    def watched(target: Target, pair: Pair) -> None:
        before, counts.peak = counts.alive, counts.alive
        add(target, pair)
        samples = len(pair.a) // pair.positions
        room = target._contraction.estimate.room.of(samples) * cost.dtype.itemsize
        seen.append(counts.peak - before <= 1.25 * room + 2000)

    monkeypatch.setattr(Target, "add", watched)
    with Rehearsal(shapes_only=False) as counts:
        running._computed(cost, planned, False)
    assert seen and all(seen)


def test_a_plan_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with Rehearsal(shapes_only=False) as counts:
        hesse.plan(transposed(), memory=10**12)
    assert counts.peak < 20 * MB


@pytest.mark.parametrize("width", [100, 900, 4000])
def test_rules_are_checked_in_little_memory(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it would take much it is left to the certificate: the second derivative of a
    normalisation of 900 entries takes 29 MB for three samples."""
    checked, peaks = list[str](), list[int]()
    reference, wrong_rule = rule_check._one_by_one, rule_check.wrong_rule

    def watched(op: Pullback, *rest: Any) -> list[Tensor]:
        checked.append(str(op.node.kind))
        return reference(op, *rest)

    def counted(*arguments: Any) -> str | None:
        with Rehearsal(shapes_only=False) as counts:
            wrong = wrong_rule(*arguments)
        peaks.append(counts.peak)
        return wrong

    monkeypatch.setattr(rule_check, "_one_by_one", watched)
    monkeypatch.setattr(way_down, "wrong_rule", counted)
    model = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Linear(width, 2))
    hesse.plan(hesse.Cost(model, "mse", (torch.randn(4, 3), torch.randn(4, 2))))
    assert max(peaks) < 16 * MB
    assert any("norm" in kind for kind in checked) == (width == 100)
    assert any("linear" in kind for kind in checked)


class Scaled(nn.Module):
    """A parameter above which every image is large."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 6, 6))
        self.inner = nn.ConvTranspose2d(1, 3, 2, stride=4, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x * self.scale).tanh().sum((2, 3))


def test_what_lies_below_a_costly_way_goes_by_columns() -> None:
    torch.manual_seed(0)
    cost = hesse.Cost(Scaled(), "mse", (torch.randn(3, 1, 6, 6), torch.rand(3, 3)))
    planned = hesse.plan(cost, memory=10 * MB)
    assert "scale" in planned.by_columns
    assert any(note.startswith("scale goes by columns: ") for note in planned.notes)
    expected = hesse.operator(cost) @ torch.eye(cost.layout.size)
    assert float((hesse.hessian(cost, memory=10 * MB).dense() - expected).norm()) < 1e-4 * float(
        expected.norm()
    )
    assert planned.operations > 0


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_what_does_not_fit_is_planned_and_refused(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = deep()
    free = int(cost.layout.size**2 * 4 / share / 0.9)
    monkeypatch.setattr(planning, "available_bytes", lambda device: free)
    planned = hesse.plan(cost)
    text = " ".join(str(planned).split())
    if share < 1:
        assert not planned.too_large and "more than half" not in text
        return
    assert "does not fit: the result has P =" in text and "block_diagonal=True" in text
    with pytest.raises(hesse.HesseError, match="are free"):
        hesse.hessian(cost)
    monkeypatch.setattr(planning, "available_bytes", lambda device: 1000)
    assert "block_diagonal" not in hesse.plan(cost, block_diagonal=True).too_large


def test_a_large_result_is_said_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = deep()
    monkeypatch.setattr(planning, "available_bytes", lambda device: cost.layout.size**2 * 6)
    planned = hesse.plan(cost)
    assert not planned.too_large and any("more than half" in note for note in planned.notes)
    hesse.hessian(cost)


def test_rates_are_kept_and_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    cpu, measured = torch.device("cpu"), itertools.count(1)
    ones = (1.0,) * 5
    monkeypatch.setattr(rates, "_measured", lambda *_: rates.Rates(float(next(measured)), *ones))
    rates._known.cache_clear()
    assert rates.rates(torch.float32, cpu).operations == 1
    rates._known.cache_clear()
    assert rates.rates(torch.float32, cpu).operations == 1  # from the file
    assert rates.rates(torch.float32, cpu, measure=True).operations == 2
    (tmp_path / "hesse" / "rates.json").write_text("{no json")
    rates._known.cache_clear()
    assert rates.rates(torch.float32, cpu).operations == 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hesse" / "rates.json"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "hesse" / "rates.json"))
    rates._known.cache_clear()
    assert rates.rates(torch.float32, cpu).operations == 4  # unwritable: no error
    rates._known.cache_clear()


def test_a_plan_says_how_long() -> None:
    planned = hesse.plan(deep())
    assert planned.seconds > 0 and "(from rates of this machine)" in str(planned)


def test_rehearsed_work_costs_what_real_work_does() -> None:
    def work(x: Tensor) -> Tensor:
        return (x @ x).tanh().sum()

    prices: list[Price] = []
    for shapes_only in (True, False):
        x = torch.ones(50, 50)
        with Rehearsal(shapes_only) as counts:
            work(x)
        prices.append(counts.price)
        assert counts.peak == 2 * 50 * 50 * 4
    assert prices[0] == prices[1] and prices[0].operations == 2 * 50**3


@pytest.mark.parametrize("factor", [2, 2.0, torch.ones(3, 1), torch.ones(3, 4).double()])
def test_what_is_asked_for_again_has_the_same_form(factor: Tensor | float) -> None:
    def product() -> Tensor:
        return torch.ones(4, 3).T.mul(factor)

    expected = product()
    with Rehearsal():
        for found in (product(), product()):
            assert found.shape == expected.shape and found.dtype == expected.dtype
            assert found.stride() == expected.stride()


def test_a_form_is_that_of_the_default_dtype() -> None:
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        with Rehearsal():
            assert torch.zeros(3, device="meta").dtype == dtype


def test_what_shares_memory_is_counted_once_however_often_it_is_asked_for() -> None:
    x = torch.ones(4, 3)
    for _ in range(2):
        with Rehearsal() as counts:
            y = x + 1
            joined = torch.cat([y, y], 1)
            again = torch.ops.aten._unsafe_view(joined, [24])
        assert counts.peak == 3 * x.numel() * 4 and again.shape == (24,)
        assert joined.shape == (4, 6) and joined.stride() == (6, 1)


@pytest.mark.parametrize(
    ("dtype", "beside"),
    # Of 4 channels to 8, each 200 numbers: oneDNN holds 16 of both; windows are of 4 · 9 numbers.
    [(torch.float32, (16 + 16) * 200 * 4), (torch.float64, 4 * 9 * 200 * 8)],
)
def test_a_convolution_takes_more_than_comes_out(dtype: torch.dtype, beside: int) -> None:
    images, kernel = torch.ones(2, 4, 10, 10, dtype=dtype), torch.ones(8, 4, 3, 3, dtype=dtype)
    with Rehearsal() as counts:
        out = nn.functional.conv2d(images, kernel, padding=1)
    assert counts.peak == out.numel() * dtype.itemsize + beside


def test_many_samples_are_summed_over_in_the_same_memory() -> None:
    weights, features = torch.rand(1000, 3), torch.rand(1000, 60)
    with Rehearsal(shapes_only=False) as counts:
        total = dense_layers._summed(
            weights,
            60 * 60,
            lambda part, out: dense_layers._products(features[part].mT, features[part].mT, out),
        )
    # Of 1,000 samples 250 at a time.
    assert counts.peak == 4 * (3 * 60 * 60 + 60 * 60 * 250)
    expected = torch.einsum("nk,ni,nj->kij", weights, features, features)
    torch.testing.assert_close(total.view_as(expected), expected)


def test_losses_written_anew_are_not_kept_for_ever() -> None:
    from hesse import snapshot

    model, data = nn.Linear(2, 1), (torch.ones(3, 2), torch.zeros(3, 1))
    for power in range(2, 20):
        hesse.Cost(model, lambda p, y, k=power: ((p - y) ** k).mean(), data)
    kept = snapshot._CAPTURES[model]
    assert isinstance(kept, Recent) and len(kept) == snapshot._MOST_LOSSES
