"""Whatever a cost is made of: how its data are cut, weighed and shortened, which parameters are
asked about, and what is refused."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
import networks as nets
from hesse.errors import HesseError, HesseValueError
from kronecker.networks_of_layers import Curved, Twice, cost_of, parts_of, whole, x
from reference import relative

TOLERANCE = 1e-12
WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def model() -> nn.Module:
    torch.manual_seed(2)
    return nets.dense(3, 4, 3).double()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return x(7, 3), whole(7)


@pytest.mark.parametrize("curvature", ["gauss_newton", "empirical_fisher"])
@pytest.mark.parametrize("kind", ["kfac", "ekfac"])
def test_how_the_data_are_cut_does_not_matter(kind: str, curvature: str) -> None:
    X, y = data()
    pieces = [(X[:2], y[:2]), (X[2:3], y[2:3]), (X[3:], y[3:])]
    found = [
        hesse.kfac(hesse.Cost(model(), "cross_entropy", given), kind=kind, curvature=curvature,
            memory=memory).dense()
        for given in ((X, y), pieces) for memory in (None, 0, 30_000)
    ]  # fmt: skip
    for other in found[1:]:
        assert relative(other, found[0]) < TOLERANCE


# Of each loss: labels, and the matrix that its last layer's block is of, by hand.
LOSSES: dict[str, Callable[[], tuple[Any, Tensor]]] = {
    "a sum": lambda: (nn.CrossEntropyLoss(reduction="sum"), whole(7)),
    "weighed, some left out": lambda: (
        nn.CrossEntropyLoss(weight=WEIGHTS),
        torch.where(torch.arange(7) % 3 == 0, -100, whole(7)),
    ),
    "smoothed": lambda: (nn.CrossEntropyLoss(label_smoothing=0.2), whole(7)),
    "probabilities": lambda: (nn.CrossEntropyLoss(), x(7, 3).softmax(1)),
    "bits": lambda: (nn.BCEWithLogitsLoss(), whole(7, 3, below=2).double()),
    "counts": lambda: (nn.PoissonNLLLoss(), whole(7, 3, below=4).double()),
    "mean": lambda: (nn.MSELoss(), x(7, 3)),
    "parabola then lines": lambda: (nn.HuberLoss(), x(7, 3)),
    "one's own": lambda: (lambda z, y: (z - y).pow(4).mean(), x(7, 3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_divisor_of_a_loss_is_there_once(name: str) -> None:
    loss, y = LOSSES[name]()
    X = data()[0]
    cost = hesse.Cost(model(), loss, [(X[:4], y[:4]), (X[4:], y[4:])])
    G = hesse.hessian(cost, curvature="gauss_newton", certify=False)
    K, E = hesse.kfac(cost), hesse.kfac(cost, kind="ekfac")
    assert abs(E.trace() - float(G.dense().trace())) < 1e-10 * E.trace()
    # Of a bias alone K-FAC is exact.
    assert relative(K.block("2.bias"), G.flat("2.bias", "2.bias")) < 1e-10


def test_positions_of_their_own_labels() -> None:
    X, y = x(4, 3, 5), whole(4, 5)
    y[0, 1:] = -100
    tokens = nn.Sequential(nn.Conv1d(3, 4, 1), nn.Tanh(), nn.Conv1d(4, 3, 1)).double()
    cost = hesse.Cost(tokens, "cross_entropy", (X, y))
    G = hesse.hessian(cost, curvature="gauss_newton", certify=False)
    for curvature in ("gauss_newton", "fisher"):
        E = hesse.kfac(cost, kind="ekfac", curvature=curvature)
        assert abs(E.trace() - float(G.dense().trace())) < 1e-10 * E.trace()
    drawn = hesse.kfac(cost, curvature=hesse.SampledFisher(400)).trace()
    assert abs(drawn / hesse.kfac(cost).trace() - 1) < 0.1


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_sequences_of_several_lengths(sharing: str) -> None:
    """Expand takes the mean over all positions, reduce the mean over samples of means."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean(1)

    short, long = x(2, 2, 3), x(3, 4, 3)
    cost = hesse.Cost(Mean().double(), "half_sse", [(short, x(2, 2)), (long, x(3, 2))])
    K = hesse.kfac(cost, sharing=sharing)
    with_one = [torch.cat([part, torch.ones(*part.shape[:2], 1)], 2) for part in (short, long)]
    if sharing == "reduce":
        a = torch.cat([part.mean(1) for part in with_one])
        B = 5.0
    else:
        a = torch.cat([part.flatten(0, 1) for part in with_one])
        B = 2 / 2 + 3 / 4  # each of T positions has the signal 1 / T
    assert relative(K.blocks[0].dense(), torch.kron(B * torch.eye(2), a.T @ a / len(a))) < TOLERANCE


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (None, [("0.weight", "0.bias"), ("2.weight", "2.bias")]),
        (["2.weight"], [("2.weight",)]),
        ("*.bias", [("0.bias",), ("2.bias",)]),
        (["2.bias", "2.weight"], [("2.weight", "2.bias")]),
    ],
)
def test_some_parameters(params: Any, names: list[tuple[str, ...]]) -> None:
    every = hesse.kfac(hesse.Cost(model(), "cross_entropy", data()))
    some = hesse.kfac(hesse.Cost(model(), "cross_entropy", data(), params=params))
    assert [block.names for block in some.blocks] == names
    for name in some.layout.names:
        assert relative(some.block(name), every.block(name)) < TOLERANCE, name


