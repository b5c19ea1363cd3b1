"""Roots of Hessians in predictions, and the Kronecker product that is nearest to a sum."""

import pytest
import torch
from torch import Tensor

from hesse.errors import HesseValueError
from hesse.graph.structures import Diagonal, LowRank, RankOne, ValueHessian, as_tensor, flat
from hesse.kronecker.block import Factor
from hesse.kronecker.nearest import nearest_product
from hesse.kronecker.roots import root
from reference import relative


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def softmax(*scores: float) -> RankOne:
    p = 0.3 * torch.tensor([scores], dtype=torch.float64).softmax(1)
    return RankOne(p, p / 0.3**0.5)


TWO = torch.block_diag(
    torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([[1.0, -1], [-1, 1]])
).double()
HESSIANS: dict[str, tuple[ValueHessian, int]] = {
    "diagonal": (Diagonal(x(4, 3, 2).square()), 6),
    "softmax": (softmax(0.1, -1.0, 2.0, 0.0), 3),
    "softmax far apart": (softmax(0.0, 800.0, -800.0, 30.0), 3),
    "softmax of two": (softmax(40.0, 0.0), 1),
    "softmax seen through slopes": (
        RankOne(softmax(0.5, 1.0, 2.0).diagonal * torch.tensor([4.0, 1, 9]),
            softmax(0.5, 1.0, 2.0).factor * torch.tensor([-2.0, 1, 3])), 2),
    "left out": (RankOne(torch.zeros(2, 3), torch.zeros(2, 3)), 2),
    "low rank": (LowRank(x(4, 2, 5), Diagonal(x(4, 2).square())), 2),
    "pieces": (TWO.expand(3, 4, 4), 4),
    "pieces with a null space": (torch.block_diag(TWO[2:, 2:], TWO[2:, 2:]).expand(3, 4, 4), 2),
    "dense": ((lambda a: a @ a.mT)(x(3, 4, 4)), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", HESSIANS)
def test_a_root_gives_the_hessian(name: str) -> None:
    hessian, count = HESSIANS[name]
    rows = root(hessian, 1.0)
    assert rows.count == count
    made = torch.cat([rows.some(slice(k, k + 1)) for k in range(count)], 1)
    assert torch.equal(made, rows.some(slice(0, count)))
    expected = flat(as_tensor(hessian))
    assert float((made.mT @ made - expected).norm()) <= 1e-14 * (1 + float(expected.norm()))


def test_none_where_there_is_no_curvature() -> None:
    assert root(None, 1.0).count == 0


@pytest.mark.parametrize("hessian", [Diagonal(-torch.ones(2, 3)), -TWO.expand(3, 4, 4)])
def test_what_is_not_convex_is_refused(hessian: ValueHessian) -> None:
    with pytest.raises(HesseValueError, match="not convex in the prediction"):
        root(hessian, 1.0)


def test_roundings_of_a_flat_loss_are_not_curvature() -> None:
    assert root(Diagonal(torch.tensor([[1e-9, -1e-16]], dtype=torch.float64)), 1.0).count == 2


def test_nearest_product_is_the_first_singular_pair() -> None:
    pairs = [(x(2, 3, 3), x(2, 4, 4)) for _ in range(3)]
    pairs = [(b @ b.mT, a @ a.mT) for b, a in pairs]
    B, A = nearest_product([(Factor(b), Factor(a)) for b, a in pairs])
    for g in range(2):
        whole = sum(torch.outer(b[g].flatten(), a[g].flatten()) for b, a in pairs)
        assert isinstance(whole, Tensor)
        u, s, v = torch.linalg.svd(whole)
        found = torch.outer(B.matrix[g].flatten(), A.matrix[g].flatten())
        assert relative(found, s[0] * torch.outer(u[:, 0], v[0])) < 1e-12
        for factor in (B.matrix[g], A.matrix[g]):
            assert float(torch.linalg.eigvalsh(factor)[0]) > -1e-12
    (b, a), twice = pairs[0], [(Factor(b), Factor(a)) for b, a in pairs[:1] * 2]
    B, A = nearest_product(twice)
    assert relative(torch.kron(B.matrix[0], A.matrix[0]), 2 * torch.kron(b[0], a[0])) < 1e-12
