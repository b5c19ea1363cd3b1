"""One-sided products: the traced product restricted to a parameter and those after it."""

import pytest
import torch
from torch import nn

import forced
import hesse
from cases import CASES, cost_of
from hesse.capture.straight_line import aten, trace
from hesse.derivatives import ForwardOverReverse, TensorFunction
from hesse.exact import part_planning
from hesse.exact.columns import rows_asked
from hesse.exact.one_sided import one_sided_price
from hesse.process.rates import Rates
from networks import dense
from reference import expected_hessian, relative


@pytest.mark.some(of=4)
@pytest.mark.parametrize("place", range(len(CASES)), ids=[str(case) for case in CASES])
def test_every_case(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the parameters, or the lower half of them, the rest being contracted."""
    case = CASES[place]
    forced.one_sided(monkeypatch, 1.0 if place % 2 else 0.5)
    cost, expected = cost_of(case), expected_hessian(case)
    assert relative(hesse.hessian(cost, certify=False).dense(), expected) < 1e-10
    entries = hesse.diagonal(cost, certify=False)
    assert relative(cost.layout.flatten(entries), expected.diagonal()) < 1e-10


def test_nothing_is_computed_below_the_parameter() -> None:
    """Of a network of four layers the top one has a program of a fraction of the length."""
    model = dense(3, 4, 5, 4, 2).double()
    cost = hesse.Cost(model, "mse", (torch.randn(6, 3).double(), torch.randn(6, 2).double()))
    price = one_sided_price(cost, None)
    assert price is not None and price.order[0].startswith("0.") and len(price.order) == 8
    lowest = price._product("0.weight", price.order)
    highest = price._product("6.weight", price.order[-2:])
    assert highest.calls < lowest.calls / 2 and highest.operations < lowest.operations / 5


def test_each_parameter_has_the_width_of_its_own_program() -> None:
    """The higher a layer, the shorter its program, and the more products fit into the caches; and
    unit vectors are placed, not multiplied."""
    model = dense(3, 40, 40, 40, 2)
    cost = hesse.Cost(model, "mse", (torch.randn(4000, 3), torch.randn(4000, 2)))
    price = one_sided_price(cost, None)
    assert price is not None
    asked = rows_asked(price.order, [(a, b) for a in price.order for b in price.order])
    piece = price.piece(1e9, asked, True)
    slabs = [price._slab(piece, name, others)[0] for name, others in asked.items()]
    assert slabs == sorted(slabs) and slabs[-1] > 2 * slabs[0] > 0
    lowest, highest = (price._product(name, asked[name]) for name in ("0.weight", "6.weight"))
    assert highest.calls < lowest.calls and 0 < highest.operations < lowest.operations
    assert price.width(1e9, piece, asked) == min(
        price.width(1e9, piece, {name: others}) for name, others in asked.items()
    )


def test_a_parameter_without_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes one-sided like the others, and not by an error to a slower way."""
    forced.one_sided(monkeypatch)
    parameters = {"w": torch.randn(3).double(), "s": torch.tensor(0.5).double()}
    cost = hesse.Cost.from_function(lambda p: (p["w"].sin() * p["s"].exp()).sum() ** 2, parameters)
    H = hesse.hessian(cost, certify=False)
    assert hesse.plan(cost).parts[0].traced and not hesse.plan(cost).parts[0].singly
    assert relative(H.dense(), hesse.operator(cost) @ torch.eye(4).double()) < 1e-12


def test_what_is_asked_of_each() -> None:
    wanted = [("a", "a"), ("a", "b"), ("b", "c"), ("d", "d")]
    assert rows_asked(["c", "a"], wanted) == {"c": ("b",), "a": ("a", "b")}
    assert rows_asked(["b", "c"], wanted) == {"b": ("a", "c")}


def test_zeros_are_left_out() -> None:
    """Sums whose one side is zero become the other; what knows no better is given zeros."""

    def function(theta: list[torch.Tensor]) -> torch.Tensor:
        first, second, third = theta
        joined = torch.cat([first * second, third.sin()])
        return ((joined - first.sum()) ** 2).sum() + (first @ second) ** 3

    theta = [torch.randn(3, dtype=torch.float64) for _ in range(3)]

    def product(
        theta: list[torch.Tensor], inputs: list[torch.Tensor], v: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        return ForwardOverReverse().second(TensorFunction(function), theta)(v)

    program = trace(product, theta, [])
    kept = program.prepare(*theta)
    H = torch.autograd.functional.hessian(lambda *t: function(list(t)), tuple(theta))
    for moving in range(3):
        for outputs in ({0, 1, 2}, {moving}, {2}):
            side = program.side(moving, frozenset(outputs))
            v = torch.randn(3, dtype=torch.float64)
            parts = side(*kept, v)
            for place, part in zip(sorted(outputs), parts, strict=True):
                assert torch.allclose(part, H[place][moving] @ v, atol=1e-12)  # type: ignore[index]
    assert len(program.side(2, frozenset({2})).graph.nodes) < len(program.apply.graph.nodes)


def test_of_a_convolution_only_what_is_used() -> None:
    """The way back to the image is not made where only the kernel's part is asked for."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Flatten())
    cost = hesse.Cost(model, "mse", (torch.randn(3, 1, 6, 6), torch.randn(3, 8)))
    price = one_sided_price(cost, None)
    assert price is not None
    side = price.program.side(cost.layout.index("2.weight"), frozenset({2}))
    back = side.graph.find_nodes(op="call_function", target=aten.convolution_backward.default)
    assert back and all(sum(node.args[-1]) == 1 for node in back)  # type: ignore[arg-type]


def test_a_recurrence_goes_one_sided_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose contraction costs several times as much, at the rates of an ordinary machine."""
    torch.manual_seed(0)
    speed = Rates(1e11, 8e9, 2.7e4, 6e10, 4e10, 2e10)
    monkeypatch.setattr(part_planning, "rates", lambda *_: speed)
    monkeypatch.setattr(part_planning, "_SECONDS_OF_A_TRACE", 0.0)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.RNN(2, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x)[0][:, -1])

    cost = hesse.Cost(Last(), "cross_entropy", (torch.randn(256, 16, 2), torch.arange(256) % 3))
    planned = hesse.plan(cost)
    assert planned.by_columns and planned.parts[0].traced
    assert any("one-sided products" in block.order for block in planned.blocks)
    assert planned.strategy("cell.weight_hh_l0", "head.weight") == "columns"
    assert 0.01 < speed.seconds(planned.price) < 1
    v = torch.randn(cost.layout.size)
    assert relative(hesse.hessian(cost) @ v, hesse.operator(cost) @ v) < 1e-4
