"""Solutions held against dense algebra in float64: over networks and curvatures, and over spectra
that make a method fail, which it has to say."""

import contextlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse
import torch
from torch import Tensor

import hesse
from cases import CASES, cost_of
from hesse.errors import HesseFileError, HesseTypeError, HesseValueError
from hesse.linear_operators.given import MatrixOperator
from hesse.solves.preconditioners import WORDS, Asked, preconditioner_of
from hesse.solves.solve import METHODS
from reference import expected_hessian

SYMMETRIC = ("cg", "minres", "lsmr", "neumann")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# ---------------------------------------------------------------- networks and curvatures

NETWORKS = {
    case.name: case
    for case in CASES
    if case.name
    in {
        "dense tanh",
        "three layers",
        "residual",
        "conv1d stride padding",
        "layer norm",
        "rnn",
        "tied layers",
        "unused parameters",
        "cross entropy class weights",
        "ragged batches, weights and ignored",
        "penalty",
    }
}


@cache
def curved(name: str, curvature: str) -> Tensor:
    if curvature == "hessian":
        return expected_hessian(NETWORKS[name])
    return hesse.hessian(cost_of(NETWORKS[name]), curvature=curvature, certify=False).dense()


@pytest.mark.some(of=2)
@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, curvature: str) -> None:
    cost, C = cost_of(NETWORKS[name]), curved(name, curvature)
    P, values = len(C), torch.linalg.eigvalsh(C)
    b = drawn(P, 2)
    damping = float(1.1 * (-values[0]).clamp(min=0) + 0.05 * values[-1])
    expected = torch.linalg.solve(C + damping * identity(P), b)
    found = hesse.solve(cost, b, damping=damping, curvature=curvature)
    assert found.converged and found.method == "cholesky"
    assert relative(found.vector, expected) < 1e-9
    for method in SYMMETRIC:
        other = hesse.solve(C, b, damping=damping, method=method)
        assert other.converged, (method, other.reason)
        assert relative(other.vector, expected) < 1e-6
        left = ((C + damping * identity(P)) @ other.vector - b).norm(dim=0) / b.norm(dim=0)
        assert torch.allclose(other.residuals, left, rtol=1e-3, atol=1e-15)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_undamped(name: str) -> None:
    C = curved(name, "hessian")
    solvable = C @ drawn(len(C))
    found = hesse.solve(cost_of(NETWORKS[name]), solvable, tolerance=1e-7)
    assert found.converged and found.residual <= 1e-7
    assert relative(C @ found.vector, solvable) <= 2e-7


def test_an_operator_of_a_cost_with_every_preconditioner() -> None:
    cost = cost_of(NETWORKS["conv1d stride padding"])
    H, G = (
        curved("conv1d stride padding", "hessian"),
        curved("conv1d stride padding", "gauss_newton"),
    )
    b = drawn(len(H))
    damping = 0.02 * float(G.diagonal().max())
    A = hesse.operator(cost, curvature="gauss_newton", certify=False)
    expected = torch.linalg.solve(G + damping * identity(len(G)), b)
    for preconditioner in (None, *WORDS, hesse.inverse(G, damping=damping)):
        for method in ("cg", "minres"):
            found = hesse.solve(A, b, damping=damping, method=method, preconditioner=preconditioner)
            assert found.converged, found.reason
            assert relative(found.vector, expected) < 1e-5
    indefinite = hesse.solve(hesse.operator(cost, certify=False), H @ b, preconditioner="diagonal")
    assert indefinite.method == "minres" and indefinite.converged, indefinite.reason


def test_a_right_hand_side_of_every_kind() -> None:
    cost, C = cost_of(NETWORKS["penalty"]), curved("penalty", "gauss_newton")
    b = drawn(len(C), 3)
    settings: dict[str, Any] = {"damping": 0.1, "curvature": "gauss_newton"}
    expected = torch.linalg.solve(C + 0.1 * identity(len(C)), b)
    flat = hesse.solve(cost, b[:, 0], **settings).vector
    assert isinstance(flat, Tensor) and relative(flat, expected[:, 0]) < 1e-10
    for K in (0, 1, 3):
        several = hesse.solve(cost, b[:, :K], **settings)
        assert isinstance(several.vector, Tensor) and several.vector.shape == (len(C), K)
        assert torch.allclose(several.vector, expected[:, :K]) and len(several.residuals) == K
    parts = cost.layout.unflatten(b[:, 0])
    by_name = hesse.solve(cost, parts, **settings).vector
    assert isinstance(by_name, dict) and torch.equal(cost.layout.flatten(by_name), flat)
    listed = hesse.solve(cost, list(parts.values()), **settings).vector
    assert isinstance(listed, list) and torch.equal(listed[0], by_name[cost.layout.names[0]])


