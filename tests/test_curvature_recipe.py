"""Adding a curvature: one object, registered, goes through everything that takes one."""

from collections.abc import Iterator, Sequence
from typing import final

import pytest
import torch

import hesse
import networks as nets
from hesse.cost import Cost
from hesse.curvatures.curvature import Curvature, curvature_named, register, unregister
from hesse.curvatures.gauss_newton import GAUSS_NEWTON
from hesse.derivatives import Derivatives, Map
from hesse.errors import HesseValueError
from hesse.graph.graph import Graph
from hesse.products.terms import Term
from reference import relative

# ---------------------------------------------------------------- all that is to be written


@final
class Tangent(Curvature):
    """Gauss–Newton's matrix by another name."""

    name = "tangent"

    def check(self, cost: Cost) -> None:
        GAUSS_NEWTON.check(cost)

    def straight(self, graph: Graph) -> frozenset[str]:
        return graph.predicted

    def product(self, by: Derivatives, term: Term, moving: Sequence[int] | None) -> Map:
        return GAUSS_NEWTON.product(by, term, moving)

    def reference(self, cost: Cost) -> Cost:
        return GAUSS_NEWTON.reference(cost)


# ---------------------------------------------------------------- tests


@pytest.fixture(autouse=True)
def tangent() -> Iterator[Curvature]:
    curvature = register(Tangent())
    yield curvature
    unregister("tangent")


def made() -> Cost:
    torch.manual_seed(0)
    X, y = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    return hesse.Cost(nets.dense(3, 4, 2).double(), "half_sse", (X, y))


def test_everything_takes_it() -> None:
    cost = made()
    G = hesse.hessian(cost, curvature="gauss_newton").dense()
    found = hesse.hessian(cost, curvature="tangent")
    assert relative(found.dense(), G) < 1e-12 and "tangent" in str(found.certificate)
    entries = hesse.diagonal(cost, curvature="tangent")
    assert relative(cost.layout.flatten(entries), G.diagonal()) < 1e-12
    assert relative(hesse.operator(cost, curvature="tangent") @ G, G @ G) < 1e-12
    assert hesse.quadratic(cost, curvature="tangent").curvature == "tangent"
    assert hesse.minimize(cost, curvature="tangent", tolerance=1e-6).success


def test_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three answers hold each other to account: a sweep that leaves out too little, and a
    product with H in place of G."""
    G = hesse.hessian(made(), curvature="gauss_newton").dense()
    monkeypatch.setattr(Tangent, "straight", lambda self, graph: frozenset())
    cost = made()
    assert relative(hesse.hessian(cost, curvature="tangent").dense(), G) < 1e-9
    assert all(
        "by contraction gave" in note for note in hesse.plan(cost, curvature="tangent").notes
    )
    assert not hesse.plan(cost).notes
    product = curvature_named("hessian").product
    monkeypatch.setattr(
        Tangent, "product", lambda self, by, term, moving: product(by, term, moving)
    )
    with pytest.raises(HesseValueError, match="its products cannot be certified"):
        hesse.operator(made(), curvature="tangent")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(HesseValueError, match="the name 'tangent' is taken"):
        register(Tangent())
