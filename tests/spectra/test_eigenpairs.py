"""Eigenpairs by products against LAPACK, and against spectra that are known."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import hesse
from hesse.spectra import eigenpair_search
from hesse.spectra.lanczos import Which, wanted
from hesse.spectra.rows import Rows
from operators_of_spectra import by_products, diagonal, turned

F64 = torch.float64
FALLING = 1 / (1 + torch.arange(5000, dtype=F64))
FAR = torch.linspace(0, 1, 200, dtype=F64)
SPECTRA = {
    "decaying": 1 / (1 + torch.arange(200, dtype=F64)),
    "indefinite": torch.cat([FAR[:100] ** 4, -0.5 * FAR[:100] ** 6]),
    "negative": -1 / (1 + torch.arange(200, dtype=F64)),
    "repeated": torch.cat([torch.tensor([5.0, 5, 5, 4, 4, -3, -3, -3], dtype=F64), FAR[:192] ** 6]),
    "zeros": torch.zeros(200, dtype=F64),
    "of rank three": torch.cat([torch.tensor([5.0, 4, -3], dtype=F64), torch.zeros(197).double()]),
    "one": torch.ones(200, dtype=F64),
    "huge": 1e200 / (1 + torch.arange(200, dtype=F64)),
    "tiny": 1e-200 / (1 + torch.arange(200, dtype=F64)),
}


@pytest.mark.some(of=2)
@pytest.mark.parametrize("which", get_args(Which))
@pytest.mark.parametrize("name", SPECTRA)
def test_of_a_known_spectrum(name: str, which: Which) -> None:
    values, scale = SPECTRA[name], float(SPECTRA[name].abs().max()) or 1.0
    A = turned(values / scale) * scale
    for k in (1, 5):
        found = hesse.eigenpairs(by_products(A), k, which)
        assert isinstance(found, hesse.Eigenpairs) and found.converged
        exact = values.sort().values[wanted(values.sort().values, k, which)]
        if which == "magnitude":  # of both signs either may come first
            assert torch.allclose(found.values.abs() / scale, exact.abs() / scale, atol=1e-9)
        else:
            assert torch.allclose(found.values / scale, exact / scale, atol=1e-9)
        check(found, A, scale)


def check(found: hesse.Eigenpairs, A: Tensor, scale: float) -> None:
    """What it says of itself is so."""
    V = found.vectors
    assert torch.allclose(V.T @ V, torch.eye(len(found), dtype=V.dtype), atol=1e-12)
    residuals = ((A / scale) @ V - V * (found.values / scale)).norm(dim=0)
    assert torch.allclose(found.residuals / scale, residuals, atol=1e-14)
    assert float(residuals.max()) <= 1e-8


def networks(count: int) -> list[hesse.Cost]:
    """Small networks of several kinds, at random points."""
    costs = []
    for seed in range(count):
        torch.manual_seed(seed)
        width = 3 + seed % 4
        layers: list[torch.nn.Module] = [torch.nn.Linear(4, width), torch.nn.Tanh()]
        if seed % 3:
            layers += [torch.nn.Linear(width, width), (torch.nn.ReLU, torch.nn.Sigmoid)[seed % 2]()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(width, 3)).double()
        X, y = torch.randn(9, 4, dtype=F64), torch.randint(3, (9,))
        targets = y if seed % 2 else torch.randn(9, 3, dtype=F64)
        costs.append(hesse.Cost(model, "cross_entropy" if seed % 2 else "mse", (X, targets)))
    return costs


def double_backward(cost: hesse.Cost) -> Tensor:
    """The Hessian without a trace, which takes the time."""
    (batch,) = cost.batches()
    return torch.func.hessian(lambda theta: cost.batch_cost(cost.layout.unflatten(theta), batch))(
        cost.theta
    )


@pytest.fixture
def by_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No matrix is built, as if it were large."""
    monkeypatch.setattr("hesse.spectra.subject._PRODUCTS", 0)
    monkeypatch.setattr("hesse.spectra.subject.ROWS", 0)


