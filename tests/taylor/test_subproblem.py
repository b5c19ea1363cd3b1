"""The trust-region and cubic subproblems: their optimality conditions, the hard case, SciPy's
solver, Krylov spaces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize._trustregion_exact import IterativeSubproblem
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.taylor.subproblem import spectral
from hesse.taylor.subproblem.krylov import KrylovSpace
from hesse.taylor.subproblem.space import FullSpace, ReducedModel, Solver, StepInSpace
from hesse.taylor.subproblem.spectral import Solution

TOLERANCE = 1e-8


def reflected(values: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with these eigenvalues and its eigenvectors: two reflections, known
    exactly."""
    random = torch.Generator().manual_seed(seed)
    vectors = torch.eye(len(values), dtype=torch.float64)
    for _ in range(2):
        u = torch.randn(len(values), generator=random, dtype=torch.float64)
        u /= u.norm()
        vectors -= 2 * torch.outer(vectors @ u, u)
    H = (vectors * values) @ vectors.T
    return (H + H.T) / 2, vectors


def by_radius(radius: float) -> Solver:
    return lambda reduced: spectral.trust_region(reduced.values, reduced.coefficients, radius)


def by_cubic(M: float) -> Solver:
    return lambda reduced: spectral.cubic(reduced.values, reduced.coefficients, M)


def exact(H: Tensor, g: Tensor) -> FullSpace:
    values, vectors = torch.linalg.eigh(H)
    return FullSpace(values, vectors, g)


def check(
    H: Tensor, g: Tensor, found: StepInSpace, lowest: float, radius: float | None, M: float | None
) -> None:
    """The optimality conditions, each relative to what it is made of."""
    s, multiplier, size = found.vector, found.multiplier, float(H.abs().max())
    norm = float(s.norm())
    residual = float((H @ s + multiplier * s + g).norm())
    assert residual <= TOLERANCE * max(float(g.norm()), size * norm)
    assert multiplier >= 0 and lowest + multiplier >= -TOLERANCE * size
    if radius is not None:
        assert norm <= radius * (1 + TOLERANCE)
        assert multiplier * abs(radius - norm) <= TOLERANCE * (size + multiplier) * radius
    if M is not None:
        assert abs(multiplier - M * norm / 2) <= TOLERANCE * max(multiplier, size)


SPECTRA = {
    "positive": torch.linspace(0.5, 4.0, 40),
    "indefinite": torch.linspace(-2.0, 4.0, 40),
    "negative": torch.linspace(-4.0, -0.5, 40),
    "flat": torch.cat([torch.zeros(30), torch.linspace(1.0, 2.0, 10)]),
    "lowest threefold": torch.cat([-torch.ones(3), torch.linspace(0.0, 2.0, 37)]),
    "wide": torch.cat([torch.tensor([-1e-6]), torch.logspace(-8, 6, 39)]),
    "zero": torch.zeros(40),
}
GRADIENTS = ["generic", "hard", "nearly hard", "zero", "small", "large"]


def problem(spectrum: str, kind: str) -> tuple[Tensor, Tensor, float]:
    values = SPECTRA[spectrum].double()
    H, vectors = reflected(values)
    part = torch.randn(len(values), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lowest = values <= values.min() + 1e-12
    part[lowest] *= {"hard": 0.0, "nearly hard": 1e-9}.get(kind, 1.0)
    scale = {"zero": 0.0, "small": 1e-7, "large": 1e7}.get(kind, 1.0)
    return H, vectors @ part * scale, float(values.min())


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_optimality_conditions(spectrum: str, kind: str) -> None:
    H, g, lowest = problem(spectrum, kind)
    for bound in (1e-3, 1.0, 1e3):
        check(H, g, exact(H, g).solve(by_radius(bound)), lowest, bound, None)
        check(H, g, exact(H, g).solve(by_cubic(bound)), lowest, None, bound)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1000, pytest.param(2000, marks=pytest.mark.whole)])
