"""A cost that is finite has numbers, or an error that says where there are none and why; never NaN
without a word."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import WAYS, Formula, Make, Subject, made, of, off, x
from networks import dense

POINTS = torch.tensor([[-1.0, -1.0], [1.0, 2.0]], dtype=torch.float64)


def scaled(
    f: Callable[[Tensor], Tensor],
    w: list[float],
    X: Tensor = POINTS,
    targets: tuple[int, ...] = (2, 2),
) -> Subject:
    """f(x ∘ w), where x ∘ w is negative in places."""
    model = Formula(lambda m, z: f(z * m.w), w=nn.Parameter(torch.tensor(w, dtype=torch.float64)))
    return of(model, "half_sse", (X, torch.ones(targets).double()))


def dead(f: Callable[[Tensor], Tensor], outputs: int) -> Subject:
    """A layer one of whose rows is dead for one of the samples, and then f of it."""
    model: Any = Formula(lambda m, z: f(torch.relu(m.l(z))), l=nn.Linear(2, 3))
    with torch.no_grad():
        model.l.weight.copy_(torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.3, 0.4]]))
        model.l.bias.zero_()
    return of(model, "half_sse", (POINTS, x(2, outputs)))


def masked_attention(m: Any, z: Tensor) -> Tensor:
    """Positions that are hidden have logits of −inf."""
    h = z.reshape(-1, 2, 1) * m.w
    scores = (h @ h.mT).masked_fill(torch.ones(2, 2).triu(1).bool(), float("-inf"))
    return (scores.softmax(-1) @ h).sum((1, 2)).unsqueeze(1)


FINITE: dict[str, Make] = {
    "a dead row, normalised": lambda: scaled(
        lambda u: F.normalize(torch.relu(u), dim=1), [1.0, 1.0]
    ),
    "a dead unit, under a root": lambda: scaled(
        lambda u: torch.relu(u).sqrt(), [1.0, -1.0], torch.ones(2, 2).double()
    ),
    "clamped, under a root": lambda: scaled(
        lambda u: u.clamp(min=0).sqrt(), [1.0, -1.0], torch.ones(2, 2).double()
    ),
    "a dead unit, to a power": lambda: scaled(
        lambda u: torch.relu(u).pow(1.5), [1.0, -1.0], torch.ones(2, 2).double()
    ),
    "a dead unit, to the power of a half": lambda: scaled(
        lambda u: F.relu6(u) ** 0.5, [1.0, -1.0], torch.ones(2, 2).double()
    ),
    "a dead row of a layer, its norm": lambda: dead(lambda h: h.norm(dim=1, keepdim=True), 1),
    "a dead row of a layer, normalised": lambda: dead(lambda h: F.normalize(h, dim=1), 3),
    "a dead row of a layer, its cosine": lambda: dead(
        lambda h: F.cosine_similarity(h, h.new_ones(3), dim=1).unsqueeze(1), 1
    ),
    "a dead row of a layer, over its sum": lambda: dead(
        lambda h: h / (h.sum(1, keepdim=True) + 1e-12), 3
    ),
    "attention that is masked": lambda: of(
        Formula(masked_attention, w=nn.Parameter(torch.tensor(0.7))), "half_sse", (x(3, 2), x(3, 1))
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FINITE.values(), ids=FINITE)
def test_the_path_that_gives_a_number_is_taken(kind: Make, way: str) -> None:
    """Where double backward is finite, so is hesse, and equal."""
    subject = made(kind)
    assert bool(torch.isfinite(subject.expected).all())
    assert off(WAYS[way](subject.cost), subject.expected, way) < 1e-9


# ---------------------------------------------------------------- numbers near the ends of float32


def single(model: nn.Module, loss: Any, X: Tensor, y: Tensor) -> Subject:
    """A subject in float32, whose reference is the same function in float64."""
    cost = hesse.Cost(model.float(), loss, (X.float(), y.float() if y.is_floating_point() else y))
    with torch.random.fork_rng(devices=[]):
        wide = of(model, loss, (X.double(), y.double() if y.is_floating_point() else y))
    return Subject(cost, wide.J, wide.leaves)


def large_input() -> Subject:
    """A feature that nobody scaled, before tanh: saturated, so that the first layer's derivatives
    are 0."""
    return single(
        dense(1, 3, 1),
        "mse",
        torch.tensor([[1e20], [-1e20], [0.5]]),
        torch.tensor([[0.1], [0.2], [0.3]]),
    )


def large_weights(loss: str, layers: int) -> Subject:
    """A classifier beyond all doubt."""
    model: Any = dense(2, 2) if layers == 1 else dense(2, 3, 2)
    with torch.no_grad():
        model[-1].weight.copy_(torch.tensor([[1e20], [-1e20]]).expand_as(model[-1].weight))
        model[-1].bias.zero_()
        model[0].bias.fill_(9.0)
    y = torch.tensor([0, 0]) if loss == "cross_entropy" else torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    return single(model, loss, torch.tensor([[1.0, 2.0], [3.0, 1.0]]), y)


def small_divisor(divided: bool) -> Subject:
    """A unit of measure: the slope of 1/u at 1e-10 is 1e20, its curvature 1e30."""

    def forward(m: Any, z: Tensor) -> Tensor:
        u = m.a * 1e-8
        return m.l(z) / u if divided else m.l(z) * (1 / u)

    model = Formula(forward, a=nn.Parameter(torch.tensor(0.01)), l=nn.Linear(1, 1, bias=False))
    return single(model, "mse", torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]]))


def far_apart() -> Subject:
    """Two layers of scales that cancel."""
    model: Any = dense(1, 1, 1, bias=False)
    with torch.no_grad():
        model[0].weight.fill_(1e-20)
        model[2].weight.fill_(1e20)
    return single(model, "mse", torch.tensor([[0.5], [1.5]]), torch.tensor([[0.2], [0.1]]))


SINGLE: dict[str, Make] = {
    "1e20 before tanh": large_input,
    "weights of 1e20, bce": lambda: large_weights("bce", 1),
    "weights of 1e20, cross entropy": lambda: large_weights("cross_entropy", 1),
    "weights of 1e20 in the second layer, bce": lambda: large_weights("bce", 2),
    "weights of 1e20 in the second layer, cross entropy": lambda: large_weights("cross_entropy", 2),
    "a divisor of 1e-10": lambda: small_divisor(True),
    "the reciprocal of 1e-10": lambda: small_divisor(False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SINGLE.values(), ids=SINGLE)
def test_extremes_of_float32(kind: Make, way: str) -> None:
    subject = made(kind)
    assert subject.cost.dtype == torch.float32 and bool(torch.isfinite(subject.expected).all())
    assert off(WAYS[way](subject.cost), subject.expected, way) < 1e-5


def test_beyond_float32_is_right_or_refused() -> None:
    """An entry of 1e40 has no float32."""
    subject = far_apart()
    for way, call in WAYS.items():
        try:
            found = call(subject.cost)
        except hesse.HesseError as error:
            assert "finite" in str(error)
        else:
            assert off(found, subject.expected, way) < 1e-5


# ---------------------------------------------------------------- where there is no number

NONE: dict[str, tuple[Callable[[dict[str, Tensor]], Tensor], list[float]]] = {
    "a root at 0": (lambda p: p["u"].sqrt().sum(), [0.0, 1.0]),
    "a norm at 0": (lambda p: p["u"].square().sum().sqrt(), [0.0, 0.0]),
    "a power at 0": (lambda p: p["u"].pow(1.5).sum(), [0.0, 1.0]),
    "a product of a root and 0": (lambda p: (p["u"].sqrt() * p["u"]).sum(), [0.0, 1.0]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", NONE.values(), ids=NONE)
def test_where_there_is_none_it_says_so(
    row: tuple[Callable[[dict[str, Tensor]], Tensor], list[float]], way: str
) -> None:
    cost = hesse.Cost.from_function(row[0], {"u": torch.tensor(row[1]).double()})
    with pytest.raises(hesse.HesseError, match=r"(?s)(finite.*u|u.*finite)"):
        WAYS[way](cost)


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_automatic_differentiation_has_not(way: str) -> None:
    """The side of ``where`` that is not taken makes NaN of PyTorch's derivatives; H itself is
    diag(0, −1)."""
    u = torch.tensor([0.0, 1.0]).double()
    cost = hesse.Cost.from_function(
        lambda p: torch.where(p["u"] > 0, p["u"].log(), p["u"]).sum(), {"u": u}
    )
    try:
        found = WAYS[way](cost)
    except hesse.HesseError as error:
        assert "finite" in str(error) and "u" in str(error)
    else:
        assert off(found, torch.diag(torch.tensor([0.0, -1.0]).double()), way) < 1e-9


def test_a_model_that_has_none_names_its_parameter() -> None:
    """A norm of what is 0 for all samples."""
    model = Formula(
        lambda m, z: m.b(torch.tanh(m.a(z))), a=nn.Linear(2, 2), b=nn.Linear(2, 2)
    ).double()

    def loss(prediction: Tensor, y: Tensor) -> Tensor:
        return ((prediction - y).square().sum(1) + (prediction * 0).square().sum(1).sqrt()).mean()

    cost = hesse.Cost(model, loss, (POINTS, torch.ones(2, 2).double()))
    for call in WAYS.values():
        with pytest.raises(
            hesse.HesseError, match=r"(?s)(finite.*[ab]\.(weight|bias)|[ab]\.(weight|bias).*finite)"
        ):
            call(cost)