def test_thirty_networks_against_lapack(by_products_alone: None) -> None:
    for place, cost in enumerate(networks(30)):
        which = get_args(Which)[place % 4]
        H = double_backward(cost)
        values = torch.linalg.eigvalsh(H)
        found = hesse.eigenpairs(by_products(H), 4, which)
        assert isinstance(found, hesse.Eigenpairs) and found.how == "by Lanczos' method"
        exact = values[wanted(values, 4, which)]
        assert torch.allclose(
            found.values.abs(), exact.abs(), atol=1e-9 * float(values.abs().max())
        )
        check(found, H, float(values.abs().max()))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_of_a_small_one(size: int, by_products_alone: None) -> None:
    A = turned(torch.linspace(-1, 1, size, dtype=F64))
    found = hesse.eigenpairs(by_products(A), size, "largest")
    assert torch.allclose(found.values, torch.linalg.eigvalsh(A).flip(0), atol=1e-12)


def test_rows_of_zeros_take_no_memory() -> None:
    values = torch.zeros(5000, dtype=F64)
    values[::10] = torch.linspace(-1, 2, 500, dtype=F64)
    A = diagonal(values)
    # For 40 whole vectors there would not be the room.
    found = hesse.eigenpairs(A, 5, "largest", memory=20 * 5000 * 8)
    assert found.vectors.shape == (5000, 5) and found._vectors.shape[1] < 600
    assert torch.allclose(found.values, values.sort(descending=True).values[:5], atol=1e-8)
    assert torch.allclose(A @ found.vectors, found.vectors * found.values, atol=1e-7)
    zero = torch.cat([values[:5] - 1, torch.zeros(4995, dtype=F64)])
    assert hesse.eigenpairs(diagonal(zero), 3, "largest").values.abs().max() <= 1e-15


def test_many_stretches_of_zeros() -> None:
    """Of more than are kept apart the longest are."""
    product = torch.zeros(100_000)
    product[torch.arange(0, 50_000, 5)] = 1.0
    product[80_000:80_010] = 2.0
    rows = Rows.of_product(product, 3)
    assert rows is not None and len(rows.stretches) <= 4000
    assert rows.stretches[-1] == (80_000, 80_010) and rows.stretches[-2][1] < 50_000
    assert torch.equal(rows.laid(rows.taken(product)[None])[0], product)


def test_it_goes_on_where_it_ended() -> None:
    A = by_products(turned(SPECTRA["indefinite"]))
    whole = hesse.eigenpairs(A, 6)
    first = hesse.eigenpairs(A, 6, products=25)
    assert not first.converged and "start=" in str(first)
    second = hesse.eigenpairs(A, 6, start=first)
    assert second.converged and torch.allclose(second.values, whole.values, atol=1e-9)
    assert second.products < whole.products
    # What is found already is seen to be.
    assert hesse.eigenpairs(A, 6, start=second).products <= 2 * 6 + 6
    near = by_products(turned(SPECTRA["indefinite"]) + 1e-6 * torch.eye(200, dtype=F64))
    assert hesse.eigenpairs(near, 6, start=second.vectors).products < whole.products


def test_little_memory_takes_more_products() -> None:
    A = by_products(turned(SPECTRA["indefinite"]))
    roomy = hesse.eigenpairs(A, 4)
    tight = hesse.eigenpairs(A, 4, memory=14 * 200 * 8)
    assert torch.allclose(tight.values, roomy.values, atol=1e-8) and tight.converged
    assert tight.products > roomy.products
    with pytest.raises(hesse.HesseError, match=r"memory: 4 eigenpairs take 11 vectors of 1\.6 kB"):
        hesse.eigenpairs(A, 4, memory=5 * 200 * 8)


