"""Straight lines of functions that take tensors from around them, or read values: never stale,
always right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import TOLERANCE, Formula, Subject, double_backward, of, off, parameter, x
from hesse.products import linearize

Params = dict[str, Tensor]


def dense(operator: hesse.HessianOperator) -> Tensor:
    return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)


def reference(f: Callable[[Params], Tensor], at: Params) -> Tensor:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in at.items()}
    return double_backward(lambda: f(leaves), list(leaves.values()))


def check(
    f: Callable[[Params], Tensor], at: Params, method: str = "straight line"
) -> hesse.HessianOperator:
    """A new operator is by this method, and right."""
    operator = hesse.operator(hesse.Cost.from_function(f, at))
    assert operator.methods == (method,), operator.notes
    assert off(dense(operator), reference(f, at)) < TOLERANCE
    return operator


X, W, Q = x(5, 3), x(5, 3), x(1, 2, 4, 3)


def attended(p: Params) -> Tensor:
    return F.scaled_dot_product_attention(Q * p["w"], Q, Q.tanh()).square().sum()


def of_a_list(p: Params) -> Tensor:
    return sum(
        (torch.cat([part, part @ p["w"].diag()]).tanh().square().sum() for part in (X, W)),
        start=p["w"].sum(),
    )


def through_a_module(p: Params) -> Tensor:
    return torch.func.functional_call(LAYER, {"weight": p["w"][None]}, (X,)).tanh().square().sum()


LAYER = nn.Linear(3, 1).double()
CLOSURES: dict[str, Callable[[Params], Tensor]] = {
    "a product": lambda p: (X @ p["w"]).tanh().sum(),
    "a property": lambda p: (p["w"] @ X.T).tanh().square().sum() / X.shape[0],
    "an index": lambda p: (p["w"] * X[1]).exp().sum(),
    "alone": lambda p: (X.square().sum() * p["w"]).tanh().sum() * 1e-2,
    "a list": of_a_list,
    "attention": attended,
    "a module's own tensors": through_a_module,
    "an embedding": lambda p: (
        F.embedding(torch.tensor([0, 2]), X).mul(p["w"]).tanh().square().sum()
    ),
}


@pytest.mark.parametrize("f", CLOSURES.values(), ids=CLOSURES)
def test_closures_over_tensors(f: Callable[[Params], Tensor]) -> None:
    check(f, {"w": x(3)})


def test_the_example_of_the_issue() -> None:
    X = torch.randn(5, 3)
    cost = hesse.Cost.from_function(lambda p: (X @ p["w"]).tanh().sum(), {"w": torch.ones(3)})
    assert hesse.operator(cost).methods == ("straight line",)


def test_an_operator_holds_the_values_of_its_moment_and_a_new_one_the_new_values() -> None:
    X, at = x(5, 3), {"w": x(3)}

    def f(p: Params) -> Tensor:
        return (X @ p["w"]).tanh().square().sum()

    cost = hesse.Cost.from_function(f, at)
    operator = hesse.operator(cost)
    before = reference(f, at)
    X.mul_(2).add_(1)
    assert off(dense(operator), before) < TOLERANCE
    again = hesse.operator(cost)
    assert again.methods == ("straight line",)
    assert off(dense(again), reference(f, at)) < TOLERANCE


def test_one_trace_serves_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    traces, trace = [], linearize.trace
    monkeypatch.setattr(
        linearize, "trace", lambda *arguments: traces.append(1) or trace(*arguments)
    )
    held = {"X": x(5, 3)}

    def f(p: Params) -> Tensor:
        return (held["X"] @ p["w"]).tanh().square().sum()

    cost = hesse.Cost.from_function(f, {"w": x(3)})
    for _ in range(3):
        held["X"] = x(5, 3)  # another tensor under the same name
        assert off(dense(hesse.operator(cost)), reference(f, cost.parameters)) < TOLERANCE
        cost = cost.at({"w": x(3)})
    assert traces == [1]


def test_tensors_that_trade_places() -> None:
    """As many tensors of the same shapes, met in another pattern."""
    A, B, C = x(3), x(3), x(3)
    held = [A, B, A, C]

    def f(p: Params) -> Tensor:
        return sum(
            (place * (p["w"] * part).exp().sum() for place, part in enumerate(held, 1)),
            start=p["w"].sum(),
        )

    cost = hesse.Cost.from_function(f, {"w": x(3)})
    for order in ([A, B, A, C], [A, B, B, C], [B, A, B, C]):
        held[:] = order
        operator = hesse.operator(cost)
        assert operator.methods == ("straight line",)
        assert off(dense(operator), reference(f, cost.parameters)) < TOLERANCE


def test_a_number_that_changes_is_seen() -> None:
    """A number of Python's is part of the program; every operator tries its program before it is
    used."""
    scale = [1.0]

    def f(p: Params) -> Tensor:
        return scale[0] * (X @ p["w"]).tanh().square().sum()

    cost = hesse.Cost.from_function(f, {"w": x(3)})
    for scale[0] in (1.0, 3.0, 1.0):
        assert off(dense(hesse.operator(cost)), reference(f, cost.parameters)) < TOLERANCE


# ---------------------------------------------------------------- values that are read


def masked(m: Any, z: Any) -> Tensor:
    """As transformers do it: a mask that leaves nothing out is not applied."""
    tokens, mask = z
    scores = m.score(tokens)[..., 0]
    if not mask.all():
        scores = scores.masked_fill(~mask, -torch.inf)
    return m.out((scores.softmax(1).unsqueeze(-1) * torch.tanh(m.value(tokens))).sum(1))


FULL, PART = (
    torch.ones(4, 3, dtype=torch.bool),
    torch.tensor([[True, True, False]]).expand(4, 3).clone(),
)


@pytest.mark.parametrize(
    "masks",
    [[FULL], [PART], [FULL, PART], [PART, FULL, PART]],
    ids=["full", "part", "both", "mixed"],
)
def test_masks_that_are_looked_at(masks: list[Tensor]) -> None:
    model = Formula(
        masked, score=nn.Linear(2, 1), value=nn.Linear(2, 3), out=nn.Linear(3, 2)
    ).double()
    data = [((x(4, 3, 2), mask), x(4, 2)) for mask in masks]

    def J() -> Tensor:
        return torch.stack([(model(z) - y).square().sum() / 2 for z, y in data]).sum()

    cost = hesse.Cost(model, "half_sse", data)
    subject = Subject(cost, J, dict(model.named_parameters()))
    operator = hesse.operator(cost)
    assert operator.methods == ("straight line",), operator.notes
    assert off(dense(operator), subject.expected) < TOLERANCE


def bent(p: Params) -> Tensor:
    return p["w"].square().sum().exp() if p["w"].sum() > 0 else p["w"].pow(4).sum()


def scaled(p: Params) -> Tensor:
    return (p["w"] / p["w"].detach().abs().max().item()).exp().sum()


@pytest.mark.parametrize("f", [bent, scaled])
def test_branches_and_numbers_read_off_the_parameters(f: Callable[[Params], Tensor]) -> None:
    """Each operator is that of its own θ."""
    cost = hesse.Cost.from_function(f, {"w": torch.tensor([0.5, 0.25]).double()})
    for at in ([0.5, 0.25], [-0.5, -0.25], [0.5, 0.25], [0.1, -0.7]):
        cost = cost.at({"w": torch.tensor(at).double()})
        operator = hesse.operator(cost)
        assert operator.methods == ("straight line",), operator.notes
        assert off(dense(operator), reference(f, cost.parameters)) < TOLERANCE


def test_an_array_that_is_written_into() -> None:
    """A tensor is made of it anew at every call, where nobody sees it: no operator is stale, and
    none changes."""
    array = x(5, 3).numpy()

    def f(p: Params) -> Tensor:
        return (torch.from_numpy(array) @ p["w"]).tanh().square().sum()

    cost = hesse.Cost.from_function(f, {"w": x(3)})
    operators = []
    for _ in range(3):
        operators.append((hesse.operator(cost), reference(f, cost.parameters)))
        assert off(dense(operators[-1][0]), operators[-1][1]) < TOLERANCE
        array[:] = x(5, 3).numpy()
    first, expected = operators[0]
    assert first.methods == ("straight line",)
    assert off(dense(first), expected) < TOLERANCE


def test_values_that_are_read_elsewhere_in_a_trace_go_another_way() -> None:
    """As where a function asks whether it is traced."""

    def f(p: Params) -> Tensor:
        total = p["w"].square().sum()
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # type: ignore[attr-defined]
        if type(p["w"].data) is Tensor and not wrapped(p["w"]):
            total = total if bool(total > 0) else -total
        else:
            total = total * float(total.detach() > 0)
        return total.exp()

    check(f, {"w": x(3)}, "autograd's graph")


# ---------------------------------------------------------------- weights that are held fixed

NORMS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "layer": lambda: (nn.LayerNorm(4), (5, 4)),
    "layer without a bias": lambda: (nn.LayerNorm(4, bias=False), (5, 4)),
    "layer of two axes": lambda: (nn.LayerNorm([2, 4]), (5, 2, 4)),
    "group": lambda: (nn.GroupNorm(2, 4), (5, 4, 3)),
    "batch": lambda: (nn.BatchNorm1d(4), (5, 4)),
    "batch, training": lambda: (nn.BatchNorm1d(4).train(), (5, 4)),
    "instance": lambda: (nn.InstanceNorm1d(4, affine=True), (5, 4, 3)),
    "by keywords": lambda: (
        Formula(
            lambda m, z: F.layer_norm(z, normalized_shape=[4], bias=m.b, weight=m.a),
            a=nn.Parameter(x(4)),
            b=nn.Parameter(x(4)),
        ),
        (5, 4),
    ),
}


@pytest.mark.parametrize(
    "params", ["scale", ["scale", "norm.weight"], ["scale", "norm.*"]], ids=str
)
@pytest.mark.parametrize("kind", NORMS.values(), ids=NORMS)
def test_normalisations_with_weights_that_are_held_fixed(
    kind: Callable[[], Any], params: Any
) -> None:
    norm, shape = kind()
    if "norm.weight" in params and not hasattr(norm, "weight"):
        pytest.skip("its weight has another name")
    for each in norm.parameters():
        nn.init.normal_(each)
    training = norm.training and isinstance(norm, nn.BatchNorm1d)
    model = Formula(
        lambda m, z: torch.tanh(m.norm(z * m.scale)), norm=norm, scale=parameter(*shape[1:])
    )
    model.train(training)
    subject = of(model, "half_sse", (x(*shape), x(*shape)), params=params)
    operator = hesse.operator(subject.cost)
    assert operator.methods == ("straight line",), operator.notes
    assert off(dense(operator), subject.expected) < TOLERANCE
