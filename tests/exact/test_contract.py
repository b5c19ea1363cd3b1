"""Every order of contraction, also where the estimates would choose another, and blocks that are
made piece by piece."""

import math

import pytest
import torch
from torch import nn

import hesse
from cases import CASES, cost_of, dense
from hesse.exact import assemble, contracted
from hesse.exact.contraction import choice as contract
from hesse.exact.contraction import dense_layers as plain
from hesse.exact.contraction.pair import Estimate, Order, Sizes
from reference import expected_hessian, relative

TOLERANCE = 1e-10
by_name = {case.name: case for case in CASES}
NETWORKS = [
    "three layers",
    "cross entropy",
    "lstm",
    "tied layers",
    "conv2d average pooling",
    "transformer, causal mask",
]
NAMES = sorted({order.name for order in contract.ORDERS})


def prefer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose an order by its name wherever it applies."""

    def chosen(sizes: Sizes, samples: int, most: float = math.inf) -> tuple[Order, Estimate]:
        of_that_name = [
            order for order in contract.ORDERS if order.name == name and order.applies(sizes)
        ]
        return (
            (of_that_name[0], of_that_name[0].estimate(sizes))
            if of_that_name
            else contract.choose(sizes, samples, most)
        )

    monkeypatch.setattr(contracted, "choose", chosen)
    monkeypatch.setattr(assemble, "choose", chosen)


@pytest.mark.parametrize("order", NAMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_order_gives_the_hessian(
    name: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(order, monkeypatch)
    H = hesse.hessian(cost_of(by_name[name])).dense()
    assert torch.equal(H, H.T)
    assert relative(H, expected_hessian(by_name[name])) < TOLERANCE


@pytest.mark.parametrize("order", ["pairs", "gram", "rows", "diagonal"])
@pytest.mark.parametrize("name", ["three layers", "cross entropy", "lstm"])
def test_pieces_make_the_same_blocks(
    name: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(order, monkeypatch)
    for limit, value in {
        "_AT_ONCE": 16,
        "_LEAST_SAMPLES": 2,
        "_IN_THE_MAKING": 30,
        "_LEAST_TILE": 2,
    }.items():
        monkeypatch.setattr(plain, limit, value)
    H = hesse.hessian(cost_of(by_name[name]), memory=30_000).dense()
    assert torch.equal(H, H.T)
    assert relative(H, expected_hessian(by_name[name])) < TOLERANCE


def test_some_blocks_of_a_weight_and_its_bias() -> None:
    """A weight and its bias are contracted as one slot; what is not asked for is left out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cost = hesse.Cost(
            dense(3, 4, 3).double(),
            "cross_entropy",
            (torch.randn(9, 3).double(), torch.arange(9) % 3),
        )
    H = hesse.hessian(cost)
    for pairs in (
        [("0.bias", "0.weight")],
        [("0.bias", "0.bias"), ("0.weight", "2.bias")],
        [("2.bias", "0.bias"), ("2.weight", "2.bias")],
    ):
        some = hesse.hessian(cost, pairs=pairs)
        assert len(some.pairs) == len(pairs)
        assert all(relative(some[pair], H[pair], H.dense()) < 1e-13 for pair in pairs)


@pytest.mark.parametrize("bias", [True, False])
def test_scales_of_vectors_are_contracted_by_entry(bias: bool) -> None:
    """With each other and with dense layers before and behind, as S and D of all of them are
    dense."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Linear(3, 4), nn.LayerNorm(4, bias=bias), nn.Tanh()),
            *(nn.Linear(4, 3), nn.LayerNorm(3, bias=bias), nn.Tanh(), nn.Linear(3, 2)),
        ).double()
        cost = hesse.Cost(model, "mse", (torch.randn(7, 3).double(), torch.randn(7, 2).double()))
    plan = hesse.plan(cost)
    for pair in (("1.weight", "1.weight"), ("1.weight", "4.weight"), ("0.weight", "4.weight"),
                 ("1.weight", "6.weight")):  # fmt: skip
        assert next(block.order for block in plan.blocks if block.names == pair) == "by entry"
    H = hesse.hessian(cost).dense()
    assert torch.equal(H, H.T)
    products = torch.stack([hesse.operator(cost) @ row for row in torch.eye(len(H)).double()])
    assert relative(H, products) < TOLERANCE