def test_no_more_products_than_eigsh() -> None:
    from scipy.sparse.linalg import eigsh

    d = torch.cat([torch.linspace(0, 1, 3000, dtype=F64) ** 3, torch.tensor([1.5, 3]).double()])
    count = 0

    def product(v: Tensor) -> Tensor:
        nonlocal count
        count += v.shape[1]
        return d.unsqueeze(1) * v

    layout = hesse.Layout(("x",), ((len(d),),))
    A = hesse.FunctionOperator(product, layout, transposed=product, dtype=F64)
    options: dict[str, Any] = {"which": "LA", "tol": 1e-8}
    eigsh(A.to_scipy(), k=10, **options)
    assert hesse.eigenpairs(diagonal(d), 10).products <= count


@pytest.mark.parametrize(("values", "most"), [(FALLING, 62), (FALLING.sqrt(), 77)])
def test_products_of_twenty(values: Tensor, most: int) -> None:
    found = hesse.eigenpairs(diagonal(values), 20)
    assert found.converged and found.products <= most
    assert torch.allclose(found.values, values[:20], atol=1e-12)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("times", [2, 4])
def test_what_is_there_several_times(place: int, times: int) -> None:
    values = FALLING[:1000]
    values = torch.cat([values[:place], values[place].repeat(times), values[place + 1 :]])
    found = hesse.eigenpairs(diagonal(values), 6)
    assert torch.allclose(found.values, values[:6], atol=1e-12)
    V = found.vectors
    assert float((values.unsqueeze(1) * V - V * found.values).norm(dim=0).max()) <= 1e-8


def test_the_same_seed_gives_the_same_and_nothing_is_disturbed() -> None:
    A = by_products(turned(SPECTRA["decaying"]))
    before = torch.get_rng_state()
    first, second, third = (hesse.eigenpairs(A, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.vectors, second.vectors)
    assert not torch.equal(first.vectors, third.vectors)
    assert torch.equal(torch.get_rng_state(), before)


def test_float32_says_what_rounding_decides() -> None:
    found = hesse.eigenpairs(by_products(turned(SPECTRA["decaying"]).float()), 3)
    assert found.converged and found.values.dtype == torch.float32
    assert torch.allclose(found.values, torch.tensor([1, 1 / 2, 1 / 3]), atol=1e-5)
    assert "rounding, in products of float32; float64 decides more" in str(found)


@pytest.mark.parametrize("by", ["parameter", "layer"])
def test_by_part(by: str) -> None:
    cost = networks(2)[1]
    H = hesse.hessian(cost)
    found = hesse.eigenpairs(cost, 2, by=by)
    groups = cost.layout.layers if by == "layer" else {name: (name,) for name in cost.layout.names}
    assert isinstance(found, dict) and list(found) == list(groups)
    for name, names in groups.items():
        block = torch.cat([torch.cat([H.flat(a, b) for b in names], 1) for a in names])
        exact = torch.linalg.eigvalsh(block).flip(0)[:2]
        assert torch.allclose(found[name].values, exact, atol=1e-9)
        assert [*found[name].vector(0)] == [*names]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (torch.tensor([[0.0, 1], [2, 0]]), "symmetric matrix, got one whose entries differ"),
        (torch.ones(2, 3), "symmetric matrix, got one 2 x 3"),
        (torch.eye(2) * 1j, "real numbers"),
        (torch.tensor([[float("nan")]]), "not finite"),
        (
            hesse.FunctionOperator(
                lambda v: torch.stack([v[1], 2 * v[0]]),
                hesse.Layout(("x",), ((2,),)),
            ),
            "uᵀ A v is not vᵀ A u",
        ),
    ],
)
def test_what_is_no_symmetric_matrix(what: object, said: str) -> None:
    with pytest.raises(hesse.HesseError, match=said):
        hesse.eigenpairs(what)


