"""Errors planted in every strategy and order, seen to be caught: the number is right by another
path, and the plan says which.

Without a certificate the wrong number comes out, which shows that each error is one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates import planting as plants
from certificates.kinds import WAYS, Formula, Subject, linears, made, of, off, parameter, x
from certificates.planting import Plant, aten
from hesse.exact import columns, way_down
from hesse.exact.contraction import choice as contract
from hesse.operations.normalisation import scale_shift
from networks import DataBranch, ScaleShift, TokenLogits, Twice, dense

Network = Callable[[], Subject]
PATH = r"contraction|columns|product|sweep|graph|line|diagonal"


@pytest.fixture(autouse=True)
def only_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried before any number is made would find many of these errors, and leave nothing
    for the certificate to find."""
    monkeypatch.setattr(way_down, "_failed_rule_check", lambda *arguments: None)
    monkeypatch.setattr(columns, "difference", lambda *arguments: None)


# ---------------------------------------- networks, made once each unless a lambda makes another


def layers(loss: Any = "half_sse", samples: int = 6, **options: Any) -> Subject:
    y = torch.arange(samples) % 2 if loss == "cross_entropy" else x(samples, 2)
    return of(dense(3, 4, 3, 2), loss, (x(samples, 3), y), **options)


def normalised() -> Subject:
    model = nn.Sequential(
        nn.Linear(3, 3),
        nn.LayerNorm(3),
        nn.Tanh(),
        nn.Linear(3, 3),
        nn.LayerNorm(3),
        nn.Tanh(),
        nn.Linear(3, 2),
    )
    with torch.no_grad():
        model[1].weight.add_(0.3)  # type: ignore[operator,union-attr]
        model[4].weight.sub_(0.3)  # type: ignore[operator,union-attr]
    return of(model, "half_sse", (x(5, 3), x(5, 2)))


def convolutions() -> Subject:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 2, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    return of(model, "mse", (x(3, 1, 5, 5), x(3, 2)))


def attention() -> Subject:
    def forward(m: Any, z: Tensor) -> Tensor:
        return m.out(F.scaled_dot_product_attention(m.q(z), m.k(z), torch.tanh(z)))

    model = Formula(forward, q=nn.Linear(2, 2), k=nn.Linear(2, 2), out=nn.Linear(2, 2))
    return of(model, "half_sse", (x(4, 3, 2), x(4, 3, 2)))


def residual() -> Subject:
    def forward(m: Any, z: Tensor) -> Tensor:
        for layer in m.layers:
            z = z + torch.tanh(layer(z))
        return z

    return of(Formula(forward, layers=linears(3, 2)), "mse", (x(5, 2), x(5, 2)))


def turned() -> Subject:
    """Layers along features and along positions."""

    def forward(m: Any, z: Tensor) -> Tensor:
        z = torch.tanh(m.a(z)).permute(0, 2, 1)
        return torch.tanh(m.b(z)).transpose(1, 2) @ m.c

    return of(
        Formula(forward, a=nn.Linear(2, 3), b=nn.Linear(2, 2), c=parameter(3, 2)),
        "half_sse",
        (x(4, 2, 2), x(4, 2, 2)),
    )


def overlapping() -> Subject:
    """A bias that is a part of its weight."""
    return of(
        Formula(lambda m, z: F.linear(z, m.w, m.w[0]), w=parameter(2, 2)),
        "half_sse",
        (x(5, 2), x(5, 2)),
    )


def gated() -> Subject:
    return of(
        Formula(
            lambda m, z: torch.tanh(m.a(z)) * torch.sigmoid(m.b(z)),
            a=nn.Linear(2, 2),
            b=nn.Linear(2, 2),
        ),
        "half_sse",
        (x(5, 2), x(5, 2)),
    )


def multiplied() -> Subject:
    """A value times itself, and products that are in no table."""
    return of(
        Formula(
            lambda m, z: (u := torch.tanh(m.a(z))) * u * m.b(u),
            a=nn.Linear(2, 2),
            b=nn.Linear(2, 2),
        ),
        "half_sse",
        (x(5, 2), x(5, 2)),
    )


def through_a_norm() -> Subject:
    return of(
        Formula(lambda m, z: F.normalize(torch.tanh(m.a(z)), dim=1), a=nn.Linear(2, 3)),
        "half_sse",
        (x(5, 2), x(5, 3)),
    )


