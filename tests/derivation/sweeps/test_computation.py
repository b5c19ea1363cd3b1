"""Every number of every sweep, over twelve costs, against PyTorch's automatic differentiation of
the whole function; and what a computation says of its nodes and steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import hesse
from derivation.sweeps import plain
from derivation.sweeps.plain import Mark, Tensors
from hesse.derivation.sources.language import program
from hesse.derivation.sweeps import computation as module
from hesse.derivation.sweeps.computation import Computation, computation
from hesse.derivation.sweeps.subject import MOST_ENTRIES, Subject, at_random, direction, of_cost
from hesse.errors import HesseMemoryError, HesseValueError

Plain = Callable[[Tensors, Tensors, Mark], Tensor]

TEXTS: dict[str, tuple[str, str, Plain]] = {
    "two layers": ("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1, W2", plain.two_layers),
    "softmax": ("-sum(y * log(softmax(W @ x)))", "W", plain.softmax_regression),
    "Rayleigh": ("(x @ A @ x)/(x @ x)", "x", plain.rayleigh),
    "Gaussian": (
        "1/2*logdet(S) + 1/2*(x - mu).T @ inv(S) @ (x - mu)",
        "mu, S",
        plain.gaussian,
    ),
    "attention": ("1/2*sum((y - V.T @ softmax(K @ q))**2)", "q", plain.attention),
}
NETWORKS = {
    "dense": (("2-3-1", "tanh"), plain.dense),
    "classes": (("2-3-3", "softplus", "cross_entropy"), plain.classes),
}


def r(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


CLASSES = torch.tensor([0, 1, 1, 0])
# The model, the loss, its function in PyTorch, targets, parameters and a penalty.
MODELS = {
    "residual, shared": (
        plain.residual, "cross_entropy", F.cross_entropy, CLASSES,
        {"W": r(3, 3), "b": r(3), "V": r(2, 3)}, None,
    ),
    "tied, a sum": (
        plain.tied, "half_sse", lambda z, y: 0.5 * (z - y).square().sum(), r(4, 3, seed=2),
        {"W": r(2, 3)}, None,
    ),
    "normalised": (
        plain.normed, "mse", F.mse_loss, r(4, 2),
        {"W": r(4, 3), "g": r(4), "s": r(4, seed=1), "V": r(2, 4)}, None,
    ),
    "convolution, pooled": (
        plain.pooled, "mse", F.mse_loss, r(4, 2), {"W": r(2, 1, 2), "b": r(2), "V": r(2, 2)}, None,
    ),
    "gates, a penalty": (
        plain.gated, "bce", F.binary_cross_entropy_with_logits, r(4, 1).sigmoid(),
        {"W": r(2, 3), "U": r(2, 3, seed=1), "V": r(1, 2)}, 0.3,
    ),
}  # fmt: skip


def unmarked(name: str, value: Tensor) -> Tensor:
    """A mark that leaves none."""
    return value


def cost_of(name: str) -> tuple[hesse.Cost, Callable[[Tensors, Mark], Tensor]]:
    """A cost as hesse has it, and as plain PyTorch."""
    model, loss, function, y, p, penalty = MODELS[name]
    x = r(4, 3)
    cost = hesse.Cost(
        lambda p, x: model(p, {"x": x}, unmarked), loss, (x, y), params=p, penalty=penalty
    )

    def whole(p: Tensors, mark: Mark) -> Tensor:
        value = function(model(p, {"x": x}, mark), y)
        return value + (penalty or 0) / 2 * sum(part.square().sum() for part in p.values())

    return cost, whole


def subject_of(name: str) -> tuple[Subject, Callable[[Tensors, Mark], Tensor]]:
    """A row of the tables."""
    if name in MODELS:
        cost, whole = cost_of(name)
        return of_cost(cost), whole
    if name in TEXTS:
        text, wrt, function = TEXTS[name]
        subject = at_random(*program(text, wrt))
    else:
        words, function = NETWORKS[name]
        subject = at_random(*hesse.Network(*words).program())
    return subject, lambda p, mark: function(p, dict(subject.arrays), mark)


@pytest.mark.parametrize("name", [*TEXTS, *NETWORKS, *MODELS])
def test_every_number_is_that_of_automatic_differentiation(name: str) -> None:
    subject, whole = subject_of(name)
    v = direction(subject, seed=1)
    found = computation(subject, v)
    theirs = plain.found(whole, {one: subject.arrays[one] for one in subject.parameters}, v)
    ours = [found.values(sweep) for sweep in range(4)]
    cost = found.nodes[-1].name
    assert float(ours[0][cost]) == pytest.approx(float(theirs.cost.detach()), rel=1e-12)
    for sweep, expected in enumerate(
        (theirs.values, theirs.signals, theirs.tangents, theirs.moved_signals)
    ):
        for node, numbers in expected.items():
            # What does not move has no step.
            mine = ours[sweep].get(node, torch.zeros_like(numbers))
            torch.testing.assert_close(
                mine.reshape(-1), numbers.detach().reshape(-1), rtol=1e-10, atol=1e-12
            )
    assert {*subject.parameters} <= ours[3].keys()


@pytest.mark.parametrize("name", ["two layers", "Rayleigh", "classes", "gates, a penalty"])
def test_local_derivatives_are_those_of_the_node_alone(name: str) -> None:
    subject, _ = subject_of(name)
    running = module._Running(subject, direction(subject))
    found = running.computation()
    program, checked = running.program, 0
    for node in found.nodes:
        moving = [one for one in node.inputs if one in running.swept.tangents]
        for by, local in zip(moving, node.first, strict=True):
            if local.value is None:
                continue

            def alone(value: Tensor, by: str = by, node: str = node.name) -> Tensor:
                moved = module.Valuation(program, running.numbers.arrays, subject.functions)
                moved._values = {
                    one: running.numbers.value(one) for one in program.by_name[node].mentions
                } | {by: value}
                return moved.value(node)

            at = running.numbers.value(by)
            jacobian = torch.autograd.functional.jacobian(alone, at)
            assert isinstance(jacobian, Tensor)
            torch.testing.assert_close(local.value.reshape(-1), jacobian.reshape(-1))
            checked += 1
    assert checked >= 3


@pytest.fixture(scope="module")
def two_layers() -> Computation:
    return computation(subject_of("two layers")[0])


def test_a_step_says_what_is_computed_from_what_and_why(two_layers: Computation) -> None:
    lines = {step.line: step.why for step in two_layers.steps}
    assert lines["δa2 = W2ᵀ δ3"] == "chain rule, through z3"
    assert lines["dz3 = v_W2 a2 + W2 da2"] == "product rule: W2 and a2 move"
    assert lines["dδ2 = dδa2 ∘ f'(z2) + δa2 ∘ f''(z2) ∘ dz2"] == "product rule: δa2 and z2 move"
    assert lines["Hv_W2 = dδ3 a2ᵀ + δ3 da2ᵀ"] == "product rule: δ3 and a2 move"
    sweeps = [step.sweep for step in two_layers.steps]
    assert sweeps == sorted(sweeps) and {*sweeps} == {0, 1, 2, 3}
    assert two_layers.notes[0] == "The numbers of f are those of the sigmoid."


def test_a_node_says_which_rule_it_takes(two_layers: Computation) -> None:
    node = {one.name: one for one in two_layers.nodes}
    assert node["z2"].curvature.startswith("Linear")
    assert node["z3"].curvature.startswith("A product, linear in each factor: its second")
    assert "W2 with a2" in node["z3"].curvature
    assert node["a2"].curvature.startswith("Curved in z2")
    assert [one.line for one in node["z3"].first] == ["∂z3/∂W2 = I ⊗ a2ᵀ", "∂z3/∂a2 = W2"]
    assert [(one.line, one.rule) for one in node["J"].second] == [("∂²J/∂ŷ∂ŷ = I", "power rule")]
    assert node["x"].role == "data" and node["W1"].role == "parameter"


def test_a_parameter_that_does_nothing_has_zeros() -> None:
    found = computation(at_random(*program("sum(x**3)", "x, u", "u[2] x[2]")))
    for sweep in (1, 3):
        assert not found.values(sweep)["u"].any()


def branching(p: dict[str, torch.Tensor]) -> torch.Tensor:
    return p["bias"].sum() if p["bias"].sum() > 0 else -p["bias"].sum()


# Names that the cost has too, constants of its own, what has no formula, and nothing.
PENALTIES = {
    "in two layers": lambda p: (p["0.weight"].T @ p["2.weight"].T).square().sum(),
    "hidden units": lambda p: (p["0.bias"] * torch.arange(3.0).double()).tanh().sum(),
    "a norm": lambda p: p["0.weight"].norm(),
    "without a rule": lambda p: torch.linalg.svdvals(p["0.weight"]).sum(),
    "zero": lambda p: torch.zeros(()),
}


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_a_penalty_that_is_a_function_is_a_part_of_the_graph(penalty: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, n, generator=generator, dtype=torch.float64) for n in (2, 1))
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    asked = hesse.Cost(net.double(), "mse", (x, y), penalty=penalty)
    subject = of_cost(asked)
    v = direction(subject)
    found = computation(subject, v)
    assert float(found.values(0)["J"]) == pytest.approx(hesse.value(asked), abs=1e-14)
    # Double backward in the user's own function.
    Hv = asked.layout.unflatten(hesse.operator(asked) @ asked.layout.flatten(v))
    for name, product in Hv.items():
        torch.testing.assert_close(found.values(3)[name], product, rtol=1e-12, atol=1e-14)


def cost(n: int, penalty: Any = None) -> hesse.Cost:
    return hesse.Cost(
        torch.nn.Linear(n, 1), "mse", (torch.ones(2, n), torch.ones(2, 1)), penalty=penalty
    )


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (lambda: at_random(*program("W @ x", "W")), HesseValueError, "sum over its entries"),
        (lambda: of_cost(cost(MOST_ENTRIES // 2)), HesseMemoryError, "numbers in its parameters"),
        (
            lambda: at_random(*hesse.Network("400-400-1").program()),
            HesseMemoryError,
            "numbers in what is given",
        ),
        (lambda: of_cost(cost(2, branching)), HesseValueError, "^penalty: a function that cannot"),
        (
            lambda: computation(at_random(*hesse.Network("-".join(["1"] * 60)).program())),
            HesseValueError,
            "at most 150 are drawn",
        ),
        (
            lambda: of_cost(
                hesse.Cost(
                    torch.nn.Conv1d(1, 1, 2),
                    lambda z, y: z.mean(),
                    [(torch.ones(1, 1, n), torch.ones(1)) for n in (3, 4)],
                )
            ),
            HesseValueError,
            "have 2 shapes",
        ),
    ],
)
def test_what_is_refused(asked: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        asked()
