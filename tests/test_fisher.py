"""The Fisher information: exact, from labels drawn, and from the labels that there are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import hesse
import networks as nets
from hesse.curvatures.fisher import SampledFisher
from hesse.curvatures.likelihoods import LIKELIHOODS
from hesse.errors import HesseTypeError, HesseValueError
from reference import relative


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def labels(*shape: int, ignored: bool = False) -> Tensor:
    drawn = torch.randint(3, shape)
    if ignored:
        drawn.view(-1)[::3] = -100
    return drawn


def tokens() -> nn.Module:
    """Scores of every token, (samples, classes, tokens)."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Unflatten(1, (3, 2)))


WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
# Of each likelihood: the network, the loss, X and y.
LOSSES: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[], tuple[Tensor, Tensor]]]] = {
    "cross_entropy": (
        lambda: nets.dense(4, 3, 3),
        "cross_entropy",
        lambda: (x(5, 4), labels(5)),
    ),
    "cross_entropy, weighed, smoothed, some left out": (
        lambda: nets.dense(4, 3, 3),
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
        lambda: (x(6, 4), labels(6, ignored=True)),
    ),
    "cross_entropy of probabilities": (
        lambda: nets.dense(4, 3, 3),
        nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum"),
        lambda: (x(5, 4), x(5, 3).softmax(1)),
    ),
    "cross_entropy of tokens": (
        tokens,
        "cross_entropy",
        lambda: (x(5, 4), labels(5, 2, ignored=True)),
    ),
    "binary_cross_entropy_with_logits": (
        lambda: nets.dense(4, 3, 2),
        nn.BCEWithLogitsLoss(pos_weight=WEIGHTS[1:]),
        lambda: (x(5, 4), torch.randint(2, (5, 2)).double()),
    ),
    "mse_loss": (lambda: nets.dense(4, 3, 2), "mse", lambda: (x(5, 4), x(5, 2))),
    "half_sse": (lambda: nets.dense(4, 3, 2), "half_sse", lambda: (x(5, 4), x(5, 2))),
    "poisson_nll_loss": (
        lambda: nets.dense(4, 3, 2),
        nn.PoissonNLLLoss(),
        lambda: (x(5, 4), torch.randint(4, (5, 2)).double()),
    ),
}


def cost_of(name: str) -> hesse.Cost:
    make, loss, data = LOSSES[name]
    torch.manual_seed(0)
    X, y = data()
    # Two batches, of which the last is shorter.
    return hesse.Cost(make().double(), loss, [(X[:3], y[:3]), (X[3:], y[3:])], penalty=0.1)


def test_every_likelihood_is_tried() -> None:
    assert {name.split(",")[0].split(" of ")[0] for name in LOSSES} == set(LIKELIHOODS)


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_over_labels_is_gauss_newton(name: str) -> None:
    """Exactly for the Fisher information; for labels drawn, four times as near with sixteen times
    as many."""
    cost = cost_of(name)
    G = hesse.hessian(cost, curvature="gauss_newton").dense()
    assert torch.equal(hesse.hessian(cost, curvature="fisher").dense(), G)
    counts = (64, 1024, 16384)
    drawn = [
        hesse.hessian(cost, curvature=SampledFisher(count), certify=False).dense()
        for count in counts
    ]
    errors = [relative(C, G) * count**0.5 for C, count in zip(drawn, counts, strict=True)]
    assert max(errors) < 4 and max(errors) < 6 * min(errors)
    assert float(torch.linalg.eigvalsh(drawn[0]).min()) > 0.1 - 1e-9  # with the penalty


