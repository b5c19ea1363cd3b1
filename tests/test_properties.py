"""Properties that hold for every small network: what must not change the Hessian, and how it must
change with what does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import hesse
from cases import ACTIVATIONS, dense

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_equal_to_rounding(found: Tensor, expected: Tensor) -> None:
    """Relative to the largest entry; absolute where the Hessian is all but zero, as behind a dead
    ReLU."""
    assert float((found - expected).abs().max()) <= 1e-12 * max(1.0, float(expected.abs().max()))


@dataclass(frozen=True)
class Drawn:
    """A small network with data that fits its loss."""

    model: nn.Sequential
    loss: str
    X: Tensor
    y: Tensor

    def cost(self, data: Any = None) -> hesse.Cost:
        return hesse.Cost(self.model, self.loss, (self.X, self.y) if data is None else data)


TARGETS: dict[str, Callable[[int, int], Tensor]] = {
    "half_sse": lambda n, c: torch.randn(n, c).double(),
    "mse": lambda n, c: torch.randn(n, c).double(),
    "cross_entropy": lambda n, c: torch.randint(c, (n,)),
    "bce": lambda n, c: torch.randint(2, (n, c)).double(),
}


@st.composite
def networks(draw: st.DrawFn, least_depth: int = 1) -> Drawn:
    depth = draw(st.integers(least_depth, 3))
    widths = draw(st.lists(st.integers(1, 5), min_size=depth + 1, max_size=depth + 1))
    activation, loss = (
        draw(st.sampled_from(sorted(ACTIVATIONS))),
        draw(st.sampled_from(sorted(TARGETS))),
    )
    bias, samples, seed = draw(st.booleans()), draw(st.integers(2, 7)), draw(st.integers(0, 999))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = dense(*widths, f=ACTIVATIONS[activation], bias=bias).double()
        return Drawn(
            model,
            loss,
            torch.randn(samples, widths[0]).double(),
            TARGETS[loss](samples, widths[-1]),
        )


@few
@given(networks())
def test_symmetry_is_exact(drawn: Drawn) -> None:
    matrix = hesse.hessian(drawn.cost()).dense()
    assert torch.equal(matrix, matrix.T)


@few
@given(networks(), st.data())
def test_batches_and_their_order_change_nothing(drawn: Drawn, data: st.DataObject) -> None:
    n = len(drawn.X)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=3)))
    parts = torch.tensor_split(order, cuts)
    whole = hesse.hessian(drawn.cost()).dense()
    batches = hesse.hessian(drawn.cost([(drawn.X[part], drawn.y[part]) for part in parts])).dense()
    assert_equal_to_rounding(batches, whole)


@few
@given(networks(), st.sampled_from([1, 1_000, 10_000, 100_000]))
def test_memory_changes_nothing(drawn: Drawn, memory: int) -> None:
    cost = drawn.cost()
    assert_equal_to_rounding(
        hesse.hessian(cost, memory=memory).dense(), hesse.hessian(cost).dense()
    )


@few
@given(networks(least_depth=2), st.data())
def test_permuting_hidden_units_permutes_the_hessian(drawn: Drawn, data: st.DataObject) -> None:
    first: Any = drawn.model[0]
    second: Any = drawn.model[2]
    order = torch.tensor(data.draw(st.permutations(range(first.out_features))))
    cost = drawn.cost()
    # Where each entry of θ goes: the rows of the first layer and the columns of the second move
    # alike.
    places = cost.layout.unflatten(torch.arange(cost.layout.size))
    for name, place in places.items():
        if name.startswith("0."):
            places[name] = place[order]
        elif name == "2.weight":
            places[name] = place[:, order]
    entries = cost.layout.flatten(places)
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        second.weight.copy_(second.weight[:, order])
        if first.bias is not None:
            first.bias.copy_(first.bias[order])
    expected = hesse.hessian(cost).dense()[entries][:, entries]
    assert_equal_to_rounding(hesse.hessian(drawn.cost()).dense(), expected)


@few
@given(networks(), st.floats(0.01, 100.0))
def test_scaling_the_loss_scales_the_hessian(drawn: Drawn, factor: float) -> None:
    plain = drawn.cost()
    total = plain.loss
    assert total is not None

    def scaled(prediction: Tensor, target: Tensor) -> Tensor:
        return factor * total.total(prediction, target)

    found = hesse.hessian(hesse.Cost(drawn.model, scaled, (drawn.X, drawn.y))).dense()
    assert_equal_to_rounding(found, factor * hesse.hessian(plain).dense() / plain.scale)


@few
@given(networks(), st.integers(0, 999))
def test_products_are_central_differences_of_the_gradient(drawn: Drawn, seed: int) -> None:
    cost = drawn.cost()
    v = torch.randn(
        cost.layout.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    h = 1e-5

    def gradient(theta: Tensor) -> Tensor:
        return cost.layout.flatten(hesse.gradient(cost.at(theta)))

    difference = (gradient(cost.theta + h * v) - gradient(cost.theta - h * v)) / (2 * h)
    # A ReLU may have its kink inside the step; then the difference is no derivative.
    kinks = any(isinstance(module, nn.ReLU) for module in drawn.model)
    if not kinks:
        H = hesse.hessian(cost)
        assert float((H @ v - difference).abs().max()) < 1e-6 * max(
            1.0, float(difference.abs().max())
        )
