"""The parts of H, Gauss–Newton's G = Σ Jᵀ ∇²ℓ J and the functional F = H − G, in everything that
takes a curvature.

J is the Jacobian of the prediction ŷ in θ and ∇²ℓ the Hessian of the loss in ŷ. Held against that
very formula in `torch.func`.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

import hesse
import networks as nets
from hesse.cost import Cost
from hesse.curvatures.curvature import curvature_named, register
from hesse.curvatures.gauss_newton import GaussNewton
from hesse.errors import HesseTypeError, HesseValueError
from hesse.exact import part_planning
from hesse.products.linearize import METHODS
from hesse.products.terms import batch_term
from reference import relative

# ---------------------------------------------------------------- what it is held against


def half_sse(z: Tensor, y: Tensor) -> Tensor:
    return (z - y).square().sum() / 2


def quartic(z: Tensor, y: Tensor) -> Tensor:
    return ((z - y) ** 4).mean()


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )


def coupled() -> nn.Module:
    """BatchNorm in training mode, without statistics that it would write."""
    return nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Tanh(), nn.Linear(3, 2)
    )


class Pair(nn.Module):
    """A prediction of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.spread = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = torch.tanh(self.body(x))
        return {"mean": self.mean(a), "spread": self.spread(a)}


def likelihood(z: dict[str, Tensor], y: Tensor) -> Tensor:
    return (z["spread"] + 0.5 * (y - z["mean"]).square() * torch.exp(-2 * z["spread"])).sum()


# name: (the network, the loss given to hesse and as a function, X, y)
NETWORKS: dict[
    str, tuple[Callable[[], nn.Module], Any, Any, Callable[[], Tensor], Callable[[], Tensor]]
] = {
    "dense": (
        lambda: nets.dense(3, 4, 3, 2),
        "half_sse",
        half_sse,
        lambda: x(6, 3),
        lambda: x(6, 2),
    ),
    "dense, a loss of one's own": (
        lambda: nets.dense(3, 4, 2),
        quartic,
        quartic,
        lambda: x(6, 3),
        lambda: x(6, 2),
    ),
    "convolutional": (
        convolutional,
        "cross_entropy",
        nn.functional.cross_entropy,
        lambda: x(5, 1, 4, 4),
        lambda: torch.randint(3, (5,)),
    ),
    "residual": (nets.Residual, "half_sse", half_sse, lambda: x(6, 3), lambda: x(6, 2)),
    "tied": (nets.tied_layers, "half_sse", half_sse, lambda: x(6, 3), lambda: x(6, 3)),
    "tokens": (
        lambda: nets.spread(nets.Transformer()),
        "cross_entropy",
        nn.functional.cross_entropy,
        lambda: torch.randint(4, (5, 3)),
        lambda: torch.randint(4, (5, 3)),
    ),
    "large parameter without a slot": (
        lambda: nets.ExpWeight(20, 13),
        "half_sse",
        half_sse,
        lambda: x(5, 20),
        lambda: x(5, 2),
    ),
    "samples that are not independent": (
        coupled,
        "half_sse",
        half_sse,
        lambda: x(6, 3),
        lambda: x(6, 2),
    ),
    "two tensors predicted": (Pair, likelihood, likelihood, lambda: x(6, 3), lambda: x(6, 2)),
}


SUBJECTS = [(a, b) for a in NETWORKS for b in ("gauss_newton", "functional")]
Subject = tuple[Cost, str, Tensor]


def made(network: str, curvature: str) -> Subject:
    """A cost, a curvature, and its matrix by `torch.func`."""
    make, loss, function, inputs, targets = NETWORKS[network]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = make().double(), inputs(), targets()
    cost = hesse.Cost(model, loss, (X, y), penalty=0.1)
    G, F = expected(model, function, X, y)
    if curvature == "functional":
        return cost, "functional", F
    return cost, "gauss_newton", G + 0.1 * torch.eye(len(G), dtype=torch.float64)


@pytest.fixture(scope="module", params=SUBJECTS, ids="-".join)
def subject(request: pytest.FixtureRequest) -> Subject:
    """The same for all tests, which trace it once."""
    return made(*request.param)


