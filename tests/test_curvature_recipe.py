"""Adding a curvature: one object, registered, goes through everything that takes one. Here
Gauss–Newton, G = Σ Jᵀ ∇²ℓ J.

J is the Jacobian of the prediction ŷ in θ and ∇²ℓ the Hessian of the loss in ŷ. Held against that
very formula in `torch.func`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.utils import _pytree as pytree

import hesse
import networks as nets
from hesse.cost import Cost
from hesse.curvatures.curvature import (
    Curvature,
    curvature_named,
    register,
    require_prediction,
    unregister,
)
from hesse.data.batch import Batch
from hesse.derivatives import Derivatives, Map
from hesse.errors import HesseTypeError, HesseValueError
from hesse.exact import part_planning
from hesse.graph.graph import Graph
from hesse.products.linearize import METHODS
from hesse.products.terms import Term, batch_term
from reference import relative

# ---------------------------------------------------------------- all that is to be written


@final
class GaussNewton(Curvature):
    """Σ Jᵀ ∇²ℓ J: what of H is left where the prediction is replaced by its tangent."""

    name = "gauss_newton"

    def check(self, cost: Cost) -> None:
        require_prediction(cost, self.name)

    def straight(self, graph: Graph) -> frozenset[str]:
        """What the prediction is made by."""
        return graph.predicted

    def product(self, by: Derivatives, term: Term, moving: Sequence[int] | None) -> Map:
        """Jᵀ (∇²ℓ (J v))."""
        predict, judge = term.cut
        prediction, push, pull = by.first(predict, term.theta, moving)
        bend = by.second(judge, prediction)
        return lambda v: pull(bend(push(v)))

    def reference(self, cost: Cost) -> Cost:
        """ℓ(ŷ) − ∇ℓ·ŷ, ∇ℓ held fixed: no slope in ŷ, so that nothing is left of its second
        derivatives."""
        both, judge = cost.predict_and_total, cost.loss_of_prediction
        assert both is not None and judge is not None

        def total(parameters: dict[str, Tensor], batch: Batch | None) -> Tensor:
            assert batch is not None
            prediction, value = both(parameters, batch)
            apart = pytree.tree_map(lambda z: z.detach().requires_grad_(), prediction)
            slopes = torch.autograd.grad(judge(parameters, apart, batch), pytree.tree_leaves(apart))
            return value - sum(
                (s * z).sum() for s, z in zip(slopes, pytree.tree_leaves(prediction), strict=True)
            )

        return cost.with_total(total)


# ---------------------------------------------------------------- what it is held against


@pytest.fixture(autouse=True)
def gauss_newton() -> Iterator[Curvature]:
    curvature = register(GaussNewton())
    yield curvature
    unregister("gauss_newton")


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


@pytest.fixture(params=list(NETWORKS))
def subject(request: pytest.FixtureRequest) -> tuple[Cost, Tensor]:
    """A cost, and its Gauss–Newton matrix by `torch.func`."""
    make, loss, function, inputs, targets = NETWORKS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = make().double(), inputs(), targets()
    cost = hesse.Cost(model, loss, (X, y), penalty=0.1)
    return cost, expected(model, function, X, y) + 0.1 * torch.eye(
        cost.layout.size, dtype=torch.float64
    )


def expected(model: nn.Module, loss: Any, X: Tensor, y: Tensor) -> Tensor:
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
    return J.T @ hessian(judge)(z) @ J


# ---------------------------------------------------------------- tests


def test_hessian(subject: tuple[Cost, Tensor]) -> None:
    cost, G = subject
    found = hesse.hessian(cost, curvature="gauss_newton")
    assert relative(found.dense(), G) < 1e-9
    assert found.certificate is not None and found.certificate.deviation < 1e-9
    assert found.provenance["curvature"] == "gauss_newton" and "gauss_newton" in str(
        found.certificate
    )
    assert "gauss_newton" in str(
        hesse.plan(cost, curvature="gauss_newton")
    ) and "gauss_newton" not in str(hesse.plan(cost))
    blocks = hesse.hessian(cost, curvature="gauss_newton", block_diagonal=True)
    for name in cost.layout.names:
        at, size = cost.layout.slice(name), cost.layout.sizes[name]
        assert relative(blocks[name, name].reshape(size, size), G[at, at], G) < 1e-9


def test_no_path_was_left_for_a_slower_one(subject: tuple[Cost, Tensor]) -> None:
    cost, _ = subject
    hesse.hessian(cost, curvature="gauss_newton")
    hesse.operator(cost, curvature="gauss_newton")
    plain, plan = hesse.plan(cost), hesse.plan(cost, curvature="gauss_newton")
    assert (
        plan.captured is plain.captured
        and plan.by_columns == plain.by_columns
        and plan.notes == plain.notes
    )
    assert hesse.operator(cost, curvature="gauss_newton").methods == ("straight line",)


def test_columns(subject: tuple[Cost, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything by products, side by side and one by one."""
    cost, G = subject

    def refuse(*arguments: Any) -> None:
        raise part_planning.NotCaptured("not asked to")

    monkeypatch.setattr(part_planning, "capture", refuse)
    found = hesse.hessian(cost, curvature="gauss_newton")
    assert len(hesse.plan(cost, curvature="gauss_newton").by_columns) == len(cost.layout.names)
    assert relative(found.dense(), G) < 1e-9


