"""Sums over long vectors are right to the rounding of their dtype."""

import torch

from hesse.linear_operators.inner_products import inner_product, inner_products, length
from hesse.spectra.basis import Basis

SIZE = 2_000_000


def test_long_sums_are_right() -> None:
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    y = x + 1
    for a, b in ((x, x), (x, y), (y, y)):
        exact = float(a.double() @ b.double())
        assert abs(inner_product(a, b) - exact) < 1e-6 * exact
    exact = torch.stack([x, y]).double() @ torch.stack([y, x, y]).double().T
    found = inner_products(torch.stack([x, y]), torch.stack([y, x, y]))
    assert found.dtype == torch.float64 and torch.allclose(found, exact, rtol=1e-6, atol=0)
    assert abs(length(y) / float(y.double().norm()) - 1) < 1e-9


def test_a_basis_of_long_vectors_is_orthonormal() -> None:
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(SIZE, generator=draw)
    basis = Basis(shared, 3)
    for _ in range(3):
        v = shared + 0.1 * torch.randn(SIZE, generator=draw)
        basis.orthogonalized(v)
        basis.append(v.div_(length(v)))
    rows = torch.stack([basis[place] for place in range(3)]).double()
    assert float((rows @ rows.T - torch.eye(3)).abs().max()) < 1e-6