def expected(model: nn.Module, loss: Any, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """G and F."""
    names = [name for name, _ in model.named_parameters()]
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    fixed = {name: b.detach().clone() for name, b in model.named_buffers()}
    shapes = []

    def predict(theta: dict[str, Tensor]) -> Tensor:
        leaves, spec = pytree.tree_flatten(functional_call(model, {**fixed, **theta}, (X,)))
        shapes[:] = [[leaf.shape for leaf in leaves], spec]
        return torch.cat([leaf.reshape(-1) for leaf in leaves])

    def judge(flat: Tensor) -> Tensor:
        parts = flat.split([math.prod(shape) for shape in shapes[0]])
        return loss(
            pytree.tree_unflatten(
                [p.reshape(s) for p, s in zip(parts, shapes[0], strict=True)], shapes[1]
            ),
            y,
        )

    jacobian = jacrev(predict)(theta)
    z = predict(theta)
    J = torch.cat([jacobian[name].reshape(len(z), -1) for name in names], dim=1)
    G = J.T @ hessian(judge)(z) @ J
    sizes = [theta[name].numel() for name in names]

    def whole(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), strict=True)
        return judge(predict({name: part.reshape(theta[name].shape) for name, part in parts}))

    # By double backward: forward mode has no rule for attention's kernels, and a wrong one for
    # normalisation's.
    with sdpa_kernel(SDPBackend.MATH):
        H = torch.autograd.functional.hessian(
            whole, torch.cat([p.flatten() for p in theta.values()])
        )
    assert isinstance(H, Tensor)
    return G, H - G


# ---------------------------------------------------------------- tests


def test_hessian(subject: Subject) -> None:
    cost, name, C = subject
    found = hesse.hessian(cost, curvature=name)
    assert relative(found.dense(), C) < 1e-9
    assert found.certificate is not None and found.certificate.deviation < 1e-9
    assert found.provenance["curvature"] == name and name in str(found.certificate)
    assert name in str(hesse.plan(cost, curvature=name)) and name not in str(hesse.plan(cost))
    blocks = hesse.hessian(cost, curvature=name, block_diagonal=True)
    for part in cost.layout.names:
        at, size = cost.layout.slice(part), cost.layout.sizes[part]
        assert relative(blocks[part, part].reshape(size, size), C[at, at], C) < 1e-9


def test_no_path_was_left_for_a_slower_one(subject: Subject) -> None:
    cost, name, _ = subject
    hesse.hessian(cost, curvature=name)
    hesse.operator(cost, curvature=name)
    plain, plan = hesse.plan(cost), hesse.plan(cost, curvature=name)
    assert (
        plan.captured is plain.captured
        and plan.by_columns == plain.by_columns
        and plan.notes == plain.notes
    )
    assert hesse.operator(cost, curvature=name).methods == ("straight line",)