def test_optimality_conditions_at_thousands(rows: int) -> None:
    H, vectors = reflected(torch.linspace(-2.0, 50.0, rows, dtype=torch.float64))
    part = torch.randn(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found_values, found_vectors = torch.linalg.eigh(H)
    for hard in (False, True):
        part[0] *= not hard
        g = vectors @ part
        space = FullSpace(found_values, found_vectors, g)
        for bound in (1.0, 1e4):
            found = space.solve(by_radius(bound))
            check(H, g, found, -2.0, bound, None)
            assert (found.reason == spectral.HARD) == (hard and bound == 1e4)
            check(H, g, space.solve(by_cubic(1 / bound)), -2.0, None, 1 / bound)


@pytest.mark.parametrize(
    "kind", [kind for kind in GRADIENTS if kind != "zero"]
)  # SciPy divides by ‖g‖
@pytest.mark.parametrize("spectrum", ["positive", "indefinite", "negative", "lowest threefold"])
@pytest.mark.parametrize("radius", [0.1, 1.0, 20.0])
def test_no_worse_than_scipy(spectrum: str, kind: str, radius: float) -> None:
    H, g, _ = problem(spectrum, kind)
    theirs = IterativeSubproblem(
        np.zeros(len(g)),
        lambda x: 0.0,
        lambda x: g.numpy(),
        lambda x: H.numpy(),
        k_easy=1e-10,
        k_hard=1e-10,
    ).solve(radius)[0]
    ours = exact(H, g).solve(by_radius(radius))

    def model(s: Tensor) -> float:
        return float(g @ s + s @ (H @ s) / 2)

    assert model(ours.vector) == pytest.approx(ours.slope + ours.bend / 2, rel=1e-9)
    step = torch.tensor(theirs)
    step *= min(1.0, radius / float(step.norm()))  # SciPy's may be longer by its tolerance
    assert model(ours.vector) <= model(step) + 1e-9 * abs(model(step))
    if (
        kind in ("generic", "large") and spectrum != "lowest threefold"
    ):  # elsewhere SciPy stops short of the eigenvector
        assert model(ours.vector) == pytest.approx(model(step), rel=1e-8)


numbers = st.floats(-1e3, 1e3).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8)