def test_products_that_are_not_finite() -> None:
    layout = hesse.Layout(("x",), ((200,),))

    def product(v: Tensor) -> Tensor:
        return v / 0

    A = hesse.FunctionOperator(product, layout, transposed=product)
    with pytest.raises(hesse.HesseError, match="entries that are not finite"):
        hesse.eigenpairs(A)


def test_a_matrix_symmetric_to_rounding_and_scipys() -> None:
    import scipy.sparse

    X = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    G = X.T @ X
    G[0, 1] *= 1 + 1e-6
    assert torch.allclose(hesse.eigenpairs(G).values, torch.linalg.eigvalsh(G)[-1:])
    A = scipy.sparse.diags([1.0, 5.0, 3.0])
    assert hesse.eigenpairs(A, 2).values.tolist() == pytest.approx([5, 3])


def test_more_than_there_are() -> None:
    with pytest.raises(hesse.HesseError, match="k: expected at most 2 eigenpairs, got 3"):
        hesse.eigenpairs(torch.eye(2), 3)
    with pytest.raises(hesse.HesseError, match="'gauss_newton' can be asked for of a cost"):
        hesse.eigenpairs(torch.eye(2), curvature="gauss_newton")


def test_what_rounding_hid_from_the_search_is_not_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = eigenpair_search._held_against

    def worse(*given: Any) -> Any:
        values, residuals = held(*given)
        return values, residuals + 0.01

    monkeypatch.setattr(eigenpair_search, "_held_against", worse)
    found = hesse.eigenpairs(diagonal(torch.linspace(0, 1, 3000)), 2)
    assert not found.converged and "rounding hid" in found.notes[0]


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("which", get_args(Which))
def test_few_eigenvalues_each_many_times(which: Which, dtype: torch.dtype) -> None:
    """After as many products as there are different ones a space is full, and what later products
    leave over is next to nothing."""
    rounded = 1e-11 if dtype is F64 else 1e-5
    tolerance = 1e-8 if dtype is F64 else 1e-5
    for seed, (most, *others) in enumerate([(0, -1), (1, 2), (0, 3, -1), (5,), (0, 1, 2, 4)]):
        for few in (1, 3, 7, 1500):
            torch.manual_seed(seed)
            rarer = torch.tensor(others or [most], dtype=dtype)
            values = torch.full((3000,), float(most), dtype=dtype)
            values[:few] = rarer[torch.arange(few) % len(rarer)]
            values = values[torch.randperm(3000)]
            found = hesse.eigenpairs(diagonal(values), 4, which, tolerance=tolerance)
            exact = values.sort().values[wanted(values.sort().values, 4, which)]
            V = found.vectors
            assert torch.allclose(V.T @ V, torch.eye(4, dtype=dtype), atol=rounded)
            assert found.products < 60
            left = (values.unsqueeze(1) * V - V * found.values).norm(dim=0)
            # What float32 rounds may be more than was asked for, and is said.
            assert bool((left <= 3 * found.residuals + rounded).all())
            if dtype is F64:
                assert found.converged and float(left.max()) <= 5 * tolerance
            off = (
                (found.values.abs() - exact.abs()) if which == "magnitude" else found.values - exact
            )
            assert float(off.abs().max()) <= 10 * tolerance


def test_no_copy_of_an_eigenvalue_is_missed() -> None:
    for seed in range(60):
        torch.manual_seed(seed)
        few, k = int(torch.randint(1, 60, ())), int(torch.randint(1, 8, ()))
        some = torch.randint(-4, 5, (int(torch.randint(1, 7, ())),)).double()
        values = torch.full((3000,), float(some[0]) if seed % 2 else 0.0, dtype=F64)
        values[:few] = some[torch.arange(few) % len(some)]
        found = hesse.eigenpairs(diagonal(values[torch.randperm(3000)]), k)
        assert found.converged
        assert torch.allclose(found.values, values.sort(descending=True).values[:k], atol=1e-7)