def test_parts_of_several_dtypes() -> None:
    parameters = {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.float64)}
    cost = hesse.Cost.from_function(
        lambda p: (p["a"].double() ** 4).sum() + (p["b"] ** 2).sum(), parameters
    )
    for what in (cost, hesse.operator(cost)):
        found = hesse.solve(what, parameters).vector
        assert isinstance(found, dict)
        assert {name: part.dtype for name, part in found.items()} == {
            "a": torch.float32,
            "b": torch.float64,
        }
        assert torch.allclose(found["a"], torch.full((2,), 1 / 12))
        assert torch.allclose(found["b"], torch.full((2,), 0.5).double())


# ---------------------------------------------------------------- spectra


def with_values(values: Tensor) -> Tensor:
    Q = torch.linalg.qr(drawn(len(values), len(values), seed=5)).Q
    A = Q * values.double() @ Q.T
    return (A + A.T) / 2


ten, zeros = torch.linspace(0.5, 20, 10), torch.zeros(5)
SPECTRA = {
    "definite": with_values(torch.logspace(-1, 1, 20)),
    "identity": identity(20),
    "few values": with_values(torch.cat([torch.ones(15), 3 * torch.ones(5)])),
    "one": torch.full((1, 1), 2.0).double(),
    "indefinite": with_values(torch.cat([-ten / 3, ten])),
    "one negative": with_values(torch.cat([-torch.ones(1), ten])),
    "negative": -with_values(ten),
    "singular": with_values(torch.cat([zeros, ten])),
    "singular and indefinite": with_values(torch.cat([-ten / 3, zeros, ten])),
    "zero": torch.zeros(4, 4).double(),
}
DEFINITE = ("definite", "identity", "few values", "one")


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("name", SPECTRA)
def test_what_is_said_is_so(name: str, method: str | None) -> None:
    A = SPECTRA[name]
    inside, across = A @ drawn(len(A)), drawn(len(A), seed=1)
    b = torch.stack([inside, across, 0 * across], dim=1)
    definite = name in DEFINITE
    if method == "cholesky" and not definite:
        with pytest.raises(
            HesseValueError, match=r"'cholesky': the matrix is not positive def.*min"
        ):
            hesse.solve(A, b, method=method)
        return
    negative = name in ("indefinite", "one negative", "negative", "singular and indefinite")
    if method == "neumann" and (negative or name == "zero"):
        with pytest.raises(HesseValueError, match="'neumann' needs positive eigenvalues"):
            hesse.solve(A, b, method=method)
        return
    found = hesse.solve(A, b, method=method, maxiter=3000)
    x = found.vector
    assert isinstance(x, Tensor) and not bool(x[:, 2].any()) and bool(x.isfinite().all())
    # The residual is what it is said to be, and so is whether it is small.
    sizes = b.norm(dim=0)
    left = (A @ x - b).norm(dim=0) / torch.where(sizes == 0, 1, sizes)
    assert torch.allclose(found.residuals, left, rtol=1e-2, atol=1e-15)
    assert found.residual == float(left.max()) or abs(found.residual - float(left.max())) < 1e-12
    if "converged" in found.reason and "column" not in found.reason:
        assert found.residual <= 1e-8
    shortest = torch.linalg.pinv(A, rtol=1e-10, hermitian=True) @ b if len(A) else b
    if definite or method in (None, "eigh", "minres", "lsmr"):
        assert found.converged, found.reason
        assert float((x - shortest).norm()) <= 1e-5 * (1e-3 + float(shortest.norm()))
        least = float(left.max()) > 1e-8
        assert ("a least-squares solution" in found.reason) == least
    else:
        assert not found.converged
        assert any(
            text in found.reason
            for text in ("negative curvature", "without curvature", "residual grew", "maxiter")
        ), found.reason