@pytest.mark.parametrize(("network", "name"), SUBJECTS)
def test_columns(network: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything by products, side by side and one by one, of a model that was never traced."""
    cost, _, C = made(network, name)

    def refuse(*arguments: Any) -> None:
        raise part_planning.NotCaptured("not asked to")

    monkeypatch.setattr(part_planning, "capture", refuse)
    found = hesse.hessian(cost, curvature=name)
    assert len(hesse.plan(cost, curvature=name).by_columns) == len(cost.layout.names)
    assert relative(found.dense(), C) < 1e-9


def test_diagonal(subject: Subject) -> None:
    cost, name, C = subject
    found = hesse.diagonal(cost, curvature=name)
    assert relative(cost.layout.flatten(found), C.diagonal(), C) < 1e-9
    assert found.certificate is not None  # type: ignore[attr-defined]


def test_a_diagonal_goes_down_by_the_rows_of_the_prediction() -> None:
    """Below which everything counts as linear, however large S of its sites would be."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    ).double()
    cost = Cost(model, "cross_entropy", (x(3, 1, 40, 40), torch.arange(3)))
    assert hesse.plan(cost, diagonal=True).by_columns
    assert not hesse.plan(cost, diagonal=True, curvature="gauss_newton").by_columns
    found = hesse.diagonal(cost, curvature="gauss_newton", certify=False)
    units = torch.eye(cost.layout.size, dtype=torch.float64)
    expected = (hesse.operator(cost, curvature="gauss_newton") @ units).diagonal()
    assert relative(cost.layout.flatten(found), expected) < 1e-10


def test_operator_by_every_method(subject: Subject) -> None:
    cost, name, C = subject
    V = torch.randn(cost.layout.size, 3, dtype=torch.float64)
    op = hesse.operator(cost, curvature=name)
    assert relative(op @ V, C @ V) < 1e-9 and relative(op @ V[:, 0], C @ V[:, 0]) < 1e-9
    assert op.certificate is not None
    curved = cost.with_curvature(name)
    v = list(cost.layout.unflatten(V[:, 0]).values())
    for method in METHODS:
        made = method(batch_term(curved, next(curved.batches()))).product(v)
        product = torch.cat([part.reshape(-1) for part in made])
        if name == "gauss_newton":  # which holds the penalty
            product += 0.1 * V[:, 0]
        assert relative(product, C @ V[:, 0]) < 1e-9


def test_batches() -> None:
    """A ragged last batch, and another θ: no more is traced, and the divisor is that of all the
    data."""
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(7, 3), x(7, 2)
    cost = hesse.Cost(model, "mse", [(X[:3], y[:3]), (X[3:6], y[3:6]), (X[6:], y[6:])])
    moved = cost.at(cost.theta + 0.1)
    nn.utils.vector_to_parameters(moved.theta, model.parameters())
    G, _ = expected(model, nn.functional.mse_loss, X, y)
    assert relative(hesse.hessian(moved, curvature="gauss_newton").dense(), G) < 1e-9
    v = torch.randn(len(G), dtype=torch.float64)
    assert relative(hesse.operator(moved, curvature="gauss_newton") @ v, G @ v) < 1e-9


def test_quadratic_and_minimize() -> None:
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(6, 3), x(6, 2)
    cost = hesse.Cost(model, "half_sse", (X, y), penalty=0.1)
    G = expected(model, half_sse, X, y)[0] + 0.1 * torch.eye(cost.layout.size).double()
    g = cost.layout.flatten(hesse.gradient(cost))
    for dense in (True, False):
        q = hesse.quadratic(cost, curvature="gauss_newton", dense=dense)
        assert q.curvature == "gauss_newton" and q.value == hesse.value(cost)
        assert relative(q.newton().vector, -torch.linalg.solve(G, g)) < (1e-9 if dense else 1e-6)
        assert relative(q.product(g), G @ g) < 1e-9
        damped = -torch.linalg.solve(G + 0.1 * G.diagonal().diag(), g)
        assert relative(q.levenberg_marquardt(0.1).vector, damped) < (1e-9 if dense else 1e-6)
    for method in ("trust-exact", "dogleg", "trust-krylov"):
        result = hesse.minimize(cost, method, curvature="gauss_newton", tolerance=1e-6)
        assert result.success and all(
            certificate.deviation < 1e-9 for certificate in result.certificates
        )


def test_the_prediction_is_marked() -> None:
    torch.manual_seed(0)
    model = nets.dense(3, 4, 2).double()
    graph = part_planning.capture(hesse.Cost(model, "half_sse", (x(6, 3), x(6, 2)))).graph
    assert graph.predictions is not None
    (prediction,) = graph.predictions
    assert (
        graph.shapes[prediction] == (1, 2)
        and prediction in graph.predicted
        and graph.output not in graph.predicted
    )
    own = hesse.Cost(model, lambda z, y: ((z - y) ** 2).sum(), (x(6, 3), x(6, 2)))
    assert part_planning.capture(own).graph.predictions is not None
    linear = lambda p, batch: (batch[0] @ p["w"] - batch[1]).square().mean()  # noqa: E731
    whole = hesse.Cost.from_function(linear, {"w": x(3)}, (x(6, 3), x(6)))
    assert part_planning.capture(whole).graph.predictions is None


FUNCTIONS = {
    "hessian": hesse.hessian,
    "diagonal": hesse.diagonal,
    "operator": hesse.operator,
    "plan": hesse.plan,
}
TAKERS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "quadratic": hesse.quadratic,
    "minimize": hesse.minimize,
}


@pytest.mark.parametrize("name", list(TAKERS))
def test_what_is_refused(name: str) -> None:
    cost = hesse.Cost.from_function(lambda p: (p["x"] ** 4).sum(), {"x": x(3)})
    with pytest.raises(
        HesseValueError,
        match=r"'gauss_newton' is made of .* a function of its parameters, made by Cost",
    ):
        TAKERS[name](cost, curvature="gauss_newton")
    with pytest.raises(HesseValueError, match=r"expected one of .*got 'gaus"):
        TAKERS[name](cost, curvature="gaus_newton")
    assert TAKERS[name](cost, curvature=curvature_named("hessian")) is not None


def test_what_is_no_curvature() -> None:
    with pytest.raises(
        HesseTypeError,
        match=r"expected a name \('hessian', .*'functional'.*\) or a Curvature, got int",
    ):
        curvature_named(3)


def test_a_cost_without_a_prediction() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets.dense(3, 4, 2).double()

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return (self.net(x) - labels).square().mean()

    cost = hesse.Cost(Whole(), data={"x": x(6, 3), "labels": x(6, 2)})
    with pytest.raises(HesseValueError, match="one whose model gives the loss itself"):
        hesse.hessian(cost, curvature="gauss_newton")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(HesseValueError, match="the name 'gauss_newton' is taken"):
        register(GaussNewton())
