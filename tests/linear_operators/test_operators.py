"""What is special to a kind of operator, and what is refused."""

import fractions
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator as ScipyOperator

import hesse
from hesse.errors import HesseKeyError, HesseMemoryError, HesseTypeError, HesseValueError
from hesse.linear_operators import algebra
from hesse.linear_operators.given import MatrixOperator
from linear_operators.operators import (
    ENTRIES,
    LOW_RANK,
    LOW_RANK_DENSE,
    PARTS,
    RECTANGULAR,
    ROWS,
    SYMMETRIC,
    VALUES,
    VECTORS,
    P,
    R,
    S,
    cost,
    drawn,
)

# ---------------------------------------------------------------- algebra


@pytest.mark.parametrize(
    "factor",
    [2, 2.0, np.float64(2), np.float32(2), np.int64(2), fractions.Fraction(2), torch.tensor(2.0)],
    ids=lambda factor: type(factor).__name__,
)
def test_numbers_of_every_kind(factor: Any) -> None:
    v = drawn(P)
    for found in (factor * RECTANGULAR, RECTANGULAR * factor):
        assert torch.allclose(found @ v, 2 * R @ v)
    assert torch.allclose((RECTANGULAR / factor) @ v, R @ v / 2)
    assert torch.allclose(SYMMETRIC.damped(factor) @ v, S @ v + 2 * v)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a number added": (lambda: SYMMETRIC + 0.1, HesseTypeError, r"A.damped\(0.1\)"),
    "a number before it": (lambda: 0.1 + SYMMETRIC, HesseTypeError, r"A.damped\(0.1\)"),
    "a number less it": (lambda: 1 - SYMMETRIC, HesseTypeError, r"A.damped\(1\)"),
    "a matrix added": (lambda: SYMMETRIC + S, HesseTypeError, "got Tensor; hesse.as_operator"),
    "a matrix before it": (lambda: S + SYMMETRIC, HesseTypeError, "got Tensor; hesse.as_operator"),
    "an array before it": (lambda: S.numpy() + SYMMETRIC, HesseTypeError, "got ndarray"),
    "an array times it": (lambda: S.numpy() @ SYMMETRIC, HesseTypeError, "torch.from_numpy"),
    "other parts": (
        lambda: SYMMETRIC + RECTANGULAR,
        HesseValueError,
        r"A \+ B: .*'a.w', 'a.b', 's', ... \(11 entries\) of A and 'u', 'v' \(7 entries\) of B",
    ),
    "other names": (
        lambda: SYMMETRIC + hesse.DiagonalOperator({"w": ENTRIES}),
        HesseValueError,
        "'w'",
    ),
    "parts that do not meet": (lambda: RECTANGULAR @ RECTANGULAR, HesseValueError, "A @ B: "),
    "another dtype": (lambda: RECTANGULAR + hesse.as_operator(R.float()), HesseValueError, "dtype"),
    "a factor that is no number": (lambda: SYMMETRIC * "2", HesseTypeError, "expected a number"),
    "a factor that is true": (lambda: SYMMETRIC * True, HesseTypeError, "expected a number"),
    "a complex factor": (lambda: SYMMETRIC * 2j, HesseTypeError, "expected a number"),
    "a vector as factor": (lambda: SYMMETRIC * drawn(P), HesseTypeError, "expected a number"),
    "nan times": (lambda: SYMMETRIC * float("nan"), HesseValueError, "finite number, got nan"),
    "a number beyond all": (
        lambda: SYMMETRIC * 10**400,
        HesseValueError,
        "finite number, got 1000",
    ),
    "divided by zero": (lambda: SYMMETRIC / 0, HesseValueError, "not zero, got 0"),
    "damped by nan": (lambda: SYMMETRIC.damped(float("nan")), HesseValueError, "damping"),
    "a name that is not there": (lambda: SYMMETRIC["a.x"], HesseKeyError, "'a.w'"),
    "three names": (lambda: SYMMETRIC["a.w", "a.b", "s"], HesseTypeError, "the square block of"),
    "by nothing known": (lambda: SYMMETRIC.block_diagonal("name"), HesseValueError, "by: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    call, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call()


def test_what_is_named_and_what_is_not_go_together() -> None:
    nameless = hesse.as_operator(S)
    for total in (SYMMETRIC + nameless, nameless + SYMMETRIC):
        assert total.rows == PARTS and total.is_symmetric
    assert (nameless @ SYMMETRIC).columns == PARTS
    assert (nameless @ nameless).rows.names == ("x",)


def test_a_composition_says_what_it_is_of() -> None:
    assert str(RECTANGULAR.T) == "Transposed(11 x 7, float64)"
    said = " ".join(repr(RECTANGULAR.T).split())
    assert "is Aᵀ A MatrixOperator(7 x 11, float64)" in said


def test_blocks_are_taken_apart_however_many_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    V = drawn(P, 2)
    expected = SYMMETRIC.block_diagonal() @ V
    for entries in (1, 2 * 2 * P):
        monkeypatch.setattr(algebra, "ENTRIES", entries)
        assert torch.equal(SYMMETRIC.block_diagonal() @ V, expected)


def test_parts_of_several_dtypes_stay_what_they_are() -> None:
    parameters = {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.float64)}
    H = hesse.operator(
        hesse.Cost.from_function(lambda p: (p["a"].double() * p["b"]).sum() ** 2, parameters)
    )
    expected = {"a": torch.float32, "b": torch.float64}
    for A in (2 * H, H.damped(1.0), H + H, H @ H, H.block_diagonal(), H[["a", "b"]], H.T, H):
        assert {name: part.dtype for name, part in (A @ parameters).items()} == expected
    assert [part.dtype for part in H["a"] @ [parameters["a"]]] == [torch.float32]