def test_drawn_labels_in_everything_that_takes_a_curvature() -> None:
    """The same for blocks, diagonal and products, in every pass; others with another seed."""
    cost = cost_of("cross_entropy")
    C = hesse.hessian(cost, curvature="fisher_mc").dense()
    assert torch.equal(hesse.hessian(cost, curvature=SampledFisher()).dense(), C)
    assert not torch.equal(hesse.hessian(cost, curvature=SampledFisher(seed=1)).dense(), C)
    entries = hesse.diagonal(cost, curvature="fisher_mc")
    assert relative(cost.layout.flatten(entries), C.diagonal(), C) < 1e-12
    assert relative(hesse.operator(cost, curvature="fisher_mc") @ C, C @ C) < 1e-12
    assert not hesse.plan(cost, curvature="fisher_mc").by_columns
    op = hesse.operator(cost, curvature="fisher_mc")
    assert hesse.value(op.cost) == hesse.value(cost)
    moved = cost.at(cost.theta + 0.1)
    C = hesse.hessian(moved, curvature="fisher_mc").dense()
    q = hesse.quadratic(moved, curvature="fisher_mc")
    assert isinstance(q.hessian, hesse.BlockHessian)
    assert relative(q.hessian.dense(), C) < 1e-12 and q.value == hesse.value(moved)
    assert hesse.minimize(cost, curvature="fisher_mc", tolerance=1e-5).success


@pytest.mark.parametrize(
    "name",
    ["cross_entropy of tokens", "mse_loss", "cross_entropy, weighed, smoothed, some left out"],
)
def test_the_labels_that_there_are(name: str) -> None:
    """Against the samples' gradients one by one, with the divisor of the mean."""
    make, loss, _ = LOSSES[name]
    cost = cost_of(name)
    torch.manual_seed(0)
    X, y = LOSSES[name][2]()
    model = make().double()
    theta = {n: p.detach() for n, p in model.named_parameters()}
    summed: Any = {
        "mse": nn.MSELoss(reduction="sum"),
        "cross_entropy": nn.CrossEntropyLoss(reduction="sum"),
    }.get(loss if isinstance(loss, str) else "")
    if summed is None:
        summed = nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1, reduction="sum")

    def of_sample(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return summed(functional_call(model, theta, (x[None],)), y[None])

    rows = vmap(grad(of_sample), (None, 0, 0))(theta, X, y)
    g = torch.cat([rows[n].flatten(1) for n in theta], 1)
    expected = cost.scale * g.T @ g + 0.1 * torch.eye(g.shape[1]).double()
    H = hesse.hessian(cost, curvature="empirical_fisher")
    assert relative(H.dense(), expected) < 1e-10
    assert H.certificate is not None and H.provenance["curvature"] == "empirical_fisher"
    assert (
        relative(hesse.operator(cost, curvature="empirical_fisher") @ g.T, expected @ g.T) < 1e-10
    )


def test_of_two_tensors_and_of_a_loss_of_one_s_own() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.spread = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"mean": self.mean(x), "spread": self.spread(x).tanh()}

    def likelihood(z: dict[str, Tensor], y: Tensor) -> Tensor:
        return (z["spread"] + 0.5 * (y - z["mean"]).square() * torch.exp(-2 * z["spread"])).sum()

    torch.manual_seed(0)
    model, X, y = Pair().double(), x(6, 3), x(6, 2)
    cost = hesse.Cost(model, likelihood, (X, y))
    theta = {n: p.detach() for n, p in model.named_parameters()}

    def of_sample(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return likelihood(functional_call(model, theta, (x[None],)), y[None])

    rows = vmap(grad(of_sample), (None, 0, 0))(theta, X, y)
    g = torch.cat([rows[n].flatten(1) for n in theta], 1)
    assert relative(hesse.hessian(cost, curvature="empirical_fisher").dense(), g.T @ g) < 1e-10
    for name in ("fisher", "fisher_mc"):
        with pytest.raises(HesseValueError, match=r"is known for .* is 'likelihood"):
            hesse.hessian(cost, curvature=name)


def test_what_is_refused() -> None:
    function = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum(), {"x": x(3)})
    coupled = hesse.Cost(
        nets.dense(3, 2),
        lambda z, y: (z - y).square().mean().sqrt(),
        (x(4, 3).float(), x(4, 2).float()),
    )
    for name in ("fisher", "fisher_mc", "empirical_fisher"):
        with pytest.raises(HesseValueError, match="a function of its parameters"):
            hesse.hessian(function, curvature=name)
    with pytest.raises(HesseValueError, match="couples its samples"):
        hesse.hessian(coupled, curvature="empirical_fisher")
    with pytest.raises(HesseValueError, match="samples: expected a number >= 1, got 0"):
        SampledFisher(0)
    with pytest.raises(HesseTypeError, match="seed: expected a whole number, got bool"):
        SampledFisher(seed=True)