def by_columns() -> Subject:
    """No graph, so that all goes by Hessian-vector products."""
    return of(DataBranch(), "half_sse", (x(5, 2), x(5, 2)))


def shared() -> Subject:
    return of(Twice(), "half_sse", (x(5, 3), x(5, 2)))


def scaled() -> Subject:
    return of(ScaleShift(), "half_sse", (x(5, 2), x(5, 2)))


def tokens() -> Subject:
    return of(TokenLogits(), "cross_entropy", (x(4, 4, 3), torch.arange(16).reshape(4, 4) % 3))


def in_chunks() -> Subject:
    return layers(samples=24)


LITTLE = {"memory": 16_000}
Row = tuple[Network, Plant, dict[str, Any]]
HESSIAN: dict[str, Row] = {
    # a rule with a wrong sign
    "pull of linear": (layers, plants.pull(aten.linear), {}),
    "pull of add": (residual, plants.pull(aten.add), {}),
    "pull of transpose": (turned, plants.pull(aten.transpose, 0.5), {}),
    "pull of permute": (turned, plants.pull(aten.permute, 0.5), {}),
    "pull of conv2d": (convolutions, plants.pull(aten.conv2d), {}),
    "pull of a pooling": (convolutions, plants.pull(aten.avg_pool2d), {}),
    "pull of matmul": (attention, plants.pull(aten.matmul), {}),
    "pull of softmax": (attention, plants.pull(aten.softmax), {}),
    "pull of a normalisation": (normalised, plants.pull(aten.layer_norm), {}),
    "pull of scale and shift": (normalised, plants.pull(scale_shift, 0.9), {}),
    "pull by differentiation": (through_a_norm, plants.by_differentiation(-1.0), {}),
    "curvature of cross entropy": (
        lambda: layers("cross_entropy"),
        plants.curvature(aten.cross_entropy_loss, 1.01),
        {},
    ),
    "curvature of an entrywise loss": (
        lambda: layers("bce"),
        plants.curvature(aten.binary_cross_entropy_with_logits),
        {},
    ),
    "curvature of matmul": (attention, plants.curvature(aten.matmul), {}),
    "curvature of softmax": (attention, plants.curvature(aten.softmax), {}),
    "curvature of a normalisation": (normalised, plants.curvature(aten.layer_norm), {}),
    "a second slope": (layers, plants.slopes(1, -1), {}),
    "a first slope": (layers, plants.slopes(1.01, 1), {}),
    # what is carried
    "a cross term dropped": (gated, plants.cross_terms_dropped, {}),
    "one order of a product with itself": (multiplied, plants.own_terms_once, {}),
    "a chunk lost": (in_chunks, plants.chunk_lost, LITTLE),
    "a chunk twice": (in_chunks, plants.chunk_twice, LITTLE),
    "samples mixed": (in_chunks, plants.samples_mixed, {}),
    "positions apart": (tokens, plants.positions_apart, {}),
    "columns that were collapsed": (normalised, plants.collapsed, {}),
    "a use forgotten": (lambda: layers(), plants.use_forgotten, {}),
    "one of two uses forgotten": (lambda: shared(), plants.use_forgotten, {}),
    # contractions
    "a block left out": (layers, plants.block_left_out("0.weight", "2.weight"), {}),
    "a block of its own left out": (layers, plants.block_left_out("2.weight", "2.weight"), {}),
    "a block of a scale left out": (scaled, plants.block_left_out("scale", "head.weight"), {}),
    # columns
    "columns": (by_columns, plants.product_of_columns(1.01), {}),
    "one-sided products": (layers, plants.one_sided_products(1.01), {}),
}