def test_a_dense_matrix_that_does_not_fit() -> None:
    huge = hesse.Layout(("w",), ((10**7,),))
    with pytest.raises(HesseMemoryError, match="10000000 x 10000000"):
        hesse.FunctionOperator(lambda v: v, huge).dense()


# ---------------------------------------------------------------- a product of one's own


def test_a_function_may_write_over_what_it_gets_and_keep_what_it_gives() -> None:
    kept = torch.ones(P, 1, dtype=torch.float64)
    settings: dict[str, Any] = {"dtype": torch.float64}
    written = hesse.FunctionOperator(lambda v: v.mul_(2), PARTS, **settings)
    same = hesse.FunctionOperator(lambda v: kept, PARTS, **settings)
    v = drawn(P)
    before = v.clone()
    assert torch.equal(written @ v, 2 * before) and torch.equal(v, before)
    (same @ v).fill_(7.0)
    assert torch.equal(kept, torch.ones_like(kept))
    assert torch.equal(((2 * same) + same) @ v, torch.full((P,), 3.0).double())


@pytest.mark.parametrize(
    ("product", "text"),
    [
        (lambda v: v[:3], r"product: expected a tensor of shape \(11, 1\) .* got \(3, 1\)"),
        (lambda v: v.numpy(), "product: expected a tensor of shape .* got ndarray"),
        (lambda v: None, "got NoneType"),
        (lambda v: v @ v, "product: failed with RuntimeError"),
        (lambda v: 1 / 0, "product: failed with ZeroDivisionError"),
    ],
)
def test_a_function_that_is_none(product: Any, text: str) -> None:
    with pytest.raises(HesseValueError, match=text):
        _ = hesse.FunctionOperator(product, PARTS) @ torch.ones(P)


def test_an_error_of_hesse_within_a_function_stays_what_it_is() -> None:
    def product(v: torch.Tensor) -> torch.Tensor:
        return SYMMETRIC["a.x"] @ v

    with pytest.raises(HesseKeyError, match=r"^no parameter is named 'a.x'"):
        _ = hesse.FunctionOperator(product, PARTS) @ torch.ones(P)


def test_without_a_transpose() -> None:
    A = hesse.FunctionOperator(lambda v: v, PARTS)
    for product in (lambda: torch.ones(P) @ A, lambda: A.T @ torch.ones(P)):
        with pytest.raises(HesseValueError, match="has no transpose: give transposed="):
            product()
    assert not A.is_symmetric


# ---------------------------------------------------------------- what can be an operator