@pytest.mark.parametrize("method", [None, "eigh", "cg", "minres", "lsmr"])
def test_in_float32(method: str | None) -> None:
    A, b = SPECTRA["definite"].float(), drawn(20, 2).float()
    found = hesse.solve(A, b, method=method)
    exact = torch.linalg.solve(A.double(), b.double())
    assert isinstance(found.vector, Tensor) and found.vector.dtype == torch.float32
    assert relative(found.vector.double(), exact) < 1e-2
    assert found.converged and 1e-8 < found.residual < 1e-4
    assert "converged to rounding, float32 holds no smaller residual" in found.reason
    within = hesse.solve(A, b, method=method, tolerance=1e-4)
    assert within.converged and within.reason.endswith("within the tolerance")
    # What is too ill-conditioned is not called solved.
    ill = with_values(torch.logspace(-9, 0, 20)).float()
    lost = hesse.solve(ill, drawn(20).float(), method=method or "minres")
    assert lost.converged == ("a least-squares solution" in lost.reason) and lost.residual > 1e-4


def test_least_squares_of_any_shape() -> None:
    tall = drawn(12, 5)
    tall[:, 3] = tall[:, 1]
    for R in (tall, tall.T.contiguous(), drawn(6, 6)):
        b = drawn(len(R), 2)
        found = hesse.solve(R, b)
        assert found.method == "lsmr" and found.converged
        assert relative(found.vector, torch.linalg.pinv(R) @ b) < 1e-6
        sparse = hesse.solve(scipy.sparse.csr_array(R.numpy()), b)
        assert relative(sparse.vector, found.vector) < 1e-12
    nearly = SPECTRA["definite"] + 1e-14 * drawn(20, 20)
    assert hesse.solve(nearly, drawn(20)).method == "cholesky"
    damped = hesse.solve(drawn(6, 6), drawn(6), damping=0.3)
    expected = torch.linalg.solve(drawn(6, 6) + 0.3 * identity(6), drawn(6))
    assert relative(damped.vector, expected) < 1e-6


def test_what_has_a_closed_form_is_solved_by_it() -> None:
    U, b = drawn(20, 3), drawn(20, 2)
    A = hesse.LowRank(torch.tensor([5.0, 3.0, 1.0]).double(), U, 0.1)
    found = hesse.solve(A, b, damping=0.2)
    assert (found.method, found.products) == ("closed form", 2) and found.residual < 1e-13
    assert relative(found.vector, torch.linalg.solve(A.dense() + 0.2 * identity(20), b)) < 1e-12
    for method in METHODS[:4]:
        assert relative(hesse.solve(A, b, damping=0.2, method=method).vector, found.vector) < 1e-6


# ---------------------------------------------------------------- what it takes


def counted(A: Tensor) -> tuple[hesse.FunctionOperator, list[int]]:
    counts: list[int] = []

    def product(v: Tensor) -> Tensor:
        counts.append(v.shape[1])
        return A @ v

    layout = hesse.Layout(("x",), ((len(A),),))
    return (
        hesse.FunctionOperator(product, layout, transposed=product, dtype=A.dtype),
        counts,
    )


@pytest.mark.parametrize("method", SYMMETRIC)
def test_products_are_counted_and_solved_columns_left_out(method: str) -> None:
    A, counts = counted(SPECTRA["few values"])
    vectors = torch.linalg.eigh(SPECTRA["few values"]).eigenvectors
    b = torch.stack([vectors[:, 0], drawn(20), vectors[:, -1]], dim=1)
    found = hesse.solve(A, b, method=method)
    assert found.converged and found.products == sum(counts)
    # An eigenvector takes one step, and what has parts in two eigenspaces two.
    if method in ("cg", "minres"):
        assert counts == [3, 1, 3]


def test_one_column_is_solved_as_many_are() -> None:
    A, b = SPECTRA["indefinite"], drawn(20, 4)
    together = hesse.solve(A, b, method="minres")
    assert isinstance(together.vector, Tensor)
    for k in range(4):
        alone = hesse.solve(A, b[:, k], method="minres")
        assert relative(alone.vector, together.vector[:, k]) < 1e-7