# By place in the table of orders: a network for which it can be chosen, and what can be wrong in
# it.
LITTLE_OFF, TWO_TERMS = (
    (plants.off_by_a_percent,),
    (plants.without_jacobian, plants.without_hessian),
)
ORDERS: list[tuple[Network, tuple[Any, ...]]] = [
    (layers, (plants.off_by_a_percent, plants.a_sample_lost)),
    (layers, LITTLE_OFF),
    (layers, ()),  # between parts of one use, which a Hessian in panels alone has
    (layers, LITTLE_OFF),
    (overlapping, LITTLE_OFF),
    (layers, (*LITTLE_OFF, *TWO_TERMS)),
    (layers, (*LITTLE_OFF, plants.without_jacobian)),
    (scaled, (*LITTLE_OFF, *TWO_TERMS)),
    (turned, (*LITTLE_OFF, *TWO_TERMS)),
    (turned, (*LITTLE_OFF, *TWO_TERMS)),
    (convolutions, (*LITTLE_OFF, plants.without_jacobian)),
]
HESSIAN |= {
    f"order {place}, {contract.ORDERS[place].name}: {how.__name__}": (
        network,
        plants.order(place, how),
        {},
    )
    for place, (network, ways) in enumerate(ORDERS)
    for how in ways
}

DIAGONAL: dict[str, Row] = {
    "entries": (layers, plants.entries_of_the_diagonal(1.01), {}),
    "entries, scales": (scaled, plants.entries_of_the_diagonal(0.9), {}),
    "second uses": (shared, plants.second_uses_of_the_diagonal, {}),
    "a second slope": (layers, plants.slopes(1, -1), {}),
    "pull of linear": (layers, plants.pull(aten.linear), {}),
    "a chunk lost": (in_chunks, plants.chunk_lost, LITTLE),
    "columns": (by_columns, plants.product_of_columns(1.01), {}),
    "one-sided products": (layers, plants.one_sided_products(1.01), {}),
}
OPERATOR: dict[str, Row] = {
    "the straight line": (lambda: layers(), plants.straight_line(1.01), {}),
}
ROWS = [
    (way, name, row)
    for way, rows in {"hessian": HESSIAN, "diagonal": DIAGONAL, "operator": OPERATOR}.items()
    for name, row in rows.items()
]


def test_every_order_has_a_row() -> None:
    assert len(ORDERS) == len(contract.ORDERS)


