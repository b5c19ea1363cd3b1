"""`hesse.derive` as a user meets it: networks and costs in, what is refused, what comes out."""

import itertools

import pytest
import torch
from torch import nn

import hesse
from derivation.expressions import CASES
from derivation.show.tex import check
from hesse.derivation.lines.records import Certificate


def certificate(d: hesse.Derivation) -> Certificate:
    assert d.certificate is not None
    return d.certificate


def samples(n: int, inputs: tuple[int, ...], outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(n, *inputs, generator=generator, dtype=torch.float64)
    return X, torch.randint(outputs, (n,), generator=generator)


def dense(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("loss", ["half_sse", "mse", "cross_entropy"])
@pytest.mark.parametrize("stagewise", [False, True])
def test_a_network_s_blocks_are_those_of_the_exact_hessian(loss, stagewise):
    """The two halves of hesse agree: what the formula says is what hesse.hessian computes, over
    several samples."""
    net = dense(3, 4, 2)
    X, labels = samples(5, (3,), 2)
    y = labels if loss == "cross_entropy" else torch.randn(5, 2, dtype=torch.float64)
    H = hesse.hessian(hesse.Cost(net, loss, (X, y)))
    d = hesse.derive(hesse.Network("3-4-2", "tanh", loss, output="identity"), stagewise=stagewise)
    layers = {"W1": "0.weight", "b1": "0.bias", "W2": "2.weight", "b2": "2.bias"}
    arrays = {short: net.get_parameter(name).detach() for short, name in layers.items()}
    target = nn.functional.one_hot(y, 2).double() if loss == "cross_entropy" else y
    for a in layers:
        for b in layers:
            found = d.block(a, b).evaluate(x=X, y=target, **arrays)
            assert torch.allclose(found, H[layers[a], layers[b]], atol=1e-12), (a, b)


def test_a_wide_network_is_certified_at_small_sizes():
    d = hesse.derive(hesse.Network("784-512-10", "relu", "cross_entropy"))
    assert certificate(d).block_deviation < 1e-12
    assert d.block("W1", "W2").rows.indices[0].size == 512


def test_some_of_a_network_s_parameters():
    d = hesse.derive(hesse.Network("2-3-1"), wrt=["W2", "W1"])
    assert d.parameters == ("W1", "W2")
    assert set(d.blocks) == {("W1", "W1"), ("W1", "W2"), ("W2", "W2")}


# ---------------------------------------------------------------- costs


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2, self.out = (
            nn.Linear(3, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 4),
            nn.Linear(4, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.fc1(x))
        return self.out(h + torch.tanh(self.fc2(self.norm(h))))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.conv(x)).flatten(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layer = nn.TransformerEncoderLayer(
            4, 2, 6, dropout=0.0, batch_first=True, activation="gelu"
        )
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.embed(x)).mean(1))


class Cumulative(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cumprod(1.5 + torch.tanh(self.fc(x)), -1))


MODELS = {
    "dense": (lambda: dense(3, 4, 2), (3,)),
    "residual with LayerNorm": (Residual, (3,)),
    "convolution": (Convolutional, (1, 4, 4)),
    "an operation without a rule": (Cumulative, (3,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_captured_model_is_derived_and_certified_on_its_own_samples(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make().double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    d = hesse.derive(hesse.Cost(model, "cross_entropy", samples(4, shape, 2)))
    assert d.parameters == tuple(key for key, _ in model.named_parameters())
    assert certificate(d).block_deviation < 1e-10
    assert any("own parameters at 2 of its samples" in note for note in d.notes)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert max(len(line) for line in str(d).splitlines()) <= 100


def test_attention_and_embedding_go_stage_by_stage():
    torch.manual_seed(0)
    tokens = torch.tensor([[0, 1, 2], [3, 4, 0], [1, 1, 2]])
    cost = hesse.Cost(Attention().double(), "cross_entropy", (tokens, torch.tensor([0, 1, 1])))
    d = hesse.derive(cost)
    assert d.stages
    assert certificate(d).block_deviation < 1e-10
    assert "softmax" in str(d)


def test_an_operation_without_a_rule_is_shown_as_a_named_map():
    torch.manual_seed(0)
    d = hesse.derive(hesse.Cost(Cumulative().double(), "cross_entropy", samples(4, (3,), 2)))
    assert "cumprod" in str(d)


def test_penalty_and_mean_are_said():
    d = hesse.derive(hesse.Cost(dense(3, 4, 2), "cross_entropy", samples(4, (3,), 2), penalty=0.5))
    assert any("adds 0.5 to the diagonal" in note for note in d.notes)
    assert "mean" in str(d)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("x @ A @ x",), {}, "wrt"),
        (("sum(sigmod(x))", ["x"]), {}, "sigmoid"),
        (("sum(x", ["x"]), {}, r"\^"),
        (("__import__('os')", ["x"]), {}, "__import__"),
        (("sum((lambda t: t)(x))", ["x"]), {}, r"\^"),
        (("sum(A @ x)", ["x"]), {"shapes": "A[m,n] x[k]"}, "A"),
        ((hesse.Network("2-3-1"), ["W3"]), {}, "there is no parameter 'W3'"),
        ((hesse.Network("2-3-1"),), {"shapes": "W1[2,3]"}, "are for expressions"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(arguments, options, text):
    with pytest.raises(hesse.HesseError, match=text):
        hesse.derive(*arguments, **options)


def test_an_unknown_block_is_refused_with_the_nearest():
    d = hesse.derive("x @ A @ x", wrt="x")
    with pytest.raises(
        hesse.HesseError, match="'A' is not a parameter of this derivation; the nearest: 'x'"
    ):
        d.block("A", "x")


def test_a_cost_that_is_nowhere_finite_is_refused():
    with pytest.raises(hesse.HesseError, match="no point was found"):
        hesse.derive("sum(log(-exp(x)))", wrt="x")


# ---------------------------------------------------------------- out


@pytest.mark.some(of=5)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_every_case_is_written(case):
    """Text that fits, LaTeX that a strict parser accepts; certified elsewhere."""
    d = case.derivation
    for reading in ("indices", "matrix", "scalar"):
        assert max(len(line) for line in d.text(reading).splitlines()) <= 100
    check(d.latex())


def test_a_notebook_shows_formulas_and_a_page_may_be_a_part_of_one():
    d = hesse.derive("x @ A @ x", wrt="x")
    assert "<math" in d._repr_html_() and "<math" in d.block("x", "x")._repr_html_()
    assert d.html(page=False).lstrip().startswith("<div") and "<html" not in d.html(page=False)
    assert d.block("x", "x").html().startswith("<!")
