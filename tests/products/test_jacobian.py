"""The Jacobian of the predictions as an operator: against `torch.func.jacrev`, and JᵀSJ against
Gauss–Newton's matrix."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev, vmap

import hesse
import networks as nets
from cases import CASES, cost_of, x
from hesse.cost import Cost
from hesse.errors import HesseTypeError, HesseValueError
from hesse.products import jacobian as module
from reference import relative


def matrix(J: hesse.LinearOperator) -> Tensor:
    """By its products, which are those of its transpose."""
    M, N = J.shape
    forward, backward = (J @ torch.eye(N, dtype=J.dtype), J.T @ torch.eye(M, dtype=J.dtype))
    assert relative(forward, backward.T) < 1e-12
    v, u = torch.randn(N, dtype=J.dtype), torch.randn(M, dtype=J.dtype)
    assert relative(J @ v, forward @ v) < 1e-12 and relative(u @ J, u @ forward) < 1e-12
    return forward


class Several(nn.Module):
    """A prediction in parts, one of which cannot be differentiated."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.mean, self.spread, self.form = nn.Linear(3, 2), nn.Linear(3, 1), form

    def forward(self, x: Tensor) -> Any:
        mean, spread = self.mean(x).tanh(), self.spread(x)
        if self.form == "mapping":
            return {"mean": mean, "class": mean.argmax(1), "more": [spread.exp()]}
        return mean, spread.exp()


def loss(z: Any, y: Tensor) -> Tensor:
    mean, spread = z if isinstance(z, tuple) else (z["mean"], z["more"][0])
    return ((y - mean).square() / spread + spread.log()).sum()


# name: (the network, the loss, X, y, the names of the rows)
SUBJECTS: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[], Tensor], Any, list[str]]] = {
    "dense": (lambda: nets.dense(3, 4, 2), "mse", lambda: x(7, 3), x(7, 2), ["prediction"]),
    "tokens": (
        lambda: nets.spread(nets.Transformer()),
        "cross_entropy",
        lambda: torch.randint(4, (7, 3)),
        torch.randint(4, (7, 3)),
        ["prediction"],
    ),
    "recurrent": (
        lambda: nets.Recurrent(nn.LSTM),
        "cross_entropy",
        lambda: x(7, 3, 2),
        torch.randint(2, (7,)),
        ["prediction"],
    ),
    "tuple": (lambda: Several("tuple"), loss, lambda: x(7, 3), x(7, 2), ["0", "1"]),
    "mapping": (lambda: Several("mapping"), loss, lambda: x(7, 3), x(7, 2), ["mean", "more.0"]),
}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("cut", [[7], [3, 3, 1]], ids=str)
def test_against_jacrev(name: str, cut: list[int]) -> None:
    make, loss, inputs, y, names = SUBJECTS[name]
    torch.manual_seed(0)
    model, X = make().double(), inputs()
    data = list(zip(X.split(cut), y.split(cut), strict=True))
    J = hesse.jacobian(Cost(model, loss, data))
    assert list(J.rows.names) == names and J.rows.shapes[0][0] == 7
    assert J.certificate is not None and J.certificate.deviation < 1e-9

    def predict(theta: dict[str, Tensor]) -> Tensor:
        z = functional_call(model, theta, (X,))
        parts = (
            [z]
            if isinstance(z, Tensor)
            else list(z)
            if isinstance(z, tuple)
            else [z["mean"], *z["more"]]
        )
        return torch.cat([part.reshape(-1) for part in parts])

    theta = {n: p.detach() for n, p in model.named_parameters()}
    expected = jacrev(predict)(theta)
    dense = torch.cat([expected[n].flatten(1) for n in J.columns.names], 1)
    assert relative(matrix(J), dense) < 1e-12
    first = J[names[0], J.columns.names[0]]
    assert relative(matrix(first), dense[: first.shape[0], : first.shape[1]]) < 1e-12
    parts = J @ theta
    assert list(parts) == names
    assert relative(J.rows.flatten(parts), dense @ J.columns.flatten(theta)) < 1e-12


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (nn.MSELoss(), x(6, 3)),
        (nn.CrossEntropyLoss(ignore_index=1), torch.tensor([0, 2, 1, 2, 0, 1])),
        (nn.CrossEntropyLoss(torch.tensor([0.5, 1.0, 3.0]).double()), torch.arange(6) % 3),
    ],
    ids=["mse", "ignored", "weighed"],
)
def test_gauss_newton_is_made_of_it(loss: nn.Module, y: Tensor) -> None:
    """JᵀSJ, S by samples of the cost's own loss, its divisor included."""
    torch.manual_seed(0)
    model, X = nets.dense(3, 4, 3).double(), x(6, 3)
    cost = Cost(model, loss, (X, y))
    S = hessian(lambda z: loss(z, y))(model(X).detach()).reshape(18, 18)
    by_sample = S.reshape(6, 3, 6, 3).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    assert torch.equal(torch.block_diag(*by_sample), S)  # samples do not meet
    J = hesse.jacobian(cost)
    G = J.T @ hesse.linear_operators.given.MatrixOperator(S, J.rows) @ J
    v = torch.randn(cost.layout.size, 3, dtype=torch.float64)
    assert relative(G @ v, hesse.operator(cost, curvature="gauss_newton") @ v) < 1e-11
    assert (J.T @ J).is_symmetric
    dense = matrix(J)
    assert (
        relative(dense.T @ S @ dense, hesse.hessian(cost, curvature="gauss_newton").dense()) < 1e-11
    )