@settings(deadline=None, max_examples=200)
@given(pairs, st.floats(1e-4, 1e4))
def test_no_point_is_lower(pairs: list[tuple[float, float]], bound: float) -> None:
    values, g = (np.array(column) for column in zip(*pairs, strict=True))
    random = np.random.default_rng(0)

    def model(s: np.ndarray) -> np.ndarray:
        return s @ g + s**2 @ values / 2

    inside = spectral.trust_region(values, g, bound).coefficients
    norm = np.linalg.norm(inside)
    assert norm <= bound * (1 + 1e-9)
    points = random.normal(size=(200, len(g)))
    points *= bound * random.random((200, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    slack = 1e-9 * (np.abs(g) @ np.abs(inside) + np.abs(values) @ inside**2)
    assert model(inside) <= min(model(points).min(), 0.0) + slack

    step = spectral.cubic(values, g, bound)
    size = np.linalg.norm(step.coefficients)
    assert step.multiplier == pytest.approx(
        bound * size / 2, rel=1e-9, abs=1e-9 * np.abs(values).max()
    )
    points *= 2 * size / bound
    cubes = bound / 6 * np.linalg.norm(points, axis=1) ** 3
    slack = 1e-9 * (np.abs(g) @ np.abs(step.coefficients) + np.abs(values) @ step.coefficients**2)
    assert (
        model(step.coefficients) + bound / 6 * size**3
        <= min((model(points) + cubes).min(), 0.0) + slack
    )


def test_the_reason_names_the_case() -> None:
    reasons = {
        spectral.INSIDE: ([1.0, 2.0], [1.0, 1.0], 10.0),
        spectral.BOUNDARY: ([1.0, 2.0], [1.0, 1.0], 0.1),
        spectral.HARD: ([-1.0, 2.0], [0.0, 1.0], 10.0),
        spectral.VALLEY: ([0.0, 2.0], [0.0, 1.0], 10.0),
        spectral.AT_REST: ([0.0, 2.0], [0.0, 0.0], 10.0),
    }
    for reason, (values, g, radius) in reasons.items():
        assert spectral.trust_region(np.array(values), np.array(g), radius).reason == reason


# ---------------------------------------------------------------- Krylov spaces


@pytest.mark.parametrize("solver", [by_radius(1.0), by_radius(100.0), by_cubic(0.1)])
@pytest.mark.parametrize("kind", ["generic", "zero"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_full_krylov_space_is_the_whole(spectrum: str, kind: str, solver: Solver) -> None:
    H, g, _ = problem(spectrum, kind)
    whole, krylov = exact(H, g).solve(solver), KrylovSpace(H.__matmul__, g, len(g)).solve(solver)
    fallen = [found.slope + found.bend / 2 for found in (whole, krylov)]
    s = krylov.vector
    rounding = 1e-14 * float(H.abs().max() * s.norm() ** 2)
    assert fallen[1] == pytest.approx(fallen[0], rel=1e-6, abs=rounding)
    assert float(g @ s + s @ (H @ s) / 2) == pytest.approx(fallen[1], rel=1e-6, abs=rounding)


def test_fewer_products_are_a_subspace_and_larger_spaces_are_better() -> None:
    H, g, _ = problem("indefinite", "generic")
    space = [KrylovSpace(H.__matmul__, g, limit) for limit in (1, 3, 6, 12, 24)]
    found = [krylov.solve(by_radius(5.0)) for krylov in space]
    fallen = [-(f.slope + f.bend / 2) for f in found]
    assert [krylov.products for krylov in space] == [1, 3, 6, 12, 24]
    assert fallen == sorted(fallen) and fallen[0] > 0
    # The first space is the line along g: Cauchy's point.
    assert torch.allclose(found[0].vector / found[0].vector.norm(), -g / g.norm())


def test_the_residual_that_is_reported_is_the_true_one() -> None:
    H, g, _ = problem("positive", "generic")
    found = KrylovSpace(H.__matmul__, g, 6).solve(by_radius(0.7))
    true = float((H @ found.vector + found.multiplier * found.vector + g).norm() / g.norm())
    assert f"6 products, residual {true:.1e} of g" in found.reason


@pytest.mark.parametrize("seed", range(12))
def test_what_is_at_right_angles_to_the_gradient_is_seen(seed: int) -> None:
    """Where the space is so small that all of it may be spanned: H with one, two or no lowest
    directions that g has no part of. A larger space says what it has not seen."""
    random = torch.Generator().manual_seed(seed)
    P, few = (3, 8, 20)[seed % 3], 1 + seed % 2
    basis = torch.linalg.qr(torch.randn(P, P, generator=random, dtype=torch.float64))[0]
    values = torch.randn(P, generator=random, dtype=torch.float64).sort().values
    values[:few] = values[0] if seed % 4 else -100.0
    along = torch.randn(P, generator=random, dtype=torch.float64)
    along[:few] = 0.0
    H, g = basis @ values.diag() @ basis.T, basis @ along
    H = (H + H.T) / 2
    for radius in (0.01, 1.0, 50.0):
        whole = exact(H, g).solve(by_radius(radius))
        krylov = KrylovSpace(H.__matmul__, g, P, whole=True).solve(by_radius(radius))
        fallen = [found.slope + found.bend / 2 for found in (whole, krylov)]
        assert fallen[1] == pytest.approx(fallen[0], rel=1e-6)
    part = KrylovSpace(H.__matmul__, g, P - 1, whole=True).solve(by_radius(1.0))
    assert part.reason.endswith("how H curves at right angles to it was not seen")


def test_products_are_counted_shared_and_stop_at_convergence() -> None:
    H, g, _ = problem("positive", "generic")
    count = 0

    def product(v: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return H @ v

    krylov = KrylovSpace(product, g, 40)
    krylov.solve(by_radius(0.01))
    few = count
    krylov.solve(by_radius(0.01))
    assert count == few < 15
    krylov.solve(by_radius(100.0))
    assert few < count == krylov.products < 40


def test_the_basis_stays_orthogonal_where_lanczos_alone_loses_it() -> None:
    values = torch.cat(
        [torch.linspace(0, 1, 59, dtype=torch.float64), torch.tensor([1e6], dtype=torch.float64)]
    )
    H, _ = reflected(values)
    g = torch.ones(60, dtype=torch.float64)
    krylov = KrylovSpace(H.__matmul__, torch.zeros(60, dtype=torch.float64), 60, start=g)

    def only_whole(reduced: ReducedModel) -> Solution:
        if not reduced.is_full_space:
            raise HesseValueError("the space grows to its limit before a refusal counts")
        return Solution(0 * reduced.values, 0.0, "")

    found = krylov.solve(only_whole)
    assert krylov.products == 60
    assert np.allclose(np.sort(found.reduced.values), values.numpy(), atol=1e-8)


def test_a_long_float32_vector_does_not_widen_what_counts_as_zero() -> None:
    size = 300_000
    values, g = torch.linspace(-0.4, 5.0, size), torch.ones(size) / 100
    found = KrylovSpace(lambda v: values * v, g, 60).solve(
        lambda r: Solution(spectral.damped(r.values, r.coefficients, 0.6), 0.6, "")
    )
    assert torch.allclose(found.vector, -g / (values + 0.6), rtol=3e-2)
    assert found.reduced.tolerance < 1e-3 and found.reduced.values.min() < -0.35


def test_an_exhausted_space_goes_on_from_elsewhere() -> None:
    H, g = (
        torch.diag(torch.tensor([1.0, -1.0, 3.0]).double()),
        torch.tensor([1.0, 0.0, 0.0]).double(),
    )
    found = KrylovSpace(H.__matmul__, g, 3).solve(by_radius(2.0))
    assert found.reason.startswith(spectral.HARD) and found.multiplier == pytest.approx(1.0)
    assert found.vector.abs().tolist() == pytest.approx([0.5, 15**0.5 / 2, 0.0], abs=1e-9)


def test_counts() -> None:
    assert ReducedModel(np.array([-1.0, 0.0, 0.0, 2.0]), np.zeros(4), 1e-12, True).counts == (
        1,
        2,
        1,
    )
