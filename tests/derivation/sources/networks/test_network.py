"""Networks in words: the program of one sample's cost, and what is refused."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesse.derivation.calculus.differentiation import with_companions
from hesse.derivation.calculus.expression import Count, Entry, Power
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.lines.adjoints import adjoints
from hesse.derivation.sources.networks.letters import IndexLetters
from hesse.derivation.sources.networks.network import Network
from hesse.errors import HesseError, HesseTypeError, HesseValueError

SIZES = {"d": 2, "h": 4, "m": 3}
FUNCTIONS = {"identity": lambda z: z, "f": lambda z: torch.sin(z) + z / 2} | {
    name: getattr(torch, name) for name in ("sigmoid", "tanh", "relu")
}
LOSSES = {
    "half_sse": lambda p, y: 0.5 * (y - p).square().sum(),
    "mse": F.mse_loss,
    "cross_entropy": lambda p, y: F.cross_entropy(p, y, reduction="sum"),
    "bce": lambda p, y: F.binary_cross_entropy_with_logits(p, y, reduction="sum"),
}
NETWORKS = [
    Network("2-3-1"),
    Network("2-3-1", "f", bias=False),
    Network((2, 3, 4, 2), "tanh", "cross_entropy"),
    Network("2-3-2", "relu", "bce"),
    Network("2-3-2", "tanh", "mse", output="identity"),
    Network("3-2", "sigmoid", "mse"),
    Network("d-h-m", "sigmoid", "mse"),
    Network("2-3-3-2", ["tanh", "identity"], "half_sse"),
    Network("2-3-3-2", ["tanh", "f", "sigmoid"], "half_sse"),
    Network("-".join(["3"] * 9), "tanh"),
]


def forward(net: Network, arrays: dict[str, Tensor]) -> Tensor:
    a = arrays["x"]
    for layer, f in enumerate(net.activations, 1):
        z = arrays[f"W{layer}"] @ a
        a = FUNCTIONS[f](z + arrays[f"b{layer}"] if net.bias else z)
    return LOSSES[net.loss](a, arrays["y"])


def random_arrays(net: Network) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    program, _ = net.program()
    sizes = {
        name: [s if isinstance(s, int) else SIZES[s] for s in leaf.sizes]
        for name, leaf in program.leaves.items()
    }
    arrays = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in sizes.items()
    }
    if net.loss == "cross_entropy":
        arrays["y"] = F.one_hot(torch.tensor(1), len(arrays["y"])).double()
    return arrays


@pytest.mark.parametrize("net", NETWORKS, ids=str)
def test_value_and_slopes_are_those_of_the_network(net: Network) -> None:
    arrays = random_arrays(net)
    program, names = net.program()
    assert names == net.parameters
    first = adjoints(with_companions(program), names)
    at = Valuation(first.program, arrays, {"f": FUNCTIONS["f"]})
    moving = {name: arrays[name].clone().requires_grad_() for name in names}
    cost = forward(net, arrays | moving)
    slopes = torch.autograd.grad(cost, list(moving.values()))
    assert abs(float(at.value("J") - cost.detach())) < 1e-12
    for name, slope in zip(names, slopes, strict=True):
        assert relative(at.array(first.slope(name), first.entries[name].indices), slope) < 1e-12


def test_names_and_letters_are_those_of_the_example() -> None:
    program, names = Network("2-3-1", "f").program()
    assert [q.name for q in program.quantities] == ["z2", "a2", "z3", "ŷ", "J"]
    assert [q.role for q in program.quantities] == [
        "preactivation",
        "activation",
        "preactivation",
        "activation",
        "cost",
    ]
    assert names == ("W1", "b1", "W2", "b2")
    assert program.unknown == {"f"}
    letters = {
        factor.name: "".join(index.name for index in factor.indices)
        for quantity in program.quantities[:3]
        for term in quantity.definition.terms  # pyright: ignore[reportAttributeAccessIssue]
        for factor in term.factors
        if isinstance(factor, Entry)
    }
    assert letters == {"W1": "oi", "x": "i", "b1": "o", "W2": "pj", "a2": "j", "b2": "p"}


def test_samples_have_their_own_data_and_no_parameters() -> None:
    program, _ = Network("2-3-2", loss="cross_entropy").program()
    assert {name for name, leaf in program.leaves.items() if leaf.per_sample} == {"x", "y"}
    assert program.leaves["y"].sums_to == 1
    assert [q.name for q in program.quantities][-3:] == ["z3", "logsumexp(z3)", "J"]


def test_symbolic_sizes_keep_their_letters() -> None:
    program, _ = Network("d-h-m", "tanh", "mse").program()
    assert program.shape("W1") == ("h", "d") and program.shape("W2") == ("m", "h")
    (term,) = program.cost.definition.terms  # pyright: ignore[reportAttributeAccessIssue]
    assert any(isinstance(factor, Power) and factor.base == Count("m") for factor in term.factors)
    (numeric,) = Network("2-4", "tanh", "mse").program()[0].cost.definition.terms  # pyright: ignore[reportAttributeAccessIssue]
    assert numeric.coefficient == Fraction(1, 4)


def test_index_letters_avoid_those_of_sizes() -> None:
    program, _ = Network("o-p-i").program()
    names = {index.name for quantity in program.quantities for index in quantity.indices}
    assert not names & {"o", "p", "i"}


def test_letters_are_taken_again_for_the_same_size_only() -> None:
    letters = IndexLetters()
    first = [letters.new("output", size) for size in (3, 4, 3, 4)]
    assert letters.new("output", 4).name == first[1].name
    assert letters.known("output", 3, {first[0].name}).name == first[2].name
    assert letters.new("output", 5).name == "o2"


def test_networks_are_values() -> None:
    assert Network("2-3-1") == Network((2, 3, 1), ["sigmoid"]) != Network("2-3-1", "tanh")
    assert len({Network("2-3-1"), Network((2, 3, 1))}) == 1
    with pytest.raises(AttributeError):
        Network("2-3-1").loss = "mse"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (Network("2-3-1"), "2-3-1, sigmoid, half_sse"),
        (
            Network("2-3-2", "tanh", "cross_entropy", bias=False),
            "2-3-2, tanh, cross_entropy, no biases",
        ),
        (Network("2-3-1", "tanh", output="identity"), "2-3-1, tanh, output identity, half_sse"),
        (Network("2-3-4-1", ["tanh", "f"]), "2-3-4-1, tanh, f, half_sse"),
        (Network("2-1", "f"), "2-1, f, half_sse"),
    ],
)
def test_text(net: Network, text: str) -> None:
    assert str(net) == text and repr(net).startswith(f"Network: {text}\n")


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: Network("2-x3-1"),
            HesseValueError,
            "widths: 'x3' in '2-x3-1' is not a width; each is a whole number from 1 on",
        ),
        (lambda: Network("2-0-1"), HesseValueError, "widths: '0' in '2-0-1' is not a width"),
        (lambda: Network((2, True)), HesseValueError, "widths: True in"),
        (
            lambda: Network("2"),
            HesseValueError,
            "widths: '2' has 1 layer; a network needs at least inputs and outputs",
        ),
        (
            lambda: Network("2-1", loss="mae"),
            HesseValueError,
            "loss: no loss is named 'mae'; the nearest known: 'mse'",
        ),
        (
            lambda: Network("2-3-1", "softmax"),
            HesseValueError,
            "does not act on each unit by itself: use loss='cross_entropy'",
        ),
        (
            lambda: Network("2-3-1", "logdet"),
            HesseValueError,
            "activation: logdet does not act on each unit by itself",
        ),
        (
            lambda: Network("2-3-1", "sigmod"),
            HesseValueError,
            "activation: unknown function 'sigmod'; did you mean 'sigmoid'?",
        ),
        (
            lambda: Network("2-3-1", "ReLU"),
            HesseValueError,
            "activation: 'ReLU' cannot be used here: write relu",
        ),
        (lambda: Network("2-3-1", "sqrt"), HesseValueError, "activation: sqrt is none"),
        (
            lambda: Network("2-3-1", "f(x)"),
            HesseValueError,
            r"activation: 'f(x)' is not the name of a function",
        ),
        (
            lambda: Network("2-3-4-1", ["tanh"]),
            HesseValueError,
            "activation: 1 names for 2 hidden layers",
        ),
        (
            lambda: Network(23),
            HesseTypeError,
            "widths: expected text such as '2-3-1' or a sequence of numbers, got int",
        ),
        (
            lambda: Network("2-3-1", torch.tanh),
            HesseTypeError,
            "activation: expected the name of a function, such as 'tanh' or 'f'",
        ),
    ],
)
def test_bad_input(make: object, error: type[HesseError], text: str) -> None:
    with pytest.raises(error) as caught:
        make()  # pyright: ignore[reportCallIssue]
    assert text in str(caught.value)