def test_frozen_and_unused() -> None:
    net = nn.ModuleDict({"used": nn.Linear(3, 2), "not": nn.Linear(2, 2)}).double()
    net["used"].weight.requires_grad_(False)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = net

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["used"](x)

    K = hesse.kfac(hesse.Cost(Net(), "half_sse", (x(4, 3), x(4, 2))))
    assert "parts.used.weight" not in K.layout.names
    assert torch.equal(K.block("parts.used.bias"), 4 * torch.eye(2, dtype=torch.float64))
    assert not K.block("parts.not.weight").any()
    assert torch.equal(
        K.inverse(0.5).block("parts.not.bias"), 2 * torch.eye(2, dtype=torch.float64)
    )


def test_the_users_things_stay() -> None:
    net, (X, y) = model().train(), data()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    hesse.kfac(hesse.Cost(net, "cross_entropy", (X, y)), curvature="fisher_mc", kind="ekfac")
    assert torch.equal(torch.get_rng_state(), state) and net.training
    assert all(torch.equal(part, before[name]) for name, part in net.state_dict().items())
    assert all(p.grad is None and not p._backward_hooks for p in net.parameters())


def test_a_layer_with_two_biases_has_none_of_them() -> None:
    class Net(Twice):
        def forward(self, x: Tensor) -> Tensor:
            z = torch.tanh(nn.functional.linear(x, self.layer.weight))
            return self.head(torch.tanh(self.layer(z)))

    torch.manual_seed(0)
    cost = hesse.Cost(Net().double(), "half_sse", (x(4, 3), x(4, 2)))
    K, E = hesse.kfac(cost), hesse.kfac(cost, kind="ekfac")
    assert [b.names for b in K.blocks] == [("layer.weight",), ("layer.bias",), ("head.weight",)]
    G = hesse.hessian(cost, curvature="gauss_newton", certify=False)
    assert abs(E.trace() - float(G.dense().trace())) < 1e-10 * E.trace()


def test_notes_say_what_was_not_factored() -> None:
    notes = " ".join(hesse.kfac(cost_of("curved")).notes)
    assert "'wave' enters in no linear way: its block is exact" in notes
    given = hesse.Cost(
        model(),
        "cross_entropy",
        data(),
        penalty=lambda p: p["0.weight"].square().sum(),
    )
    K = hesse.kfac(given)
    assert "the penalty is a function" in " ".join(K.notes)
    plain = hesse.kfac(hesse.Cost(model(), "cross_entropy", data()))
    assert torch.equal(K.dense(), plain.dense())


class Large(Curved):
    """A parameter too large for an exact block."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Parameter(torch.randn(3000))


def refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(HesseError, match=re.escape(text)):
        call()


def test_what_is_refused() -> None:
    X, y = data()
    cost = hesse.Cost(model(), "cross_entropy", (X, y))
    function = hesse.Cost.from_function(lambda p: p["x"].sum(), {"x": torch.ones(2)})
    coupled = hesse.Cost(
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double(), "cross_entropy", (X, y)
    )
    large = hesse.Cost(Large().double(), "half_sse", (x(4, 3), x(4, 2)))
    bent = hesse.Cost(model(), lambda z, y: -z.square().sum() / len(z), (X, x(7, 3)))
    for call, text in [
        (lambda: hesse.kfac(function), "made by Cost.from_function: make it with hesse.Cost"),
        (lambda: hesse.kfac(coupled), "it has no graph whose layers could be factored"),
        (lambda: hesse.kfac(large), "with 3,000 entries it gets no exact block"),
        (lambda: hesse.kfac(bent), "the loss is not convex in the prediction"),
        (lambda: hesse.kfac(bent, curvature="fisher"), "is known for the losses"),
        (lambda: hesse.kfac(cost, curvature="hessian"), "'hessian' is no sum of outer products"),
        (lambda: hesse.kfac(cost, kind="k-fac"), "'kfac', 'ekfac', 'foof', got 'k-fac'"),
        (lambda: hesse.kfac(cost, sharing="sum"), "'expand', 'reduce', got 'sum'"),
    ]:
        refused(call, text)
    # What is not convex has factors of its own slopes.
    assert hesse.kfac(bent, curvature="empirical_fisher").trace() > 0


def test_wrong_signals_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from hesse.kronecker.signals import Passage

    given = Passage.features
    monkeypatch.setattr(Passage, "features", lambda self, *parts: 1.01 * given(self, *parts))
    model_, loss, X, y = parts_of("no biases")
    with pytest.raises(HesseValueError, match="does not add up to the gradient"):
        hesse.kfac(hesse.Cost(model_, loss, (X, y)))


def test_words_and_their_one_hot_rows_meet_in_one_table() -> None:
    """One use's inputs have a diagonal, the other's a whole matrix."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 3))

        def forward(self, words: Tensor) -> Tensor:
            soft = torch.softmax(torch.eye(4, dtype=torch.float64)[words], 1) @ self.table
            return torch.cat([nn.functional.embedding(words, self.table), soft], 1)

    words = whole(6, below=4)
    cost = hesse.Cost(Net().double(), "half_sse", (words, x(6, 6)))
    hot = torch.eye(4, dtype=torch.float64)[words]
    rows = torch.cat([hot, hot.softmax(1)])
    expected = torch.kron(12 * torch.eye(3, dtype=torch.float64), rows.T @ rows / 12)
    (block,) = hesse.kfac(cost).blocks
    assert relative(block.dense(), expected) < TOLERANCE
