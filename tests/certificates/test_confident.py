"""Classifiers that are sure, and costs whose H is nothing but rounding: not refused, not slowed
down, rightly certified."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from hesse.certificates.comparison import compare
from hesse.certificates.reference import Request, products
from hesse.certificates.rounding import noise

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64], ids=["float32", "float64"]
)
WEIGHTS = (3.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 48.0, 500.0)


def two_classes(weight: float, target: int = 0) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Logits ± weight."""
    net = nn.Linear(1, 2, bias=False).double()
    net.weight.data = torch.tensor([[weight], [-weight]]).double()
    return net, (torch.ones(1, 1).double(), torch.tensor([target]))


def large() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)
    net = nn.Linear(4, 3).double()
    net.weight.data = 1e3 * torch.randn(3, 4, generator=random, dtype=torch.float64)
    return net, (
        torch.randn(8, 4, generator=random, dtype=torch.float64),
        torch.randint(3, (8,), generator=random),
    )


def trained() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Hidden units, and a loss that is nearly zero on most samples."""
    random = torch.Generator().manual_seed(1)
    X = torch.randn(60, 3, generator=random, dtype=torch.float64)
    y = (X[:, 0] > 0).long()
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net[0].weight.data = torch.tensor([[3.0, 0, 0], [2, 1, 0], [2, 0, 1], [3, -1, 0]]).double()
    net[2].weight.data = torch.tensor([[-4.0] * 4, [4.0] * 4]).double()
    for name in ("0.bias", "2.bias"):
        net.get_parameter(name).data.zero_()
    return net, (X, y)


SURE = {f"logits {weight:g}": lambda weight=weight: two_classes(weight) for weight in WEIGHTS}
SURE |= {
    f"wrong by {2 * weight:g}": lambda weight=weight: two_classes(weight, 1) for weight in WEIGHTS
}
SURE |= {"large weights": large, "trained": trained}
MODELS = pytest.mark.parametrize(
    "make", SURE.values(), ids=[name.replace(" ", "-") for name in SURE]
)


def cost_of(make: Callable[[], Any], dtype: torch.dtype) -> hesse.Cost:
    net, (X, y) = make()
    return hesse.Cost(net.to(dtype), "cross_entropy", (X.to(dtype), y))


def true(make: Callable[[], Any], dtype: torch.dtype) -> Tensor:
    """H without cancellation: p (1 − p) as p times the sum of the others, in float64, at the
    parameters as the dtype has them."""
    net, (X, y) = make()
    parameters = {name: p.detach().to(dtype).double() for name, p in net.named_parameters()}
    flat = torch.cat([p.reshape(-1) for p in parameters.values()])

    def logits(theta: Tensor) -> Tensor:
        parts = theta.split([p.numel() for p in parameters.values()])
        named = {
            name: part.reshape(p.shape)
            for (name, p), part in zip(parameters.items(), parts, strict=True)
        }
        return torch.func.functional_call(net, named, (X.to(dtype).double(),))

    p = logits(flat).softmax(1)
    others = torch.stack(
        [p[:, [j for j in range(p.shape[1]) if j != k]].sum(1) for k in range(p.shape[1])], 1
    )
    S = torch.diag_embed(p * others + p * p) - p.unsqueeze(2) * p.unsqueeze(1)
    S = S - torch.diag_embed(S.diagonal(dim1=1, dim2=2)) + torch.diag_embed(p * others)
    J = torch.func.jacrev(logits)(flat)
    delta = p - F.one_hot(y, p.shape[1])
    delta[torch.arange(len(y)), y] = -others[torch.arange(len(y)), y]
    bent = torch.func.hessian(lambda theta: (logits(theta) * delta).sum())(flat)
    return (torch.einsum("nkp,nkl,nlq->pq", J, S, J) + bent) / len(y)


@pytest.mark.some(of=4)
@DTYPES
@MODELS
def test_the_straight_line_serves_them(make: Callable[[], Any], dtype: torch.dtype) -> None:
    op = hesse.operator(cost_of(make, dtype))
    assert op.methods == ("straight line",) and not op.notes


@DTYPES
@MODELS
def test_nothing_untrue_is_said_of_them(make: Callable[[], Any], dtype: torch.dtype) -> None:
    plan = hesse.plan(cost_of(make, dtype))
    assert plan.captured and not plan.notes and not plan.by_columns


@pytest.mark.some(of=2)
@DTYPES
@MODELS
def test_what_is_given_is_within_what_the_certificate_says(
    make: Callable[[], Any], dtype: torch.dtype
) -> None:
    cost, expected = cost_of(make, dtype), true(make, dtype)
    made = hesse.hessian(cost)
    found = made.dense().double()
    assert made.certificate is not None
    scale = max(float(expected.norm()), float(found.norm()))
    # 4: a product with a random v may show less of it than there is.
    assert float((found - expected).norm()) <= 4 * made.certificate.rounding * scale
    entries = hesse.diagonal(cost)
    assert entries.certificate is not None
    flat = torch.cat([part.reshape(-1) for part in entries.values()]).double()
    scale = max(float(expected.diagonal().norm()), float(flat.norm()))
    assert float((flat - expected.diagonal()).norm()) <= 4 * entries.certificate.rounding * scale
    # And that within a few roundings of JᵀJ.
    plain = cost.squared_error_from_own_predictions()
    assert plain is not None
    size = float(hesse.hessian(plain, certify=False).dense().double().norm()) + float(
        expected.norm()
    )
    assert float((found - expected).norm()) <= 30 * torch.finfo(dtype).eps * size


@DTYPES
def test_the_rounding_of_a_cost_that_is_not_sure_is_the_usual(dtype: torch.dtype) -> None:
    _, (X, y) = large()
    certificate = hesse.hessian(
        hesse.Cost(nn.Linear(4, 3).to(dtype), "cross_entropy", (X.to(dtype), y))
    ).certificate
    assert (
        certificate is not None
        and certificate.rounding <= {torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    )


@pytest.mark.some(of=2)
@DTYPES
@pytest.mark.parametrize("weight", WEIGHTS)
def test_functions_have_no_predictions_and_are_sure_too(weight: float, dtype: torch.dtype) -> None:
    net, (X, y) = two_classes(weight)
    w = {"w": net.get_parameter("weight").detach().to(dtype)}
    cost = hesse.Cost.from_function(
        lambda p, batch: F.cross_entropy(batch[0] @ p["w"].T, batch[1]), w, (X.to(dtype), y)
    )
    op = hesse.operator(cost)
    assert op.methods == ("straight line",) and not op.notes
    made = hesse.hessian(cost)
    assert (
        float((made.dense().double() - true(lambda: two_classes(weight), dtype)).norm())
        < 30 * torch.finfo(dtype).eps
    )


@DTYPES
def test_zero_to_rounding(dtype: torch.dtype) -> None:
    functions: list[Callable[[dict[str, Tensor]], Tensor]] = [
        lambda p: ((p["x"] + 2).exp() / p["x"].exp()).sum(),
        lambda p: ((p["x"] * 3).exp().log() / 3).sum(),
        lambda p: (p["x"].sin().square() + p["x"].cos().square()).sum(),
    ]
    for f in functions:
        cost = hesse.Cost.from_function(f, {"x": torch.linspace(0.5, 2.0, 5, dtype=dtype)})
        op = hesse.operator(cost)
        assert op.methods == ("straight line",) and not op.notes
        assert float((op @ torch.ones(5, dtype=dtype)).norm()) < 1e3 * torch.finfo(dtype).eps
        assert float(hesse.hessian(cost).dense().norm()) < 1e3 * torch.finfo(dtype).eps


def test_noise_is_that_of_the_steps() -> None:
    target = torch.tensor([0])
    for weight in (3.0, 5.0, 8.0, 20.0):
        w = two_classes(weight)[0].get_parameter("weight").detach()
        for way in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.grad(f))):
            (moved,) = noise(lambda w=w, way=way: [way(lambda w: F.cross_entropy(w.T, target))(w)])
            assert 1e-17 < moved < 1e-14


def test_what_is_wrong_is_not_excused() -> None:
    """A rule that is off by 1 % of a confident classifier's H is seen, where that is more than
    rounding."""
    net, (X, y) = two_classes(5.0)
    w = {"w": net.get_parameter("weight").detach()}
    cost = hesse.Cost.from_function(
        lambda p, batch: F.cross_entropy(batch[0] @ p["w"].T, batch[1]), w, (X, y)
    )
    v = {"w": torch.tensor([[1.0], [-1.0]], dtype=torch.float64)}
    request = Request(v, ("w",))
    right = products(cost, [request])
    assert not compare(cost, [request], right, right).wrong[0]
    wrong = [{"w": 1.01 * right[0]["w"]}]
    assert compare(cost, [request], wrong, right).wrong[0]


def test_noise_keeps_decisions() -> None:
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    places = torch.arange(11)
    (moved,) = noise(
        lambda: [
            places.to(torch.float64)[(x * 10).round().long()] + (x * 10).long() + (x * 3 == x * 3)
        ]
    )
    assert moved < 1e-13
    assert noise(lambda: [torch.where(x.mul(1.0) > 0.5, -math.inf, x).exp()])[0] < 1e-13
    assert noise(lambda: [torch.fft.rfft(x).abs()])[0] > 0
    assert noise(lambda: [x.clone()])[0] < 1e-14


@pytest.mark.some(of=2)
@pytest.mark.parametrize(
    "method", ["trust-exact", "cubic", "trust-krylov", "trust-ncg", "Newton-CG"]
)
@DTYPES
def test_separable_data_is_gone_down_to_the_end(method: str, dtype: torch.dtype) -> None:
    X = torch.tensor([[2.0, 1], [1, 2], [-1, -2], [-2, -1]], dtype=dtype)
    net = nn.Linear(2, 2).to(dtype)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.zeros_(net.bias)
    result = hesse.minimize(
        hesse.Cost(net, "cross_entropy", (X, torch.tensor([0, 0, 1, 1]))),
        method,
        tolerance=0,
        maxiter=60,
    )
    # Newton-CG ends where its line search finds no lower cost.
    assert (
        result.fun < (1e-5 if method == "Newton-CG" else 1e-6)
        and "refused" not in result.message
        and "not to be believed" not in result.message
    )
