"""Every estimate against the exact answer: its error bars over some hundred runs, and what it is of
matrices that are there."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hesse
from operators_of_spectra import by_products, turned

F64 = torch.float64
DECAYING = 1 / (1 + torch.arange(120, dtype=F64))
OUTLIERS = torch.cat([torch.tensor([9.0, 5, 3], dtype=F64), DECAYING[:117] / 3])
INDEFINITE = torch.cat([OUTLIERS[:60], -DECAYING[:60] / 2])
Ask = Callable[..., Any]
SUMS: dict[str, tuple[Ask, Callable[[torch.Tensor], torch.Tensor]]] = {
    "trace": (hesse.trace, lambda v: v.sum()),
    "squared norm": (hesse.squared_norm, lambda v: v.square().sum()),
    "logdet": (lambda A, **o: hesse.logdet(A, 0.1, **o), lambda v: (v + 0.1).log().sum()),
    "effective dimension": (
        lambda A, **o: hesse.effective_dimension(A, 0.1, **o),
        lambda v: (v / (v + 0.1)).sum(),
    ),
}


def test_the_bars_of_sums() -> None:
    # In a process of its own: the checks of annotations take most of the time of small products.
    script = Path(__file__).with_name("coverage.py")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_bars_of_diagonals() -> None:
    A = turned(OUTLIERS)
    within = torch.zeros(120)
    for seed in range(50):
        found = hesse.estimated_diagonal(by_products(A), method="estimate", seed=seed, products=20)
        within += (found["x"] - A.diagonal()).abs() <= 1.96 * found.errors["x"]
    assert 0.9 <= float(within.mean()) / (50) <= 0.99


@pytest.mark.parametrize("name", SUMS)
def test_of_a_matrix_it_is_exact(name: str) -> None:
    ask, exact = SUMS[name]
    A = turned(OUTLIERS)
    for what, method in ((A, "auto"), (by_products(A), "exact"), (A.numpy(), "auto")):
        found = ask(what, method=method)
        assert found.exact and found.error == 0
        assert float(found) == pytest.approx(float(exact(OUTLIERS)), rel=1e-12)


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_of_any_size(name: str, scale: float) -> None:
    if name in ("logdet", "effective dimension"):
        A, ask = turned(OUTLIERS) * scale, getattr(hesse, name.replace(" ", "_"))
        kinds = [
            ask(A, 0.1 * scale, method=method, relative_error=0.2)
            for method in ("exact", "estimate")
        ]
    else:
        kinds = [SUMS[name][0](turned(OUTLIERS) * scale, method=m) for m in ("exact", "estimate")]
    exact, found = kinds
    assert math.isfinite(found.error)
    assert abs(found.value - exact.value) <= 5 * found.error + 1e-9 * abs(exact.value)


@pytest.mark.parametrize("ask", [hesse.trace, hesse.squared_norm])
def test_a_flat_spectrum_leaves_nothing_to_estimate(ask: Ask) -> None:
    for factor in (0.0, -3.0):
        found = ask(by_products(factor * torch.eye(300, dtype=F64)))
        exact = 300 * (factor if ask is hesse.trace else factor**2)
        assert found.value == pytest.approx(exact, abs=1e-9) and found.products <= 40


def test_it_stops_at_the_error_asked_for_and_not_before_ten() -> None:
    A = by_products(turned(DECAYING))
    rough, fine = (hesse.trace(A, error=error, method="estimate") for error in (100.0, 0.02))
    assert rough.products == 10 and fine.products > 10 and fine.error <= 0.02
    short = hesse.trace(A, error=1e-6, method="estimate", products=30)
    assert short.products <= 31 and "30 products did not do" in str(short)


def test_fewer_products_than_hutch_plus_plus() -> None:
    values = torch.cat([torch.linspace(50, 5, 10), 1 / (1 + torch.arange(590.0))]).double()
    A, truth = turned(values), float(values.sum())
    found = [hesse.trace(by_products(A), seed=seed) for seed in range(20)]
    off = [abs(e.value / truth - 1) for e in found]
    assert sum(o * o for o in off) / 20 <= 0.01**2
    # Hutch++ of so many products is off by more.
    most = 3 * (max(e.products for e in found) // 3 + 1)
    theirs = [abs(hutch_plus_plus(A, most // 3, seed) / truth - 1) for seed in range(20)]
    assert sum(o * o for o in theirs) > sum(o * o for o in off)


def hutch_plus_plus(A: torch.Tensor, third: int, seed: int) -> float:
    """Meyer et al. (2021), algorithm 1."""
    random = torch.Generator().manual_seed(seed)
    S, G = (torch.randint(2, (2, len(A), third), generator=random) * 2 - 1).double()
    Q = torch.linalg.qr(A @ S).Q
    G = G - Q @ (Q.T @ G)
    return float((Q.T @ A @ Q).trace() + (G * (A @ G)).sum() / third)


def test_the_same_seed_gives_the_same_number_and_nothing_is_disturbed() -> None:
    A, before = by_products(turned(DECAYING)), torch.get_rng_state()
    for ask, _ in SUMS.values():
        one, two, other = (
            ask(A, method="estimate", relative_error=0.2, seed=seed) for seed in (3, 3, 4)
        )
        assert one == two and one != other
    assert torch.equal(torch.get_rng_state(), before)


def test_little_memory_does_without_a_basis() -> None:
    A = by_products(turned(OUTLIERS))
    found = hesse.trace(A, method="estimate", memory=0, relative_error=0.1)
    assert "Lanczos" not in found.how
    assert abs(found.value - float(OUTLIERS.sum())) <= 4 * found.error


def test_what_is_not_definite_says_what_makes_it_so() -> None:
    A = turned(INDEFINITE)
    for method in ("exact", "estimate"):
        with pytest.raises(hesse.HesseError, match=r"positive definite, got 0\.01: A has an eigen"):
            hesse.logdet(by_products(A), 0.01, method=method)
    with pytest.raises(hesse.HesseError, match=r"A has an eigenvalue of .*; 1 does"):
        hesse.logdet(torch.zeros(2, 2))
    with pytest.raises(hesse.HesseError, match="eigenvalues of both signs"):
        hesse.condition_number(by_products(A), method="estimate")


@pytest.mark.parametrize("method", ["exact", "estimate"])
def test_condition_numbers(method: Any) -> None:
    values = torch.linspace(1, 50, 150, dtype=F64)
    for A, damping, exact in (
        (turned(values), 0.0, 50.0),
        (turned(values), 6.0, 8.0),
        (turned(-values), 0.0, 50.0),
        (turned(values - 1), 0.0, math.inf),
        (torch.zeros(150, 150, dtype=F64), 0.0, math.inf),
    ):
        found = hesse.condition_number(by_products(A), damping, method=method)
        assert float(found) == pytest.approx(exact, rel=1e-6) and found.exact == (method == "exact")
        assert found.exact or "(bound by residuals; " in str(found)


def test_densities() -> None:
    A = turned(OUTLIERS)
    exact = hesse.density(A, width=0.2)
    found = hesse.density(by_products(A), width=0.2, method="estimate", probes=40)
    step = exact.points[1] - exact.points[0]
    assert exact.values.sum() * step == pytest.approx(1, abs=1e-3)
    assert found.mass(2, 10) == pytest.approx(3 / 120, abs=0.01)
    # Sampled at their points, the bars hold the curve of all eigenvalues nearly everywhere.
    away = (found.points[:, None] - OUTLIERS.numpy()) / 0.2
    curve = torch.from_numpy(-(away**2) / 2).exp().mean(1).numpy() / (0.2 * math.sqrt(2 * math.pi))
    within = abs(found.values - curve) <= 1.96 * found.errors + 1e-9
    assert within.mean() >= 0.9
    assert not exact.errors.any() and "all eigenvalues were seen" in repr(exact)


def test_pictures() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    found = hesse.density(by_products(turned(OUTLIERS)), method="estimate", steps=20)
    assert found.plot(ax) is found and found.ax is ax
    assert {"curve", "band", "legend"} <= found.artists.keys()
    cost = network()
    table = hesse.layers(cost)
    assert table.plot(Figure().add_subplot()).artists["bars"].keys() == {
        "trace",
        "largest eigenvalue",
    }


def network() -> hesse.Cost:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    return hesse.Cost(
        model.double(), "mse", (torch.randn(8, 3).double(), torch.ones(8, 2).double())
    )


def test_by_part_and_by_layer() -> None:
    cost = network()
    H, G = hesse.hessian(cost), hesse.hessian(cost, curvature="gauss_newton")
    for what in (cost, hesse.operator(cost), H):
        found = hesse.trace(what, by="parameter")
        assert [*found] == [*cost.layout.names]
        for name, e in found.items():
            assert e.exact and float(e) == pytest.approx(float(H.flat(name, name).trace()))
    by_layer = hesse.squared_norm(cost, by="layer", curvature="gauss_newton")
    names = cost.layout.layers["2"]
    exact = sum(float(G.flat(a, b).square().sum()) for a in names for b in names)
    assert float(by_layer["2"]) == pytest.approx(exact)


def test_layers() -> None:
    cost = network()
    H = hesse.hessian(cost)
    table = hesse.layers(cost)
    assert [row.name for row in table.rows] == ["0", "2"]
    assert table["(whole)"].parameters == cost.layout.size
    assert float(table["(whole)"].largest) == pytest.approx(float(H.eigvalsh()[-1]))
    block = H.dense()[20:, 20:]
    assert float(table["2"].trace) == pytest.approx(float(block.trace()))
    assert float(table["2"].largest) == pytest.approx(float(torch.linalg.eigvalsh(block)[-1]))
    assert str(table).splitlines()[0].split()[:2] == ["layer", "parameters"]


def test_an_estimate_prints_well() -> None:
    e = hesse.Estimate(12.3456, 0.04, 60, "by 45 probes")
    assert str(e) == "12.3456 ± 0.04 (standard error; 60 products, by 45 probes)"
    assert f"{e:.1f}" == "12.3 ± 0.0" and float(e) == 12.3456 and f"{e}" == str(e)
    assert f"{hesse.Estimate(2.0, exact=True, how='of the diagonal'):.1f}" == "2.0"