@pytest.mark.parametrize("name", ["batch norm train", "cannot be exported", "tied layers"])
def test_of_costs_of_every_kind(name: str) -> None:
    cost = cost_of(next(case for case in CASES if case.name == name))
    J = hesse.jacobian(cost)
    squares = cost.squared_error_from_own_predictions()
    assert squares is not None
    expected = hesse.hessian(squares).dense() / cost.scale
    dense = matrix(J)
    assert relative(dense.T @ dense, expected) < 1e-9


def test_predictions_of_several_lengths_lie_flat() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1).double()
    data = [(x(2, 3, 2), x(2, 3, 1)), (x(1, 4, 2), x(1, 4, 1))]
    J = hesse.jacobian(Cost(model, "mse", data))
    assert J.rows.shapes == ((10,),)
    expected = torch.cat([part.reshape(-1, 2) for part, _ in data])
    assert relative(matrix(J)[:, :2], expected) < 1e-12


def test_one_by_one_where_there_is_no_rule_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    J = hesse.jacobian(cost_of(CASES[0]))
    expected = matrix(J)

    def refused(*arguments: Any) -> Any:
        raise RuntimeError("no rule for several")

    monkeypatch.setattr(module, "vmap", lambda function: refused)
    assert torch.equal(matrix(J), expected)
    monkeypatch.setattr(module, "vmap", vmap)
    monkeypatch.setattr(module, "_WIDEST", 3)
    assert torch.equal(matrix(J), expected)
    assert (J @ torch.zeros(J.shape[1], 0, dtype=J.dtype)).shape == (J.shape[0], 0)
    assert (J.T @ torch.zeros(J.shape[0], 0, dtype=J.dtype)).shape == (J.shape[1], 0)


def test_to_scipy() -> None:
    J = hesse.jacobian(cost_of(CASES[0]))
    theirs = J.to_scipy()
    u = torch.randn(J.shape[0], dtype=J.dtype)
    assert relative(torch.from_numpy(theirs.T @ u.numpy()), J.T @ u) < 1e-12


def test_what_is_refused() -> None:
    function = Cost.from_function(lambda p: (p["x"] ** 4).sum(), {"x": x(3)})
    with pytest.raises(HesseValueError, match="cost: it predicts nothing"):
        hesse.jacobian(function)
    J = hesse.jacobian(cost_of(CASES[0]))
    with pytest.raises(HesseTypeError, match=r"expected torch\.float64"):
        _ = J @ torch.ones(J.shape[1])
    with pytest.raises(HesseValueError, match=r"expected shape \(26,\)"):
        _ = J @ torch.ones(J.shape[0], dtype=J.dtype)