def test_the_same_again_and_nothing_else_is_touched() -> None:
    A, b = SPECTRA["definite"].requires_grad_(), drawn(20, 2)
    before, state = b.clone(), torch.get_rng_state()
    for method in METHODS[:4]:
        first = hesse.solve(A, b, method=method).vector
        with torch.no_grad(), torch.autocast("cpu"):
            second = hesse.solve(A, b, method=method).vector
        assert torch.equal(first, second) and not first.requires_grad
        first.fill_(7.0)
    assert torch.equal(b, before) and torch.equal(state, torch.get_rng_state())
    SPECTRA["definite"].requires_grad_(False)


def test_maxiter_and_tolerance() -> None:
    A, counts = counted(SPECTRA["definite"])
    found = hesse.solve(A, drawn(20), method="cg", maxiter=3)
    assert not found.converged and found.reason == "stopped after maxiter=3 iterations"
    assert counts == [1] * 4
    loose = hesse.solve(A, drawn(20), method="cg", tolerance=0.5)
    tight = hesse.solve(A, drawn(20), method="cg", tolerance=1e-13)
    assert loose.residual <= 0.5 and loose.products < tight.products
    assert tight.converged and tight.residual <= 1e-13


def test_a_line_while_it_runs() -> None:
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        hesse.solve(SPECTRA["definite"], drawn(20), method="minres", progress=True)
    assert "minres: 1 iterations, residual" in shown.getvalue()


# ---------------------------------------------------------------- preconditioners


def test_preconditioners_of_a_matrix_save_products() -> None:
    layout = hesse.Layout(("a", "b"), ((10,), (10,)))
    scales = torch.logspace(0, 3, 20).double()
    A = MatrixOperator(scales[:, None] * SPECTRA["few values"] * scales, layout)
    b = drawn(20)
    for method in ("cg", "minres"):
        plain = hesse.solve(A, b, method=method)
        for word in ("diagonal", "block_diagonal"):
            better = hesse.solve(A, b, method=method, preconditioner=word)
            assert better.converged and better.products < plain.products / 2
    blocks = MatrixOperator(torch.block_diag(SPECTRA["definite"][:10, :10], identity(10)), layout)
    exact = hesse.solve(blocks, b, method="cg", preconditioner="block_diagonal")
    assert exact.converged and exact.products == 2
    inverse = hesse.inverse(SPECTRA["definite"])
    assert hesse.solve(SPECTRA["definite"], b, method="cg", preconditioner=inverse).products <= 4


@pytest.mark.parametrize("word", ["diagonal", "block_diagonal"])
def test_preconditioners_of_a_hessian_in_blocks(word: str, tmp_path: Path) -> None:
    layout, S, b = hesse.Layout(("a", "b"), ((10,), (10,))), SPECTRA["definite"], drawn(20)
    places = {name: layout.slice(name) for name in layout.names}
    pairs = [("a", "a"), ("a", "b"), ("b", "b")]
    blocks = hesse.BlockHessian(layout, blocks={(i, j): S[places[i], places[j]] for i, j in pairs})
    of_matrix = preconditioner_of(word, Asked(MatrixOperator(S, layout), 0.1, None))
    path = tmp_path / "h.zarr"
    blocks.save(path)
    stored = hesse.load(path)
    for H in (blocks, stored, hesse.as_operator(stored)):
        of_blocks = preconditioner_of(word, Asked(hesse.as_operator(H), 0.1, None))
        assert of_matrix and of_blocks and torch.equal(of_blocks.dense(), of_matrix.dense())
        found = hesse.solve(H, b, preconditioner=word, tolerance=1e-12)
        assert found.method == "minres" and found.converged
        assert relative(found.vector, torch.linalg.solve(S, b)) < 1e-10
    tile = next(part for part in (path / "a" / "b" / "c").rglob("*") if part.is_file())
    tile.write_bytes(bytes(byte ^ 1 for byte in tile.read_bytes()))
    with pytest.raises(HesseFileError, match=r"^load: .* of the block \('a', 'b'\) .* is damaged"):
        hesse.solve(hesse.load(path), b, preconditioner=word)


@pytest.mark.parametrize("word", ["diagonal", "block_diagonal"])
@pytest.mark.parametrize("name", ["indefinite", "singular", "zero"])
def test_preconditioners_of_what_is_not_definite(word: str, name: str) -> None:
    A = SPECTRA[name]
    found = hesse.solve(A, A @ drawn(len(A)), preconditioner=word)
    assert found.converged and found.method == "minres"


