"""Every row of the table of cases by every curvature, against dense references; and the identities
that tie them together.

The references are made of J, the Jacobian of the prediction, and S, the Hessian of the loss in it,
each row of both by plain autograd.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
import networks as nets
from cases import CASES, Case, cost_of, x
from hesse.cost import Cost
from hesse.errors import HesseValueError
from reference import Curvatures, curvatures, expected_hessian, relative

PREDICTING = [case for case in CASES if case.problem().loss is not None]
# What is traced anew takes longer than all else: the last is for every third case, and a product
# for every sixth, with each of these in turn.
TURNS = ("gauss_newton", "functional", "empirical_fisher")


def references(case: Case) -> tuple[dict[str, Tensor], Curvatures]:
    """The curvatures that a case has, by name."""
    cost = cost_of(case)
    made = curvatures(case.problem(), cost.layout.names)
    G = made.gauss_newton
    found = {"gauss_newton": G, "functional": expected_hessian(case) - G}
    assert cost.loss is not None
    if cost.loss.separable:
        found["empirical_fisher"] = made.empirical_fisher(cost.samples, 1 / cost.scale)
    return found, made


@pytest.mark.some(of=3)
@pytest.mark.parametrize("place", range(len(PREDICTING)), ids=map(str, PREDICTING))
def test_every_case_by_every_curvature(place: int) -> None:
    case = PREDICTING[place]
    cost, H = cost_of(case), expected_hessian(case)
    expected, made = references(case)
    if place % 3:
        expected.pop("empirical_fisher", None)
    scale = max(float(part.abs().max()) for part in (*expected.values(), H)) * torch.ones(1)
    found = {name: hesse.hessian(cost, curvature=name, certify=False).dense() for name in expected}
    for name, C in expected.items():
        # All blocks, those between layers among them.
        assert relative(found[name], C, scale) < 1e-9, name
        entries = hesse.diagonal(cost, curvature=name, certify=False)
        assert relative(cost.layout.flatten(entries), C.diagonal(), scale) < 1e-9, name
    assert relative(found["gauss_newton"] + found["functional"], H, scale) < 1e-9
    convex = torch.linalg.eigvalsh(made.loss_hessian).min() >= -1e-12
    for name in found.keys() & (
        {"gauss_newton", "empirical_fisher"} if convex else {"empirical_fisher"}
    ):
        values = torch.linalg.eigvalsh(found[name])
        assert values.min() >= -1e-12 * values.max(), f"{name} is negative along some direction"
    turn = TURNS[place // 6 % len(TURNS)]
    if place % 6 == 0 and turn in expected:
        V = torch.randn(cost.layout.size, 2, dtype=torch.float64)
        op = hesse.operator(cost, curvature=turn, certify=False)
        assert relative(op @ V, expected[turn] @ V) < 1e-9


@pytest.mark.parametrize("case", [case for case in CASES if case not in PREDICTING], ids=str)
def test_without_a_prediction_there_is_none(case: Case) -> None:
    for name in TURNS:
        with pytest.raises(HesseValueError, match="made of the derivatives of a prediction"):
            hesse.hessian(cost_of(case), curvature=name)


# ---------------------------------------------------------------- identities


def cost_of_dense(*widths: int, f: type[nn.Module] = nn.Tanh, loss: Any = "half_sse") -> Cost:
    torch.manual_seed(0)
    model = nets.dense(*widths, f=f).double()
    y = torch.arange(6) % widths[-1] if loss == "cross_entropy" else x(6, widths[-1])
    return Cost(model, loss, (x(6, widths[0]), y))


def dense(cost: Cost, name: str) -> Tensor:
    return hesse.hessian(cost, curvature=name).dense()


def test_of_one_layer_there_is_nothing_but_gauss_newton() -> None:
    """The prediction is linear in the parameters."""
    for loss in ("half_sse", "cross_entropy"):
        cost = cost_of_dense(3, 2, loss=loss)
        assert dense(cost, "functional").abs().max() == 0
        assert relative(dense(cost, "gauss_newton"), dense(cost, "hessian")) < 1e-14


def test_of_rectifiers_the_functional_is_zero_within_a_parameter() -> None:
    """The prediction is linear in the parameters of each layer by itself; between layers it is
    not. Source: S. P. Singh, G. Bachmann, T. Hofmann (2021), section 3."""
    cost = cost_of_dense(3, 4, 4, 2, f=nn.ReLU)
    F = hesse.hessian(cost, curvature="functional")
    layers = cost.layout.layers
    for names in layers.values():
        assert all(float(F[a, b].abs().max()) == 0 for a in names for b in names)
    assert float(F["0.weight", "2.weight"].abs().max()) > 1e-3


def test_a_loss_that_fits_has_no_functional() -> None:
    """Where the prediction is the target the slope of the loss is zero."""
    torch.manual_seed(0)
    model, X = nets.dense(3, 4, 2).double(), x(6, 3)
    cost = Cost(model, "half_sse", (X, model(X).detach()))
    G = dense(cost, "gauss_newton")
    assert dense(cost, "functional").abs().max() == 0
    assert dense(cost, "empirical_fisher").abs().max() == 0
    assert relative(dense(cost, "hessian"), G) < 1e-14  # by other ways where these cost less


@pytest.mark.parametrize("name", ["gauss_newton", "functional", "empirical_fisher", "fisher"])
def test_a_cost_that_is_scaled(name: str) -> None:
    """All are linear in the cost, but the empirical Fisher matrix, which is of squares; by its
    divisor it is linear in that."""
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(6, 3), x(6, 2)
    total, mean = (Cost(model, nn.MSELoss(reduction=r), (X, y)) for r in ("sum", "mean"))
    assert relative(dense(total, name), 12 * dense(mean, name)) < 1e-12


@pytest.mark.parametrize("name", ["gauss_newton", "functional", "empirical_fisher"])
def test_hidden_units_in_another_order(name: str) -> None:
    """The prediction is the same, and the matrix has its rows and columns in that order."""
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(6, 3), x(6, 2)
    cost, order = Cost(model, "half_sse", (X, y)), torch.tensor([2, 0, 3, 1])
    parts = cost.layout.unflatten(torch.arange(cost.layout.size))
    moved = cost.layout.flatten(
        {
            "0.weight": parts["0.weight"][order],
            "0.bias": parts["0.bias"][order],
            "2.weight": parts["2.weight"][:, order],
            "2.bias": parts["2.bias"],
        }
    )
    C, D = dense(cost, name), dense(cost.at(cost.theta[moved]), name)
    assert relative(D, C[moved][:, moved]) < 1e-13


@pytest.mark.parametrize("name", ["gauss_newton", "empirical_fisher", "fisher_mc"])
def test_no_more_directions_than_predictions(name: str) -> None:
    """The rank is that of J at most, in float64, where rounding does not decide it."""
    cost = cost_of_dense(4, 5, 3, loss="cross_entropy")
    C = dense(cost, name)
    most = {"gauss_newton": 6 * 2, "empirical_fisher": 6, "fisher_mc": 6}[name]
    values = torch.linalg.eigvalsh(C).flip(0)
    assert (values > 1e-12 * values[0]).sum() <= most < cost.layout.size


# ---------------------------------------------------------------- curvlinops' scenarios, ours


def one_parameter_frozen() -> tuple[nn.Module, Any, Any]:
    model = nets.dense(3, 4, 2).double()
    next(model.parameters()).requires_grad_(False)
    return model, nn.MSELoss(), (x(6, 3), x(6, 2))


def targets_of_several_axes() -> tuple[nn.Module, Any, Any]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 6), nn.Unflatten(1, (2, 3)))
    return model.double(), nn.BCEWithLogitsLoss(), (x(6, 3), torch.randint(2, (6, 2, 3)).double())


def classes_of_pixels() -> tuple[nn.Module, Any, Any]:
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 3, 1)).double()
    return model, nn.CrossEntropyLoss(reduction="sum"), (x(4, 1, 3, 3), torch.randint(3, (4, 2, 2)))


def batches_of_one() -> tuple[nn.Module, Any, Any]:
    X, y = x(4, 3), torch.randint(3, (4,))
    data = list(zip(X.split(1), y.split(1), strict=True))
    return nets.dense(3, 4, 3).double(), nn.CrossEntropyLoss(), data


def inputs_as_mapping() -> tuple[nn.Module, Any, Any]:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.first(a).tanh() * self.second(b)

    return Sums().double(), nn.MSELoss(), (({"a": x(6, 3), "b": x(6, 2)}), x(6, 2))


SCENARIOS: list[Callable[[], tuple[nn.Module, Any, Any]]] = [
    *(one_parameter_frozen, targets_of_several_axes, classes_of_pixels, batches_of_one),
    inputs_as_mapping,
]


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: make.__name__)
def test_scenarios(make: Callable[[], tuple[nn.Module, Any, Any]]) -> None:
    """A mean or a sum over several batches; products with vectors, matrices and parts; blocks."""
    torch.manual_seed(0)
    model, loss, data = make()
    cost = Cost(model, loss, data)
    every = [p for p in model.parameters() if p.requires_grad]
    X, y = data if isinstance(data, tuple) else map(torch.cat, zip(*data, strict=True))
    z = model(**X) if isinstance(X, dict) else model(X)
    J = rows(z, every)
    cut = z.detach().requires_grad_()
    S = rows(torch.autograd.grad(loss(cut, y), cut, create_graph=True)[0], [cut])
    G = J.T @ S @ J
    assert relative(dense(cost, "gauss_newton"), G) < 1e-10
    assert relative(dense(cost, "fisher"), G) < 1e-10
    J_mine = hesse.jacobian(cost)
    V = torch.randn(len(G), 2, dtype=torch.float64)
    assert relative(J_mine @ V, J @ V) < 1e-12
    op = hesse.operator(cost, curvature="gauss_newton")
    assert relative(op @ V, G @ V) < 1e-10
    parts = op @ cost.layout.unflatten(V[:, 0])
    assert relative(cost.layout.flatten(parts), G @ V[:, 0]) < 1e-10


def rows(values: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    grad = functools.partial(torch.autograd.grad, retain_graph=True)
    return torch.stack(
        [torch.cat([part.flatten() for part in grad(entry, leaves)]) for entry in values.flatten()]
    )
