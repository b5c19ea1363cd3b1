"""Costs of the parameters alone, which may couple all that they close over, are derived as one
expression; and losses and pieces of PyTorch that have a formula."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hesse
from hesse.derivation.calculus.program import BlackBox

GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


X, Y, T = drawn(6, 3), drawn(6), drawn(4, 4)
K = T @ T.T
COUNTS = torch.tensor([0.0, 2.0, 1.0, 4.0], dtype=torch.float64)


def cox(p: dict[str, Tensor]) -> Tensor:
    risk = X @ p["w"]
    return -(risk - torch.stack([torch.logsumexp(risk[k:], 0) for k in range(6)])).sum()


def binomial(p: dict[str, Tensor]) -> Tensor:
    r = p["r"].exp()
    return -(torch.lgamma(COUNTS + r) - torch.lgamma(r)).sum()


def process(p: dict[str, Tensor]) -> Tensor:
    C = p["s"].exp() * K + torch.eye(4, dtype=torch.float64)
    return 0.5 * torch.logdet(C) + 0.5 * Y[:4] @ torch.linalg.solve(C, Y[:4])


COSTS: dict[str, tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]] = {
    "Cox": (cox, {"w": drawn(3)}),
    "Bradley-Terry": (
        lambda p: -F.logsigmoid(p["b"][:, None] - p["b"][None]).sum(),
        {"b": drawn(4)},
    ),
    "negative binomial": (binomial, {"r": drawn()}),
    "contrastive": (
        lambda p: F.cross_entropy(X @ p["A"] @ X.T, torch.arange(6)),
        {"A": drawn(3, 3)},
    ),
    "Gaussian process": (process, {"s": drawn()}),
    "Rosenbrock": (
        lambda p: 100 * (p["b"] - p["a"] ** 2) ** 2 + (1 - p["a"]) ** 2,
        {"a": drawn(), "b": drawn()},
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_function_of_the_parameters_alone_is_derived_whole(name: str) -> None:
    function, parameters = COSTS[name]
    d = hesse.derive(hesse.Cost.from_function(function, parameters))
    flat = torch.cat([value.reshape(-1) for value in parameters.values()])

    def cost(vector: Tensor) -> Tensor:
        parts = vector.split([value.numel() for value in parameters.values()])
        pairs = zip(parameters.items(), parts, strict=True)
        return function({name: part.reshape(value.shape) for (name, value), part in pairs})

    expected = torch.func.hessian(cost)(flat)
    # PyTorch's trigamma has ten digits.
    assert torch.allclose(d.hessian().evaluate(), expected, rtol=1e-9, atol=1e-9)
    assert "one sample" not in d.text() and "own parameters" in d.text()


def normalised(o: Tensor, y: Tensor) -> Tensor:
    z = F.normalize(o, dim=1)
    return F.cross_entropy(z @ z.T / 0.5, torch.arange(len(o)).roll(1))


def partial_likelihood(o: Tensor, y: Tensor) -> Tensor:
    later = y[None] >= y[:, None]
    risks = o[:, 0][None].masked_fill(~later, -1e9)
    return -(o[:, 0] - torch.logsumexp(risks, 1)).mean()


COUPLED: dict[str, Callable[[], hesse.Cost]] = {
    "NT-Xent": lambda: hesse.Cost(nn.Linear(3, 2, bias=False).double(), normalised, (X, Y)),
    "Cox of a model": lambda: hesse.Cost(
        nn.Linear(3, 1, bias=False).double(), partial_likelihood, (X, Y)
    ),
    "BatchNorm": lambda: hesse.Cost(
        nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2)).double(), "mse", (X, X[:, :2])
    ),
}


@pytest.mark.parametrize("name", COUPLED)
def test_a_cost_that_couples_its_samples_is_derived_whole(name: str) -> None:
    cost = COUPLED[name]()
    d = hesse.derive(cost)
    # Beside double backward of the user's own function.
    expected = hesse.operator(cost) @ torch.eye(cost.layout.size, dtype=torch.float64)
    torch.testing.assert_close(d.hessian().evaluate(), expected, rtol=1e-9, atol=1e-9)
    assert d.certificate is not None and d.certificate.block_deviation < 1e-9
    assert any("of all 6 samples together" in note for note in d.notes)
    assert "x" in d.program.leaves and not d.program.leaves["x"].per_sample
    assert all(not isinstance(q.definition, BlackBox) for q in d.program.quantities)


def test_ids_are_called_by_the_data_that_they_are_of() -> None:
    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(4, 2), nn.Embedding(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return (self.user(x[:, 0]) * self.item(x[:, 1])).sum(1, keepdim=True)

    pairs = torch.tensor([[0, 4], [3, 1], [2, 2]])
    d = hesse.derive(hesse.Cost(Factors().double(), "mse", (pairs, drawn(3, 1))))
    assert "[w = x0]" in d.text() and "[w2 = x1]" in d.text()


class Headed(nn.Module):
    """A layer and a function of what it gives."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4, bias=False)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x))


@pytest.mark.parametrize(
    ("head", "loss", "target", "matrix"),
    [
        (
            lambda z: F.log_softmax(z, -1),
            nn.KLDivLoss(reduction="batchmean"),
            torch.softmax(drawn(6, 4), -1),
            "(1ᵀ y) (diag(p) − p pᵀ) ⊗ x xᵀ",
        ),
        (
            lambda z: F.log_softmax(z, -1),
            nn.KLDivLoss(reduction="sum", log_target=True),
            torch.log_softmax(drawn(6, 4), -1),
            None,
        ),
        (
            lambda z: F.log_softmax(z, -1),
            nn.KLDivLoss(reduction="sum"),
            torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]],
            None,
        ),
        (lambda z: z.clamp(min=0), "mse", drawn(6, 4), None),
        (lambda z: z.clamp(-0.5, 0.5), "mse", drawn(6, 4), None),
        (lambda z: z.clamp(max=0.3), "mse", drawn(6, 4), None),
    ],
)
def test_pieces_of_pytorch_have_a_formula(head, loss, target: Tensor, matrix: str | None) -> None:
    torch.manual_seed(0)
    cost = hesse.Cost(Headed(head).double(), loss, (X, target))
    d = hesse.derive(cost)
    block = d.block("layer.weight", "layer.weight")
    expected = hesse.hessian(cost)["layer.weight", "layer.weight"]
    assert torch.allclose(block.evaluate(), expected, rtol=1e-9, atol=1e-11)
    assert matrix is None or block.matrix() == matrix
    assert "clamp'" not in block.text() and "kl_div" not in block.text()
