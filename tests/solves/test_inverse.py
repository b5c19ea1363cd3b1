"""Inverses as operators, block by block, and covariances, held against dense inverses."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import hesse
from cases import CASES, cost_of
from hesse.errors import HesseValueError
from hesse.linear_operators.given import MatrixOperator
from reference import expected_hessian

CASE = next(case for case in CASES if case.name == "penalty")
LAYOUT = hesse.Layout(("a", "b"), ((2, 2), (3,)))


def definite() -> Tensor:
    root = torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.T + torch.eye(7, dtype=torch.float64)


INDEFINITE = torch.diag(torch.tensor([1.0, 2, 3, 4, 5, 6, -2])).double()


def test_blocks_of_the_inverse_of_a_cost() -> None:
    cost, H = cost_of(CASE), expected_hessian(CASE)
    damping = float(1.5 * torch.linalg.eigvalsh(H).abs().max())
    inverse = torch.linalg.inv(H + damping * torch.eye(len(H), dtype=torch.float64))
    A, covariance = hesse.inverse(cost, damping=damping), hesse.covariance(cost, damping=damping)
    rows, columns = (cost.layout.slice(name) for name in ("0.weight", "2.bias"))
    assert torch.allclose(A["0.weight", "2.bias"].dense(), inverse[rows, columns], rtol=1e-9)
    assert torch.allclose(covariance.flat("0.weight", "2.bias"), inverse[rows, columns], rtol=1e-9)
    shape = (*cost.layout.shape("0.weight"), *cost.layout.shape("2.bias"))
    assert covariance["0.weight", "2.bias"].shape == shape
    assert torch.equal(covariance.dense(), covariance.dense().T)
    variances = cost.layout.flatten(covariance.diagonal())
    assert torch.allclose(variances, inverse.diagonal(), rtol=1e-9) and bool((variances > 0).all())
    assert f"+ {damping:g} I" in covariance.provenance["what"]


@pytest.mark.parametrize(
    "settings", [{}, {"method": "cg"}, {"method": "minres", "preconditioner": "diagonal"}]
)
def test_products_and_what_is_made_of_it(settings: dict[str, Any]) -> None:
    A = MatrixOperator(definite(), LAYOUT)
    inverse = hesse.inverse(A, damping=0.5, tolerance=1e-12, **settings)
    exact = torch.linalg.inv(definite() + 0.5 * torch.eye(7, dtype=torch.float64))
    V = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(inverse @ V, exact @ V, rtol=1e-8)
    assert inverse.is_symmetric and inverse.rows == LAYOUT
    assert torch.allclose((A.damped(0.5) @ inverse) @ V, V, rtol=0, atol=1e-9)
    assert torch.allclose(pickle.loads(pickle.dumps(inverse)) @ V, exact @ V, rtol=1e-8)
    by_name = inverse @ LAYOUT.unflatten(V[:, 0])
    assert torch.allclose(LAYOUT.flatten(by_name), exact @ V[:, 0], rtol=1e-8)


def test_the_inverse_of_what_has_a_closed_form_is_one() -> None:
    D = hesse.DiagonalOperator(torch.tensor([1.0, 3.0]))
    assert torch.allclose(hesse.inverse(D, damping=1.0) @ torch.ones(2), torch.tensor([0.5, 0.25]))
    assert torch.allclose(hesse.covariance(D).dense(), torch.diag(torch.tensor([1.0, 1 / 3])))


def test_in_float32_and_indefinite() -> None:
    for A in (definite(), INDEFINITE):
        inverse = hesse.inverse(A.float())
        assert torch.allclose((inverse @ A.float()[:, :2]), torch.eye(7)[:, :2], atol=1e-4)


def test_what_has_no_inverse() -> None:
    singular = INDEFINITE.clone()
    singular[6, 6] = 0.0
    inverse = hesse.inverse(singular)
    assert torch.allclose(inverse @ singular[:, 0], torch.eye(7, 1).squeeze().double())
    with pytest.raises(HesseValueError, match=r"inverse: its product leaves .* least-squares"):
        _ = inverse @ torch.ones(7, dtype=torch.float64)
    with pytest.raises(HesseValueError, match="after maxiter=1 iterations"):
        _ = hesse.inverse(definite(), method="cg", maxiter=1) @ torch.ones(7).double()
    for call in (hesse.inverse, hesse.covariance):
        with pytest.raises(HesseValueError, match="what: expected a symmetric matrix"):
            call(torch.ones(2, 3))
        with pytest.raises(HesseValueError, match="damping: "):
            call(definite(), damping=-1.0)


def test_what_has_no_covariance() -> None:
    with pytest.raises(
        HesseValueError,
        match=r"what: no covariance, for the matrix is not positive definite, its smallest"
        r" eigenvalue is -2: give damping=2.2|-2; give damping=2.2, or a curvature",
    ):
        hesse.covariance(INDEFINITE)
    assert hesse.covariance(INDEFINITE, damping=2.2).dense()[6, 6] == pytest.approx(5.0)
    with pytest.raises(HesseValueError, match=r"with this damping is not .*give damping=2.1"):
        hesse.covariance(INDEFINITE, damping=1.0)
    cost = cost_of(CASE)
    with pytest.raises(HesseValueError, match="not positive definite"):
        hesse.covariance(cost, curvature="functional")