def test_a_preconditioner_that_is_not_definite() -> None:
    A = SPECTRA["definite"]
    for method in ("cg", "minres"):
        found = hesse.solve(
            A, drawn(20), method=method, preconditioner=MatrixOperator(SPECTRA["indefinite"])
        )
        assert not found.converged
        assert "the preconditioner M is not positive definite, rᵀMr = -" in found.reason


# ---------------------------------------------------------------- what is refused


A, b = SPECTRA["definite"], drawn(20)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "method": ({"method": "cgs"}, HesseValueError, "method: .* did you mean 'cg'"),
    "negative damping": ({"damping": -0.1}, HesseValueError, "damping: .* >= 0, got -0.1"),
    "no tolerance": ({"tolerance": 0.0}, HesseValueError, "tolerance: "),
    "no iterations": ({"maxiter": 0}, HesseValueError, "maxiter: expected a whole number >= 1"),
    "word": ({"preconditioner": "diag"}, HesseValueError, "preconditioner: .*'diagonal'"),
    "for lsmr": (
        {"method": "lsmr", "preconditioner": "diagonal"},
        HesseValueError,
        "preconditioner: 'lsmr' takes none; 'cg' and 'minres' do",
    ),
    "kfac of a matrix": (
        {"preconditioner": "kfac"},
        HesseValueError,
        "'kfac' is made of a cost's layers",
    ),
    "another size": (
        {"preconditioner": hesse.as_operator(identity(3))},
        HesseValueError,
        "preconditioner: expected a symmetric operator of 20 x 20 .*, got one of 3 x 3",
    ),
    "not symmetric": (
        {"preconditioner": hesse.as_operator(drawn(20, 20))},
        HesseValueError,
        "not known to be symmetric",
    ),
    "diagonal of a function": (
        {"what": counted(A)[0], "preconditioner": "diagonal"},
        HesseValueError,
        "'diagonal' is taken of a cost, of its operator or of a matrix, and this is a Function",
    ),
    "cg of what is not symmetric": (
        {"what": drawn(20, 20), "method": "cg"},
        HesseValueError,
        "'cg' needs a symmetric matrix, and this one, 20 x 20, is not; method='lsmr'",
    ),
    "minres of a tall one": (
        {"what": drawn(20, 3), "method": "minres"},
        HesseValueError,
        "'minres' needs a symmetric matrix, and this one, 20 x 3",
    ),
    "preconditioned but not symmetric": (
        {"what": drawn(20, 20), "preconditioner": hesse.as_operator(identity(20))},
        HesseValueError,
        "preconditioner: 'lsmr' takes none",
    ),
    "damping of a tall one": (
        {"what": drawn(20, 3), "damping": 1.0},
        HesseValueError,
        "damping: A . damping I needs a square A, got 20 x 3",
    ),
    "half": ({"what": A.half(), "b": b.half()}, HesseValueError, "expected float32 or float64"),
    "curvature of a matrix": ({"curvature": "hessian"}, HesseValueError, "curvature: "),
    "size": ({"b": b[:3]}, HesseValueError, r"b: expected shape \(20,\) or \(20, K\)"),
    "dtype": ({"b": b.float()}, HesseTypeError, "b: expected torch.float64"),
    "nan": ({"b": b / 0}, HesseValueError, "b: 20 of its 20 entries are not finite"),
    "a list of another length": ({"b": [b, b]}, HesseValueError, "b: expected 1 tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    arguments, kind, text = REFUSED[name]
    given = {"what": A, "b": b, **arguments}
    with pytest.raises(kind, match=text):
        hesse.solve(given.pop("what"), given.pop("b"), **given)


def test_products_that_are_not_finite() -> None:
    layout = hesse.Layout(("x",), ((3,),))

    def product(v: Tensor) -> Tensor:
        return v / 0

    broken = hesse.FunctionOperator(product, layout, transposed=product, dtype=torch.float64)
    for method in SYMMETRIC:
        with pytest.raises(HesseValueError, match="gave 3 entries that are not finite"):
            hesse.solve(broken, torch.ones(3).double(), method=method)
