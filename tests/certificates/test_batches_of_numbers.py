"""Batches that hold what is no tensor, a number, a flag, a word or None, and not the same in
all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from certificates.kinds import WAYS, Formula, Make, Subject, check_right, made, of, off, x


def scaled(model: Any, batch: Any) -> Tensor:
    return torch.tanh(model.l(batch[0]) * batch[1])


def switched(model: Any, batch: Any) -> Tensor:
    return torch.tanh(model.l(batch[0])) if batch[1] else model.l(batch[0])


def conditioned(model: Any, batch: Any) -> Tensor:
    shift = 0 if batch["c"] is None else model.c(batch["c"])
    return torch.tanh(model.l(batch["x"]) + shift)


def with_extras(forward: Callable[[Any, Any], Tensor], *extras: Any) -> Subject:
    return of(
        Formula(forward, l=nn.Linear(2, 2)),
        "half_sse",
        [((x(2, 2), extra), x(2, 2)) for extra in extras],
    )


def weighed_targets() -> Subject:
    """A number beside the targets: the weight of the batch in a sum."""

    def loss(prediction: Tensor, target: Any) -> Tensor:
        return target[1] * (prediction - target[0]).square().sum()

    model, data = nn.Linear(2, 2), [(x(2, 2), (x(2, 2), weight)) for weight in (1.0, 2.5)]
    return of(model, loss, data, lambda: sum(loss(model(z), y) for z, y in data))  # type: ignore[arg-type,return-value]


def sometimes_conditioned(first: bool) -> Subject:
    given = [x(2, 1), None, x(2, 1)] if first else [None, x(2, 1)]
    data = [({"x": x(2, 2), "c": c}, x(2, 2)) for c in given]
    return of(Formula(conditioned, l=nn.Linear(2, 2), c=nn.Linear(1, 2)), "half_sse", data)


NUMBERS: dict[str, Make] = {
    "a float": lambda: with_extras(scaled, 1.0, 3.0),
    "an int": lambda: with_extras(lambda m, b: m.l(b[0]) ** b[1], 2, 3),
    "the same in every batch": lambda: with_extras(scaled, 2.0, 2.0),
    "a flag": lambda: with_extras(switched, False, True),
    "a word": lambda: with_extras(
        lambda m, b: getattr(torch, b[1])(m.l(b[0])), "tanh", "sigmoid", "tanh"
    ),
    "None in some, first given": lambda: sometimes_conditioned(True),
    "None in some, first not": lambda: sometimes_conditioned(False),
    "beside the targets": weighed_targets,
}


@pytest.mark.some(of=2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NUMBERS.values(), ids=NUMBERS)
def test_numbers(kind: Make, way: str) -> None:
    check_right(kind, way)


def test_numbers_in_small_chunks() -> None:
    """By default both batches would be one chunk, and with little memory each sample is."""
    subject = made(NUMBERS["a float"])
    for memory in (1, 10**8):
        assert (
            off(hesse.hessian(subject.cost, memory=memory, certify=False).dense(), subject.expected)
            < 1e-9
        )


def test_a_number_of_one_batch_alone() -> None:
    """The smallest input: w x₁ x₂ with x₂ = 1 and 3; d²/dw² of ½ Σ (w x₂ − 1)² is 1 + 9."""
    one = torch.ones(1, 1)
    net = Formula(lambda m, z: m.l(z[0]) * z[1], l=nn.Linear(1, 1, bias=False))
    cost = hesse.Cost(net, "half_sse", [((one, 1.0), one), ((one, 3.0), one)])
    assert [float(call(cost)) for call in WAYS.values()] == [10.0, 10.0, 10.0]