def test_arrays_in_every_order_of_memory() -> None:
    array = R.numpy()
    frozen = array.copy()
    frozen.setflags(write=False)
    for given in (
        array.T.copy().T,
        array[::-1][::-1],
        array.astype(">f8"),
        frozen,
    ):
        A = hesse.as_operator(given)
        assert A.dtype == torch.float64 and torch.equal(A.dense(), R)
    assert hesse.as_operator(array.astype(np.float32)).dtype == torch.float32


class Odd:
    """SciPy's manner of a matrix, of what is none."""

    shape, dtype, T = (2, 2, 2), np.dtype(float), None

    def __matmul__(self, other: Any) -> Any:
        return other


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        (None, HesseTypeError, "what: expected a cost"),
        ("H", HesseTypeError, "got str"),
        ([[1.0]], HesseTypeError, "got list"),
        (np.eye(2, dtype=int), HesseTypeError, "what: .*int64"),
        (np.eye(2, dtype=complex), HesseTypeError, "complex128"),
        (np.eye(2, dtype=np.longdouble), HesseTypeError, "float32 or float64"),
        (np.ones(3), HesseValueError, "what: expected a dense matrix"),
        (torch.ones(3), HesseValueError, r"of shape \(3,\)"),
        (torch.eye(3, dtype=torch.int64), HesseValueError, "int64"),
        (torch.eye(3).to_sparse(), HesseValueError, "sparse_coo"),
        (torch.full((2, 2), float("nan")), HesseValueError, "not finite"),
        (scipy.sparse.eye_array(3, dtype=int), HesseTypeError, "float32 or float64, got int64"),
        (Odd(), HesseTypeError, r"of shape \(2, 2, 2\)"),
        (
            hesse.BlockHessian(PARTS, blocks={("a.w", "a.b"): S[:6, 6:8]}),
            HesseValueError,
            "holds 1 blocks",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_an_operator(what: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        hesse.as_operator(what)


def test_a_curvature_is_of_a_cost() -> None:
    v = drawn(cost().layout.size)
    G = hesse.as_operator(cost(), curvature="gauss_newton")
    assert torch.equal(G @ v, hesse.operator(cost(), curvature="gauss_newton") @ v)
    assert torch.equal(hesse.as_operator(cost()) @ v, hesse.operator(cost()) @ v)
    assert hesse.as_operator(G) is G
    for what, curvature, text in (
        (G, "gauss_newton", "can be asked for of a cost; this HessianOperator"),
        (S, "hessian", "this Tensor is a matrix already"),
        (S, "gauss", "curvature: expected one of"),
        (cost(), "gauss", "curvature: expected one of"),
    ):
        with pytest.raises(HesseValueError, match=text):
            hesse.as_operator(what, curvature=curvature)


def test_symmetry_is_seen_where_it_can_be() -> None:
    assert hesse.as_operator(scipy.sparse.csr_array(S.numpy())).is_symmetric
    assert not hesse.as_operator(scipy.sparse.csr_array(R.numpy())).is_symmetric
    assert not hesse.as_operator(drawn(3, 3)).is_symmetric
    # Of SciPy's without a transpose there is none.
    forward = hesse.as_operator(ScipyOperator((2, 2), matvec=lambda v: v, dtype=np.float64))  # type: ignore[call-arg]
    with pytest.raises(HesseValueError, match="transposed: failed with"):
        _ = drawn(2) @ forward


# ---------------------------------------------------------------- closed forms


def test_the_trace_and_the_determinant() -> None:
    D = hesse.DiagonalOperator(ENTRIES)
    for A, dense in ((D, ENTRIES.diag()), (LOW_RANK, LOW_RANK_DENSE)):
        assert A.trace() == pytest.approx(float(dense.trace()), rel=1e-13)
        assert A.logdet() == pytest.approx(float(dense.logdet()), rel=1e-13)
        assert A.damped(0.2).logdet() == pytest.approx(
            float((dense + 0.2 * torch.eye(P).double()).logdet()), rel=1e-13
        )
        twice = A.inverse(0.3).inverse()
        assert torch.allclose(twice.dense(), A.damped(0.3).dense(), rtol=0, atol=1e-12)


def test_low_rank_of_eigenpairs_is_the_matrix() -> None:
    values, vectors = torch.linalg.eigh(S)
    A = hesse.LowRank(values, vectors, layout=PARTS)
    assert torch.allclose(A.dense(), S, rtol=0, atol=1e-12)
    damping = 1.1 * float(-values[0])
    inverse = torch.linalg.inv(S + damping * torch.eye(P).double())
    assert torch.allclose(A.inverse(damping).dense(), inverse, rtol=1e-8)


def test_low_rank_far_above_the_diagonal() -> None:
    # 1e12 beside 1: what is left of the inverse along these is exact beside the rest.
    Q = torch.linalg.qr(VECTORS).Q
    A = hesse.LowRank(torch.full((3,), 1e12, dtype=torch.float64), Q, 1.0)
    v = drawn(P)
    assert float((A.inverse() @ v - (v - Q @ (Q.T @ v))).abs().max()) < 1e-11
    assert A.logdet() == pytest.approx(3 * np.log(1e12 + 1), rel=1e-13)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: hesse.LowRank(VALUES, VECTORS).inverse(), "diagonal: 11 of the 11 entries"),
        (lambda: hesse.LowRank(VALUES, VECTORS, -1.0).logdet(), "are not positive"),
        (lambda: hesse.LowRank(-VALUES, VECTORS, 0.1).logdet(), "not positive definite: 2 of its"),
        (
            lambda: hesse.LowRank(-torch.ones(1).double(), torch.eye(P, 1).double(), 1.0).inverse(),
            "singular to rounding",
        ),
        (lambda: hesse.DiagonalOperator(0 * ENTRIES).inverse(), "11 of the 11 entries are zero"),
        (lambda: hesse.DiagonalOperator(-ENTRIES).logdet(), "not positive"),
        (lambda: hesse.LowRank(VALUES.float(), VECTORS), "values: expected torch.float64"),
        (lambda: hesse.LowRank(VALUES, VECTORS, ENTRIES, ROWS), "layout: expected one of 11"),
        (lambda: hesse.LowRank(VALUES, VECTORS, float("inf")), "diagonal: expected a finite"),
        (lambda: hesse.DiagonalOperator(ENTRIES, ROWS), "layout: expected one of 11 entries"),
    ],
)
def test_closed_forms_that_are_none(call: Callable[[], Any], text: str) -> None:
    with pytest.raises((HesseValueError, HesseTypeError), match=text):
        call()