def test_diagonal(subject: tuple[Cost, Tensor]) -> None:
    cost, G = subject
    found = hesse.diagonal(cost, curvature="gauss_newton")
    assert relative(cost.layout.flatten(found), G.diagonal(), G) < 1e-9
    assert found.certificate is not None  # type: ignore[attr-defined]


def test_operator_by_every_method(subject: tuple[Cost, Tensor]) -> None:
    cost, G = subject
    V = torch.randn(cost.layout.size, 3, dtype=torch.float64)
    op = hesse.operator(cost, curvature="gauss_newton")
    assert relative(op @ V, G @ V) < 1e-9 and relative(op @ V[:, 0], G @ V[:, 0]) < 1e-9
    assert op.certificate is not None
    curved = cost.with_curvature("gauss_newton")
    v = list(cost.layout.unflatten(V[:, 0]).values())
    for method in METHODS:
        made = method(batch_term(curved, next(curved.batches()))).product(v)
        assert (
            relative(torch.cat([part.reshape(-1) for part in made]) + 0.1 * V[:, 0], G @ V[:, 0])
            < 1e-9
        )


def test_batches() -> None:
    """A ragged last batch, and another θ: no more is traced, and the divisor is that of all the
    data."""
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(7, 3), x(7, 2)
    cost = hesse.Cost(model, "mse", [(X[:3], y[:3]), (X[3:6], y[3:6]), (X[6:], y[6:])])
    moved = cost.at(cost.theta + 0.1)
    nn.utils.vector_to_parameters(moved.theta, model.parameters())
    G = expected(model, nn.functional.mse_loss, X, y)
    assert relative(hesse.hessian(moved, curvature="gauss_newton").dense(), G) < 1e-9
    v = torch.randn(len(G), dtype=torch.float64)
    assert relative(hesse.operator(moved, curvature="gauss_newton") @ v, G @ v) < 1e-9


def test_quadratic_and_minimize() -> None:
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(6, 3), x(6, 2)
    cost = hesse.Cost(model, "half_sse", (X, y), penalty=0.1)
    G = expected(model, half_sse, X, y) + 0.1 * torch.eye(cost.layout.size, dtype=torch.float64)
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


def test_a_wrong_one_is_found(gauss_newton: Curvature, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three answers hold each other to account: a sweep that leaves out too little, and a
    product with H in place of G."""
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 2).double(), x(6, 3), x(6, 2)
    G = expected(model, half_sse, X, y)
    monkeypatch.setattr(GaussNewton, "straight", lambda self, graph: frozenset())
    cost = hesse.Cost(model, "half_sse", (X, y))
    assert relative(hesse.hessian(cost, curvature="gauss_newton").dense(), G) < 1e-9
    assert all(
        "by contraction gave" in note for note in hesse.plan(cost, curvature="gauss_newton").notes
    )
    assert not hesse.plan(cost).notes
    product = curvature_named("hessian").product
    monkeypatch.setattr(
        GaussNewton, "product", lambda self, by, term, moving: product(by, term, moving)
    )
    with pytest.raises(HesseValueError, match="its products cannot be certified"):
        hesse.operator(hesse.Cost(model, "half_sse", (X, y)), curvature="gauss_newton")


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
    with pytest.raises(HesseValueError, match="expected one of 'gauss_newton', got 'gaus_newton'"):
        TAKERS[name](cost, curvature="gaus_newton")
    assert TAKERS[name](cost, curvature=curvature_named("hessian")) is not None


def test_what_is_no_curvature() -> None:
    with pytest.raises(
        HesseTypeError,
        match=r"expected a name \('hessian', 'gauss_newton'\) or a Curvature, got int",
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