@pytest.mark.some(of=3)
@pytest.mark.parametrize(
    ("way", "row"),
    [(way, row) for way, _, row in ROWS],
    ids=[f"{way}: {name}" for way, name, _ in ROWS],
)
def test_caught(way: str, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    network, plant, options = row
    subject = made(network)
    cost, call = subject.cost, WAYS[way]
    plants.forget_failures(cost)
    plants.without_limit(monkeypatch)
    plant(monkeypatch)
    before = hesse.plan(cost).notes
    assert off(call(cost, certify=False, **options), subject.expected, way) > 1e-5, (
        "the error has no effect"
    )
    assert off(call(cost, **options), subject.expected, way) < 1e-9
    notes = [note for note in hesse.plan(cost, **options).notes if note not in before]
    if way == "operator":
        notes += hesse.operator(cost).notes
    assert any(name in note for note in notes for name in (*cost.layout.names, "operator")), notes
    assert any(word in note for note in notes for word in PATH.split("|")), notes


# ---------------------------------------------------------------- further ways to be wrong


def planted(plant: Plant, monkeypatch: pytest.MonkeyPatch, network: Network = layers) -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        subject = network()
    assert subject.expected.ndim == 2
    plant(monkeypatch)
    return subject


@pytest.mark.parametrize(
    "options",
    [{"block_diagonal": True}, {"pairs": [("0.weight", "4.weight"), ("2.bias", "0.weight")]}],
    ids=["own blocks", "pairs"],
)
@pytest.mark.parametrize(
    "plant", [plants.slopes(1, -1), plants.slopes(1.01, 1)], ids=["second", "first"]
)
def test_caught_in_chosen_blocks(
    options: dict[str, Any], plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = planted(plant, monkeypatch)
    plants.without_limit(monkeypatch)
    layout = subject.cost.layout
    wrong = hesse.hessian(subject.cost, certify=False, **options)
    some = hesse.hessian(subject.cost, **options)
    scale = float(subject.expected.abs().max())
    errors = []
    for a, b in some.pairs:
        expected = subject.expected[layout.slice(a), layout.slice(b)].reshape(some[a, b].shape)
        assert float((some[a, b] - expected).abs().max()) < 1e-9 * scale, (a, b)
        errors.append(float((wrong[a, b] - expected).abs().max()))
    assert max(errors) > 1e-5 * scale


FLOAT32 = {
    name: HESSIAN[name][1]
    for name in (
        "a second slope",
        "a first slope",
        "order 5, pairs: off_by_a_percent",
        "a block left out",
    )
}


@pytest.mark.parametrize("plant", FLOAT32.values(), ids=FLOAT32)
def test_caught_in_float32(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = planted(plant, monkeypatch)
    narrow = [
        tensor.float()
        for batch in subject.cost.batches()
        if batch is not None
        for tensor in (batch.x, batch.y)
    ]
    cost = hesse.Cost(dense(3, 4, 3, 2), "half_sse", tuple(narrow)).at(subject.cost.theta.float())
    assert off(hesse.hessian(cost, certify=False).dense(), subject.expected) > 1e-4
    assert off(hesse.hessian(cost).dense(), subject.expected) < 1e-5


def test_caught_after_a_certificate_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was right once is not believed for ever."""
    subject = planted(lambda patch: None, monkeypatch)
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9
    plants.slopes(1, -1)(monkeypatch)
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9


def test_a_path_that_failed_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """For that model, also by a cost made anew; another model's path is its own."""
    subject, other = (
        planted(plants.slopes(1, -1), monkeypatch),
        planted(lambda patch: None, monkeypatch),
    )
    hesse.hessian(subject.cost)
    monkeypatch.undo()
    assert set(hesse.plan(subject.cost).notes) - set(hesse.plan(other.cost).notes)
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9
    assert {block.strategy for block in hesse.plan(other.cost).blocks} == {"contraction"}


LAST: dict[str, tuple[str, Plant]] = {
    "the result": ("hessian", plants.the_result(lambda matrix: matrix * 1.01)),
    "one entry of it, by little": ("hessian", plants.the_result(plants.one_entry_off)),
    "its lower half": ("hessian", plants.the_result(torch.triu)),
    "the penalty": ("hessian", plants.penalty_dropped),
    "every product of the operator": ("operator", plants.every_product(1.01)),
}


@pytest.mark.parametrize("row", LAST.values(), ids=LAST)
def test_where_no_path_agrees_it_raises_with_both_numbers(
    row: tuple[str, Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last that touches the numbers is certified like the first."""
    way, plant = row
    subject = planted(plant, monkeypatch, lambda: layers(penalty=0.3))
    expected = subject.expected + 0.3 * torch.eye(subject.cost.layout.size, dtype=torch.float64)
    assert off(WAYS[way](subject.cost, certify=False), expected) > 1e-7
    with pytest.raises(
        hesse.HesseError, match=r"gave \S*\d.* for a number that is \S*\d"
    ) as caught:
        WAYS[way](subject.cost)
    assert any(name in str(caught.value) for name in subject.cost.layout.names)


# ---------------------------------------------------------------- small blocks


def with_a_small_block(dtype: torch.dtype) -> tuple[hesse.Cost, Tensor]:
    """Two layers whose block is a thousandth of its rows', and H in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = dense(3, 4, 2, bias=False).double(), x(6, 3), 3e-4 * x(6, 2)
    with torch.no_grad():
        model[2].weight.mul_(5e-4)  # type: ignore[operator,union-attr]
    subject = of(model, "half_sse", (X, y), penalty=1.0)
    expected = subject.expected + torch.eye(subject.cost.layout.size)
    return (
        hesse.Cost(model.to(dtype), "half_sse", (X.to(dtype), y.to(dtype)), penalty=1.0),
        expected.double(),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_all_of_a_small_block_is_missed(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 100 % error in a block of 1e-3 of its row shows, also in float32."""
    cost, expected = with_a_small_block(dtype)
    rows, columns = (cost.layout.slice(name) for name in ("0.weight", "2.weight"))
    block = expected[rows, columns]
    assert 3e-4 < float(block.norm() / expected[rows].norm()) < 3e-3
    assert float(block.norm() / expected[:, columns].norm()) < 3e-3
    plants.block_left_out("0.weight", "2.weight")(monkeypatch)
    assert not hesse.hessian(cost, certify=False)["0.weight", "2.weight"].any()
    found = hesse.hessian(cost)["0.weight", "2.weight"].reshape(block.shape)
    assert float((found - block).abs().max()) < (1e-9 if dtype == torch.float64 else 1e-4) * float(
        block.abs().max()
    )
