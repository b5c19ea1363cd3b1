"""Eigenvalues beyond what a workspace counted in 32 bits allows, and what is said before they are
begun."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hesse.errors import HesseMemoryError
from hesse.layout import Layout
from hesse.matrix import eigensolver
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.eigensolver import eigh, eigvalsh
from hesse.matrix.spectrum import Eigen
from hesse.process import memory
from hesse.process.rates import Rates

ROWS = 400


def turned(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """J T and its eigenvalues, T = tridiag(-1, 2.5, -1), J turning the order of its rows: a view of
    2 n - 1 numbers, so that n may be large.

    J commutes with T, whose k-th eigenvector has the parity of k, so that they are
    (-1)^(k+1) (2.5 - 2 cos(k π / (n + 1))).
    """
    numbers = torch.zeros(2 * rows - 1, dtype=dtype)
    numbers[rows - 2 : rows + 1] = torch.tensor([-1.0, 2.5, -1.0])
    k = torch.arange(1, rows + 1, dtype=torch.float64)
    known = (2.5 - 2 * torch.cos(k * torch.pi / (rows + 1))) * (1 - 2 * ((k + 1) % 2))
    return numbers.as_strided((rows, rows), (1, 1)), known.sort().values


def repeated(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """2 I - 3 u uᵀ - 2 w wᵀ: -1, 0, and 2 as often as there are rows left."""
    u, w = torch.linalg.qr(torch.randn(rows, 2, dtype=torch.float64)).Q.mT
    matrix = 2 * torch.eye(rows, dtype=torch.float64) - 3 * u[:, None] * u - 2 * w[:, None] * w
    known = torch.full((rows,), 2.0, dtype=torch.float64)
    known[:2] = torch.tensor([-1.0, 0.0])
    return matrix.to(dtype), known


@pytest.mark.parametrize("by_numpy", [True, False])
@pytest.mark.parametrize("matrix_of", [turned, repeated])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beyond_the_workspace(
    by_numpy: bool,
    matrix_of: Callable[[int, torch.dtype], tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As good as with it: orthogonal to some roundings, where the solver by itself is so to
    thousands."""
    torch.manual_seed(0)
    matrix, known = matrix_of(ROWS, dtype)
    before, eps = matrix.clone(), torch.finfo(dtype).eps
    monkeypatch.setattr(eigensolver, "_MOST_ROWS", ROWS - 1)
    monkeypatch.setattr(eigensolver, "_numpy_counts_in_64_bits", lambda: by_numpy)
    monkeypatch.setattr(torch.linalg, "eigh", lambda *_: pytest.fail("the workspace is asked for"))
    values, vectors = eigh(matrix)
    assert torch.equal(matrix, before) and values.dtype == vectors.dtype == dtype
    assert (values.double() - known).abs().max() < 100 * eps
    assert (vectors.mT @ vectors - torch.eye(ROWS, dtype=dtype)).abs().max() < 40 * eps
    assert torch.linalg.vector_norm(matrix @ vectors - vectors * values, dim=0).max() < 400 * eps


def test_what_does_not_converge_is_an_error() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
        eigensolver._by_numpy(torch.full((3, 3), torch.nan))


def test_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows from which PyTorch ends the process go the other way, and what is made of the
    eigenvalues alone does not."""
    asked, ways = list[int](), list[str]()

    def way(name: str) -> Callable[[Tensor], Eigen]:
        def solved(matrix: Tensor) -> Eigen:
            ways.append(name)
            return Eigen(torch.zeros(len(matrix)), torch.zeros(1, 1).expand_as(matrix))

        return solved

    monkeypatch.setattr(eigensolver, "require_free", lambda count, what: asked.append(count))
    monkeypatch.setattr(eigensolver, "_by_numpy", way("NumPy"))
    monkeypatch.setattr(eigensolver, "_relatively_robust", way("robust"))
    monkeypatch.setattr(torch.linalg, "eigh", way("with the workspace"))
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda m: torch.arange(1.0, 1.0 + len(m)))
    matrix, _ = turned(32_767, torch.float32)
    # It goes through a view entry by entry; what is no view it reads in a fifth of a second.
    monkeypatch.setattr(torch, "aminmax", lambda m: (m[0].amin(), m[0].amax()))
    assert eigensolver._numpy_counts_in_64_bits(), "NumPy as it comes from the package index"
    eigh(matrix)
    monkeypatch.setattr(eigensolver, "_numpy_counts_in_64_bits", lambda: False)
    eigh(matrix)
    eigh(matrix[1:, :-1])
    assert ways == ["NumPy", "robust", "with the workspace"]
    H = BlockHessian(Layout(("w",), ((32_767,),)), matrix=matrix)
    zero = int(32_767**2 * torch.finfo(torch.float32).eps)
    assert H.inertia() == (0, zero, 32_767 - zero)
    assert asked == [
        copies * 4 * rows**2
        for copies, rows in ((4, 32_767), (2, 32_767), (3, 32_766), (1, 32_767))
    ]


def test_memory_is_required_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _: 10**9)
    monkeypatch.setattr(torch.linalg, "eigh", lambda *_: pytest.fail("begun without the memory"))
    matrix, _ = turned(40_000, torch.float64)
    said = r"eigenvectors of 40,000 rows takes? 51\.2 GB, and 1 GB are free; let go"
    with pytest.raises(HesseMemoryError, match=said):
        eigh(matrix)
    with pytest.raises(HesseMemoryError, match="eigenvalues of 40,000 rows"):
        eigvalsh(matrix)


@pytest.mark.parametrize(("watched", "slow"), [(True, True), (True, False), (False, True)])
def test_time_is_said_first(
    watched: bool,
    slow: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a terminal, where it takes more than two seconds."""
    said: list[str] = []
    monkeypatch.setattr(eigensolver, "_LARGE", 8)
    speed = Rates(3 * 8**3 / (400.0 if slow else 1.0), 1e9, 1e9, 1e9, 1e9, 1e9)
    monkeypatch.setattr(eigensolver, "rates", lambda *_: speed)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    known = torch.linalg.eigvalsh(turned(8, torch.float64)[0])
    monkeypatch.setattr(
        torch.linalg, "eigvalsh", lambda _: (said.append(capsys.readouterr().err), known)[1]
    )
    assert torch.equal(eigvalsh(turned(8, torch.float64)[0]), known)
    expected = "eigenvalues of 8 rows, in 512 B: about 6.7 min" if watched and slow else ""
    assert said[0].strip() == expected
