"""What every operator does, held against the matrix that it is."""

import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hesse.errors import HesseError, HesseKeyError, HesseTypeError, HesseValueError
from hesse.linear_operators.linear_operator import LinearOperator
from linear_operators.operators import OPERATORS, drawn

Row = tuple[LinearOperator, Tensor]


@cache
def made(name: str) -> Row:
    return OPERATORS[name]()


@pytest.fixture(params=OPERATORS)
def row(request: pytest.FixtureRequest) -> Row:
    return made(request.param)


def agree(found: Tensor, expected: Tensor) -> bool:
    """To rounding, and of the same shape and dtype."""
    like = (found.shape, found.dtype) == (expected.shape, expected.dtype)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return like and torch.allclose(found, expected, rtol=0, atol=1e-11 * max(scale, 1.0))


def test_shape_dtype_device_and_parts(row: Row) -> None:
    A, dense = row
    assert A.shape == tuple(dense.shape) == (A.rows.size, A.columns.size)
    assert (A.dtype, A.device, A.layout) == (dense.dtype, dense.device, A.columns)
    assert repr(A)


def test_vectors_and_matrices(row: Row) -> None:
    A, dense = row
    V = drawn(A.shape[1], 3)
    assert agree(A @ V[:, 0], dense @ V[:, 0])
    for K in (0, 1, 3):
        assert agree(A @ V[:, :K], dense @ V[:, :K])
    # Columns that lie apart in memory.
    assert agree(A @ V.T.contiguous().T, dense @ V)


def test_vectors_in_parts(row: Row) -> None:
    A, dense = row
    v = drawn(A.shape[1])
    parts, expected = A.columns.unflatten(v), A.rows.unflatten(dense @ v)
    found = A @ parts
    assert list(found) == list(expected)
    assert all(agree(found[name], expected[name]) for name in expected)
    listed = A @ list(parts.values())
    assert isinstance(listed, list) and len(listed) == len(expected)
    assert all(map(agree, listed, expected.values()))


def test_from_the_left_and_transposed(row: Row) -> None:
    A, dense = row
    U = drawn(A.shape[0], 3)
    assert agree(U[:, 0] @ A, U[:, 0] @ dense)
    assert agree(U.T @ A, U.T @ dense)
    assert agree(A.T @ U, dense.T @ U)
    by_name = A.rows.unflatten(U[:, 0]) @ A
    assert agree(A.columns.flatten(by_name), dense.T @ U[:, 0])
    assert A.T.shape == A.shape[::-1] and (A.T.rows, A.T.columns) == (A.columns, A.rows)
    assert agree(A.T.T @ drawn(A.shape[1]), dense @ drawn(A.shape[1]))


def test_dense_and_symmetry(row: Row) -> None:
    A, dense = row
    assert agree(A.dense(), dense)
    if A.is_symmetric:
        assert A.T is A and A.rows == A.columns
        assert torch.equal(A.dense(), A.dense().T)


def test_for_scipy(row: Row) -> None:
    A, dense = row
    matrix, outside = dense.numpy(), A.to_scipy()
    V, U = drawn(A.shape[1], 2).numpy(), drawn(A.shape[0], 2).numpy()
    assert outside.shape == matrix.shape and outside.dtype == matrix.dtype
    for found, expected in (
        (outside @ V[:, 0], matrix @ V[:, 0]),
        (outside @ V[:, :1], matrix @ V[:, :1]),
        (outside @ V, matrix @ V),
        (outside.T @ U, matrix.T @ U),
        (outside.rmatvec(U[:, 0]), matrix.T @ U[:, 0]),
    ):
        assert agree(torch.from_numpy(np.asarray(found)), torch.from_numpy(expected))
    if A.shape[1]:
        with pytest.raises(HesseTypeError, match="complex"):
            _ = outside @ (V[:, 0] * 1j)


def test_memory_is_its_own(row: Row) -> None:
    A, dense = row
    v = drawn(A.shape[1], 2).requires_grad_()
    before = v.detach().clone()
    found = A @ v
    assert not found.requires_grad
    found.fill_(7.0)
    assert torch.equal(v, before) and agree(A @ v, dense @ before)
    (u_A := drawn(A.shape[0]) @ A).fill_(7.0)
    assert agree(drawn(A.shape[0]) @ A, drawn(A.shape[0]) @ dense), u_A
    A.dense().fill_(7.0)
    assert agree(A.dense(), dense)


def test_what_is_switched_on_around_changes_nothing(row: Row) -> None:
    A, dense = row
    v = drawn(A.shape[1], 2)
    state = torch.get_rng_state()
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")):
        with mode:
            assert agree((A @ v).clone(), dense @ v)
    assert torch.equal(state, torch.get_rng_state())


def test_it_travels(row: Row) -> None:
    A, dense = row
    copy = pickle.loads(pickle.dumps(A))
    assert (copy.rows, copy.columns, copy.is_symmetric) == (A.rows, A.columns, A.is_symmetric)
    assert agree(copy @ drawn(A.shape[1]), dense @ drawn(A.shape[1]))


def test_what_it_is_not_multiplied_with(row: Row) -> None:
    A, _ = row
    N = A.shape[1]
    v, parts = drawn(N), A.columns.unflatten(drawn(N))
    name = next(iter(parts))
    cases: list[tuple[Any, type[HesseError], str]] = [
        (drawn(N + 1), HesseValueError, "v: expected shape"),
        (drawn(2, N, 1), HesseValueError, "v: expected shape"),
        (v.float(), HesseTypeError, "v: expected torch.float64"),
        (v.to("meta"), HesseValueError, "v: expected a tensor on cpu"),
        (v.numpy(), HesseTypeError, "v: expected a flat tensor"),
        (None, HesseTypeError, "v: expected a flat tensor"),
        ([*parts.values(), v], HesseValueError, "v: expected"),
        ({"nope": v}, HesseKeyError, "nope"),
        ({**parts, name: parts[name].float()}, HesseTypeError, name),
        ({**parts, name: torch.ones(7, 7).double()}, HesseValueError, "shape"),
    ]
    for wrong, kind, text in cases:
        with pytest.raises(kind, match=text):
            _ = A @ wrong
    if N:
        with pytest.raises(HesseValueError, match="not finite"):
            _ = A @ torch.full((N,), float("nan"), dtype=A.dtype)
    with pytest.raises(HesseError):
        _ = drawn(A.shape[0] + 1) @ A


def test_algebra_of_all(row: Row) -> None:
    A, dense = row
    v = drawn(A.shape[1])
    assert agree((A + A) @ v, 2 * (dense @ v))
    assert agree((A - 0.5 * A) @ v, 0.5 * (dense @ v))
    assert agree((A.T @ A) @ v, dense.T @ (dense @ v))
    assert (A.T @ A).is_symmetric
    names = A.rows.names[-1], A.columns.names[0]
    rows, columns = A.rows.slice(names[0]), A.columns.slice(names[1])
    assert agree(A[names].dense(), dense[rows, columns])
    if A.rows == A.columns:
        assert agree(A.damped(0.1) @ v, dense @ v + 0.1 * v)
        own = torch.block_diag(
            *(dense[A.rows.slice(name), A.rows.slice(name)] for name in A.rows.names)
        )
        assert agree(A.block_diagonal() @ v, own @ v)
    else:
        for refused in (lambda: A.damped(0.1), A.block_diagonal):
            with pytest.raises(HesseValueError, match="the same parts"):
                refused()