def test_a_matrix_with_a_layout_that_does_not_fit() -> None:
    with pytest.raises(HesseValueError, match=re.escape("layouts of 7 and 11 entries, got 11")):
        MatrixOperator(R, PARTS)


LAYOUT = hesse.Layout(("x",), ((3,),))
U = torch.ones(3, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hesse.as_operator(torch.zeros(0, 0)), "what: expected a matrix with entries"),
        (lambda: hesse.as_operator(torch.eye(2).to("meta")), "what: .* on meta"),
        (lambda: hesse.density(torch.zeros(0, 0)), "what: expected a matrix with entries"),
        (lambda: hesse.covariance(torch.eye(3).half()), "what: expected float32 or float64"),
        (lambda: hesse.DiagonalOperator({}), "entries: expected at least one entry"),
        (lambda: hesse.LowRank(U[0], U, {}), "diagonal: expected at least one entry"),
        (
            lambda: hesse.FunctionOperator(lambda v: v * math.nan, LAYOUT) @ torch.ones(3),
            "product: gave 3 entries that are not finite",
        ),
        (lambda: hesse.solve(torch.eye(3), {"y": torch.ones(3)}), "b: the dictionary does not"),
        (
            lambda: hesse.solve(torch.eye(3), torch.ones(3), method="choleski"),
            "got 'choleski'; did you mean 'cholesky'",
        ),
        (lambda: hesse.trace(torch.eye(3), by="layers"), "by: .*; did you mean 'layer'"),
        (lambda: hesse.eigenpairs(torch.eye(3) * math.nan), "^what: has entries that are not"),
    ],
)
def test_errors_name_the_argument(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(hesse.HesseError, match=said):
        make()
